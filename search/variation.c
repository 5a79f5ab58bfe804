/* variation.c - operators on level vectors. */
#include "search/variation.h"

#include "space/base/err.h"
#include "space/base/rng.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PAIRS_MAX        3
#define TRIES            16
#define SAME_UNIT_ONE_IN 3
#define HALF_PAIR_ONE_IN 3
#define JUMP_ONE_IN      4
/* What every gene keeps of an equal share, however little hangs on it. */
#define EQUAL_SHARE 0.3
#define NEAR_SD     0.15

int variation_init(struct variation *v, const struct problem *problem, const struct gene_map *map,
                   const double *weight, struct err *err)
{
    *v = (struct variation){.problem = problem, .map = map};
    v->cumulative = calloc(problem->n_genes, sizeof *v->cumulative);
    if (v->cumulative == NULL) {
        err_set(err, ERR_MEMORY, "search: out of memory");
        return -1;
    }
    double total = 0, sum = 0;
    for (uint32_t g = 0; weight != NULL && g < problem->n_genes; g++)
        total += weight[g];
    double equal = total > 0 ? EQUAL_SHARE : 1;
    for (uint32_t g = 0; g < problem->n_genes; g++) {
        sum += equal / problem->n_genes + (total > 0 ? (1 - equal) * weight[g] / total : 0);
        v->cumulative[g] = sum;
    }
    return 0;
}

void variation_fini(struct variation *v)
{
    free(v->cumulative);
    *v = (struct variation){0};
}

static uint32_t pick_gene(const struct variation *v, struct rng *rng)
{
    uint32_t low = 0, high = v->problem->n_genes - 1;
    double at = rng_double(rng) * v->cumulative[high];
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (v->cumulative[middle] > at)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static uint32_t pick_gene_of_unit(const struct variation *v, struct rng *rng, uint32_t unit)
{
    return v->map->first[unit] + (uint32_t)rng_below(rng, v->map->count[unit]);
}

/* --- level switches --- */

static bool can_move(const struct variation *v, const uint8_t *levels, uint32_t gene, bool up)
{
    if (!gene_map_counts(v->map, levels, gene))
        return false;
    return up ? levels[gene] + 1u < v->problem->n_levels[gene] : levels[gene] > 0;
}

/* A gene other than `taken` that can go that way, in `unit` (-1: anywhere); -1 when none turns up.
 */
static int64_t pick_movable(const struct variation *v, struct rng *rng, const uint8_t *levels,
                            bool up, int64_t unit, int64_t taken)
{
    for (int i = 0; i < TRIES; i++) {
        uint32_t gene = unit >= 0 ? pick_gene_of_unit(v, rng, (uint32_t)unit) : pick_gene(v, rng);
        if (gene != taken && can_move(v, levels, gene, up))
            return gene;
    }
    return -1;
}

/* What comes back with `gene` had no levels of its own while that was at 0. */
static void revive_owned(const struct variation *v, struct rng *rng, const uint8_t *mate,
                         uint32_t gene, uint8_t *levels)
{
    for (uint32_t g = 0; g < v->problem->n_genes; g++)
        if (v->map->owner[g] == (int32_t)gene)
            levels[g] =
                mate[gene] != 0 ? mate[g] : (uint8_t)rng_below(rng, v->problem->n_levels[g]);
}

static void move_gene(const struct variation *v, struct rng *rng, const uint8_t *mate,
                      uint32_t gene, bool up, uint8_t *levels)
{
    uint32_t room = up ? v->problem->n_levels[gene] - 1 - levels[gene] : levels[gene];
    uint32_t step = rng_below(rng, JUMP_ONE_IN) == 0 ? 1 + (uint32_t)rng_below(rng, room) : 1;
    if (up && levels[gene] == 0 && v->map->is_owner[gene])
        revive_owned(v, rng, mate, gene, levels);
    levels[gene] = (uint8_t)(up ? levels[gene] + step : levels[gene] - step);
}

static void switch_pair(const struct variation *v, struct rng *rng, const uint8_t *mate,
                        uint8_t *levels)
{
    bool is_half = rng_below(rng, HALF_PAIR_ONE_IN) == 0;
    bool first_up = rng_below(rng, 2) == 0;
    bool same_unit = rng_below(rng, SAME_UNIT_ONE_IN) == 0;
    int64_t first = pick_movable(v, rng, levels, first_up, -1, -1);
    if (first < 0)
        return;
    move_gene(v, rng, mate, (uint32_t)first, first_up, levels);
    if (is_half)
        return;
    int64_t unit = same_unit ? (int64_t)v->problem->unit[first] : -1;
    int64_t second = pick_movable(v, rng, levels, !first_up, unit, first);
    if (second < 0 && same_unit)
        second = pick_movable(v, rng, levels, !first_up, -1, first);
    if (second >= 0)
        move_gene(v, rng, mate, (uint32_t)second, !first_up, levels);
}

void variation_switch(const struct variation *v, struct rng *rng, const uint8_t *mate,
                      uint8_t *levels)
{
    uint64_t a = 1 + rng_below(rng, PAIRS_MAX), b = 1 + rng_below(rng, PAIRS_MAX);
    for (uint64_t n = a < b ? a : b; n > 0; n--)
        switch_pair(v, rng, mate, levels);
    problem_repair(v->problem, levels);
}

/* --- crossover --- */

/* `from_mate` [n_genes] says whose gene it was; one that is owned follows its owner where it had no
 * meaning in the vector that it came from. */
static void cross_by(const struct variation *v, const bool *from_mate, const uint8_t *mate,
                     uint8_t *levels)
{
    uint8_t own[PROBLEM_MAX_GENES];
    uint32_t n = v->problem->n_genes;
    memcpy(own, levels, n);
    for (uint32_t g = 0; g < n; g++) {
        const uint8_t *source = from_mate[g] ? mate : own;
        int32_t owner = v->map->owner[g];
        if (owner >= 0 && source[owner] == 0)
            source = from_mate[owner] ? mate : own;
        levels[g] = source[g];
    }
    problem_repair(v->problem, levels);
}

void variation_cross(const struct variation *v, struct rng *rng, const uint8_t *mate,
                     uint8_t *levels)
{
    bool from_mate[PROBLEM_MAX_GENES];
    for (uint32_t u = 0; u < v->problem->n_units; u++) {
        bool taken = rng_below(rng, 2) == 0;
        for (uint32_t i = 0; i < v->map->count[u]; i++)
            from_mate[v->map->first[u] + i] = taken;
    }
    cross_by(v, from_mate, mate, levels);
}

void variation_cross_block(const struct variation *v, struct rng *rng, const uint8_t *mate,
                           uint8_t *levels)
{
    bool from_mate[PROBLEM_MAX_GENES];
    uint32_t n_units = v->problem->n_units;
    uint32_t length = 1 + (uint32_t)rng_below(rng, (n_units + 1) / 2);
    uint32_t first = (uint32_t)rng_below(rng, n_units - length + 1);
    for (uint32_t u = 0; u < n_units; u++)
        for (uint32_t i = 0; i < v->map->count[u]; i++)
            from_mate[v->map->first[u] + i] = u >= first && u < first + length;
    cross_by(v, from_mate, mate, levels);
}

/* --- from nothing --- */

void variation_near_uniform(const struct variation *v, struct rng *rng, uint8_t *levels)
{
    double height[2] = {rng_double(rng), rng_double(rng)};
    for (uint32_t g = 0; g < v->problem->n_genes; g++) {
        double top = v->problem->n_levels[g] - 1;
        double at = (height[v->map->is_owner[g]] + NEAR_SD * rng_normal(rng)) * top;
        levels[g] = (uint8_t)fmin(top, fmax(0, round(at)));
    }
    problem_repair(v->problem, levels);
}

void variation_random(const struct variation *v, struct rng *rng, uint8_t *levels)
{
    for (uint32_t g = 0; g < v->problem->n_genes; g++)
        levels[g] = (uint8_t)rng_below(rng, v->problem->n_levels[g]);
    problem_repair(v->problem, levels);
}
