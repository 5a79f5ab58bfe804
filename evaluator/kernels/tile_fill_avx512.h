/* tile_fill_avx512.h - sixteen rows of any 8-bit format unpacked together, into a tile in which a
 * register holds four consecutive weights of all sixteen rows.
 *
 *   codes   [step][16 rows][4]  unsigned bytes; 64 steps of 4 weights are a block of 256
 *   scale   [group][16 rows]    float: d * group scale; of a 32-block its d
 *   minima  [pair][16 rows][2]  int16: minima of groups 2*pair and 2*pair + 1, as sums lie
 *   dmin    [block][16 rows]    float
 *
 * Packed bytes are turned over first, sixteen of each row at a time, and unpacked then: of codes
 * there are two to four times as many, and heads are read for all rows at once.  Where a block is
 * described, b and w are those of blocks.h. */
#ifndef KERF_TILE_FILL_AVX512_H
#define KERF_TILE_FILL_AVX512_H

#include "evaluator/kernels/codes_avx512.h"

enum { ROWS = 16, BLOCKS = 4, STEPS = 64, PAIRS = 8 };

struct tile {
    _Alignas(64) uint8_t codes[BLOCKS][STEPS][ROWS][4];
    float scale[BLOCKS][BLOCK_GROUPS][ROWS];
    int32_t minima[BLOCKS][PAIRS][ROWS];
    float dmin[BLOCKS][ROWS];
};

/* Sixteen rows. */
struct strip {
    const uint8_t *row[ROWS];
};

/* Sixteen bytes of every row, turned over: register j holds dword j of each row.  Turning packed
 * bytes is half the work of turning codes and more: what follows is done for all rows at once. */
INLINE void weave(const struct strip *s, size_t at, __m512i out[4])
{
    __m512i m[4];
    for (int i = 0; i < 4; i++) {
        m[i] = _mm512_castsi128_si512(_mm_loadu_si128((const void *)(s->row[i] + at)));
        m[i] = _mm512_inserti32x4(m[i], _mm_loadu_si128((const void *)(s->row[i + 4] + at)), 1);
        m[i] = _mm512_inserti32x4(m[i], _mm_loadu_si128((const void *)(s->row[i + 8] + at)), 2);
        m[i] = _mm512_inserti32x4(m[i], _mm_loadu_si128((const void *)(s->row[i + 12] + at)), 3);
    }
    __m512i a = _mm512_unpacklo_epi32(m[0], m[1]), b = _mm512_unpacklo_epi32(m[2], m[3]);
    __m512i c = _mm512_unpackhi_epi32(m[0], m[1]), d = _mm512_unpackhi_epi32(m[2], m[3]);
    out[0] = _mm512_unpacklo_epi64(a, b);
    out[1] = _mm512_unpackhi_epi64(a, b);
    out[2] = _mm512_unpacklo_epi64(c, d);
    out[3] = _mm512_unpackhi_epi64(c, d);
}

/* Every dword anew from its own bytes, the lowest first; -1 is a zero. */
INLINE __m512i pick(__m512i x, int b0, int b1, int b2, int b3)
{
    int from[4] = {b0, b1, b2, b3}, index[4];
    for (int i = 0; i < 4; i++) {
        index[i] = 0;
        for (int b = 0; b < 4; b++)
            index[i] |= (int)((from[b] < 0 ? 0x80u : (unsigned)(4 * i + from[b])) << 8 * b);
    }
    __m128i lane = _mm_set_epi32(index[3], index[2], index[1], index[0]);
    return _mm512_shuffle_epi8(x, _mm512_broadcast_i32x4(lane));
}

/* Bit `bit` of every byte comes to bit `to`; what crosses borders is for the caller to mask. */
INLINE __m512i bit_to(__m512i x, int bit, int to)
{
    return _mm512_rorv_epi32(x, _mm512_set1_epi32((bit - to) & 31));
}

INLINE __m512i masked(__m512i x, int mask)
{
    return _mm512_and_si512(x, _mm512_set1_epi8((char)mask));
}

/* Signed bytes plus 128. */
INLINE __m512i flip(__m512i x)
{
    return _mm512_xor_si512(x, _mm512_set1_epi8((char)0x80));
}

/* f16 in the lower or upper half of every dword. */
INLINE __m512 f16_low(__m512i x)
{
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(x));
}

INLINE __m512 f16_high(__m512i x)
{
    return f16_low(_mm512_srli_epi32(x, 16));
}

typedef uint8_t step_codes[ROWS][4];

INLINE void put(step_codes *codes, size_t step, __m512i x)
{
    _mm512_store_si512(codes[step], x);
}

/* scale[g] = d * byte g of `bytes`, signed; of minima, when there are some, byte g of theirs. */
INLINE void put_scale(struct tile *t, size_t k, int g, __m512i bytes, __m512 d)
{
    __m512i scale = _mm512_srai_epi32(pick(bytes, -1, -1, -1, g % 4), 24);
    _mm512_store_ps(t->scale[k][g], _mm512_mul_ps(_mm512_cvtepi32_ps(scale), d));
}

/* Two minima as a pair of words. */
INLINE void put_minima(struct tile *t, size_t k, int pair, __m512i bytes, int first, int second)
{
    _mm512_store_si512(t->minima[k][pair], pick(bytes, first, -1, second, -1));
}

/* Codes of two bits: bytes [32h + l] hold w[128h + 32j + l] in bits 2j and 2j + 1. */
INLINE void twos(const struct strip *s, size_t at, int h, __m512i q[8])
{
    weave(s, at + 32 * (size_t)h, q);
    weave(s, at + 32 * (size_t)h + 16, q + 4);
}

INLINE void fill_q2_k(const struct strip *s, size_t at, struct tile *t, size_t k)
{
    __m512i q[8], tail[4];
    weave(s, at, q);
    weave(s, at + 84 - 16, tail);
    __m512 d = f16_low(tail[3]);
    for (int g = 0; g < BLOCK_GROUPS; g++)
        put_scale(t, k, g, masked(q[g / 4], 15), d);
    for (int i = 0; i < PAIRS; i++)
        put_minima(t, k, i, masked(_mm512_srli_epi32(q[i / 2], 4), 15), i % 2 * 2, i % 2 * 2 + 1);
    _mm512_store_ps(t->dmin[k], f16_high(tail[3]));
    for (int h = 0; h < 2; h++) {
        twos(s, at + 16, h, q);
        for (int j = 0; j < 4; j++)
            for (int i = 0; i < 8; i++)
                put(t->codes[k], 32 * (size_t)h + 8 * (size_t)j + (size_t)i,
                    masked(bit_to(q[i], 2 * j, 0), 3));
    }
}

INLINE void fill_q3_k(const struct strip *s, size_t at, struct tile *t, size_t k)
{
    __m512i q[8], high[8], x[4], tail[4];
    weave(s, at + 96 - 4, x);
    weave(s, at + 110 - 16, tail);
    __m512 d = f16_high(tail[3]);
    for (int g = 0; g < BLOCK_GROUPS; g++) {
        /* Dword r of four groups: nibbles of bytes 0-7, two bits of bytes 8-11. */
        int r = g / 4;
        __m512i scale = masked(bit_to(x[1 + r % 2], r / 2 * 4, 0), 15);
        scale = or_masked(scale, bit_to(x[3], 2 * r, 4), _mm512_set1_epi8(0x30));
        put_scale(t, k, g, _mm512_sub_epi8(scale, _mm512_set1_epi8(32)), d);
    }
    weave(s, at, high);
    weave(s, at + 16, high + 4);
    for (int h = 0; h < 2; h++) {
        twos(s, at + 32, h, q);
        for (int j = 0; j < 4; j++)
            for (int i = 0; i < 8; i++)
                put(t->codes[k], 32 * (size_t)h + 8 * (size_t)j + (size_t)i,
                    or_masked(masked(bit_to(q[i], 2 * j, 0), 3), bit_to(high[i], 4 * h + j, 2),
                              _mm512_set1_epi8(4)));
    }
}

/* The head of Q4_K and Q5_K: factors, and scales and minima of six bits. */
INLINE void head_k4(const struct strip *s, size_t at, struct tile *t, size_t k)
{
    __m512i x[4], high = _mm512_set1_epi8(0x30);
    weave(s, at, x);
    __m512 d = f16_low(x[0]);
    __m512i scale[2] = {masked(x[1], 63), or_masked(masked(x[3], 15), bit_to(x[1], 6, 4), high)};
    __m512i min[2] = {masked(x[2], 63),
                      or_masked(masked(bit_to(x[3], 4, 0), 15), bit_to(x[2], 6, 4), high)};
    for (int g = 0; g < PAIRS; g++) {
        put_scale(t, k, g, scale[g / 4], d);
        put_minima(t, k, g, min[g / 4], g % 4, g % 4);
    }
    _mm512_store_ps(t->dmin[k], f16_high(x[0]));
}

/* Bytes [32p + l] hold w[64p + l] and w[64p + 32 + l]; byte l of `fifth` their bits 4, in the order
 * of p, where there are such. */
INLINE void nibbles(const struct strip *s, size_t at, const __m512i *fifth, step_codes *codes)
{
    for (int p = 0; p < 8; p++) {
        __m512i q[4];
        weave(s, at + 16 * (size_t)p, q);
        for (int j = 0; j < 4; j++) {
            size_t step = 16 * (size_t)(p / 2) + 4 * (size_t)(p % 2) + (size_t)j;
            __m512i low = masked(q[j], 15), high = masked(_mm512_srli_epi32(q[j], 4), 15);
            if (fifth != NULL) {
                __m512i bits = fifth[4 * (p % 2) + j], mask = _mm512_set1_epi8(16);
                low = or_masked(low, bit_to(bits, p / 2 * 2, 4), mask);
                high = or_masked(high, bit_to(bits, p / 2 * 2 + 1, 4), mask);
            }
            put(codes, step, low);
            put(codes, step + 8, high);
        }
    }
}

INLINE void fill_q4_k(const struct strip *s, size_t at, struct tile *t, size_t k)
{
    head_k4(s, at, t, k);
    nibbles(s, at + 16, NULL, t->codes[k]);
}

INLINE void fill_q5_k(const struct strip *s, size_t at, struct tile *t, size_t k)
{
    __m512i fifth[8];
    head_k4(s, at, t, k);
    weave(s, at + 16, fifth);
    weave(s, at + 32, fifth + 4);
    nibbles(s, at + 48, fifth, t->codes[k]);
}

INLINE void fill_q6_k(const struct strip *s, size_t at, struct tile *t, size_t k)
{
    __m512i x[4], tail[4];
    weave(s, at + 192, x);
    weave(s, at + 210 - 16, tail);
    __m512 d = f16_high(tail[3]);
    for (int g = 0; g < BLOCK_GROUPS; g++)
        put_scale(t, k, g, x[g / 4], d);
    for (int h = 0; h < 2; h++) {
        __m512i upper[8], mask = _mm512_set1_epi8(0x30);
        weave(s, at + 128 + 32 * (size_t)h, upper);
        weave(s, at + 128 + 32 * (size_t)h + 16, upper + 4);
        for (int p = 0; p < 4; p++) {
            weave(s, at + 64 * (size_t)h + 16 * (size_t)p, x);
            for (int j = 0; j < 4; j++) {
                __m512i bits = upper[4 * (p % 2) + j];
                __m512i low = masked(x[j], 15), high = masked(_mm512_srli_epi32(x[j], 4), 15);
                size_t step = 32 * (size_t)h + 4 * (size_t)p + (size_t)j;
                put(t->codes[k], step, or_masked(low, bit_to(bits, p / 2 * 2, 4), mask));
                put(t->codes[k], step + 16, or_masked(high, bit_to(bits, 4 + p / 2 * 2, 4), mask));
            }
        }
    }
}

/* ---- the 32-blocks ---- */

/* Eight steps of one block. */
typedef void steps_fn(const struct strip *s, size_t at, step_codes *codes);

INLINE void steps_q4_0(const struct strip *s, size_t at, step_codes *codes)
{
    __m512i q[4];
    weave(s, at + 2, q);
    for (size_t j = 0; j < 4; j++) {
        put(codes, j, masked(q[j], 15));
        put(codes, j + 4, masked(_mm512_srli_epi32(q[j], 4), 15));
    }
}

INLINE void steps_iq4_nl(const struct strip *s, size_t at, step_codes *codes)
{
    __m512i q[4];
    __m128i levels = _mm_loadu_si128((const void *)iq4_nl_values);
    __m512i table = flip(_mm512_broadcast_i32x4(levels));
    weave(s, at + 2, q);
    for (size_t j = 0; j < 4; j++) {
        put(codes, j, _mm512_shuffle_epi8(table, masked(q[j], 15)));
        put(codes, j + 4, _mm512_shuffle_epi8(table, masked(_mm512_srli_epi32(q[j], 4), 15)));
    }
}

/* Bits 4i .. 4i + 3 of every dword of `bits` set bit 4 of its four bytes. */
INLINE __m512i with_fifth(__m512i codes, __m512i bits, int i)
{
    __m512i spread = pick(bits, i / 2, i / 2, i / 2, i / 2);
    __m512i which = _mm512_set1_epi32(i % 2 == 0 ? 0x08040201 : (int)0x80402010);
    return _mm512_mask_add_epi8(codes, _mm512_test_epi8_mask(spread, which), codes,
                                _mm512_set1_epi8(16));
}

INLINE void steps_q5_0(const struct strip *s, size_t at, step_codes *codes)
{
    __m512i q[4], head[4];
    weave(s, at + 2, head);
    weave(s, at + 6, q);
    for (int j = 0; j < 4; j++) {
        put(codes, (size_t)j, with_fifth(masked(q[j], 15), head[0], j));
        put(codes, (size_t)j + 4,
            with_fifth(masked(_mm512_srli_epi32(q[j], 4), 15), head[0], j + 4));
    }
}

INLINE void steps_q8_0(const struct strip *s, size_t at, step_codes *codes)
{
    for (size_t half = 0; half < 2; half++) {
        __m512i q[4];
        weave(s, at + 2 + 16 * half, q);
        for (size_t j = 0; j < 4; j++)
            put(codes, 4 * half + j, flip(q[j]));
    }
}

/* Eight 32-blocks, or the `n` that are left. */
INLINE void fill_32(steps_fn *steps, size_t bytes, const struct strip *s, size_t at, size_t n,
                    struct tile *t, size_t k)
{
    for (size_t b = 0; b < n; b++) {
        __m512i head[4];
        weave(s, at + b * bytes, head);
        _mm512_store_ps(t->scale[k][b], f16_low(head[0]));
        steps(s, at + b * bytes, t->codes[k] + 8 * b);
    }
}

#endif
