/* attend_avx512.c - attention with 512-bit registers: in tiles, sixteen columns a register, and of
 * one position. */
#include "evaluator/kernels/vec_avx512.h"

enum { KEYS = 8, VALUES = 8, MOST_HEADS = 8, MIX_SUMS = 16 };

/* ---- rows of the cache ---- */

INLINE vec row_F32(const char *row, size_t at, size_t left)
{
    return load_f32_16(row + 4 * at, tail_mask(left));
}

INLINE vec row_F16(const char *row, size_t at, size_t left)
{
    return load_f16_16(row + 2 * at, tail_mask(left));
}

INLINE vec row_Q8_0(const char *row, size_t at, size_t left)
{
    const struct block_q8_0 *b = (const struct block_q8_0 *)(const void *)row + at / BLOCK_32;
    (void)left;
    __m128i codes = _mm_loadu_si128((const void *)(b->qs + at % BLOCK_32));
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes));
}

INLINE vec row_Q4_0(const char *row, size_t at, size_t left)
{
    const struct block_q4_0 *b = (const struct block_q4_0 *)(const void *)row + at / BLOCK_32;
    __m128i codes = _mm_loadu_si128((const void *)b->qs);
    (void)left;
    codes = at % BLOCK_32 == 0 ? codes : _mm_srli_epi16(codes, 4);
    codes = _mm_sub_epi8(_mm_and_si128(codes, _mm_set1_epi8(15)), _mm_set1_epi8(8));
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes));
}

/* The words at `at` of four rows. */
INLINE long long words_of(const char *const *row, size_t at)
{
    uint64_t low = load_u16(row[0] + at) | (uint32_t)load_u16(row[1] + at) << 16;
    uint64_t high = load_u16(row[2] + at) | (uint32_t)load_u16(row[3] + at) << 16;
    return (long long)(low | high << 32);
}

INLINE vec vec_factors(const char *const *row, size_t at)
{
    return _mm512_cvtph_ps(_mm256_set_epi64x(words_of(row + 12, at), words_of(row + 8, at),
                                             words_of(row + 4, at), words_of(row, at)));
}

/* ---- products of codes ---- */

typedef __m512i pair_fn(const uint8_t *p, const uint8_t *next);

/* dword[i] lane k: codes 4i .. 4i + 3 of key k.  A register takes two keys in its halves, so chosen
 * that exchanging within lanes, then lanes, leaves the keys in order. */
INLINE void turn_codes(pair_fn *pair, const char *const *row, size_t at, __m512i dword[8])
{
    __m512i m[8], t[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        const char *const *first = row + i % 4 + i / 4 * 8;
        m[i] = pair((const uint8_t *)first[0] + at, (const uint8_t *)first[4] + at);
    }
    for (int i = 0; i < 8; i += 4) {
        __m512i a = _mm512_unpacklo_epi32(m[i], m[i + 1]),
                b = _mm512_unpackhi_epi32(m[i], m[i + 1]);
        __m512i c = _mm512_unpacklo_epi32(m[i + 2], m[i + 3]);
        __m512i d = _mm512_unpackhi_epi32(m[i + 2], m[i + 3]);
        t[i] = _mm512_unpacklo_epi64(a, c);
        t[i + 1] = _mm512_unpackhi_epi64(a, c);
        t[i + 2] = _mm512_unpacklo_epi64(b, d);
        t[i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    for (int i = 0; i < 4; i++) {
        dword[i] = _mm512_shuffle_i32x4(t[i], t[i + 4], 0x88);
        dword[i + 4] = _mm512_shuffle_i32x4(t[i], t[i + 4], 0xdd);
    }
}

INLINE void score_codes(pair_fn *pair, size_t block_bytes, const char *const *row, size_t block,
                        const int8_t *codes, int heads, vec score[MOST_HEADS])
{
    __m512i dword[8];
    turn_codes(pair, row, block * block_bytes, dword);
#pragma GCC unroll 8
    for (int h = 0; h < heads; h++) {
        __m512i sum = _mm512_setzero_si512();
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            sum = _mm512_dpbusd_epi32(
                sum, dword[i], _mm512_set1_epi32((int)load_u32(codes + h * BLOCK_32 + 4 * i)));
        score[h] = _mm512_cvtepi32_ps(sum);
    }
}

enum { LIFT_Q8_0 = 128, LIFT_Q4_0 = 8 };

INLINE void score_Q8_0(const char *const *row, size_t block, const int8_t *codes, int heads,
                       vec score[MOST_HEADS])
{
    score_codes(pair_q8_0, sizeof(struct block_q8_0), row, block, codes, heads, score);
}

INLINE void score_Q4_0(const char *const *row, size_t block, const int8_t *codes, int heads,
                       vec score[MOST_HEADS])
{
    score_codes(pair_q4_0, sizeof(struct block_q4_0), row, block, codes, heads, score);
}

#include "evaluator/kernels/attend_impl.h"

void attend_avx512_fill(struct kernels *set)
{
    attend_fill(set);
}
