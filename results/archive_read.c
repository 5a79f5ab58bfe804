/* archive_read.c - what readers ask.  Every value is untrusted: a record goes through its decoder,
 * a key is measured before it is read. */
#include "results/archive_parts.h"
#include "space/base/err.h"
#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* How many candidates an ambiguous prefix names. */
#define FIND_NAMED 4

int archive_fetch(struct archive *archive, enum archive_db db, const void *key, size_t n_key,
                  MDB_val *value, struct err *err)
{
    MDB_txn *txn = archive->write != NULL ? archive->write : archive->read;
    MDB_val name = {n_key, (void *)key};
    int rc = mdb_get(txn, archive->db[db], &name, value);
    if (rc == MDB_NOTFOUND)
        return 0;
    return rc == 0 ? 1 : archive_fail(archive, rc, "reading", err);
}

/* As archive_fetch, but what is absent is ERR_MISSING (or ERR_DATA where it must be there). */
static int require(struct archive *archive, enum archive_db db, const void *key, size_t n_key,
                   MDB_val *value, enum err_code code, const char *what, struct err *err)
{
    int there = archive_fetch(archive, db, key, n_key, value, err);
    if (there == 0) {
        char hex[2 * ARCHIVE_ATTEMPT_KEY + 1] = "";
        for (size_t i = 0; i < n_key && i < ARCHIVE_ATTEMPT_KEY; i++)
            snprintf(hex + 2 * i, 3, "%02x", ((const uint8_t *)key)[i]);
        err_set(err, code, "%s: no %s %s%s", archive->dir, what, hex,
                code == ERR_DATA ? "; kerf archive fsck tells more" : "");
    }
    return there > 0 ? 0 : -1;
}

static char *copy_text(const void *data, size_t n, struct err *err)
{
    char *text = malloc(n + 1);
    if (text == NULL) {
        err_set(err, ERR_MEMORY, "archive: out of memory");
        return NULL;
    }
    memcpy(text, data, n);
    text[n] = '\0';
    return text;
}

/* --- meta --- */

int archive_get_meta(struct archive *archive, const char *key, char *text, size_t size,
                     struct err *err)
{
    MDB_txn *txn;
    MDB_val value;
    if (archive_view(archive, &txn, err) != 0)
        return -1;
    int there = archive_fetch(archive, DB_META, key, strlen(key), &value, err);
    if (there > 0 && size > 0) {
        size_t n = value.mv_size < size ? value.mv_size : size - 1;
        memcpy(text, value.mv_data, n);
        text[n] = '\0';
    }
    archive_view_end(archive);
    return there;
}

int archive_read_counts(struct archive *archive, struct archive_counts *counts, struct err *err)
{
    for (size_t i = 0; i < N_ARCHIVE_COUNTERS; i++) {
        char text[32] = "", *end;
        if (archive_get_meta(archive, archive_counters[i].name, text, sizeof text, err) < 0)
            return -1;
        uint64_t value = strtoull(text, &end, 10);
        if (!isdigit((unsigned char)text[0]) || *end != '\0') {
            err_set(err, ERR_DATA, "%s: meta has no number %s; kerf archive fsck tells more",
                    archive->dir, archive_counters[i].name);
            return -1;
        }
        memcpy((char *)counts + archive_counters[i].member, &value, sizeof value);
    }
    return 0;
}

int archive_counts(struct archive *archive, struct archive_counts *counts, struct err *err)
{
    struct stat file;
    int fd;
    MDB_txn *txn;
    if (archive->open && archive->write != NULL) {
        *counts = archive->counts; /* the open transaction's own */
    } else {
        if (archive_view(archive, &txn, err) != 0)
            return -1;
        int status = archive_read_counts(archive, counts, err);
        archive_view_end(archive);
        if (status != 0)
            return -1;
    }
    counts->n_bytes = 0;
    if (mdb_env_get_fd(archive->env, &fd) == 0 && fstat(fd, &file) == 0)
        counts->n_bytes = (uint64_t)file.st_size;
    return 0;
}

/* --- one candidate --- */

int archive_get_candidate(struct archive *archive, const struct id128 *id,
                          struct candidate *candidate, struct err *err)
{
    MDB_txn *txn;
    MDB_val value;
    if (archive_view(archive, &txn, err) != 0)
        return -1;
    int status =
        require(archive, DB_CANDIDATE, id->bytes, 16, &value, ERR_MISSING, "candidate", err);
    if (status == 0)
        status = record_get_candidate(value.mv_data, value.mv_size, candidate, err);
    archive_view_end(archive);
    return status;
}

char *archive_get_genome(struct archive *archive, const struct id128 *id, struct err *err)
{
    MDB_txn *txn;
    MDB_val value;
    char *text = NULL;
    if (archive_view(archive, &txn, err) != 0)
        return NULL;
    if (require(archive, DB_GENOME, id->bytes, 16, &value, ERR_MISSING, "genome of", err) == 0)
        text = copy_text(value.mv_data, value.mv_size, err);
    archive_view_end(archive);
    return text;
}

char *archive_get_reason(struct archive *archive, const struct id128 *id, struct err *err)
{
    struct candidate candidate;
    uint8_t key[ARCHIVE_ATTEMPT_KEY];
    MDB_txn *txn;
    MDB_val value;
    char *text = NULL;
    if (archive_view(archive, &txn, err) != 0)
        return NULL;
    if (archive_get_candidate(archive, id, &candidate, err) == 0) {
        archive_key_attempt(id, candidate.n_failures - 1, key);
        if (candidate.n_failures == 0)
            err_set(err, ERR_MISSING, "%s: the candidate has not failed", archive->dir);
        else if (require(archive, DB_FAILURE, key, sizeof key, &value, ERR_DATA, "failure", err) ==
                 0)
            text = copy_text(value.mv_data, value.mv_size, err);
    }
    archive_view_end(archive);
    return text;
}

/* --- evaluations --- */

/* The best so far while walking the attempts of one candidate. */
struct choice {
    const struct id128 *device; /* NULL: any */
    struct evaluation evaluation;
    MDB_val value;
    bool found;
};

static int consider(struct choice *choice, const MDB_val *value, struct err *err)
{
    struct evaluation evaluation;
    size_t n = value->mv_size < RECORD_EVALUATION_BYTES ? value->mv_size : RECORD_EVALUATION_BYTES;
    if (record_get_evaluation(value->mv_data, n, &evaluation, err) != 0)
        return -1;
    if (choice->device != NULL && !id128_equal(*choice->device, evaluation.device))
        return 0;
    /* Attempts come in order, so the later one of equals is the newest. */
    if (!choice->found || evaluation.rung >= choice->evaluation.rung) {
        choice->evaluation = evaluation;
        choice->value = *value;
        choice->found = true;
    }
    return 0;
}

static int choose(struct archive *archive, MDB_txn *txn, const struct id128 *id,
                  struct choice *choice, struct err *err)
{
    MDB_cursor *cursor;
    uint8_t first[ARCHIVE_ATTEMPT_KEY];
    int status = 0, rc = mdb_cursor_open(txn, archive->db[DB_EVALUATION], &cursor);
    if (rc != 0)
        return archive_fail(archive, rc, "reading", err);
    archive_key_attempt(id, 0, first);
    MDB_val key = {sizeof first, first}, value;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (rc == 0 && status == 0 && key.mv_size == sizeof first &&
           memcmp(key.mv_data, id->bytes, 16) == 0) {
        status = consider(choice, &value, err);
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return rc != 0 && rc != MDB_NOTFOUND ? archive_fail(archive, rc, "reading", err) : status;
}

int archive_get_evaluation_on(struct archive *archive, const struct id128 *id,
                              const struct id128 *device, struct evaluation *evaluation,
                              char **details, struct err *err)
{
    struct choice choice = {.device = device};
    char hex[ID128_HEX];
    MDB_txn *txn;
    if (archive_view(archive, &txn, err) != 0)
        return -1;
    int status = choose(archive, txn, id, &choice, err);
    if (status == 0 && !choice.found) {
        id128_hex(*id, hex);
        err_set(err, ERR_MISSING, "%s: candidate %s has not been evaluated", archive->dir, hex);
        status = -1;
    }
    if (status == 0 && details != NULL) {
        *details = copy_text((char *)choice.value.mv_data + RECORD_EVALUATION_BYTES,
                             choice.value.mv_size - RECORD_EVALUATION_BYTES, err);
        status = *details != NULL ? 0 : -1;
    }
    if (status == 0)
        *evaluation = choice.evaluation;
    archive_view_end(archive);
    return status;
}

int archive_get_evaluation(struct archive *archive, const struct id128 *id,
                           struct evaluation *evaluation, char **details, struct err *err)
{
    return archive_get_evaluation_on(archive, id, NULL, evaluation, details, err);
}

int64_t archive_get_samples(struct archive *archive, const struct id128 *id, uint32_t attempt,
                            const char *name, float **samples, struct err *err)
{
    uint8_t key[ARCHIVE_ATTEMPT_KEY + 256];
    MDB_txn *txn;
    MDB_val value;
    size_t n_name = strlen(name);
    if (n_name > 256 || archive_view(archive, &txn, err) != 0)
        return -1;
    archive_key_attempt(id, attempt, key);
    memcpy(key + ARCHIVE_ATTEMPT_KEY, name, n_name);
    int64_t n = require(archive, DB_SAMPLES, key, ARCHIVE_ATTEMPT_KEY + n_name, &value, ERR_MISSING,
                        "samples of", err);
    if (n == 0) {
        float *copy = malloc(value.mv_size + 1);
        if (copy == NULL || value.mv_size % 4 != 0) {
            err_set(err, copy == NULL ? ERR_MEMORY : ERR_DATA, "%s: samples %s cannot be read",
                    archive->dir, name);
            free(copy);
            n = -1;
        } else {
            n = (int64_t)(value.mv_size / 4);
            for (int64_t i = 0; i < n; i++) {
                const uint8_t *b = (const uint8_t *)value.mv_data + 4 * i;
                uint32_t word = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 |
                                (uint32_t)b[3] << 24;
                memcpy(&copy[i], &word, sizeof word);
            }
            *samples = copy;
        }
    }
    archive_view_end(archive);
    return n;
}

/* --- walks --- */

/* What a walk over `sequence` or `commit` does with the key that an entry points to. */
typedef int entry_fn(struct archive *archive, const MDB_val *target, void *arg, struct err *err);

static int walk(struct archive *archive, enum archive_db db, size_t n_target, entry_fn *visit,
                void *arg, struct err *err)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_val key, value;
    int status = 0;
    if (archive_view(archive, &txn, err) != 0)
        return -1;
    int rc = mdb_cursor_open(txn, archive->db[db], &cursor);
    if (rc == 0) {
        rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
        while (rc == 0 && status == 0) {
            if (value.mv_size == n_target) {
                status = visit(archive, &value, arg, err);
            } else {
                err_set(err, ERR_DATA,
                        "%s: an index entry of %zu bytes; kerf archive fsck tells "
                        "more",
                        archive->dir, value.mv_size);
                status = -1;
            }
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        }
        mdb_cursor_close(cursor);
    }
    archive_view_end(archive);
    return rc != 0 && rc != MDB_NOTFOUND ? archive_fail(archive, rc, "reading", err) : status;
}

struct candidate_walk {
    archive_candidate_fn *visit;
    void *arg;
};

static int visit_candidate(struct archive *archive, const MDB_val *target, void *arg,
                           struct err *err)
{
    struct candidate_walk *self = arg;
    struct candidate candidate;
    MDB_val value;
    if (require(archive, DB_CANDIDATE, target->mv_data, target->mv_size, &value, ERR_DATA,
                "candidate", err) != 0 ||
        record_get_candidate(value.mv_data, value.mv_size, &candidate, err) != 0)
        return -1;
    return self->visit(self->arg, &candidate);
}

int archive_each_candidate(struct archive *archive, archive_candidate_fn *visit, void *arg,
                           struct err *err)
{
    struct candidate_walk self = {visit, arg};
    return walk(archive, DB_SEQUENCE, 16, visit_candidate, &self, err);
}

struct evaluation_walk {
    archive_evaluation_fn *visit;
    void *arg;
};

static int visit_evaluation(struct archive *archive, const MDB_val *target, void *arg,
                            struct err *err)
{
    struct evaluation_walk *self = arg;
    struct choice one = {0};
    MDB_val value;
    if (require(archive, DB_EVALUATION, target->mv_data, target->mv_size, &value, ERR_DATA,
                "evaluation", err) != 0 ||
        consider(&one, &value, err) != 0)
        return -1;
    return self->visit(self->arg, &one.evaluation);
}

int archive_each_evaluation(struct archive *archive, archive_evaluation_fn *visit, void *arg,
                            struct err *err)
{
    struct evaluation_walk self = {visit, arg};
    return walk(archive, DB_COMMIT, ARCHIVE_ATTEMPT_KEY, visit_evaluation, &self, err);
}

/* --- finding by prefix --- */

struct prefix {
    uint8_t first[16]; /* filled up with zeros */
    size_t n_digits;
};

static int prefix_parse(const char *text, struct prefix *prefix)
{
    memset(prefix, 0, sizeof *prefix);
    prefix->n_digits = strlen(text);
    if (prefix->n_digits < 4 || prefix->n_digits > 32)
        return -1;
    for (size_t i = 0; i < prefix->n_digits; i++) {
        if (!isxdigit((unsigned char)text[i]))
            return -1;
        int c = tolower((unsigned char)text[i]), digit = c <= '9' ? c - '0' : c - 'a' + 10;
        prefix->first[i / 2] |= (uint8_t)(digit << (i % 2 == 0 ? 4 : 0));
    }
    return 0;
}

static bool prefix_matches(const struct prefix *prefix, const uint8_t *id)
{
    size_t n_whole = prefix->n_digits / 2;
    if (memcmp(prefix->first, id, n_whole) != 0)
        return false;
    return prefix->n_digits % 2 == 0 || (id[n_whole] >> 4) == (prefix->first[n_whole] >> 4);
}

/* How many match (counted to FIND_NAMED + 1), with the first of them in `found`. */
static int find_all(struct archive *archive, MDB_txn *txn, const struct prefix *prefix,
                    struct id128 *found, struct err *err)
{
    MDB_cursor *cursor;
    int n = 0, rc = mdb_cursor_open(txn, archive->db[DB_CANDIDATE], &cursor);
    if (rc != 0)
        return archive_fail(archive, rc, "reading", err);
    MDB_val key = {16, (void *)prefix->first}, value;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (rc == 0 && n <= FIND_NAMED && key.mv_size == 16 && prefix_matches(prefix, key.mv_data)) {
        memcpy(found[n++].bytes, key.mv_data, 16);
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return rc != 0 && rc != MDB_NOTFOUND ? archive_fail(archive, rc, "reading", err) : n;
}

static void tell_ambiguous(const char *text, const struct id128 *found, int n, struct err *err)
{
    char list[(ID128_HEX + 1) * FIND_NAMED + 8] = "", hex[ID128_HEX];
    size_t used = 0;
    for (int i = 0; i < n && i < FIND_NAMED; i++) {
        id128_hex(found[i], hex);
        used += (size_t)snprintf(list + used, sizeof list - used, " %s", hex);
    }
    err_set(err, ERR_USAGE, "%s: fits several candidates:%s%s; give more digits", text, list,
            n > FIND_NAMED ? " ..." : "");
}

int archive_find(struct archive *archive, const char *text, struct id128 *id, struct err *err)
{
    struct prefix prefix;
    struct id128 found[FIND_NAMED + 1];
    MDB_txn *txn;
    if (prefix_parse(text, &prefix) != 0) {
        err_set(err, ERR_USAGE,
                "%.40s: no id; 4 to 32 hexadecimal digits, or @best @knee @fastest "
                "@smallest @parent @30ms",
                text);
        return -1;
    }
    if (archive_view(archive, &txn, err) != 0)
        return -1;
    int n = find_all(archive, txn, &prefix, found, err);
    archive_view_end(archive);
    if (n == 0)
        err_set(err, ERR_MISSING, "%s: no such candidate; kerf archive ls lists them", text);
    else if (n > 1)
        tell_ambiguous(text, found, n, err);
    if (n != 1)
        return -1;
    *id = found[0];
    return 0;
}
