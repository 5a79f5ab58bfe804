/* layer_ref.c - the float operations of a decoder layer in plain C; sums in double. */
#include "evaluator/kernels/kernel_sets.h"

#include <math.h>
#include <string.h>

static float dot_ref(const float *x, const float *y, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)y[i];
    return (float)sum;
}

static void add_scaled_ref(float *y, const float *x, float scale, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += scale * x[i];
}

static void rms_norm_ref(float *y, const float *x, const float *gain, size_t n, float eps)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    float inverse = (float)(1.0 / sqrt(sum / (double)n + (double)eps));
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * inverse * gain[i];
}

static void silu_mul_ref(float *y, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
}

static float softmax_ref(float *x, size_t n)
{
    float max = -INFINITY;
    for (size_t i = 0; i < n; i++)
        max = fmaxf(max, x[i]);
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        x[i] = expf(x[i] - max);
        sum += (double)x[i];
    }
    float inverse = (float)(1.0 / sum);
    for (size_t i = 0; i < n; i++)
        x[i] *= inverse;
    return (float)((double)max + log(sum));
}

static void rope_ref(float *x, const float *cos_sin, size_t n_pairs)
{
    for (size_t i = 0; i < n_pairs; i++) {
        float c = cos_sin[2 * i], s = cos_sin[2 * i + 1];
        float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = a * c - b * s;
        x[2 * i + 1] = a * s + b * c;
    }
}

/* Four streams, a quarter of the lines each. */
static uint64_t read_ref(const void *p, size_t bytes)
{
    size_t quarter = bytes / 64 / 4 * 64;
    uint64_t sum[8] = {0}, fold = 0;
    for (size_t at = 0; at < quarter; at += 64) {
        for (size_t stream = 0; stream < 4; stream++) {
            uint64_t line[8];
            memcpy(line, (const char *)p + stream * quarter + at, sizeof line);
            for (int i = 0; i < 8; i++)
                sum[i] ^= line[i];
        }
    }
    for (size_t at = 4 * quarter; at + 64 <= bytes; at += 64) {
        uint64_t line[8];
        memcpy(line, (const char *)p + at, sizeof line);
        for (int i = 0; i < 8; i++)
            sum[i] ^= line[i];
    }
    for (int i = 0; i < 8; i++)
        fold ^= sum[i];
    return fold;
}

void layer_ref_fill(struct kernels *set)
{
    set->dot = dot_ref;
    set->add_scaled = add_scaled_ref;
    set->rms_norm = rms_norm_ref;
    set->silu_mul = silu_mul_ref;
    set->softmax = softmax_ref;
    set->rope = rope_ref;
    set->read = read_ref;
}
