/* lagrange.c - separable minima, the sweep and the choice of seeds. */
#include "search/lagrange.h"

#include "search/hypervolume.h"
#include "space/base/err.h"
#include "space/base/rng.h"
#include "space/base/stats.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SWEEP_TOTAL       4096 /* multipliers, over all contexts */
#define SWEEP_PER_CONTEXT 256  /* at least */
/* Every so many multipliers weigh one cost alone. */
#define AXIS_EVERY 8
/* Slopes between the outermost percent count; steps along the hull are steeper than its chords. */
#define SLOPE_QUANTILE   0.01
#define SLOPE_MARGIN     4.0
#define PERTURB_SD       0.5
#define REFERENCE_MARGIN 1.1

static int out_of_memory(struct err *err)
{
    err_set(err, ERR_MEMORY, "search: out of memory");
    return -1;
}

/* --- multipliers --- */

/* What a choice loses per share of the costs that it saves, against the best one of its unit. */
static double slope_of(const struct choice *choice, const struct choice *best, uint32_t n_cost)
{
    double saved = 0;
    for (uint32_t j = 0; j < n_cost; j++)
        saved += (best->cost[j] - choice->cost[j]) / n_cost;
    double slope = (choice->loss - best->loss) / saved;
    return isfinite(slope) ? slope : 0;
}

static const struct choice *least_loss(const struct choice *choices, size_t n)
{
    const struct choice *best = choices;
    for (size_t i = 1; i < n; i++)
        if (choices[i].loss < best->loss)
            best = &choices[i];
    return best;
}

/* Positive slopes of all choices in the context of the finest vector; returns their number. */
static size_t collect_slopes(const struct lagrange *l, double *slopes)
{
    uint32_t context = additive_context_of(l->additive, l->map->finest);
    size_t n_slopes = 0;
    for (uint32_t u = 0; u < l->problem->n_units; u++) {
        size_t n;
        const struct choice *choices = additive_choices(l->additive, context, u, &n);
        const struct choice *best = least_loss(choices, n);
        for (size_t i = 0; i < n; i++) {
            double slope = slope_of(&choices[i], best, l->problem->n_obj - 1);
            if (slope > 0 && slopes != NULL)
                slopes[n_slopes] = slope;
            n_slopes += slope > 0;
        }
    }
    return n_slopes;
}

int lagrange_init(struct lagrange *l, const struct problem *problem, const struct gene_map *map,
                  const struct additive *additive, struct err *err)
{
    *l = (struct lagrange){problem, map, additive, 1e-3, 1e3};
    size_t n = collect_slopes(l, NULL);
    double *slopes = malloc((n + 1) * sizeof *slopes);
    if (slopes == NULL)
        return out_of_memory(err);
    if (n > 0) {
        collect_slopes(l, slopes);
        stats_sort(slopes, n);
        l->least = stats_quantile(slopes, n, SLOPE_QUANTILE) / SLOPE_MARGIN;
        l->most = stats_quantile(slopes, n, 1 - SLOPE_QUANTILE) * SLOPE_MARGIN;
    }
    free(slopes);
    return 0;
}

/* lambda[n_obj - 1] from three numbers in [0, 1): the first is the size on a log scale, the others
 * share it out evenly over the simplex; `axis` >= 0: all on that cost. */
static void make_lambda(const struct lagrange *l, const double *unit, int axis, double *lambda)
{
    uint32_t n_cost = l->problem->n_obj - 1;
    double size = l->least * pow(l->most / l->least, unit[0]);
    double low = n_cost > 2 ? fmin(unit[1], unit[2]) : unit[1];
    double high = n_cost > 2 ? fmax(unit[1], unit[2]) : 1;
    double share[ADDITIVE_MAX_COSTS] = {n_cost > 1 ? low : 1, high - low, 1 - high};
    for (uint32_t j = 0; j < n_cost; j++)
        lambda[j] = size * (axis < 0 ? share[j] : (double)((uint32_t)axis == j));
}

/* --- the separable minimum --- */

static double score_of(const struct choice *choice, const double *lambda, double factor,
                       uint32_t n_cost)
{
    double score = factor * choice->loss;
    for (uint32_t j = 0; j < n_cost; j++)
        score += lambda[j] * choice->cost[j];
    return score;
}

/* Put the best choice of `unit` into `levels`; `along` is what the units that it owns add unless
 * they go with it.  Returns the best score. */
static double choose(const struct lagrange *l, const double *lambda, double factor,
                     uint32_t context, uint32_t unit, double along, uint8_t *levels)
{
    size_t n, best = 0;
    double best_score = INFINITY;
    const struct choice *choices = additive_choices(l->additive, context, unit, &n);
    for (size_t i = 0; i < n; i++) {
        double score = score_of(&choices[i], lambda, factor, l->problem->n_obj - 1) +
                       (choices[i].takes_along ? 0 : along);
        if (score < best_score) {
            best_score = score;
            best = i;
        }
    }
    memcpy(levels + l->map->first[unit], choices[best].levels, l->map->count[unit]);
    return best_score;
}

void lagrange_solve(const struct lagrange *l, const double *lambda, const double *factor,
                    uint32_t context, uint8_t *levels)
{
    double along[PROBLEM_MAX_UNITS] = {0};
    /* Owned units first, so that their owners know what hangs on them. */
    for (int owned = 1; owned >= 0; owned--) {
        for (uint32_t u = 0; u < l->problem->n_units; u++) {
            int32_t owner = l->map->unit_owner[u];
            if ((owner >= 0) != owned)
                continue;
            double weight = additive_theta(l->additive, u) * (factor != NULL ? factor[u] : 1);
            double score = choose(l, lambda, weight, context, u, along[u], levels);
            if (owner >= 0)
                along[l->problem->unit[owner]] += score;
        }
    }
    additive_set_context(l->additive, context, levels);
    problem_repair(l->problem, levels);
}

void lagrange_solve_perturbed(const struct lagrange *l, struct rng *rng, uint8_t *levels)
{
    double factor[PROBLEM_MAX_UNITS], lambda[ADDITIVE_MAX_COSTS];
    double unit[3] = {rng_double(rng), rng_double(rng), rng_double(rng)};
    double sd = PERTURB_SD * rng_double(rng);
    int axis = rng_below(rng, AXIS_EVERY) == 0 ? (int)rng_below(rng, l->problem->n_obj - 1) : -1;
    uint32_t context = additive_context_of(l->additive, levels);
    if (rng_below(rng, 2) == 0)
        context = (uint32_t)rng_below(rng, additive_n_contexts(l->additive));
    for (uint32_t u = 0; u < l->problem->n_units; u++)
        factor[u] = exp(sd * rng_normal(rng));
    make_lambda(l, unit, axis, lambda);
    lagrange_solve(l, lambda, factor, context, levels);
}

/* --- seeds --- */

/* Van der Corput's sequence; its bases 2, 3 and 5 together are Halton's. */
static double radical_inverse(uint32_t index, uint32_t base)
{
    double value = 0, place = 1.0 / base;
    for (; index > 0; index /= base, place /= base)
        value += place * (index % base);
    return value;
}

static int sweep(const struct lagrange *l, struct vector_set *found, uint8_t *levels,
                 struct err *err)
{
    uint32_t n_contexts = additive_n_contexts(l->additive);
    uint32_t n = SWEEP_TOTAL / n_contexts;
    n = n < SWEEP_PER_CONTEXT ? SWEEP_PER_CONTEXT : n;
    for (uint32_t context = 0; context < n_contexts; context++) {
        for (uint32_t i = 1; i <= n; i++) {
            double lambda[ADDITIVE_MAX_COSTS];
            double unit[3] = {radical_inverse(i, 2), radical_inverse(i, 3), radical_inverse(i, 5)};
            bool is_axis = i % AXIS_EVERY == 0;
            int axis = is_axis ? (int)(i / AXIS_EVERY % (l->problem->n_obj - 1)) : -1;
            make_lambda(l, unit, axis, lambda);
            memcpy(levels, l->map->finest, l->problem->n_genes);
            lagrange_solve(l, lambda, NULL, context, levels);
            if (vector_set_add(found, levels) == VECTOR_NONE)
                return out_of_memory(err);
        }
    }
    return 0;
}

/* Greedy choice by hypervolume (submodular: a gain computed earlier is an upper bound of the gain
 * now, so only the one on top has to be computed again). */
struct thinning {
    size_t n, n_obj;
    double *points; /* [n][n_obj], logs */
    double *gain;   /* [n], bound; -1 for one that is taken */
    size_t *round;  /* [n], how many were taken when it was computed */
    double *taken;  /* [n_taken][n_obj] */
    size_t n_taken;
    double reference[PROBLEM_MAX_OBJ];
};

static void thinning_take(struct thinning *t, size_t index)
{
    memcpy(t->taken + t->n_taken++ * t->n_obj, t->points + index * t->n_obj,
           t->n_obj * sizeof *t->points);
    t->gain[index] = -1;
}

/* The point that adds most, or n when none adds anything. */
static size_t thinning_best(struct thinning *t)
{
    for (;;) {
        size_t best = 0;
        for (size_t i = 1; i < t->n; i++)
            if (t->gain[i] > t->gain[best])
                best = i;
        if (!(t->gain[best] > 0))
            return t->n;
        if (t->round[best] == t->n_taken)
            return best;
        t->gain[best] = hypervolume_gain(t->taken, t->n_taken, t->n_obj, t->reference,
                                         t->points + best * t->n_obj);
        t->round[best] = t->n_taken;
    }
}

static void thinning_fill(struct thinning *t, const struct lagrange *l,
                          const struct vector_set *found, double loss_floor, double loss_cap)
{
    double worst[PROBLEM_MAX_OBJ] = {0};
    for (size_t i = 0; i < t->n; i++) {
        double raw[PROBLEM_MAX_OBJ];
        const uint8_t *levels = vector_set_at(found, i);
        raw[0] = additive_loss(l->additive, levels) + loss_floor;
        additive_costs(l->additive, levels, raw + 1);
        for (size_t j = 0; j < t->n_obj; j++) {
            t->points[i * t->n_obj + j] = log(raw[j]);
            worst[j] = fmax(worst[j], raw[j]);
        }
        t->gain[i] = INFINITY;
        t->round[i] = SIZE_MAX;
    }
    for (size_t j = 0; j < t->n_obj; j++)
        t->reference[j] = log(REFERENCE_MARGIN * worst[j]);
    if (loss_cap > 0)
        t->reference[0] = fmin(t->reference[0], log(loss_cap + loss_floor));
}

/* The first vectors of `found` are those of `vectors`: they are taken from the start. */
static int thin(struct thinning *t, const struct vector_set *found, size_t n_seeds,
                struct vector_set *vectors, struct err *err)
{
    for (size_t i = 0; i < vectors->n; i++)
        thinning_take(t, i);
    for (; n_seeds > 0; n_seeds--) {
        size_t best = thinning_best(t);
        if (best == t->n)
            break;
        thinning_take(t, best);
        if (vector_set_add(vectors, vector_set_at(found, best)) == VECTOR_NONE)
            return out_of_memory(err);
    }
    return 0;
}

int lagrange_seeds(const struct lagrange *l, size_t n_seeds, double loss_floor, double loss_cap,
                   struct vector_set *vectors, struct err *err)
{
    struct vector_set found;
    struct thinning t = {.n_obj = l->problem->n_obj};
    uint8_t *levels = malloc(l->problem->n_genes);
    int status = levels != NULL ? 0 : out_of_memory(err);
    vector_set_init(&found, l->problem->n_genes);
    for (size_t i = 0; i < vectors->n && status == 0; i++)
        if (vector_set_add(&found, vector_set_at(vectors, i)) == VECTOR_NONE)
            status = out_of_memory(err);
    if (status == 0)
        status = sweep(l, &found, levels, err);
    if (status == 0) {
        t.n = found.n;
        t.points = malloc(t.n * t.n_obj * sizeof *t.points);
        t.gain = malloc(t.n * sizeof *t.gain);
        t.round = malloc(t.n * sizeof *t.round);
        t.taken = malloc(t.n * t.n_obj * sizeof *t.taken);
        if (t.points == NULL || t.gain == NULL || t.round == NULL || t.taken == NULL)
            status = out_of_memory(err);
    }
    if (status == 0) {
        thinning_fill(&t, l, &found, loss_floor, loss_cap);
        status = thin(&t, &found, n_seeds, vectors, err);
    }
    free(t.taken);
    free(t.round);
    free(t.gain);
    free(t.points);
    vector_set_fini(&found);
    free(levels);
    return status;
}
