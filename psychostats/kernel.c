/* The log-likelihood of cells, and its derivatives by the entries of the tables that make up the linear predictor.
 *
 * In: cells and table entries.  Out: the sum of log-densities, and the score summed by slot.  Knows no group and no
 * prior.  Cells are taken in blocks that stay in the nearest cache; within a block every loop is a vector loop, which is
 * why exp and log are polynomials here: the C library's are calls, one number at a time.
 */
#include "native.h"

#include <math.h>
#include <string.h>

#define BLOCK 256

/* log 2 in two parts, the first of which is exact times any exponent. */
#define LOG2_HIGH 6.93147180369123816490e-01
#define LOG2_LOW 1.90821492927058770002e-10
/* 1.5 * 2^52: adding it leaves the nearest whole number in the lowest bits. */
#define ROUNDING 6755399441055744.0

/* exp(-a) for 0 <= a <= 700: a = n log 2 + r, |r| <= log 2 / 2, and Taylor's polynomial of degree 12 in r, whose
 * remainder is 2e-16 at most. */
static inline double exp_minus(double a) {
  double shifted = a * -1.4426950408889634 + ROUNDING;
  double n = shifted - ROUNDING;
  double r = (-a - n * LOG2_HIGH) - n * LOG2_LOW;
  double p = 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  int64_t bits, exponent;
  memcpy(&bits, &p, 8);
  memcpy(&exponent, &shifted, 8);
  bits += (int64_t)((uint64_t)exponent << 52);
  memcpy(&p, &bits, 8);
  return p;
}

/* 2 artanh(s) for |s| <= 1/3: s times a polynomial of degree 10 in s^2, Chebyshev's fit, within 3e-15. */
static inline double twice_artanh(double s) {
  double z = s * s;
  double p = 0.3904899408332942;
  p = p * z + -0.034940120387398854;
  p = p * z + 0.14804793979322492;
  p = p * z + 0.1296072142497335;
  p = p * z + 0.15412438657573216;
  p = p * z + 0.18180528289602538;
  p = p * z + 0.22222258669949824;
  p = p * z + 0.28571427978006725;
  p = p * z + 0.4000000000499297;
  p = p * z + 0.6666666666664922;
  p = p * z + 2.0000000000000018;
  return s * p;
}

/* log(x) of a normal number above 0: x = 2^n m with m in [sqrt(1/2), sqrt(2)). */
static inline double log_positive(double x) {
  int64_t bits;
  memcpy(&bits, &x, 8);
  int64_t offset = bits - 0x3FE6A09E667F3BCDLL; /* the bits of sqrt(1/2) */
  int64_t exponent = offset >> 52;
  bits -= (int64_t)((uint64_t)exponent << 52);
  double m, n = (double)exponent;
  memcpy(&m, &bits, 8);
  return n * LOG2_HIGH + (n * LOG2_LOW + twice_artanh((m - 1.0) / (m + 1.0)));
}

/* k eta - n log(1 + exp(eta)): plain logistic regression. */
static inline double logistic(int m, const double *eta, const double *right, const double *trials, double *score) {
  double total = 0.0;
#pragma omp simd reduction(+ : total)
  for (int i = 0; i < m; i++) {
    double x = eta[i], size = fabs(x);
    size = size < 700.0 ? size : 700.0;
    double t = exp_minus(size); /* exp(-|eta|) */
    double both = 1.0 / ((1.0 + t) * (2.0 + t));
    double p = (2.0 + t) * both; /* 1 / (1 + t), and by the same division t / (2 + t) */
    double log1p_t = twice_artanh(t * (1.0 + t) * both);
    p = x >= 0.0 ? p : t * p;
    total += right[i] * x - trials[i] * ((x > 0.0 ? x : 0.0) + log1p_t);
    score[i] = right[i] - trials[i] * p;
  }
  return total;
}

/* k log(g + c F) + (n - k) log(l + c (1 - F)), c = 1 - g - l, F logistic. */
static inline double asymptotes(int m, const double *eta, const double *right, const double *trials, double *score,
                                double guess, double lapse) {
  double total = 0.0, span = 1.0 - guess - lapse;
#pragma omp simd reduction(+ : total)
  for (int i = 0; i < m; i++) {
    double x = eta[i], size = fabs(x);
    size = size < 700.0 ? size : 700.0;
    double t = exp_minus(size), large = 1.0 / (1.0 + t), small = t * large;
    double F = x >= 0.0 ? large : small, rest = x >= 0.0 ? small : large;
    double p = guess + span * F, q = lapse + span * rest;
    double wrong = trials[i] - right[i];
    total += right[i] * log_positive(p) + wrong * log_positive(q);
    score[i] = span * large * small * (right[i] / p - wrong / q);
  }
  return total;
}

/* The same with F normal.  Without a floor, log F and its derivative keep their digits far out, by the expansion of
 * Mills' ratio (Abramowitz and Stegun 26.2.12), where F itself underflows. */
static void log_share(double x, double floor, double span, double *value, double *slope) {
  if (floor > 0.0 || x > -30.0) {
    double share = floor + span * 0.5 * erfc(-x * M_SQRT1_2);
    *value = log(share);
    *slope = span * exp(-0.5 * x * x) * 0.3989422804014327 / share;
    return;
  }
  double z = 1.0 / (x * x), series = 1.0 - z * (1.0 - 3.0 * z * (1.0 - 5.0 * z * (1.0 - 7.0 * z)));
  *value = -0.5 * x * x - log(-x) - 0.9189385332046727 + log(series) + log(span);
  *slope = -x / series;
}

static double probit(int m, const double *eta, const double *right, const double *trials, double *score, double guess,
                     double lapse) {
  double total = 0.0, span = 1.0 - guess - lapse;
  for (int i = 0; i < m; i++) {
    double wrong = trials[i] - right[i], value, slope;
    score[i] = 0.0;
    if (right[i] > 0.0) {
      log_share(eta[i], guess, span, &value, &slope);
      total += right[i] * value;
      score[i] += right[i] * slope;
    }
    if (wrong > 0.0) {
      log_share(-eta[i], lapse, span, &value, &slope);
      total += wrong * value;
      score[i] -= wrong * slope;
    }
  }
  return total;
}

/* Half the weighted squares about eta, in units of the errors' variance, negative. */
static inline double normal_errors(int m, const double *eta, const double *mean, const double *count, double *score,
                                   double precision) {
  double total = 0.0;
#pragma omp simd reduction(+ : total)
  for (int i = 0; i < m; i++) {
    double away = mean[i] - eta[i];
    score[i] = count[i] * precision * away;
    total -= 0.5 * score[i] * away;
  }
  return total;
}

/* entries, scores: of all tables, one behind the other.  The score by log sigma is written where there is a sigma. */
WIDE SHARED double log_likelihood(const Cells *cells, const double *entries, double sigma, double *scores,
                                  double *by_log_sigma) {
  double eta[BLOCK], score[BLOCK], total = 0.0;
  const double precision = 1.0 / (sigma * sigma);
  memset(scores, 0, sizeof(double) * (size_t)cells->first[cells->tables]);
  for (int64_t start = 0; start < cells->cells; start += BLOCK) {
    const int m = cells->cells - start < BLOCK ? (int)(cells->cells - start) : BLOCK;
    const double *value = cells->value + start, *weight = cells->weight + start;
    for (int64_t table = 0; table < cells->tables; table++) {
      const double *entry = entries + cells->first[table];
      const int32_t *index = cells->index[table] + start;
      if (table == 0)
        for (int i = 0; i < m; i++) eta[i] = entry[index[i]];
      else
        for (int i = 0; i < m; i++) eta[i] += entry[index[i]];
    }
    switch (cells->kind) {
    case LOGISTIC: total += logistic(m, eta, value, weight, score); break;
    case ASYMPTOTES: total += asymptotes(m, eta, value, weight, score, cells->guess, cells->lapse); break;
    case PROBIT: total += probit(m, eta, value, weight, score, cells->guess, cells->lapse); break;
    default: total += normal_errors(m, eta, value, weight, score, precision);
    }
    for (int64_t table = 0; table < cells->tables; table++) {
      double *sum = scores + cells->first[table];
      const int32_t *index = cells->index[table] + start;
      if (cells->runs[table]) { /* adding in a register: a slot just written cannot be read again at once */
        int32_t slot = index[0];
        double run = 0.0;
        for (int i = 0; i < m; i++) {
          if (index[i] != slot) {
            sum[slot] += run;
            run = 0.0;
            slot = index[i];
          }
          run += score[i];
        }
        sum[slot] += run;
      } else {
        for (int i = 0; i < m; i++) sum[index[i]] += score[i];
      }
    }
  }
  if (cells->kind == NORMAL_ERRORS) {
    *by_log_sigma = -2.0 * total + precision * cells->squares - cells->count;
    total -= cells->count * log(sigma) + 0.5 * precision * cells->squares;
  }
  return total;
}
