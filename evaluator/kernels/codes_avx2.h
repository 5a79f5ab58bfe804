/* codes_avx2.h - codes and scales of block formats in 256-bit registers.
 * Codes are unsigned, code + offset, and in natural order: register v of a K-quant holds weights
 * 32v .. 32v+31, its halves being the groups of 16 number 2v and 2v+1.  The two formats that need
 * all eight bits, Q8_0 and IQ4_NL, stay signed: maddubs would saturate otherwise. */
#ifndef KERF_CODES_AVX2_H
#define KERF_CODES_AVX2_H

#include "evaluator/kernels/blocks.h"
#include "evaluator/kernels/inline.h"

#include <immintrin.h>

INLINE __m256i load_32(const void *p)
{
    return _mm256_loadu_si256(p);
}

/* Bits of every byte moved down by n, up by -n; what crosses bytes must be masked away. */
INLINE __m256i moved_down(__m256i bytes, int n)
{
    return n >= 0 ? _mm256_srli_epi16(bytes, n) : _mm256_slli_epi16(bytes, -n);
}

INLINE __m256i masked(__m256i bytes, int mask)
{
    return _mm256_and_si256(bytes, _mm256_set1_epi8((char)mask));
}

INLINE __m256i codes_q2_k(const struct block_q2_k *b, int v)
{
    return masked(moved_down(load_32(b->qs + 32 * (v / 4)), 2 * (v % 4)), 3);
}

INLINE __m256i codes_q3_k(const struct block_q3_k *b, int v)
{
    __m256i low = masked(moved_down(load_32(b->qs + 32 * (v / 4)), 2 * (v % 4)), 3);
    return _mm256_or_si256(low, masked(moved_down(load_32(b->hmask), v - 2), 4));
}

INLINE __m256i codes_q4_k(const struct block_q4_k *b, int v)
{
    return masked(moved_down(load_32(b->qs + 32 * (v / 2)), 4 * (v % 2)), 15);
}

INLINE __m256i codes_q5_k(const struct block_q5_k *b, int v)
{
    __m256i low = masked(moved_down(load_32(b->qs + 32 * (v / 2)), 4 * (v % 2)), 15);
    return _mm256_or_si256(low, masked(moved_down(load_32(b->qh), v - 4), 16));
}

INLINE __m256i codes_q6_k(const struct block_q6_k *b, int v)
{
    int half = v / 4, j = v % 4;
    __m256i low = masked(moved_down(load_32(b->ql + 64 * half + 32 * (j % 2)), 4 * (j / 2)), 15);
    return _mm256_or_si256(low, masked(moved_down(load_32(b->qh + 32 * half), 2 * j - 4), 0x30));
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

/* Each byte of the upper half twice: minima of groups of 32 as minima of groups of 16. */
INLINE __m128i minima_k4(__m128i packed)
{
    return _mm_unpackhi_epi8(packed, packed);
}

/* The 16 signed scales of Q3_K as bytes. */
INLINE __m128i scales_q3_k(const uint8_t packed[12])
{
    uint32_t a = load_u32(packed), b = load_u32(packed + 4), c = load_u32(packed + 8);
    __m128i low = _mm_set_epi32((int)(b >> 4), (int)(a >> 4), (int)b, (int)a);
    __m128i high = _mm_set_epi32((int)(c >> 2), (int)c, (int)(c << 2), (int)(c << 4));
    __m128i scale = _mm_or_si128(_mm_and_si128(low, _mm_set1_epi8(15)),
                                 _mm_and_si128(high, _mm_set1_epi8(0x30)));
    return _mm_sub_epi8(scale, _mm_set1_epi8(32));
}

/* ---- 32-blocks: one register each ---- */

INLINE __m256i nibbles_32(const uint8_t *p)
{
    __m128i q = _mm_loadu_si128((const void *)p);
    return masked(_mm256_set_m128i(_mm_srli_epi16(q, 4), q), 15);
}

INLINE __m256i codes_q4_0(const uint8_t *p)
{
    return nibbles_32(p + 2);
}

INLINE __m256i codes_q5_0(const uint8_t *p)
{
    /* Byte i of the register looks at byte i / 8 of the high bits, and there at bit i % 8. */
    const __m256i byte_of =
        _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
    const __m256i bit_of = _mm256_set1_epi64x((long long)0x8040201008040201);
    __m256i bits = _mm256_shuffle_epi8(_mm256_set1_epi32((int)load_u32(p + 2)), byte_of);
    __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(bits, bit_of), bit_of);
    return _mm256_or_si256(nibbles_32(p + 6), masked(set, 16));
}

INLINE __m256i codes_q8_0(const uint8_t *p)
{
    return load_32(p + 2);
}

INLINE __m256i codes_iq4_nl(const uint8_t *p)
{
    __m128i levels = _mm_loadu_si128((const void *)iq4_nl_values);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(levels), nibbles_32(p + 2));
}

INLINE float f16_load(const void *p)
{
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(load_u16(p))));
}

#endif
