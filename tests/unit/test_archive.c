/* The archive: what goes in comes out, what may not go in does not, and what was committed is there
 * beside readers, after a full disk and after a refusal.  Kills are in test_archive_kill.c, damage
 * in test_archive_fsck.c. */
#include "results/archive_parts.h"
#include "tests/tap.h"
#include "tests/unit/results_fixture.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>

/* In place of the C library's, so that a local folder can be taken for one on NFS. */
static bool pretend_nfs;

int statfs(const char *path, struct statfs *fs)
{
    int status = (int)syscall(SYS_statfs, path, fs);
    if (status == 0 && pretend_nfs)
        fs->f_type = 0x6969;
    return status;
}

static bool is_clean(struct archive *archive)
{
    struct err err = {0};
    int n = archive_fsck(archive, NULL, NULL, &err);
    if (n != 0)
        printf("# fsck: %d %s\n", n, err.text);
    return n == 0;
}

static void check_round_trip(void)
{
    char dir[128], text[8];
    struct err err = {0};
    struct id128 id;
    struct candidate candidate;
    float samples[3] = {1.5F, 2.25F, 1e-3F}, *back = NULL;
    fixture_folder(dir);
    struct archive *archive = fixture_archive(dir);
    ok(archive_begin(archive, &err) == 0 && fixture_propose(archive, 7, &id) == 0, "proposed");
    struct evaluation in = fixture_evaluation(&id, 0.02, 3e5, 4e6, 1000000), out;
    in.attempt = 99;
    ok(archive_put_evaluation(archive, &in, "{\"a\":1}", &err) == 0 && in.attempt == 0,
       "the first evaluation has attempt 0, whatever the caller wrote");
    ok(archive_put_samples(archive, &id, 0, "decode", samples, 3, &err) == 0, "samples go in");
    ok(archive_commit(archive, &err) == 0, "committed: %s", err.text);
    archive_close(archive);

    archive = archive_open(dir, ARCHIVE_READ, NULL, &err);
    char *details = NULL, *genome = archive_get_genome(archive, &id, &err);
    ok(archive_get_evaluation(archive, &id, &out, &details, &err) == 0 && out.kld == 0.02 &&
           out.decode.median_ns == 3e5,
       "after reopening the evaluation is there");
    is_text(details, "{\"a\":1}", "with its details");
    ok(archive_get_candidate(archive, &id, &candidate, &err) == 0 &&
           candidate.status == STATUS_DONE && candidate.sequence == 0 && candidate.n_levels == 3 &&
           candidate.levels[2] == 3,
       "the candidate is done");
    struct genome parsed, wanted;
    fixture_genome(7, &wanted);
    ok(genome != NULL && genome_parse(genome, &parsed, NULL) == 0 && genome_equal(&parsed, &wanted),
       "its genome is the one proposed");
    ok(archive_get_samples(archive, &id, 0, "decode", &back, &err) == 3 && back[1] == 2.25F &&
           back[2] == 1e-3F,
       "samples come back exactly");
    float *none = NULL;
    ok(archive_get_samples(archive, &id, 0, "prefill", &none, &err) == -1 &&
           err.code == ERR_MISSING,
       "absent ones are absent");
    ok(archive_get_meta(archive, "device", text, sizeof text, &err) == 1 &&
           strcmp(text, "cpu:tes") == 0,
       "meta is cut to the caller's room");
    ok(archive_get_meta(archive, "nothing", text, sizeof text, &err) == 0, "or absent");
    ok(is_clean(archive), "fsck finds nothing");
    free(details);
    free(genome);
    free(back);
    archive_close(archive);
    fixture_remove(dir);
}

static bool counts_are(struct archive *archive, uint64_t candidates, uint64_t done,
                       uint64_t pending, uint64_t quarantined, uint64_t evaluations,
                       uint64_t failures)
{
    struct archive_counts c;
    struct err err = {0};
    if (archive_counts(archive, &c, &err) != 0) {
        printf("# %s\n", err.text);
        return false;
    }
    return c.n_candidates == candidates && c.n_done == done && c.n_pending == pending &&
           c.n_quarantined == quarantined && c.n_evaluations == evaluations &&
           c.n_failures == failures && c.n_bytes > 0;
}

static void check_transactions(void)
{
    char dir[128], text[16];
    struct err err = {0};
    struct id128 a, b, again;
    struct candidate candidate;
    fixture_folder(dir);
    struct archive *archive = fixture_archive(dir);
    archive_begin(archive, &err);
    fixture_propose(archive, 1, &a);
    ok(archive_get_candidate(archive, &a, &candidate, &err) == 0 &&
           candidate.status == STATUS_PENDING,
       "an open transaction reads what it wrote");
    struct evaluation e = fixture_evaluation(&a, 0.5, 1e5, 1e6, 1000);
    ok(archive_put_evaluation(archive, &e, "", &err) == 0 &&
           archive_put_evaluation(archive, &e, "{}", &err) == 0 && e.attempt == 1,
       "a second evaluation gets the next attempt within the same transaction");
    ok(counts_are(archive, 1, 1, 0, 0, 2, 0), "counters follow");
    archive_abort(archive);
    ok(counts_are(archive, 0, 0, 0, 0, 0, 0) &&
           archive_get_candidate(archive, &a, &candidate, &err) == -1 && err.code == ERR_MISSING,
       "abort leaves nothing");

    archive_begin(archive, &err);
    fixture_propose(archive, 1, &a);
    struct candidate twice = {.id = a};
    ok(archive_put_candidate(archive, &twice, "text", &err) == -1 && err.code == ERR_DATA,
       "an id is proposed once: %s", err.text);
    fixture_propose(archive, 2, &b);
    e = fixture_evaluation(&b, NAN, 1e5, 1e6, 1000);
    ok(archive_put_evaluation(archive, &e, "{}", &err) == -1 && err.code == ERR_DATA,
       "a figure that is not finite is refused: %s", err.text);
    e = fixture_evaluation(&b, 0.1, 1e5, 1e6, 1000);
    ok(archive_put_evaluation(archive, &e, "[1", &err) == -1 && err.code == ERR_DATA,
       "details that are no JSON are refused");
    again = id128_of(fixture_hash("nobody"));
    e = fixture_evaluation(&again, 0.1, 1e5, 1e6, 1000);
    ok(archive_put_evaluation(archive, &e, "{}", &err) == -1 && err.code == ERR_MISSING &&
           archive_put_failure(archive, &again, "x", false, &err) == -1 && err.code == ERR_MISSING,
       "results of strangers are refused");
    float bad = INFINITY, good = 1;
    ok(archive_put_samples(archive, &b, 0, "decode", &good, 1, &err) == -1 &&
           err.code == ERR_MISSING &&
           archive_put_samples(archive, &b, 0, "decode", &bad, 1, &err) == -1 &&
           err.code == ERR_DATA,
       "samples need an evaluation and finite numbers");
    ok(archive_put_meta(archive, "n_done", "7", &err) == -1 && err.code == ERR_INTERNAL,
       "the archive's own texts are not for others to set");
    ok(archive_commit(archive, &err) == 0 && counts_are(archive, 2, 0, 2, 0, 0, 0),
       "what was refused took nothing along");
    ok(archive_put_meta(archive, "note", "hello", &err) == 0 &&
           archive_get_meta(archive, "note", text, sizeof text, &err) == 1 &&
           strcmp(text, "hello") == 0,
       "a put outside of a transaction is one of its own");
    ok(is_clean(archive), "fsck finds nothing");
    archive_close(archive);
    fixture_remove(dir);
}

static void check_failures(void)
{
    char dir[128];
    struct err err = {0};
    struct id128 id;
    struct candidate candidate;
    fixture_folder(dir);
    struct archive *archive = fixture_archive(dir);
    fixture_propose(archive, 3, &id);
    ok(archive_get_reason(archive, &id, &err) == NULL && err.code == ERR_MISSING, "not failed yet");
    archive_put_failure(archive, &id, "timeout", false, &err);
    ok(archive_get_candidate(archive, &id, &candidate, &err) == 0 && candidate.n_failures == 1 &&
           candidate.status == STATUS_PENDING,
       "one failure leaves a candidate pending");
    archive_put_failure(archive, &id, "signal 9", true, &err);
    char *reason = archive_get_reason(archive, &id, &err);
    is_text(reason, "signal 9", "the last reason is kept");
    free(reason);
    ok(counts_are(archive, 1, 0, 0, 1, 0, 2), "the final one puts it into quarantine");
    ok(is_clean(archive), "fsck finds nothing");
    struct evaluation e = fixture_evaluation(&id, 0.1, 1e5, 1e6, 1000);
    ok(archive_put_evaluation(archive, &e, "{}", &err) == 0 &&
           counts_are(archive, 1, 1, 0, 0, 1, 2) && is_clean(archive),
       "a late result brings it back");
    archive_close(archive);
    fixture_remove(dir);
}

static void check_newest(void)
{
    char dir[128];
    struct err err = {0};
    struct id128 id, other = id128_of(fixture_hash("another device"));
    struct evaluation out;
    fixture_folder(dir);
    struct archive *archive = fixture_archive(dir);
    fixture_propose(archive, 3, &id);
    static const enum rung rungs[] = {RUNG_SEARCH, RUNG_FINAL, RUNG_FINAL, RUNG_SEARCH};
    for (int i = 0; i < 4; i++) {
        struct evaluation e = fixture_evaluation(&id, 0.1 * (i + 1), 1e5, 1e6, 1000);
        e.rung = rungs[i];
        if (i == 2)
            e.device = other;
        archive_put_evaluation(archive, &e, "{}", &err);
    }
    ok(archive_get_evaluation(archive, &id, &out, NULL, &err) == 0 && out.attempt == 2,
       "the newest of the highest rung speaks");
    struct id128 device = fixture_device();
    ok(archive_get_evaluation_on(archive, &id, &device, &out, NULL, &err) == 0 && out.attempt == 1,
       "of one class the newest of that class");
    fixture_propose(archive, 4, &id);
    ok(archive_get_evaluation(archive, &id, &out, NULL, &err) == -1 && err.code == ERR_MISSING,
       "a pending one has none");
    archive_close(archive);
    fixture_remove(dir);
}

/* --- walks and prefixes --- */

struct seen {
    uint32_t n, stop_at;
    bool in_order;
    struct archive *archive;
};

static int see_candidate(void *arg, const struct candidate *candidate)
{
    struct seen *seen = arg;
    seen->in_order &= candidate->sequence == seen->n;
    return ++seen->n == seen->stop_at ? 5 : 0;
}

static int see_evaluation(void *arg, const struct evaluation *evaluation)
{
    struct seen *seen = arg;
    struct candidate candidate;
    /* Calls within a walk are allowed. */
    seen->in_order &=
        archive_get_candidate(seen->archive, &evaluation->candidate, &candidate, NULL) == 0 &&
        evaluation->kld == 9 - (double)seen->n && candidate.sequence == 9 - seen->n;
    seen->n++;
    return 0;
}

static void check_walks(void)
{
    char dir[128], hex[ID128_HEX];
    struct err err = {0};
    struct id128 id[10], found;
    fixture_folder(dir);
    struct archive *archive = fixture_archive(dir);
    archive_begin(archive, &err);
    for (uint32_t i = 0; i < 10; i++)
        fixture_propose(archive, i, &id[i]);
    for (uint32_t i = 10; i-- > 0;) {
        struct evaluation e = fixture_evaluation(&id[i], i, 1e5, 1e6, 1000);
        archive_put_evaluation(archive, &e, "{}", &err);
    }
    struct seen seen = {.in_order = true, .archive = archive};
    ok(archive_each_evaluation(archive, see_evaluation, &seen, &err) == 0 && seen.n == 10,
       "a walk sees what the open transaction wrote");
    archive_commit(archive, &err);
    seen = (struct seen){.in_order = true, .archive = archive};
    ok(archive_each_candidate(archive, see_candidate, &seen, &err) == 0 && seen.n == 10 &&
           seen.in_order,
       "candidates come in order of proposal");
    seen = (struct seen){.in_order = true, .archive = archive};
    ok(archive_each_evaluation(archive, see_evaluation, &seen, &err) == 0 && seen.n == 10 &&
           seen.in_order,
       "evaluations in order of commit");
    seen = (struct seen){.stop_at = 4};
    ok(archive_each_candidate(archive, see_candidate, &seen, &err) == 5 && seen.n == 4,
       "a visitor can stop the walk");

    id128_hex(id[6], hex);
    ok(archive_find(archive, hex, &found, &err) == 0 && id128_equal(found, id[6]), "a whole id");
    hex[13] = '\0';
    hex[2] = (char)(hex[2] >= 'a' ? hex[2] - 32 : hex[2]);
    ok(archive_find(archive, hex, &found, &err) == 0 && id128_equal(found, id[6]),
       "an odd number of digits, one of them large");
    hex[3] = '\0';
    ok(archive_find(archive, hex, &found, &err) == -1 && err.code == ERR_USAGE, "3 are too few");
    ok(archive_find(archive, "00000000000000000000000000000000", &found, &err) == -1 &&
           err.code == ERR_MISSING,
       "an unknown id");
    ok(archive_find(archive, "zzzz", &found, &err) == -1 && err.code == ERR_USAGE, "no id at all");
    archive_close(archive);
    fixture_remove(dir);
}

static void check_ambiguous(void)
{
    char dir[128];
    struct err err = {0};
    struct id128 found;
    fixture_folder(dir);
    struct archive *archive = fixture_archive(dir);
    for (int i = 0; i < 6; i++) {
        struct candidate candidate = {.id = {{0xab, 0xcd, 0xe0}}};
        candidate.id.bytes[2] |= (uint8_t)(i < 3 ? i : 15 - i);
        candidate.id.bytes[15] = (uint8_t)i;
        archive_put_candidate(archive, &candidate, "k1", &err);
    }
    ok(archive_find(archive, "abcd", &found, &err) == -1 && err.code == ERR_USAGE &&
           strstr(err.text, "abcde000") != NULL && strstr(err.text, "...") != NULL,
       "an ambiguous prefix names candidates: %s", err.text);
    ok(archive_find(archive, "abcde1", &found, &err) == 0 && found.bytes[15] == 1,
       "one more digit settles it");
    archive_close(archive);
    fixture_remove(dir);
}

/* --- who may open --- */

static void set_text(const char *dir, const char *name, const char *text)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi db;
    MDB_val key = {strlen(name), (void *)name}, value = {strlen(text), (void *)text};
    mdb_env_create(&env);
    mdb_env_set_maxdbs(env, 16);
    if (mdb_env_open(env, dir, 0, 0644) == 0 && mdb_txn_begin(env, NULL, 0, &txn) == 0) {
        mdb_dbi_open(txn, "meta", MDB_CREATE, &db);
        mdb_put(txn, db, &key, &value, 0);
        mdb_txn_commit(txn);
    }
    mdb_env_close(env);
}

static void check_owners(void)
{
    char dir[128], path[160], pid[32];
    struct err err = {0};
    struct hash256 study = fixture_hash("study"), other = fixture_hash("another study");
    fixture_folder(dir);
    snprintf(path, sizeof path, "%s/none", dir);
    ok(archive_open(path, ARCHIVE_READ, NULL, &err) == NULL && err.code == ERR_MISSING,
       "an absent archive is missing: %s", err.text);
    struct archive *archive = fixture_archive(dir);
    snprintf(pid, sizeof pid, "pid %ld on ", (long)getpid());
    ok(archive_open(dir, ARCHIVE_WRITE, &study, &err) == NULL && err.code == ERR_RESOURCE &&
           strstr(err.text, pid) != NULL,
       "a second master is refused and told of the first: %s", err.text);
    archive_close(archive);
    ok(archive_open(dir, ARCHIVE_WRITE, &other, &err) == NULL && err.code == ERR_DATA,
       "another study is refused: %s", err.text);
    ok(archive_open(dir, ARCHIVE_READ, &other, &err) == NULL && err.code == ERR_DATA,
       "when reading too");
    archive = archive_open(dir, ARCHIVE_WRITE, &study, &err);
    ok(archive != NULL, "a refusal leaves no lock behind");
    archive_close(archive);
    set_text(dir, "schema", "2");
    ok(archive_open(dir, ARCHIVE_WRITE, &study, &err) == NULL && err.code == ERR_DATA &&
           strstr(err.text, "newer version") != NULL,
       "a newer schema is refused: %s", err.text);
    set_text(dir, "schema", "");
    ok(archive_open(dir, ARCHIVE_READ, NULL, &err) == NULL && err.code == ERR_DATA,
       "so is no schema at all: %s", err.text);
    fixture_remove(dir);
}

static void check_network(void)
{
    char dir[128], path[160];
    struct err err = {0};
    struct hash256 study = fixture_hash("study");
    fixture_folder(dir);
    snprintf(path, sizeof path, "%s/archive", dir);
    pretend_nfs = true;
    ok(archive_open(path, ARCHIVE_WRITE, &study, &err) == NULL && err.code == ERR_CONFIG &&
           strstr(err.text, "--scratch") != NULL && access(path, F_OK) != 0,
       "a network file system is refused before anything is made: %s", err.text);
    ok(archive_open(dir, ARCHIVE_READ, NULL, &err) == NULL && err.code == ERR_CONFIG,
       "for readers too");
    pretend_nfs = false;
    fixture_remove(dir);
}

/* Wait for a child; its exit status, or -1. */
static int outcome_of(pid_t child)
{
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status);
}

static void check_other_process(void)
{
    char dir[128];
    struct err err = {0};
    struct id128 id;
    fixture_folder(dir);
    struct archive *archive = fixture_archive(dir);
    fixture_propose(archive, 3, &id);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct hash256 study = fixture_hash("study");
        struct candidate candidate;
        int bad =
            archive_open(dir, ARCHIVE_WRITE, &study, &err) != NULL || err.code != ERR_RESOURCE;
        struct archive *reader = archive_open(dir, ARCHIVE_READ, &study, &err);
        bad |= reader == NULL || archive_get_candidate(reader, &id, &candidate, &err) != 0 ? 2 : 0;
        archive_close(reader);
        _exit(bad);
    }
    ok(outcome_of(child) == 0, "another process may read but not write");
    fflush(stdout);
    child = fork();
    if (child == 0) {
        /* What a program started from here would inherit. */
        int n_left = 0;
        for (int fd = 3; fd < 256; fd++) {
            char link[64], target[256] = "";
            int flags = fcntl(fd, F_GETFD);
            snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
            if (flags >= 0 && (flags & FD_CLOEXEC) == 0 &&
                readlink(link, target, sizeof target - 1) > 0 && strstr(target, dir) != NULL)
                n_left++;
        }
        _exit(n_left);
    }
    ok(outcome_of(child) == 0, "no descriptor of the archive survives an exec");
    archive_close(archive);
    fixture_remove(dir);
}

static void check_read_only(void)
{
    char dir[128], path[160];
    struct err err = {0};
    fixture_folder(dir);
    struct archive *archive = fixture_archive(dir);
    struct id128 id = fixture_enter(archive, 3, 0.1, 1e5, 1e6, 1000, RUNG_FINAL);
    archive_close(archive);
    static const char *const names[] = {"data.mdb", "lock.mdb", "writer.lock"};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        chmod(path, 0444);
    }
    chmod(dir, 0555);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct evaluation e;
        /* The superuser may write anything: become nobody. */
        if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
            _exit(9);
        struct archive *reader = archive_open(dir, ARCHIVE_READ, NULL, &err);
        if (reader == NULL)
            printf("# %s\n", err.text);
        fflush(stdout);
        bool good = reader != NULL && archive_get_evaluation(reader, &id, &e, NULL, &err) == 0 &&
                    archive_fsck(reader, NULL, NULL, &err) == 0;
        struct hash256 study = fixture_hash("study");
        bool refused =
            archive_open(dir, ARCHIVE_WRITE, &study, &err) == NULL && err.code == ERR_PERMISSION;
        _exit(good ? refused ? 0 : 2 : 1);
    }
    ok(outcome_of(child) == 0, "a folder without write permission can be read, not written");
    chmod(dir, 0755);
    struct hash256 study = fixture_hash("study");
    snprintf(path, sizeof path, "%s/writer.lock", dir);
    chmod(path, 0644);
    snprintf(path, sizeof path, "%s/data.mdb", dir);
    chmod(path, 0644);
    snprintf(path, sizeof path, "%s/lock.mdb", dir);
    chmod(path, 0644);
    archive = archive_open(dir, ARCHIVE_WRITE, &study, &err);
    chmod(path, 0444);
    fflush(stdout);
    child = fork();
    if (child == 0) {
        if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
            _exit(9);
        _exit(archive_open(dir, ARCHIVE_READ, NULL, &err) == NULL && err.code == ERR_RESOURCE ? 0
                                                                                              : 1);
    }
    ok(outcome_of(child) == 0, "but not while a search writes: LMDB could not protect the reader");
    archive_close(archive);
    fixture_remove(dir);
}

/* --- growth --- */

#define GROW_COMMITS 40
#define GROW_EACH    10
#define GROW_BYTES   20000

static char *large_details(uint32_t n)
{
    char *text = malloc(GROW_BYTES + 1);
    int head = snprintf(text, GROW_BYTES, "{\"n\":%u,\"x\":\"", n);
    memset(text + head, 'a' + (int)(n % 26), (size_t)(GROW_BYTES - head));
    memcpy(text + GROW_BYTES - 2, "\"}", 3);
    return text;
}

static int check_details(void *arg, const struct evaluation *evaluation)
{
    struct seen *seen = arg;
    struct evaluation again;
    char *details = NULL, *want = large_details(seen->n);
    int status = archive_get_evaluation(seen->archive, &evaluation->candidate, &again, &details,
                                        NULL) == 0 &&
                         strcmp(details, want) == 0
                     ? 0
                     : 1;
    seen->n++;
    free(details);
    free(want);
    return status;
}

/* In another process: follow the writer until everything is there.  Never less than before. */
static int follow(const char *dir)
{
    struct err err = {0};
    struct archive *reader = archive_open(dir, ARCHIVE_READ, NULL, &err);
    uint32_t most = 0;
    if (reader == NULL)
        return 1;
    while (most < GROW_COMMITS * GROW_EACH) {
        struct seen seen = {.archive = reader};
        int status = archive_each_evaluation(reader, check_details, &seen, &err);
        if (status != 0 || seen.n < most || seen.n % GROW_EACH != 0) {
            printf("# reader: status %d, %u after %u: %s\n", status, seen.n, most, err.text);
            fflush(stdout);
            return 2;
        }
        most = seen.n;
        usleep(1000);
    }
    archive_close(reader);
    return 0;
}

static void check_growth(void)
{
    char dir[128];
    struct err err = {0};
    struct hash256 study = fixture_hash("study");
    fixture_folder(dir);
    archive_close(fixture_archive(dir));
    struct archive *archive = archive_open_sized(dir, ARCHIVE_WRITE, &study, 256 << 10, &err);
    MDB_envinfo info;
    mdb_env_info(archive->env, &info);
    ok(info.me_mapsize <= 256 << 10, "the map begins small");
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        _exit(follow(dir));
    int n_bad = 0;
    for (uint32_t c = 0, n = 0; c < GROW_COMMITS; c++) {
        n_bad += archive_begin(archive, &err) != 0;
        for (uint32_t i = 0; i < GROW_EACH; i++, n++) {
            struct id128 id;
            char *details = large_details(n);
            n_bad += fixture_propose(archive, n, &id) != 0;
            struct evaluation e = fixture_evaluation(&id, 0.1, 1e5, 1e6, 1000);
            n_bad += archive_put_evaluation(archive, &e, details, &err) != 0;
            free(details);
        }
        n_bad += archive_commit(archive, &err) != 0;
    }
    ok(n_bad == 0, "%d MB go into it %s", GROW_COMMITS * GROW_EACH * GROW_BYTES / 1000000,
       err.text);
    mdb_env_info(archive->env, &info);
    ok(info.me_mapsize >= 8 << 20, "the map has grown in the middle of transactions");
    ok(outcome_of(child) == 0, "a reader in another process saw every commit whole");
    ok(counts_are(archive, 400, 400, 0, 0, 400, 0) && is_clean(archive), "fsck finds nothing");
    archive_close(archive);
    fixture_remove(dir);
}

/* --- a full disk --- */

/* In another process, with a limit on the size of files in place of a full disk. */
static int fill_disk(const char *dir, uint64_t *n_kept)
{
    struct err err = {0};
    struct hash256 study = fixture_hash("study");
    struct rlimit limit = {2 << 20, 2 << 20};
    signal(SIGXFSZ, SIG_IGN);
    struct archive *archive = archive_open(dir, ARCHIVE_WRITE, &study, &err);
    setrlimit(RLIMIT_FSIZE, &limit);
    uint64_t kept = 0;
    int status = 0;
    for (uint32_t n = 0; n < 500 && status == 0; n++) {
        struct id128 id;
        char *details = large_details(n);
        status = archive_begin(archive, &err);
        if (status == 0 && fixture_propose(archive, n, &id) == 0) {
            struct evaluation e = fixture_evaluation(&id, 0.1, 1e5, 1e6, 1000);
            status = archive_put_evaluation(archive, &e, details, &err);
            int committed = archive_commit(archive, status == 0 ? &err : NULL);
            status = status != 0 ? status : committed;
        }
        kept += status == 0;
        free(details);
    }
    *n_kept = kept;
    if (status == 0 || err.code != ERR_IO || strstr(err.text, "disk full") == NULL) {
        printf("# full disk: status %d %s\n", status, err.text);
        fflush(stdout);
        return 1;
    }
    if (!counts_are(archive, kept, kept, 0, 0, kept, 0))
        return 2;
    archive_close(archive);
    return kept > 20 ? 0 : 3;
}

static void check_full_disk(void)
{
    char dir[128];
    int pipe_fd[2];
    uint64_t n_kept = 0;
    struct err err = {0};
    struct hash256 study = fixture_hash("study");
    fixture_folder(dir);
    archive_close(fixture_archive(dir));
    if (pipe(pipe_fd) != 0)
        return;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        uint64_t n = 0;
        int status = fill_disk(dir, &n);
        _exit(write(pipe_fd[1], &n, sizeof n) == sizeof n ? status : 8);
    }
    int status = outcome_of(child);
    ok(status == 0, "a full disk is told as such and loses only the open transaction (%d)", status);
    ok(read(pipe_fd[0], &n_kept, sizeof n_kept) == sizeof n_kept, "%d commits fitted", (int)n_kept);
    close(pipe_fd[0]);
    close(pipe_fd[1]);
    struct archive *archive = archive_open(dir, ARCHIVE_WRITE, &study, &err);
    ok(archive != NULL && counts_are(archive, n_kept, n_kept, 0, 0, n_kept, 0) && is_clean(archive),
       "all of them are there, and fsck finds nothing");
    struct id128 id;
    ok(fixture_propose(archive, 900, &id) == 0 && is_clean(archive), "with room it goes on");
    archive_close(archive);
    fixture_remove(dir);
}

static void check_copy(void)
{
    char dir[128], copy[160];
    struct err err = {0};
    fixture_folder(dir);
    snprintf(copy, sizeof copy, "%s/copies/last", dir);
    struct archive *archive = fixture_archive(dir);
    struct id128 id;
    fixture_enter(archive, 1, 0.1, 1e5, 1e6, 1000, RUNG_FINAL);
    archive_begin(archive, &err);
    fixture_propose(archive, 2, &id);
    ok(archive_copy(archive, copy, &err) == 0, "copied while a transaction is open: %s", err.text);
    archive_commit(archive, &err);
    struct archive *other = archive_open(copy, ARCHIVE_READ, NULL, &err);
    ok(other != NULL && counts_are(other, 1, 1, 0, 0, 1, 0) && is_clean(other),
       "the copy holds what was committed");
    archive_close(other);
    ok(archive_copy(archive, copy, &err) == 0, "copied again over the first");
    other = archive_open(copy, ARCHIVE_READ, NULL, &err);
    ok(other != NULL && counts_are(other, 2, 1, 1, 0, 1, 0) && is_clean(other),
       "it is the new one");
    archive_close(other);
    ok(archive_copy(archive, dir, &err) == -1 && err.code == ERR_USAGE, "not onto itself: %s",
       err.text);
    archive_close(archive);
    fixture_remove(dir);
}

int main(void)
{
    check_round_trip();
    check_transactions();
    check_failures();
    check_newest();
    check_walks();
    check_ambiguous();
    check_owners();
    check_network();
    check_other_process();
    check_read_only();
    check_growth();
    check_full_disk();
    check_copy();
    return tap_done();
}
