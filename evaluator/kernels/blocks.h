/* blocks.h - the bytes of every block format, as ggml lays them out, and their common meaning.
 *
 * Whatever its packing, a quantized block is the same thing: small integer codes in groups of 16
 * or 32, an integer scale and perhaps an integer minimum for each group, one or two f16 factors for
 * the block.  A weight is
 *
 *     w[i] = (d * scale[i / 16]) * code[i]  -  dmin * min[i / 16]
 *
 * `block_explode` writes that form for any format; the reference kernels, the unpacking and the
 * tests need nothing else.  All members are bytes, so that a block may begin at any address.
 *
 * Drawings: one line a field, "b" a byte, least significant bits first, w.. the weights inside. */
#ifndef KERF_BLOCKS_H
#define KERF_BLOCKS_H

#include "evaluator/kernels/kernels.h"

#include <string.h>

enum { BLOCK_K = 256, BLOCK_32 = 32, GROUP = 16, BLOCK_GROUPS = BLOCK_K / GROUP };

/* Q4_0, 18 bytes.  w[i] = d * (nibble[i] - 8)
 *   d   f16
 *   qs  b[j], j < 16: w[j] in bits 0-3, w[j+16] in bits 4-7 */
struct block_q4_0 {
    uint8_t d[2];
    uint8_t qs[16];
};

/* Q5_0, 22 bytes.  w[i] = d * (code[i] - 16), code of 5 bits
 *   d   f16
 *   qh  32 bits, little-endian: bit i is bit 4 of code[i]
 *   qs  b[j], j < 16: bits 0-3 of code[j] in bits 0-3, of code[j+16] in bits 4-7 */
struct block_q5_0 {
    uint8_t d[2];
    uint8_t qh[4];
    uint8_t qs[16];
};

/* Q8_0, 34 bytes.  w[i] = d * qs[i] */
struct block_q8_0 {
    uint8_t d[2];
    int8_t qs[32];
};

/* IQ4_NL, 18 bytes, the layout of Q4_0.  w[i] = d * iq4_nl_values[nibble[i]] */
struct block_iq4_nl {
    uint8_t d[2];
    uint8_t qs[16];
};

/* The 16 levels of IQ4_NL: denser near zero, as weights are. */
extern const int8_t iq4_nl_values[16];

/* Q2_K, 84 bytes, groups of 16.  w[i] = d * (scales[g] & 15) * code[i] - dmin * (scales[g] >> 4)
 *   scales  b[g], g < 16: scale in bits 0-3, minimum in bits 4-7
 *   qs      b[32h + l], h < 2, l < 32: code of w[128h + 32j + l] in bits 2j, 2j+1 for j < 4
 *   d, dmin f16 */
struct block_q2_k {
    uint8_t scales[16];
    uint8_t qs[64];
    uint8_t d[2];
    uint8_t dmin[2];
};

/* Q3_K, 110 bytes, groups of 16.  w[i] = d * (scale[g] - 32) * (code[i] - 4), code of 3 bits
 *   hmask   b[l], l < 32: bit j is bit 2 of the code of w[32j + l], j < 8
 *   qs      bits 0-1 of the codes, placed as in Q2_K
 *   scales  6 bits each.  b[g], g < 8:     bits 0-3 of scale[g] | bits 0-3 of scale[g+8] << 4
 *                         b[8+r], r < 4:   bits 4-5 of scale[r], scale[r+4], scale[r+8],
 *                                          scale[r+12] in bits 0-1, 2-3, 4-5, 6-7
 *   d       f16 */
struct block_q3_k {
    uint8_t hmask[32];
    uint8_t qs[64];
    uint8_t scales[12];
    uint8_t d[2];
};

/* Q4_K, 144 bytes, groups of 32.  w[i] = d * scale[g] * code[i] - dmin * min[g]
 *   d, dmin f16
 *   scales  6 bits each.  b[g], g < 4:     scale[g]  in bits 0-5, bits 4-5 of scale[g+4] in 6-7
 *                         b[4+g], g < 4:   min[g]    in bits 0-5, bits 4-5 of min[g+4]   in 6-7
 *                         b[8+g], g < 4:   bits 0-3 of scale[g+4] | bits 0-3 of min[g+4] << 4
 *   qs      b[32p + l], p < 4, l < 32: w[64p + l] in bits 0-3, w[64p + 32 + l] in bits 4-7 */
struct block_q4_k {
    uint8_t d[2];
    uint8_t dmin[2];
    uint8_t scales[12];
    uint8_t qs[128];
};

/* Q5_K, 176 bytes: Q4_K with a fifth bit.
 *   qh      b[l], l < 32: bit g is bit 4 of the code of w[32g + l], g < 8 */
struct block_q5_k {
    uint8_t d[2];
    uint8_t dmin[2];
    uint8_t scales[12];
    uint8_t qh[32];
    uint8_t qs[128];
};

/* Q6_K, 210 bytes, groups of 16.  w[i] = d * scales[g] * (code[i] - 32), code of 6 bits
 *   ql      b[64h + l], h < 2, l < 64: bits 0-3 of the codes of w[128h + l] and w[128h + 64 + l]
 *           in bits 0-3 and 4-7
 *   qh      b[32h + l], h < 2, l < 32: bits 4-5 of the code of w[128h + 32j + l] in bits 2j, 2j+1
 *   scales  signed bytes
 *   d       f16 */
struct block_q6_k {
    uint8_t ql[128];
    uint8_t qh[64];
    int8_t scales[16];
    uint8_t d[2];
};

/* A block taken apart.  code, scale and min are exact integers: offsets are already subtracted.
 * Groups of 32 fill two entries of scale and min. */
struct exploded {
    float d, dmin;
    int8_t code[BLOCK_K];
    int16_t scale[BLOCK_GROUPS]; /* 1 for formats without group scales */
    int16_t min[BLOCK_GROUPS];   /* 0 for formats without minima */
};

/* Take one block of a quantized `format` apart. */
void block_explode(enum format format, const void *block, struct exploded *e);

/* The eight scales and minima of a Q4_K or Q5_K block. */
static inline void scales_k4_read(const uint8_t packed[12], uint8_t scale[8], uint8_t min[8])
{
    for (int g = 0; g < 4; g++) {
        scale[g] = packed[g] & 63;
        min[g] = packed[4 + g] & 63;
        scale[g + 4] = (uint8_t)((packed[8 + g] & 15) | (packed[g] >> 6) << 4);
        min[g + 4] = (uint8_t)(packed[8 + g] >> 4 | (packed[4 + g] >> 6) << 4);
    }
}

/* The sixteen scales of a Q3_K block, the offset of 32 still inside. */
static inline void scales_q3_k_read(const uint8_t packed[12], uint8_t scale[16])
{
    for (int g = 0; g < 16; g++) {
        unsigned low = g < 8 ? packed[g] & 15u : packed[g - 8] >> 4;
        unsigned high = packed[8 + g % 4] >> 2 * (g / 4) & 3u;
        scale[g] = (uint8_t)(low | high << 4);
    }
}

static inline uint16_t load_u16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint32_t load_u32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline float load_f16(const uint8_t *p)
{
    return kernels_f16_to_f32(load_u16(p));
}

#endif
