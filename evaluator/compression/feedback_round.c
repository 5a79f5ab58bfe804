/* feedback_round.c - rounding with feedback, left to right, and the search for each group's scale.
 *
 * A group is rounded once for each scale and minimum that is tried, since every code depends on the
 * errors of the codes before it.  What earlier groups did is in x already. */
#include "evaluator/compression/feedback_parts.h"

#include "evaluator/compression/block_write.h"

#include <math.h>
#include <stdlib.h>

/* The steps of three rounds of trials, as parts of the scale or minimum; never less than one step
 * of an integer. */
enum { N_ROUNDS = 3 };
static const double pace[N_ROUNDS] = {0.04, 0.02, 0.01};

/* A group of one strip. */
struct group {
    const struct grid *grid;
    const double *factor; /* row of its first column, at that column; rows are `n` apart */
    size_t n;
    const lanes *w, *x; /* [grid->group] */
};

/* Round a group with q = s * code - m and feedback inside it: code[], e[] = w - q, and *cost = sum
 * of D_j (x_j - q_j)^2. */
EACH_ISA static void group_round(const struct group *g, const lanes *s, const lanes *m, lanes *code,
                                 lanes *e, lanes *cost)
{
    lanes inverse = *s, sum = {0};

    lanes_inverse(&inverse);
    for (int j = 0; j < g->grid->group; j++) {
        const double *v = g->factor + (size_t)j * g->n;
        lanes x = g->x[j];
        for (int k = 0; k < j; k++)
            x += v[k] * e[k];
        code[j] = (x + *m) * inverse;
        lanes_round(g->grid, &code[j]);
        lanes q = *s * code[j] - *m, off = x - q;
        e[j] = g->w[j] - q;
        sum += v[j] * off * off;
    }
    *cost = sum;
}

/* --- trials ----------------------------------------------------------------------------------- */

/* Scale and minimum of the group at hand, for each row of a strip. */
struct choice {
    float d[LANES], dmin[LANES];
    int scale[LANES], min[LANES];
    lanes cost;
};

static void choice_real(const struct choice *c, lanes *s, lanes *m)
{
    for (int l = 0; l < LANES; l++) {
        (*s)[l] = (double)(c->d[l] * (float)c->scale[l]);
        (*m)[l] = (double)(c->dmin[l] * (float)c->min[l]);
    }
}

static int stepped(int value, int n_steps, double part, int lo, int hi)
{
    int step = (int)lrint(part * abs(value));
    int moved = value + n_steps * (step > 1 ? step : 1);

    return moved < lo ? lo : moved > hi ? hi : moved;
}

/* `to` = `from` with every scale and minimum moved by a few steps of a round. */
static void choice_move(const struct grid *grid, const struct choice *from, int round, int scale,
                        int min, struct choice *to)
{
    *to = *from;
    for (int l = 0; l < LANES; l++) {
        if (grid->scale_hi == 1) { /* no integers: the block's factor is the scale */
            to->d[l] = f16_rounded(from->d[l] * (float)(1 + scale * pace[round]));
            continue;
        }
        to->scale[l] = stepped(from->scale[l], scale, pace[round], grid->scale_lo, grid->scale_hi);
        to->min[l] = stepped(from->min[l], min, pace[round], 0, grid->min_hi);
    }
}

/* Keep what costs less, row by row. */
static void choice_keep(struct choice *best, const struct choice *trial)
{
    for (int l = 0; l < LANES; l++) {
        if (!(trial->cost[l] < best->cost[l]))
            continue;
        best->d[l] = trial->d[l];
        best->scale[l] = trial->scale[l];
        best->min[l] = trial->min[l];
        best->cost[l] = trial->cost[l];
    }
}

static void choice_try(const struct group *g, struct choice *c)
{
    lanes code[BLOCK_32], e[BLOCK_32], s, m;

    choice_real(c, &s, &m);
    group_round(g, &s, &m, code, e, &c->cost);
}

static void choice_search(const struct group *g, struct choice *best)
{
    int reach = g->grid->min_hi > 0 ? 2 : 4, reach_min = g->grid->min_hi > 0 ? 2 : 0;

    choice_try(g, best);
    for (int round = 0; round < N_ROUNDS; round++) {
        struct choice from = *best, trial;
        for (int scale = -reach; scale <= reach; scale++) {
            for (int min = -reach_min; min <= reach_min; min++) {
                if (scale == 0 && min == 0)
                    continue;
                choice_move(g->grid, &from, round, scale, min, &trial);
                choice_try(g, &trial);
                choice_keep(best, &trial);
            }
        }
    }
}

/* --- a tile ----------------------------------------------------------------------------------- */

/* Step 1: the search of quantize.h on the updated weights of row r, weighted as there. */
static void fit_row(struct tile *t, size_t r, size_t at)
{
    const lanes *column = t->x + r / LANES * BLOCK_K;
    float x[BLOCK_K], weight[BLOCK_K];
    double sigma2 = t->sigma2[r];

    for (int i = 0; i < t->grid->block; i++) {
        double v = column[i][r % LANES], h = (double)t->feedback->importance[at + (size_t)i];
        x[i] = (float)v;
        weight[i] = (float)(sigma2 > 0 ? h * sqrt((sigma2 + v * v) / sigma2) : h);
    }
    block_fit(t->grid, x, weight, &t->block[r]);
}

/* Step 2 for the group at `at` of the block that begins at column `begin`, rows of one strip. */
static void round_strip(struct tile *t, size_t strip, size_t begin, size_t at)
{
    size_t n = t->feedback->n, column = begin + at;
    struct exploded *block = t->block + strip * LANES;
    struct group g = {.grid = t->grid,
                      .factor = t->feedback->factor + column * n + column,
                      .n = n,
                      .w = t->w + strip * n + column,
                      .x = t->x + strip * BLOCK_K + at};
    struct choice c;
    lanes code[BLOCK_32], s, m;

    for (int l = 0; l < LANES; l++) {
        c.d[l] = block[l].d;
        c.dmin[l] = block[l].dmin;
        c.scale[l] = block[l].scale[at / GROUP];
        c.min[l] = block[l].min[at / GROUP];
    }
    choice_search(&g, &c);
    choice_real(&c, &s, &m);
    group_round(&g, &s, &m, code, t->e + strip * n + column, &c.cost);
    for (int l = 0; l < LANES; l++) {
        block[l].d = c.d[l];
        for (int i = 0; i < t->grid->group; i++) {
            block[l].code[at + (size_t)i] = (int8_t)code[i][l];
            block[l].scale[(at + (size_t)i) / GROUP] = (int16_t)c.scale[l];
            block[l].min[(at + (size_t)i) / GROUP] = (int16_t)c.min[l];
        }
    }
}

void tile_round(struct tile *t)
{
    size_t n = t->feedback->n, size = (size_t)t->grid->block, group = (size_t)t->grid->group;
    const double *factor = t->feedback->factor;

    for (size_t begin = 0; begin < n; begin += size) {
        char *to = t->packed + begin / size * format_block_bytes(t->grid->format);
        for (size_t s = 0; s < TILE_STRIPS; s++)
            memcpy(t->x + s * BLOCK_K, t->w + s * n + begin, size * sizeof *t->x);
        tile_gather(t, factor + begin * n, 0, begin, 0, size);
        for (size_t r = 0; r < t->n_rows; r++)
            fit_row(t, r, begin);
        for (size_t at = 0; at < size; at += group) {
            tile_gather(t, factor + (begin + at) * n, begin, begin + at, at, group);
            for (size_t s = 0; s * LANES < t->n_rows; s++)
                round_strip(t, s, begin, at);
        }
        for (size_t r = 0; r < t->n_rows; r++)
            block_write(t->grid->format, &t->block[r], to + r * t->row_bytes);
    }
}
