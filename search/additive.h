/* additive.h - the additive prior of a search: what each choice of each unit costs, and what it
 * would lose alone.
 *
 *   loss(x)   = g( sum_u theta_u k_u(x_u) ),   g(z) = 7 (1 - exp(-z / 7))
 *   k_u(x_u)  = sum over the unit's genes of the inverse of g of their sensitivities; what is owned
 *               by a gene at level 0 (formats of a dropped unit) counts nothing, the drop was
 *               measured as a whole
 *   cost_j(x) = a_j + b_j sum_u cost_uj(x_u), cost_uj being asked of the problem once per choice,
 *               at the finest vector with that unit moved
 *
 * theta starts at 1 and is refitted by ridge regression toward 1 on the relative error, a and b by
 * least squares on the relative error.  g keeps the loss of a broken model at what a broken model
 * has: the divergence from a parent saturates near 7 nats.
 *
 * Global genes that change the cost of other units (widths under equal layers) cannot be separated:
 * each of their combinations is a "context" with choices and costs of its own, at most
 * ADDITIVE_MAX_CONTEXTS; of finer grids only some levels are looked at, the rest count as the
 * nearest of them.  They are looked for in the last unit. */
#ifndef KERF_ADDITIVE_H
#define KERF_ADDITIVE_H

#include "search/gene_map.h"
#include <stddef.h>

struct err;

#define ADDITIVE_MAX_CONTEXTS 64
#define ADDITIVE_MAX_CHOICES  4096 /* of a unit */
#define ADDITIVE_MAX_COSTS    (PROBLEM_MAX_OBJ - 1)

/* What a unit can become, canonical, none beaten by another of them in loss and costs. */
struct choice {
    const uint8_t *levels;           /* of the unit's genes */
    double loss;                     /* before g, theta = 1 */
    double cost[ADDITIVE_MAX_COSTS]; /* as a share of the finest vector's total */
    bool takes_along;                /* units that this one owns are gone too */
};

struct additive;

/* Asks the problem for the costs of every choice: seconds where choices are many and asking is
 * slow; units that cost the same share their answers.  ERR_DATA for losses that are negative or not
 * finite and for costs that are not finite.  `table` is copied, the others are borrowed. */
struct additive *additive_create(const struct problem *problem, const struct gene_map *map,
                                 const struct sensitivity_table *table, struct err *err);
void additive_destroy(struct additive *additive); /* NULL is fine */

/* Predictions for repaired `levels`. */
double additive_loss(const struct additive *additive, const uint8_t *levels);
/* cost[n_obj - 1], all > 0. */
void additive_costs(const struct additive *additive, const uint8_t *levels, double *cost);
/* Share of all costs that hangs on `gene`, >= 0. */
double additive_weight(const struct additive *additive, uint32_t gene);

/* Enter what was measured; additive_refit makes use of it.  objective[n_obj], all > 0. */
void additive_learn(struct additive *additive, const uint8_t *levels, const double *objective);
int additive_refit(struct additive *additive, struct err *err);
double additive_theta(const struct additive *additive, uint32_t unit);

/* The choices of `unit`, from which a sweep picks; number in *n.  Their levels are borrowed. */
uint32_t additive_n_contexts(const struct additive *additive);
const struct choice *additive_choices(const struct additive *additive, uint32_t context,
                                      uint32_t unit, size_t *n);
uint32_t additive_context_of(const struct additive *additive, const uint8_t *levels);
/* Set the global genes of `context` in `levels`. */
void additive_set_context(const struct additive *additive, uint32_t context, uint8_t *levels);

#endif
