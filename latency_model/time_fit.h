/* time_fit.h - measured times as a sum of terms that have no negative weight.
 *
 *   t = sum_k w_k phi_k,  w >= 0, from points (phi_i, t_i), minimizing the relative error
 *
 *       sum_i (sum_k w_k phi_ik / t_i - 1)^2 + m lambda sum_k (s_k (w_k - p_k))^2
 *
 * p_k is what a weight is believed to be before anything is measured (1 for the sums of an op
 * table, 0 where nothing is known), s_k the mean share of term k in the m times, so that lambda
 * weighs terms alike, whatever their units.  lambda is the one of a fixed list with the least mean
 * squared log error of the points that are left out one by one.
 *
 * Uncertainty is the jackknife+ (Barber, Candes, Ramdas and Tibshirani, Annals of Statistics 2021)
 * on log times: exchangeable points give at least 1 - 2 alpha coverage whatever the model lacks,
 * and about 1 - alpha in practice.  Non-negative least squares: linalg_nnls.  No state. */
#ifndef KERF_TIME_FIT_H
#define KERF_TIME_FIT_H

#include <stddef.h>

struct err;

#define TIME_FIT_MAX_TERMS  32
#define TIME_FIT_MAX_POINTS 1024

struct time_fit {
    size_t n_terms, n_points;
    double lambda;
    double weight[TIME_FIT_MAX_TERMS];
    double *left_out; /* [n_points][n_terms]: the weights without point i */
    double *miss;     /* [n_points]: log t_i - log of what the weights without i predict */
};

/* phi[n_points][n_terms] >= 0, t[n_points] > 0, prior[n_terms] >= 0.  ERR_DATA for fewer than two
 * points, a time that is not positive, a term that is negative or a value that is not finite, and
 * points that predict no time at all (all terms 0). */
int time_fit_make(struct time_fit *fit, size_t n_points, size_t n_terms, const double *phi,
                  const double *t, const double *prior, struct err *err);
void time_fit_fini(struct time_fit *fit); /* a zeroed struct is fine */

double time_fit_predict(const struct time_fit *fit, const double *phi);
/* The interval that holds a new time with probability `share` (0.9).  With too few points for such
 * a share the outermost ends stand; a lower end may be 0. */
void time_fit_interval(const struct time_fit *fit, const double *phi, double share, double *lo,
                       double *hi);
/* Root of the mean squared log error of the points left out. */
double time_fit_error(const struct time_fit *fit);

/* Which `n_wanted` of n_points to measure so that the weights become known best: chosen[], in the
 * order of their worth, begins with the `n_given` that are there already (they count as measured)
 * and goes on with the point whose phi' (Phi' Phi + small)^-1 phi is largest (greedy D-optimality;
 * terms scaled by their mean, rows by `about`, a rough time of each).  Returns how many were
 * chosen: n_wanted, or all points.  0 without memory. */
size_t time_fit_choose(size_t n_points, size_t n_terms, const double *phi, const double *about,
                       size_t n_given, size_t n_wanted, size_t *chosen);

#endif
