/* feedback_polish.c - descent on e H e' when every column has been rounded (coordinate descent as
 * in QuantEase, 2023, over scales as well as codes).
 *
 * With g = H e for the columns of a group, H damped, and p a change of the group's values,
 *
 *     (e - p) H (e - p)' - e H e' = p H_gg p' - 2 p g'
 *
 * which is solved for a step of scale and minimum (p = ds * u - dm * v for the codes there are) and
 * then for each code alone.  Only steps that lower it are taken. */
#include "evaluator/compression/feedback_parts.h"

#include "evaluator/compression/block_write.h"

#include <math.h>

enum { REACH = 2 }; /* integer steps of a scale or minimum in one sweep */

/* A group of one strip. */
struct group {
    const struct grid *grid;
    const double *corner;   /* [BLOCK_32][BLOCK_32] H_gg */
    const lanes *w;         /* [grid->group] */
    lanes *e, *code, *pull; /* likewise; pull is g above */
};

/* The five sums of a group's p H_gg p' - 2 p g' for p = a u - b v, of one row each. */
struct slope {
    lanes uu, uv, vv, ug, vg;
};

/* v is the same for all columns, so that only its factor dmin counts. */
EACH_ISA static void group_slope(const struct group *g, const lanes *d, const lanes *dmin,
                                 struct slope *slope)
{
    const lanes zero = {0};
    struct slope sum = {0};
    int n = g->grid->group;

    for (int i = 0; i < n; i++) {
        const double *h = g->corner + i * BLOCK_32;
        lanes hu = zero;
        double hv = 0;
        for (int j = 0; j < n; j++) {
            hu += h[j] * g->code[j];
            hv += h[j];
        }
        sum.uu += g->code[i] * hu;
        sum.uv += g->code[i] * hv;
        sum.vv += zero + hv;
        sum.ug += g->code[i] * g->pull[i];
        sum.vg += g->pull[i];
    }
    slope->uu = sum.uu * *d * *d;
    slope->uv = sum.uv * *d * *dmin;
    slope->vv = sum.vv * *dmin * *dmin;
    slope->ug = sum.ug * *d;
    slope->vg = sum.vg * *dmin;
}

/* Errors and pulls for other scales and minima. */
EACH_ISA static void group_rescale(const struct group *g, const lanes *s, const lanes *m)
{
    lanes change[BLOCK_32];
    int n = g->grid->group;

    for (int i = 0; i < n; i++) {
        lanes e = g->w[i] - (*s * g->code[i] - *m);
        change[i] = e - g->e[i];
        g->e[i] = e;
    }
    for (int i = 0; i < n; i++) {
        const double *h = g->corner + i * BLOCK_32;
        lanes sum = g->pull[i];
        for (int j = 0; j < n; j++)
            sum += h[j] * change[j];
        g->pull[i] = sum;
    }
}

/* Each code in turn to where the others want it: the nearest level is the least of a parabola. */
EACH_ISA static void group_descend(const struct group *g, const lanes *s, const lanes *m)
{
    lanes inverse = *s;
    int n = g->grid->group;

    lanes_inverse(&inverse);
    for (int j = 0; j < n; j++) {
        const double *h = g->corner + j * BLOCK_32;
        lanes code = (g->w[j] - g->e[j] + g->pull[j] / h[j] + *m) * inverse;
        lanes_round(g->grid, &code);
        lanes change = *s * (g->code[j] - code); /* of e */
        g->code[j] = code;
        g->e[j] += change;
        for (int i = j + 1; i < n; i++)
            g->pull[i] += h[i] * change;
    }
}

/* --- scales and minima ------------------------------------------------------------------------ */

/* The best whole steps of one row's scale and minimum. */
static void step_integers(const struct grid *grid, const struct slope *slope, int l, int16_t *scale,
                          int16_t *min)
{
    double best = 0, uu = slope->uu[l], uv = slope->uv[l], vv = slope->vv[l];
    int reach = grid->min_hi > 0 ? REACH : 0, ds_best = 0, dm_best = 0;

    for (int ds = -REACH; ds <= REACH; ds++) {
        for (int dm = -reach; dm <= reach; dm++) {
            int s = *scale + ds, m = *min + dm;
            if (s < grid->scale_lo || s > grid->scale_hi || m < 0 || m > grid->min_hi)
                continue;
            double change =
                ds * (ds * uu - 2 * dm * uv - 2 * slope->ug[l]) + dm * (dm * vv + 2 * slope->vg[l]);
            if (change < best) {
                best = change;
                ds_best = ds;
                dm_best = dm;
            }
        }
    }
    *scale = (int16_t)(*scale + ds_best);
    *min = (int16_t)(*min + dm_best);
}

/* The factor of a block that is one group; `slope` is that of d = 1. */
static float step_factor(const struct slope *slope, int l, float d)
{
    if (!(slope->uu[l] > 0))
        return d;
    float next = f16_rounded((float)((double)d + slope->ug[l] / slope->uu[l]));
    double step = (double)next - (double)d;

    return step * (step * slope->uu[l] - 2 * slope->ug[l]) < 0 ? next : d;
}

static void step_scales(struct tile *t, size_t strip, size_t at, const struct group *g)
{
    struct exploded *block = t->block + strip * LANES;
    bool integers = t->grid->scale_hi > 1;
    struct slope slope;
    lanes d = {0}, dmin = {0};

    for (int l = 0; l < LANES; l++) {
        d[l] = integers ? (double)block[l].d : 1;
        dmin[l] = (double)block[l].dmin;
    }
    group_slope(g, &d, &dmin, &slope);
    for (int l = 0; l < LANES; l++) {
        int16_t *scale = block[l].scale + at / GROUP, *min = block[l].min + at / GROUP;
        if (integers)
            step_integers(t->grid, &slope, l, scale, min);
        else
            block[l].d = step_factor(&slope, l, block[l].d);
        for (int i = GROUP; i < t->grid->group; i += GROUP) {
            scale[i / GROUP] = *scale;
            min[i / GROUP] = *min;
        }
    }
}

/* --- a tile ----------------------------------------------------------------------------------- */

static void polish_strip(struct tile *t, size_t strip, size_t begin, size_t at)
{
    size_t n = t->feedback->n, column = strip * n + begin + at;
    struct exploded *block = t->block + strip * LANES;
    lanes code[BLOCK_32], s, m;
    struct group g = {.grid = t->grid,
                      .corner = t->corner,
                      .w = t->w + column,
                      .e = t->e + column,
                      .code = code,
                      .pull = t->x + strip * BLOCK_K + at};

    for (int i = 0; i < t->grid->group; i++)
        for (int l = 0; l < LANES; l++)
            code[i][l] = (double)block[l].code[at + (size_t)i];
    step_scales(t, strip, at, &g);
    tile_group_scales(t, strip, at, &s, &m);
    group_rescale(&g, &s, &m);
    group_descend(&g, &s, &m);
    for (int i = 0; i < t->grid->group; i++)
        for (int l = 0; l < LANES; l++)
            block[l].code[at + (size_t)i] = (int8_t)code[i][l];
}

/* x = H e for one group of columns, and its corner of H, damped. */
static void take_pull(struct tile *t, size_t begin, size_t at)
{
    size_t n = t->feedback->n, group = (size_t)t->grid->group, column = begin + at;
    const double *h = t->feedback->hessian + column * n;

    for (size_t s = 0; s * LANES < t->n_rows; s++)
        for (size_t i = 0; i < group; i++)
            t->x[s * BLOCK_K + at + i] = t->feedback->ridge * t->e[s * n + column + i];
    tile_gather(t, h, 0, n, at, group);
    for (size_t i = 0; i < group; i++)
        for (size_t j = 0; j < group; j++)
            t->corner[i * BLOCK_32 + j] = h[i * n + column + j] + (i == j ? t->feedback->ridge : 0);
}

void tile_polish(struct tile *t, int n_sweeps)
{
    size_t n = t->feedback->n, size = (size_t)t->grid->block, group = (size_t)t->grid->group;
    size_t bytes = format_block_bytes(t->grid->format);

    for (int sweep = 0; sweep < n_sweeps; sweep++) {
        for (size_t begin = 0; begin < n; begin += size) {
            char *packed = t->packed + begin / size * bytes;
            for (size_t r = 0; r < t->n_rows; r++)
                block_explode(t->grid->format, packed + r * t->row_bytes, &t->block[r]);
            for (size_t at = 0; at < size; at += group) {
                take_pull(t, begin, at);
                for (size_t s = 0; s * LANES < t->n_rows; s++)
                    polish_strip(t, s, begin, at);
            }
            for (size_t r = 0; r < t->n_rows; r++)
                block_write(t->grid->format, &t->block[r], packed + r * t->row_bytes);
        }
    }
}
