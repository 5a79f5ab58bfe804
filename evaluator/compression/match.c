#include "evaluator/compression/match.h"

#include "space/base/err.h"
#include "space/base/linalg.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double damping_max = 1.0, damping_least = 1e-6;

int match_init(struct match *m, size_t n_x, size_t n_z, size_t n_y, struct err *err)
{
    *m = (struct match){.n_x = n_x, .n_z = n_z, .n_y = n_y};
    if (hessian_init(&m->zz, n_z, err) != 0)
        return -1;
    m->h = malloc(n_z * n_z * sizeof *m->h);
    m->xz = calloc(n_x * n_z, sizeof *m->xz);
    m->yz = calloc(n_y * n_z + 1, sizeof *m->yz);
    if (m->h != NULL && m->xz != NULL && m->yz != NULL)
        return 0;
    err_set(err, ERR_MEMORY, "moments of %zu by %zu inputs: out of memory", n_x, n_z);
    match_fini(m);
    return -1;
}

void match_fini(struct match *m)
{
    hessian_fini(&m->zz);
    free(m->h);
    free(m->xz);
    free(m->yz);
    memset(m, 0, sizeof *m);
}

void match_add(struct match *m, const struct kernels *kernels, const double *x, const double *z,
               const double *y, size_t n_rows, unsigned part, unsigned n_parts)
{
    hessian_add(&m->zz, kernels, z, n_rows, part, n_parts);
    hessian_add_cross(kernels, x, m->n_x, z, m->n_z, n_rows, part, n_parts, m->xz);
    if (m->n_y > 0)
        hessian_add_cross(kernels, y, m->n_y, z, m->n_z, n_rows, part, n_parts, m->yz);
}

void match_close(struct match *m)
{
    size_t n = m->n_z;
    double n_tokens = (double)m->zz.n_tokens;

    assert(m->zz.n_tokens > 0);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++)
            m->h[i * n + j] = m->h[j * n + i] = m->zz.second[i * n + j] / n_tokens;
    for (size_t i = 0; i < m->n_x * n; i++)
        m->xz[i] /= n_tokens;
    for (size_t i = 0; i < m->n_y * n; i++)
        m->yz[i] /= n_tokens;
}

/* wide[n] = x */
static void widen(const float *x, size_t n, double *wide)
{
    for (size_t i = 0; i < n; i++)
        wide[i] = (double)x[i];
}

/* r[n_out][n_z] = R; `wide` has room for either matrix. */
static void residual(const struct match *m, const float *w, const float *stand_in, size_t n_out,
                     double *wide, double *r)
{
    size_t n = m->n_z;

    widen(w, n_out * m->n_x, wide);
    linalg_dgemm_nn(n_out, n, m->n_x, 1, wide, m->n_x, m->xz, n, 0, r, n);
    widen(stand_in, n_out * n, wide);
    linalg_dgemm_nn(n_out, n, n, -1, wide, n, m->h, n, 1, r, n);
    for (size_t i = 0; i < m->n_y * n; i++)
        r[i] += m->yz[i];
}

/* solved[n_out][n_z] = R (H + ridge I)^-1 with the least share from *damping up that has one;
 * `damped` [n_z][n_z] is scratch. */
static void solve(const struct match *m, const double *r, size_t n_out, double *damping,
                  double *damped, double *solved)
{
    size_t n = m->n_z;
    double mean = hessian_live_mean(n, m->h), share = mean > 0 ? *damping : INFINITY;

    for (; share <= damping_max; share = fmax(10 * share, damping_least)) {
        memcpy(damped, m->h, n * n * sizeof *damped);
        for (size_t i = 0; i < n; i++)
            damped[i * n + i] += share * mean;
        memcpy(solved, r, n_out * n * sizeof *solved);
        if (linalg_solve_spd_rows(n, damped, n_out, solved, NULL) == 0) {
            *damping = share;
            return;
        }
    }
    memset(solved, 0, n_out * n * sizeof *solved);
    *damping = INFINITY;
}

int match_solve(const struct match *m, const float *w, const float *stand_in, size_t n_out,
                double alpha, double *damping, float *target, struct err *err)
{
    size_t n = m->n_z, n_wide = m->n_x > n ? m->n_x : n;
    double *wide = malloc(n_out * n_wide * sizeof *wide);
    double *r = malloc(n_out * n * sizeof *r), *solved = malloc(n_out * n * sizeof *solved);
    double *damped = malloc(n * n * sizeof *damped);
    int status = -1;

    assert(m->n_y == 0 || m->n_y == n_out);
    if (wide == NULL || r == NULL || solved == NULL || damped == NULL) {
        err_set(err, ERR_MEMORY, "matching %zu by %zu weights: out of memory", n_out, n);
        goto done;
    }
    residual(m, w, stand_in, n_out, wide, r);
    solve(m, r, n_out, damping, damped, solved);
    for (size_t i = 0; i < n_out * n; i++) {
        target[i] = (float)((double)stand_in[i] + alpha * solved[i]);
        if (isfinite(target[i]))
            continue;
        err_set(err, ERR_DATA, "row %zu, column %zu: no finite weight matches", i / n, i % n);
        goto done;
    }
    status = 0;
done:
    free(damped);
    free(solved);
    free(r);
    free(wide);
    return status;
}
