/* space_parts.h - what the files of the space share: space_limits.c (what is allowed), space.c (the
 * genes), space_genome.c (level vectors), space_names.c (for people). */
#ifndef KERF_SPACE_PARTS_H
#define KERF_SPACE_PARTS_H

#include "space/space.h"

struct err;

/* Row of space.gene_of that holds the global genes. */
#define GLOBAL_ROW GEOMETRY_MAX_LAYERS

/* Fill what was left out, refuse what contradicts the geometry (ERR_CONFIG, as space_init says it),
 * and bring lists, which mean the same in any order and with repetitions, to one form. */
int space_limits_fill(struct space_limits *limits, const struct geometry *geometry,
                      struct err *err);

#endif
