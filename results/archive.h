/* archive.h - everything a study found out, in LMDB.  The only file that knows LMDB (with
 * archive_*.c beside it).
 *
 * Caveats first.  One writer per study (the master), any number of readers in other processes at
 * the same time.  Never on a network file system: refused at open.  One environment is opened once
 * per process, and a handle is used by one thread at a time.  Commits are synchronous; the map
 * grows by itself.  Nothing is put while a walk is under way: a visitor that wants to write takes
 * notes and writes afterwards.
 *
 * Databases, keys big-endian so that a cursor walks them in order:
 *   meta        text -> text         schema, study hash, counters (kept here); parent, device,
 *                                    device_id, kernels, private_cache, calibration, forecast
 *                                    (put by the master)
 *   candidate   id (16)              -> record_put_candidate
 *   sequence    u64                  -> id: order of proposal
 *   evaluation  id (16) | attempt u32-> record_put_evaluation | JSON of the rest
 *   commit      u64                  -> id | attempt: order of commit (replay walks this)
 *   samples     id | attempt | text  -> f32 raw samples of a probe ("decode", "prefill", "...ref")
 *   genome      id (16)              -> canonical text
 *   failure     id (16) | number u32 -> reason, one entry per failure
 * Invariants (archive_fsck proves each): every sequence entry has its candidate and back; numbers
 * run without holes; every evaluation has a candidate, a commit entry and finite numbers; a DONE
 * candidate has an evaluation, a PENDING one has none, a QUARANTINED one has a failure; genome text
 * hashes to its id (with the parent's hash, so meta must name it); counters in meta agree. */
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

/* Keys of `meta` that the master puts: hash of the parent's tensors (fsck needs it to prove ids),
 * the device class in words and as an id, the kernel set, bytes of cache that a core owns; what
 * foretells the latencies of candidates, in words;
 * "diagonal" where all was compressed with the diagonals of an importance matrix, else "full". */
#define ARCHIVE_META_PARENT        "parent"
#define ARCHIVE_META_DEVICE        "device"
#define ARCHIVE_META_DEVICE_ID     "device_id"
#define ARCHIVE_META_KERNELS       "kernels"
#define ARCHIVE_META_PRIVATE_CACHE "private_cache"
#define ARCHIVE_META_FORECAST      "forecast"
#define ARCHIVE_META_CALIBRATION   "calibration"

/* Texts of `meta`.  get: 1 found (cut to size), 0 absent, -1 error. */
int archive_get_meta(struct archive *archive, const char *key, char *text, size_t size,
                     struct err *err);
int archive_put_meta(struct archive *archive, const char *key, const char *text, struct err *err);

/* --- writer: everything between begin and commit is one transaction; a put outside is one of its
 * own.  What is refused (ERR_DATA, ERR_MISSING) leaves the open transaction as it was; after a
 * fault of the disk (ERR_IO) it is lost and commit fails too.  Commit and abort both end it. --- */
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
/* One failure more, with its reason; quarantined when `final`. */
int archive_put_failure(struct archive *archive, const struct id128 *id, const char *reason,
                        bool final, struct err *err);

/* --- readers: each call is a short transaction of its own; while a write one is open they see what
 * it has put, and calls made from within a walk see the state of that walk --- */
int archive_get_candidate(struct archive *archive, const struct id128 *id,
                          struct candidate *candidate, struct err *err);
/* The genome's text, yours to free. */
char *archive_get_genome(struct archive *archive, const struct id128 *id, struct err *err);
/* The newest evaluation of the highest rung; details (may be NULL) yours to free.  ERR_MISSING. */
int archive_get_evaluation(struct archive *archive, const struct id128 *id,
                           struct evaluation *evaluation, char **details, struct err *err);
/* The same among the evaluations of one device class (NULL: any). */
int archive_get_evaluation_on(struct archive *archive, const struct id128 *id,
                              const struct id128 *device, struct evaluation *evaluation,
                              char **details, struct err *err);
/* Why the candidate failed last, yours to free.  ERR_MISSING when it never did. */
char *archive_get_reason(struct archive *archive, const struct id128 *id, struct err *err);
/* Raw samples, yours to free; returns their number or -1. */
int64_t archive_get_samples(struct archive *archive, const struct id128 *id, uint32_t attempt,
                            const char *name, float **samples, struct err *err);

typedef int archive_candidate_fn(void *arg, const struct candidate *candidate);
typedef int archive_evaluation_fn(void *arg, const struct evaluation *evaluation);
/* In order of proposal / of commit.  A callback that returns non-zero stops the walk, which then
 * returns that value. */
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

/* Prove every invariant (of what is committed, and of the open transaction if there is one); each
 * violation goes to `report` as one line.  Number of violations, or -1 when the archive cannot be
 * read. */
int archive_fsck(struct archive *archive, void (*report)(void *arg, const char *line), void *arg,
                 struct err *err);

/* A compact copy of what is committed (hot: a writer may be at work) as DIR/data.mdb, replaced
 * atomically; DIR may be on a network file system.  ERR_USAGE when DIR is the archive's own. */
int archive_copy(struct archive *archive, const char *dir, struct err *err);

#endif
