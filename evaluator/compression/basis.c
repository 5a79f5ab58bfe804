#include "evaluator/compression/basis.h"

#include "evaluator/compression/obs.h"
#include "space/base/err.h"
#include "space/base/linalg.h"
#include "space/base/rng.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the two matrices ----------------------------------------------------------------------- */

/* Entry (i, j) of the orthonormal DCT-II of m values. */
static double cosine(size_t m, size_t i, size_t j)
{
    double angle = acos(-1.0) * (double)(2 * i + 1) * (double)j / (2.0 * (double)m);

    return j == 0 ? sqrt(1.0 / (double)m) : sqrt(2.0 / (double)m) * cos(angle);
}

void basis_hadamard(size_t n, double *q)
{
    size_t m = n;
    struct rng rng = rng_make(0x6b657266, n);

    while (m % 2 == 0 && m > 0)
        m /= 2;
    double scale = sqrt((double)m / (double)n);
    for (size_t i = 0; i < n; i++) {
        double sign = rng_below(&rng, 2) == 0 ? scale : -scale;
        for (size_t j = 0; j < n; j++) {
            bool negative = __builtin_parityll((i / m) & (j / m));
            q[i * n + j] = (negative ? -sign : sign) * cosine(m, i % m, j % m);
        }
    }
}

int basis_principal(size_t n, double *sum, size_t k, double *q, struct err *err)
{
    double *values = malloc(n * sizeof *values);

    if (values == NULL) {
        err_set(err, ERR_MEMORY, "basis: out of memory");
        return -1;
    }
    int status = linalg_eigen(n, sum, values, err);
    /* Rows of `sum` are the directions now, the weakest first. */
    for (size_t j = 0; j < k && status == 0; j++) {
        const double *direction = sum + (n - 1 - j) * n;
        size_t largest = 0;
        for (size_t i = 1; i < n; i++)
            if (fabs(direction[i]) > fabs(direction[largest]))
                largest = i;
        for (size_t i = 0; i < n; i++)
            q[i * k + j] = direction[largest] < 0 ? -direction[i] : direction[i];
    }
    free(values);
    return status;
}

/* ---- the basis of a model ------------------------------------------------------------------- */

/* Moments of the stream before the gains: h[n][n] of x = g xhat becomes that of xhat.  Returns its
 * trace. */
static double unfold_gain(size_t n, double *h, const float *gain)
{
    double trace = 0;

    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++) {
            double both = (double)gain[i] * (double)gain[j];
            h[i * n + j] = both != 0 ? h[i * n + j] / both : i == j ? 1.0 : 0.0;
        }
        trace += h[i * n + i];
    }
    return trace;
}

/* Add a reader's moments to the sum, with a trace of 1. */
static void add_moments(size_t n, double *h, const float *gain, double *sum)
{
    double trace = unfold_gain(n, h, gain);

    for (size_t i = 0; i < n * n && trace > 0; i++)
        sum[i] += h[i] / trace;
}

static int sum_readers(const struct parent *parent, const struct calibration *calibration,
                       double *h, double *sum, struct err *err)
{
    const struct geometry *g = parent_geometry(parent);
    size_t n = g->d_model;

    memset(sum, 0, n * n * sizeof *sum);
    for (uint32_t l = 0; l < g->n_layers; l++) {
        const struct gguf_tensor *norm[2] = {parent_tensor(parent, l, TENSOR_ATTN_NORM),
                                             parent_tensor(parent, l, TENSOR_FFN_NORM)};
        for (int i = 0; i < 2; i++) {
            enum linear_site site = i == 0 ? SITE_QKV : SITE_GATE_UP;
            if (norm[i] == NULL)
                continue;
            if (calibration_hessian(calibration, l, site, n, h, err) != 0)
                return -1;
            add_moments(n, h, norm[i]->data, sum);
        }
    }
    if (calibration_head_hessian(calibration, h, err) != 0)
        return -1;
    add_moments(n, h, parent_out_norm(parent)->data, sum);
    return 0;
}

/* q[d][k] turned inside its own space by a Hadamard matrix of k. */
static int turn(size_t d, size_t k, double *q, struct err *err)
{
    double *hadamard = malloc(k * k * sizeof *hadamard);
    double *before = malloc(d * k * sizeof *before);
    int status = hadamard != NULL && before != NULL ? 0 : -1;

    if (status == 0) {
        basis_hadamard(k, hadamard);
        memcpy(before, q, d * k * sizeof *q);
        linalg_dgemm_nn(d, k, k, 1, before, k, hadamard, k, 0, q, k);
    } else {
        err_set(err, ERR_MEMORY, "basis: out of memory");
    }
    free(before);
    free(hadamard);
    return status;
}

static int find_directions(struct basis *basis, const struct parent *parent,
                           const struct calibration *calibration, struct err *err)
{
    size_t d = basis->d_model;
    double *h = malloc(d * d * sizeof *h), *sum = malloc(d * d * sizeof *sum);
    int status = h != NULL && sum != NULL ? 0 : -1;

    if (status != 0)
        err_set(err, ERR_MEMORY, "basis: out of memory");
    else
        status = sum_readers(parent, calibration, h, sum, err);
    if (status == 0)
        status = basis_principal(d, sum, basis->hidden, basis->q, err);
    free(sum);
    free(h);
    return status;
}

int basis_init(struct basis *basis, const struct parent *parent,
               const struct calibration *calibration, uint32_t hidden, enum rotation rotation,
               struct err *err)
{
    size_t d = parent_geometry(parent)->d_model;
    int status = 0;

    assert(hidden >= 1 && hidden <= d);
    *basis = (struct basis){.d_model = (uint32_t)d, .hidden = hidden, .rotation = rotation};
    basis->q = calloc(d * hidden, sizeof *basis->q);
    if (basis->q == NULL) {
        err_set(err, ERR_MEMORY, "basis: out of memory");
        return -1;
    }
    if (hidden == d && rotation == ROTATION_HADAMARD) {
        basis_hadamard(d, basis->q);
    } else if (hidden == d) {
        for (size_t i = 0; i < d; i++)
            basis->q[i * d + i] = 1;
    } else {
        status = find_directions(basis, parent, calibration, err);
        if (status == 0 && rotation == ROTATION_HADAMARD)
            status = turn(d, hidden, basis->q, err);
    }
    if (status != 0)
        basis_fini(basis);
    return status;
}

void basis_fini(struct basis *basis)
{
    free(basis->q);
    memset(basis, 0, sizeof *basis);
}

/* ---- readers -------------------------------------------------------------------------------- */

static double trace_of(size_t n, const double *a)
{
    double trace = 0;

    for (size_t i = 0; i < n; i++)
        trace += a[i * n + i];
    return trace;
}

/* map = (H + share) Q (Q'(H + share) Q)^-1; in `map` stands H Q, in `work` there is room for a
 * square of `hidden`. */
static int solve_map(const struct basis *basis, double mean_square, const double *moment,
                     uint64_t n_tokens, double *map, double *work, struct err *err)
{
    size_t d = basis->d_model, k = basis->hidden;
    double ridge = obs_damping(k, n_tokens) * mean_square;

    /* Nothing was ever heard: the plain projection. */
    if (!(ridge > 0))
        ridge = 1;
    memcpy(work, moment, k * k * sizeof *work);
    for (size_t i = 0; i < k; i++)
        work[i * k + i] += ridge;
    for (size_t i = 0; i < d * k; i++)
        map[i] += ridge * basis->q[i];
    return linalg_solve_spd_rows(k, work, d, map, err);
}

/* Root mean square of the gains; 1 where all of them are 0. */
static double size_of_gains(size_t d, const float *gain)
{
    double square = 0;

    for (size_t i = 0; i < d; i++)
        square += (double)gain[i] * gain[i];
    return square > 0 ? sqrt(square / (double)d) : 1;
}

int basis_reader_init(struct basis_reader *reader, const struct basis *basis, double *moments,
                      const float *mean, const float *gain, uint64_t n_tokens, struct err *err)
{
    size_t d = basis->d_model, k = basis->hidden;
    double trace = unfold_gain(d, moments, gain), size = size_of_gains(d, gain), ratio = 1;
    double *work = malloc(k * k * sizeof *work);
    int status = 0;

    memset(reader, 0, sizeof *reader);
    reader->map = malloc(d * k * sizeof *reader->map);
    reader->moment = malloc(k * k * sizeof *reader->moment);
    reader->mean = calloc(k, sizeof *reader->mean);
    if (work == NULL || reader->map == NULL || reader->moment == NULL || reader->mean == NULL) {
        err_set(err, ERR_MEMORY, "basis: out of memory");
        status = -1;
        goto done;
    }
    linalg_dgemm_nn(d, k, d, 1, moments, d, basis->q, k, 0, reader->map, k);
    linalg_dgemm_tn(k, k, d, 1, basis->q, k, reader->map, k, 0, reader->moment, k);
    if (k == d) {
        memcpy(reader->map, basis->q, d * k * sizeof *reader->map);
    } else {
        double kept = trace_of(k, reader->moment);
        ratio = trace > 0 && kept > 0 ? sqrt(kept / trace * (double)d / (double)k) : 1;
        if (basis->projects)
            memcpy(reader->map, basis->q, d * k * sizeof *reader->map);
        else
            status = solve_map(basis, trace / (double)d, reader->moment, n_tokens, reader->map,
                               work, err);
        if (status != 0)
            goto done;
    }
    for (size_t i = 0; i < d; i++) {
        double before = gain[i] != 0 ? (double)mean[i] / (double)gain[i] : 0;
        for (size_t j = 0; j < k; j++) {
            reader->mean[j] += size * basis->q[i * k + j] * before;
            reader->map[i * k + j] *= (double)gain[i] / size;
        }
    }
    for (size_t i = 0; i < k * k; i++)
        reader->moment[i] *= size * size;
    reader->gain = (float)(size * ratio);
done:
    free(work);
    if (status != 0)
        basis_reader_fini(reader);
    return status;
}

void basis_reader_fini(struct basis_reader *reader)
{
    free(reader->map);
    free(reader->moment);
    free(reader->mean);
    memset(reader, 0, sizeof *reader);
}
