/* decode_avx512.h - what the AVX-512 decode kernels share; for their files only. */
#ifndef KERF_DECODE_AVX512_H
#define KERF_DECODE_AVX512_H

#include "evaluator/kernels/codes_avx512.h"
#include "evaluator/kernels/int8_avx512.h"
#include "evaluator/kernels/meeting.h"

enum { AHEAD = 1536 };

/* Of one row: sums of products, sums that belong to minima or offsets. */
struct row_sum {
    __m512 main;
    __m256 side;
};

INLINE void prefetch(const uint8_t *p, int bytes)
{
    for (int i = 0; i < bytes; i += 64)
        _mm_prefetch((const char *)p + AHEAD + i, _MM_HINT_T0);
}

/* 16 bytes each at p, p + apart, ..., one in each 128-bit lane. */
INLINE __m512i four_lanes(const uint8_t *p, size_t apart)
{
    __m512i x = _mm512_castsi128_si512(_mm_loadu_si128((const void *)p));
    x = _mm512_inserti32x4(x, _mm_loadu_si128((const void *)(p + apart)), 1);
    x = _mm512_inserti32x4(x, _mm_loadu_si128((const void *)(p + 2 * apart)), 2);
    return _mm512_inserti32x4(x, _mm_loadu_si128((const void *)(p + 3 * apart)), 3);
}

/* Each all over its 128-bit lane. */
INLINE __m512i by_lane(int a, int b, int c, int d)
{
    return _mm512_set_epi32(d, d, d, d, c, c, c, c, b, b, b, b, a, a, a, a);
}

INLINE __m256 row_lanes(const struct row_sum *r)
{
    __m256 low = _mm512_castps512_ps256(r->main), high = _mm512_extractf32x8_ps(r->main, 1);
    return _mm256_add_ps(_mm256_add_ps(low, high), r->side);
}

/* Sums over lanes, of four rows at once: short rows would otherwise spend a good part of their time
 * here.  The first `n` are wanted. */
INLINE void rows_store(const struct row_sum sum[STREAMS], int n, float *out, size_t apart)
{
    __m256 all = _mm256_hadd_ps(_mm256_hadd_ps(row_lanes(&sum[0]), row_lanes(&sum[1])),
                                _mm256_hadd_ps(row_lanes(&sum[2]), row_lanes(&sum[3])));
    __m128 totals = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
    float total[4];
    _mm_storeu_ps(total, totals);
    for (int i = 0; i < n; i++)
        out[(size_t)i * apart] = total[i];
}

#endif
