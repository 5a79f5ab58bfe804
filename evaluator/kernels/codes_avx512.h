/* codes_avx512.h - codes and scales of block formats in 512-bit registers.
 *
 * Codes come out unsigned, as vpdpbusd wants them: code + offset, the offset (0, 4, 8, 16, 32 or
 * 128) being the format's.  What the offset adds to a product is offset * sum of activations, and
 * those sums lie ready in the packed activations.
 *
 * Codes of a K-quant are in natural order: register v holds weights 64v .. 64v+63, so its four
 * 128-bit lanes are the groups of 16 number 4v .. 4v+3.  Of a pair of 32-blocks, the first fills
 * the lower half. */
#ifndef KERF_CODES_AVX512_H
#define KERF_CODES_AVX512_H

#include "evaluator/kernels/blocks.h"
#include "evaluator/kernels/inline.h"

#include <immintrin.h>

/* 32 bytes in both halves. */
INLINE __m512i load_twice(const uint8_t *p)
{
    return _mm512_broadcast_i64x4(_mm256_loadu_si256((const void *)p));
}

/* Shift counts for the two halves of a register. */
INLINE __m512i halves(long long low, long long high)
{
    return _mm512_set_epi64(high, high, high, high, low, low, low, low);
}

/* (a & mask_a) | (b & mask_b) where a is masked already: a | (b & mask) in one instruction. */
INLINE __m512i or_masked(__m512i a, __m512i b, __m512i mask)
{
    return _mm512_ternarylogic_epi64(a, b, mask, 0xf8);
}

INLINE __m512i codes_q2_k(const struct block_q2_k *b, int v)
{
    int j = 2 * (v & 1);
    __m512i q = load_twice(b->qs + 32 * (v >> 1));
    return _mm512_and_si512(_mm512_srlv_epi64(q, halves(2 * j, 2 * j + 2)), _mm512_set1_epi8(3));
}

/* Rotating by (bit - target) mod 64 brings bit `bit` of every byte to bit `target`; what crosses
 * byte borders is masked away. */
INLINE __m512i bits_to(__m512i bytes, int bit_low, int bit_high, int target)
{
    return _mm512_rorv_epi64(bytes, halves((bit_low - target) & 63, (bit_high - target) & 63));
}

INLINE __m512i codes_q3_k(const struct block_q3_k *b, int v)
{
    int j = 2 * (v & 1);
    __m512i q = load_twice(b->qs + 32 * (v >> 1));
    __m512i low =
        _mm512_and_si512(_mm512_srlv_epi64(q, halves(2 * j, 2 * j + 2)), _mm512_set1_epi8(3));
    __m512i high = bits_to(load_twice(b->hmask), 2 * v, 2 * v + 1, 2);
    return or_masked(low, high, _mm512_set1_epi8(4));
}

INLINE __m512i nibbles_k(const uint8_t *qs, int v)
{
    return _mm512_and_si512(_mm512_srlv_epi64(load_twice(qs + 32 * v), halves(0, 4)),
                            _mm512_set1_epi8(15));
}

INLINE __m512i codes_q4_k(const struct block_q4_k *b, int v)
{
    return nibbles_k(b->qs, v);
}

INLINE __m512i codes_q5_k(const struct block_q5_k *b, int v)
{
    __m512i high = bits_to(load_twice(b->qh), 2 * v, 2 * v + 1, 4);
    return or_masked(nibbles_k(b->qs, v), high, _mm512_set1_epi8(16));
}

INLINE __m512i codes_q6_k(const struct block_q6_k *b, int v)
{
    int j = 2 * (v & 1);
    __m512i low = _mm512_loadu_si512(b->ql + 64 * (v >> 1));
    if (v & 1)
        low = _mm512_srli_epi16(low, 4);
    low = _mm512_and_si512(low, _mm512_set1_epi8(15));
    __m512i high = bits_to(load_twice(b->qh + 32 * (v >> 1)), 2 * j, 2 * j + 2, 4);
    return or_masked(low, high, _mm512_set1_epi8(0x30));
}

/* The 12 bytes of Q4_K and Q5_K: scales in the low, minima in the high 8 bytes. */
INLINE __m128i scales_k4(const uint8_t packed[12])
{
    uint32_t a = load_u32(packed), b = load_u32(packed + 4), c = load_u32(packed + 8);
    uint32_t scale_high = (c & 0x0f0f0f0f) | (a >> 2 & 0x30303030);
    uint32_t min_high = (c >> 4 & 0x0f0f0f0f) | (b >> 2 & 0x30303030);
    uint64_t scale = (a & 0x3f3f3f3f) | (uint64_t)scale_high << 32;
    uint64_t min = (b & 0x3f3f3f3f) | (uint64_t)min_high << 32;
    return _mm_set_epi64x((long long)min, (long long)scale);
}

/* The 16 signed scales of Q3_K as bytes.  Sixteen bytes are read that end with the block. */
INLINE __m128i scales_q3_k(const struct block_q3_k *b)
{
    __m128i x = _mm_loadu_si128((const void *)((const uint8_t *)b + sizeof *b - 16));
    __m128i low = _mm_shuffle_epi8(x, _mm_set1_epi64x(0x0908070605040302));
    __m128i high = _mm_shuffle_epi8(x, _mm_set1_epi32(0x0d0c0b0a));
    low = _mm_and_si128(_mm_srlv_epi64(low, _mm_set_epi64x(4, 0)), _mm_set1_epi8(15));
    /* Bits 2j, 2j+1 of dword j come to bits 4, 5. */
    high = _mm_rorv_epi32(high, _mm_set_epi32(2, 0, 30, 28));
    __m128i scale = _mm_ternarylogic_epi64(low, high, _mm_set1_epi8(0x30), 0xf8);
    return _mm_sub_epi8(scale, _mm_set1_epi8(32));
}

/* ---- pairs of 32-blocks ---- */

/* Low nibbles and high nibbles of both, in the low bits of bytes whose upper bits are rubbish. */
INLINE __m512i pair_spread(const uint8_t *first, const uint8_t *second)
{
    __m256i a = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)first));
    __m256i b = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)second));
    __m512i q = _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
    return _mm512_srlv_epi64(q, _mm512_set_epi64(4, 4, 0, 0, 4, 4, 0, 0));
}

INLINE __m512i pair_nibbles(const uint8_t *first, const uint8_t *second)
{
    return _mm512_and_si512(pair_spread(first, second), _mm512_set1_epi8(15));
}

INLINE __m512i pair_q4_0(const uint8_t *p, const uint8_t *next)
{
    return pair_nibbles(p + 2, next + 2);
}

INLINE __m512i pair_q5_0(const uint8_t *p, const uint8_t *next)
{
    __mmask64 bits = load_u32(p + 2) | (uint64_t)load_u32(next + 2) << 32;
    __m512i high = _mm512_maskz_mov_epi8(bits, _mm512_set1_epi8(16));
    return or_masked(high, pair_spread(p + 6, next + 6), _mm512_set1_epi8(15));
}

INLINE __m512i pair_q8_0(const uint8_t *p, const uint8_t *next)
{
    __m512i q =
        _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const void *)(p + 2))),
                           _mm256_loadu_si256((const void *)(next + 2)), 1);
    return _mm512_xor_si512(q, _mm512_set1_epi8((char)0x80));
}

INLINE __m512i pair_iq4_nl(const uint8_t *p, const uint8_t *next)
{
    __m128i levels =
        _mm_xor_si128(_mm_loadu_si128((const void *)iq4_nl_values), _mm_set1_epi8((char)0x80));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(levels), pair_nibbles(p + 2, next + 2));
}

INLINE float f16_load(const void *p)
{
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(load_u16(p))));
}

/* The factors d of eight consecutive 32-blocks of `bytes` bytes each; they stand first.  Single
 * loads: a gather takes longer than all the products of eight blocks of Q8_0. */
INLINE __m256 factors_32(const uint8_t *p, int bytes)
{
    short d[8];
    for (int k = 0; k < 8; k++)
        d[k] = (short)load_u16(p + k * bytes);
    return _mm256_cvtph_ps(_mm_set_epi16(d[7], d[6], d[5], d[4], d[3], d[2], d[1], d[0]));
}

#endif
