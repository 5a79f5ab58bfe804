/* decode_avx2.c - one column times packed rows with 256-bit registers.
 * Four rows at a time from the four quarters of the matrix, as decode_avx512.c.  maddubs gives sums
 * of two products in 16 bits (at most 2 * 63 * 127), madd multiplies them by the group scales. */
#include "evaluator/kernels/codes_avx2.h"
#include "evaluator/kernels/int8_avx2.h"

enum { STREAMS = 4, AHEAD = 1024 };

/* What 256 activations give to every row; the codes stay in memory. */
struct act_k {
    const int8_t *q;
    __m256i sums; /* int16 of each 16 */
    float d;
};

INLINE void prefetch(const uint8_t *p, int bytes)
{
    for (int i = 0; i < bytes; i += 64)
        _mm_prefetch((const char *)p + AHEAD + i, _MM_HINT_T0);
}

/* Sixteen int16 scales, each half of them in both halves of a register. */
struct scales {
    __m256i low, high;
};

INLINE struct scales scales_spread(__m256i scales)
{
    return (struct scales){_mm256_permute4x64_epi64(scales, 0x44),
                           _mm256_permute4x64_epi64(scales, 0xee)};
}

/* The scales of groups 2v and 2v+1, each in every word of its half. */
INLINE __m256i scales_of(const struct scales *s, int v)
{
    int word = 2 * v % 8;
    __m128i first = _mm_set1_epi16((short)(2 * word | (2 * word + 1) << 8));
    __m128i second = _mm_set1_epi16((short)(2 * (word + 1) | (2 * (word + 1) + 1) << 8));
    return _mm256_shuffle_epi8(v < 4 ? s->low : s->high, _mm256_set_m128i(second, first));
}

INLINE __m256i scaled_dot(__m256i sum, __m256i codes, const int8_t *q, __m256i scales)
{
    __m256i pairs = _mm256_maddubs_epi16(codes, load_32(q));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, scales));
}

INLINE __m256 add_block(__m256 total, __m256i sum, float factor)
{
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(factor), total);
}

INLINE __m256 less_minima(__m256 total, __m128i minima, const struct act_k *a, float factor)
{
    __m256i sum = _mm256_madd_epi16(_mm256_cvtepu8_epi16(minima), a->sums);
    return _mm256_fnmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(factor), total);
}

/* -offset * sum of scale * sums, the offset a power of two */
INLINE __m256i offset_start(__m256i scales, const struct act_k *a, int log2_offset)
{
    __m256i lifted = _mm256_slli_epi16(scales, log2_offset);
    return _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_madd_epi16(lifted, a->sums));
}

INLINE __m256 step_q2_k(const uint8_t *p, const struct act_k *a, __m256 total)
{
    const struct block_q2_k *b = (const void *)p;
    __m128i packed = _mm_loadu_si128((const void *)b->scales), nibble = _mm_set1_epi8(15);
    struct scales s = scales_spread(_mm256_cvtepu8_epi16(_mm_and_si128(packed, nibble)));
    __m256i sum = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int v = 0; v < 8; v++)
        sum = scaled_dot(sum, codes_q2_k(b, v), a->q + 32 * v, scales_of(&s, v));
    total = add_block(total, sum, f16_load(b->d) * a->d);
    __m128i minima = _mm_and_si128(_mm_srli_epi16(packed, 4), nibble);
    return less_minima(total, minima, a, f16_load(b->dmin) * a->d);
}

INLINE __m256 step_q3_k(const uint8_t *p, const struct act_k *a, __m256 total)
{
    const struct block_q3_k *b = (const void *)p;
    __m256i scales = _mm256_cvtepi8_epi16(scales_q3_k(b->scales));
    struct scales s = scales_spread(scales);
    __m256i sum = offset_start(scales, a, 2);
#pragma GCC unroll 8
    for (int v = 0; v < 8; v++)
        sum = scaled_dot(sum, codes_q3_k(b, v), a->q + 32 * v, scales_of(&s, v));
    return add_block(total, sum, f16_load(b->d) * a->d);
}

INLINE __m256 step_q6_k(const uint8_t *p, const struct act_k *a, __m256 total)
{
    const struct block_q6_k *b = (const void *)p;
    __m256i scales = _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)b->scales));
    struct scales s = scales_spread(scales);
    __m256i sum = offset_start(scales, a, 5);
#pragma GCC unroll 8
    for (int v = 0; v < 8; v++)
        sum = scaled_dot(sum, codes_q6_k(b, v), a->q + 32 * v, scales_of(&s, v));
    return add_block(total, sum, f16_load(b->d) * a->d);
}

/* Groups of 32: scale v in every word. */
INLINE __m256i scale_k4(__m256i words, int v)
{
    return _mm256_shuffle_epi8(words, _mm256_set1_epi16((short)(2 * v | (2 * v + 1) << 8)));
}

INLINE __m256 step_q4_k(const uint8_t *p, const struct act_k *a, __m256 total)
{
    const struct block_q4_k *b = (const void *)p;
    __m128i packed = scales_k4(b->scales);
    __m256i words = _mm256_broadcastsi128_si256(_mm_cvtepu8_epi16(packed));
    __m256i sum = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int v = 0; v < 8; v++)
        sum = scaled_dot(sum, codes_q4_k(b, v), a->q + 32 * v, scale_k4(words, v));
    total = add_block(total, sum, f16_load(b->d) * a->d);
    return less_minima(total, minima_k4(packed), a, f16_load(b->dmin) * a->d);
}

INLINE __m256 step_q5_k(const uint8_t *p, const struct act_k *a, __m256 total)
{
    const struct block_q5_k *b = (const void *)p;
    __m128i packed = scales_k4(b->scales);
    __m256i words = _mm256_broadcastsi128_si256(_mm_cvtepu8_epi16(packed));
    __m256i sum = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int v = 0; v < 8; v++)
        sum = scaled_dot(sum, codes_q5_k(b, v), a->q + 32 * v, scale_k4(words, v));
    total = add_block(total, sum, f16_load(b->d) * a->d);
    return less_minima(total, minima_k4(packed), a, f16_load(b->dmin) * a->d);
}

INLINE float lanes_sum(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

typedef __m256 step_k_fn(const uint8_t *block, const struct act_k *a, __m256 total);

INLINE void rows_k(step_k_fn *step, int block_bytes, const uint8_t *w, size_t apart, int n,
                   size_t n_in, struct act_view act, float *out, size_t out_apart)
{
    __m256 total[STREAMS];
    for (int i = 0; i < n; i++)
        total[i] = _mm256_setzero_ps();
    for (size_t b = 0; b < n_in / BLOCK_K; b++) {
        struct act_k a = {
            .q = act.q + b * BLOCK_K, .sums = load_32(act.sums + b * BLOCK_GROUPS), .d = act.d[b]};
        for (int i = 0; i < n; i++) {
            const uint8_t *p = w + (size_t)i * apart + b * (size_t)block_bytes;
            prefetch(p, block_bytes);
            total[i] = step(p, &a, total[i]);
        }
    }
    for (int i = 0; i < n; i++)
        out[(size_t)i * out_apart] = lanes_sum(total[i]);
}

/* ---- the 32-blocks ---- */

typedef __m256i codes_fn(const uint8_t *block);

/* One block: eight sums; signed codes lend their sign to the activations. */
INLINE __m256i dot_32(__m256i codes, const int8_t *q, bool is_signed)
{
    __m256i a = load_32(q), pairs;
    if (is_signed)
        pairs = _mm256_maddubs_epi16(_mm256_sign_epi8(codes, codes), _mm256_sign_epi8(a, codes));
    else
        pairs = _mm256_maddubs_epi16(codes, a);
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

/* offset 0 means signed codes */
INLINE void rows_32(codes_fn *codes, size_t bytes, int offset, const uint8_t *w, size_t apart,
                    int n, size_t n_in, struct act_view act, float *out, size_t out_apart)
{
    __m256 total[STREAMS];
    float lifted[STREAMS] = {0}; /* what offsets added */
    for (int i = 0; i < n; i++)
        total[i] = _mm256_setzero_ps();
    for (size_t b = 0; b < n_in / BLOCK_32; b++) {
        float surplus = (float)(offset * (act.sums[2 * b] + act.sums[2 * b + 1]));
        for (int i = 0; i < n; i++) {
            const uint8_t *p = w + (size_t)i * apart + b * bytes;
            float d = f16_load(p) * act.d[b];
            __m256i dot = dot_32(codes(p), act.q + b * BLOCK_32, offset == 0);
            _mm_prefetch((const char *)p + AHEAD, _MM_HINT_T0);
            total[i] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_set1_ps(d), total[i]);
            if (offset != 0)
                lifted[i] += surplus * d;
        }
    }
    for (int i = 0; i < n; i++)
        out[(size_t)i * out_apart] = lanes_sum(total[i]) - lifted[i];
}

/* ---- one function a format ---- */

#define DECODE(name, group, call)                                                                  \
    void decode_##name##_avx2(const void *w, size_t row_bytes, size_t n_rows, size_t n_in,         \
                              const void *packed, float *out)                                      \
    {                                                                                              \
        const uint8_t *p = w;                                                                      \
        struct act_view act = act_view(packed, n_in, group);                                       \
        size_t quarter = n_rows / STREAMS;                                                         \
        for (size_t r = 0; r < quarter; r++)                                                       \
            call(p + r * row_bytes, quarter * row_bytes, STREAMS, n_in, act, out + r, quarter);    \
        for (size_t r = STREAMS * quarter; r < n_rows; r++)                                        \
            call(p + r * row_bytes, 0, 1, n_in, act, out + r, 0);                                  \
    }

#define ROWS_Q2_K(...)   rows_k(step_q2_k, 84, __VA_ARGS__)
#define ROWS_Q3_K(...)   rows_k(step_q3_k, 110, __VA_ARGS__)
#define ROWS_Q4_K(...)   rows_k(step_q4_k, 144, __VA_ARGS__)
#define ROWS_Q5_K(...)   rows_k(step_q5_k, 176, __VA_ARGS__)
#define ROWS_Q6_K(...)   rows_k(step_q6_k, 210, __VA_ARGS__)
#define ROWS_IQ4_NL(...) rows_32(codes_iq4_nl, 18, 0, __VA_ARGS__)
#define ROWS_Q4_0(...)   rows_32(codes_q4_0, 18, 8, __VA_ARGS__)
#define ROWS_Q5_0(...)   rows_32(codes_q5_0, 22, 16, __VA_ARGS__)
#define ROWS_Q8_0(...)   rows_32(codes_q8_0, 34, 0, __VA_ARGS__)

DECODE(Q2_K, BLOCK_K, ROWS_Q2_K)
DECODE(Q3_K, BLOCK_K, ROWS_Q3_K)
DECODE(Q4_K, BLOCK_K, ROWS_Q4_K)
DECODE(Q5_K, BLOCK_K, ROWS_Q5_K)
DECODE(Q6_K, BLOCK_K, ROWS_Q6_K)
DECODE(IQ4_NL, BLOCK_32, ROWS_IQ4_NL)
DECODE(Q4_0, BLOCK_32, ROWS_Q4_0)
DECODE(Q5_0, BLOCK_32, ROWS_Q5_0)
DECODE(Q8_0, BLOCK_32, ROWS_Q8_0)
