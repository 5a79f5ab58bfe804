/* decode_avx2.c - a few columns times packed rows with 256-bit registers.
 * maddubs gives sums of two products in 16 bits (at most 2 * 63 * 127), madd multiplies them by the
 * group scales. */
#include "evaluator/kernels/codes_avx2.h"
#include "evaluator/kernels/int8_avx2.h"
#include "evaluator/kernels/meeting.h"

enum { AHEAD = 1024 };

/* What 256 activations give to every row; the codes stay in memory. */
struct act_k {
    const int8_t *q;
    __m256i sums; /* int16 of each 16 */
    float d;
};

/* Of all columns. */
struct acts {
    struct act_k column[MEET_COLUMNS];
    int n;
};
#define EACH_COLUMN _Pragma("GCC unroll 4") for (int c = 0; c < a->n; c++)

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

/* One block of a row, added to the total of each column. */
typedef void step_k_fn(const uint8_t *block, const struct acts *a, __m256 *total);

/* sum[c] += codes times activations 32 v, ... times scales */
INLINE void scaled_dots(__m256i *sum, __m256i codes, const struct acts *a, int v, __m256i scales)
{
    EACH_COLUMN
    {
        __m256i pairs = _mm256_maddubs_epi16(codes, load_32(a->column[c].q + 32 * v));
        sum[c] = _mm256_add_epi32(sum[c], _mm256_madd_epi16(pairs, scales));
    }
}

INLINE void add_block(__m256 *total, const __m256i *sum, const struct acts *a, float d)
{
    EACH_COLUMN
    total[c] =
        _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[c]), _mm256_set1_ps(d * a->column[c].d), total[c]);
}

INLINE void less_minima(__m256 *total, __m128i minima, const struct acts *a, float dmin)
{
    __m256i words = _mm256_cvtepu8_epi16(minima);
    EACH_COLUMN
    {
        __m256i sum = _mm256_madd_epi16(words, a->column[c].sums);
        total[c] = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(dmin * a->column[c].d),
                                    total[c]);
    }
}

INLINE void start_at_zero(__m256i *sum, const struct acts *a)
{
    EACH_COLUMN
    sum[c] = _mm256_setzero_si256();
}

/* -offset * sum of scale * sums, the offset a power of two */
INLINE void start_at_offset(__m256i *sum, __m256i scales, const struct acts *a, int log2_offset)
{
    __m256i lifted = _mm256_slli_epi16(scales, log2_offset);
    EACH_COLUMN
    sum[c] = _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_madd_epi16(lifted, a->column[c].sums));
}

INLINE void step_q2_k(const uint8_t *p, const struct acts *a, __m256 *total)
{
    const struct block_q2_k *b = (const void *)p;
    __m128i packed = _mm_loadu_si128((const void *)b->scales), nibble = _mm_set1_epi8(15);
    struct scales s = scales_spread(_mm256_cvtepu8_epi16(_mm_and_si128(packed, nibble)));
    __m256i sum[MEET_COLUMNS];
    start_at_zero(sum, a);
#pragma GCC unroll 8
    for (int v = 0; v < 8; v++)
        scaled_dots(sum, codes_q2_k(b, v), a, v, scales_of(&s, v));
    add_block(total, sum, a, f16_load(b->d));
    __m128i minima = _mm_and_si128(_mm_srli_epi16(packed, 4), nibble);
    less_minima(total, minima, a, f16_load(b->dmin));
}

INLINE void step_q3_k(const uint8_t *p, const struct acts *a, __m256 *total)
{
    const struct block_q3_k *b = (const void *)p;
    __m256i scales = _mm256_cvtepi8_epi16(scales_q3_k(b->scales));
    struct scales s = scales_spread(scales);
    __m256i sum[MEET_COLUMNS];
    start_at_offset(sum, scales, a, 2);
#pragma GCC unroll 8
    for (int v = 0; v < 8; v++)
        scaled_dots(sum, codes_q3_k(b, v), a, v, scales_of(&s, v));
    add_block(total, sum, a, f16_load(b->d));
}

INLINE void step_q6_k(const uint8_t *p, const struct acts *a, __m256 *total)
{
    const struct block_q6_k *b = (const void *)p;
    __m256i scales = _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)b->scales));
    struct scales s = scales_spread(scales);
    __m256i sum[MEET_COLUMNS];
    start_at_offset(sum, scales, a, 5);
#pragma GCC unroll 8
    for (int v = 0; v < 8; v++)
        scaled_dots(sum, codes_q6_k(b, v), a, v, scales_of(&s, v));
    add_block(total, sum, a, f16_load(b->d));
}

/* Groups of 32: scale v in every word. */
INLINE __m256i scale_k4(__m256i words, int v)
{
    return _mm256_shuffle_epi8(words, _mm256_set1_epi16((short)(2 * v | (2 * v + 1) << 8)));
}

INLINE void step_q4_k(const uint8_t *p, const struct acts *a, __m256 *total)
{
    const struct block_q4_k *b = (const void *)p;
    __m128i packed = scales_k4(b->scales);
    __m256i words = _mm256_broadcastsi128_si256(_mm_cvtepu8_epi16(packed));
    __m256i sum[MEET_COLUMNS];
    start_at_zero(sum, a);
#pragma GCC unroll 8
    for (int v = 0; v < 8; v++)
        scaled_dots(sum, codes_q4_k(b, v), a, v, scale_k4(words, v));
    add_block(total, sum, a, f16_load(b->d));
    less_minima(total, minima_k4(packed), a, f16_load(b->dmin));
}

INLINE void step_q5_k(const uint8_t *p, const struct acts *a, __m256 *total)
{
    const struct block_q5_k *b = (const void *)p;
    __m128i packed = scales_k4(b->scales);
    __m256i words = _mm256_broadcastsi128_si256(_mm_cvtepu8_epi16(packed));
    __m256i sum[MEET_COLUMNS];
    start_at_zero(sum, a);
#pragma GCC unroll 8
    for (int v = 0; v < 8; v++)
        scaled_dots(sum, codes_q5_k(b, v), a, v, scale_k4(words, v));
    add_block(total, sum, a, f16_load(b->d));
    less_minima(total, minima_k4(packed), a, f16_load(b->dmin));
}

INLINE float lanes_sum(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

INLINE void rows_k(step_k_fn *step, size_t bytes, const struct meeting *m)
{
    __m256 total[STREAMS][MEET_COLUMNS];
    for (int i = 0; i < STREAMS; i++)
        for (int c = 0; c < m->n_cols; c++)
            total[i][c] = _mm256_setzero_ps();
    for (size_t b = 0; b < m->n_in / BLOCK_K; b++) {
        struct acts a = {.n = m->n_cols};
        for (int c = 0; c < m->n_cols; c++) {
            struct act_view v = act_view(m->act[c], m->n_in, BLOCK_K);
            a.column[c] = (struct act_k){
                .q = v.q + b * BLOCK_K, .sums = load_32(v.sums + b * BLOCK_GROUPS), .d = v.d[b]};
        }
        for (int i = 0; i < STREAMS; i++) {
            const uint8_t *p = m->w + (size_t)i * m->apart + b * bytes;
            prefetch(p, (int)bytes);
            step(p, &a, total[i]);
        }
    }
    for (int i = 0; i < m->n_rows; i++)
        for (int c = 0; c < m->n_cols; c++)
            m->out[(size_t)i * m->out_apart + (size_t)c * m->out_stride] = lanes_sum(total[i][c]);
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
INLINE void rows_32(codes_fn *codes, size_t bytes, int offset, const struct meeting *m)
{
    struct act_view act[MEET_COLUMNS];
    __m256 total[STREAMS][MEET_COLUMNS];
    float lifted[STREAMS][MEET_COLUMNS] = {{0}}; /* what offsets added */
    for (int i = 0; i < STREAMS; i++)
        for (int c = 0; c < m->n_cols; c++)
            total[i][c] = _mm256_setzero_ps();
    for (int c = 0; c < m->n_cols; c++)
        act[c] = act_view(m->act[c], m->n_in, BLOCK_32);
    for (size_t b = 0; b < m->n_in / BLOCK_32; b++) {
        float surplus[MEET_COLUMNS];
        for (int c = 0; c < m->n_cols; c++)
            surplus[c] = (float)(offset * (act[c].sums[2 * b] + act[c].sums[2 * b + 1]));
        for (int i = 0; i < STREAMS; i++) {
            const uint8_t *p = m->w + (size_t)i * m->apart + b * bytes;
            __m256i code = codes(p);
            _mm_prefetch((const char *)p + AHEAD, _MM_HINT_T0);
            for (int c = 0; c < m->n_cols; c++) {
                float d = f16_load(p) * act[c].d[b];
                __m256i dot = dot_32(code, act[c].q + b * BLOCK_32, offset == 0);
                total[i][c] =
                    _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_set1_ps(d), total[i][c]);
                if (offset != 0)
                    lifted[i][c] += surplus[c] * d;
            }
        }
    }
    for (int i = 0; i < m->n_rows; i++)
        for (int c = 0; c < m->n_cols; c++)
            m->out[(size_t)i * m->out_apart + (size_t)c * m->out_stride] =
                lanes_sum(total[i][c]) - lifted[i][c];
}

/* ---- one function a format ---- */

DECODE(avx2, Q2_K, rows_k(step_q2_k, 84, m))
DECODE(avx2, Q3_K, rows_k(step_q3_k, 110, m))
DECODE(avx2, Q4_K, rows_k(step_q4_k, 144, m))
DECODE(avx2, Q5_K, rows_k(step_q5_k, 176, m))
DECODE(avx2, Q6_K, rows_k(step_q6_k, 210, m))
DECODE(avx2, IQ4_NL, rows_32(codes_iq4_nl, 18, 0, m))
DECODE(avx2, Q4_0, rows_32(codes_q4_0, 18, 8, m))
DECODE(avx2, Q5_0, rows_32(codes_q5_0, 22, 16, m))
DECODE(avx2, Q8_0, rows_32(codes_q8_0, 34, 0, m))
