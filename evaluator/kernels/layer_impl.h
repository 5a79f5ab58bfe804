/* layer_impl.h - the float operations of a decoder layer, for the file of an instruction set to
 * include behind vec_*.h and vec_turn(x, cos_sin), which turns pairs of neighbouring lanes. */
#ifndef KERF_LAYER_IMPL_H
#define KERF_LAYER_IMPL_H

#include "evaluator/kernels/kernel_sets.h"

#include <math.h>

static float layer_dot(const float *x, const float *y, size_t n)
{
    vec sum[4] = {vec_all(0), vec_all(0), vec_all(0), vec_all(0)};
    size_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (size_t k = 0; k < 4; k++)
            sum[k] = vec_fma(vec_load_part(x + i + LANES * k, LANES),
                             vec_load_part(y + i + LANES * k, LANES), sum[k]);
    for (; i < n; i += LANES)
        sum[0] = vec_fma(vec_load_part(x + i, n - i), vec_load_part(y + i, n - i), sum[0]);
    return vec_lane(vec_total(vec_add(vec_add(sum[0], sum[1]), vec_add(sum[2], sum[3]))));
}

static void layer_add_scaled(float *y, const float *x, float scale, size_t n)
{
    for (size_t i = 0; i < n; i += LANES)
        vec_store_part(
            y + i, n - i,
            vec_fma(vec_all(scale), vec_load_part(x + i, n - i), vec_load_part(y + i, n - i)));
}

static void layer_rms_norm(float *y, const float *x, const float *gain, size_t n, float eps)
{
    float mean = layer_dot(x, x, n) / (float)n;
    vec inverse = vec_all(1.0f / sqrtf(mean + eps));
    for (size_t i = 0; i < n; i += LANES) {
        vec v = vec_mul(vec_load_part(x + i, n - i), inverse);
        vec_store_part(y + i, n - i, vec_mul(v, vec_load_part(gain + i, n - i)));
    }
}

static void layer_silu_mul(float *y, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        vec g = vec_load_part(gate + i, n - i);
        vec silu = vec_div(g, vec_add(vec_all(1), vec_exp(vec_sub(vec_all(0), g))));
        vec_store_part(y + i, n - i, vec_mul(silu, vec_load_part(up + i, n - i)));
    }
}

static float layer_softmax(float *x, size_t n)
{
    /* What is missing at the end weighs nothing. */
    const vec nothing = vec_all(-INFINITY);
    vec most = nothing, sum = vec_all(0);
    for (size_t i = 0; i < n; i += LANES)
        most = vec_max(most, vec_load_or(x + i, n - i, nothing));
    most = vec_most(most);
    for (size_t i = 0; i < n; i += LANES) {
        vec e = vec_exp(vec_sub(vec_load_or(x + i, n - i, nothing), most));
        vec_store_part(x + i, n - i, e);
        sum = vec_add(sum, e);
    }
    sum = vec_total(sum);
    vec inverse = vec_div(vec_all(1), sum);
    for (size_t i = 0; i < n; i += LANES)
        vec_store_part(x + i, n - i, vec_mul(vec_load_part(x + i, n - i), inverse));
    return vec_lane(most) + logf(vec_lane(sum));
}

static void layer_rope(float *x, const float *cos_sin, size_t n_pairs)
{
    for (size_t i = 0, n = 2 * n_pairs; i < n; i += LANES)
        vec_store_part(x + i, n - i,
                       vec_turn(vec_load_part(x + i, n - i), vec_load_part(cos_sin + i, n - i)));
}

static void layer_fill(struct kernels *set)
{
    set->dot = layer_dot;
    set->add_scaled = layer_add_scaled;
    set->rms_norm = layer_rms_norm;
    set->silu_mul = layer_silu_mul;
    set->softmax = layer_softmax;
    set->rope = layer_rope;
}

#endif
