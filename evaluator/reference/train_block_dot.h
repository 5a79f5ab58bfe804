/* train_block_dot.h - blocks of train_tiles.h by the bf16 dot products of AVX-512, for processors
 * without tiles.  Only for a file built with the AVX512_BF16 flags and called where they run. */
#ifndef TRAIN_BLOCK_DOT_H
#define TRAIN_BLOCK_DOT_H

#include <stdbool.h>

#include "evaluator/reference/train_tiles.h"

static inline void tile_begin(void)
{
}

static inline void tile_end(void)
{
}

/* Eight rows of a block: 16 sums in registers, each step two loads of B and eight broadcasts of a
 * pair of A for 16 dot products. */
static inline void tile_rows(size_t n_steps, const uint16_t *a, const uint16_t *b, float *c,
                             size_t ldc, bool add)
{
    __m512 sums[8][2];
#pragma GCC unroll 8
    for (size_t r = 0; r < 8; r++) {
        sums[r][0] = add ? _mm512_loadu_ps(c + r * ldc) : _mm512_setzero_ps();
        sums[r][1] = add ? _mm512_loadu_ps(c + r * ldc + 16) : _mm512_setzero_ps();
    }
    for (size_t s = 0; s < n_steps; s++, a += TILE_STEP, b += TILE_STEP) {
        for (size_t pair = 0; pair < 16; pair++) {
            __m512bh low = (__m512bh)_mm512_load_si512(b + 32 * pair);
            __m512bh high = (__m512bh)_mm512_load_si512(b + TILE_VALUES + 32 * pair);
#pragma GCC unroll 8
            for (size_t r = 0; r < 8; r++) {
                int32_t two;
                memcpy(&two, a + 32 * r + 2 * pair, sizeof two);
                __m512bh x = (__m512bh)_mm512_set1_epi32(two);
                sums[r][0] = _mm512_dpbf16_ps(sums[r][0], x, low);
                sums[r][1] = _mm512_dpbf16_ps(sums[r][1], x, high);
            }
        }
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < 8; r++) {
        _mm512_storeu_ps(c + r * ldc, sums[r][0]);
        _mm512_storeu_ps(c + r * ldc + 16, sums[r][1]);
    }
}

/* c[32][ldc] = A B over n_steps k-steps. */
static inline void tile_block(size_t n_steps, const uint16_t *a, const uint16_t *b, float *c,
                              size_t ldc)
{
    for (size_t r = 0; r < TILE_SIDE; r += 8)
        tile_rows(n_steps, a + 32 * r, b, c + r * ldc, ldc, false);
}

/* c[32][ldc] += A B. */
static inline void tile_block_add(size_t n_steps, const uint16_t *a, const uint16_t *b, float *c,
                                  size_t ldc)
{
    for (size_t r = 0; r < TILE_SIDE; r += 8)
        tile_rows(n_steps, a + 32 * r, b, c + r * ldc, ldc, true);
}

#endif
