/* cache_ref.c - rows of the KV cache in plain C, written as tokens come.
 * The numbers are those of ggml's reference quantizers. */
#include "evaluator/kernels/act_pack.h"
#include "evaluator/kernels/cache_rows.h"
#include "evaluator/kernels/kernel_sets.h"

static void store_f32_ref(const float *x, size_t n, void *row)
{
    memcpy(row, x, n * sizeof *x);
}

static void store_f16_ref(const float *x, size_t n, void *row)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t half = kernels_f32_to_f16(x[i]);
        memcpy((char *)row + 2 * i, &half, sizeof half);
    }
}

/* The element of the largest magnitude, the first of several; NaN and infinity come out on top. */
static float extreme(const float *x)
{
    uint32_t most = 0;
    float found = x[0];
    for (size_t i = 0; i < BLOCK_32; i++) {
        uint32_t bits = load_u32(x + i) & 0x7fffffff;
        if (bits > most) {
            most = bits;
            found = x[i];
        }
    }
    return found;
}

static void store_q8_0_ref(const float *x, size_t n, void *row)
{
    struct block_q8_0 *b = row;
    for (size_t i = 0; i < n / BLOCK_32; i++, b++, x += BLOCK_32) {
        struct cache_scale s = cache_scale_q8_0(fabsf(extreme(x)));
        cache_put_factor(b->d, s.d);
        for (size_t k = 0; k < BLOCK_32; k++)
            b->qs[k] = s.inverse != 0 ? (int8_t)rintf(x[k] * s.inverse) : 0;
    }
}

static uint8_t code_q4_0(float x, float inverse)
{
    int code = inverse != 0 ? (int)(x * inverse + 8.5f) : 8;
    return (uint8_t)(code < 15 ? code : 15);
}

static void store_q4_0_ref(const float *x, size_t n, void *row)
{
    struct block_q4_0 *b = row;
    for (size_t i = 0; i < n / BLOCK_32; i++, b++, x += BLOCK_32) {
        struct cache_scale s = cache_scale_q4_0(extreme(x));
        cache_put_factor(b->d, s.d);
        for (size_t k = 0; k < 16; k++)
            b->qs[k] = (uint8_t)(code_q4_0(x[k], s.inverse) | code_q4_0(x[k + 16], s.inverse) << 4);
    }
}

void cache_ref_fill(struct kernels *set)
{
    set->store[FORMAT_Q4_0] = store_q4_0_ref;
    set->store[FORMAT_Q8_0] = store_q8_0_ref;
    set->store[FORMAT_F16] = store_f16_ref;
    set->store[FORMAT_F32] = store_f32_ref;
}
