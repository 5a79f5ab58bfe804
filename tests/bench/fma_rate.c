#include "tests/bench/fma_rate.h"

#if defined(__x86_64__)
#include <immintrin.h>

enum { SUMS = 16 };

static volatile float sink; /* keeps sums from being optimized away */

__attribute__((target("avx512f"))) static void burst_512(size_t n)
{
    __m512 sum[SUMS], x = _mm512_set1_ps(0.5f), total = _mm512_setzero_ps();
    for (int k = 0; k < SUMS; k++)
        sum[k] = _mm512_set1_ps((float)k);
    for (size_t i = 0; i < n; i++)
#pragma GCC unroll 16
        for (int k = 0; k < SUMS; k++)
            sum[k] = _mm512_fmadd_ps(sum[k], x, x);
    for (int k = 0; k < SUMS; k++)
        total = _mm512_add_ps(total, sum[k]);
    sink = _mm512_cvtss_f32(total);
}

__attribute__((target("avx2,fma"))) static void burst_256(size_t n)
{
    __m256 sum[SUMS - 2], x = _mm256_set1_ps(0.5f), total = _mm256_setzero_ps();
    for (int k = 0; k < SUMS - 2; k++)
        sum[k] = _mm256_set1_ps((float)k);
    for (size_t i = 0; i < n; i++)
#pragma GCC unroll 16
        for (int k = 0; k < SUMS - 2; k++)
            sum[k] = _mm256_fmadd_ps(sum[k], x, x);
    for (int k = 0; k < SUMS - 2; k++)
        total = _mm256_add_ps(total, sum[k]);
    sink = _mm256_cvtss_f32(total);
}

double fma_burst(enum isa isa, double n)
{
    size_t lanes = isa >= ISA_AVX512 ? 16 : 8, sums = isa >= ISA_AVX512 ? SUMS : SUMS - 2;
    size_t rounds = (size_t)(n / (double)(2 * lanes * sums)) + 1;
    if (isa == ISA_REF)
        return 0;
    (isa >= ISA_AVX512 ? burst_512 : burst_256)(rounds);
    return (double)(2 * lanes * sums * rounds);
}
#else
double fma_burst(enum isa isa, double n)
{
    (void)isa;
    (void)n;
    return 0;
}
#endif
