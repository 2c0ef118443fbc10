/* One chain of the No-U-Turn sampler on a whitened posterior.
 *
 * In: a `Posterior`, a start and settings.  Out: draws in natural parameters, and statistics of each.  Knows no model.
 *
 * Multinomial sampling along the trajectory (Betancourt 2017) with the generalised criterion for a turn, also across
 * the seams between subtrees, as Stan has it; step size by dual averaging (Hoffman and Gelman 2014); a diagonal metric
 * from the spread of draws and of gradients, the root of var(x) / var(gradient), which for normal coordinates is exact
 * after few draws.  Coordinates are whitened, so that the metric starts as the identity and is shrunk towards it.
 */
#include "native.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DIVERGENT 1000.0 /* loss of energy beyond which a trajectory is given up */
#define DEPTH_LIMIT 12

/* --- Random numbers: xoshiro256++ (Blackman and Vigna 2019), seeded by splitmix64 --- */

typedef struct {
  uint64_t state[4];
  double spare;
  int has_spare;
} Random;

static uint64_t mix(uint64_t *x) {
  uint64_t z = (*x += 0x9E3779B97F4A7C15ULL);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

static void seed_random(Random *random, uint64_t seed, uint64_t chain) {
  uint64_t x = seed, y = mix(&x) ^ (chain * 0xD1342543DE82EF95ULL + 1);
  for (int i = 0; i < 4; i++) random->state[i] = mix(&y);
  random->has_spare = 0;
}

static inline uint64_t rotate(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }

static uint64_t next_bits(Random *random) {
  uint64_t *s = random->state;
  const uint64_t out = rotate(s[0] + s[3], 23) + s[0], t = s[1] << 17;
  s[2] ^= s[0];
  s[3] ^= s[1];
  s[1] ^= s[2];
  s[0] ^= s[3];
  s[2] ^= t;
  s[3] = rotate(s[3], 45);
  return out;
}

/* Between 0 and 1, neither of which occurs. */
static double uniform(Random *random) { return ((double)(next_bits(random) >> 12) + 0.5) * 0x1p-52; }

/* Marsaglia's polar method. */
static double normal(Random *random) {
  if (random->has_spare) {
    random->has_spare = 0;
    return random->spare;
  }
  double u, v, s;
  do {
    u = 2.0 * uniform(random) - 1.0;
    v = 2.0 * uniform(random) - 1.0;
    s = u * u + v * v;
  } while (s >= 1.0);
  const double scale = sqrt(-2.0 * log(s) / s);
  random->spare = v * scale;
  random->has_spare = 1;
  return u * scale;
}

/* --- Trajectories --- */

typedef struct {
  double *y, *p, *g; /* place, momentum in units of the metric, gradient */
  double lp;
} Point;

typedef struct {
  double *momenta, *first, *last; /* sum of the momenta, and those at both ends, in the direction of building */
  double *y, *g;                  /* the place drawn */
  double lp, weight;              /* its log-density; log of the sum of weights exp(-energy) over the energy at the start */
} Tree;

typedef struct {
  const Posterior *posterior;
  Workspace *workspace;
  const volatile int64_t *stop;
  int64_t n;
  Random random;
  double *scale; /* of each coordinate, the root of the inverse metric */
  double step, start_energy, acceptance;
  int64_t steps;
  int diverging, stopped;
  Tree trees[DEPTH_LIMIT + 2];
  Point left, right, here;
  Tree sub;
  double *memory;
} Chain;

static double dot(const double *a, const double *b, int64_t n) {
  double total = 0.0;
#pragma omp simd reduction(+ : total)
  for (int64_t i = 0; i < n; i++) total += a[i] * b[i];
  return total;
}

/* Whether momenta at two ends, or their sum with more, say that the way between them no longer grows. */
static int turns(const double *sum, const double *more, const double *first, const double *last, int64_t n) {
  double a = 0.0, b = 0.0;
#pragma omp simd reduction(+ : a, b)
  for (int64_t i = 0; i < n; i++) {
    const double whole = sum[i] + more[i];
    a += whole * first[i];
    b += whole * last[i];
  }
  return !(a > 0.0 && b > 0.0);
}

static double log_sum(double a, double b) {
  const double most = a > b ? a : b, least = a > b ? b : a;
  return most == -INFINITY ? most : most + log1p(exp(least - most));
}

static void copy(double *to, const double *from, int64_t n) { memcpy(to, from, sizeof(double) * (size_t)n); }

static void leap(Chain *c, Point *at, double step) {
  const int64_t n = c->n;
  for (int64_t i = 0; i < n; i++) {
    at->p[i] += 0.5 * step * c->scale[i] * at->g[i];
    at->y[i] += step * c->scale[i] * at->p[i];
  }
  at->lp = log_posterior(c->posterior, c->workspace, at->y, at->g);
  for (int64_t i = 0; i < n; i++) at->p[i] += 0.5 * step * c->scale[i] * at->g[i];
}

/* Build a subtree of 2^depth points from `edge` on; 0 where it diverges, turns or is stopped. */
static int build(Chain *c, int depth, Point *edge, double step, Tree *out) {
  const int64_t n = c->n;
  if (depth == 0) {
    if (*c->stop) {
      c->stopped = 1;
      return 0;
    }
    leap(c, edge, step);
    c->steps++;
    double energy = 0.5 * dot(edge->p, edge->p, n) - edge->lp, gain = c->start_energy - energy;
    if (!isfinite(energy) || gain < -DIVERGENT) {
      c->diverging = 1;
      return 0;
    }
    c->acceptance += gain > 0.0 ? 1.0 : exp(gain);
    copy(out->momenta, edge->p, n);
    copy(out->first, edge->p, n);
    copy(out->last, edge->p, n);
    copy(out->y, edge->y, n);
    copy(out->g, edge->g, n);
    out->lp = edge->lp;
    out->weight = gain;
    return 1;
  }
  Tree *second = &c->trees[depth];
  if (!build(c, depth - 1, edge, step, out) || !build(c, depth - 1, edge, step, second)) return 0;
  const double weight = log_sum(out->weight, second->weight);
  if (turns(out->momenta, second->momenta, out->first, second->last, n) ||
      turns(out->momenta, second->first, out->first, second->first, n) ||
      turns(second->momenta, out->last, out->last, second->last, n))
    return 0;
  if (log(uniform(&c->random)) < second->weight - weight) {
    copy(out->y, second->y, n);
    copy(out->g, second->g, n);
    out->lp = second->lp;
  }
  for (int64_t i = 0; i < n; i++) out->momenta[i] += second->momenta[i];
  copy(out->last, second->last, n);
  out->weight = weight;
  return 1;
}

/* One transition from c->here, which it moves; returns the depth. */
static int transition(Chain *c, int depth_most, double step, double *energy) {
  const int64_t n = c->n;
  Tree *whole = &c->trees[0];
  for (int64_t i = 0; i < n; i++) c->here.p[i] = normal(&c->random);
  c->start_energy = 0.5 * dot(c->here.p, c->here.p, n) - c->here.lp;
  *energy = c->start_energy;
  Point *ends[2] = {&c->left, &c->right};
  for (int side = 0; side < 2; side++) {
    copy(ends[side]->y, c->here.y, n);
    copy(ends[side]->p, c->here.p, n);
    copy(ends[side]->g, c->here.g, n);
  }
  copy(whole->momenta, c->here.p, n);
  copy(whole->first, c->here.p, n); /* of the whole: the left end */
  copy(whole->last, c->here.p, n);  /* and the right */
  whole->weight = 0.0;
  c->acceptance = 0.0;
  c->steps = 0;
  c->diverging = c->stopped = 0;
  int depth = 0;
  while (depth < depth_most) {
    const int forwards = uniform(&c->random) < 0.5;
    if (!build(c, depth, ends[forwards], forwards ? step : -step, &c->sub)) break;
    depth++;
    /* A later half is preferred, in proportion to the weights; which keeps the target and moves further. */
    if (log(uniform(&c->random)) < c->sub.weight - whole->weight) {
      copy(c->here.y, c->sub.y, n);
      copy(c->here.g, c->sub.g, n);
      c->here.lp = c->sub.lp;
    }
    whole->weight = log_sum(whole->weight, c->sub.weight);
    const double *near = c->sub.first, *far = c->sub.last;
    const double *own = forwards ? whole->last : whole->first, *other = forwards ? whole->first : whole->last;
    const int turned = turns(whole->momenta, c->sub.momenta, other, far, n) ||
                       turns(whole->momenta, near, other, near, n) || turns(c->sub.momenta, own, own, far, n);
    for (int64_t i = 0; i < n; i++) whole->momenta[i] += c->sub.momenta[i];
    copy(forwards ? whole->last : whole->first, far, n);
    if (turned) break;
  }
  return depth;
}

/* --- Adaptation --- */

typedef struct {
  double step, mean, error, target, average;
  int64_t count;
} DualAveraging;

static void restart(DualAveraging *d, double step) {
  d->step = step;
  d->mean = log(10.0 * step);
  d->error = 0.0;
  d->average = 0.0;
  d->count = 0;
}

static void learn(DualAveraging *d, double acceptance) {
  const double t = (double)++d->count, share = 1.0 / (t + 10.0), decay = pow(t, -0.75);
  d->error = (1.0 - share) * d->error + share * (d->target - acceptance);
  const double x = d->mean - sqrt(t) / 0.05 * d->error;
  d->average = decay * x + (1.0 - decay) * d->average;
  d->step = exp(x);
}

/* A step from here whose acceptance is about 0.8, by doubling or halving. */
static double plausible_step(Chain *c, double step) {
  const int64_t n = c->n;
  int direction = 0;
  for (int tries = 0; tries < 40; tries++) {
    copy(c->left.y, c->here.y, n);
    copy(c->left.g, c->here.g, n);
    for (int64_t i = 0; i < n; i++) c->left.p[i] = normal(&c->random);
    const double before = 0.5 * dot(c->left.p, c->left.p, n) - c->here.lp;
    leap(c, &c->left, step);
    const double gain = before - (0.5 * dot(c->left.p, c->left.p, n) - c->left.lp);
    const int now = isfinite(gain) && gain > log(0.8) ? 1 : -1;
    if (direction && now != direction) break;
    direction = now;
    step *= now > 0 ? 2.0 : 0.5;
  }
  return step;
}

typedef struct {
  double *mean_y, *squares_y, *mean_g, *squares_g;
  int64_t count;
} Spread;

static void clear(Spread *s, int64_t n) {
  memset(s->mean_y, 0, sizeof(double) * (size_t)(4 * n));
  s->count = 0;
}

static void observe(Spread *s, const Point *at, int64_t n) {
  const double share = 1.0 / (double)++s->count;
  for (int64_t i = 0; i < n; i++) {
    const double y = at->y[i] - s->mean_y[i], g = at->g[i] - s->mean_g[i];
    s->mean_y[i] += share * y;
    s->squares_y[i] += y * (at->y[i] - s->mean_y[i]);
    s->mean_g[i] += share * g;
    s->squares_g[i] += g * (at->g[i] - s->mean_g[i]);
  }
}

/* The scale of each coordinate, the fourth root of var(y) / var(g), in part that of a whitened one, which is 1. */
static void rescale(const Spread *s, double *scale, int64_t n) {
  const double share = (double)s->count / ((double)s->count + 5.0);
  for (int64_t i = 0; i < n; i++) {
    const double ratio = s->squares_y[i] / s->squares_g[i];
    if (isfinite(ratio) && ratio > 0.0) scale[i] = exp(0.25 * share * log(ratio));
  }
}

/* --- A chain --- */

static double *take(double **next, int64_t n) {
  double *here = *next;
  *next += n;
  return here;
}

static int open_chain(Chain *c, const Posterior *posterior, int depth_most, Spread *spread) {
  const int64_t n = posterior->dimension;
  const int trees = depth_most + 2;
  c->n = n;
  c->posterior = posterior;
  c->workspace = open_workspace(posterior);
  c->memory = calloc((size_t)(n * (5 * (trees + 1) + 3 * 3 + 1 + 4) + 1), sizeof(double));
  if (!c->workspace || !c->memory) return 0;
  double *next = c->memory;
  for (int k = 0; k <= trees; k++) {
    Tree *tree = k < trees ? &c->trees[k] : &c->sub;
    tree->momenta = take(&next, n), tree->first = take(&next, n), tree->last = take(&next, n);
    tree->y = take(&next, n), tree->g = take(&next, n);
  }
  Point *points[3] = {&c->left, &c->right, &c->here};
  for (int k = 0; k < 3; k++) points[k]->y = take(&next, n), points[k]->p = take(&next, n), points[k]->g = take(&next, n);
  c->scale = take(&next, n);
  spread->mean_y = take(&next, n), spread->squares_y = take(&next, n);
  spread->mean_g = take(&next, n), spread->squares_g = take(&next, n);
  for (int64_t i = 0; i < n; i++) c->scale[i] = 1.0;
  return 1;
}

static void close_chain(Chain *c) {
  close_workspace(c->workspace);
  free(c->memory);
}

enum { NO_MEMORY = -1, NO_START = -2 };

/* Where log_posterior is -inf or not a number there is no start; places nearer to the centre are tried. */
static int begin(Chain *c, double spread_of_start) {
  for (int tries = 0; tries < 20; tries++, spread_of_start *= 0.5) {
    for (int64_t i = 0; i < c->n; i++) c->here.y[i] = spread_of_start * normal(&c->random);
    c->here.lp = log_posterior(c->posterior, c->workspace, c->here.y, c->here.g);
    int finite = isfinite(c->here.lp);
    for (int64_t i = 0; finite && i < c->n; i++) finite = isfinite(c->here.g[i]);
    if (finite) return 1;
  }
  return 0;
}

/* Run one chain; returns the number of draws made, or why there are none.
 *
 * draws       (draws, expanded)    filled as far as it comes
 * statistics  (draws, STATISTICS)
 * progress    transitions done, warm-up included; stop: another thread sets it to end the chain
 */
SHARED int64_t run_chain(const Posterior *posterior, const Sampling *how, double *draws, double *statistics,
                         volatile int64_t *progress, const volatile int64_t *stop) {
  Chain c;
  Spread spread;
  memset(&c, 0, sizeof c);
  const int depth_most = how->depth_most < DEPTH_LIMIT ? (int)how->depth_most : DEPTH_LIMIT;
  c.stop = stop;
  int64_t made = NO_MEMORY;
  if (!open_chain(&c, posterior, depth_most, &spread)) goto end;
  seed_random(&c.random, how->seed, how->chain);
  made = NO_START;
  if (!begin(&c, 0.5)) goto end;
  made = 0;
  DualAveraging steps = {.target = how->target_accept};
  restart(&steps, plausible_step(&c, 0.5));
  /* The metric is renewed after a quarter, a half and three quarters of the warm-up, each from what came since the last
   * time (the first tenth, on the way to the bulk, is left out); then the step has a quarter to settle. */
  const int64_t tune = how->tune, renew[3] = {tune / 4, tune / 2, 3 * tune / 4};
  clear(&spread, c.n);
  for (int64_t t = 0; t < tune + how->draws && !*stop; t++) {
    double energy, step = steps.step;
    if (t >= tune) step *= 0.9 + 0.2 * uniform(&c.random); /* so that no trajectory closes on itself */
    const int depth = transition(&c, depth_most, step, &energy);
    if (c.stopped) break;
    const double acceptance = c.steps ? c.acceptance / (double)c.steps : 0.0;
    if (t < tune) {
      learn(&steps, acceptance);
      if (t >= tune / 10) observe(&spread, &c.here, c.n);
      for (int k = 0; k < 3; k++)
        if (t + 1 == renew[k] && spread.count >= 10) {
          rescale(&spread, c.scale, c.n);
          clear(&spread, c.n);
          restart(&steps, plausible_step(&c, steps.step));
        }
      if (t + 1 == tune && steps.count) steps.step = exp(steps.average);
    } else {
      double *row = statistics + made * STATISTICS;
      natural(posterior, c.workspace, c.here.y, draws + made * posterior->expanded);
      row[DIVERGING] = c.diverging;
      row[DEPTH_REACHED] = depth >= depth_most;
      row[N_STEPS] = (double)c.steps;
      row[DEPTH] = depth;
      row[ENERGY] = energy;
      row[LP] = c.here.lp;
      row[STEP_SIZE] = step;
      row[ACCEPTANCE] = acceptance;
      made++;
    }
    *progress = t + 1;
  }
end:
  close_chain(&c);
  return made;
}

/* The log-posterior and its gradient at one place, for tests and for timing; 0 where memory is lacking. */
SHARED int64_t evaluate(const Posterior *posterior, const double *y, double *gradient, double *value, int64_t times) {
  Workspace *workspace = open_workspace(posterior);
  if (!workspace) return 0;
  for (int64_t k = 0; k < times; k++) *value = log_posterior(posterior, workspace, y, gradient);
  close_workspace(workspace);
  return 1;
}

/* Natural parameters at one place. */
SHARED int64_t naturalise(const Posterior *posterior, const double *y, double *out) {
  Workspace *workspace = open_workspace(posterior);
  if (!workspace) return 0;
  natural(posterior, workspace, y, out);
  close_workspace(workspace);
  return 1;
}
