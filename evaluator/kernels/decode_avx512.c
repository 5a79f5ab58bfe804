/* decode_avx512.c - one column times rows of 32-blocks, bound by the rate at which weights arrive.
 * Eight blocks of each row are taken at a time. */
#include "evaluator/kernels/decode_avx512.h"

typedef __m512i pair_fn(const uint8_t *block, const uint8_t *next);

/* Eight blocks of activations. */
struct act_32 {
    __m512i q[4];
    __m256 d;
    __m256 offset; /* -offset * sum of q, of each block */
};

INLINE void step_32(pair_fn *pair, int bytes, const uint8_t *p, const struct act_32 *a,
                    struct row_sum *r)
{
    __m256 d = _mm256_mul_ps(factors_32(p, bytes), a->d);
    __m512 both = _mm512_castps256_ps512(d);
    r->side = _mm256_fmadd_ps(a->offset, d, r->side);
    for (int v = 0; v < 4; v++) {
        const uint8_t *first = p + 2 * v * bytes;
        __m512i dot =
            _mm512_dpbusd_epi32(_mm512_setzero_si512(), pair(first, first + bytes), a->q[v]);
        int i = 2 * v, j = 2 * v + 1;
        __m512i index = _mm512_set_epi32(j, j, j, j, j, j, j, j, i, i, i, i, i, i, i, i);
        r->main =
            _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_permutexvar_ps(index, both), r->main);
    }
}

/* One block alone, at the end of rows whose length is no multiple of 256. */
INLINE void step_single(pair_fn *pair, const uint8_t *p, const int8_t *q, const int16_t *sums,
                        float d, int offset, struct row_sum *r)
{
    __m256i codes = _mm512_castsi512_si256(pair(p, p));
    __m256i start = _mm256_zextsi128_si256(_mm_cvtsi32_si128(-offset * (sums[0] + sums[1])));
    __m256i dot = _mm256_dpbusd_epi32(start, codes, _mm256_loadu_si256((const void *)q));
    r->side = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_set1_ps(f16_load(p) * d), r->side);
}

INLINE void rows_32(pair_fn *pair, int bytes, int offset, const uint8_t *w, size_t apart, int n,
                    size_t n_in, struct act_view act, float *out, size_t out_apart)
{
    struct row_sum sum[STREAMS];
    size_t n_blocks = n_in / BLOCK_32, b = 0;
    for (int i = 0; i < STREAMS; i++)
        sum[i] = (struct row_sum){_mm512_setzero_ps(), _mm256_setzero_ps()};
    for (; b + 8 <= n_blocks; b += 8) {
        struct act_32 a;
        for (int v = 0; v < 4; v++)
            a.q[v] = _mm512_loadu_si512(act.q + b * BLOCK_32 + (size_t)v * 64);
        a.d = _mm256_loadu_ps(act.d + b);
        __m256i sums = _mm256_loadu_si256((const void *)(act.sums + 2 * b));
        a.offset = _mm256_cvtepi32_ps(_mm256_madd_epi16(sums, _mm256_set1_epi16((short)-offset)));
#pragma GCC unroll 4
        for (int i = 0; i < STREAMS; i++) {
            const uint8_t *p = w + (size_t)i * apart + b * (size_t)bytes;
            prefetch(p, 8 * bytes);
            step_32(pair, bytes, p, &a, &sum[i]);
        }
    }
    for (; b < n_blocks; b++)
        for (int i = 0; i < STREAMS; i++)
            step_single(pair, w + (size_t)i * apart + b * (size_t)bytes, act.q + b * BLOCK_32,
                        act.sums + 2 * b, act.d[b], offset, &sum[i]);
    rows_store(sum, n, out, out_apart);
}

/* ---- one function a format ---- */

#define ROWS_IQ4_NL(...) rows_32(pair_iq4_nl, 18, 128, __VA_ARGS__)
#define ROWS_Q4_0(...)   rows_32(pair_q4_0, 18, 8, __VA_ARGS__)
#define ROWS_Q5_0(...)   rows_32(pair_q5_0, 22, 16, __VA_ARGS__)
#define ROWS_Q8_0(...)   rows_32(pair_q8_0, 34, 128, __VA_ARGS__)

DECODE(IQ4_NL, BLOCK_32, ROWS_IQ4_NL)
DECODE(Q4_0, BLOCK_32, ROWS_Q4_0)
DECODE(Q5_0, BLOCK_32, ROWS_Q5_0)
DECODE(Q8_0, BLOCK_32, ROWS_Q8_0)
