/* attend_avx2.c - attention with 256-bit registers: in tiles, eight columns a register, and of one
 * position. */
#include "evaluator/kernels/vec_avx2.h"

enum { KEYS = 4, VALUES = 4, MOST_HEADS = 4, MIX_SUMS = 8 };

/* ---- rows of the cache ---- */

INLINE vec row_F32(const char *row, size_t at, size_t left)
{
    return load_f32_8(row + 4 * at, left);
}

INLINE vec row_F16(const char *row, size_t at, size_t left)
{
    return load_f16_8(row + 2 * at, left);
}

INLINE vec row_Q8_0(const char *row, size_t at, size_t left)
{
    const struct block_q8_0 *b = (const struct block_q8_0 *)(const void *)row + at / BLOCK_32;
    (void)left;
    __m128i codes = _mm_loadl_epi64((const void *)(b->qs + at % BLOCK_32));
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes));
}

INLINE vec row_Q4_0(const char *row, size_t at, size_t left)
{
    const struct block_q4_0 *b = (const struct block_q4_0 *)(const void *)row + at / BLOCK_32;
    __m128i codes = _mm_loadl_epi64((const void *)(b->qs + at % 16));
    (void)left;
    codes = at % BLOCK_32 < 16 ? codes : _mm_srli_epi16(codes, 4);
    codes = _mm_sub_epi8(_mm_and_si128(codes, _mm_set1_epi8(15)), _mm_set1_epi8(8));
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes));
}

INLINE vec vec_factors(const char *const *row, size_t at)
{
    short d[LANES];
    for (int i = 0; i < LANES; i++)
        d[i] = (short)load_u16(row[i] + at);
    return _mm256_cvtph_ps(_mm_set_epi16(d[7], d[6], d[5], d[4], d[3], d[2], d[1], d[0]));
}

/* ---- products of codes ---- */

/* Sums of two products stay within 16 bits: 2 * 128 * 127. */
INLINE __m256i products_signed(__m256i keys, __m256i query)
{
    return _mm256_maddubs_epi16(_mm256_abs_epi8(keys), _mm256_sign_epi8(query, keys));
}

INLINE __m256i products_unsigned(__m256i keys, __m256i query)
{
    return _mm256_maddubs_epi16(keys, query);
}

typedef __m256i codes_fn(const uint8_t *p);
typedef __m256i products_fn(__m256i keys, __m256i query);

INLINE void score_codes(codes_fn *unpacked, products_fn *products, size_t block_bytes,
                        const char *const *row, size_t block, const int8_t *codes, int heads,
                        vec score[MOST_HEADS])
{
    vec dword[LANES]; /* lane k: codes 4i .. 4i + 3 of key k */
    __m256i sum[MOST_HEADS];
#pragma GCC unroll 8
    for (int i = 0; i < LANES; i++)
        dword[i] = _mm256_castsi256_ps(unpacked((const uint8_t *)row[i] + block * block_bytes));
    vec_transpose(dword);
#pragma GCC unroll 8
    for (int h = 0; h < heads; h++)
        sum[h] = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int i = 0; i < LANES; i++) {
#pragma GCC unroll 8
        for (int h = 0; h < heads; h++) {
            __m256i query = _mm256_set1_epi32((int)load_u32(codes + h * BLOCK_32 + 4 * i));
            __m256i pairs = products(_mm256_castps_si256(dword[i]), query);
            sum[h] = _mm256_add_epi32(sum[h], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
        }
    }
#pragma GCC unroll 8
    for (int h = 0; h < heads; h++)
        score[h] = _mm256_cvtepi32_ps(sum[h]);
}

enum { LIFT_Q8_0 = 0, LIFT_Q4_0 = 8 };

INLINE void score_Q8_0(const char *const *row, size_t block, const int8_t *codes, int heads,
                       vec score[MOST_HEADS])
{
    score_codes(codes_q8_0, products_signed, sizeof(struct block_q8_0), row, block, codes, heads,
                score);
}

INLINE void score_Q4_0(const char *const *row, size_t block, const int8_t *codes, int heads,
                       vec score[MOST_HEADS])
{
    score_codes(codes_q4_0, products_unsigned, sizeof(struct block_q4_0), row, block, codes, heads,
                score);
}

#include "evaluator/kernels/attend_impl.h"

void attend_avx2_fill(struct kernels *set)
{
    attend_fill(set);
}
