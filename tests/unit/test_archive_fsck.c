/* Every invariant of the archive, broken one at a time behind its back, is found and named. */
#include "results/archive_parts.h"
#include "tests/tap.h"
#include "tests/unit/results_fixture.h"
#include <fcntl.h>
#include <sys/stat.h>

/* Ids of the sound archive: 0 and 1 done, 2 pending, 3 quarantined. */
static struct id128 who[4];

static void build(const char *dir)
{
    struct err err = {0};
    struct archive *archive = fixture_archive(dir);
    float samples[2] = {1, 2};
    who[0] = fixture_enter(archive, 0, 0.1, 1e5, 1e6, 1000, RUNG_SEARCH);
    struct evaluation e = fixture_evaluation(&who[0], 0.1, 1e5, 1e6, 1000);
    archive_put_evaluation(archive, &e, "{}", &err);
    archive_put_samples(archive, &who[0], 0, "decode", samples, 2, &err);
    who[1] = fixture_enter(archive, 1, 0.2, 1e5, 1e6, 1000, RUNG_SEARCH);
    fixture_propose(archive, 2, &who[2]);
    fixture_propose(archive, 3, &who[3]);
    archive_put_failure(archive, &who[3], "first", false, &err);
    archive_put_failure(archive, &who[3], "second", true, &err);
    ok(archive_fsck(archive, NULL, NULL, &err) == 0, "the archive to be damaged is sound");
    archive_close(archive);
}

/* --- damage by hand --- */

struct raw {
    MDB_env *env;
    MDB_txn *txn;
};

static MDB_dbi raw_db(struct raw *raw, const char *name)
{
    MDB_dbi db;
    if (mdb_dbi_open(raw->txn, name, 0, &db) != 0)
        abort();
    return db;
}

static void raw_put(struct raw *raw, const char *db, const void *key, size_t n_key,
                    const void *value, size_t n_value)
{
    MDB_val k = {n_key, (void *)key}, v = {n_value, (void *)value};
    if (mdb_put(raw->txn, raw_db(raw, db), &k, &v, 0) != 0)
        abort();
}

static void raw_delete(struct raw *raw, const char *db, const void *key, size_t n_key)
{
    MDB_val k = {n_key, (void *)key};
    if (mdb_del(raw->txn, raw_db(raw, db), &k, NULL) != 0)
        abort();
}

/* A copy of a value that may be changed and put back. */
static size_t raw_get(struct raw *raw, const char *db, const void *key, size_t n_key,
                      uint8_t *bytes)
{
    MDB_val k = {n_key, (void *)key}, v;
    if (mdb_get(raw->txn, raw_db(raw, db), &k, &v) != 0)
        abort();
    memcpy(bytes, v.mv_data, v.mv_size);
    return v.mv_size;
}

static const uint8_t *number(uint64_t n)
{
    static uint8_t key[8];
    archive_key_u64(n, key);
    return key;
}

static const uint8_t *attempt(int i, uint32_t n)
{
    static uint8_t key[ARCHIVE_ATTEMPT_KEY];
    archive_key_attempt(&who[i], n, key);
    return key;
}

static void no_sequence(struct raw *raw)
{
    raw_delete(raw, "sequence", number(1), 8);
}

static void sequence_elsewhere(struct raw *raw)
{
    raw_put(raw, "sequence", number(1), 8, who[0].bytes, 16);
}

static void sequence_of_nobody(struct raw *raw)
{
    struct id128 nobody = id128_of(fixture_hash("nobody"));
    raw_put(raw, "sequence", number(4), 8, nobody.bytes, 16);
}

static void no_candidate(struct raw *raw)
{
    raw_delete(raw, "candidate", who[1].bytes, 16);
}

static void flipped_candidate(struct raw *raw)
{
    uint8_t bytes[4096];
    size_t n = raw_get(raw, "candidate", who[0].bytes, 16, bytes);
    bytes[36] ^= 1;
    raw_put(raw, "candidate", who[0].bytes, 16, bytes, n);
}

static void put_status(struct raw *raw, int i, enum candidate_status status)
{
    uint8_t bytes[4096];
    struct candidate candidate;
    size_t n = raw_get(raw, "candidate", who[i].bytes, 16, bytes);
    record_get_candidate(bytes, n, &candidate, NULL);
    candidate.status = status;
    n = record_put_candidate(&candidate, bytes);
    raw_put(raw, "candidate", who[i].bytes, 16, bytes, n);
}

static void done_without_result(struct raw *raw)
{
    put_status(raw, 2, STATUS_DONE);
}

static void pending_with_result(struct raw *raw)
{
    put_status(raw, 0, STATUS_PENDING);
}

static void quarantined_for_nothing(struct raw *raw)
{
    put_status(raw, 2, STATUS_QUARANTINED);
}

static void no_genome(struct raw *raw)
{
    raw_delete(raw, "genome", who[0].bytes, 16);
}

static void other_genome(struct raw *raw)
{
    uint8_t bytes[GENOME_TEXT_MAX];
    size_t n = raw_get(raw, "genome", who[1].bytes, 16, bytes);
    raw_put(raw, "genome", who[0].bytes, 16, bytes, n);
}

static void broken_genome(struct raw *raw)
{
    raw_put(raw, "genome", who[0].bytes, 16, "k1 what", 7);
}

static void genome_of_nobody(struct raw *raw)
{
    struct id128 nobody = id128_of(fixture_hash("nobody"));
    uint8_t bytes[GENOME_TEXT_MAX];
    size_t n = raw_get(raw, "genome", who[1].bytes, 16, bytes);
    raw_put(raw, "genome", nobody.bytes, 16, bytes, n);
}

static void no_commit(struct raw *raw)
{
    raw_delete(raw, "commit", number(2), 8);
}

static void commit_hole(struct raw *raw)
{
    raw_delete(raw, "commit", number(1), 8);
}

static void commit_twice(struct raw *raw)
{
    raw_put(raw, "commit", number(3), 8, attempt(0, 0), ARCHIVE_ATTEMPT_KEY);
}

static void commit_of_nothing(struct raw *raw)
{
    raw_put(raw, "commit", number(3), 8, attempt(2, 0), ARCHIVE_ATTEMPT_KEY);
}

static void no_evaluation(struct raw *raw)
{
    raw_delete(raw, "evaluation", attempt(1, 0), ARCHIVE_ATTEMPT_KEY);
}

static void attempt_hole(struct raw *raw)
{
    raw_delete(raw, "evaluation", attempt(0, 0), ARCHIVE_ATTEMPT_KEY);
}

static void flipped_evaluation(struct raw *raw)
{
    uint8_t bytes[4096];
    size_t n = raw_get(raw, "evaluation", attempt(0, 0), ARCHIVE_ATTEMPT_KEY, bytes);
    bytes[60] ^= 0x40;
    raw_put(raw, "evaluation", attempt(0, 0), ARCHIVE_ATTEMPT_KEY, bytes, n);
}

static void evaluation_not_finite(struct raw *raw)
{
    uint8_t bytes[4096];
    struct evaluation e;
    size_t n = raw_get(raw, "evaluation", attempt(0, 0), ARCHIVE_ATTEMPT_KEY, bytes);
    record_get_evaluation(bytes, RECORD_EVALUATION_BYTES, &e, NULL);
    e.ppl = INFINITY;
    record_put_evaluation(&e, bytes);
    raw_put(raw, "evaluation", attempt(0, 0), ARCHIVE_ATTEMPT_KEY, bytes, n);
}

static void evaluation_of_another(struct raw *raw)
{
    uint8_t bytes[4096];
    size_t n = raw_get(raw, "evaluation", attempt(1, 0), ARCHIVE_ATTEMPT_KEY, bytes);
    raw_put(raw, "evaluation", attempt(0, 0), ARCHIVE_ATTEMPT_KEY, bytes, n);
}

static void details_cut(struct raw *raw)
{
    uint8_t bytes[4096];
    size_t n = raw_get(raw, "evaluation", attempt(0, 0), ARCHIVE_ATTEMPT_KEY, bytes);
    raw_put(raw, "evaluation", attempt(0, 0), ARCHIVE_ATTEMPT_KEY, bytes, n - 1);
}

static void samples_of_nothing(struct raw *raw)
{
    uint8_t key[32];
    memcpy(key, attempt(2, 0), ARCHIVE_ATTEMPT_KEY);
    memcpy(key + ARCHIVE_ATTEMPT_KEY, "decode", 6);
    raw_put(raw, "samples", key, ARCHIVE_ATTEMPT_KEY + 6, "abcd", 4);
}

static void samples_not_finite(struct raw *raw)
{
    uint8_t key[32];
    memcpy(key, attempt(0, 0), ARCHIVE_ATTEMPT_KEY);
    memcpy(key + ARCHIVE_ATTEMPT_KEY, "decode", 6);
    raw_put(raw, "samples", key, ARCHIVE_ATTEMPT_KEY + 6, "\0\0\x80\x7f", 4);
}

static void no_failure(struct raw *raw)
{
    raw_delete(raw, "failure", attempt(3, 0), ARCHIVE_ATTEMPT_KEY);
}

static void wrong_counter(struct raw *raw)
{
    raw_put(raw, "meta", "n_done", 6, "3", 1);
}

static void no_counter(struct raw *raw)
{
    raw_delete(raw, "meta", "n_failures", 10);
}

static void no_parent(struct raw *raw)
{
    raw_delete(raw, "meta", "parent", 6);
}

static void odd_keys(struct raw *raw)
{
    raw_put(raw, "candidate", "short", 5, "", 0);
    raw_put(raw, "evaluation", "short", 5, "", 0);
    raw_put(raw, "samples", "short", 5, "", 0);
    raw_put(raw, "failure", "short", 5, "", 0);
    raw_put(raw, "genome", "short", 5, "", 0);
    raw_put(raw, "sequence", "short", 5, "", 0);
    raw_put(raw, "commit", "short", 5, "", 0);
}

struct damage {
    void (*inflict)(struct raw *raw);
    const char *title;
    const char *want; /* in one of the lines */
};

static const struct damage damages[] = {
    {no_sequence, "a missing sequence number", "number 1 is missing"},
    {sequence_elsewhere, "a sequence entry that leads elsewhere", "does not lead to it"},
    {sequence_of_nobody, "a sequence entry of nobody", "sequence 4: no such candidate"},
    {no_candidate, "a missing candidate", "no such candidate"},
    {flipped_candidate, "a flipped bit in a candidate", "damaged"},
    {done_without_result, "a done one without an evaluation", "done, but without"},
    {pending_with_result, "a pending one with evaluations", "pending, but has 2"},
    {quarantined_for_nothing, "a quarantine without a failure", "quarantined, but without"},
    {no_genome, "a missing genome", "no genome"},
    {other_genome, "another one's genome", "hashes to another id"},
    {broken_genome, "a genome that is no genome", "genome "},
    {genome_of_nobody, "a genome of nobody", "no such candidate"},
    {no_commit, "a missing commit entry", "without a commit entry"},
    {commit_hole, "a hole among the commits", "commit: number 1 is missing"},
    {commit_twice, "an evaluation committed twice", "committed twice"},
    {commit_of_nothing, "a commit of nothing", "commit 3: no evaluation"},
    {no_evaluation, "a missing evaluation", "done, but without"},
    {attempt_hole, "a missing first attempt", "number 0 before it is missing"},
    {flipped_evaluation, "a flipped bit in an evaluation", "damaged"},
    {evaluation_not_finite, "a figure that is not finite", "ppl is not a finite number"},
    {evaluation_of_another, "an evaluation of another candidate", "names another one"},
    {details_cut, "details that were cut", "no JSON object"},
    {samples_of_nothing, "samples of nothing", "no such evaluation"},
    {samples_not_finite, "samples that are not finite", "not a row of finite numbers"},
    {no_failure, "a missing failure", "says 2 failures"},
    {wrong_counter, "a counter that is wrong", "n_done is '3', there are 2"},
    {no_counter, "a counter that is not there", "no n_failures"},
    {no_parent, "an unknown parent", "no 'parent'"},
    {odd_keys, "keys of odd lengths", "a key of 5 bytes"},
};

struct hearing {
    const char *want;
    int n_lines;
    bool heard;
    char all[4096];
};

static void hear(void *arg, const char *line)
{
    struct hearing *hearing = arg;
    hearing->n_lines++;
    hearing->heard |= strstr(line, hearing->want) != NULL;
    size_t used = strlen(hearing->all);
    snprintf(hearing->all + used, sizeof hearing->all - used, "# %s\n", line);
}

static void inflict(const char *dir, const struct damage *damage)
{
    struct raw raw;
    mdb_env_create(&raw.env);
    mdb_env_set_maxdbs(raw.env, 16);
    if (mdb_env_open(raw.env, dir, 0, 0644) != 0 || mdb_txn_begin(raw.env, NULL, 0, &raw.txn) != 0)
        abort();
    damage->inflict(&raw);
    if (mdb_txn_commit(raw.txn) != 0)
        abort();
    mdb_env_close(raw.env);
}

static void check_damage(const char *dir, const struct damage *damage)
{
    char copy[160];
    struct err err = {0};
    struct hearing hearing = {.want = damage->want};
    snprintf(copy, sizeof copy, "%s/copy", dir);
    struct archive *archive = archive_open(dir, ARCHIVE_READ, NULL, &err);
    archive_copy(archive, copy, &err);
    archive_close(archive);
    inflict(copy, damage);
    archive = archive_open(copy, ARCHIVE_READ, NULL, &err);
    int n = archive_fsck(archive, hear, &hearing, &err);
    if (!ok(n > 0 && n == hearing.n_lines && hearing.heard, "%s is found (%d)", damage->title, n))
        printf("%s# %s\n", hearing.all, err.text);
    archive_close(archive);
    fixture_remove(copy);
}

/* --- files that cannot be followed --- */

static void copy_file(const char *from, const char *to, size_t n_bytes)
{
    char buffer[4096];
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    while (n_bytes > 0) {
        size_t n = fread(buffer, 1, n_bytes < sizeof buffer ? n_bytes : sizeof buffer, in);
        if (n == 0 || fwrite(buffer, 1, n, out) != n)
            break;
        n_bytes -= n;
    }
    fclose(in);
    fclose(out);
}

static void check_truncated(const char *dir)
{
    char from[160], to[192], copy[160];
    struct stat file;
    struct err err = {0};
    int n_taken = 0, n_cut = 0;
    snprintf(from, sizeof from, "%s/data.mdb", dir);
    snprintf(copy, sizeof copy, "%s/cut", dir);
    snprintf(to, sizeof to, "%s/data.mdb", copy);
    mkdir(copy, 0755);
    stat(from, &file);
    for (size_t n = 0; n < (size_t)file.st_size; n += 4096, n_cut++) {
        copy_file(from, to, n);
        struct archive *archive = archive_open(copy, ARCHIVE_READ, NULL, &err);
        /* Pages at the end may be free ones: then all that counts is there. */
        n_taken += archive != NULL && archive_fsck(archive, NULL, NULL, &err) != 0;
        if (archive == NULL && err.code != ERR_DATA && err.code != ERR_MISSING) {
            printf("# at %zu bytes: %s\n", n, err.text);
            n_taken++;
        }
        archive_close(archive);
    }
    ok(n_taken == 0 && n_cut > 5, "a file cut short is refused in one line (%d lengths): %s", n_cut,
       err.text);
    fixture_remove(copy);
}

static void check_scribbled(const char *dir)
{
    char from[160], to[192], copy[160];
    struct stat file;
    struct err err = {0};
    int n_refused = 0, n_tried = 0;
    snprintf(from, sizeof from, "%s/data.mdb", dir);
    snprintf(copy, sizeof copy, "%s/scribbled", dir);
    snprintf(to, sizeof to, "%s/data.mdb", copy);
    mkdir(copy, 0755);
    stat(from, &file);
    for (off_t page = 2 * 4096; page < file.st_size; page += 4096, n_tried++) {
        uint8_t noise[256];
        copy_file(from, to, (size_t)file.st_size);
        memset(noise, 0xA5, sizeof noise);
        int fd = open(to, O_WRONLY);
        if (pwrite(fd, noise, sizeof noise, page) != (ssize_t)sizeof noise)
            abort();
        close(fd);
        /* As `kerf archive fsck` would, but it must come home whatever the page was. */
        n_refused += archive_guard(copy, &err) != 0;
    }
    ok(n_refused > 0 && err.code == ERR_DATA,
       "pages of noise are met by another process first (%d of %d)", n_refused, n_tried);
    fixture_remove(copy);
}

int main(void)
{
    char dir[128];
    fixture_folder(dir);
    build(dir);
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++)
        check_damage(dir, &damages[i]);
    check_truncated(dir);
    check_scribbled(dir);
    fixture_remove(dir);
    return tap_done();
}
