/* blocks.c - taking blocks apart, one function a format; the bytes are drawn in blocks.h. */
#include "evaluator/kernels/blocks.h"

#include <assert.h>

_Static_assert(sizeof(struct block_q4_0) == 18, "Q4_0 has 18 bytes");
_Static_assert(sizeof(struct block_q5_0) == 22, "Q5_0 has 22 bytes");
_Static_assert(sizeof(struct block_q8_0) == 34, "Q8_0 has 34 bytes");
_Static_assert(sizeof(struct block_iq4_nl) == 18, "IQ4_NL has 18 bytes");
_Static_assert(sizeof(struct block_q2_k) == 84, "Q2_K has 84 bytes");
_Static_assert(sizeof(struct block_q3_k) == 110, "Q3_K has 110 bytes");
_Static_assert(sizeof(struct block_q4_k) == 144, "Q4_K has 144 bytes");
_Static_assert(sizeof(struct block_q5_k) == 176, "Q5_K has 176 bytes");
_Static_assert(sizeof(struct block_q6_k) == 210, "Q6_K has 210 bytes");

const int8_t iq4_nl_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                  1,    13,   25,  38,  53,  69,  89,  113};

/* The 32-blocks have no group scales. */
static void flat_scale(struct exploded *e, const uint8_t d[2])
{
    e->d = load_f16(d);
    e->dmin = 0;
    for (int g = 0; g < BLOCK_32 / GROUP; g++) {
        e->scale[g] = 1;
        e->min[g] = 0;
    }
}

static void explode_q4_0(const struct block_q4_0 *b, struct exploded *e)
{
    flat_scale(e, b->d);
    for (int j = 0; j < 16; j++) {
        e->code[j] = (int8_t)((b->qs[j] & 15) - 8);
        e->code[j + 16] = (int8_t)((b->qs[j] >> 4) - 8);
    }
}

static void explode_q5_0(const struct block_q5_0 *b, struct exploded *e)
{
    flat_scale(e, b->d);
    uint32_t high = load_u32(b->qh);
    for (int j = 0; j < 16; j++) {
        e->code[j] = (int8_t)(((b->qs[j] & 15) | (high >> j & 1) << 4) - 16);
        e->code[j + 16] = (int8_t)((b->qs[j] >> 4 | (high >> (j + 16) & 1) << 4) - 16);
    }
}

static void explode_q8_0(const struct block_q8_0 *b, struct exploded *e)
{
    flat_scale(e, b->d);
    memcpy(e->code, b->qs, BLOCK_32);
}

static void explode_iq4_nl(const struct block_iq4_nl *b, struct exploded *e)
{
    flat_scale(e, b->d);
    for (int j = 0; j < 16; j++) {
        e->code[j] = iq4_nl_values[b->qs[j] & 15];
        e->code[j + 16] = iq4_nl_values[b->qs[j] >> 4];
    }
}

/* Bits 2j, 2j+1 of byte 32h + l belong to weight 128h + 32j + l: the place of i's two bits. */
static int two_bits(const uint8_t *qs, int i)
{
    return qs[32 * (i / 128) + i % 32] >> 2 * (i / 32 % 4) & 3;
}

static void explode_q2_k(const struct block_q2_k *b, struct exploded *e)
{
    e->d = load_f16(b->d);
    e->dmin = load_f16(b->dmin);
    for (int g = 0; g < BLOCK_GROUPS; g++) {
        e->scale[g] = b->scales[g] & 15;
        e->min[g] = b->scales[g] >> 4;
    }
    for (int i = 0; i < BLOCK_K; i++)
        e->code[i] = (int8_t)two_bits(b->qs, i);
}

static void explode_q3_k(const struct block_q3_k *b, struct exploded *e)
{
    uint8_t scale[BLOCK_GROUPS];
    scales_q3_k_read(b->scales, scale);
    e->d = load_f16(b->d);
    e->dmin = 0;
    for (int g = 0; g < BLOCK_GROUPS; g++) {
        e->scale[g] = (int16_t)(scale[g] - 32);
        e->min[g] = 0;
    }
    for (int i = 0; i < BLOCK_K; i++) {
        int high = b->hmask[i % 32] >> i / 32 & 1;
        e->code[i] = (int8_t)(two_bits(b->qs, i) + 4 * high - 4);
    }
}

/* What Q4_K and Q5_K share: factors, scales and minima of eight groups of 32. */
static void explode_k4_scales(const uint8_t *d, const uint8_t *dmin, const uint8_t packed[12],
                              struct exploded *e)
{
    uint8_t scale[8], min[8];
    scales_k4_read(packed, scale, min);
    e->d = load_f16(d);
    e->dmin = load_f16(dmin);
    for (int g = 0; g < BLOCK_GROUPS; g++) {
        e->scale[g] = scale[g / 2];
        e->min[g] = min[g / 2];
    }
}

/* The nibble of weight i in the pairs of 32 that Q4_K and Q5_K pack together. */
static int nibble_k(const uint8_t *qs, int i)
{
    return qs[32 * (i / 64) + i % 32] >> 4 * (i / 32 % 2) & 15;
}

static void explode_q4_k(const struct block_q4_k *b, struct exploded *e)
{
    explode_k4_scales(b->d, b->dmin, b->scales, e);
    for (int i = 0; i < BLOCK_K; i++)
        e->code[i] = (int8_t)nibble_k(b->qs, i);
}

static void explode_q5_k(const struct block_q5_k *b, struct exploded *e)
{
    explode_k4_scales(b->d, b->dmin, b->scales, e);
    for (int i = 0; i < BLOCK_K; i++)
        e->code[i] = (int8_t)(nibble_k(b->qs, i) | (b->qh[i % 32] >> i / 32 & 1) << 4);
}

static void explode_q6_k(const struct block_q6_k *b, struct exploded *e)
{
    e->d = load_f16(b->d);
    e->dmin = 0;
    for (int g = 0; g < BLOCK_GROUPS; g++) {
        e->scale[g] = b->scales[g];
        e->min[g] = 0;
    }
    for (int i = 0; i < BLOCK_K; i++) {
        int low = b->ql[64 * (i / 128) + i % 64] >> 4 * (i / 64 % 2) & 15;
        e->code[i] = (int8_t)((low | two_bits(b->qh, i) << 4) - 32);
    }
}

void block_explode(enum format format, const void *block, struct exploded *e)
{
    switch (format) {
    case FORMAT_Q2_K:
        explode_q2_k(block, e);
        return;
    case FORMAT_Q3_K:
        explode_q3_k(block, e);
        return;
    case FORMAT_IQ4_NL:
        explode_iq4_nl(block, e);
        return;
    case FORMAT_Q4_0:
        explode_q4_0(block, e);
        return;
    case FORMAT_Q4_K:
        explode_q4_k(block, e);
        return;
    case FORMAT_Q5_0:
        explode_q5_0(block, e);
        return;
    case FORMAT_Q5_K:
        explode_q5_k(block, e);
        return;
    case FORMAT_Q6_K:
        explode_q6_k(block, e);
        return;
    case FORMAT_Q8_0:
        explode_q8_0(block, e);
        return;
    default:
        assert(!"a quantized format");
    }
}
