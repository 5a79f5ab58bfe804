/* decode_float_avx512.c - a few columns of float activations times quantized rows.
 *
 * Turning sixteen codes into floats takes as many instructions again as multiplying them, and a
 * float product handles a quarter of what vpdpbusd does.  So the activations become integers
 * instead, once for all rows: each group of 16 gets a power of two as its scale and 24 bits for
 * every value, in three bytes
 *
 *     x = scale * (65536 * digit[0] + 256 * digit[1] + digit[2]),  digits in -128..127
 *
 * and the sum of four codes times four activations is exact, three vpdpbusd with two shifts in
 * between.  What is rounded is the activation, by at most 2^-23 of the largest of its sixteen, and
 * after that what any float kernel rounds.  Rows are streamed as in meeting.h. */
#include "evaluator/kernels/codes_avx512.h"
#include "evaluator/kernels/float_avx512.h"

#include <float.h>
#include <math.h>

/* PIECE blocks of 256 are prepared at a time, all columns together: they stay in the core's first
 * cache, or nearly, while the rows go by. */
enum { STREAMS = 4, AHEAD = 1536, PIECE = 32, DIGITS = 3 };

/* 256 activations as integers.  A group with a value that is not finite has the scale NaN. */
struct fixed {
    _Alignas(64) int8_t digit[DIGITS][BLOCK_K];
    float scale[BLOCK_GROUPS];
    float sum[BLOCK_GROUPS];    /* of the sixteen, times the scale */
    float sum_k4[BLOCK_GROUPS]; /* eight zeros; sums of the groups of 32 */
};

/* ---- activations to integers ---- */

/* The largest magnitude that three digits hold is just below 2^23: 127 in each. */
#define FIXED_HEADROOM 1.00394f /* 2^23 / that, rounded up */

enum { FIXED_BITS = 22, LEAST_EXPONENT = -100 }; /* below, 2^(FIXED_BITS - e) would overflow */

typedef __m512i merge_fn(__m512i a, __m512i b);

INLINE __m512i most(__m512i a, __m512i b)
{
    return _mm512_max_epi32(a, b);
}

INLINE __m512i plus(__m512i a, __m512i b)
{
    return _mm512_add_epi32(a, b);
}

/* Lane g: the sixteen lanes of m[g] merged. */
INLINE __m512i merge_lanes(merge_fn *merge, const __m512i m[16])
{
    __m512i a[8], b[4], c[2];
    for (int i = 0; i < 8; i++)
        a[i] = merge(_mm512_unpacklo_epi32(m[2 * i], m[2 * i + 1]),
                     _mm512_unpackhi_epi32(m[2 * i], m[2 * i + 1]));
    for (int i = 0; i < 4; i++)
        b[i] = merge(_mm512_unpacklo_epi64(a[2 * i], a[2 * i + 1]),
                     _mm512_unpackhi_epi64(a[2 * i], a[2 * i + 1]));
    for (int i = 0; i < 2; i++)
        c[i] = merge(_mm512_shuffle_i32x4(b[2 * i], b[2 * i + 1], 0x88),
                     _mm512_shuffle_i32x4(b[2 * i], b[2 * i + 1], 0xdd));
    return merge(_mm512_shuffle_i32x4(c[0], c[1], 0x88), _mm512_shuffle_i32x4(c[0], c[1], 0xdd));
}

/* x[n], n <= 256, followed by zeros. */
static void fix(const float *x, size_t n, struct fixed *f)
{
    __m512i v[16], m[16];
    for (int g = 0; g < 16; g++) {
        bool there = (size_t)g * GROUP < n;
        v[g] = there ? _mm512_loadu_si512(x + g * GROUP) : _mm512_setzero_si512();
        m[g] = _mm512_and_si512(v[g], _mm512_set1_epi32(0x7fffffff));
    }
    /* On bit patterns NaN and infinity come out on top. */
    __m512 largest = _mm512_castsi512_ps(merge_lanes(most, m));
    __mmask16 finite = _mm512_cmp_ps_mask(largest, _mm512_set1_ps(FLT_MAX), _CMP_LE_OQ);
    __m512 exponent = _mm512_getexp_ps(_mm512_mul_ps(largest, _mm512_set1_ps(FIXED_HEADROOM)));
    exponent = _mm512_max_ps(exponent, _mm512_set1_ps(LEAST_EXPONENT));
    exponent = _mm512_min_ps(exponent, _mm512_set1_ps(128));
    __m512 one = _mm512_set1_ps(1), bits = _mm512_set1_ps(FIXED_BITS);
    __m512 scale =
        _mm512_mask_scalef_ps(_mm512_set1_ps(NAN), finite, one, _mm512_sub_ps(exponent, bits));
    __m512 inverse = _mm512_scalef_ps(one, _mm512_sub_ps(bits, exponent));
    for (int g = 0; g < 16; g++) {
        __m512 spread = _mm512_permutexvar_ps(_mm512_set1_epi32(g), inverse);
        __mmask16 use = (finite >> g & 1) != 0 ? 0xffff : 0;
        __m512i q = _mm512_maskz_cvtps_epi32(use, _mm512_mul_ps(_mm512_castsi512_ps(v[g]), spread));
        m[g] = q;
        for (int digit = DIGITS - 1; digit >= 0; digit--) {
            _mm_store_si128((void *)(f->digit[digit] + g * GROUP), _mm512_cvtepi32_epi8(q));
            q = _mm512_srai_epi32(_mm512_add_epi32(q, _mm512_set1_epi32(128)), 8);
        }
    }
    __m512 sum = _mm512_mul_ps(_mm512_cvtepi32_ps(merge_lanes(plus, m)), scale);
    const __m512i even = _mm512_set_epi32(14, 12, 10, 8, 6, 4, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m512i odd = _mm512_set_epi32(15, 13, 11, 9, 7, 5, 3, 1, 0, 0, 0, 0, 0, 0, 0, 0);
    __m512 pairs = _mm512_add_ps(_mm512_permutexvar_ps(even, sum), _mm512_permutexvar_ps(odd, sum));
    _mm512_store_ps(f->scale, scale);
    _mm512_store_ps(f->sum, sum);
    _mm512_store_ps(f->sum_k4, _mm512_maskz_mov_ps(0xff00, pairs));
}

/* ---- one block of 256 of one row ---- */

INLINE void prefetch(const uint8_t *p, int bytes)
{
    for (int i = 0; i < bytes; i += 64)
        _mm_prefetch((const char *)p + AHEAD + i, _MM_HINT_T0);
}

/* Sums of four products, codes below 64: 4 * 63 * 127 * (2^16 + 2^8 + 1) < 2^31. */
INLINE __m512 dot(__m512i codes, const struct fixed *x, int v)
{
    __m512i sum = _mm512_setzero_si512();
#pragma GCC unroll 3
    for (int digit = 0; digit < DIGITS; digit++)
        sum = _mm512_dpbusd_epi32(_mm512_slli_epi32(sum, 8), codes,
                                  _mm512_load_si512(x->digit[digit] + 64 * v));
    return _mm512_cvtepi32_ps(sum);
}

/* The same of codes up to 255, whose first digit must stay apart. */
INLINE __m512 dot_wide(__m512i codes, const struct fixed *x, int v)
{
    __m512i zero = _mm512_setzero_si512();
    __m512i high = _mm512_dpbusd_epi32(zero, codes, _mm512_load_si512(x->digit[0] + 64 * v));
    __m512i low = _mm512_dpbusd_epi32(zero, codes, _mm512_load_si512(x->digit[1] + 64 * v));
    low = _mm512_dpbusd_epi32(_mm512_slli_epi32(low, 8), codes,
                              _mm512_load_si512(x->digit[2] + 64 * v));
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), _mm512_set1_ps(65536),
                           _mm512_cvtepi32_ps(low));
}

/* The factors of groups 4v .. 4v+3, one in each 128-bit lane. */
INLINE __m512 spread(__m512 factors, int v)
{
    int i = 4 * v, j = i + 1, k = i + 2, l = i + 3;
    __m512i index = _mm512_set_epi32(l, l, l, l, k, k, k, k, j, j, j, j, i, i, i, i);
    return _mm512_permutexvar_ps(index, factors);
}

INLINE __m512 byte_floats(__m128i bytes)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}

/* d in even, dmin in odd lanes. */
INLINE __m512 two_factors(const uint8_t *p)
{
    return _mm512_cvtph_ps(_mm256_set1_epi32((int)load_u32(p)));
}

INLINE __m512 one_factor(const uint8_t *p)
{
    return _mm512_cvtph_ps(_mm256_set1_epi16((short)load_u16(p)));
}

#define ADD_CODES(total, codes_fn, b, x, factors)                                                  \
    for (int v = 0; v < 4; v++)                                                                    \
    total = _mm512_fmadd_ps(dot(codes_fn(b, v), x, v), spread(factors, v), total)

INLINE __m512 step_q2_k(const uint8_t *p, const struct fixed *x, __m512 total)
{
    const struct block_q2_k *b = (const void *)p;
    __m128i packed = _mm_loadu_si128((const void *)b->scales), nibble = _mm_set1_epi8(15);
    __m512 d = two_factors(b->d);
    __m512 scale = byte_floats(_mm_and_si128(packed, nibble));
    __m512 min = byte_floats(_mm_and_si128(_mm_srli_epi16(packed, 4), nibble));
    scale = _mm512_mul_ps(_mm512_mul_ps(scale, _mm512_load_ps(x->scale)), _mm512_moveldup_ps(d));
    min = _mm512_mul_ps(min, _mm512_load_ps(x->sum));
    total = _mm512_fnmadd_ps(min, _mm512_movehdup_ps(d), total);
    ADD_CODES(total, codes_q2_k, b, x, scale);
    return total;
}

/* Codes with an offset, which the sums of the activations take away again. */
INLINE __m512 less_offset(__m512 scale, float offset, const struct fixed *x, __m512 total)
{
    __m512 lifted = _mm512_mul_ps(_mm512_load_ps(x->sum), _mm512_set1_ps(offset));
    return _mm512_fnmadd_ps(scale, lifted, total);
}

INLINE __m512 step_q3_k(const uint8_t *p, const struct fixed *x, __m512 total)
{
    const struct block_q3_k *b = (const void *)p;
    __m512 scale = _mm512_mul_ps(byte_floats(scales_q3_k(b)), one_factor(b->d));
    total = less_offset(scale, 4, x, total);
    scale = _mm512_mul_ps(scale, _mm512_load_ps(x->scale));
    ADD_CODES(total, codes_q3_k, b, x, scale);
    return total;
}

INLINE __m512 step_q6_k(const uint8_t *p, const struct fixed *x, __m512 total)
{
    const struct block_q6_k *b = (const void *)p;
    __m128i packed = _mm_loadu_si128((const void *)b->scales);
    __m512 scale = _mm512_mul_ps(byte_floats(packed), one_factor(b->d));
    total = less_offset(scale, 32, x, total);
    scale = _mm512_mul_ps(scale, _mm512_load_ps(x->scale));
    ADD_CODES(total, codes_q6_k, b, x, scale);
    return total;
}

/* Eight scales and eight minima, times d and dmin; the scales of groups of 32 to groups of 16. */
INLINE __m512 scales_and_minima(const uint8_t *d, const uint8_t scales[12])
{
    const __m512i which = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
    __m512 factors = _mm512_permutexvar_ps(which, two_factors(d));
    return _mm512_mul_ps(byte_floats(scales_k4(scales)), factors);
}

INLINE __m512 twice(__m512 eight)
{
    const __m512i index = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    return _mm512_permutexvar_ps(index, eight);
}

INLINE __m512 step_q4_k(const uint8_t *p, const struct fixed *x, __m512 total)
{
    const struct block_q4_k *b = (const void *)p;
    __m512 both = scales_and_minima(b->d, b->scales);
    total = _mm512_fnmadd_ps(both, _mm512_load_ps(x->sum_k4), total);
    __m512 scale = _mm512_mul_ps(twice(both), _mm512_load_ps(x->scale));
    ADD_CODES(total, codes_q4_k, b, x, scale);
    return total;
}

INLINE __m512 step_q5_k(const uint8_t *p, const struct fixed *x, __m512 total)
{
    const struct block_q5_k *b = (const void *)p;
    __m512 both = scales_and_minima(b->d, b->scales);
    total = _mm512_fnmadd_ps(both, _mm512_load_ps(x->sum_k4), total);
    __m512 scale = _mm512_mul_ps(twice(both), _mm512_load_ps(x->scale));
    ADD_CODES(total, codes_q5_k, b, x, scale);
    return total;
}

typedef __m512 step_fn(const uint8_t *block, const struct fixed *x, __m512 total);

/* ---- eight 32-blocks of one row ---- */

typedef __m512i pair_fn(const uint8_t *block, const uint8_t *next);

struct kind {
    pair_fn *pair;
    int bytes;
    float offset;
};

/* The factors of eight blocks or, at the end of a row, of the n that are left, and zeros. */
INLINE __m256 factors_of(const uint8_t *p, int bytes, size_t n)
{
    if (n >= 8)
        return factors_32(p, bytes);
    float d[8] = {0};
    for (size_t k = 0; k < n; k++)
        d[k] = f16_load(p + k * (size_t)bytes);
    return _mm256_loadu_ps(d);
}

INLINE __m512 step_32(struct kind kind, const uint8_t *p, size_t n, const struct fixed *x,
                      __m512 total)
{
    __m512 scale = twice(_mm512_castps256_ps512(factors_of(p, kind.bytes, n)));
    total = less_offset(scale, kind.offset, x, total);
    scale = _mm512_mul_ps(scale, _mm512_load_ps(x->scale));
    for (int v = 0; v < 4 && 2 * (size_t)v < n; v++) {
        const uint8_t *first = p + 2 * v * kind.bytes;
        __m512i codes = kind.pair(first, 2 * (size_t)v + 1 < n ? first + kind.bytes : first);
        __m512 sum = kind.offset > 32 ? dot_wide(codes, x, v) : dot(codes, x, v);
        total = _mm512_fmadd_ps(sum, spread(scale, v), total);
    }
    return total;
}

/* ---- rows ---- */

/* Sums over lanes, of four rows at once where there are four, to out or added to it. */
INLINE void rows_store(const __m512 sum[STREAMS], int n, bool add, float *out, size_t apart)
{
    __m256 half[STREAMS];
    float total[STREAMS];
    for (int i = 0; i < STREAMS; i++)
        half[i] =
            i < n ? _mm256_add_ps(_mm512_castps512_ps256(sum[i]), _mm512_extractf32x8_ps(sum[i], 1))
                  : _mm256_setzero_ps();
    __m256 all = _mm256_hadd_ps(_mm256_hadd_ps(half[0], half[1]), _mm256_hadd_ps(half[2], half[3]));
    _mm_storeu_ps(total, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
    for (int i = 0; i < n; i++)
        out[(size_t)i * apart] = add ? out[(size_t)i * apart] + total[i] : total[i];
}

/* Of `n` rows, `apart` bytes from each other, n_in weights. */
INLINE void rows_k(step_fn *step, int bytes, const uint8_t *w, size_t apart, int n, size_t n_in,
                   const struct fixed *x, __m512 sum[STREAMS])
{
    for (size_t b = 0; b < n_in / BLOCK_K; b++, x++, w += bytes)
#pragma GCC unroll 4
        for (int i = 0; i < n; i++) {
            const uint8_t *p = w + (size_t)i * apart;
            prefetch(p, bytes);
            sum[i] = step(p, x, sum[i]);
        }
}

INLINE void rows_32(struct kind kind, const uint8_t *w, size_t apart, int n, size_t n_in,
                    const struct fixed *x, __m512 sum[STREAMS])
{
    size_t left = n_in / BLOCK_32;
    for (; left >= 8; left -= 8, x++, w += 8 * kind.bytes)
#pragma GCC unroll 4
        for (int i = 0; i < n; i++) {
            const uint8_t *p = w + (size_t)i * apart;
            prefetch(p, 8 * kind.bytes);
            sum[i] = step_32(kind, p, 8, x, sum[i]);
        }
    if (left > 0)
        for (int i = 0; i < n; i++)
            sum[i] = step_32(kind, w + (size_t)i * apart, left, x, sum[i]);
}

/* ---- one function a format ---- */

/* Columns `blocks` apart at x. */
#define ROWS(call, n, apart, out_apart)                                                            \
    for (size_t c = 0; c < n_cols; c++) {                                                          \
        __m512 sum[STREAMS];                                                                       \
        for (int i = 0; i < (n); i++)                                                              \
            sum[i] = _mm512_setzero_ps();                                                          \
        call(p + r * row_bytes, apart, n, some, x + c * blocks, sum);                              \
        rows_store(sum, n, begin > 0, out + c * out_stride + r, out_apart);                        \
    }

#define DECODE(name, block, block_bytes, call)                                                     \
    void decode_float_##name##_avx512(const void *w, size_t row_bytes, size_t n_rows, size_t n_in, \
                                      const void *act, size_t act_bytes, size_t n_cols,            \
                                      float *out, size_t out_stride)                               \
    {                                                                                              \
        struct fixed x[PIECE];                                                                     \
        size_t blocks = PIECE / n_cols, piece = blocks * BLOCK_K, quarter = n_rows / STREAMS;      \
        for (size_t begin = 0; begin < n_in; begin += piece) {                                     \
            const uint8_t *p = (const uint8_t *)w + begin / (block) * (block_bytes);               \
            size_t some = n_in - begin < piece ? n_in - begin : piece, r = 0;                      \
            for (size_t c = 0; c < n_cols; c++)                                                    \
                fix_all((const float *)(const void *)((const char *)act + c * act_bytes) + begin,  \
                        some, x + c * blocks);                                                     \
            for (; r < quarter; r++)                                                               \
                ROWS(call, STREAMS, quarter *row_bytes, quarter)                                   \
            for (r = STREAMS * quarter; r < n_rows; r++)                                           \
                ROWS(call, 1, 0, 0)                                                                \
        }                                                                                          \
    }

static void fix_all(const float *x, size_t n, struct fixed *f)
{
    for (size_t i = 0; i < n; i += BLOCK_K)
        fix(x + i, n - i, f++);
}

#define ROWS_Q2_K(...)   rows_k(step_q2_k, 84, __VA_ARGS__)
#define ROWS_Q3_K(...)   rows_k(step_q3_k, 110, __VA_ARGS__)
#define ROWS_Q4_K(...)   rows_k(step_q4_k, 144, __VA_ARGS__)
#define ROWS_Q5_K(...)   rows_k(step_q5_k, 176, __VA_ARGS__)
#define ROWS_Q6_K(...)   rows_k(step_q6_k, 210, __VA_ARGS__)
#define ROWS_IQ4_NL(...) rows_32((struct kind){pair_iq4_nl, 18, 128}, __VA_ARGS__)
#define ROWS_Q4_0(...)   rows_32((struct kind){pair_q4_0, 18, 8}, __VA_ARGS__)
#define ROWS_Q5_0(...)   rows_32((struct kind){pair_q5_0, 22, 16}, __VA_ARGS__)
#define ROWS_Q8_0(...)   rows_32((struct kind){pair_q8_0, 34, 128}, __VA_ARGS__)

DECODE(Q2_K, BLOCK_K, 84, ROWS_Q2_K)
DECODE(Q3_K, BLOCK_K, 110, ROWS_Q3_K)
DECODE(Q4_K, BLOCK_K, 144, ROWS_Q4_K)
DECODE(Q5_K, BLOCK_K, 176, ROWS_Q5_K)
DECODE(Q6_K, BLOCK_K, 210, ROWS_Q6_K)
DECODE(IQ4_NL, BLOCK_32, 18, ROWS_IQ4_NL)
DECODE(Q4_0, BLOCK_32, 18, ROWS_Q4_0)
DECODE(Q5_0, BLOCK_32, 22, ROWS_Q5_0)
DECODE(Q8_0, BLOCK_32, 34, ROWS_Q8_0)
