/* archive.c - opening, locking and the schema.  The rest lies beside it: archive_parts.h says what
 * is where. */
#include "results/archive_parts.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/log.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Enough for thousands of candidates; the file itself takes only what is used. */
#define FIRST_MAP_BYTES ((size_t)64 << 20)

static const char *const db_names[N_ARCHIVE_DBS] = {"meta",   "candidate", "sequence", "evaluation",
                                                    "commit", "samples",   "genome",   "failure"};

#define COUNTER(member)                                                                            \
    {                                                                                              \
#member, offsetof(struct archive_counts, member)                                           \
    }
const struct archive_counter archive_counters[N_ARCHIVE_COUNTERS] = {
    COUNTER(n_candidates),  COUNTER(n_done),        COUNTER(n_pending),
    COUNTER(n_quarantined), COUNTER(n_evaluations), COUNTER(n_failures)};

bool archive_key_is_own(const char *key)
{
    bool own = strcmp(key, "schema") == 0 || strcmp(key, "study") == 0;
    for (size_t i = 0; i < N_ARCHIVE_COUNTERS; i++)
        own |= strcmp(key, archive_counters[i].name) == 0;
    return own;
}

/* --- errors --- */

int archive_fail(const struct archive *archive, int rc, const char *doing, struct err *err)
{
    const char *dir = archive->dir;
    /* LMDB turns a short write, the first sign of a full disk, into EIO. */
    if (rc == ENOSPC || rc == EDQUOT || rc == EFBIG || rc == EIO)
        err_set(err, ERR_IO,
                "%s: disk full%s (%s); what was committed before is safe, free some space and run "
                "the same command again",
                dir, rc == EIO ? " or failing" : "", doing);
    else if (rc == MDB_CORRUPTED || rc == MDB_PAGE_NOTFOUND || rc == MDB_INVALID)
        err_set(err, ERR_DATA, "%s: the archive is damaged (%s: %s); put a copy of it back", dir,
                doing, mdb_strerror(rc));
    else if (rc == MDB_VERSION_MISMATCH)
        err_set(err, ERR_DATA, "%s: archive from a newer version; use that version of kerf", dir);
    else if (rc == MDB_READERS_FULL)
        err_set(err, ERR_RESOURCE, "%s: too many readers at once; try again", dir);
    else if (rc > 0)
        err_set_errno(err, rc, "%s: %s", dir, doing);
    else
        err_set(err, ERR_IO, "%s: %s: %s", dir, doing, mdb_strerror(rc));
    return -1;
}

/* --- keys --- */

static void put_be(uint8_t *bytes, uint64_t value, size_t n)
{
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(value >> (8 * (n - 1 - i)));
}

uint64_t archive_get_be(const void *bytes, size_t n)
{
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++)
        value = value << 8 | ((const uint8_t *)bytes)[i];
    return value;
}

void archive_key_u64(uint64_t number, uint8_t key[8])
{
    put_be(key, number, 8);
}

void archive_key_attempt(const struct id128 *id, uint32_t attempt, uint8_t key[ARCHIVE_ATTEMPT_KEY])
{
    memcpy(key, id->bytes, 16);
    put_be(key + 16, attempt, 4);
}

/* --- the writer's lock --- */

static int lock_refused(const struct archive *archive, int fd, struct err *err)
{
    char holder[160] = "";
    ssize_t n = pread(fd, holder, sizeof holder - 1, 0);
    holder[n > 0 ? n : 0] = '\0';
    holder[strcspn(holder, "\n")] = '\0';
    err_set(err, ERR_RESOURCE,
            "%s: the study is locked by another master (%s); wait for it or stop it", archive->dir,
            holder[0] != '\0' ? holder : "which has just begun");
    close(fd);
    return -1;
}

/* The kernel lets go of it when the process ends, however it ends. */
static int lock_writer(struct archive *archive, struct err *err)
{
    char path[4096 + 16], host[64] = "?", line[128];
    snprintf(path, sizeof path, "%s/writer.lock", archive->dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) {
        err_set_errno(err, errno, "%s", path);
        return -1;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            return lock_refused(archive, fd, err);
        err_set_errno(err, errno, "%s: cannot be locked", path);
        close(fd);
        return -1;
    }
    gethostname(host, sizeof host - 1);
    int n = snprintf(line, sizeof line, "pid %ld on %s\n", (long)getpid(), host);
    /* Only a note for whoever is refused: the lock holds without it. */
    if (ftruncate(fd, 0) != 0 || pwrite(fd, line, (size_t)n, 0) != n)
        log_warn("archive", "cannot note the holder in %s", path);
    archive->lock_fd = fd;
    return 0;
}

/* --- environment --- */

/* Readers of a folder that they may not write cannot enter LMDB's table of readers, which is safe
 * only while nobody writes. */
static int open_without_lock(struct archive *archive, struct err *err)
{
    char path[4096 + 16];
    snprintf(path, sizeof path, "%s/writer.lock", archive->dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool busy = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (fd >= 0)
        close(fd);
    if (!busy)
        return mdb_env_open(archive->env, archive->dir, MDB_RDONLY | MDB_NOTLS | MDB_NOLOCK, 0644);
    err_set(err, ERR_RESOURCE,
            "%s: a search is writing and this folder is read-only for you; wait for its end",
            archive->dir);
    return -1;
}

static int create_env(struct archive *archive, size_t map_bytes, struct err *err)
{
    int rc = mdb_env_create(&archive->env);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(archive->env, N_ARCHIVE_DBS);
    if (rc == 0 && archive->mode == ARCHIVE_WRITE)
        rc = mdb_env_set_mapsize(archive->env, map_bytes);
    return rc != 0 ? archive_fail(archive, rc, "opening", err) : 0;
}

/* A file that is not there, or that a writer is only about to fill. */
static int check_file(const struct archive *archive, struct err *err)
{
    char path[4096 + 16];
    struct stat file;
    snprintf(path, sizeof path, "%s/data.mdb", archive->dir);
    if (stat(path, &file) != 0) {
        err_set_errno(err, errno, "%s", path);
        return -1;
    }
    if (file.st_size > 0)
        return 0;
    err_set(err, ERR_MISSING, "%s: nothing in the archive yet; run kerf search", archive->dir);
    return -1;
}

static int open_env(struct archive *archive, size_t map_bytes, struct err *err)
{
    if (archive->mode == ARCHIVE_READ && check_file(archive, err) != 0)
        return -1;
    unsigned flags = MDB_NOTLS | (archive->mode == ARCHIVE_READ ? MDB_RDONLY : 0);
    if (create_env(archive, map_bytes, err) != 0)
        return -1;
    int rc = mdb_env_open(archive->env, archive->dir, flags, 0644);
    if (archive->mode == ARCHIVE_READ && (rc == EACCES || rc == EROFS)) {
        struct err refused = {0};
        /* A failed open leaves nothing but the need to close. */
        mdb_env_close(archive->env);
        archive->env = NULL;
        if (create_env(archive, map_bytes, err) != 0)
            return -1;
        rc = open_without_lock(archive, &refused);
        if (refused.code != ERR_NONE) {
            err_set(err, refused.code, "%s", refused.text);
            return -1;
        }
    }
    if (rc != 0)
        return archive_fail(archive, rc, "opening", err);
    int fd;
    if (mdb_env_get_fd(archive->env, &fd) == 0)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    archive_reap(archive);
    return 0;
}

/* LMDB follows page numbers into a mapping, and a file that ends too early would end the process.
 * A sound file is hardly ever shorter than its last page number says; when it is, look closer. */
static int check_length(struct archive *archive, struct err *err)
{
    MDB_envinfo info;
    MDB_stat stat;
    struct stat file;
    int fd;
    if (mdb_env_info(archive->env, &info) != 0 || mdb_env_stat(archive->env, &stat) != 0 ||
        mdb_env_get_fd(archive->env, &fd) != 0 || fstat(fd, &file) != 0)
        return 0;
    if ((uint64_t)file.st_size >= ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize)
        return 0;
    return archive_guard(archive->dir, err);
}

/* --- schema --- */

static int meta_text(struct archive *archive, MDB_txn *txn, const char *key, char *text,
                     size_t size)
{
    MDB_val name = {strlen(key), (void *)key}, value;
    int rc = mdb_get(txn, archive->db[DB_META], &name, &value);
    if (rc != 0)
        return rc;
    size_t n = value.mv_size < size ? value.mv_size : size - 1;
    memcpy(text, value.mv_data, n);
    text[n] = '\0';
    return 0;
}

static int put_text(struct archive *archive, MDB_txn *txn, const char *key, const char *text)
{
    MDB_val name = {strlen(key), (void *)key}, value = {strlen(text), (void *)text};
    return mdb_put(txn, archive->db[DB_META], &name, &value, 0);
}

/* A new archive gets its first texts; an old one must be of this schema and this study. */
static int check_schema(struct archive *archive, MDB_txn *txn, const struct hash256 *study,
                        struct err *err)
{
    char schema[16] = "", owner[HASH256_HEX + 1] = "", wanted[HASH256_HEX];
    int rc = meta_text(archive, txn, "schema", schema, sizeof schema);
    if (rc == MDB_NOTFOUND && archive->mode == ARCHIVE_WRITE) {
        snprintf(schema, sizeof schema, "%d", ARCHIVE_SCHEMA);
        hash256_hex(*study, wanted);
        rc = put_text(archive, txn, "schema", schema);
        if (rc == 0)
            rc = put_text(archive, txn, "study", wanted);
        for (size_t i = 0; i < N_ARCHIVE_COUNTERS && rc == 0; i++)
            rc = put_text(archive, txn, archive_counters[i].name, "0");
        return rc != 0 ? archive_fail(archive, rc, "creating", err) : 0;
    }
    if (rc == 0)
        rc = meta_text(archive, txn, "study", owner, sizeof owner);
    if (rc != 0)
        return archive_fail(archive, rc == MDB_NOTFOUND ? MDB_CORRUPTED : rc, "reading meta", err);
    char *end;
    long number = strtol(schema, &end, 10);
    if (*end != '\0' || number < 1)
        return archive_fail(archive, MDB_CORRUPTED, "reading the schema", err);
    if (number > ARCHIVE_SCHEMA)
        return archive_fail(archive, MDB_VERSION_MISMATCH, "reading the schema", err);
    if (study == NULL)
        return 0;
    hash256_hex(*study, wanted);
    if (strcmp(wanted, owner) == 0)
        return 0;
    err_set(err, ERR_DATA,
            "%s: the archive belongs to another study (%.8s, this one is %.8s); use another folder",
            archive->dir, owner, wanted);
    return -1;
}

static int open_dbs(struct archive *archive, const struct hash256 *study, struct err *err)
{
    bool writes = archive->mode == ARCHIVE_WRITE;
    MDB_txn *txn;
    int rc =
        writes ? mdb_txn_begin(archive->env, NULL, 0, &txn) : archive_begin_read(archive, &txn);
    if (rc != 0)
        return archive_fail(archive, rc, "opening", err);
    for (int i = 0; i < N_ARCHIVE_DBS && rc == 0; i++)
        rc = mdb_dbi_open(txn, db_names[i], writes ? MDB_CREATE : 0, &archive->db[i]);
    if (rc == MDB_NOTFOUND) {
        err_set(err, ERR_MISSING, "%s: nothing in the archive yet; run kerf search", archive->dir);
        mdb_txn_abort(txn);
        return -1;
    }
    if (rc != 0 || check_schema(archive, txn, study, err) != 0) {
        mdb_txn_abort(txn);
        return rc != 0 ? archive_fail(archive, rc, "opening", err) : -1;
    }
    rc = mdb_txn_commit(txn);
    return rc != 0 ? archive_fail(archive, rc, "opening", err) : 0;
}

/* --- open and close --- */

static int refuse_network(const char *dir, struct err *err)
{
    char kind[32];
    int network = file_is_on_network(dir, kind, err);
    if (network == 1)
        err_set(err, ERR_CONFIG,
                "%s: is on %s, where the archive's locks do not work; --scratch DIR puts it on a "
                "disk of this machine",
                dir, kind);
    return network == 0 ? 0 : -1;
}

static int open_parts(struct archive *archive, const struct hash256 *study, size_t map_bytes,
                      struct err *err)
{
    if (archive->mode == ARCHIVE_WRITE &&
        (file_make_dirs(archive->dir, err) != 0 || lock_writer(archive, err) != 0))
        return -1;
    if (open_env(archive, map_bytes, err) != 0 || check_length(archive, err) != 0 ||
        open_dbs(archive, study, err) != 0)
        return -1;
    if (archive->mode == ARCHIVE_WRITE && archive_read_counts(archive, &archive->counts, err) != 0)
        return -1;
    archive->committed = archive->counts;
    return 0;
}

struct archive *archive_open_sized(const char *dir, enum archive_mode mode,
                                   const struct hash256 *study, size_t map_bytes, struct err *err)
{
    assert(mode == ARCHIVE_READ || study != NULL);
    struct archive *archive = calloc(1, sizeof *archive);
    if (archive == NULL) {
        err_set(err, ERR_MEMORY, "%s: out of memory", dir);
        return NULL;
    }
    archive->mode = mode;
    archive->lock_fd = -1;
    if (strlen(dir) >= sizeof archive->dir) {
        err_set(err, ERR_MISSING, "%.64s...: the path is too long", dir);
    } else {
        strcpy(archive->dir, dir);
        if (refuse_network(dir, err) == 0 && open_parts(archive, study, map_bytes, err) == 0)
            return archive;
    }
    archive_close(archive);
    return NULL;
}

struct archive *archive_open(const char *dir, enum archive_mode mode, const struct hash256 *study,
                             struct err *err)
{
    return archive_open_sized(dir, mode, study, FIRST_MAP_BYTES, err);
}

void archive_close(struct archive *archive)
{
    if (archive == NULL)
        return;
    archive_abort(archive);
    if (archive->read != NULL)
        mdb_txn_abort(archive->read);
    if (archive->env != NULL)
        mdb_env_close(archive->env);
    if (archive->lock_fd >= 0)
        close(archive->lock_fd);
    free(archive->put);
    free(archive);
}
