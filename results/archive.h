/* archive.h - everything a study found out, in LMDB.  The only file that knows LMDB (with
 * archive_*.c beside it).
 *
 * Caveats first.  One writer per study (the master), any number of readers in other processes at
 * the same time.  Never on a network file system: refused at open.  One environment is opened once
 * per process.  Commits are synchronous; the map grows by itself.
 *
 * Databases, keys big-endian so that a cursor walks them in order:
 *   meta        text -> text         schema, study hash, parent hash, device class, counters
 *   candidate   id (16)              -> record_put_candidate
 *   sequence    u64                  -> id: order of proposal
 *   evaluation  id (16) | attempt u32-> record_put_evaluation | JSON of the rest
 *   commit      u64                  -> id | attempt: order of commit (replay walks this)
 *   samples     id | attempt | text  -> f32 raw samples of a probe ("decode", "prefill", "...ref")
 *   genome      id (16)              -> canonical text
 * Invariants (archive_fsck proves each): every sequence entry has its candidate and back; numbers
 * run without holes; every evaluation has a candidate, a commit entry and finite numbers; a DONE
 * candidate has an evaluation, a PENDING one has none; genome text hashes to its id; counters in
 * meta agree. */
#ifndef KERF_ARCHIVE_H
#define KERF_ARCHIVE_H

#include "results/record.h"
#include "space/base/hash.h"
#include <stdbool.h>
#include <stddef.h>

struct err;
struct archive;

enum archive_mode { ARCHIVE_READ, ARCHIVE_WRITE };

/* Open DIR/data.mdb.  WRITE creates it when absent, takes the writer lock of the folder
 * (ERR_RESOURCE when another master holds it) and checks that it belongs to `study` (ERR_DATA).
 * READ works while a search runs.  `study` may be NULL for READ. */
struct archive *archive_open(const char *dir, enum archive_mode mode, const struct hash256 *study,
                             struct err *err);
void archive_close(struct archive *archive); /* NULL is fine */

/* Texts of `meta`.  get: 1 found (cut to size), 0 absent, -1 error. */
int archive_get_meta(struct archive *archive, const char *key, char *text, size_t size,
                     struct err *err);
int archive_put_meta(struct archive *archive, const char *key, const char *text, struct err *err);

/* --- writer: everything between begin and commit is one transaction --- */
int archive_begin(struct archive *archive, struct err *err);
int archive_commit(struct archive *archive, struct err *err);
void archive_abort(struct archive *archive);

/* A new candidate, PENDING; candidate->sequence is set to the next number.  ERR_DATA when the id is
 * there already: no genome is proposed twice. */
int archive_put_candidate(struct archive *archive, struct candidate *candidate,
                          const char *genome, struct err *err);
/* A result: evaluation->attempt is set to the next number, the candidate becomes DONE. `details`
 * is JSON text.  Written once: a second result under the same lease is the caller's to drop. */
int archive_put_evaluation(struct archive *archive, struct evaluation *evaluation,
                           const char *details, struct err *err);
int archive_put_samples(struct archive *archive, const struct id128 *id, uint32_t attempt,
                        const char *name, const float *samples, size_t n, struct err *err);
/* One failure more; quarantined when `final`, with the reason kept in the journal of details. */
int archive_put_failure(struct archive *archive, const struct id128 *id, const char *reason,
                        bool final, struct err *err);

/* --- readers (each call is a short transaction of its own unless a write one is open) --- */
int archive_get_candidate(struct archive *archive, const struct id128 *id,
                          struct candidate *candidate, struct err *err);
/* The genome's text, yours to free. */
char *archive_get_genome(struct archive *archive, const struct id128 *id, struct err *err);
/* The newest evaluation of the highest rung; details (may be NULL) yours to free.  ERR_MISSING. */
int archive_get_evaluation(struct archive *archive, const struct id128 *id,
                           struct evaluation *evaluation, char **details, struct err *err);
/* Raw samples, yours to free; returns their number or -1. */
int64_t archive_get_samples(struct archive *archive, const struct id128 *id, uint32_t attempt,
                            const char *name, float **samples, struct err *err);

typedef int archive_candidate_fn(void *arg, const struct candidate *candidate);
typedef int archive_evaluation_fn(void *arg, const struct evaluation *evaluation);
/* In order of proposal / of commit.  A callback that returns non-zero stops the walk. */
int archive_each_candidate(struct archive *archive, archive_candidate_fn *visit, void *arg,
                           struct err *err);
int archive_each_evaluation(struct archive *archive, archive_evaluation_fn *visit, void *arg,
                            struct err *err);

struct archive_counts {
    uint64_t n_candidates, n_done, n_pending, n_quarantined, n_evaluations, n_failures;
    uint64_t n_bytes; /* of the file */
};
int archive_counts(struct archive *archive, struct archive_counts *counts, struct err *err);

/* A unique prefix of an id in hexadecimal (at least 4 digits): ERR_MISSING, or ERR_USAGE naming
 * the candidates when it is ambiguous. */
int archive_find(struct archive *archive, const char *prefix, struct id128 *id, struct err *err);

/* Prove every invariant; each violation goes to `report` as one line.  Number of violations, or
 * -1 when the archive cannot be read. */
int archive_fsck(struct archive *archive, void (*report)(void *arg, const char *line), void *arg,
                 struct err *err);

/* A compact copy (hot: a writer may be at work) into DIR, replaced atomically. */
int archive_copy(struct archive *archive, const char *dir, struct err *err);

#endif
