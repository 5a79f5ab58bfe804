/* block_write.c - putting blocks together; the bytes are drawn in kernels/blocks.h. */
#include "evaluator/compression/block_write.h"

#include <assert.h>

static void put_f16(uint8_t out[2], float f)
{
    uint16_t h = kernels_f32_to_f16(f);
    memcpy(out, &h, sizeof h);
}

/* Codes lifted by the offset that the format subtracts, checked against its number of levels. */
static void lift(const struct exploded *e, int n, int offset, int n_levels, uint8_t *level)
{
    for (int i = 0; i < n; i++) {
        int v = e->code[i] + offset;
        assert(v >= 0 && v < n_levels);
        level[i] = (uint8_t)v;
    }
}

static void write_q4_0(const struct exploded *e, struct block_q4_0 *b)
{
    uint8_t level[BLOCK_32];
    lift(e, BLOCK_32, 8, 16, level);
    put_f16(b->d, e->d);
    for (int j = 0; j < 16; j++)
        b->qs[j] = (uint8_t)(level[j] | level[j + 16] << 4);
}

static void write_q5_0(const struct exploded *e, struct block_q5_0 *b)
{
    uint8_t level[BLOCK_32];
    uint32_t high = 0;
    lift(e, BLOCK_32, 16, 32, level);
    put_f16(b->d, e->d);
    for (int j = 0; j < 16; j++)
        b->qs[j] = (uint8_t)((level[j] & 15) | (level[j + 16] & 15) << 4);
    for (int i = 0; i < BLOCK_32; i++)
        high |= (uint32_t)(level[i] >> 4) << i;
    memcpy(b->qh, &high, sizeof high);
}

static void write_q8_0(const struct exploded *e, struct block_q8_0 *b)
{
    put_f16(b->d, e->d);
    memcpy(b->qs, e->code, BLOCK_32);
}

static unsigned iq4_nl_index(int8_t value)
{
    for (unsigned l = 0; l < 16; l++)
        if (iq4_nl_values[l] == value)
            return l;
    assert(!"a level of IQ4_NL");
    return 0;
}

static void write_iq4_nl(const struct exploded *e, struct block_iq4_nl *b)
{
    put_f16(b->d, e->d);
    for (int j = 0; j < 16; j++)
        b->qs[j] = (uint8_t)(iq4_nl_index(e->code[j]) | iq4_nl_index(e->code[j + 16]) << 4);
}

/* Weight 128h + 32j + l has its two bits at bits 2j, 2j+1 of byte 32h + l. */
static void put_two_bits(const uint8_t *level, int shift, uint8_t qs[64])
{
    memset(qs, 0, 64);
    for (int i = 0; i < BLOCK_K; i++)
        qs[32 * (i / 128) + i % 32] |= (uint8_t)((level[i] >> shift & 3) << 2 * (i / 32 % 4));
}

static void write_q2_k(const struct exploded *e, struct block_q2_k *b)
{
    uint8_t level[BLOCK_K];
    lift(e, BLOCK_K, 0, 4, level);
    put_two_bits(level, 0, b->qs);
    for (int g = 0; g < BLOCK_GROUPS; g++) {
        assert(e->scale[g] >= 0 && e->scale[g] < 16 && e->min[g] >= 0 && e->min[g] < 16);
        b->scales[g] = (uint8_t)(e->scale[g] | e->min[g] << 4);
    }
    put_f16(b->d, e->d);
    put_f16(b->dmin, e->dmin);
}

static void write_q3_k(const struct exploded *e, struct block_q3_k *b)
{
    uint8_t level[BLOCK_K];
    lift(e, BLOCK_K, 4, 8, level);
    put_two_bits(level, 0, b->qs);
    memset(b->hmask, 0, sizeof b->hmask);
    for (int i = 0; i < BLOCK_K; i++)
        b->hmask[i % 32] |= (uint8_t)((level[i] >> 2) << i / 32);
    memset(b->scales, 0, sizeof b->scales);
    for (int g = 0; g < BLOCK_GROUPS; g++) {
        int scale = e->scale[g] + 32;
        assert(scale >= 0 && scale < 64);
        b->scales[g % 8] |= (uint8_t)((scale & 15) << 4 * (g / 8));
        b->scales[8 + g % 4] |= (uint8_t)((scale >> 4) << 2 * (g / 4));
    }
    put_f16(b->d, e->d);
}

/* Scales and minima of Q4_K and Q5_K: eight of each in 6 bits. */
static void put_scales_k4(const struct exploded *e, uint8_t packed[12])
{
    for (int g = 0; g < 8; g++)
        assert(e->scale[2 * g] >= 0 && e->scale[2 * g] < 64 && e->min[2 * g] >= 0 &&
               e->min[2 * g] < 64);
    for (int g = 0; g < 4; g++) {
        int scale = e->scale[2 * g], min = e->min[2 * g];
        int scale4 = e->scale[2 * (g + 4)], min4 = e->min[2 * (g + 4)];
        packed[g] = (uint8_t)(scale | (scale4 >> 4) << 6);
        packed[4 + g] = (uint8_t)(min | (min4 >> 4) << 6);
        packed[8 + g] = (uint8_t)((scale4 & 15) | (min4 & 15) << 4);
    }
}

static void put_nibbles_k(const uint8_t *level, uint8_t qs[128])
{
    memset(qs, 0, 128);
    for (int i = 0; i < BLOCK_K; i++)
        qs[32 * (i / 64) + i % 32] |= (uint8_t)((level[i] & 15) << 4 * (i / 32 % 2));
}

static void write_q4_k(const struct exploded *e, struct block_q4_k *b)
{
    uint8_t level[BLOCK_K];
    lift(e, BLOCK_K, 0, 16, level);
    put_f16(b->d, e->d);
    put_f16(b->dmin, e->dmin);
    put_scales_k4(e, b->scales);
    put_nibbles_k(level, b->qs);
}

static void write_q5_k(const struct exploded *e, struct block_q5_k *b)
{
    uint8_t level[BLOCK_K];
    lift(e, BLOCK_K, 0, 32, level);
    put_f16(b->d, e->d);
    put_f16(b->dmin, e->dmin);
    put_scales_k4(e, b->scales);
    put_nibbles_k(level, b->qs);
    memset(b->qh, 0, sizeof b->qh);
    for (int i = 0; i < BLOCK_K; i++)
        b->qh[i % 32] |= (uint8_t)((level[i] >> 4) << i / 32);
}

static void write_q6_k(const struct exploded *e, struct block_q6_k *b)
{
    uint8_t level[BLOCK_K];
    lift(e, BLOCK_K, 32, 64, level);
    memset(b->ql, 0, sizeof b->ql);
    for (int i = 0; i < BLOCK_K; i++)
        b->ql[64 * (i / 128) + i % 64] |= (uint8_t)((level[i] & 15) << 4 * (i / 64 % 2));
    put_two_bits(level, 4, b->qh);
    for (int g = 0; g < BLOCK_GROUPS; g++) {
        assert(e->scale[g] >= -128 && e->scale[g] < 128);
        b->scales[g] = (int8_t)e->scale[g];
    }
    put_f16(b->d, e->d);
}

void block_write(enum format format, const struct exploded *e, void *block)
{
    switch (format) {
    case FORMAT_Q2_K:
        write_q2_k(e, block);
        return;
    case FORMAT_Q3_K:
        write_q3_k(e, block);
        return;
    case FORMAT_IQ4_NL:
        write_iq4_nl(e, block);
        return;
    case FORMAT_Q4_0:
        write_q4_0(e, block);
        return;
    case FORMAT_Q4_K:
        write_q4_k(e, block);
        return;
    case FORMAT_Q5_0:
        write_q5_0(e, block);
        return;
    case FORMAT_Q5_K:
        write_q5_k(e, block);
        return;
    case FORMAT_Q6_K:
        write_q6_k(e, block);
        return;
    case FORMAT_Q8_0:
        write_q8_0(e, block);
        return;
    default:
        assert(!"a quantized format");
    }
}
