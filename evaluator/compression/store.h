/* store.h - the variant store: one immutable file per variant in DIR/xx/xxxx..., built on first
 * use, mapped read-only and so shared by all evaluators of a node.
 * Crash-safe and safe between processes without a lock: a variant is written to a temporary file,
 * synced and renamed; two builders of one variant write identical bytes and the later rename wins
 * nothing and harms nothing.  The file carries magic, version, key, layout, error and a SHA-256 of
 * its payload; a torn or foreign file is removed and rebuilt, with a word in the log. */
#ifndef KERF_STORE_H
#define KERF_STORE_H

#include "evaluator/compression/variant.h"

struct store;

/* `dir` is created when absent; must not be shared by studies of different parents (keys keep them
 * apart all the same). */
struct store *store_open(const char *dir, const struct variant_source *source, struct err *err);
/* Unmaps everything: variants taken from it are gone. */
void store_close(struct store *store); /* NULL is fine */

/* The variant for a key, built if need be.  *variant points into the store, valid until close. */
int store_get(struct store *store, const struct variant_key *key, struct variant *variant,
              struct err *err);

/* Built (not found) since open; seconds spent building. */
void store_counts(const struct store *store, uint64_t *n_built, uint64_t *n_found,
                  double *build_seconds);

#endif
