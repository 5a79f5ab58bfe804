/* time_fit.c - relative non-negative least squares with a prior, its jackknife+, and the choice of
 * points. */
#include "latency_model/time_fit.h"

#include "space/base/err.h"
#include "space/base/linalg.h"
#include "space/base/stats.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Shares of the squared relative error that a prior may claim. */
static const double lambdas[] = {1e-6, 1e-5, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1};
#define N_LAMBDAS (sizeof lambdas / sizeof lambdas[0])

static double dot(size_t n, const double *a, const double *b)
{
    double sum = 0;

    for (size_t k = 0; k < n; k++)
        sum += a[k] * b[k];
    return sum;
}

/* --- one fit --- */

/* The least squares problem: a row a point, phi_i / t_i, then a row a term for the prior. */
struct relative {
    size_t n_points, n_terms;
    double *rows;  /* [n_points][n_terms] */
    double *a, *b; /* [n_points + n_terms][n_terms], [n_points + n_terms]: room for a solve */
    double scale[TIME_FIT_MAX_TERMS]; /* s_k */
    const double *prior;
};

static int check(size_t n_points, size_t n_terms, const double *phi, const double *t,
                 const double *prior, struct err *err)
{
    if (n_points < 2 || n_points > TIME_FIT_MAX_POINTS || n_terms < 1 ||
        n_terms > TIME_FIT_MAX_TERMS) {
        err_set(err, ERR_DATA,
                "latency fit: %zu points and %zu terms, expected 2 to %d and 1 to %d", n_points,
                n_terms, TIME_FIT_MAX_POINTS, TIME_FIT_MAX_TERMS);
        return -1;
    }
    for (size_t i = 0; i < n_points; i++) {
        double sum = 0;
        for (size_t k = 0; k < n_terms; k++) {
            double value = phi[i * n_terms + k];
            sum = value >= 0 ? sum + value : NAN;
        }
        if (!(sum > 0) || !isfinite(sum) || !(t[i] > 0) || !isfinite(t[i])) {
            err_set(err, ERR_DATA, "latency fit: point %zu has no positive time or no sound terms",
                    i);
            return -1;
        }
    }
    for (size_t k = 0; k < n_terms; k++) {
        if (!(prior[k] >= 0) || !isfinite(prior[k])) {
            err_set(err, ERR_DATA, "latency fit: the prior of term %zu is no weight", k);
            return -1;
        }
    }
    return 0;
}

static int relative_init(struct relative *p, size_t n_points, size_t n_terms, const double *phi,
                         const double *t, const double *prior, struct err *err)
{
    size_t n_rows = n_points + n_terms;

    *p = (struct relative){.n_points = n_points, .n_terms = n_terms, .prior = prior};
    p->rows = calloc(n_points * n_terms, sizeof *p->rows);
    p->a = calloc(n_rows * n_terms, sizeof *p->a);
    p->b = calloc(n_rows, sizeof *p->b);
    if (p->rows == NULL || p->a == NULL || p->b == NULL) {
        err_set(err, ERR_MEMORY, "latency fit: out of memory");
        return -1;
    }
    for (size_t i = 0; i < n_points; i++) {
        for (size_t k = 0; k < n_terms; k++) {
            p->rows[i * n_terms + k] = phi[i * n_terms + k] / t[i];
            p->scale[k] += p->rows[i * n_terms + k] / (double)n_points;
        }
    }
    return 0;
}

static void relative_fini(struct relative *p)
{
    free(p->rows);
    free(p->a);
    free(p->b);
}

/* Weights without point `left` (n_points: with all). */
static int solve(struct relative *p, double lambda, size_t left, double *weight, struct err *err)
{
    const size_t n = p->n_terms;
    const double pull = sqrt(lambda * (double)p->n_points);
    size_t m = 0;

    for (size_t i = 0; i < p->n_points; i++) {
        if (i == left)
            continue;
        memcpy(p->a + m * n, p->rows + i * n, n * sizeof *p->a);
        p->b[m++] = 1;
    }
    for (size_t k = 0; k < n; k++) {
        /* A term that no point has keeps its prior. */
        double strength = p->scale[k] > 0 ? pull * p->scale[k] : 1;
        memset(p->a + m * n, 0, n * sizeof *p->a);
        p->a[m * n + k] = strength;
        p->b[m++] = strength * p->prior[k];
    }
    return linalg_nnls(m, n, p->a, p->b, weight, err);
}

/* --- lambda, jackknife --- */

/* A prediction of 0 would be infinitely wrong; it counts as a thousandth of the time. */
static double miss_of(size_t n, const double *row, const double *weight)
{
    return -log(fmax(dot(n, row, weight), 1e-3));
}

static int leave_out(struct relative *p, double lambda, double *weights, double *miss,
                     double *square, struct err *err)
{
    const size_t n = p->n_terms;

    *square = 0;
    for (size_t i = 0; i < p->n_points; i++) {
        if (solve(p, lambda, i, weights + i * n, err) != 0)
            return -1;
        miss[i] = miss_of(n, p->rows + i * n, weights + i * n);
        *square += miss[i] * miss[i] / (double)p->n_points;
    }
    return 0;
}

static int fit_relative(struct time_fit *fit, struct relative *p, struct err *err)
{
    double least = INFINITY;

    for (size_t l = 0; l < N_LAMBDAS; l++) {
        double square;
        if (leave_out(p, lambdas[l], fit->left_out, fit->miss, &square, err) != 0)
            return -1;
        if (square < least) {
            least = square;
            fit->lambda = lambdas[l];
        }
    }
    if (leave_out(p, fit->lambda, fit->left_out, fit->miss, &least, err) != 0)
        return -1;
    return solve(p, fit->lambda, p->n_points, fit->weight, err);
}

int time_fit_make(struct time_fit *fit, size_t n_points, size_t n_terms, const double *phi,
                  const double *t, const double *prior, struct err *err)
{
    struct relative problem = {0};
    int status = -1;

    *fit = (struct time_fit){.n_terms = n_terms, .n_points = n_points};
    if (check(n_points, n_terms, phi, t, prior, err) != 0)
        return -1;
    fit->left_out = calloc(n_points * n_terms, sizeof *fit->left_out);
    fit->miss = calloc(n_points, sizeof *fit->miss);
    if (fit->left_out == NULL || fit->miss == NULL)
        err_set(err, ERR_MEMORY, "latency fit: out of memory");
    else if (relative_init(&problem, n_points, n_terms, phi, t, prior, err) == 0)
        status = fit_relative(fit, &problem, err);
    relative_fini(&problem);
    if (status != 0)
        time_fit_fini(fit);
    return status;
}

void time_fit_fini(struct time_fit *fit)
{
    free(fit->left_out);
    free(fit->miss);
    *fit = (struct time_fit){0};
}

double time_fit_predict(const struct time_fit *fit, const double *phi)
{
    return dot(fit->n_terms, phi, fit->weight);
}

double time_fit_error(const struct time_fit *fit)
{
    double square = 0;

    for (size_t i = 0; i < fit->n_points; i++)
        square += fit->miss[i] * fit->miss[i];
    return sqrt(square / (double)fit->n_points);
}

void time_fit_interval(const struct time_fit *fit, const double *phi, double share, double *lo,
                       double *hi)
{
    double low[TIME_FIT_MAX_POINTS], high[TIME_FIT_MAX_POINTS];
    size_t n = fit->n_points;
    /* The ceil((1 - alpha)(n + 1))-th smallest upper end, and its mirror below. */
    size_t rank = (size_t)ceil(share * (double)(n + 1));

    rank = rank < 1 ? 1 : rank > n ? n : rank;
    for (size_t i = 0; i < n; i++) {
        double at = dot(fit->n_terms, phi, fit->left_out + i * fit->n_terms);
        low[i] = at * exp(-fabs(fit->miss[i]));
        high[i] = at * exp(fabs(fit->miss[i]));
    }
    stats_sort(low, n);
    stats_sort(high, n);
    *lo = low[n - rank];
    *hi = high[rank - 1];
}

/* --- which points to measure --- */

/* P <- P - P x x' P / (1 + x' P x): the inverse of (P^-1 + x x'). */
static void learn(size_t n, double *p, const double *x)
{
    double px[TIME_FIT_MAX_TERMS], gain = 1;

    for (size_t j = 0; j < n; j++)
        px[j] = dot(n, p + j * n, x);
    gain += dot(n, px, x);
    for (size_t j = 0; j < n; j++)
        for (size_t k = 0; k < n; k++)
            p[j * n + k] -= px[j] * px[k] / gain;
}

static double worth(size_t n, const double *p, const double *x)
{
    double sum = 0;

    for (size_t j = 0; j < n; j++)
        sum += x[j] * dot(n, p + j * n, x);
    return sum;
}

size_t time_fit_choose(size_t n_points, size_t n_terms, const double *phi, const double *about,
                       size_t n_given, size_t n_wanted, size_t *chosen)
{
    const double ridge = 1e-4; /* of a term whose share is as usual */
    double *x = calloc(n_points * n_terms, sizeof *x);
    bool *taken = calloc(n_points, sizeof *taken);
    double p[TIME_FIT_MAX_TERMS * TIME_FIT_MAX_TERMS] = {0}, scale[TIME_FIT_MAX_TERMS] = {0};
    size_t n_chosen = 0;

    for (size_t i = 0; x != NULL && i < n_points * n_terms; i++) {
        x[i] = phi[i] / about[i / n_terms];
        scale[i % n_terms] += x[i] / (double)n_points;
    }
    for (size_t i = 0; x != NULL && i < n_points * n_terms; i++)
        x[i] = scale[i % n_terms] > 0 ? x[i] / scale[i % n_terms] : 0;
    for (size_t k = 0; k < n_terms; k++)
        p[k * n_terms + k] = 1 / ridge;
    while (x != NULL && taken != NULL && n_chosen < n_wanted && n_chosen < n_points) {
        size_t best = n_points;
        double most = -1;
        if (n_chosen < n_given)
            best = chosen[n_chosen];
        for (size_t i = 0; i < n_points && n_chosen >= n_given; i++) {
            double value = taken[i] ? -1 : worth(n_terms, p, x + i * n_terms);
            if (value > most) {
                most = value;
                best = i;
            }
        }
        taken[best] = true;
        learn(n_terms, p, x + best * n_terms);
        chosen[n_chosen++] = best;
    }
    free(taken);
    free(x);
    return n_chosen;
}
