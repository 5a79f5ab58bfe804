/* archive_parts.h - what the files of the archive share: archive.c (open, lock, schema),
 * archive_txn.c (transactions, growth), archive_write.c, archive_read.c, archive_fsck.c,
 * archive_copy.c, archive_guard.c.
 *
 * Growth.  LMDB lets a map grow only while the process has no transaction, so a write that finds
 * the map full must give up its transaction.  Every put of the open transaction is therefore also
 * kept in a list; after a growth they are put again and the caller never notices. */
#ifndef KERF_ARCHIVE_PARTS_H
#define KERF_ARCHIVE_PARTS_H

#include "results/archive.h"
#include <lmdb.h>

#define ARCHIVE_SCHEMA 1

enum archive_db {
    DB_META,
    DB_CANDIDATE,
    DB_SEQUENCE,
    DB_EVALUATION,
    DB_COMMIT,
    DB_SAMPLES,
    DB_GENOME,
    DB_FAILURE,
    N_ARCHIVE_DBS
};

/* One put of the open transaction: key and value lie one after the other in `bytes`. */
struct archive_put {
    enum archive_db db;
    size_t n_key, n_value;
    uint8_t *bytes;
};

struct archive {
    char dir[4096];
    MDB_env *env;
    MDB_dbi db[N_ARCHIVE_DBS];
    enum archive_mode mode;
    int lock_fd; /* the writer's lock, -1 for readers */

    MDB_txn *write; /* NULL outside begin .. commit, and after a put has failed */
    bool open;      /* between begin and commit or abort */
    struct archive_put *put;
    size_t n_puts, room;

    MDB_txn *read;      /* shared by calls within calls, so that they see one state */
    unsigned n_readers; /* how many such calls are under way */

    struct archive_counts counts, committed; /* of the writer; n_bytes unused */
    int64_t reaped_ns;                       /* last mdb_reader_check */
};

/* As archive_open, with the size of the first map; tests make it small so that it grows. */
struct archive *archive_open_sized(const char *dir, enum archive_mode mode,
                                   const struct hash256 *study, size_t map_bytes, struct err *err);

/* LMDB's code `rc` as an error of ours, "DIR: doing: reason".  Always -1. */
int archive_fail(const struct archive *archive, int rc, const char *doing, struct err *err);

/* mdb_reader_check, at most once a minute. */
void archive_reap(struct archive *archive);
/* LMDB's code.  Follows a map that another process made larger. */
int archive_begin_read(struct archive *archive, MDB_txn **txn);

/* The transaction to read with, ended by archive_view_end.  Calls may nest. */
int archive_view(struct archive *archive, MDB_txn **txn, struct err *err);
void archive_view_end(struct archive *archive);

/* Put into the open transaction; the map grows as needed.  What was fetched before is invalid
 * afterwards.  On failure the whole transaction is lost and commit will say so. */
int archive_store(struct archive *archive, enum archive_db db, const void *key, size_t n_key,
                  const void *value, size_t n_value, struct err *err);
/* 1 found (borrowed until the view ends or the next store), 0 absent, -1 error. */
int archive_fetch(struct archive *archive, enum archive_db db, const void *key, size_t n_key,
                  MDB_val *value, struct err *err);

/* Counters of meta.  -1 with ERR_DATA when one is no number. */
int archive_read_counts(struct archive *archive, struct archive_counts *counts, struct err *err);

/* The counters by name, for commit and fsck. */
struct archive_counter {
    const char *name;
    size_t member; /* offset in struct archive_counts */
};
extern const struct archive_counter archive_counters[];
#define N_ARCHIVE_COUNTERS 6

/* Meta keys that the archive keeps itself. */
bool archive_key_is_own(const char *key);

/* Big-endian keys. */
#define ARCHIVE_ATTEMPT_KEY 20
void archive_key_u64(uint64_t number, uint8_t key[8]);
void archive_key_attempt(const struct id128 *id, uint32_t attempt,
                         uint8_t key[ARCHIVE_ATTEMPT_KEY]);
uint64_t archive_get_be(const void *bytes, size_t n);

/* Read every page of the archive in `dir` in a process of its own: a truncated file or a wrong page
 * number kills the one that follows it.  0, or -1 with ERR_DATA when that process died. */
int archive_guard(const char *dir, struct err *err);

#endif
