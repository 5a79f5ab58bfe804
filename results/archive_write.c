/* archive_write.c - the writer's operations.  Each checks first and puts afterwards, so that what
 * is refused leaves the open transaction as it was. */
#include "results/archive_parts.h"
#include "space/base/err.h"
#include <assert.h>
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The longest name of a sample series; LMDB's keys end at 511 bytes. */
#define SAMPLES_NAME_MAX 64

/* Outside begin .. commit an operation is a transaction of its own. */
static int enter(struct archive *archive, bool *own, struct err *err)
{
    *own = !archive->open;
    return *own ? archive_begin(archive, err) : 0;
}

static int leave(struct archive *archive, bool own, int status, struct err *err)
{
    if (own && status == 0)
        return archive_commit(archive, err);
    if (own)
        archive_abort(archive);
    return status;
}

static int store_candidate(struct archive *archive, const struct candidate *candidate,
                           struct err *err)
{
    uint8_t record[RECORD_CANDIDATE_BYTES];
    size_t n = record_put_candidate(candidate, record);
    return archive_store(archive, DB_CANDIDATE, candidate->id.bytes, 16, record, n, err);
}

/* The counter that a status is counted in. */
static uint64_t *tally(struct archive *archive, enum candidate_status status)
{
    uint64_t *const counters[] = {[STATUS_PENDING] = &archive->counts.n_pending,
                                  [STATUS_DONE] = &archive->counts.n_done,
                                  [STATUS_QUARANTINED] = &archive->counts.n_quarantined};
    return counters[status];
}

static void change_status(struct archive *archive, struct candidate *candidate,
                          enum candidate_status status)
{
    --*tally(archive, candidate->status);
    ++*tally(archive, status);
    candidate->status = status;
}

/* --- meta --- */

int archive_put_meta(struct archive *archive, const char *key, const char *text, struct err *err)
{
    bool own;
    if (archive_key_is_own(key) || key[0] == '\0' || strlen(key) > 255) {
        err_set(err, ERR_INTERNAL, "archive: '%.40s' is not for others to set", key);
        return -1;
    }
    if (enter(archive, &own, err) != 0)
        return -1;
    int status = archive_store(archive, DB_META, key, strlen(key), text, strlen(text), err);
    return leave(archive, own, status, err);
}

/* --- candidates --- */

static int put_candidate(struct archive *archive, struct candidate *candidate, const char *genome,
                         struct err *err)
{
    MDB_val value;
    char hex[ID128_HEX];
    uint8_t key[8];
    MDB_txn *txn;
    id128_hex(candidate->id, hex);
    if (archive_view(archive, &txn, err) != 0)
        return -1;
    int there = archive_fetch(archive, DB_CANDIDATE, candidate->id.bytes, 16, &value, err);
    archive_view_end(archive);
    if (there > 0)
        err_set(err, ERR_DATA, "candidate %s was proposed before", hex);
    if (there != 0)
        return -1;
    struct candidate entry = *candidate;
    entry.sequence = archive->counts.n_candidates;
    entry.status = STATUS_PENDING;
    entry.n_failures = 0;
    archive_key_u64(entry.sequence, key);
    if (store_candidate(archive, &entry, err) != 0 ||
        archive_store(archive, DB_GENOME, entry.id.bytes, 16, genome, strlen(genome), err) != 0 ||
        archive_store(archive, DB_SEQUENCE, key, sizeof key, entry.id.bytes, 16, err) != 0)
        return -1;
    archive->counts.n_candidates++;
    archive->counts.n_pending++;
    candidate->sequence = entry.sequence;
    candidate->status = entry.status;
    candidate->n_failures = 0;
    return 0;
}

int archive_put_candidate(struct archive *archive, struct candidate *candidate, const char *genome,
                          struct err *err)
{
    bool own;
    assert(candidate->n_levels <= SPACE_MAX_GENES);
    if (enter(archive, &own, err) != 0)
        return -1;
    return leave(archive, own, put_candidate(archive, candidate, genome, err), err);
}

/* --- evaluations --- */

/* Number of entries of `db` whose keys begin with the id; they are numbered 0, 1, ... */
static int count_of(struct archive *archive, enum archive_db db, const struct id128 *id,
                    uint32_t *count, struct err *err)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    uint8_t first[ARCHIVE_ATTEMPT_KEY];
    if (archive_view(archive, &txn, err) != 0)
        return -1;
    int rc = mdb_cursor_open(txn, archive->db[db], &cursor);
    *count = 0;
    if (rc == 0) {
        archive_key_attempt(id, 0, first);
        MDB_val key = {sizeof first, first}, value;
        for (rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
             rc == 0 && key.mv_size == sizeof first && memcmp(key.mv_data, id->bytes, 16) == 0;
             rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT))
            ++*count;
        mdb_cursor_close(cursor);
    }
    archive_view_end(archive);
    return rc != 0 && rc != MDB_NOTFOUND ? archive_fail(archive, rc, "counting", err) : 0;
}

/* Whatever the decoder would refuse later is refused now. */
static int check_evaluation(const struct evaluation *evaluation, const char *details,
                            uint8_t *record, struct err *err)
{
    struct evaluation again;
    size_t n = record_put_evaluation(evaluation, record);
    if (record_get_evaluation(record, n, &again, err) != 0)
        return -1;
    cJSON *root = cJSON_Parse(details);
    bool sound = details[0] == '\0' || cJSON_IsObject(root);
    cJSON_Delete(root);
    if (!sound)
        err_set(err, ERR_DATA, "the details of an evaluation are no JSON object");
    return sound ? 0 : -1;
}

static int put_evaluation(struct archive *archive, struct evaluation *evaluation,
                          const char *details, struct err *err)
{
    struct candidate candidate;
    uint32_t attempt;
    uint8_t key[ARCHIVE_ATTEMPT_KEY], number[8];
    if (archive_get_candidate(archive, &evaluation->candidate, &candidate, err) != 0 ||
        count_of(archive, DB_EVALUATION, &evaluation->candidate, &attempt, err) != 0)
        return -1;
    struct evaluation entry = *evaluation;
    entry.attempt = attempt;
    size_t n_details = strlen(details), n_value = RECORD_EVALUATION_BYTES + n_details;
    uint8_t *value = malloc(n_value);
    if (value == NULL) {
        err_set(err, ERR_MEMORY, "archive: out of memory");
        return -1;
    }
    int status = check_evaluation(&entry, details, value, err);
    memcpy(value + RECORD_EVALUATION_BYTES, details, n_details);
    archive_key_attempt(&entry.candidate, attempt, key);
    archive_key_u64(archive->counts.n_evaluations, number);
    if (status == 0)
        status = archive_store(archive, DB_EVALUATION, key, sizeof key, value, n_value, err);
    free(value);
    if (status == 0)
        status = archive_store(archive, DB_COMMIT, number, sizeof number, key, sizeof key, err);
    if (status == 0 && candidate.status != STATUS_DONE) {
        change_status(archive, &candidate, STATUS_DONE);
        status = store_candidate(archive, &candidate, err);
    }
    if (status != 0)
        return -1;
    archive->counts.n_evaluations++;
    evaluation->attempt = attempt;
    return 0;
}

int archive_put_evaluation(struct archive *archive, struct evaluation *evaluation,
                           const char *details, struct err *err)
{
    bool own;
    if (enter(archive, &own, err) != 0)
        return -1;
    return leave(archive, own, put_evaluation(archive, evaluation, details, err), err);
}

/* --- samples --- */

static size_t samples_key(const struct id128 *id, uint32_t attempt, const char *name, uint8_t *key)
{
    archive_key_attempt(id, attempt, key);
    memcpy(key + ARCHIVE_ATTEMPT_KEY, name, strlen(name));
    return ARCHIVE_ATTEMPT_KEY + strlen(name);
}

static int put_samples(struct archive *archive, const struct id128 *id, uint32_t attempt,
                       const char *name, const float *samples, size_t n, struct err *err)
{
    uint8_t key[ARCHIVE_ATTEMPT_KEY + SAMPLES_NAME_MAX];
    MDB_val value;
    MDB_txn *txn;
    archive_key_attempt(id, attempt, key);
    if (archive_view(archive, &txn, err) != 0)
        return -1;
    int there = archive_fetch(archive, DB_EVALUATION, key, ARCHIVE_ATTEMPT_KEY, &value, err);
    archive_view_end(archive);
    if (there == 0)
        err_set(err, ERR_MISSING, "archive: samples of an evaluation that is not there");
    if (there <= 0)
        return -1;
    uint8_t *bytes = malloc(n > 0 ? 4 * n : 1);
    if (bytes == NULL) {
        err_set(err, ERR_MEMORY, "archive: out of memory");
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t word;
        memcpy(&word, &samples[i], sizeof word);
        for (size_t b = 0; b < 4; b++)
            bytes[4 * i + b] = (uint8_t)(word >> (8 * b));
    }
    int status = archive_store(archive, DB_SAMPLES, key, samples_key(id, attempt, name, key), bytes,
                               4 * n, err);
    free(bytes);
    return status;
}

int archive_put_samples(struct archive *archive, const struct id128 *id, uint32_t attempt,
                        const char *name, const float *samples, size_t n, struct err *err)
{
    bool own;
    if (name[0] == '\0' || strlen(name) > SAMPLES_NAME_MAX || n > SIZE_MAX / 8) {
        err_set(err, ERR_INTERNAL, "archive: samples cannot be called '%.20s'", name);
        return -1;
    }
    for (size_t i = 0; i < n; i++)
        if (!isfinite(samples[i])) {
            err_set(err, ERR_DATA, "archive: sample %zu of %s is not finite", i, name);
            return -1;
        }
    if (enter(archive, &own, err) != 0)
        return -1;
    int status = put_samples(archive, id, attempt, name, samples, n, err);
    return leave(archive, own, status, err);
}

/* --- failures --- */

static int put_failure(struct archive *archive, const struct id128 *id, const char *reason,
                       bool final, struct err *err)
{
    struct candidate candidate;
    uint8_t key[ARCHIVE_ATTEMPT_KEY];
    if (archive_get_candidate(archive, id, &candidate, err) != 0)
        return -1;
    archive_key_attempt(id, candidate.n_failures, key);
    candidate.n_failures++;
    if (archive_store(archive, DB_FAILURE, key, sizeof key, reason, strlen(reason), err) != 0)
        return -1;
    if (final)
        change_status(archive, &candidate, STATUS_QUARANTINED);
    if (store_candidate(archive, &candidate, err) != 0)
        return -1;
    archive->counts.n_failures++;
    return 0;
}

int archive_put_failure(struct archive *archive, const struct id128 *id, const char *reason,
                        bool final, struct err *err)
{
    bool own;
    if (enter(archive, &own, err) != 0)
        return -1;
    return leave(archive, own, put_failure(archive, id, reason, final, err), err);
}
