/* decode_float_avx2.c - a few columns of float activations times quantized rows.
 *
 * Codes are bytes in natural order, so a dword of them holds four neighbours.  Masked where it lies
 * and converted, code m of a dword is 2^8m times too large; the activations it meets are as much
 * smaller, and wait in that order: x[4 * lane + m] in lane `lane` of register m.  The fourth code
 * is shifted down, since it might take the sign.  Rows are streamed as in meeting.h. */
#include "evaluator/kernels/codes_avx2.h"
#include "evaluator/kernels/float_avx2.h"

#include <stdbool.h>

/* PIECE blocks of 256 are prepared at a time, all columns together: they stay in the core's own
 * cache while the rows go by. */
enum { STREAMS = 4, AHEAD = 1024, PIECE = 32, PARTS = BLOCK_K / 32 };

/* 256 activations, 32 to a register of codes. */
struct quartered {
    _Alignas(32) float x[PARTS][4][8];
    float sum[BLOCK_GROUPS]; /* of each 16 */
    float sum_32[PARTS];     /* of each 32 */
};

/* ---- activations in the order of codes ---- */

static void quarter_32(const float *x, float out[4][8], float sum[2])
{
    static const float less[4] = {1, 0x1p-8f, 0x1p-16f, 1};
    __m256 a[4], t[4];
    for (int i = 0; i < 4; i++)
        a[i] = _mm256_loadu_ps(x + 8 * i);
    for (int i = 0; i < 2; i++) {
        t[2 * i] = _mm256_permute2f128_ps(a[i], a[i + 2], 0x20);
        t[2 * i + 1] = _mm256_permute2f128_ps(a[i], a[i + 2], 0x31);
    }
    for (int i = 0; i < 4; i += 2) {
        a[i] = _mm256_unpacklo_ps(t[i], t[i + 1]);
        a[i + 1] = _mm256_unpackhi_ps(t[i], t[i + 1]);
    }
    t[0] = _mm256_shuffle_ps(a[0], a[2], 0x44);
    t[1] = _mm256_shuffle_ps(a[0], a[2], 0xee);
    t[2] = _mm256_shuffle_ps(a[1], a[3], 0x44);
    t[3] = _mm256_shuffle_ps(a[1], a[3], 0xee);
    for (int m = 0; m < 4; m++)
        _mm256_store_ps(out[m], _mm256_mul_ps(t[m], _mm256_set1_ps(less[m])));
    __m256 all = _mm256_add_ps(_mm256_add_ps(t[0], t[1]), _mm256_add_ps(t[2], t[3]));
    all = _mm256_hadd_ps(all, all);
    all = _mm256_hadd_ps(all, all);
    sum[0] = _mm256_cvtss_f32(all);
    sum[1] = _mm_cvtss_f32(_mm256_extractf128_ps(all, 1));
}

/* x[n], n a multiple of 32; what is missing of the last 256 is never used, but for its sums. */
static void quarter_all(const float *x, size_t n, struct quartered *q)
{
    for (size_t i = 0; i < (n + BLOCK_K - 1) / BLOCK_K * PARTS; i++) {
        struct quartered *to = q + i / PARTS;
        size_t part = i % PARTS;
        float *sum = to->sum + 2 * part;
        if (32 * i < n)
            quarter_32(x + 32 * i, to->x[part], sum);
        else
            sum[0] = sum[1] = 0;
        to->sum_32[part] = sum[0] + sum[1];
    }
}

/* ---- one block of 256 of one row ---- */

INLINE void prefetch(const uint8_t *p, int bytes)
{
    for (int i = 0; i < bytes; i += 64)
        _mm_prefetch((const char *)p + AHEAD + i, _MM_HINT_T0);
}

INLINE __m256 code_floats(__m256i codes, int m)
{
    __m256i mask = _mm256_set1_epi32(0xff << 8 * (m % 3));
    return _mm256_cvtepi32_ps(m == 3 ? _mm256_srli_epi32(codes, 24)
                                     : _mm256_and_si256(codes, mask));
}

/* Sums of four products each. */
INLINE __m256 dot(__m256i codes, const float x[4][8])
{
    __m256 sum = _mm256_mul_ps(code_floats(codes, 0), _mm256_load_ps(x[0]));
    for (int m = 1; m < 4; m++)
        sum = _mm256_fmadd_ps(code_floats(codes, m), _mm256_load_ps(x[m]), sum);
    return sum;
}

/* Sixteen factors of groups. */
struct factors {
    __m256 low, high;
};

INLINE struct factors byte_floats(__m128i bytes, float d)
{
    __m256 by = _mm256_set1_ps(d);
    __m256i low = _mm256_cvtepi8_epi32(bytes);
    __m256i high = _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(bytes, bytes));
    return (struct factors){_mm256_mul_ps(_mm256_cvtepi32_ps(low), by),
                            _mm256_mul_ps(_mm256_cvtepi32_ps(high), by)};
}

/* Those of groups 2v and 2v+1, each in its half. */
INLINE __m256 spread(const struct factors *f, int v)
{
    int i = 2 * v % 8, j = i + 1;
    return _mm256_permutevar8x32_ps(v < 4 ? f->low : f->high,
                                    _mm256_set_epi32(j, j, j, j, i, i, i, i));
}

/* total - sum of factors * offset * sums */
INLINE __m256 less_sums(const struct factors *f, float offset, const struct quartered *x,
                        __m256 total)
{
    __m256 lift = _mm256_set1_ps(offset);
    __m256 low = _mm256_mul_ps(_mm256_load_ps(x->sum), lift);
    __m256 high = _mm256_mul_ps(_mm256_load_ps(x->sum + 8), lift);
    return _mm256_fnmadd_ps(f->high, high, _mm256_fnmadd_ps(f->low, low, total));
}

#define ADD_CODES(total, codes_fn, b, x, factor)                                                   \
    for (int v = 0; v < PARTS; v++)                                                                \
    total = _mm256_fmadd_ps(dot(codes_fn(b, v), (x)->x[v]), factor, total)

INLINE __m256 step_q2_k(const uint8_t *p, const struct quartered *x, __m256 total)
{
    const struct block_q2_k *b = (const void *)p;
    __m128i packed = _mm_loadu_si128((const void *)b->scales), nibble = _mm_set1_epi8(15);
    __m128i minima = _mm_and_si128(_mm_srli_epi16(packed, 4), nibble);
    struct factors scale = byte_floats(_mm_and_si128(packed, nibble), f16_load(b->d));
    struct factors min = byte_floats(minima, f16_load(b->dmin));
    total = less_sums(&min, 1, x, total);
    ADD_CODES(total, codes_q2_k, b, x, spread(&scale, v));
    return total;
}

INLINE __m256 step_q3_k(const uint8_t *p, const struct quartered *x, __m256 total)
{
    const struct block_q3_k *b = (const void *)p;
    struct factors scale = byte_floats(scales_q3_k(b->scales), f16_load(b->d));
    total = less_sums(&scale, 4, x, total);
    ADD_CODES(total, codes_q3_k, b, x, spread(&scale, v));
    return total;
}

INLINE __m256 step_q6_k(const uint8_t *p, const struct quartered *x, __m256 total)
{
    const struct block_q6_k *b = (const void *)p;
    struct factors scale = byte_floats(_mm_loadu_si128((const void *)b->scales), f16_load(b->d));
    total = less_sums(&scale, 32, x, total);
    ADD_CODES(total, codes_q6_k, b, x, spread(&scale, v));
    return total;
}

/* One of eight factors in every lane. */
INLINE __m256 only(__m256 factors, int v)
{
    return _mm256_permutevar8x32_ps(factors, _mm256_set1_epi32(v));
}

/* Eight scales of groups of 32; what minima take is subtracted. */
INLINE __m256 scales_less_minima(const uint8_t *d, const uint8_t scales[12],
                                 const struct quartered *x, __m256 *total)
{
    struct factors both = byte_floats(scales_k4(scales), 1);
    __m256 min = _mm256_mul_ps(both.high, _mm256_set1_ps(f16_load(d + 2)));
    *total = _mm256_fnmadd_ps(min, _mm256_load_ps(x->sum_32), *total);
    return _mm256_mul_ps(both.low, _mm256_set1_ps(f16_load(d)));
}

INLINE __m256 step_q4_k(const uint8_t *p, const struct quartered *x, __m256 total)
{
    const struct block_q4_k *b = (const void *)p;
    __m256 scale = scales_less_minima(b->d, b->scales, x, &total);
    ADD_CODES(total, codes_q4_k, b, x, only(scale, v));
    return total;
}

INLINE __m256 step_q5_k(const uint8_t *p, const struct quartered *x, __m256 total)
{
    const struct block_q5_k *b = (const void *)p;
    __m256 scale = scales_less_minima(b->d, b->scales, x, &total);
    ADD_CODES(total, codes_q5_k, b, x, only(scale, v));
    return total;
}

typedef __m256 step_fn(const uint8_t *block, const struct quartered *x, __m256 total);

/* ---- eight 32-blocks of one row ---- */

typedef __m256i codes_fn(const uint8_t *block);

struct kind {
    codes_fn *codes;
    int bytes, offset; /* 128: codes come signed */
};

/* Eight blocks or, at the end of a row, the n that are left. */
INLINE __m256 step_32(struct kind kind, const uint8_t *p, size_t n, const struct quartered *x,
                      __m256 total)
{
    __m256 offset = _mm256_set1_ps((float)kind.offset);
    for (size_t v = 0; v < n; v++, p += kind.bytes) {
        __m256i codes = kind.codes(p);
        if (kind.offset == 128)
            codes = _mm256_xor_si256(codes, _mm256_set1_epi8((char)0x80));
        __m256 d = _mm256_set1_ps(f16_load(p));
        /* The offset's share of the sum stands in one lane. */
        __m256 sum = _mm256_zextps128_ps256(_mm_load_ss(x->sum_32 + v));
        sum = _mm256_fnmadd_ps(offset, sum, dot(codes, x->x[v]));
        total = _mm256_fmadd_ps(sum, d, total);
    }
    return total;
}

/* ---- rows ---- */

/* Of `n` rows, `apart` bytes from each other, n_in weights. */
INLINE void rows_k(step_fn *step, int bytes, const uint8_t *w, size_t apart, int n, size_t n_in,
                   const struct quartered *x, __m256 sum[STREAMS])
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
                    const struct quartered *x, __m256 sum[STREAMS])
{
    for (size_t left = n_in / BLOCK_32; left > 0; x++, w += 8 * kind.bytes) {
        size_t some = left < 8 ? left : 8;
#pragma GCC unroll 4
        for (int i = 0; i < n; i++) {
            const uint8_t *p = w + (size_t)i * apart;
            prefetch(p, 8 * kind.bytes);
            sum[i] = step_32(kind, p, some, x, sum[i]);
        }
        left -= some;
    }
}

/* ---- one function a format ---- */

/* Columns `blocks` apart at x. */
#define ROWS(call, n, apart, out_apart)                                                            \
    for (size_t c = 0; c < n_cols; c++) {                                                          \
        __m256 sum[STREAMS];                                                                       \
        float *o = out + c * out_stride + r;                                                       \
        for (int i = 0; i < (n); i++)                                                              \
            sum[i] = _mm256_setzero_ps();                                                          \
        call(p + r * row_bytes, apart, n, some, x + c * blocks, sum);                              \
        for (size_t i = 0; i < (n); i++)                                                           \
            o[i * (out_apart)] = (begin > 0 ? o[i * (out_apart)] : 0) + lanes_sum(sum[i]);         \
    }

#define DECODE(name, block, block_bytes, call)                                                     \
    void decode_float_##name##_avx2(const void *w, size_t row_bytes, size_t n_rows, size_t n_in,   \
                                    const void *act, size_t act_bytes, size_t n_cols, float *out,  \
                                    size_t out_stride)                                             \
    {                                                                                              \
        struct quartered x[PIECE];                                                                 \
        size_t blocks = PIECE / n_cols, piece = blocks * BLOCK_K, quarter = n_rows / STREAMS;      \
        for (size_t begin = 0; begin < n_in; begin += piece) {                                     \
            const uint8_t *p = (const uint8_t *)w + begin / (block) * (block_bytes);               \
            size_t some = n_in - begin < piece ? n_in - begin : piece, r = 0;                      \
            for (size_t c = 0; c < n_cols; c++)                                                    \
                quarter_all((const float *)(const void *)((const char *)act + c * act_bytes) +     \
                                begin,                                                             \
                            some, x + c * blocks);                                                 \
            for (; r < quarter; r++)                                                               \
                ROWS(call, STREAMS, quarter *row_bytes, quarter)                                   \
            for (r = STREAMS * quarter; r < n_rows; r++)                                           \
                ROWS(call, 1, 0, 0)                                                                \
        }                                                                                          \
    }

#define ROWS_Q2_K(...)   rows_k(step_q2_k, 84, __VA_ARGS__)
#define ROWS_Q3_K(...)   rows_k(step_q3_k, 110, __VA_ARGS__)
#define ROWS_Q4_K(...)   rows_k(step_q4_k, 144, __VA_ARGS__)
#define ROWS_Q5_K(...)   rows_k(step_q5_k, 176, __VA_ARGS__)
#define ROWS_Q6_K(...)   rows_k(step_q6_k, 210, __VA_ARGS__)
#define ROWS_IQ4_NL(...) rows_32((struct kind){codes_iq4_nl, 18, 128}, __VA_ARGS__)
#define ROWS_Q4_0(...)   rows_32((struct kind){codes_q4_0, 18, 8}, __VA_ARGS__)
#define ROWS_Q5_0(...)   rows_32((struct kind){codes_q5_0, 22, 16}, __VA_ARGS__)
#define ROWS_Q8_0(...)   rows_32((struct kind){codes_q8_0, 34, 128}, __VA_ARGS__)

DECODE(Q2_K, BLOCK_K, 84, ROWS_Q2_K)
DECODE(Q3_K, BLOCK_K, 110, ROWS_Q3_K)
DECODE(Q4_K, BLOCK_K, 144, ROWS_Q4_K)
DECODE(Q5_K, BLOCK_K, 176, ROWS_Q5_K)
DECODE(Q6_K, BLOCK_K, 210, ROWS_Q6_K)
DECODE(IQ4_NL, BLOCK_32, 18, ROWS_IQ4_NL)
DECODE(Q4_0, BLOCK_32, 18, ROWS_Q4_0)
DECODE(Q5_0, BLOCK_32, 22, ROWS_Q5_0)
DECODE(Q8_0, BLOCK_32, 34, ROWS_Q8_0)
