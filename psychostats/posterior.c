/* The log-posterior in whitened coordinates, its gradient, and the way back to natural parameters.
 *
 * In: coordinates y.  Out: log-density and gradient, or b, SDs, correlations, sigma and the effects of levels.  Knows no
 * sampler.  Three maps, each with its Jacobian where it is not constant (MODEL.md, "The fast sampler"):
 *
 *   linear       y -> theta, z, b           fixed, from the Hessian at Laplace's mode
 *   covariance   theta -> Q = Sigma^-1      SDs by a scaled softplus, correlations by canonical partial ones
 *   conditional  z -> r of each level       precision Q + I_j = C C', mean from h_j:  r = C'^-1 (C^-1 h_j + z)
 *
 * The gradient is written by hand in reverse order.
 */
#include "native.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define TRIANGLE(q) ((q) * ((q) + 1) / 2)
#define AT(i, k) ((i) * ((i) + 1) / 2 + (k)) /* in a lower triangle by rows */

/* What one group's levels hold between the way there and the way back; all but C of shape (levels, terms). */
typedef struct {
  double *C;                   /* (levels, triangle) Cholesky factors of Q + I_j, their diagonals inverted */
  double *z, *a, *y;           /* coordinates, C^-1 h_j, and the sum of both */
  double *r, *score;           /* effects, and of the likelihood by them */
  double L[TERMS_MOST * TERMS_MOST], inverse[TERMS_MOST * TERMS_MOST], Q[TERMS_MOST * TERMS_MOST];
  double by_Q[TERMS_MOST * TERMS_MOST];
} Levels;

struct Workspace {
  double *entries, *scores;      /* of all tables */
  double *theta, *by_theta;      /* unconstrained */
  double *value, *slope, *tail;  /* of each theta: natural value, its derivative, and of a correlation sqrt(1 - c^2) */
  double *rest, *by_rest;        /* effects' z of coupled groups, and b less its centre */
  double *b, *by_b;
  double *omega, *by_omega;      /* Cholesky factor of a correlation matrix */
  double *seen;                  /* of one level, what of the rest it is coupled with */
  Levels *groups;
  double *memory;
};

Workspace *open_workspace(const Posterior *p) {
  const int64_t entries = p->cells.first[p->cells.tables];
  size_t size = (size_t)(2 * entries + 5 * p->thetas + 3 * p->rest + 2 * p->fixed) + 2 * TERMS_MOST * TERMS_MOST;
  for (int64_t g = 0; g < p->groups; g++) {
    const int64_t q = p->group[g].terms;
    size += (size_t)(p->group[g].levels * (TRIANGLE(q) + 5 * q));
  }
  Workspace *w = calloc(1, sizeof(Workspace));
  if (!w) return NULL;
  w->memory = calloc(size ? size : 1, sizeof(double));
  w->groups = calloc((size_t)(p->groups ? p->groups : 1), sizeof(Levels));
  if (!w->memory || !w->groups) {
    close_workspace(w);
    return NULL;
  }
  double *next = w->memory;
#define TAKE(name, length) (w->name = next, next += (length))
  TAKE(entries, entries), TAKE(scores, entries);
  TAKE(theta, p->thetas), TAKE(by_theta, p->thetas), TAKE(value, p->thetas), TAKE(slope, p->thetas);
  TAKE(tail, p->thetas), TAKE(rest, p->rest), TAKE(by_rest, p->rest), TAKE(seen, p->rest), TAKE(b, p->fixed), TAKE(by_b, p->fixed);
  TAKE(omega, TERMS_MOST * TERMS_MOST), TAKE(by_omega, TERMS_MOST * TERMS_MOST);
  for (int64_t g = 0; g < p->groups; g++) {
    const int64_t J = p->group[g].levels, q = p->group[g].terms;
    TAKE(groups[g].C, J * TRIANGLE(q)), TAKE(groups[g].a, J * q), TAKE(groups[g].y, J * q);
    TAKE(groups[g].r, J * q), TAKE(groups[g].score, J * q), TAKE(groups[g].z, J * q);
  }
#undef TAKE
  return w;
}

void close_workspace(Workspace *w) {
  if (!w) return;
  free(w->memory), free(w->groups), free(w);
}

/* The logarithm of a prior's density, up to a constant, and its derivative. */
static double log_prior(const Prior *prior, double x, double *slope) {
  const double z = (x - prior->location) / prior->scale;
  switch ((int)prior->kind) {
  case NORMAL: *slope = -z / prior->scale; return -0.5 * z * z;
  case STUDENT_T: {
    const double heavy = prior->shape + z * z;
    *slope = -(prior->shape + 1.0) * z / (heavy * prior->scale);
    return -0.5 * (prior->shape + 1.0) * log1p(z * z / prior->shape);
  }
  default:
    *slope = ((prior->shape - 1.0) / z - 1.0) / prior->scale;
    return (prior->shape == 1.0 ? 0.0 : (prior->shape - 1.0) * log(z)) - z;
  }
}

/* theta -> natural values, with log priors and Jacobians; by_theta begins with their derivatives. */
static double constrain(const Posterior *p, Workspace *w) {
  double total = 0.0;
  for (int64_t k = 0; k < p->thetas; k++) {
    const double t = w->theta[k], a = p->softness[k];
    if (a > 0.0) {
      const double u = t / a, e = exp(-fabs(u)), below = u >= 0.0 ? e / (1.0 + e) : 1.0 / (1.0 + e);
      double by_prior;
      w->value[k] = a * ((u > 0.0 ? u : 0.0) + log1p(e));
      w->slope[k] = u >= 0.0 ? 1.0 / (1.0 + e) : e / (1.0 + e);
      total += log_prior(&p->theta_prior[k], w->value[k], &by_prior) - ((u < 0.0 ? -u : 0.0) + log1p(e));
      w->by_theta[k] = by_prior * w->slope[k] + below / a;
    } else {
      const double e = exp(-2.0 * fabs(t)), shape = p->theta_prior[k].shape;
      w->value[k] = tanh(t);
      w->tail[k] = 2.0 * exp(-fabs(t)) / (1.0 + e);
      w->slope[k] = w->tail[k] * w->tail[k];
      total += 2.0 * shape * (-fabs(t) - log1p(e));
      w->by_theta[k] = -2.0 * shape * w->value[k];
    }
  }
  return total;
}

/* A block's Cholesky factor of its correlation matrix, (terms, terms), from canonical partial correlations. */
static void correlation_factor(const Block *block, const Workspace *w, double *omega) {
  const int q = (int)block->terms;
  const double *c = w->value + block->theta + q, *tail = w->tail + block->theta + q;
  memset(omega, 0, sizeof(double) * (size_t)(q * q));
  for (int i = 0, at = 0; i < q; i++) {
    double left = 1.0;
    if (block->correlated)
      for (int k = 0; k < i; k++, at++) {
        omega[i * q + k] = c[at] * left;
        left *= tail[at];
      }
    omega[i * q + i] = left;
  }
}

/* Cholesky factors L of the groups' covariances, their inverses and Q; returns the sum of J log |L^-1|. */
static double covariances(const Posterior *p, Workspace *w) {
  double total = 0.0;
  for (int64_t g = 0; g < p->groups; g++) {
    const int q = (int)p->group[g].terms;
    memset(w->groups[g].L, 0, sizeof(double) * (size_t)(q * q));
  }
  for (int64_t n = 0; n < p->blocks; n++) {
    const Block *block = &p->block[n];
    const int q = (int)p->group[block->group].terms, terms = (int)block->terms, from = (int)block->start;
    correlation_factor(block, w, w->omega);
    for (int i = 0; i < terms; i++)
      for (int k = 0; k <= i; k++)
        w->groups[block->group].L[(from + i) * q + from + k] = w->value[block->theta + i] * w->omega[i * terms + k];
  }
  for (int64_t g = 0; g < p->groups; g++) {
    const int q = (int)p->group[g].terms;
    double *L = w->groups[g].L, *M = w->groups[g].inverse, *Q = w->groups[g].Q;
    memset(M, 0, sizeof(double) * (size_t)(q * q));
    for (int i = 0; i < q; i++) {
      M[i * q + i] = 1.0 / L[i * q + i];
      total -= (double)p->group[g].levels * log(L[i * q + i]);
      for (int k = 0; k < i; k++) {
        double sum = 0.0;
        for (int m = k; m < i; m++) sum += L[i * q + m] * M[m * q + k];
        M[i * q + k] = -sum / L[i * q + i];
      }
    }
    for (int i = 0; i < q; i++)
      for (int k = 0; k <= i; k++) {
        double sum = 0.0;
        for (int m = i; m < q; m++) sum += M[m * q + i] * M[m * q + k];
        Q[i * q + k] = Q[k * q + i] = sum;
      }
    memset(w->groups[g].by_Q, 0, sizeof(double) * (size_t)(q * q));
  }
  return total;
}

/* by_Q of the groups, and J log |L^-1|, into by_theta. */
static void covariances_back(const Posterior *p, Workspace *w) {
  for (int64_t n = 0; n < p->blocks; n++) {
    const Block *block = &p->block[n];
    const Levels *levels = &w->groups[block->group];
    const int q = (int)p->group[block->group].terms, terms = (int)block->terms, from = (int)block->start;
    const double J = (double)p->group[block->group].levels;
    double product[TERMS_MOST * TERMS_MOST];
    for (int i = 0; i < q; i++) /* Q by_Q */
      for (int k = 0; k < q; k++) {
        double sum = 0.0;
        for (int m = 0; m < q; m++) sum += levels->Q[i * q + m] * levels->by_Q[m * q + k];
        product[i * q + k] = sum;
      }
    correlation_factor(block, w, w->omega);
    for (int i = 0; i < terms; i++) {
      double by_sd = 0.0;
      for (int k = 0; k <= i; k++) { /* of L: -2 Q by_Q L'^-1, lower triangle */
        double sum = 0.0;
        for (int m = 0; m <= from + k; m++) sum += product[(from + i) * q + m] * levels->inverse[(from + k) * q + m];
        double by_L = -2.0 * sum;
        if (k == i) by_L -= J / levels->L[(from + i) * q + from + i];
        by_sd += by_L * w->omega[i * terms + k];
        w->by_omega[i * terms + k] = by_L * w->value[block->theta + i];
      }
      w->by_theta[block->theta + i] += by_sd * w->slope[block->theta + i];
    }
    if (!block->correlated) continue;
    for (int i = 1; i < terms; i++) {
      const int64_t row = block->theta + terms + i * (i - 1) / 2;
      double left[TERMS_MOST + 1], by_left = w->by_omega[i * terms + i];
      left[0] = 1.0;
      for (int k = 0; k < i; k++) left[k + 1] = left[k] * w->tail[row + k];
      for (int k = i - 1; k >= 0; k--) {
        const double c = w->value[row + k], tail = w->tail[row + k], by = w->by_omega[i * terms + k];
        w->by_theta[row + k] += by * left[k] * tail * tail - by_left * left[k] * tail * c;
        by_left = by_left * tail + by * c;
      }
    }
  }
}

/* z -> r of a group's levels; returns minus the sum of log |C|.  Compiled for each small number of terms. */
INLINE double conditional_of(const int q, const Group *group, Levels *w) {
  double total = 0.0, product = 1.0;
  for (int64_t j = 0; j < group->levels; j++) {
    const double *I = group->information + j * TRIANGLE(q), *h = group->pull + j * q, *z = w->z + j * q;
    double *C = w->C + j * TRIANGLE(q), *a = w->a + j * q, *y = w->y + j * q, *r = w->r + j * q;
    for (int i = 0; i < q; i++) {
      double known = h[i];
      for (int k = 0; k <= i; k++) {
        double sum = I[AT(i, k)] + w->Q[i * q + k];
        for (int m = 0; m < k; m++) sum -= C[AT(i, m)] * C[AT(k, m)];
        if (k < i) {
          C[AT(i, k)] = sum * C[AT(k, k)];
          known -= C[AT(i, k)] * a[k];
        } else {
          C[AT(i, i)] = 1.0 / sqrt(sum);
        }
      }
      product *= C[AT(i, i)];
      a[i] = known * C[AT(i, i)];
      y[i] = a[i] + z[i];
    }
    if (!(product > 1e-90 && product < 1e90)) { /* a logarithm of many factors at once */
      total += log(product);
      product = 1.0;
    }
    for (int i = q - 1; i >= 0; i--) {
      double sum = y[i];
      for (int m = i + 1; m < q; m++) sum -= C[AT(m, i)] * r[m];
      r[i] = sum * C[AT(i, i)];
    }
  }
  return total + log(product);
}

/* The prior of a group's effects, and the way back: scores by r -> by z (over w->z) and by Q. */
INLINE double conditional_back_of(const int q, const Group *group, Levels *w) {
  double total = 0.0, by_Q[TRIANGLE(TERMS_MOST)] = {0.0};
  for (int64_t j = 0; j < group->levels; j++) {
    const double *C = w->C + j * TRIANGLE(q), *a = w->a + j * q, *y = w->y + j * q, *r = w->r + j * q;
    const double *score = w->score + j * q;
    double *by_z = w->z + j * q, u[TERMS_MOST], middle[TERMS_MOST * TERMS_MOST], half[TERMS_MOST * TERMS_MOST];
    for (int i = 0; i < q; i++) {
      double pulled = 0.0;
      for (int m = 0; m < q; m++) pulled += w->Q[i * q + m] * r[m];
      total -= 0.5 * r[i] * pulled;
      double e = score[i] - pulled;
      for (int m = 0; m < i; m++) e -= C[AT(i, m)] * by_z[m];
      by_z[i] = e * C[AT(i, i)];
    }
    /* S = C'^-1 F C^-1, F the lower triangle of y by_z' + by_z a' + 1, its diagonal halved; then by Q its symmetric part,
     * negative, less half of r r'. */
    for (int i = 0; i < q; i++)
      for (int k = 0; k <= i; k++) {
        const double both = y[i] * by_z[k] + by_z[i] * a[k];
        middle[i * q + k] = i == k ? 0.5 * (both + 1.0) : both;
      }
    for (int k = 0; k < q; k++) /* half = C'^-1 F, from the last row up */
      for (int i = q - 1; i >= 0; i--) {
        double sum = k <= i ? middle[i * q + k] : 0.0;
        for (int m = i + 1; m < q; m++) sum -= C[AT(m, i)] * half[m * q + k];
        half[i * q + k] = sum * C[AT(i, i)];
      }
    for (int i = 0; i < q; i++) /* S C = half, from the last column on */
      for (int k = q - 1; k >= 0; k--) {
        double sum = half[i * q + k];
        for (int m = k + 1; m < q; m++) sum -= u[m] * C[AT(m, k)];
        u[k] = sum * C[AT(k, k)];
        middle[i * q + k] = u[k];
      }
    for (int i = 0; i < q; i++)
      for (int k = 0; k <= i; k++) by_Q[AT(i, k)] -= 0.5 * (middle[i * q + k] + middle[k * q + i] + r[i] * r[k]);
  }
  for (int i = 0; i < q; i++)
    for (int k = 0; k <= i; k++) w->by_Q[i * q + k] = w->by_Q[k * q + i] = by_Q[AT(i, k)];
  return total;
}

WIDE static double conditional(const Group *group, Levels *w) {
  switch (group->terms) {
  case 1: return conditional_of(1, group, w);
  case 2: return conditional_of(2, group, w);
  case 3: return conditional_of(3, group, w);
  default: return conditional_of((int)group->terms, group, w);
  }
}

WIDE static double conditional_back(const Group *group, Levels *w) {
  switch (group->terms) {
  case 1: return conditional_back_of(1, group, w);
  case 2: return conditional_back_of(2, group, w);
  case 3: return conditional_back_of(3, group, w);
  default: return conditional_back_of((int)group->terms, group, w);
  }
}

/* y -> theta, the groups' z, b. */
WIDE static void spread(const Posterior *p, Workspace *w, const double *y) {
  const int64_t m = p->thetas, R = p->rest;
  for (int64_t i = 0; i < m; i++) {
    double sum = p->theta_centre[i];
    for (int64_t k = 0; k < m; k++) sum += p->theta_map[i * m + k] * y[k];
    w->theta[i] = sum;
  }
  y += m;
  for (int64_t i = 0; i < R; i++) {
    const double *row = p->rest_map + i * R;
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (int64_t k = i; k < R; k++) sum += row[k] * y[k];
    w->rest[i] = sum;
  }
  y += R;
  int64_t from = 0;
  for (int64_t g = 1; g <= p->coupled; g++) {
    const int64_t size = p->group[g].levels * p->group[g].terms;
    memcpy(w->groups[g].z, w->rest + from, sizeof(double) * (size_t)size);
    from += size;
  }
  for (int64_t k = 0; k < p->fixed; k++) w->b[k] = p->b_centre[k] + w->rest[from + k];
  for (int64_t g = p->coupled + 1; g < p->groups; g++) {
    const int64_t size = p->group[g].levels * p->group[g].terms;
    memcpy(w->groups[g].z, y, sizeof(double) * (size_t)size);
    y += size;
  }
  if (!p->groups) return;
  const int64_t q = p->group[0].terms;
  for (int64_t j = 0; j < p->group[0].levels; j++) {
    const int64_t start = p->coupling_start[j], n = p->coupling_start[j + 1] - start;
    const int32_t *column = p->coupling_column + start;
    double *seen = w->seen;
    for (int64_t k = 0; k < n; k++) seen[k] = w->rest[column[k]];
    for (int64_t i = 0; i < q; i++) {
      const float *row = p->coupling + start * q + i * n;
      double sum = 0.0;
#pragma omp simd reduction(+ : sum)
      for (int64_t k = 0; k < n; k++) sum += (double)row[k] * seen[k];
      w->groups[0].z[j * q + i] = y[j * q + i] - sum;
    }
  }
}

/* Derivatives by theta, z and b -> by y. */
WIDE static void gather(const Posterior *p, Workspace *w, double *gradient) {
  const int64_t m = p->thetas, R = p->rest;
  for (int64_t k = 0; k < m; k++) {
    double sum = 0.0;
    for (int64_t i = 0; i < m; i++) sum += p->theta_map[i * m + k] * w->by_theta[i];
    gradient[k] = sum;
  }
  int64_t from = 0;
  for (int64_t g = 1; g <= p->coupled; g++) {
    const int64_t size = p->group[g].levels * p->group[g].terms;
    memcpy(w->by_rest + from, w->groups[g].z, sizeof(double) * (size_t)size);
    from += size;
  }
  memcpy(w->by_rest + from, w->by_b, sizeof(double) * (size_t)p->fixed);
  double *free_effects = gradient + m + R;
  for (int64_t g = p->coupled + 1; g < p->groups; g++) {
    const int64_t size = p->group[g].levels * p->group[g].terms;
    memcpy(free_effects, w->groups[g].z, sizeof(double) * (size_t)size);
    free_effects += size;
  }
  if (p->groups) {
    const int64_t q = p->group[0].terms;
    memcpy(free_effects, w->groups[0].z, sizeof(double) * (size_t)(p->group[0].levels * q));
    for (int64_t j = 0; j < p->group[0].levels; j++) {
      const int64_t start = p->coupling_start[j], n = p->coupling_start[j + 1] - start;
      const int32_t *column = p->coupling_column + start;
      double *seen = w->seen;
      memset(seen, 0, sizeof(double) * (size_t)n);
      for (int64_t i = 0; i < q; i++) {
        const float *row = p->coupling + start * q + i * n;
        const double by = w->groups[0].z[j * q + i];
        for (int64_t k = 0; k < n; k++) seen[k] += (double)row[k] * by;
      }
      for (int64_t k = 0; k < n; k++) w->by_rest[column[k]] -= seen[k];
    }
  }
  double *out = gradient + m;
  memset(out, 0, sizeof(double) * (size_t)R);
  for (int64_t i = 0; i < R; i++) {
    const double *row = p->rest_map + i * R, by = w->by_rest[i];
#pragma omp simd
    for (int64_t k = i; k < R; k++) out[k] += row[k] * by;
  }
}

/* Natural parameters and effects -> table entries. */
WIDE static void tabulate(const Posterior *p, Workspace *w) {
  const int64_t n = p->cells.first[1];
  double *entry = w->entries;
  memcpy(entry, p->offset, sizeof(double) * (size_t)n);
  for (int64_t k = 0; k < p->fixed; k++) {
    const double *column = p->X + k * n, b = w->b[k];
    for (int64_t i = 0; i < n; i++) entry[i] += column[i] * b;
  }
  for (int64_t g = 0; g < p->groups; g++) {
    const Group *group = &p->group[g];
    const int64_t q = group->terms;
    const double *r = w->groups[g].r;
    entry = w->entries + p->cells.first[g + 1];
    for (int64_t a = 0; a < q; a++) {
      const double *Z = group->Z + a * group->slots;
      if (a == 0)
        for (int64_t i = 0; i < group->slots; i++) entry[i] = Z[i] * r[group->level[i] * q];
      else
        for (int64_t i = 0; i < group->slots; i++) entry[i] += Z[i] * r[group->level[i] * q + a];
    }
  }
}

/* Scores of table entries -> by b and by r. */
WIDE static void collect(const Posterior *p, Workspace *w) {
  const int64_t n = p->cells.first[1];
  const double *score = w->scores;
  for (int64_t k = 0; k < p->fixed; k++) {
    const double *column = p->X + k * n;
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += column[i] * score[i];
    w->by_b[k] = sum;
  }
  for (int64_t g = 0; g < p->groups; g++) {
    const Group *group = &p->group[g];
    const int64_t q = group->terms;
    double *by_r = w->groups[g].score;
    memset(by_r, 0, sizeof(double) * (size_t)(group->levels * q));
    score = w->scores + p->cells.first[g + 1];
    for (int64_t a = 0; a < q; a++) {
      const double *Z = group->Z + a * group->slots;
      for (int64_t i = 0; i < group->slots; i++) by_r[group->level[i] * q + a] += Z[i] * score[i];
    }
  }
}

SHARED double log_posterior(const Posterior *p, Workspace *w, const double *y, double *gradient) {
  const int measured = p->cells.kind == NORMAL_ERRORS;
  spread(p, w, y);
  double total = constrain(p, w) + covariances(p, w);
  for (int64_t g = 0; g < p->groups; g++) total += conditional(&p->group[g], &w->groups[g]);
  tabulate(p, w);
  const double sigma = measured ? w->value[p->thetas - 1] : 1.0;
  double by_log_sigma = 0.0;
  total += log_likelihood(&p->cells, w->entries, sigma, w->scores, &by_log_sigma);
  if (measured) w->by_theta[p->thetas - 1] += by_log_sigma / sigma * w->slope[p->thetas - 1];
  collect(p, w);
  for (int64_t k = 0; k < p->fixed; k++) {
    double slope;
    total += log_prior(&p->b_prior[k], w->b[k], &slope);
    w->by_b[k] += slope;
  }
  for (int64_t g = 0; g < p->groups; g++) total += conditional_back(&p->group[g], &w->groups[g]);
  covariances_back(p, w);
  gather(p, w, gradient);
  return total;
}

/* b | for each block SDs and correlations below the diagonal, row by row | sigma | effects of each group's levels. */
SHARED void natural(const Posterior *p, Workspace *w, const double *y, double *out) {
  spread(p, w, y);
  constrain(p, w);
  covariances(p, w);
  memcpy(out, w->b, sizeof(double) * (size_t)p->fixed);
  out += p->fixed;
  memcpy(out, w->value, sizeof(double) * (size_t)p->thetas);
  for (int64_t n = 0; n < p->blocks; n++) {
    const Block *block = &p->block[n];
    const int q = (int)block->terms;
    if (!block->correlated) continue;
    correlation_factor(block, w, w->omega);
    for (int i = 0, at = 0; i < q; i++)
      for (int k = 0; k < i; k++, at++) {
        double sum = 0.0;
        for (int m = 0; m <= k; m++) sum += w->omega[i * q + m] * w->omega[k * q + m];
        out[block->theta + q + at] = sum;
      }
  }
  out += p->thetas;
  for (int64_t g = 0; g < p->groups; g++) {
    const int64_t size = p->group[g].levels * p->group[g].terms;
    conditional(&p->group[g], &w->groups[g]);
    memcpy(out, w->groups[g].r, sizeof(double) * (size_t)size);
    out += size;
  }
}
