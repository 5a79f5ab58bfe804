/* archive_fsck.c - the proof of the invariants that archive.h states.
 *
 * Each database is walked once, in one transaction, and every entry is held against the others that
 * it must agree with.  A damaged entry is one line; the walk goes on. */
#include "results/archive_parts.h"
#include "space/base/err.h"
#include <cjson/cJSON.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct check {
    struct archive *archive;
    MDB_txn *txn;
    void (*report)(void *arg, const char *line);
    void *arg;
    int n_violations;
    struct hash256 parent;
    bool has_parent;
    struct archive_counts found; /* counted on the way */
    uint64_t n_sequence, n_commit;
    struct err *err;
};

__attribute__((format(printf, 2, 3))) static void violation(struct check *check, const char *fmt,
                                                            ...)
{
    char line[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    check->n_violations++;
    if (check->report != NULL)
        check->report(check->arg, line);
}

typedef int entry_fn(struct check *check, const MDB_val *key, const MDB_val *value);

/* 0, or -1 when the database cannot be walked. */
static int walk(struct check *check, enum archive_db db, entry_fn *visit)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    int status = 0, rc = mdb_cursor_open(check->txn, check->archive->db[db], &cursor);
    if (rc != 0)
        return archive_fail(check->archive, rc, "checking", check->err);
    rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    while (rc == 0 && status == 0) {
        status = visit(check, &key, &value);
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return rc != 0 && rc != MDB_NOTFOUND ? archive_fail(check->archive, rc, "checking", check->err)
                                         : status;
}

static const char *hex_of(const void *id, char text[ID128_HEX])
{
    struct id128 copy;
    memcpy(copy.bytes, id, sizeof copy.bytes);
    id128_hex(copy, text);
    return text;
}

/* 1 there (and exactly these bytes, where `want` is given), 0 not. */
static bool has(struct check *check, enum archive_db db, const void *key, size_t n_key,
                const void *want, size_t n_want)
{
    MDB_val value;
    if (archive_fetch(check->archive, db, key, n_key, &value, NULL) != 1)
        return false;
    return want == NULL || (value.mv_size == n_want && memcmp(value.mv_data, want, n_want) == 0);
}

/* --- what belongs to one id --- */

/* How many entries of a numbered database belong to `id`. */
static uint32_t count_numbered(struct check *check, enum archive_db db, const void *id)
{
    uint8_t key[ARCHIVE_ATTEMPT_KEY];
    struct id128 copy;
    uint32_t n = 0;
    memcpy(copy.bytes, id, sizeof copy.bytes);
    /* Numbers run from 0 without holes; a hole shows where the entry behind it is checked. */
    for (;; n++) {
        archive_key_attempt(&copy, n, key);
        if (!has(check, db, key, sizeof key, NULL, 0))
            return n;
    }
}

/* Number n of an id must come after number n - 1. */
static void check_run(struct check *check, enum archive_db db, const char *what, const MDB_val *key)
{
    uint8_t before[ARCHIVE_ATTEMPT_KEY];
    char hex[ID128_HEX];
    uint32_t number = (uint32_t)archive_get_be((const uint8_t *)key->mv_data + 16, 4);
    struct id128 id;
    memcpy(id.bytes, key->mv_data, 16);
    if (number == 0)
        return;
    archive_key_attempt(&id, number - 1, before);
    if (!has(check, db, before, sizeof before, NULL, 0))
        violation(check, "%s %s/%u: number %u before it is missing", what, hex_of(id.bytes, hex),
                  number, number - 1);
}

/* --- candidates --- */

static void check_status(struct check *check, const struct candidate *candidate, const char *hex)
{
    uint32_t n = count_numbered(check, DB_EVALUATION, candidate->id.bytes);
    uint32_t n_failed = count_numbered(check, DB_FAILURE, candidate->id.bytes);
    if (candidate->status == STATUS_DONE && n == 0)
        violation(check, "candidate %s: done, but without an evaluation", hex);
    if (candidate->status == STATUS_PENDING && n > 0)
        violation(check, "candidate %s: pending, but has %u evaluations", hex, n);
    if (candidate->status == STATUS_QUARANTINED && n_failed == 0)
        violation(check, "candidate %s: quarantined, but without a failure", hex);
    if (candidate->n_failures != n_failed)
        violation(check, "candidate %s: says %u failures, has %u", hex, candidate->n_failures,
                  n_failed);
    check->found.n_done += candidate->status == STATUS_DONE;
    check->found.n_pending += candidate->status == STATUS_PENDING;
    check->found.n_quarantined += candidate->status == STATUS_QUARANTINED;
}

static int check_candidate(struct check *check, const MDB_val *key, const MDB_val *value)
{
    struct candidate candidate;
    struct err why = {0};
    char hex[ID128_HEX];
    uint8_t number[8];
    check->found.n_candidates++;
    if (key->mv_size != 16) {
        violation(check, "candidate: a key of %zu bytes", key->mv_size);
        return 0;
    }
    hex_of(key->mv_data, hex);
    if (record_get_candidate(value->mv_data, value->mv_size, &candidate, &why) != 0) {
        violation(check, "candidate %s: %s", hex, why.text);
        return 0;
    }
    if (memcmp(candidate.id.bytes, key->mv_data, 16) != 0) {
        violation(check, "candidate %s: its record names another id", hex);
        return 0;
    }
    archive_key_u64(candidate.sequence, number);
    if (!has(check, DB_SEQUENCE, number, sizeof number, key->mv_data, 16))
        violation(check, "candidate %s: sequence %llu does not lead to it", hex,
                  (unsigned long long)candidate.sequence);
    if (!has(check, DB_GENOME, key->mv_data, 16, NULL, 0))
        violation(check, "candidate %s: no genome", hex);
    check_status(check, &candidate, hex);
    return 0;
}

static int check_sequence(struct check *check, const MDB_val *key, const MDB_val *value)
{
    struct candidate candidate;
    MDB_val record;
    uint64_t number = check->n_sequence++;
    if (key->mv_size != 8 || value->mv_size != 16) {
        violation(check, "sequence: an entry of %zu + %zu bytes", key->mv_size, value->mv_size);
        return 0;
    }
    uint64_t named = archive_get_be(key->mv_data, 8);
    if (named != number) {
        violation(check, "sequence: number %llu is missing", (unsigned long long)number);
        check->n_sequence = named + 1;
    }
    if (archive_fetch(check->archive, DB_CANDIDATE, value->mv_data, 16, &record, NULL) != 1)
        violation(check, "sequence %llu: no such candidate", (unsigned long long)named);
    else if (record_get_candidate(record.mv_data, record.mv_size, &candidate, NULL) == 0 &&
             candidate.sequence != named)
        violation(check, "sequence %llu: its candidate says %llu", (unsigned long long)named,
                  (unsigned long long)candidate.sequence);
    return 0;
}

/* --- evaluations --- */

static bool is_json(const void *text, size_t n)
{
    cJSON *root = cJSON_ParseWithLength(text, n);
    bool good = cJSON_IsObject(root);
    cJSON_Delete(root);
    return good;
}

static int check_evaluation(struct check *check, const MDB_val *key, const MDB_val *value)
{
    struct evaluation evaluation;
    struct err why = {0};
    char hex[ID128_HEX];
    check->found.n_evaluations++;
    if (key->mv_size != ARCHIVE_ATTEMPT_KEY) {
        violation(check, "evaluation: a key of %zu bytes", key->mv_size);
        return 0;
    }
    const uint8_t *bytes = key->mv_data, *record = value->mv_data;
    uint32_t attempt = (uint32_t)archive_get_be(bytes + 16, 4);
    size_t n = value->mv_size < RECORD_EVALUATION_BYTES ? value->mv_size : RECORD_EVALUATION_BYTES;
    hex_of(bytes, hex);
    if (!has(check, DB_CANDIDATE, bytes, 16, NULL, 0))
        violation(check, "evaluation %s/%u: no such candidate", hex, attempt);
    if (record_get_evaluation(record, n, &evaluation, &why) != 0)
        violation(check, "evaluation %s/%u: %s", hex, attempt, why.text);
    else if (memcmp(evaluation.candidate.bytes, bytes, 16) != 0 || evaluation.attempt != attempt)
        violation(check, "evaluation %s/%u: its record names another one", hex, attempt);
    if (value->mv_size > n && !is_json(record + n, value->mv_size - n))
        violation(check, "evaluation %s/%u: its details are no JSON object", hex, attempt);
    check_run(check, DB_EVALUATION, "evaluation", key);
    return 0;
}

/* Every evaluation is committed exactly once: as many entries as evaluations, each leading to one,
 * none twice. */
struct commits {
    uint8_t (*key)[ARCHIVE_ATTEMPT_KEY];
    size_t n, room;
};

static int compare_keys(const void *a, const void *b)
{
    return memcmp(a, b, ARCHIVE_ATTEMPT_KEY);
}

static int check_commit(struct check *check, const MDB_val *key, const MDB_val *value)
{
    uint64_t number = check->n_commit++;
    char hex[ID128_HEX];
    if (key->mv_size != 8 || value->mv_size != ARCHIVE_ATTEMPT_KEY) {
        violation(check, "commit: an entry of %zu + %zu bytes", key->mv_size, value->mv_size);
        return 0;
    }
    uint64_t named = archive_get_be(key->mv_data, 8);
    if (named != number) {
        violation(check, "commit: number %llu is missing", (unsigned long long)number);
        check->n_commit = named + 1;
    }
    if (!has(check, DB_EVALUATION, value->mv_data, ARCHIVE_ATTEMPT_KEY, NULL, 0))
        violation(check, "commit %llu: no evaluation %s/%u", (unsigned long long)named,
                  hex_of(value->mv_data, hex),
                  (unsigned)archive_get_be((const uint8_t *)value->mv_data + 16, 4));
    return 0;
}

static int collect_commits(struct check *check, struct commits *commits)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    int rc = mdb_cursor_open(check->txn, check->archive->db[DB_COMMIT], &cursor);
    if (rc != 0)
        return archive_fail(check->archive, rc, "checking", check->err);
    for (rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST); rc == 0;
         rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        if (commits->n == commits->room) {
            size_t room = commits->room > 0 ? 2 * commits->room : 256;
            void *more = realloc(commits->key, room * sizeof *commits->key);
            if (more == NULL)
                break;
            commits->key = more;
            commits->room = room;
        }
        if (value.mv_size == ARCHIVE_ATTEMPT_KEY)
            memcpy(commits->key[commits->n++], value.mv_data, ARCHIVE_ATTEMPT_KEY);
    }
    mdb_cursor_close(cursor);
    if (rc == MDB_NOTFOUND)
        return 0;
    if (rc == 0)
        err_set(check->err, ERR_MEMORY, "fsck: out of memory");
    return rc == 0 ? -1 : archive_fail(check->archive, rc, "checking", check->err);
}

static int check_committed_once(struct check *check)
{
    struct commits commits = {0};
    char hex[ID128_HEX];
    MDB_cursor *cursor;
    MDB_val key, value;
    if (collect_commits(check, &commits) != 0) {
        free(commits.key);
        return -1;
    }
    if (commits.n > 0)
        qsort(commits.key, commits.n, sizeof *commits.key, compare_keys);
    for (size_t i = 1; i < commits.n; i++)
        if (compare_keys(commits.key[i - 1], commits.key[i]) == 0)
            violation(check, "evaluation %s/%u: committed twice", hex_of(commits.key[i], hex),
                      (unsigned)archive_get_be(commits.key[i] + 16, 4));
    int rc = mdb_cursor_open(check->txn, check->archive->db[DB_EVALUATION], &cursor);
    if (rc == 0) {
        for (rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST); rc == 0;
             rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT))
            if (key.mv_size == ARCHIVE_ATTEMPT_KEY &&
                (commits.n == 0 || bsearch(key.mv_data, commits.key, commits.n, sizeof *commits.key,
                                           compare_keys) == NULL))
                violation(check, "evaluation %s/%u: without a commit entry",
                          hex_of(key.mv_data, hex),
                          (unsigned)archive_get_be((const uint8_t *)key.mv_data + 16, 4));
        mdb_cursor_close(cursor);
    }
    free(commits.key);
    return rc == MDB_NOTFOUND ? 0 : archive_fail(check->archive, rc, "checking", check->err);
}

/* --- samples, genomes, failures, meta --- */

static int check_samples(struct check *check, const MDB_val *key, const MDB_val *value)
{
    char hex[ID128_HEX];
    if (key->mv_size <= ARCHIVE_ATTEMPT_KEY) {
        violation(check, "samples: a key of %zu bytes", key->mv_size);
        return 0;
    }
    const uint8_t *bytes = key->mv_data, *data = value->mv_data;
    unsigned attempt = (unsigned)archive_get_be(bytes + 16, 4);
    int n_name = (int)(key->mv_size - ARCHIVE_ATTEMPT_KEY);
    const char *name = (const char *)bytes + ARCHIVE_ATTEMPT_KEY;
    hex_of(bytes, hex);
    if (!has(check, DB_EVALUATION, bytes, ARCHIVE_ATTEMPT_KEY, NULL, 0))
        violation(check, "samples %s/%u %.*s: no such evaluation", hex, attempt, n_name, name);
    bool finite = value->mv_size % 4 == 0;
    for (size_t i = 0; finite && i < value->mv_size; i += 4) {
        uint32_t word = (uint32_t)data[i] | (uint32_t)data[i + 1] << 8 |
                        (uint32_t)data[i + 2] << 16 | (uint32_t)data[i + 3] << 24;
        float sample;
        memcpy(&sample, &word, sizeof sample);
        finite = isfinite(sample);
    }
    if (!finite)
        violation(check, "samples %s/%u %.*s: not a row of finite numbers", hex, attempt, n_name,
                  name);
    return 0;
}

static void check_genome_text(struct check *check, const char *text, const char *hex,
                              const void *want)
{
    struct genome *genome = malloc(sizeof *genome);
    struct err why = {0};
    if (genome == NULL) {
        violation(check, "genome %s: no memory to read it", hex);
    } else if (genome_parse(text, genome, &why) != 0) {
        violation(check, "genome %s: %s", hex, why.text);
    } else if (check->has_parent) {
        struct id128 id = genome_id(genome, &check->parent);
        if (memcmp(id.bytes, want, 16) != 0)
            violation(check, "genome %s: its text hashes to another id", hex);
    }
    free(genome);
}

static int check_genome(struct check *check, const MDB_val *key, const MDB_val *value)
{
    char hex[ID128_HEX];
    if (key->mv_size != 16) {
        violation(check, "genome: a key of %zu bytes", key->mv_size);
        return 0;
    }
    hex_of(key->mv_data, hex);
    if (!has(check, DB_CANDIDATE, key->mv_data, 16, NULL, 0))
        violation(check, "genome %s: no such candidate", hex);
    char *text = malloc(value->mv_size + 1);
    if (text == NULL) {
        err_set(check->err, ERR_MEMORY, "fsck: out of memory");
        return -1;
    }
    memcpy(text, value->mv_data, value->mv_size);
    text[value->mv_size] = '\0';
    check_genome_text(check, text, hex, key->mv_data);
    free(text);
    return 0;
}

static int check_failure(struct check *check, const MDB_val *key, const MDB_val *value)
{
    char hex[ID128_HEX];
    (void)value;
    check->found.n_failures++;
    if (key->mv_size != ARCHIVE_ATTEMPT_KEY) {
        violation(check, "failure: a key of %zu bytes", key->mv_size);
        return 0;
    }
    if (!has(check, DB_CANDIDATE, key->mv_data, 16, NULL, 0))
        violation(check, "failure of %s: no such candidate", hex_of(key->mv_data, hex));
    check_run(check, DB_FAILURE, "failure", key);
    return 0;
}

static void check_counters(struct check *check)
{
    for (size_t i = 0; i < N_ARCHIVE_COUNTERS; i++) {
        const struct archive_counter *counter = &archive_counters[i];
        uint64_t found;
        char text[32] = "", want[32];
        memcpy(&found, (char *)&check->found + counter->member, sizeof found);
        snprintf(want, sizeof want, "%llu", (unsigned long long)found);
        if (archive_get_meta(check->archive, counter->name, text, sizeof text, NULL) != 1)
            violation(check, "meta: no %s", counter->name);
        else if (strcmp(text, want) != 0)
            violation(check, "meta: %s is '%s', there are %s", counter->name, text, want);
    }
}

/* Ids of genomes rest on the parent's hash; without it they cannot be proved. */
static void check_parent(struct check *check)
{
    char text[HASH256_HEX + 8] = "";
    int there = archive_get_meta(check->archive, ARCHIVE_META_PARENT, text, sizeof text, NULL);
    check->has_parent = there == 1 && hash256_parse(text, &check->parent) == 0;
    if (!check->has_parent && has(check, DB_META, "n_candidates", 12, "0", 1) == false)
        violation(check, "meta: %s, so the ids of genomes cannot be proved",
                  there == 1 ? "'" ARCHIVE_META_PARENT "' is no hash"
                             : "no '" ARCHIVE_META_PARENT "'");
}

int archive_fsck(struct archive *archive, void (*report)(void *arg, const char *line), void *arg,
                 struct err *err)
{
    static const struct {
        enum archive_db db;
        entry_fn *visit;
    } walks[] = {{DB_CANDIDATE, check_candidate},   {DB_SEQUENCE, check_sequence},
                 {DB_EVALUATION, check_evaluation}, {DB_COMMIT, check_commit},
                 {DB_SAMPLES, check_samples},       {DB_GENOME, check_genome},
                 {DB_FAILURE, check_failure}};
    struct check check = {.archive = archive, .report = report, .arg = arg, .err = err};
    if (archive_guard(archive->dir, err) != 0 || archive_view(archive, &check.txn, err) != 0)
        return -1;
    check_parent(&check);
    int status = 0;
    for (size_t i = 0; i < sizeof walks / sizeof walks[0] && status == 0; i++)
        status = walk(&check, walks[i].db, walks[i].visit);
    if (status == 0)
        status = check_committed_once(&check);
    if (status == 0)
        check_counters(&check);
    archive_view_end(archive);
    return status == 0 ? check.n_violations : -1;
}
