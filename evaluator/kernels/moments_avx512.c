/* moments_avx512.c - second moments, one tile of 8 x 24 doubles: 24 sums and three of b in
 * registers, a read as the broadcast operand of the multiplication. */
#include "evaluator/kernels/kernel_sets.h"

#include <immintrin.h>

enum { VECTORS = MOMENTS_PANEL / 8, LANES = 8 };

/* Products of numbers that were floats are exact in double, so the fused addition rounds as a
 * separate one would. */
static void moments_avx512(const double *a, const double *b, size_t n_rows, double *c,
                           size_t c_stride)
{
    __m512d sum[MOMENTS_STRIP][VECTORS];

#pragma GCC unroll 8
    for (size_t i = 0; i < MOMENTS_STRIP; i++)
#pragma GCC unroll 3
        for (size_t v = 0; v < VECTORS; v++)
            sum[i][v] = _mm512_loadu_pd(c + i * c_stride + v * LANES);
    for (size_t t = 0; t < n_rows; t++, a += MOMENTS_PANEL, b += MOMENTS_PANEL) {
        __m512d x[VECTORS];
#pragma GCC unroll 3
        for (size_t v = 0; v < VECTORS; v++)
            x[v] = _mm512_loadu_pd(b + v * LANES);
#pragma GCC unroll 8
        for (size_t i = 0; i < MOMENTS_STRIP; i++) {
            __m512d y = _mm512_set1_pd(a[i]);
#pragma GCC unroll 3
            for (size_t v = 0; v < VECTORS; v++)
                sum[i][v] = _mm512_fmadd_pd(y, x[v], sum[i][v]);
        }
    }
#pragma GCC unroll 8
    for (size_t i = 0; i < MOMENTS_STRIP; i++)
#pragma GCC unroll 3
        for (size_t v = 0; v < VECTORS; v++)
            _mm512_storeu_pd(c + i * c_stride + v * LANES, sum[i][v]);
}

void moments_avx512_fill(struct kernels *set)
{
    set->moments = moments_avx512;
}
