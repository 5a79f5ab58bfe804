/* kernel_fixture.h - a random product and its true answer, for the tests of kernels. */
#ifndef KERF_TEST_KERNEL_FIXTURE_H
#define KERF_TEST_KERNEL_FIXTURE_H

#include "evaluator/kernels/act_pack.h"
#include "space/base/rng.h"

#include <stdlib.h>

enum { GAP = 5 }; /* floats between the columns of a result */

static inline void *get(size_t bytes)
{
    void *p = malloc(bytes);
    if (p == NULL)
        exit(1);
    return p;
}

/* Legal random rows: any bytes, but factors of ordinary size, some negative. */
static inline void random_rows(enum format format, uint8_t *w, size_t n_weights, struct rng *rng)
{
    size_t block = format_block(format), bytes = format_block_bytes(format);
    bool two = format == FORMAT_Q2_K || format == FORMAT_Q4_K || format == FORMAT_Q5_K;
    bool last = format == FORMAT_Q2_K || format == FORMAT_Q3_K || format == FORMAT_Q6_K;
    for (size_t b = 0; b < n_weights / block; b++) {
        uint8_t *p = w + b * bytes;
        float v = (float)rng_normal(rng), d = (float)(0.01 * rng_normal(rng));
        uint16_t half = format == FORMAT_F16 ? kernels_f32_to_f16(v) : kernels_f32_to_bf16(v);
        if (block == 1) {
            memcpy(p, bytes == 2 ? (void *)&half : (void *)&v, bytes);
            continue;
        }
        for (size_t i = 0; i < bytes; i++)
            p[i] = (uint8_t)rng_u32(rng);
        half = kernels_f32_to_f16(d);
        memcpy(last ? p + bytes - (two ? 4 : 2) : p, &half, sizeof half);
        half = kernels_f32_to_f16(fabsf(d));
        if (two)
            memcpy(last ? p + bytes - 2 : p + 2, &half, sizeof half);
    }
}

struct problem {
    enum format format;
    enum act_format act;
    size_t n_rows, n_in, n_cols, row_bytes, act_bytes, stride;
    uint8_t *w_memory, *w; /* w lies 2 bytes off any larger alignment */
    float *x;              /* [n_cols][n_in] */
    uint8_t *packed;
};

static inline void problem_init(struct problem *p, enum format format, enum act_format act,
                                size_t n_rows, size_t n_in, size_t n_cols, struct rng *rng)
{
    *p = (struct problem){
        .format = format, .act = act, .n_rows = n_rows, .n_in = n_in, .n_cols = n_cols};
    p->row_bytes = format_row_bytes(format, n_in);
    p->act_bytes = kernels_act_bytes(format, act, n_in);
    p->stride = n_rows + GAP;
    /* Exactly as large as the rows: the address sanitizer sees any byte read beyond. */
    p->w_memory = get(2 + n_rows * p->row_bytes);
    p->w = p->w_memory + 2;
    p->x = get(n_cols * n_in * sizeof(float));
    p->packed = get(n_cols * p->act_bytes);
    random_rows(format, p->w, n_rows * n_in, rng);
    for (size_t i = 0; i < n_cols * n_in; i++)
        p->x[i] = (float)rng_normal(rng);
}

static inline void problem_fini(struct problem *p)
{
    free(p->w_memory);
    free(p->x);
    free(p->packed);
}

/* The product in double from unpacked weights and the activations that were really used, with the
 * sum of magnitudes: of each weight before its minimum is subtracted. */
static inline double exact(const struct problem *p, size_t r, size_t c, double *magnitude)
{
    size_t block = format_block(p->format), bytes = format_block_bytes(p->format);
    struct act_view v = {0};
    if (p->act == ACT_Q8)
        v = act_view(p->packed + c * p->act_bytes, p->n_in, block);
    double sum = 0;
    *magnitude = 0;
    for (size_t i = 0; i < p->n_in; i++) {
        double x =
            p->act == ACT_Q8 ? (double)v.d[i / block] * v.q[i] : (double)p->x[c * p->n_in + i];
        const uint8_t *b = p->w + r * p->row_bytes + i / block * bytes;
        if (block == 1) {
            float w;
            kernels_reference()->unpack[p->format](b, 1, &w);
            sum += (double)w * x;
            *magnitude += fabs((double)w * x);
        } else {
            static struct exploded e;
            if (i % block == 0)
                block_explode(p->format, b, &e);
            size_t k = i % block, g = k / GROUP;
            double product = (double)e.d * e.scale[g] * e.code[k] * x;
            double minimum = (double)e.dmin * e.min[g] * x;
            sum += product - minimum;
            *magnitude += fabs(product) + fabs(minimum);
        }
    }
    return sum;
}

/* Rounding: integer parts are exact, float partial sums within 2^-24 of their size each; the worst
 * chain here has some 200 additions, errors of random sign.  2^-24 * 64 = 4e-6 of the magnitudes is
 * never reached and any wrong code or scale exceeds it. */
static inline bool close_enough(double got, double want, double magnitude)
{
    return fabs(got - want) <= 4e-6 * magnitude + 1e-30;
}

static inline bool matches(const struct kernels *set, struct problem *p, bool *guarded)
{
    const struct kernels *ref = kernels_reference();
    float *out = get(p->n_cols * p->stride * sizeof *out);
    float *want = get(p->n_cols * p->stride * sizeof *want);
    bool good = true;
    for (size_t c = 0; c < p->n_cols; c++)
        set->pack[p->format][p->act](p->x + c * p->n_in, p->n_in, p->packed + c * p->act_bytes);
    for (size_t i = 0; i < p->n_cols * p->stride; i++)
        out[i] = want[i] = NAN;
    set->matmul[p->format][p->act](p->w, p->row_bytes, p->n_rows, p->n_in, p->packed, p->act_bytes,
                                   p->n_cols, out, p->stride);
    ref->matmul[p->format][p->act](p->w, p->row_bytes, p->n_rows, p->n_in, p->packed, p->act_bytes,
                                   p->n_cols, want, p->stride);
    for (size_t c = 0; c < p->n_cols; c++) {
        for (size_t r = 0; r < p->stride; r++) {
            float got = out[c * p->stride + r];
            if (r >= p->n_rows) {
                *guarded = *guarded && isnan(got);
                continue;
            }
            double magnitude, value = exact(p, r, c, &magnitude);
            good = good && close_enough((double)got, value, magnitude) &&
                   close_enough((double)got, (double)want[c * p->stride + r], magnitude);
        }
    }
    free(out);
    free(want);
    return good;
}

/* What rounding to the largest of sixteen may change (kernels.h), on top of rounding sums. */
static inline double freedom(const struct problem *p, size_t r, size_t c)
{
    double all = 0;
    float *w = get(p->n_in * sizeof *w);
    kernels_reference()->unpack[p->format](p->w + r * p->row_bytes, p->n_in, w);
    for (size_t i = 0; i < p->n_in; i += GROUP) {
        double largest = 0, weights = 0;
        for (size_t k = i; k < i + GROUP; k++) {
            largest = fmax(largest, fabs((double)p->x[c * p->n_in + k]));
            weights += fabs((double)w[k]);
        }
        all += weights * fmax(largest * 0x1p-22, 0x1p-123);
    }
    free(w);
    return all;
}

#endif
