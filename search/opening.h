/* opening.h - what is asked before anything is known: the two corners and uniform vectors. */
#ifndef KERF_OPENING_H
#define KERF_OPENING_H

#include "search/gene_map.h"
#include "search/vector_set.h"

struct err;

/* Append at most `limit` vectors to `vectors`: all-finest, all-coarsest, then each level across all
 * genes that own no others (formats), then the same with the owners (widths) at a few lower ones.
 */
int opening_fill(struct vector_set *vectors, const struct problem *problem,
                 const struct gene_map *map, size_t limit, struct err *err);
#define OPENING_N_CORNERS 2

#endif
