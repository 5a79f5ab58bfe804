/* gene_map.h - how the genes of a problem hang together, found by watching its repair.
 * A gene "owns" others when its level 0 makes them meaningless: a dropped FFN owns the formats of
 * its matrices, a dropped layer those of its attention and of its FFN.  Found by setting one gene
 * of the finest vector to 0: what repair then pulls down to 0 belongs to it. */
#ifndef KERF_GENE_MAP_H
#define KERF_GENE_MAP_H

#include "search/problem.h"
#include <stdbool.h>

struct err;

struct gene_map {
    uint32_t *first;     /* [n_units], first gene of the unit */
    uint32_t *count;     /* [n_units], 0 for a unit without genes */
    uint8_t *finest;     /* [n_genes], every gene at its last level, repaired */
    int32_t *owner;      /* [n_genes], -1: none */
    bool *is_owner;      /* [n_genes] */
    int32_t *unit_owner; /* [n_units], gene of another unit that owns all of this one's; -1 */
};

/* ERR_INTERNAL when the problem is malformed (levels, order of units). */
int gene_map_init(struct gene_map *map, const struct problem *problem, struct err *err);
void gene_map_fini(struct gene_map *map); /* a zeroed struct is fine */
/* Whether the level of `gene` means something in `levels`. */
bool gene_map_counts(const struct gene_map *map, const uint8_t *levels, uint32_t gene);

/* Levels inside their ranges, then the problem's own repair. */
void problem_repair(const struct problem *problem, uint8_t *levels);

#endif
