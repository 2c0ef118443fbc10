/* What the compiled rooms share: the cells of a model, its whitened posterior, and the sampler.
 *
 * kernel.c      the log-likelihood of cells and its derivatives
 * posterior.c   the log-posterior in whitened coordinates, and back to natural parameters
 * nuts.c        chains of the No-U-Turn sampler
 *
 * MODEL.md has the mathematics; kernel.py and nuts.py fill these records in, field by field in this order.  Arrays are
 * by rows unless said otherwise.  Nothing here allocates for ever, prints, or knows Python.
 */
#ifndef PSYCHOSTATS_NATIVE_H
#define PSYCHOSTATS_NATIVE_H

#include <stdint.h>

#define TERMS_MOST 16 /* terms of one group */

/* Loops over cells are compiled for the widest vectors that a machine has; the choice falls when the library loads. */
#if defined(__x86_64__) && defined(__linux__) && defined(__GLIBC__) && !defined(__clang__) && __GNUC__ >= 12
#define WIDE __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define WIDE
#endif
#if defined(_WIN32)
#define SHARED __declspec(dllexport)
#else
#define SHARED __attribute__((visibility("default")))
#endif

enum { LOGISTIC = 0, ASYMPTOTES = 1, PROBIT = 2, NORMAL_ERRORS = 3 };       /* kinds of likelihood */
enum { NORMAL = 0, STUDENT_T = 1, GAMMA = 2 };                              /* kinds of prior */

/* Cells: rows that no parameter can tell apart.  eta of a cell is a sum of table entries, one a table. */
typedef struct {
  int64_t cells, kind, tables;
  double guess, lapse;
  double count, squares;         /* of measurements: how many, and their squares about the means of their cells */
  const double *value, *weight;  /* (cells) right answers of so many, or the mean of so many measurements */
  const int64_t *first;          /* (tables + 1) where each table's entries begin */
  const int64_t *runs;           /* (tables) whether neighbouring cells often share a slot */
  const int32_t *const *index;   /* (tables)(cells) slot within the table */
} Cells;

/* A grouping factor; its table has a slot for each pair of a level and values of the terms' columns. */
typedef struct {
  int64_t levels, terms, slots;
  const int32_t *level;       /* (slots) */
  const double *Z;            /* (terms, slots) */
  const double *information;  /* (levels, terms (terms + 1) / 2) I_j, lower triangles by rows */
  const double *pull;         /* (levels, terms) h_j */
} Group;

/* A block of a group's terms: its SDs and then its correlations stand in theta from `theta` on. */
typedef struct {
  int64_t group, start, terms, correlated, theta;
} Block;

typedef struct {
  double kind, location, scale, shape;
} Prior;

/* Coordinates y: theta | the rest: effects of coupled groups, then b | effects of groups by themselves | first group's. */
typedef struct {
  Cells cells;
  int64_t dimension, expanded, fixed, thetas, groups, blocks, coupled, rest;
  const Group *group;
  const Block *block;
  const double *X, *offset;           /* (fixed, slots), (slots) of the first table */
  const double *theta_centre;         /* (thetas) */
  const double *theta_map;            /* (thetas, thetas) */
  const double *softness;             /* (thetas) a of a positive parameter; 0 marks a correlation */
  const Prior *theta_prior;           /* (thetas); of a correlation, shape is that of its beta law */
  const double *b_centre;             /* (fixed) */
  const Prior *b_prior;               /* (fixed) */
  const double *rest_map;             /* (rest, rest) upper triangular */
  const int64_t *coupling_start;      /* (levels of the first group + 1) */
  const int32_t *coupling_column;     /* (coupling_start[levels]) */
  const float *coupling;              /* a row of columns for each term, level by level */
} Posterior;

typedef struct {
  int64_t draws, tune, depth_most;
  uint64_t seed, chain;
  double target_accept;
} Sampling;

enum { DIVERGING = 0, DEPTH_REACHED, N_STEPS, DEPTH, ENERGY, LP, STEP_SIZE, ACCEPTANCE, STATISTICS };

double log_likelihood(const Cells *cells, const double *entries, double sigma, double *scores, double *by_log_sigma);

typedef struct Workspace Workspace;
Workspace *open_workspace(const Posterior *posterior);
void close_workspace(Workspace *workspace);
double log_posterior(const Posterior *posterior, Workspace *workspace, const double *y, double *gradient);
void natural(const Posterior *posterior, Workspace *workspace, const double *y, double *out);

#endif
