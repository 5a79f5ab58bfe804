/* world_drill.h - the first lessons: rows of random pieces in which much can be known by looking
 * back.
 *
 * A model that starts on the world's own text is slow to find out that names can be copied from
 * what came before: too few of its words could be.  In a drill most pieces follow from earlier
 * ones, either because a row is said again (the induction of Olsson et al., "In-context learning
 * and induction heads", 2022) or because a key was told with its value (the associative recall of
 * Arora et al., "Zoology", 2023), and nothing can be known by heart.  A few thousand steps of them,
 * and the same looking back serves the stories. */
#ifndef WORLD_DRILL_H
#define WORLD_DRILL_H

#include <stddef.h>
#include <stdint.h>

struct rng;

/* `n` pieces of drills, of a vocabulary of `n_pieces` (tokenizer_train.h); drills do not cross the
 * end of `tokens`. */
void drill_write(struct rng *rng, size_t n_pieces, uint16_t *tokens, size_t n);

#endif
