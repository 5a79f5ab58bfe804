/* lagrange.h - vectors on the convex hull of the additive model, by Lagrange multipliers:
 *
 *   min over x of  sum_u f_u theta_u k_u(x_u) + sum_j lambda_j cost_j(x)
 *
 * falls apart into one small minimum per unit (Everett, Operations Research 11(3), 1963).  Costs
 * are shares of the finest vector's, so lambda is in nats per whole cost. */
#ifndef KERF_LAGRANGE_H
#define KERF_LAGRANGE_H

#include "search/additive.h"
#include "search/vector_set.h"

struct err;
struct rng;

struct lagrange {
    const struct problem *problem;   /* borrowed */
    const struct gene_map *map;      /* borrowed */
    const struct additive *additive; /* borrowed */
    double least, most;              /* range of sum_j lambda_j where choices change */
};

int lagrange_init(struct lagrange *lagrange, const struct problem *problem,
                  const struct gene_map *map, const struct additive *additive, struct err *err);

/* The minimum for lambda[n_obj - 1] in one context, repaired.  `factor` [n_units] is f_u; NULL: 1.
 */
void lagrange_solve(const struct lagrange *lagrange, const double *lambda, const double *factor,
                    uint32_t context, uint8_t *levels);
/* As that, with multipliers and log-normal factors drawn from `rng`; the context is that of the
 * incoming `levels` or, half of the time, another one. */
void lagrange_solve_perturbed(const struct lagrange *lagrange, struct rng *rng, uint8_t *levels);

/* Append up to `n_seeds` vectors to `vectors`: sweep thousands of Halton multipliers, then take the
 * ones that add most to the hypervolume of (log(loss + floor), log costs) over those that are in
 * `vectors` already.  A predicted loss above `loss_cap` adds nothing (0: no cap). */
int lagrange_seeds(const struct lagrange *lagrange, size_t n_seeds, double loss_floor,
                   double loss_cap, struct vector_set *vectors, struct err *err);

#endif
