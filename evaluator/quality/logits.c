/* logits.c - sums of exponentials over a vocabulary, eight values at a time.
 * The eight lanes of a sum are joined in a fixed order.  The loops are compiled for any processor,
 * for those that multiply and add in one instruction, and for those with wide registers: every
 * product that is added is fused, in software where need be, so that all give the same bits. */
#include "evaluator/quality/logits.h"

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#define LANES  8
#define INLINE static inline __attribute__((always_inline))

/* Passed by pointer only: how vectors are passed by value depends on the processor. */
typedef double doubles __attribute__((vector_size(64)));
typedef int64_t words __attribute__((vector_size(64)));
typedef float floats __attribute__((vector_size(32)));

/* c = a b + c, rounded once. */
INLINE void fuse(const doubles *a, const doubles *b, doubles *c)
{
    for (int j = 0; j < LANES; j++)
        (*c)[j] = __builtin_fma((*a)[j], (*b)[j], (*c)[j]);
}

/* exp(x) for x <= 0: 2^k * exp(r) with r in [-ln(2)/2, ln(2)/2], a Taylor sum of degree 11. */
INLINE void exp_below(doubles *x)
{
    static const double coefficient[] = {1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040,
                                         1.0 / 720,     1.0 / 120,    1.0 / 24,    1.0 / 6,
                                         0.5,           1.0,          1.0};
    const doubles zero = {0}, least = zero - 700.0, shift = zero + 0x1.8p52;
    const doubles log2_e = zero + 0x1.71547652b82fep0;
    const doubles minus_ln2 = zero - 0x1.62e42fefa4000p-1, rest = zero + 0x1.8432a1b0e2634p-43;
    /* All ones where true.  So far below zero is zero to any purpose; a NaN is not below. */
    words below = *x < least;
    doubles r = (doubles)(((words)*x & ~below) | ((words)least & below));
    /* Adding 1.5 * 2^52 leaves the nearest integer in the low bits. */
    doubles shifted = shift, sum = zero + 1.0 / 39916800;
    fuse(&r, &log2_e, &shifted);
    doubles k = shifted - shift;
    fuse(&k, &minus_ln2, &r);
    fuse(&k, &rest, &r);
#pragma GCC unroll 11
    for (int i = 0; i < 11; i++) {
        doubles next = zero + coefficient[i];
        fuse(&sum, &r, &next);
        sum = next;
    }
    /* Times 2^k by way of the exponent: k sits in the low bits of `shifted`. */
    words power = ((words)shifted << 52) + 0x3ff0000000000000;
    *x = sum * (doubles)power;
}

/* Up to eight values; what is missing is so small that its exponential is as good as zero, and
 * equal in every row. */
INLINE void load(doubles *to, const float *x, size_t n)
{
    floats part;

    if (n >= LANES) {
        memcpy(&part, x, sizeof part);
    } else {
        float few[LANES];
        for (size_t j = 0; j < LANES; j++)
            few[j] = j < n ? x[j] : -FLT_MAX;
        memcpy(&part, few, sizeof part);
    }
    *to = __builtin_convertvector(part, doubles);
}

INLINE double join(const doubles *part)
{
    const doubles p = *part;

    return ((p[0] + p[1]) + (p[2] + p[3])) + ((p[4] + p[5]) + (p[6] + p[7]));
}

/* Position of the largest, the first of equals. */
INLINE uint32_t largest(const float *x, uint32_t n)
{
    enum { STEP = 4 * LANES };
    float part[STEP], max;
    uint32_t i, at = 0;

    /* Without branches first, then a look for where it is. */
    for (uint32_t j = 0; j < STEP; j++)
        part[j] = x[0];
    for (i = 0; i + STEP <= n; i += STEP)
        for (uint32_t j = 0; j < STEP; j++)
            part[j] = x[i + j] > part[j] ? x[i + j] : part[j];
    max = part[0];
    for (uint32_t j = 1; j < STEP; j++)
        max = part[j] > max ? part[j] : max;
    for (; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (; at + STEP <= n; at += STEP) {
        const float *block = x + at;
        int32_t found = 0;
        for (size_t j = 0; j < STEP; j++)
            found |= block[j] == max ? -1 : 0;
        if (found != 0)
            break;
    }
    for (; at < n - 1 && x[at] != max; at++)
        ;
    return at;
}

INLINE double sum_body(const float *x, uint32_t n, uint32_t *best)
{
    doubles sum = {0}, part;

    *best = largest(x, n);
    double max = (double)x[*best];
    for (size_t i = 0; i < n; i += LANES) {
        load(&part, x + i, n - i);
        part -= max;
        exp_below(&part);
        sum += part;
    }
    return max + log(join(&sum));
}

/* With a_v = exp(parent_v - max) = Z p_v:
 *   KLD = sum_v a_v (parent_v - x_v) / Z - log sum of the parent + log sum of x */
INLINE void pair_body(const float *parent, const float *x, uint32_t n, struct logits_pair *pair)
{
    doubles parent_sum = {0}, sum = {0}, gap = {0}, p, q, difference;

    pair->parent_best = largest(parent, n);
    pair->best = largest(x, n);
    double parent_max = (double)parent[pair->parent_best], max = (double)x[pair->best];
    for (size_t i = 0; i < n; i += LANES) {
        load(&p, parent + i, n - i);
        load(&q, x + i, n - i);
        difference = p - q;
        p -= parent_max;
        q -= max;
        exp_below(&p);
        exp_below(&q);
        parent_sum += p;
        sum += q;
        fuse(&p, &difference, &gap);
    }
    double z = join(&parent_sum);
    pair->parent_log_sum = parent_max + log(z);
    pair->log_sum = max + log(join(&sum));
    double kld = join(&gap) / z - (pair->parent_log_sum - pair->log_sum);
    /* Rounding may leave a trace below zero where the rows are nearly equal. */
    pair->kld = kld < 0 ? 0 : kld;
}

/* ---- once for each kind of processor -------------------------------------------------------- */

#define COMPILED(name, attribute)                                                                  \
    attribute static double sum_##name(const float *x, uint32_t n, uint32_t *best)                 \
    {                                                                                              \
        return sum_body(x, n, best);                                                               \
    }                                                                                              \
    attribute static void pair_##name(const float *parent, const float *x, uint32_t n,             \
                                      struct logits_pair *pair)                                    \
    {                                                                                              \
        pair_body(parent, x, n, pair);                                                             \
    }
COMPILED(any, )

#if defined(__x86_64__)
COMPILED(fused, __attribute__((target("avx2,fma"))))
COMPILED(wide, __attribute__((target("avx512f,avx512dq,avx512vl,fma"))))

static bool have_fused(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool have_wide(void)
{
    return have_fused() && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#else
#define sum_fused  sum_any
#define sum_wide   sum_any
#define pair_fused pair_any
#define pair_wide  pair_any
static bool have_fused(void)
{
    return false;
}

static bool have_wide(void)
{
    return false;
}
#endif

double logits_log_sum(const float *x, uint32_t n, uint32_t *best)
{
    uint32_t at;
    double sum = (have_wide() ? sum_wide : have_fused() ? sum_fused : sum_any)(x, n, &at);

    if (best != NULL)
        *best = at;
    return sum;
}

void logits_compare(const float *parent, const float *x, uint32_t n, struct logits_pair *pair)
{
    (have_wide() ? pair_wide : have_fused() ? pair_fused : pair_any)(parent, x, n, pair);
}
