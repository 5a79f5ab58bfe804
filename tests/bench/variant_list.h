/* variant_list.h - which variants a genome or a whole space is stitched from, and building them
 * with all members of a team at once. */
#ifndef VARIANT_LIST_H
#define VARIANT_LIST_H

#include "evaluator/compression/stitch.h"
#include "evaluator/team.h"
#include "space/space.h"

struct variant_list {
    struct variant_key *key; /* [n], each once */
    size_t n, room;
};

/* The parts of a canonical genome. */
int variant_list_of_genome(struct variant_list *list, const struct genome *genome,
                           const struct geometry *parent, struct err *err);
/* Every part x width x format that any genome of the space is made of in the parent's own basis,
 * fallbacks applied. */
int variant_list_of_space(struct variant_list *list, const struct space *space, struct err *err);
void variant_list_fini(struct variant_list *list); /* a zeroed struct is fine */

/* Build (or find) them all; members take the next one as they get free, in the order of the list.
 * The error of the first that failed, if one did. */
int variant_list_build(const struct variant_list *list, const struct variant_source *source,
                       struct store *store, struct team *team, struct err *err);

#endif
