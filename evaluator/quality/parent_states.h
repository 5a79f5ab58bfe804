/* parent_states.h - the parent's last hidden states on a token set, kept so that its log
 * probabilities can be had again exactly for one head product a batch (methods.md D1: with a small
 * vocabulary this is cheaper than storing log probabilities, and exact).
 * The file, little-endian:  "KERFSTAT" | u32 version, d_model, n_tokens, n_sequences | parent[32] |
 *   u64 offset of the states | i32 tokens[n_tokens] | u32 begin[n_sequences + 1] | zeros up to a
 *   multiple of 64 | f32 states [n_tokens][d_model]
 * Mapped read-only, so that all evaluators of a node share it.  A set of n tokens serves every
 * smaller one of the same text and length of sequences. */
#ifndef KERF_PARENT_STATES_H
#define KERF_PARENT_STATES_H

#include "evaluator/forward.h"
#include "evaluator/quality/token_set.h"

struct err;
struct parent_states;

/* Compute with the parent's own formats and write `path` atomically.  ERR_DATA when a state is not
 * finite. */
int parent_states_make(const char *path, const struct hash256 *parent_hash,
                       const struct model *parent, const struct kernels *kernels, struct team *team,
                       const struct token_set *set, struct err *err);
/* ERR_DATA when it is damaged or belongs to another parent or another text. */
struct parent_states *parent_states_open(const char *path, const struct hash256 *parent_hash,
                                         const struct token_set *set, struct err *err);
void parent_states_close(struct parent_states *states); /* NULL is fine */
/* Hidden states before the final norm, [n_tokens][d_model]. */
const float *parent_states_at(const struct parent_states *states, uint32_t token);

#endif
