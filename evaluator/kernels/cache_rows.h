/* cache_rows.h - the scale of a block of the KV cache, for the kernels of every instruction set.
 * As ggml's reference quantizers choose it: Q8_0 from the largest magnitude, Q4_0 from the element
 * that has it, which gets the code 0 (-8 less its offset).  Codes are made with the scale before it
 * is rounded to f16. */
#ifndef KERF_CACHE_ROWS_H
#define KERF_CACHE_ROWS_H

#include "evaluator/kernels/act_pack.h"

struct cache_scale {
    float d;       /* NaN where an element is not finite, so that it shows in every product */
    float inverse; /* 0: all codes mean zero */
};

/* `extreme`: the element of the largest magnitude, or that magnitude; `steps` of d make it. */
static inline struct cache_scale cache_scale_of(float extreme, float steps)
{
    if (!(fabsf(extreme) <= FLT_MAX))
        return (struct cache_scale){NAN, 0};
    if (fabsf(extreme) < ACT_TINY)
        return (struct cache_scale){0, 0};
    float d = extreme / steps;
    return (struct cache_scale){d, 1.0f / d};
}

static inline struct cache_scale cache_scale_q8_0(float magnitude)
{
    return cache_scale_of(magnitude, 127.0f);
}

static inline struct cache_scale cache_scale_q4_0(float extreme)
{
    return cache_scale_of(extreme, -8.0f);
}

static inline void cache_put_factor(uint8_t d[2], float factor)
{
    uint16_t half = kernels_f32_to_f16(factor);
    memcpy(d, &half, sizeof half);
}

static inline float cache_float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

#endif
