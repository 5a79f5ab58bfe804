/* variation.h - new vectors out of old ones: level switches and crossovers, all of them repaired.
 * Stateless: what is drawn depends on the random stream that is passed in. */
#ifndef KERF_VARIATION_H
#define KERF_VARIATION_H

#include "search/gene_map.h"

struct err;
struct rng;

struct variation {
    const struct problem *problem; /* borrowed */
    const struct gene_map *map;    /* borrowed */
    double *cumulative;            /* [n_genes], chance of a gene to be moved, last is 1 */
};

/* `weight` [n_genes], how much hangs on a gene (its share of the costs); NULL: all the same. */
int variation_init(struct variation *variation, const struct problem *problem,
                   const struct gene_map *map, const double *weight, struct err *err);
void variation_fini(struct variation *variation); /* a zeroed struct is fine */

/* One to three times: one gene up, another down; every third pair inside one unit, where it trades
 * size for precision.  Some lack one half, so that children also move along the front.  A part that
 * comes back takes the levels that it has in `mate`, or random ones. */
void variation_switch(const struct variation *variation, struct rng *rng, const uint8_t *mate,
                      uint8_t *levels);
/* Each unit from `mate` with chance 1/2. */
void variation_cross(const struct variation *variation, struct rng *rng, const uint8_t *mate,
                     uint8_t *levels);
/* A run of neighbouring units from `mate`. */
void variation_cross_block(const struct variation *variation, struct rng *rng, const uint8_t *mate,
                           uint8_t *levels);
/* Around one height for genes that own others and one for the rest: better starts than noise. */
void variation_near_uniform(const struct variation *variation, struct rng *rng, uint8_t *levels);
/* Every gene on its own. */
void variation_random(const struct variation *variation, struct rng *rng, uint8_t *levels);

#endif
