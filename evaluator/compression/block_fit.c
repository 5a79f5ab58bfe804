/* block_fit.c - the search for scales and codes (outline in quantize.h).
 *
 * A group of n weights x with element weights w is to be x[i] = s * c[i] - m with codes c of the
 * grid.  For given codes the best s and m solve a weighted least-squares problem whose five sums
 * are `struct fit`; for given s and m the best codes are roundings.  The search alternates the two
 * from many starts, since rounding makes the problem full of local minima.
 *
 * All sums run in eight lanes that are added in a fixed order: the compiler may use vectors of any
 * width and the result stays the same. */
#include "evaluator/compression/block_fit.h"
#include "evaluator/compression/block_write.h"

#include <float.h>
#include <math.h>

enum { LANES = 8, SWEEPS = 3 };

/* sum w, w*x, w*c, w*c^2, w*c*x over a group */
struct fit {
    float w, wx, wc, wcc, wcx;
};

/* Half of the lanes; two make eight. */
typedef float four __attribute__((vector_size(16)));

static four four_at(const float *p)
{
    four v;
    memcpy(&v, p, sizeof v);
    return v;
}

static float lanes_sum(const four a[2])
{
    four s = a[0] + a[1];
    return (s[0] + s[2]) + (s[1] + s[3]);
}

/* 1/s, or 0 where that is no number to multiply with. */
static float inverse_of(float s)
{
    float inverse = 1.0f / s;
    return s != 0 && isfinite(inverse) ? inverse : 0;
}

/* The level of IQ4_NL nearest to each half of a unit, from -127 on.  Neighbouring levels meet at
 * multiples of one half, so whole halves decide. */
enum { LEVEL_LO = -127, LEVEL_HI = 113, N_HALVES = 2 * (LEVEL_HI - LEVEL_LO) + 1 };
static const int8_t level_of_half[N_HALVES] = {
    [0 ... 22] = -127,   [23 ... 66] = -104,  [67 ... 105] = -83,  [106 ... 139] = -65,
    [140 ... 169] = -49, [170 ... 196] = -35, [197 ... 221] = -22, [222 ... 244] = -10,
    [245 ... 267] = 1,   [268 ... 291] = 13,  [292 ... 316] = 25,  [317 ... 344] = 38,
    [345 ... 375] = 53,  [376 ... 411] = 69,  [412 ... 455] = 89,  [456 ... 480] = 113,
};

static void round_to_levels(const float *x, int n, float inverse, float m, float *code)
{
    for (int i = 0; i < n; i++) {
        float v = (x[i] + m) * inverse;
        v = v > LEVEL_LO ? v : LEVEL_LO;
        v = v < LEVEL_HI ? v : LEVEL_HI;
        code[i] = (float)level_of_half[(int)(2.0f * (v - LEVEL_LO))];
    }
}

/* code[i] = the level nearest to (x[i] + m) * inverse */
static void round_group(const struct grid *grid, const float *x, int n, float inverse, float m,
                        float *code)
{
    if (grid->non_linear) {
        round_to_levels(x, n, inverse, m, code);
        return;
    }
    /* Adding and subtracting 1.5 * 2^23 rounds to nearest even, in any vector width. */
    const float lo = (float)grid->code_lo, hi = (float)grid->code_hi, magic = 12582912.0f;
    for (int i = 0; i < n; i++) {
        float v = (x[i] + m) * inverse;
        v = v > lo ? v : lo;
        v = v < hi ? v : hi;
        code[i] = (v + magic) - magic;
    }
}

static void fit_codes(const float *x, const float *w, const float *code, int n, struct fit *fit)
{
    four wc[2] = {0}, wcc[2] = {0}, wcx[2] = {0};
    for (int i = 0; i < n; i += LANES) {
        for (int h = 0; h < 2; h++) {
            four c = four_at(code + i + 4 * h), t = four_at(w + i + 4 * h) * c;
            wc[h] += t;
            wcc[h] += t * c;
            wcx[h] += t * four_at(x + i + 4 * h);
        }
    }
    fit->wc = lanes_sum(wc);
    fit->wcc = lanes_sum(wcc);
    fit->wcx = lanes_sum(wcx);
}

static void fit_inputs(const float *x, const float *w, int n, struct fit *fit)
{
    four sw[2] = {0}, swx[2] = {0};
    for (int i = 0; i < n; i += LANES) {
        for (int h = 0; h < 2; h++) {
            four wi = four_at(w + i + 4 * h);
            sw[h] += wi;
            swx[h] += wi * four_at(x + i + 4 * h);
        }
    }
    fit->w = lanes_sum(sw);
    fit->wx = lanes_sum(swx);
}

/* Best s, and m >= 0 where the grid has minima.  Returns how much of sum w*x^2 they explain: the
 * larger, the smaller the error. */
static float fit_solve(const struct fit *f, bool with_min, float *s, float *m)
{
    *m = 0;
    if (with_min) {
        float det = f->w * f->wcc - f->wc * f->wc;
        float base = f->wcc * f->wx - f->wc * f->wcx; /* -m * det */
        if (det > 0 && base < 0) {
            *s = (f->w * f->wcx - f->wx * f->wc) / det;
            *m = -base / det;
            return *s * f->wcx - *m * f->wx;
        }
    }
    *s = f->wcc > 0 ? f->wcx / f->wcc : 0;
    return *s * f->wcx;
}

/* A group's scale and minimum as real numbers, with the curvature of the error in each. */
struct group_fit {
    float s, m;
    float wcc; /* half the second derivative of the error in s */
    float w;   /* and in m */
};

struct trial {
    const struct grid *grid;
    const float *x, *w;
    struct fit fit;
    float best; /* explained by `found` */
    struct group_fit found;
};

static void try_scale(struct trial *t, float inverse, float m)
{
    float code[BLOCK_32], s, fitted_m;
    int n = t->grid->group;
    round_group(t->grid, t->x, n, inverse, m, code);
    fit_codes(t->x, t->w, code, n, &t->fit);
    float explained = fit_solve(&t->fit, t->grid->min_hi > 0, &s, &fitted_m);
    if (explained > t->best) {
        t->best = explained;
        t->found = (struct group_fit){.s = s, .m = fitted_m, .wcc = t->fit.wcc, .w = t->fit.w};
    }
}

/* Grids with a minimum: the range of the group on a little more or less than all codes. */
static void try_ranges(struct trial *t)
{
    float lo = 0, hi = 0;
    for (int i = 0; i < t->grid->group; i++) {
        lo = t->x[i] < lo ? t->x[i] : lo;
        hi = t->x[i] > hi ? t->x[i] : hi;
    }
    if (!(hi > lo))
        return;
    for (int step = -18; step <= 18; step++) {
        float levels = (float)t->grid->code_hi + 0.05f * (float)step;
        try_scale(t, inverse_of((hi - lo) / levels), -lo);
    }
}

/* Grids around zero: the extreme on either end of the codes, or a little inside or outside. */
static void try_extremes(struct trial *t)
{
    float most = 0;
    for (int i = 0; i < t->grid->group; i++) {
        float a = fabsf(t->x[i]);
        most = a > most ? a : most;
    }
    if (!(most > 0))
        return;
    /* The end may take other levels than the last one where levels are few or unevenly spaced. */
    float end = (float)-t->grid->code_lo, pace = t->grid->non_linear ? 1.5f : 0.1f;
    if (end > 16 && !t->grid->non_linear)
        pace = 0.2f;
    for (int step = -9; step <= 9; step++) {
        float inverse = inverse_of(most / (end + pace * (float)step));
        try_scale(t, inverse, 0);
        try_scale(t, -inverse, 0);
    }
}

static struct group_fit group_search(const struct grid *grid, const float *x, const float *w)
{
    struct trial t = {.grid = grid, .x = x, .w = w};
    fit_inputs(x, w, grid->group, &t.fit);
    if (grid->min_hi > 0)
        try_ranges(&t);
    else
        try_extremes(&t);
    /* Rounding again with what was fitted may fit better still. */
    for (int i = 0; i < 4; i++) {
        float before = t.best;
        try_scale(&t, inverse_of(t.found.s), t.found.m);
        if (!(t.best > before))
            break;
    }
    return t.found;
}

/* ---- groups become integers times the block's factors ---- */

/* Error of a group with the scale and minimum as stored; codes are rounded to them. */
static float stored_error(const struct grid *grid, const float *x, const float *w, float s, float m,
                          float *code)
{
    int n = grid->group;
    round_group(grid, x, n, inverse_of(s), m, code);
    four error[2] = {0};
    for (int i = 0; i < n; i += LANES) {
        for (int h = 0; h < 2; h++) {
            four difference = four_at(x + i + 4 * h) - (s * four_at(code + i + 4 * h) - m);
            error[h] += four_at(w + i + 4 * h) * difference * difference;
        }
    }
    return lanes_sum(error);
}

static int nearest_int(float v, int lo, int hi)
{
    float r = rintf(v);
    return r > (float)lo ? r < (float)hi ? (int)r : hi : lo;
}

/* The factor d for which integers k in [lo, hi] come closest to v[g] = d * k[g], each deviation
 * weighted by a[g].  Trial factors put the extreme of v on the end of the range. */
static float factor_search(const float *v, const float *a, int n, int lo, int hi)
{
    float most = 0, best_explained = 0, best = 0;
    for (int g = 0; g < n; g++)
        if (fabsf(v[g]) > fabsf(most))
            most = v[g];
    if (!(fabsf(most) > 0))
        return 0;
    int n_ends = lo < 0 ? 2 : 1;
    for (int end = 0; end < n_ends; end++) {
        float top = end == 0 ? (float)hi : (float)lo;
        for (int step = -8; step <= 8; step++) {
            float inverse = inverse_of(most / (top + 0.1f * (float)step)), kv = 0, kk = 0;
            for (int g = 0; g < n; g++) {
                float k = (float)nearest_int(v[g] * inverse, lo, hi);
                kv += a[g] * k * v[g];
                kk += a[g] * k * k;
            }
            if (kk > 0 && kv * kv > best_explained * kk) {
                best_explained = kv * kv / kk;
                best = kv / kk;
            }
        }
    }
    return best;
}

/* A block on its way: integers of each group, codes as floats, error of each group. */
struct block_state {
    const struct grid *grid;
    const float *x, *w;
    float d, dmin; /* as f16 holds them */
    int scale[BLOCK_GROUPS], min[BLOCK_GROUPS];
    float error[BLOCK_GROUPS];
    float code[BLOCK_K];
};

static float state_error(const struct block_state *b)
{
    float sum = 0;
    for (int g = 0; g < b->grid->block / b->grid->group; g++)
        sum += b->error[g];
    return sum;
}

/* Take (scale, min) for group g if that lowers its error. */
static bool try_integers(struct block_state *b, int g, int scale, int min)
{
    const struct grid *grid = b->grid;
    if (scale < grid->scale_lo || scale > grid->scale_hi || min < 0 || min > grid->min_hi)
        return false;
    float code[BLOCK_32];
    int at = g * grid->group;
    float error =
        stored_error(grid, b->x + at, b->w + at, b->d * (float)scale, b->dmin * (float)min, code);
    if (!(error < b->error[g]))
        return false;
    b->error[g] = error;
    b->scale[g] = scale;
    b->min[g] = min;
    memcpy(b->code + at, code, (size_t)grid->group * sizeof *code);
    return true;
}

/* Neighbouring integers of one group, as long as they help. */
static void walk_integers(struct block_state *b, int g)
{
    for (int moved = 1, steps = 0; moved && steps < 4; steps++) {
        int scale = b->scale[g], min = b->min[g];
        moved = 0;
        for (int ds = -1; ds <= 1; ds++)
            for (int dm = -1; dm <= 1; dm++)
                if ((ds != 0 || dm != 0) && (dm == 0 || b->grid->min_hi > 0))
                    moved |= try_integers(b, g, scale + ds, min + dm);
    }
}

/* Round every group anew with the current factors, its integers from `groups` or as they are. */
static void assign_integers(struct block_state *b, const struct group_fit *groups)
{
    float inverse = inverse_of(b->d), inverse_min = inverse_of(b->dmin);
    for (int g = 0; g < b->grid->block / b->grid->group; g++) {
        int scale = b->scale[g], min = b->min[g];
        if (groups != NULL) {
            scale = nearest_int(groups[g].s * inverse, b->grid->scale_lo, b->grid->scale_hi);
            min = nearest_int(groups[g].m * inverse_min, 0, b->grid->min_hi);
        }
        b->error[g] = FLT_MAX;
        if (!try_integers(b, g, scale, min)) /* overflow: nothing can be said, keep zeros */
            b->error[g] = INFINITY;
    }
}

/* Best factors for the codes and integers there are: x = d * (scale * code) - dmin * min. */
static void refit_factors(const struct block_state *b, float *d, float *dmin)
{
    double uu = 0, uv = 0, vv = 0, ux = 0, vx = 0;
    for (int i = 0; i < b->grid->block; i++) {
        int g = i / b->grid->group;
        double w = (double)b->w[i], x = (double)b->x[i];
        double u = (double)b->code[i] * b->scale[g], v = b->min[g];
        uu += w * u * u;
        uv += w * u * v;
        vv += w * v * v;
        ux += w * u * x;
        vx += w * v * x;
    }
    double det = uu * vv - uv * uv;
    if (vv > 0 && det > 1e-9 * uu * vv) {
        *d = (float)((ux * vv - vx * uv) / det);
        *dmin = (float)((ux * uv - vx * uu) / det);
        if (*dmin > 0)
            return;
    }
    *d = uu > 0 ? (float)(ux / uu) : 0;
    *dmin = 0;
}

/* Take factors near (d, dmin) and round again, if that lowers the error. */
static bool try_factors(struct block_state *b, float d, float dmin)
{
    struct block_state next = *b;
    next.d = f16_rounded(d);
    next.dmin = f16_rounded(dmin);
    if (next.d == b->d && next.dmin == b->dmin)
        return false;
    assign_integers(&next, NULL);
    if (!(state_error(&next) < state_error(b)))
        return false;
    *b = next;
    return true;
}

/* The f16 next to f, away from or towards zero. */
static float f16_neighbour(float f, int step)
{
    return kernels_f16_to_f32((uint16_t)(kernels_f32_to_f16(f) + step));
}

static void refine(struct block_state *b)
{
    int n_groups = b->grid->block / b->grid->group;
    for (int sweep = 0; sweep < SWEEPS; sweep++) {
        float d, dmin, before = state_error(b);
        if (b->grid->scale_hi > 1)
            for (int g = 0; g < n_groups; g++)
                walk_integers(b, g);
        refit_factors(b, &d, &dmin);
        try_factors(b, d, dmin);
        if (!(state_error(b) < before))
            break;
    }
    /* f16 is coarse where d is small: its neighbours may round better. */
    if (b->d != 0) {
        try_factors(b, f16_neighbour(b->d, 1), b->dmin);
        try_factors(b, f16_neighbour(b->d, -1), b->dmin);
    }
}

void block_fit(const struct grid *grid, const float *x, const float *weight, struct exploded *e)
{
    int n_groups = grid->block / grid->group;
    struct group_fit groups[BLOCK_GROUPS];
    float s[BLOCK_GROUPS], m[BLOCK_GROUPS], s_weight[BLOCK_GROUPS], m_weight[BLOCK_GROUPS];
    for (int g = 0; g < n_groups; g++) {
        groups[g] = group_search(grid, x + g * grid->group, weight + g * grid->group);
        s[g] = groups[g].s;
        m[g] = groups[g].m;
        s_weight[g] = groups[g].wcc;
        m_weight[g] = groups[g].w;
    }
    struct block_state b = {.grid = grid, .x = x, .w = weight};
    b.d = f16_rounded(grid->scale_hi > 1
                          ? factor_search(s, s_weight, n_groups, grid->scale_lo, grid->scale_hi)
                          : s[0]);
    b.dmin =
        grid->min_hi > 0 ? f16_rounded(factor_search(m, m_weight, n_groups, 0, grid->min_hi)) : 0;
    assign_integers(&b, groups);
    refine(&b);

    e->d = b.d;
    e->dmin = b.dmin;
    for (int i = 0; i < grid->block; i++) {
        e->code[i] = (int8_t)b.code[i];
        e->scale[i / GROUP] = (int16_t)b.scale[i / grid->group];
        e->min[i / GROUP] = (int16_t)b.min[i / grid->group];
    }
}
