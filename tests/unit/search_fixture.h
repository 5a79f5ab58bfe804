/* search_fixture.h - a toy model for the tests of search: units with a width (level 0 drops the
 * unit and makes its other gene meaningless) and a precision, losses that saturate and interact,
 * costs that are sums over units plus an overhead.  Small ones can be enumerated completely. */
#ifndef KERF_SEARCH_FIXTURE_H
#define KERF_SEARCH_FIXTURE_H

#include "search/problem.h"
#include "space/base/rng.h"

#include <math.h>
#include <string.h>

#define TOY_MAX_UNITS 16
#define TOY_WIDTHS    4
#define TOY_BITS      5
#define TOY_LEVELS    8 /* stride of the table of losses */

struct toy {
    struct problem problem;
    uint32_t n_levels[2 * TOY_MAX_UNITS], unit[2 * TOY_MAX_UNITS];
    double drop[TOY_MAX_UNITS], narrow[TOY_MAX_UNITS], coarse[TOY_MAX_UNITS]; /* what hurts */
    double size[TOY_MAX_UNITS];
    double interaction;
    double loss[2 * TOY_MAX_UNITS][TOY_LEVELS]; /* the sensitivities */
    struct sensitivity_table table;
};

static const double toy_width[TOY_WIDTHS] = {0, 0.5, 0.75, 1};
static const double toy_bits[TOY_BITS] = {2.6, 3.4, 4.5, 5.5, 8.5};

static inline void toy_repair(void *arg, uint8_t *levels)
{
    const struct toy *toy = arg;
    for (uint32_t u = 0; u < toy->problem.n_units; u++)
        if (levels[2 * u] == 0)
            levels[2 * u + 1] = 0;
}

static inline void toy_unit_cost(void *arg, const uint8_t *levels, uint32_t unit, double *cost)
{
    const struct toy *toy = arg;
    double width = toy_width[levels[2 * unit]], bits = toy_bits[levels[2 * unit + 1]];
    const double all[3] = {toy->size[unit] * width * bits,
                           toy->size[unit] * width * (8 + 0.3 * bits),
                           toy->size[unit] * width * bits};
    memcpy(cost, all, (toy->problem.n_obj - 1) * sizeof *cost);
}

static inline double toy_unit_loss(const struct toy *toy, const uint8_t *levels, uint32_t unit)
{
    if (levels[2 * unit] == 0)
        return toy->drop[unit];
    double lost = 1 - toy_width[levels[2 * unit]], bits = toy_bits[levels[2 * unit + 1]];
    return toy->narrow[unit] * pow(lost, 1.5) +
           toy->coarse[unit] * (pow(2, -1.9 * (bits - 2.6)) - pow(2, -1.9 * (8.5 - 2.6)));
}

/* Objectives, exact; neighbours make each other's loss worse. */
static inline void toy_evaluate(const struct toy *toy, const uint8_t *levels, double *objective)
{
    double z = 0, before = 0;
    const double overhead = 5;
    for (uint32_t j = 1; j < toy->problem.n_obj; j++)
        objective[j] = overhead;
    for (uint32_t u = 0; u < toy->problem.n_units; u++) {
        double loss = toy_unit_loss(toy, levels, u), cost[3];
        z += loss + toy->interaction * sqrt(loss * before);
        before = loss;
        toy_unit_cost((void *)toy, levels, u, cost);
        for (uint32_t j = 1; j < toy->problem.n_obj; j++)
            objective[j] += 1.07 * cost[j - 1];
    }
    objective[0] = 7 * (1 - exp(-z / 7)) + 1e-6;
}

/* Sensitivities as they are measured, each unit's off by a log-normal factor. */
static inline void toy_measure_table(struct toy *toy, struct rng *rng, double log_error)
{
    uint8_t levels[2 * TOY_MAX_UNITS];
    double objective[PROBLEM_MAX_OBJ], factor = 1;
    for (uint32_t g = 0; g < toy->problem.n_genes; g++) {
        if (g % 2 == 0)
            factor = exp(log_error * rng_normal(rng));
        for (uint32_t level = 0; level < toy->n_levels[g]; level++) {
            for (uint32_t h = 0; h < toy->problem.n_genes; h++)
                levels[h] = (uint8_t)(toy->n_levels[h] - 1);
            levels[g] = (uint8_t)level;
            toy_repair(toy, levels);
            toy_evaluate(toy, levels, objective);
            toy->loss[g][level] = level + 1 < toy->n_levels[g] ? factor * objective[0] : 0;
        }
    }
    toy->table = (struct sensitivity_table){.loss = &toy->loss[0][0], .stride = TOY_LEVELS};
}

static inline void toy_init(struct toy *toy, uint32_t n_units, uint32_t n_obj, double interaction,
                            double log_error, uint64_t seed)
{
    struct rng rng = rng_make(seed, 0);
    memset(toy, 0, sizeof *toy);
    toy->interaction = interaction;
    for (uint32_t u = 0; u < n_units; u++) {
        toy->coarse[u] = exp(-2 + rng_normal(&rng));
        toy->narrow[u] = exp(-1 + rng_normal(&rng));
        toy->drop[u] = toy->narrow[u] * (1.5 + rng_double(&rng));
        toy->size[u] = u % 2 == 0 ? 1 : 3;
        toy->n_levels[2 * u] = TOY_WIDTHS;
        toy->n_levels[2 * u + 1] = TOY_BITS;
        toy->unit[2 * u] = toy->unit[2 * u + 1] = u;
    }
    toy->problem = (struct problem){.n_genes = 2 * n_units,
                                    .n_units = n_units,
                                    .n_obj = n_obj,
                                    .n_levels = toy->n_levels,
                                    .unit = toy->unit,
                                    .arg = toy,
                                    .repair = toy_repair,
                                    .unit_cost = toy_unit_cost};
    toy_measure_table(toy, &rng, log_error);
}

/* The next vector of a complete enumeration, an odometer from all zeros; 0 after the last. */
static inline int toy_next(const struct problem *problem, uint8_t *levels)
{
    for (uint32_t g = 0; g < problem->n_genes; g++) {
        if (levels[g] + 1u < problem->n_levels[g]) {
            levels[g]++;
            return 1;
        }
        levels[g] = 0;
    }
    return 0;
}

#endif
