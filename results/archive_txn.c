/* archive_txn.c - views to read from, transactions to write in, and the growth of the map. */
#include "results/archive_parts.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REAP_NS 60000000000ll

/* --- reading --- */

void archive_reap(struct archive *archive)
{
    int n_dead = 0;
    int64_t now = clock_now_ns();
    if (archive->reaped_ns != 0 && now - archive->reaped_ns < REAP_NS)
        return;
    archive->reaped_ns = now;
    mdb_reader_check(archive->env, &n_dead);
}

int archive_begin_read(struct archive *archive, MDB_txn **txn)
{
    int rc = mdb_txn_begin(archive->env, NULL, MDB_RDONLY, txn);
    /* Another process made the map larger, perhaps more than once meanwhile; nothing of ours is
     * open, so ours may follow. */
    for (int tries = 0; rc == MDB_MAP_RESIZED && tries < 100; tries++) {
        rc = mdb_env_set_mapsize(archive->env, 0);
        if (rc == 0)
            rc = mdb_txn_begin(archive->env, NULL, MDB_RDONLY, txn);
    }
    return rc;
}

int archive_view(struct archive *archive, MDB_txn **txn, struct err *err)
{
    if (archive->open && archive->write == NULL) {
        err_set(err, ERR_IO, "%s: the open transaction has failed", archive->dir);
        return -1;
    }
    if (archive->write == NULL && archive->n_readers == 0) {
        int rc = archive_begin_read(archive, &archive->read);
        if (rc != 0) {
            archive->read = NULL;
            return archive_fail(archive, rc, "reading", err);
        }
    }
    archive->n_readers++;
    *txn = archive->write != NULL ? archive->write : archive->read;
    return 0;
}

void archive_view_end(struct archive *archive)
{
    assert(archive->n_readers > 0);
    if (--archive->n_readers == 0 && archive->read != NULL) {
        mdb_txn_abort(archive->read);
        archive->read = NULL;
    }
}

/* --- writing --- */

int archive_begin(struct archive *archive, struct err *err)
{
    assert(archive->mode == ARCHIVE_WRITE && !archive->open && archive->n_readers == 0);
    archive_reap(archive);
    int rc = mdb_txn_begin(archive->env, NULL, 0, &archive->write);
    if (rc != 0) {
        archive->write = NULL;
        return archive_fail(archive, rc, "beginning a transaction", err);
    }
    archive->open = true;
    return 0;
}

static void forget_puts(struct archive *archive)
{
    for (size_t i = 0; i < archive->n_puts; i++)
        free(archive->put[i].bytes);
    archive->n_puts = 0;
}

void archive_abort(struct archive *archive)
{
    if (archive->write != NULL)
        mdb_txn_abort(archive->write);
    archive->write = NULL;
    archive->open = false;
    archive->counts = archive->committed;
    forget_puts(archive);
}

/* The transaction is gone, but begin .. commit goes on: commit will report it. */
static int lose_transaction(struct archive *archive, int rc, const char *doing, struct err *err)
{
    if (archive->write != NULL)
        mdb_txn_abort(archive->write);
    archive->write = NULL;
    archive->counts = archive->committed;
    forget_puts(archive);
    return archive_fail(archive, rc, doing, err);
}

static int put_again(struct archive *archive, const struct archive_put *put)
{
    MDB_val key = {put->n_key, put->bytes}, value = {put->n_value, put->bytes + put->n_key};
    return mdb_put(archive->write, archive->db[put->db], &key, &value, 0);
}

/* Double the map, without a transaction, and do everything again. */
static int grow(struct archive *archive)
{
    int rc;
    do {
        MDB_envinfo info;
        if (archive->write != NULL)
            mdb_txn_abort(archive->write);
        archive->write = NULL;
        mdb_env_info(archive->env, &info);
        if (info.me_mapsize > SIZE_MAX / 4)
            return ENOMEM;
        rc = mdb_env_set_mapsize(archive->env, 2 * info.me_mapsize);
        if (rc == 0)
            rc = mdb_txn_begin(archive->env, NULL, 0, &archive->write);
        for (size_t i = 0; i < archive->n_puts && rc == 0; i++)
            rc = put_again(archive, &archive->put[i]);
    } while (rc == MDB_MAP_FULL);
    return rc;
}

static int keep_put(struct archive *archive, enum archive_db db, const void *key, size_t n_key,
                    const void *value, size_t n_value)
{
    if (archive->n_puts == archive->room) {
        size_t room = archive->room > 0 ? 2 * archive->room : 64;
        struct archive_put *more = realloc(archive->put, room * sizeof *more);
        if (more == NULL)
            return ENOMEM;
        archive->put = more;
        archive->room = room;
    }
    uint8_t *bytes = malloc(n_key + n_value);
    if (bytes == NULL)
        return ENOMEM;
    memcpy(bytes, key, n_key);
    if (n_value > 0)
        memcpy(bytes + n_key, value, n_value);
    archive->put[archive->n_puts++] = (struct archive_put){db, n_key, n_value, bytes};
    return 0;
}

int archive_store(struct archive *archive, enum archive_db db, const void *key, size_t n_key,
                  const void *value, size_t n_value, struct err *err)
{
    assert(archive->open && archive->n_readers == 0);
    if (archive->write == NULL) {
        err_set(err, ERR_IO, "%s: the open transaction has failed", archive->dir);
        return -1;
    }
    int rc = keep_put(archive, db, key, n_key, value, n_value);
    if (rc == 0)
        rc = put_again(archive, &archive->put[archive->n_puts - 1]);
    if (rc == MDB_MAP_FULL)
        rc = grow(archive);
    return rc != 0 ? lose_transaction(archive, rc, "writing", err) : 0;
}

static int store_counts(struct archive *archive, struct err *err)
{
    for (size_t i = 0; i < N_ARCHIVE_COUNTERS; i++) {
        const struct archive_counter *counter = &archive_counters[i];
        uint64_t now, before;
        char text[24];
        memcpy(&now, (char *)&archive->counts + counter->member, sizeof now);
        memcpy(&before, (char *)&archive->committed + counter->member, sizeof before);
        int n = snprintf(text, sizeof text, "%llu", (unsigned long long)now);
        if (now != before && archive_store(archive, DB_META, counter->name, strlen(counter->name),
                                           text, (size_t)n, err) != 0)
            return -1;
    }
    return 0;
}

int archive_commit(struct archive *archive, struct err *err)
{
    assert(archive->open);
    int status = store_counts(archive, err);
    if (status == 0 && archive->write == NULL) {
        err_set(err, ERR_IO, "%s: the transaction had failed; nothing of it is kept", archive->dir);
        status = -1;
    }
    if (status == 0) {
        int rc = mdb_txn_commit(archive->write);
        archive->write = NULL;
        /* Even the list of free pages may want room. */
        while (rc == MDB_MAP_FULL && (rc = grow(archive)) == 0) {
            rc = mdb_txn_commit(archive->write);
            archive->write = NULL;
        }
        if (rc == 0)
            archive->committed = archive->counts;
        else
            status = lose_transaction(archive, rc, "committing", err);
    }
    archive_abort(archive);
    return status;
}
