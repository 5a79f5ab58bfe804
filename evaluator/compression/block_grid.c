/* block_grid.c - what each format can express, rounding to it, and the plain way to fill it. */
#include "evaluator/compression/block_fit.h"
#include "evaluator/compression/block_write.h"

#include <assert.h>
#include <math.h>

/* clang-format off */
static const struct grid grids[] = {
    /*  format       block group  codes      scales     min  levels */
    {FORMAT_Q2_K,    256,  16,      0,   3,    0,  15,  15, false},
    {FORMAT_Q3_K,    256,  16,     -4,   3,  -32,  31,   0, false},
    {FORMAT_IQ4_NL,   32,  32,   -127, 113,    1,   1,   0, true},
    {FORMAT_Q4_0,     32,  32,     -8,   7,    1,   1,   0, false},
    {FORMAT_Q4_K,    256,  32,      0,  15,    0,  63,  63, false},
    {FORMAT_Q5_0,     32,  32,    -16,  15,    1,   1,   0, false},
    {FORMAT_Q5_K,    256,  32,      0,  31,    0,  63,  63, false},
    {FORMAT_Q6_K,    256,  16,    -32,  31, -128, 127,   0, false},
    {FORMAT_Q8_0,     32,  32,   -127, 127,    1,   1,   0, false},
};
/* clang-format on */

const struct grid *grid_of(enum format format)
{
    for (size_t i = 0; i < sizeof grids / sizeof *grids; i++)
        if (grids[i].format == format)
            return &grids[i];
    assert(!"a quantized format");
    return NULL;
}

/* The level of IQ4_NL nearest to v.  Neighbouring levels meet at multiples of one half. */
static float nearest_level(float v)
{
    int l = 0;
    while (l < 15 && v > 0.5f * (float)(iq4_nl_values[l] + iq4_nl_values[l + 1]))
        l++;
    return (float)iq4_nl_values[l];
}

float grid_round(const struct grid *grid, float v)
{
    if (grid->non_linear)
        return nearest_level(v);
    float lo = (float)grid->code_lo, hi = (float)grid->code_hi;
    return rintf(fminf(fmaxf(v, lo), hi));
}

double block_error(const struct grid *grid, const float *x, const float *weight,
                   const struct exploded *e)
{
    double error = 0;
    for (int i = 0; i < grid->block; i++) {
        int g = i / GROUP;
        float value = e->d * (float)e->scale[g] * (float)e->code[i] - e->dmin * (float)e->min[g];
        double difference = (double)x[i] - (double)value;
        error += (double)weight[i] * difference * difference;
    }
    return error;
}

/* ---- the plain way ---- */

/* The element of largest magnitude, with its sign. */
static float extreme(const float *x, int n)
{
    float most = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(most))
            most = x[i];
    return most;
}

static int clamped(float v, int lo, int hi)
{
    float r = rintf(v);
    return r < (float)lo ? lo : r > (float)hi ? hi : (int)r;
}

/* As ggml's reference quantizers do it, down to how ties fall: Q4_0 and Q5_0 round half up, Q8_0
 * half away from zero, IQ4_NL fits the scale once after rounding. */
static void plain_32(const struct grid *grid, const float *x, struct exploded *e)
{
    enum format format = grid->format;
    float most = extreme(x, BLOCK_32);
    float d = format == FORMAT_Q8_0 ? fabsf(most) / 127.0f : most / (float)grid->code_lo;
    float inverse = d != 0 ? 1.0f / d : 0;
    if (!isfinite(inverse))
        inverse = d = 0;
    float product = 0, square = 0;
    for (int i = 0; i < BLOCK_32; i++) {
        float v = x[i] * inverse;
        if (format == FORMAT_Q8_0)
            v = roundf(v);
        else if (format != FORMAT_IQ4_NL)
            v = floorf(v + 0.5f);
        float code = grid_round(grid, v);
        e->code[i] = (int8_t)code;
        product += x[i] * x[i] * code * x[i];
        square += x[i] * x[i] * code * code;
    }
    if (format == FORMAT_IQ4_NL)
        d = square > 0 ? product / square : 0;
    e->d = f16_rounded(d);
    e->dmin = 0;
    for (int g = 0; g < BLOCK_32 / GROUP; g++) {
        e->scale[g] = 1;
        e->min[g] = 0;
    }
}

/* Scale and minimum (both >= 0) that span the range of a group, or the signed scale that puts its
 * extreme on the lowest code. */
static void plain_group(const struct grid *grid, const float *x, float *scale, float *min)
{
    *min = 0;
    if (grid->min_hi == 0) {
        *scale = extreme(x, grid->group) / (float)grid->code_lo;
        return;
    }
    float lo = 0, hi = x[0];
    for (int i = 0; i < grid->group; i++) {
        lo = fminf(lo, x[i]);
        hi = fmaxf(hi, x[i]);
    }
    *scale = hi > lo ? (hi - lo) / (float)grid->code_hi : 0;
    *min = -lo;
}

static void plain_k(const struct grid *grid, const float *x, struct exploded *e)
{
    int n_groups = BLOCK_K / grid->group;
    float scale[BLOCK_GROUPS], min[BLOCK_GROUPS];
    for (int g = 0; g < n_groups; g++)
        plain_group(grid, x + g * grid->group, &scale[g], &min[g]);
    /* Signed scales have one more step below zero: the extreme goes there. */
    float top = grid->scale_lo < 0 ? (float)grid->scale_lo : (float)grid->scale_hi;
    e->d = f16_rounded(extreme(scale, n_groups) / top);
    e->dmin = grid->min_hi > 0 ? f16_rounded(extreme(min, n_groups) / (float)grid->min_hi) : 0;
    for (int g = 0; g < n_groups; g++) {
        int s = e->d != 0 ? clamped(scale[g] / e->d, grid->scale_lo, grid->scale_hi) : 0;
        int m = e->dmin != 0 ? clamped(min[g] / e->dmin, 0, grid->min_hi) : 0;
        float step = e->d * (float)s, base = e->dmin * (float)m;
        for (int i = g * grid->group; i < (g + 1) * grid->group; i++) {
            e->code[i] = step != 0 ? (int8_t)grid_round(grid, (x[i] + base) / step) : 0;
            e->scale[i / GROUP] = (int16_t)s;
            e->min[i / GROUP] = (int16_t)m;
        }
    }
}

void block_fit_plain(const struct grid *grid, const float *x, struct exploded *e)
{
    if (grid->block == BLOCK_32)
        plain_32(grid, x, e);
    else
        plain_k(grid, x, e);
}
