/* store.h - the variant store: one immutable file per variant in DIR/xx/xxxx..., built on first
 * use, mapped read-only and so shared by all evaluators of a node.
 * Crash-safe and safe between processes without a lock: a variant is written to a temporary file,
 * synced and renamed; two builders of one variant write identical bytes and the later rename wins
 * nothing and harms nothing.  The file carries magic, version, key, layout, error and a SHA-256 of
 * its payload; a torn or foreign file is removed and rebuilt, with a word in the log.
 *
 *   one page of 512 bytes: struct store_page, SHA-256 of the page's beginning | payload
 *
 * A process checks each file once, when it first maps it; after that a variant is one look-up in a
 * table.  Calls may come from several threads: the table is locked, building is not, so that
 * variants are built side by side. */
#ifndef KERF_STORE_H
#define KERF_STORE_H

#include "evaluator/compression/variant.h"

struct store;

/* `dir` is created when absent.  Temporary files that a killed builder left an hour ago are swept
 * away. */
struct store *store_open(const char *dir, struct err *err);
/* Unmaps everything: variants taken from it are gone. */
void store_close(struct store *store); /* NULL is fine */

/* The variant for a key of a source, built from it if need be; one store may serve several sources,
 * which names keep apart.  *variant points into the store, valid until close.  ERR_IO when it
 * cannot be written (disk full: nothing is left half written), else what variant_build says. */
int store_get(struct store *store, const struct variant_source *source,
              const struct variant_key *key, struct variant *variant, struct err *err);

/* `n_bytes` zeros of memory of its own for a layer: the weights of a zero FFN.  The same block for
 * the same layer and size, 64-byte aligned, valid until close; NULL without memory. */
const void *store_zeros(struct store *store, uint32_t layer, size_t n_bytes, struct err *err);

/* Built (not found) since open; seconds spent building. */
void store_counts(const struct store *store, uint64_t *n_built, uint64_t *n_found,
                  double *build_seconds);

#endif
