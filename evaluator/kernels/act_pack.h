/* act_pack.h - activations in 8 bits, as the kernels of every instruction set read them.
 *
 * The numbers are those of ggml's Q8_0 (groups of 32, scale rounded to f16) and Q8_K (groups of
 * 256, scale in f32); only their place is ours: fields lie in planes, so that codes load in whole
 * registers and the sums of codes, which minima and offsets are multiplied with, come for free.
 *
 *   int8  q[n_in]            x[i] = d[i / group] * q[i], q in -127..127
 *   float d[n_in / group]    group = 256 for the K-quants, 32 for the other formats
 *   int16 sums[n_in / 16]    sums[j] = q[16j] + ... + q[16j + 15]
 *   zero padding up to a multiple of 64 bytes, so that every column of a batch begins alike */
#ifndef KERF_ACT_PACK_H
#define KERF_ACT_PACK_H

#include "evaluator/kernels/blocks.h"

#include <float.h>
#include <math.h>

struct act_view {
    const int8_t *q;
    const float *d;
    const int16_t *sums;
};

static inline size_t act_pack_bytes(size_t n_in, size_t group)
{
    size_t bytes = n_in + n_in / group * sizeof(float) + n_in / GROUP * sizeof(int16_t);
    return (bytes + 63) & ~(size_t)63;
}

static inline struct act_view act_view(const void *packed, size_t n_in, size_t group)
{
    const char *p = packed;
    return (struct act_view){
        .q = (const void *)p,
        .d = (const void *)(p + n_in),
        .sums = (const void *)(p + n_in + n_in / group * sizeof(float)),
    };
}

/* Below this, 127 / max overflows: such a group is zero to any purpose. */
#define ACT_TINY 1e-35f

/* The scale of a group with largest magnitude `amax` and inverse scale `inverse`. */
static inline float act_scale(float amax, float inverse, size_t group)
{
    if (!(amax <= FLT_MAX))
        return NAN;
    if (inverse <= 0)
        return 0;
    return group == BLOCK_K ? 1.0f / inverse
                            : kernels_f16_to_f32(kernels_f32_to_f16(amax / 127.0f));
}

/* Zero what lies behind the planes. */
static inline void act_pack_pad(void *packed, size_t n_in, size_t group)
{
    size_t used = n_in + n_in / group * sizeof(float) + n_in / GROUP * sizeof(int16_t);
    memset((char *)packed + used, 0, act_pack_bytes(n_in, group) - used);
}

/* The group of activations that a quantized weight format is multiplied with. */
static inline size_t act_group(enum format weights)
{
    return format_block(weights);
}

#endif
