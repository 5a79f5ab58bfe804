/* tile_avx512.c - several columns times packed rows; of many, bound by vpdpbusd.
 *
 * Sixteen rows are unpacked together, at most 1024 weights each, into a tile (tile_fill_avx512.h).
 * Multiplying a register of it, four weights of each row, with four activations of one column,
 * broadcast, gives partial sums for sixteen rows: no sum over lanes is ever needed, scales of the
 * rows are one register, and the tile serves every column, eight at a time. */
#include "evaluator/kernels/int8_avx512.h"
#include "evaluator/kernels/strips_avx512.h"

/* ---- multiplying a tile ---- */

INLINE __m512i four_q(const struct columns *a, int c, size_t at)
{
    return _mm512_set1_epi32((int)load_u32(a->q + (size_t)c * a->apart + at));
}

INLINE __m512i two_sums(const struct columns *a, int c, size_t pair)
{
    return _mm512_set1_epi32((int)load_u32(a->sums + (size_t)c * a->apart + 4 * pair));
}

INLINE __m512 factor(const struct columns *a, int c, size_t i)
{
    float d;
    memcpy(&d, a->d + (size_t)c * a->apart + i * sizeof d, sizeof d);
    return _mm512_set1_ps(d);
}

/* sum[c] over one group: `n_steps` steps of four weights, from `start` on. */
INLINE void group_dot(const uint8_t (*codes)[ROWS][4], const struct columns *a, size_t at,
                      int n_steps, int n, __m512i sum[8])
{
#pragma GCC unroll 8
    for (int s = 0; s < n_steps; s++) {
        __m512i w = _mm512_load_si512(codes[s]);
#pragma GCC unroll 8
        for (int c = 0; c < n; c++)
            sum[c] = _mm512_dpbusd_epi32(sum[c], w, four_q(a, c, at + 4 * (size_t)s));
    }
}

/* One block of 256 in groups of 16 or 32, with minima or with an offset. */
INLINE void block_k(const struct tile *t, size_t k, const struct columns *a, int group,
                    bool with_min, int offset, int n, __m512 total[8])
{
    __m512 block[8];
#pragma GCC unroll 8
    for (int c = 0; c < n; c++)
        block[c] = _mm512_setzero_ps();
    for (int g = 0; g < BLOCK_K / group; g++) {
        __m512i sum[8];
        /* Of a pair of sums, this group's is the lower or the upper 16 bits. */
        __m512i lift = _mm512_set1_epi32(g & 1 ? -offset * 65536 : -offset & 0xffff);
#pragma GCC unroll 8
        for (int c = 0; c < n; c++)
            sum[c] = offset == 0 ? _mm512_setzero_si512()
                                 : _mm512_dpwssd_epi32(_mm512_setzero_si512(), lift,
                                                       two_sums(a, c, k * PAIRS + (size_t)g / 2));
        group_dot(&t->codes[k][g * group / 4], a, k * BLOCK_K + (size_t)(g * group), group / 4, n,
                  sum);
        __m512 scale = _mm512_load_ps(t->scale[k][g]);
#pragma GCC unroll 8
        for (int c = 0; c < n; c++)
            block[c] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[c]), scale, block[c]);
    }
    if (with_min) {
        __m512i sum[8];
#pragma GCC unroll 8
        for (int c = 0; c < n; c++)
            sum[c] = _mm512_setzero_si512();
        for (size_t i = 0; i < PAIRS; i++) {
            __m512i minima = _mm512_load_si512(t->minima[k][i]);
#pragma GCC unroll 8
            for (int c = 0; c < n; c++)
                sum[c] = _mm512_dpwssd_epi32(sum[c], minima, two_sums(a, c, k * PAIRS + i));
        }
        __m512 dmin = _mm512_load_ps(t->dmin[k]);
#pragma GCC unroll 8
        for (int c = 0; c < n; c++)
            block[c] = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(sum[c]), dmin, block[c]);
    }
#pragma GCC unroll 8
    for (int c = 0; c < n; c++)
        total[c] = _mm512_fmadd_ps(block[c], factor(a, c, k), total[c]);
}

/* One 32-block. */
INLINE void block_32(const struct tile *t, size_t b, const struct columns *a, int offset, int n,
                     __m512 total[8])
{
    __m512i sum[8], lift = _mm512_set1_epi16((short)-offset);
#pragma GCC unroll 8
    for (int c = 0; c < n; c++)
        sum[c] = _mm512_dpwssd_epi32(_mm512_setzero_si512(), lift, two_sums(a, c, b));
    group_dot(&t->codes[b / 8][b % 8 * 8], a, b * BLOCK_32, 8, n, sum);
    __m512 scale = _mm512_load_ps(t->scale[b / 8][b % 8]);
#pragma GCC unroll 8
    for (int c = 0; c < n; c++) {
        __m512 both = _mm512_mul_ps(scale, factor(a, c, b));
        total[c] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[c]), both, total[c]);
    }
}

/* `n` columns, added to out unless this is the first tile of the rows. */
INLINE void multiply(struct kind kind, const struct tile *t, size_t n_weights,
                     const struct columns *a, int n, bool first, __mmask16 mask, float *out,
                     size_t out_stride)
{
    __m512 total[8];
#pragma GCC unroll 8
    for (int c = 0; c < n; c++)
        total[c] =
            first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask, out + (size_t)c * out_stride);
    if (kind.group == 0)
        for (size_t b = 0; b < n_weights / BLOCK_32; b++)
            block_32(t, b, a, kind.offset, n, total);
    else
        for (size_t k = 0; k < n_weights / BLOCK_K; k++)
            block_k(t, k, a, kind.group, kind.min, kind.offset, n, total);
#pragma GCC unroll 8
    for (int c = 0; c < n; c++)
        _mm512_mask_storeu_ps(out + (size_t)c * out_stride, mask, total[c]);
}

INLINE void multiply_all(struct kind kind, const struct tile *t, size_t n_weights, struct columns a,
                         size_t n_cols, bool first, __mmask16 mask, float *out, size_t out_stride)
{
#define TAKE(n)                                                                                    \
    for (; n_cols >= (n); n_cols -= (n)) {                                                         \
        multiply(kind, t, n_weights, &a, n, first, mask, out, out_stride);                         \
        a.q += (n)*a.apart;                                                                        \
        a.sums += (n)*a.apart;                                                                     \
        a.d += (n)*a.apart;                                                                        \
        out += (n)*out_stride;                                                                     \
    }
    TAKE(8)
    TAKE(4)
    TAKE(2)
    TAKE(1)
#undef TAKE
}

KINDS(MULTIPLY)

#define TILE(name, ...) STRIPS(tile_##name##_avx512, __VA_ARGS__)
TILES(TILE)
