/* moments_avx2.c - second moments, four tiles of 4 x 12 doubles one after another: twelve sums,
 * three of b and one of a fill the sixteen registers. */
#include "evaluator/kernels/kernel_sets.h"

#include <immintrin.h>

enum { ROWS = 4, VECTORS = 3, LANES = 4 };

/* Products of numbers that were floats are exact in double, so the fused addition rounds as a
 * separate one would. */
static void tile(const double *a, const double *b, size_t n_rows, double *c, size_t c_stride)
{
    __m256d sum[ROWS][VECTORS];

#pragma GCC unroll 4
    for (size_t i = 0; i < ROWS; i++)
#pragma GCC unroll 3
        for (size_t v = 0; v < VECTORS; v++)
            sum[i][v] = _mm256_loadu_pd(c + i * c_stride + v * LANES);
    for (size_t t = 0; t < n_rows; t++, a += MOMENTS_PANEL, b += MOMENTS_PANEL) {
        __m256d x[VECTORS];
#pragma GCC unroll 3
        for (size_t v = 0; v < VECTORS; v++)
            x[v] = _mm256_loadu_pd(b + v * LANES);
#pragma GCC unroll 4
        for (size_t i = 0; i < ROWS; i++) {
            __m256d y = _mm256_broadcast_sd(a + i);
#pragma GCC unroll 3
            for (size_t v = 0; v < VECTORS; v++)
                sum[i][v] = _mm256_fmadd_pd(y, x[v], sum[i][v]);
        }
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < ROWS; i++)
#pragma GCC unroll 3
        for (size_t v = 0; v < VECTORS; v++)
            _mm256_storeu_pd(c + i * c_stride + v * LANES, sum[i][v]);
}

static void moments_avx2(const double *a, const double *b, size_t n_rows, double *c,
                         size_t c_stride)
{
    for (size_t i = 0; i < MOMENTS_STRIP; i += ROWS)
        for (size_t j = 0; j < MOMENTS_PANEL; j += (size_t)VECTORS * LANES)
            tile(a + i, b + j, n_rows, c + i * c_stride + j, c_stride);
}

void moments_avx2_fill(struct kernels *set)
{
    set->moments = moments_avx2;
}
