/* logits.c - sums of exponentials over a vocabulary.
 * The exponential is written out so that the compiler can work on several values at once, and each
 * sum is kept in eight parts that are joined in a fixed order.  The loops are compiled once for any
 * processor and once for those with wide registers: without fused operations (the build forbids
 * them) both give the same bits. */
#include "evaluator/quality/logits.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define LANES 8

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
static inline __attribute__((always_inline)) double exp_below(double x)
{
    const double shift = 0x1.8p52; /* adding it leaves the nearest integer in the low bits */
    double y = x > -700.0 ? x : -700.0;
    double shifted = y * 0x1.71547652b82fep0 + shift;
    double k = shifted - shift;
    double r = (y - k * 0x1.62e42fefa4000p-1) + k * 0x1.8432a1b0e2634p-43;
    double sum = 1.0 / 39916800;
    uint64_t bits;

    sum = sum * r + 1.0 / 3628800;
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
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 52) + 0x3ff0000000000000u;
    memcpy(&k, &bits, sizeof k);
    return sum * k;
}

static inline __attribute__((always_inline)) double join(const double part[LANES])
{
    return ((part[0] + part[1]) + (part[2] + part[3])) +
           ((part[4] + part[5]) + (part[6] + part[7]));
}

static inline __attribute__((always_inline)) double sum_body(const float *x, size_t n, double max)
{
    double part[LANES] = {0};
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            part[j] += exp_below((double)x[i + j] - max);
    for (size_t j = 0; i < n; i++, j++)
        part[j] += exp_below((double)x[i] - max);
    return join(part);
}

static inline __attribute__((always_inline)) double gap_body(const float *p, double p_sum,
                                                             const float *q, double q_sum, size_t n)
{
    double part[LANES] = {0};
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++) {
            double log_p = (double)p[i + j] - p_sum;
            part[j] += exp_below(log_p) * (log_p - ((double)q[i + j] - q_sum));
        }
    for (size_t j = 0; i < n; i++, j++) {
        double log_p = (double)p[i] - p_sum;
        part[j] += exp_below(log_p) * (log_p - ((double)q[i] - q_sum));
    }
    return join(part);
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
