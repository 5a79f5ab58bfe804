/* stats.h - small statistics on plain arrays.  Inputs are not changed unless said.
 * Answers are NAN for n = 0, and for those that need memory when there is none. */
#ifndef KERF_STATS_H
#define KERF_STATS_H

#include <stddef.h>

struct rng;

double stats_mean(const double *x, size_t n);
/* Standard deviation with n - 1; 0 for n < 2. */
double stats_sd(const double *x, size_t n);
/* Standard error of the mean of values that come in dependent clusters (sequences):
 * cluster c holds the mean of size[c] values; weighted, with n_clusters - 1 (linearised ratio
 * estimator, Cochran, Sampling Techniques).  NAN for n_clusters < 2: one cluster tells nothing. */
double stats_cluster_se(const double *cluster_mean, const double *size, size_t n_clusters);

/* Sort ascending, in place. */
void stats_sort(double *x, size_t n);
/* Quantile q in [0,1] of `sorted`, linear between order statistics (Hyndman-Fan type 7). */
double stats_quantile(const double *sorted, size_t n, double q);
/* Median of `x` (copied and sorted inside). */
double stats_median(const double *x, size_t n);

/* Distribution-free 95 % interval of the median from order statistics (binomial(n, 1/2)).
 * For n < 6 no such interval exists: lo = min, hi = max. */
void stats_median_interval(const double *sorted, size_t n, double *lo, double *hi);
/* Hodges-Lehmann estimate: median of the pairwise means; with a 95 % interval from the signed
 * rank distribution (exact up to n = 60, normal beyond); for n < 6 lo = min, hi = max.  lo and hi
 * may be NULL.  Exact selection in O(n) memory.  A NaN among the values makes all three NAN. */
double stats_hodges_lehmann(const double *x, size_t n, double *lo, double *hi);

/* Wilcoxon's signed rank test, one-sided: how likely a sum of positive ranks at least as large as
 * that of x is when x is symmetric about 0.  Exact up to n = 60, ties by their mean rank; normal
 * beyond.  Zeros are left out; 1 when nothing is left.  NAN for a NaN. */
double stats_signed_rank_p(const double *x, size_t n);
/* Benjamini and Hochberg (1995): the largest of p[n] that counts as found when a share q of what is
 * found may be false; 0 when none does. */
double stats_discovery_limit(const double *p, size_t n, double q);

/* Rank correlations with average ranks for ties, in [-1, 1]; NAN for n < 2, a constant input or a
 * NaN in it. */
double stats_spearman(const double *x, const double *y, size_t n);
double stats_kendall(const double *x, const double *y, size_t n); /* tau-b */

#endif
