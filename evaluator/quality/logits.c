/* logits.c - sums of exponentials over a vocabulary, eight values at a time.
 * The eight lanes of a sum are joined in a fixed order.  The loops are compiled once for any
 * processor and once for those with wide registers: without fused operations (the build forbids
 * them) both give the same bits. */
#include "evaluator/quality/logits.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define LANES  8
#define INLINE static inline __attribute__((always_inline))

/* Passed by pointer only: how vectors are passed by value depends on the processor. */
typedef double doubles __attribute__((vector_size(64)));
typedef int64_t words __attribute__((vector_size(64)));
typedef float floats __attribute__((vector_size(32)));

#if defined(__x86_64__)
#define WIDE __attribute__((target("avx512f,avx512dq")))
static bool have_wide(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq");
}
#else
#define WIDE
static bool have_wide(void)
{
    return false;
}
#endif

/* exp(x) for x <= 0: 2^k * exp(r) with r in [-ln(2)/2, ln(2)/2], a Taylor sum of degree 11. */
INLINE void exp_below(doubles *x)
{
    const doubles shift = {0}, least = shift - 700.0;
    /* All ones where true.  So far below zero is zero to any purpose; a NaN is not below. */
    words below = *x < least;
    doubles y = (doubles)(((words)*x & ~below) | ((words)least & below));
    /* Adding 1.5 * 2^52 leaves the nearest integer in the low bits. */
    doubles shifted = y * 0x1.71547652b82fep0 + 0x1.8p52;
    doubles k = shifted - 0x1.8p52;
    doubles r = (y - k * 0x1.62e42fefa4000p-1) + k * 0x1.8432a1b0e2634p-43;
    doubles sum = r * (1.0 / 39916800) + 1.0 / 3628800;

    sum = sum * r + 1.0 / 362880;
    sum = sum * r + 1.0 / 40320;
    sum = sum * r + 1.0 / 5040;
    sum = sum * r + 1.0 / 720;
    sum = sum * r + 1.0 / 120;
    sum = sum * r + 1.0 / 24;
    sum = sum * r + 1.0 / 6;
    sum = sum * r + 0.5;
    sum = sum * r + 1.0;
    sum = sum * r + 1.0;
    /* Times 2^k by way of the exponent: k sits in the low bits of `shifted`. */
    words power = ((words)shifted << 52) + 0x3ff0000000000000;
    *x = sum * (doubles)power;
}

/* Up to eight values; what is missing becomes -infinity, whose exponential is as good as zero. */
INLINE void load(doubles *to, const float *x, size_t n)
{
    floats part;

    if (n >= LANES) {
        memcpy(&part, x, sizeof part);
    } else {
        float few[LANES];
        for (size_t j = 0; j < LANES; j++)
            few[j] = j < n ? x[j] : -INFINITY;
        memcpy(&part, few, sizeof part);
    }
    *to = __builtin_convertvector(part, doubles);
}

INLINE double join(const doubles *part)
{
    const doubles p = *part;

    return ((p[0] + p[1]) + (p[2] + p[3])) + ((p[4] + p[5]) + (p[6] + p[7]));
}

INLINE double sum_body(const float *x, size_t n, double max)
{
    doubles sum = {0}, part;

    for (size_t i = 0; i < n; i += LANES) {
        load(&part, x + i, n - i);
        part -= max;
        exp_below(&part);
        sum += part;
    }
    return join(&sum);
}

INLINE double gap_body(const float *p, double p_sum, const float *q, double q_sum, size_t n)
{
    doubles sum = {0}, log_p, log_q, part;
    size_t whole = n - n % LANES;

    for (size_t i = 0; i < whole; i += LANES) {
        load(&log_p, p + i, LANES);
        load(&log_q, q + i, LANES);
        log_p -= p_sum;
        log_q -= q_sum;
        part = log_p;
        exp_below(&part);
        sum += part * (log_p - log_q);
    }
    /* The rest one by one: a missing pair would be infinity minus infinity. */
    for (size_t i = whole; i < n; i++) {
        double log_one = (double)p[i] - p_sum;
        part = (doubles){0} + log_one;
        exp_below(&part);
        sum[i - whole] += part[0] * (log_one - ((double)q[i] - q_sum));
    }
    return join(&sum);
}

static double sum_any(const float *x, size_t n, double max)
{
    return sum_body(x, n, max);
}

WIDE static double sum_wide(const float *x, size_t n, double max)
{
    return sum_body(x, n, max);
}

static double gap_any(const float *p, double p_sum, const float *q, double q_sum, size_t n)
{
    return gap_body(p, p_sum, q, q_sum, n);
}

WIDE static double gap_wide(const float *p, double p_sum, const float *q, double q_sum, size_t n)
{
    return gap_body(p, p_sum, q, q_sum, n);
}

/* Position of the largest, the first of equals. */
static uint32_t largest(const float *x, uint32_t n)
{
    float part[2 * LANES], max;
    uint32_t i;

    /* Without branches first, then a look for where it is. */
    for (uint32_t j = 0; j < 2 * LANES; j++)
        part[j] = x[0];
    for (i = 0; i + 2 * LANES <= n; i += 2 * LANES)
        for (uint32_t j = 0; j < 2 * LANES; j++)
            part[j] = x[i + j] > part[j] ? x[i + j] : part[j];
    max = part[0];
    for (uint32_t j = 1; j < 2 * LANES; j++)
        max = part[j] > max ? part[j] : max;
    for (; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (i = 0; i < n - 1 && x[i] != max; i++)
        ;
    return i;
}

double logits_log_sum(const float *x, uint32_t n, uint32_t *best)
{
    uint32_t top = largest(x, n);
    double max = (double)x[top];

    if (best != NULL)
        *best = top;
    return max + log((have_wide() ? sum_wide : sum_any)(x, n, max));
}

double logits_divergence(const float *parent, double parent_log_sum, const float *x, double log_sum,
                         uint32_t n)
{
    double sum = (have_wide() ? gap_wide : gap_any)(parent, parent_log_sum, x, log_sum, n);

    /* Rounding may leave a trace below zero where the rows are equal. */
    return sum < 0 ? 0 : sum;
}
