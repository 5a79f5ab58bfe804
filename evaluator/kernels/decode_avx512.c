/* decode_avx512.c - one column times packed rows, bound by the rate at which weights arrive.
 *
 * Rows are taken four at a time from the four quarters of the matrix: the loads of activations are
 * shared, four independent sums hide latencies, and each quarter is one long stream for the
 * prefetchers.  Inside a block everything is integer: vpdpbusd multiplies codes, vpdpwssd
 * multiplies the results by the group scales (they fit 16 bits: 4 * 63 * 127 < 2^15) and adds up.
 */
#include "evaluator/kernels/codes_avx512.h"
#include "evaluator/kernels/int8_avx512.h"

enum { STREAMS = 4, AHEAD = 1536 };

/* What a block of 256 activations gives to every row. */
struct act_k {
    __m512i q[4];
    __m256i sums; /* int16 of each 16 */
};

/* Factors of a few blocks of each row, already times the scale of the activations.  They are
 * fetched together, since one by one they would cost as much as a quarter of the products. */
enum { FETCH = 8 };
struct factors {
    _Alignas(32) float d[STREAMS][FETCH], dmin[STREAMS][FETCH];
};

/* Of one row: sums of products, sums that belong to minima. */
struct row_sum {
    __m512 main;
    __m256 side;
};

INLINE void prefetch(const uint8_t *p, int bytes)
{
    for (int i = 0; i < bytes; i += 64)
        _mm_prefetch((const char *)p + AHEAD + i, _MM_HINT_T0);
}

/* Dword lanes (scale, 0): byte `first + step * lane / 2` of `bytes` for each 128-bit lane. */
INLINE __m512i spread_scales(__m512i bytes, int v, bool group_is_32)
{
    const int unused = (int)0x80808000;
    int at[4];
    for (int lane = 0; lane < 4; lane++)
        at[lane] = unused | (group_is_32 ? 2 * v + lane / 2 : 4 * v + lane);
    __m512i index = _mm512_set_epi32(at[3], at[3], at[3], at[3], at[2], at[2], at[2], at[2], at[1],
                                     at[1], at[1], at[1], at[0], at[0], at[0], at[0]);
    return _mm512_shuffle_epi8(bytes, index);
}

/* The same for signed scales, times 2^8: lanes (scale << 8, 0). */
INLINE __m512i spread_high(__m512i bytes, int v)
{
    int at[4];
    for (int lane = 0; lane < 4; lane++)
        at[lane] = (int)0x80800080 | (4 * v + lane) << 8;
    __m512i index = _mm512_set_epi32(at[3], at[3], at[3], at[3], at[2], at[2], at[2], at[2], at[1],
                                     at[1], at[1], at[1], at[0], at[0], at[0], at[0]);
    return _mm512_shuffle_epi8(bytes, index);
}

INLINE __m512i scaled_dot(__m512i sum, __m512i codes, __m512i q, __m512i scales)
{
    __m512i dot = _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, q);
    return _mm512_dpwssd_epi32(sum, dot, scales);
}

INLINE void add_block(struct row_sum *r, __m512i sum, float factor)
{
    r->main = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(factor), r->main);
}

INLINE void add_minima(struct row_sum *r, __m256i minima, __m256i sums, float factor)
{
    __m256 total = _mm256_cvtepi32_ps(_mm256_madd_epi16(minima, sums));
    r->side = _mm256_fnmadd_ps(total, _mm256_set1_ps(factor), r->side);
}

INLINE void step_q2_k(const uint8_t *p, const struct act_k *a, float d, float dmin,
                      struct row_sum *r)
{
    const struct block_q2_k *b = (const void *)p;
    __m128i packed = _mm_loadu_si128((const void *)b->scales);
    __m512i scales = _mm512_broadcast_i32x4(_mm_and_si128(packed, _mm_set1_epi8(15)));
    __m128i minima = _mm_and_si128(_mm_srli_epi16(packed, 4), _mm_set1_epi8(15));
    __m512i sum = _mm512_setzero_si512();
    for (int v = 0; v < 4; v++)
        sum = scaled_dot(sum, codes_q2_k(b, v), a->q[v], spread_scales(scales, v, false));
    add_block(r, sum, d);
    add_minima(r, _mm256_cvtepu8_epi16(minima), a->sums, dmin);
}

/* Minima of groups of 32 meet the sums of both their halves. */
INLINE void add_minima_k4(struct row_sum *r, __m128i packed, const struct act_k *a, float dmin)
{
    add_minima(r, _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(packed, packed)), a->sums, dmin);
}

INLINE void step_q4_k(const uint8_t *p, const struct act_k *a, float d, float dmin,
                      struct row_sum *r)
{
    const struct block_q4_k *b = (const void *)p;
    __m128i packed = scales_k4(b->scales);
    __m512i scales = _mm512_broadcast_i32x4(packed), sum = _mm512_setzero_si512();
    for (int v = 0; v < 4; v++)
        sum = scaled_dot(sum, codes_q4_k(b, v), a->q[v], spread_scales(scales, v, true));
    add_block(r, sum, d);
    add_minima_k4(r, packed, a, dmin);
}

INLINE void step_q5_k(const uint8_t *p, const struct act_k *a, float d, float dmin,
                      struct row_sum *r)
{
    const struct block_q5_k *b = (const void *)p;
    __m128i packed = scales_k4(b->scales);
    __m512i scales = _mm512_broadcast_i32x4(packed), sum = _mm512_setzero_si512();
    for (int v = 0; v < 4; v++)
        sum = scaled_dot(sum, codes_q5_k(b, v), a->q[v], spread_scales(scales, v, true));
    add_block(r, sum, d);
    add_minima_k4(r, packed, a, dmin);
}

/* Offsets: the sum starts at -offset * sum of scale * sums, in its lower half. */
INLINE __m512i offset_start(__m128i scales, const struct act_k *a, int log2_offset)
{
    __m256i lifted = _mm256_slli_epi16(_mm256_cvtepi8_epi16(scales), log2_offset);
    __m256i total = _mm256_madd_epi16(lifted, a->sums);
    return _mm512_zextsi256_si512(_mm256_sub_epi32(_mm256_setzero_si256(), total));
}

/* The codes of Q3_K are so small (4 * 7 * 127 < 2^12) that scales may stay where they are cheap to
 * put, in the upper byte of a word: sums are 2^8 times too large and still far from 2^31. */
INLINE void step_q3_k(const uint8_t *p, const struct act_k *a, float d, float dmin,
                      struct row_sum *r)
{
    const struct block_q3_k *b = (const void *)p;
    __m128i packed = scales_q3_k(b);
    __m512i scales = _mm512_broadcast_i32x4(packed);
    __m512i sum = _mm512_slli_epi32(offset_start(packed, a, 2), 8);
    for (int v = 0; v < 4; v++)
        sum = scaled_dot(sum, codes_q3_k(b, v), a->q[v], spread_high(scales, v));
    add_block(r, sum, d * 0x1p-8f);
    (void)dmin;
}

INLINE void step_q6_k(const uint8_t *p, const struct act_k *a, float d, float dmin,
                      struct row_sum *r)
{
    const struct block_q6_k *b = (const void *)p;
    __m128i packed = _mm_loadu_si128((const void *)b->scales);
    __m512i scales = _mm512_broadcast_i32x4(packed), sum = offset_start(packed, a, 5);
    for (int v = 0; v < 4; v++)
        sum = scaled_dot(sum, codes_q6_k(b, v), a->q[v],
                         _mm512_srai_epi16(spread_high(scales, v), 8));
    add_block(r, sum, d);
    (void)dmin;
}

typedef void step_k_fn(const uint8_t *block, const struct act_k *a, float d, float dmin,
                       struct row_sum *r);

/* The factors of `n` blocks from p on, n <= FETCH.  d_at is where d stands in a block; dmin, where
 * there is one, follows it.  Where d ends the block, the dword that ends with it is read.  They are
 * put together from single loads, of the last block again where there are fewer than eight: a
 * gather takes longer. */
INLINE void fetch_factors(const uint8_t *p, int block_bytes, int d_at, size_t n, const float *act_d,
                          float *d, float *dmin)
{
    bool at_end = d_at + 2 == block_bytes;
    if (n < FETCH / 2) {
        for (size_t k = 0; k < n; k++) {
            const uint8_t *f = p + k * (size_t)block_bytes + d_at;
            d[k] = f16_load(f) * act_d[k];
            if (!at_end)
                dmin[k] = f16_load(f + 2) * act_d[k];
        }
        return;
    }
    __m256 scale = _mm256_maskz_loadu_ps((__mmask8)((1u << n) - 1), act_d);
    int at[FETCH];
    for (size_t k = 0; k < FETCH; k++)
        at[k] =
            (int)load_u32(p + (k < n ? k : n - 1) * (size_t)block_bytes + d_at - (at_end ? 2 : 0));
    __m256i both = _mm256_set_epi32(at[7], at[6], at[5], at[4], at[3], at[2], at[1], at[0]);
    __m256i high = _mm256_srli_epi32(both, 16);
    __m128i first = _mm256_cvtepi32_epi16(at_end ? high : both);
    _mm256_store_ps(d, _mm256_mul_ps(_mm256_cvtph_ps(first), scale));
    if (!at_end)
        _mm256_store_ps(dmin, _mm256_mul_ps(_mm256_cvtph_ps(_mm256_cvtepi32_epi16(high)), scale));
}

INLINE __m256 row_lanes(const struct row_sum *r)
{
    __m256 low = _mm512_castps512_ps256(r->main), high = _mm512_extractf32x8_ps(r->main, 1);
    return _mm256_add_ps(_mm256_add_ps(low, high), r->side);
}

/* Sums over lanes, of four rows at once where there are four: short rows would otherwise spend a
 * good part of their time here. */
INLINE void rows_store(const struct row_sum sum[STREAMS], int n, float *out, size_t apart)
{
    __m256 zero = _mm256_setzero_ps();
    __m256 a = row_lanes(&sum[0]), b = n == 4 ? row_lanes(&sum[1]) : zero;
    __m256 c = n == 4 ? row_lanes(&sum[2]) : zero, d = n == 4 ? row_lanes(&sum[3]) : zero;
    __m256 all = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    __m128 totals = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
    float total[4];
    _mm_storeu_ps(total, totals);
    for (int i = 0; i < n; i++)
        out[(size_t)i * apart] = total[i];
}

/* `n` rows that begin `apart` bytes from each other; out is written every `out_apart`. */
INLINE void rows_k(step_k_fn *step, int block_bytes, int d_at, const uint8_t *w, size_t apart,
                   int n, size_t n_in, struct act_view act, float *out, size_t out_apart)
{
    struct row_sum sum[STREAMS];
    struct factors f = {0};
    for (int i = 0; i < n; i++)
        sum[i] = (struct row_sum){_mm512_setzero_ps(), _mm256_setzero_ps()};
    for (size_t begin = 0, n_blocks = n_in / BLOCK_K; begin < n_blocks; begin += FETCH) {
        size_t some = n_blocks - begin < FETCH ? n_blocks - begin : FETCH;
        for (int i = 0; i < n; i++)
            fetch_factors(w + (size_t)i * apart + begin * (size_t)block_bytes, block_bytes, d_at,
                          some, act.d + begin, f.d[i], f.dmin[i]);
        for (size_t k = 0; k < some; k++) {
            struct act_k a;
            size_t b = begin + k;
            for (int v = 0; v < 4; v++)
                a.q[v] = _mm512_loadu_si512(act.q + b * BLOCK_K + (size_t)v * 64);
            a.sums = _mm256_loadu_si256((const void *)(act.sums + b * BLOCK_GROUPS));
#pragma GCC unroll 4
            for (int i = 0; i < n; i++) {
                const uint8_t *p = w + (size_t)i * apart + b * (size_t)block_bytes;
                prefetch(p, block_bytes);
                step(p, &a, f.d[i][k], f.dmin[i][k], &sum[i]);
            }
        }
    }
    rows_store(sum, n, out, out_apart);
}

/* ---- the 32-blocks ---- */

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
    for (int i = 0; i < n; i++)
        sum[i] = (struct row_sum){_mm512_setzero_ps(), _mm256_setzero_ps()};
    for (; b + 8 <= n_blocks; b += 8) {
        struct act_32 a;
        for (int v = 0; v < 4; v++)
            a.q[v] = _mm512_loadu_si512(act.q + b * BLOCK_32 + (size_t)v * 64);
        a.d = _mm256_loadu_ps(act.d + b);
        __m256i sums = _mm256_loadu_si256((const void *)(act.sums + 2 * b));
        a.offset = _mm256_cvtepi32_ps(_mm256_madd_epi16(sums, _mm256_set1_epi16((short)-offset)));
#pragma GCC unroll 4
        for (int i = 0; i < n; i++) {
            const uint8_t *p = w + (size_t)i * apart + b * (size_t)bytes;
            prefetch(p, 8 * bytes);
            step_32(pair, bytes, p, &a, &sum[i]);
        }
    }
    for (; b < n_blocks; b++)
        for (int i = 0; i < n; i++)
            step_single(pair, w + (size_t)i * apart + b * (size_t)bytes, act.q + b * BLOCK_32,
                        act.sums + 2 * b, act.d[b], offset, &sum[i]);
    rows_store(sum, n, out, out_apart);
}

/* ---- one function a format ---- */

#define DECODE(name, group, call)                                                                  \
    void decode_##name##_avx512(const void *w, size_t row_bytes, size_t n_rows, size_t n_in,       \
                                const void *packed, float *out)                                    \
    {                                                                                              \
        const uint8_t *p = w;                                                                      \
        struct act_view act = act_view(packed, n_in, group);                                       \
        size_t quarter = n_rows / STREAMS, r = 0;                                                  \
        size_t apart = quarter * row_bytes, out_apart = quarter;                                   \
        for (; r < quarter; r++)                                                                   \
            call(p + r * row_bytes, apart, STREAMS, n_in, act, out + r, out_apart);                \
        for (r = STREAMS * quarter; r < n_rows; r++)                                               \
            call(p + r * row_bytes, 0, 1, n_in, act, out + r, 0);                                  \
    }

#define ROWS_Q2_K(...)   rows_k(step_q2_k, 84, 80, __VA_ARGS__)
#define ROWS_Q3_K(...)   rows_k(step_q3_k, 110, 108, __VA_ARGS__)
#define ROWS_Q4_K(...)   rows_k(step_q4_k, 144, 0, __VA_ARGS__)
#define ROWS_Q5_K(...)   rows_k(step_q5_k, 176, 0, __VA_ARGS__)
#define ROWS_Q6_K(...)   rows_k(step_q6_k, 210, 208, __VA_ARGS__)
#define ROWS_IQ4_NL(...) rows_32(pair_iq4_nl, 18, 128, __VA_ARGS__)
#define ROWS_Q4_0(...)   rows_32(pair_q4_0, 18, 8, __VA_ARGS__)
#define ROWS_Q5_0(...)   rows_32(pair_q5_0, 22, 16, __VA_ARGS__)
#define ROWS_Q8_0(...)   rows_32(pair_q8_0, 34, 128, __VA_ARGS__)

DECODE(Q2_K, BLOCK_K, ROWS_Q2_K)
DECODE(Q3_K, BLOCK_K, ROWS_Q3_K)
DECODE(Q4_K, BLOCK_K, ROWS_Q4_K)
DECODE(Q5_K, BLOCK_K, ROWS_Q5_K)
DECODE(Q6_K, BLOCK_K, ROWS_Q6_K)
DECODE(IQ4_NL, BLOCK_32, ROWS_IQ4_NL)
DECODE(Q4_0, BLOCK_32, ROWS_Q4_0)
DECODE(Q5_0, BLOCK_32, ROWS_Q5_0)
DECODE(Q8_0, BLOCK_32, ROWS_Q8_0)
