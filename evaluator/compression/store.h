/* store.h - the variant store: one immutable file per variant in DIR/xx/xxxx... (store_file.h),
 * built on first use, mapped read-only and so shared by all evaluators of a node.
 *
 * Crash-safe and safe between processes: a variant is written to a temporary file, synced and
 * renamed, so nobody ever sees half of one; two builders of one variant write identical bytes, and
 * the later rename wins nothing and harms nothing.  A torn or foreign file is removed and rebuilt,
 * with a word in the log; what another parent or calibration left has other names and is never
 * looked at.
 *
 * Bounded, where a bound is given: what was used least recently is evicted (store_room.h), and
 * built again, with the same bytes, should it be wanted.  A variant for which no room can be made,
 * for it is larger than the bound or what this process has in use fills it, is held in memory
 * instead and in no file: slow when it happens at every candidate, and said in the log, but never
 * wrong.  Where the disk is full before the bound is reached, as much is evicted and the write
 * tried once more.
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
/* Hold at most so many bytes from now on (0: no bound, as at first), and evict what is above it.
 * Before other threads use the store. */
int store_bound(struct store *store, uint64_t max_bytes, struct err *err);
/* Whose store a folder is: DIR/parent names the first parent that claims it.  Another one's claim
 * is said in the log: what the store holds is told apart by name and never used, but it takes room.
 * Parents derived from one another share a store under the name of the first. */
void store_claim(const char *dir, const struct hash256 *parent);
/* Unmaps everything: variants taken from it are gone. */
void store_close(struct store *store); /* NULL is fine */

/* The variant for a key of a source, built from it if need be; one store may serve several sources,
 * which names keep apart.  *variant points into the store, valid until close.  ERR_IO when it
 * cannot be written (disk full: nothing is left half written), else what variant_build says. */
int store_get(struct store *store, const struct variant_source *source,
              const struct variant_key *key, struct variant *variant, struct err *err);

/* Unmaps what was taken so far; nothing of it may be in use any more.  What is wanted again is
 * mapped and checked again. */
void store_forget(struct store *store);

/* `n_bytes` zeros of memory of its own for a layer: the weights of a zero FFN.  The same block for
 * the same layer and size, 64-byte aligned, valid until close; NULL without memory. */
const void *store_zeros(struct store *store, uint32_t layer, size_t n_bytes, struct err *err);

/* Since open. */
struct store_counts {
    uint64_t n_built, n_found;         /* n_found: in files that were there */
    uint64_t n_evicted, evicted_bytes; /* files of any process */
    uint64_t n_unkept;                 /* of n_built: there was no room for a file */
    double build_seconds;
};
void store_counts(struct store *store, struct store_counts *counts);

#endif
