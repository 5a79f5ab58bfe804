/* obs.c - see obs.h for the formulas.
 *
 * Removal of column p in terms of l = [H^-1]_:p / s and y = W_:p / s with s^2 = [H^-1]_pp:
 *
 *     H^-1 -= l l'          W -= y l'          W'W -= z l' + l z' - |y|^2 l l',   z = W'y
 *
 * the first being one step of a Cholesky factorization whose pivots are chosen by score.  The steps
 * of a panel are kept as L, Z (columns l, z of W and H^-1 as the panel began) and S = Y'Y; a
 * current column is an old one less what the panel owes it. */
#include "evaluator/compression/obs.h"

#include "evaluator/compression/hessian.h"
#include "space/base/err.h"
#include "space/base/linalg.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { PANEL = 32 };
static const double damping_max = 1.0;

/* Left after some removals: m of n columns, packed to the front of every array in ascending order.
 * Rows of the matrices have n entries (PANEL for l and z). */
struct surgeon {
    size_t n, m, n_pending;
    double *inverse; /* [m][m] of H^-1 on what is left, as the panel began */
    double *gram;    /* [m][m] of W'W, likewise */
    double *l, *z;   /* [m][n_pending] */
    double *t;       /* [m][PANEL] scratch of a flush */
    double *s;       /* [PANEL][PANEL] of Y'Y */
    double *h, *g;   /* [m] diagonals of both matrices, current */
    double *column;  /* [3][n] scratch of a step */
    uint32_t *at;    /* [n] position of a column among those left */
    uint32_t *name;  /* [m] which column stands at a position */
    bool *gone;      /* [m] removed, but still there until the flush */
};

static void surgeon_fini(struct surgeon *s)
{
    free(s->inverse);
    free(s->l);
    free(s->h);
    free(s->at);
    free(s->gone);
}

static int surgeon_init(struct surgeon *s, size_t n, struct err *err)
{
    *s = (struct surgeon){.n = n};
    s->inverse = malloc(2 * n * n * sizeof *s->inverse);
    s->l = malloc((3 * n + PANEL) * PANEL * sizeof *s->l);
    s->h = malloc(5 * n * sizeof *s->h);
    s->at = malloc(2 * n * sizeof *s->at);
    s->gone = malloc(n * sizeof *s->gone);
    if (s->inverse == NULL || s->l == NULL || s->h == NULL || s->at == NULL || s->gone == NULL) {
        err_set(err, ERR_MEMORY, "pruning %zu columns: out of memory", n);
        surgeon_fini(s);
        return -1;
    }
    s->gram = s->inverse + n * n;
    s->z = s->l + n * PANEL;
    s->t = s->z + n * PANEL;
    s->s = s->t + n * PANEL;
    s->g = s->h + n;
    s->column = s->g + n;
    s->name = s->at + n;
    return 0;
}

/* --- checks and damping ----------------------------------------------------------------------- */

static int check_layer(const struct obs_layer *layer, struct err *err)
{
    size_t n = layer->n_in;

    for (size_t i = 0; i < n * n; i++)
        if (!isfinite(layer->hessian[i])) {
            err_set(err, ERR_DATA, "column %zu: a second moment is not finite", i / n);
            return -1;
        }
    for (size_t i = 0; i < layer->n_out * n; i++)
        if (!isfinite(layer->weights[i])) {
            err_set(err, ERR_DATA, "column %zu: weight %zu is not finite", i % n, i / n);
            return -1;
        }
    return 0;
}

static bool is_dead(const struct obs_layer *layer, size_t column)
{
    return !(layer->hessian[column * layer->n_in + column] > 0);
}

double obs_damping(size_t n_in, uint64_t n_tokens)
{
    double ratio = (double)n_in / (double)n_tokens;

    return fmin(fmax(0.4 * ratio * sqrt(ratio), OBS_DAMPING), damping_max);
}

/* The next share to try, OBS_PLAIN in the end. */
static double raised(double damping)
{
    return damping < damping_max ? fmin(fmax(10 * damping, OBS_DAMPING), damping_max) : OBS_PLAIN;
}

/* --- one removal ------------------------------------------------------------------------------ */

/* Nothing removed yet.  -1 when the damped H has no inverse. */
static int surgeon_begin(struct surgeon *s, const struct obs_layer *layer, double lambda,
                         double *wide, struct err *err)
{
    size_t n = s->n;

    memcpy(s->inverse, layer->hessian, n * n * sizeof *s->inverse);
    for (size_t i = 0; i < n; i++)
        s->inverse[i * n + i] += lambda;
    if (linalg_invert_spd(n, s->inverse, err) != 0)
        return -1;
    for (size_t r = 0; r < layer->n_out; r++)
        for (size_t i = 0; i < n; i++)
            wide[r * n + i] = is_dead(layer, i) ? 0.0 : (double)layer->weights[r * n + i];
    linalg_dgemm_tn(n, n, layer->n_out, 1, wide, n, wide, n, 0, s->gram, n);
    s->m = n;
    s->n_pending = 0;
    for (size_t i = 0; i < n; i++) {
        s->h[i] = s->inverse[i * n + i];
        s->g[i] = s->gram[i * n + i];
        s->at[i] = s->name[i] = (uint32_t)i;
        s->gone[i] = false;
    }
    return 0;
}

/* Keep rows and columns that are not gone, in their order. */
static void squeeze(struct surgeon *s)
{
    size_t n = s->n, m = 0;

    for (size_t i = 0; i < s->m; i++) {
        if (s->gone[i])
            continue;
        size_t k = 0;
        for (size_t j = 0; j < s->m; j++) {
            if (s->gone[j])
                continue;
            s->inverse[m * n + k] = s->inverse[i * n + j];
            s->gram[m * n + k] = s->gram[i * n + j];
            k++;
        }
        s->name[m] = s->name[i];
        s->at[s->name[m]] = (uint32_t)m;
        m++;
    }
    s->m = m;
    memset(s->gone, 0, m * sizeof *s->gone);
}

/* Multiply out what the panel owes: H^-1 -= L L', W'W -= T L' + L T' with T = Z - L S / 2. */
static void flush(struct surgeon *s)
{
    size_t n = s->n, m = s->m, k = s->n_pending;

    if (k == 0)
        return;
    linalg_dgemm_nt(m, m, k, -1, s->l, PANEL, s->l, PANEL, 1, s->inverse, n);
    memcpy(s->t, s->z, m * PANEL * sizeof *s->t);
    linalg_dgemm_nn(m, k, k, -0.5, s->l, PANEL, s->s, PANEL, 1, s->t, PANEL);
    linalg_dgemm_nt(m, m, k, -1, s->t, PANEL, s->l, PANEL, 1, s->gram, n);
    linalg_dgemm_nt(m, m, k, -1, s->l, PANEL, s->t, PANEL, 1, s->gram, n);
    s->n_pending = 0;
    squeeze(s);
    for (size_t i = 0; i < s->m; i++) {
        s->h[i] = s->inverse[i * n + i];
        s->g[i] = s->gram[i * n + i];
    }
}

/* S gains the row and column of the new y; returns |y|^2.  `z` is its W'y, pivot p, root s. */
static double extend_products(struct surgeon *s, size_t p, const double *z, double root,
                              double *with_others)
{
    size_t k = s->n_pending;
    const double *l = s->l + p * PANEL;
    double own = z[p];

    for (size_t i = 0; i < k; i++) {
        double sum = s->z[p * PANEL + i];
        for (size_t j = 0; j < k; j++)
            sum -= s->s[i * PANEL + j] * l[j];
        with_others[i] = sum / root;
        own -= with_others[i] * l[i];
    }
    own /= root;
    for (size_t i = 0; i < k; i++)
        s->s[i * PANEL + k] = s->s[k * PANEL + i] = with_others[i];
    s->s[k * PANEL + k] = own;
    return own;
}

/* Take out column `name`.  False when rounding has left no positive pivot. */
static bool remove_column(struct surgeon *s, uint32_t name)
{
    if (s->n_pending == PANEL)
        flush(s);
    size_t n = s->n, m = s->m, k = s->n_pending, p = s->at[name];
    double *l = s->column, *z = l + n, *u = z + n, with_others[PANEL];

    memcpy(l, s->inverse + p * n, m * sizeof *l);
    memcpy(z, s->gram + p * n, m * sizeof *z);
    linalg_dgemv(m, k, -1, s->l, PANEL, s->l + p * PANEL, 1, l);
    linalg_dgemv(m, k, -1, s->z, PANEL, s->l + p * PANEL, 1, z);
    if (!(l[p] > 0))
        return false;
    double root = sqrt(l[p]);
    for (size_t i = 0; i < m; i++) {
        l[i] /= root;
        z[i] /= root;
    }
    /* z is W'y with W as the panel began; u with the current W. */
    double own = extend_products(s, p, z, root, with_others);
    memcpy(u, z, m * sizeof *u);
    linalg_dgemv(m, k, -1, s->l, PANEL, with_others, 1, u);
    for (size_t i = 0; i < m; i++) {
        s->h[i] -= l[i] * l[i];
        s->g[i] -= l[i] * (2 * u[i] - l[i] * own);
        s->l[i * PANEL + k] = l[i];
        s->z[i * PANEL + k] = z[i];
    }
    s->gone[p] = true;
    s->n_pending++;
    return true;
}

/* --- the order -------------------------------------------------------------------------------- */

/* One run of the greedy order. */
struct run {
    struct surgeon surgeon;
    const struct obs_items *items;
    double *block, *rhs; /* [size][size] each, of one item's score */
    bool *gone;          /* [items] */
};

/* How much E rises when the item goes; NAN when its block has no inverse. */
static double item_score(struct run *run, size_t item)
{
    const struct surgeon *s = &run->surgeon;
    size_t size = run->items->size;
    double trace = 0;

    if (size == 1)
        return fmax(s->g[s->at[item]], 0) / s->h[s->at[item]];
    for (size_t i = 0; i < size; i++)
        for (size_t j = 0; j < size; j++) {
            size_t from = s->at[item * size + i] * s->n + s->at[item * size + j];
            run->block[i * size + j] = s->inverse[from];
            run->rhs[i * size + j] = s->gram[from];
        }
    if (linalg_solve_spd_rows(size, run->block, size, run->rhs, NULL) != 0)
        return NAN;
    for (size_t i = 0; i < size; i++)
        trace += run->rhs[i * size + i];
    return fmax(trace, 0);
}

/* The cheapest item among the classes that have not lost one in this round; the highest number on a
 * tie, so that of equal ones the first stay.  False when a score is no number. */
static bool cheapest(struct run *run, const bool *had, size_t *best, double *best_score)
{
    *best_score = INFINITY;
    for (size_t i = 0; i < run->items->n_classes * run->items->per_class; i++) {
        if (run->gone[i] || had[i / run->items->per_class])
            continue;
        double score = item_score(run, i);
        if (!isfinite(score) || score < 0)
            return false;
        if (score <= *best_score) {
            *best_score = score;
            *best = i;
        }
    }
    return true;
}

static bool take_item(struct run *run, size_t item)
{
    size_t size = run->items->size;

    for (size_t i = 0; i < size; i++)
        if (!remove_column(&run->surgeon, (uint32_t)(item * size + i)))
            return false;
    /* Scores of single columns live on current diagonals; those of blocks need the matrices. */
    if (size > 1)
        flush(&run->surgeon);
    run->gone[item] = true;
    return true;
}

/* All rounds; false when rounding got in the way.  had[n_classes] is scratch. */
static bool take_all(struct run *run, uint32_t *order, double *added, bool *had)
{
    size_t n_classes = run->items->n_classes, per_class = run->items->per_class;

    for (size_t left = per_class; left-- > 0;) {
        memset(had, 0, n_classes * sizeof *had);
        for (size_t c = 0; c < n_classes; c++) {
            size_t item = 0;
            double score;
            if (!cheapest(run, had, &item, &score) || !take_item(run, item))
                return false;
            size_t class = item / per_class;
            had[class] = true;
            order[class * per_class + left] = (uint32_t)(item % per_class);
            if (added != NULL)
                added[class * per_class + left] = score;
        }
    }
    return true;
}

/* Order by H_ii |W_:i|^2, best first in each class, without a thought for what the others can take
 * over; with no energy anywhere by |W_:i|^2. */
static void order_plain(const struct obs_layer *layer, const struct obs_items *items, double *score,
                        uint32_t *order, double *added)
{
    size_t n = layer->n_in, n_items = items->n_classes * items->per_class;
    bool seen = hessian_live_mean(layer->n_in, layer->hessian) > 0;

    memset(score, 0, n_items * sizeof *score);
    for (size_t r = 0; r < layer->n_out; r++)
        for (size_t i = 0; i < n; i++)
            score[i / items->size] += (seen ? layer->hessian[i * n + i] : 1.0) *
                                      (double)layer->weights[r * n + i] *
                                      (double)layer->weights[r * n + i];
    for (size_t i = 0; i < n_items; i++) {
        size_t class = i / items->per_class, rank = 0;
        const double *own = score + class * items->per_class;
        for (size_t k = 0; k < items->per_class; k++)
            rank += own[k] > score[i] || (own[k] == score[i] && own + k < score + i);
        order[class * items->per_class + rank] = (uint32_t)(i % items->per_class);
        if (added != NULL)
            added[class * items->per_class + rank] = score[i];
    }
}

int obs_order(const struct obs_layer *layer, const struct obs_items *items, uint32_t *order,
              double *added, double *damping, struct err *err)
{
    size_t n_items = items->n_classes * items->per_class, size = items->size;
    double mean = hessian_live_mean(layer->n_in, layer->hessian),
           share = mean > 0 ? *damping : OBS_PLAIN;
    struct run run = {.items = items};
    bool *had = NULL;
    double *wide = NULL;
    int status = -1;

    assert(n_items * size == layer->n_in && n_items > 0 && size > 0);
    if (check_layer(layer, err) != 0 || surgeon_init(&run.surgeon, layer->n_in, err) != 0)
        return -1;
    /* The weights as doubles are needed at the start only, plain scores at the end only. */
    size_t n_wide = layer->n_in * (layer->n_out > 0 ? layer->n_out : 1);
    wide = malloc(n_wide * sizeof *wide);
    run.block = malloc(2 * size * size * sizeof *run.block);
    run.gone = calloc(n_items, sizeof *run.gone);
    had = calloc(items->n_classes, sizeof *had);
    if (wide == NULL || run.block == NULL || run.gone == NULL || had == NULL) {
        err_set(err, ERR_MEMORY, "pruning %zu columns: out of memory", layer->n_in);
        goto done;
    }
    run.rhs = run.block + size * size;
    for (; share != OBS_PLAIN; share = raised(share)) {
        memset(run.gone, 0, n_items * sizeof *run.gone);
        if (surgeon_begin(&run.surgeon, layer, share * mean, wide, NULL) == 0 &&
            take_all(&run, order, added, had))
            break;
    }
    if (share == OBS_PLAIN)
        order_plain(layer, items, wide, order, added);
    *damping = share;
    status = 0;
done:
    free(had);
    free(run.gone);
    free(run.block);
    free(wide);
    surgeon_fini(&run.surgeon);
    return status;
}

/* --- the weights ------------------------------------------------------------------------------ */

static void select_columns(const struct obs_layer *layer, const uint32_t *kept, size_t n_kept,
                           float *out)
{
    for (size_t r = 0; r < layer->n_out; r++)
        for (size_t k = 0; k < n_kept; k++)
            out[r * n_kept + k] = layer->weights[r * layer->n_in + kept[k]];
}

/* Arrays of one repair: P is what goes, S what stays. */
struct repair {
    size_t n_kept, n_cut;
    uint32_t *cut;   /* [n_cut] */
    double *w_cut;   /* [n_out][n_cut] = W_P */
    double *h_cross; /* [n_cut][n_kept] = H_PS */
    double *h_kept;  /* [n_kept][n_kept] = H_SS, damped, spoilt by each try */
    double *gain;    /* [n_out][n_kept] = W_P H_PS (H_SS)^-1 */
};

static void repair_fini(struct repair *r)
{
    free(r->cut);
    free(r->w_cut);
    free(r->h_cross);
    free(r->h_kept);
    free(r->gain);
}

static int repair_init(struct repair *r, const struct obs_layer *layer, const uint32_t *kept,
                       size_t n_kept, struct err *err)
{
    size_t n = layer->n_in, n_cut = n - n_kept, k = 0;

    *r = (struct repair){.n_kept = n_kept, .n_cut = n_cut};
    r->cut = malloc((n_cut + 1) * sizeof *r->cut);
    r->w_cut = malloc((layer->n_out * n_cut + 1) * sizeof *r->w_cut);
    r->h_cross = malloc((n_cut * n_kept + 1) * sizeof *r->h_cross);
    r->h_kept = malloc((n_kept * n_kept + 1) * sizeof *r->h_kept);
    r->gain = malloc((layer->n_out * n_kept + 1) * sizeof *r->gain);
    if (r->cut == NULL || r->w_cut == NULL || r->h_cross == NULL || r->h_kept == NULL ||
        r->gain == NULL) {
        err_set(err, ERR_MEMORY, "repairing %zu of %zu columns: out of memory", n_kept, n);
        repair_fini(r);
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        if (k < n_kept && kept[k] == i)
            k++;
        else
            r->cut[i - k] = (uint32_t)i;
    }
    assert(k == n_kept);
    for (size_t i = 0; i < n_cut; i++) {
        for (size_t j = 0; j < n_kept; j++)
            r->h_cross[i * n_kept + j] = layer->hessian[r->cut[i] * n + kept[j]];
        for (size_t row = 0; row < layer->n_out; row++)
            r->w_cut[row * n_cut + i] = (double)layer->weights[row * n + r->cut[i]];
    }
    return 0;
}

static int repair_solve(struct repair *r, const struct obs_layer *layer, const uint32_t *kept,
                        double lambda)
{
    for (size_t i = 0; i < r->n_kept; i++) {
        for (size_t j = 0; j < r->n_kept; j++)
            r->h_kept[i * r->n_kept + j] = layer->hessian[kept[i] * layer->n_in + kept[j]];
        r->h_kept[i * r->n_kept + i] += lambda;
    }
    linalg_dgemm_nn(layer->n_out, r->n_kept, r->n_cut, 1, r->w_cut, r->n_cut, r->h_cross, r->n_kept,
                    0, r->gain, r->n_kept);
    return linalg_solve_spd_rows(r->n_kept, r->h_kept, layer->n_out, r->gain, NULL);
}

int obs_repair(const struct obs_layer *layer, const uint32_t *kept, size_t n_kept, double *damping,
               float *repaired, struct err *err)
{
    double mean = hessian_live_mean(layer->n_in, layer->hessian),
           share = mean > 0 ? *damping : OBS_PLAIN;
    struct repair r;

    assert(n_kept > 0 && n_kept <= layer->n_in);
    if (check_layer(layer, err) != 0)
        return -1;
    select_columns(layer, kept, n_kept, repaired);
    if (share != OBS_PLAIN && n_kept < layer->n_in) {
        if (repair_init(&r, layer, kept, n_kept, err) != 0)
            return -1;
        while (share != OBS_PLAIN && repair_solve(&r, layer, kept, share * mean) != 0)
            share = raised(share);
        for (size_t i = 0; share != OBS_PLAIN && i < layer->n_out * n_kept; i++)
            repaired[i] = (float)((double)repaired[i] + r.gain[i]);
        repair_fini(&r);
    }
    *damping = share;
    return 0;
}
