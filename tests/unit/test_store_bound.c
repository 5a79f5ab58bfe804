/* A store with a bound: what was used least recently goes, what comes back is the same, and many
 * processes, kills, full disks and too small bounds harm nothing. */
#include "evaluator/compression/store.h"
#include "space/base/file.h"
#include "space/base/log.h"
#include "tests/compression_fixture.h"
#include "tests/tap.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

/* Variants of one size, told apart by layer, part and format. */
enum { N_KEYS = 16, KEPT = 64, FILE_BYTES = 512 + 64 * KEPT * 2 };

static struct bench bench;
static struct hash256 sums[N_KEYS]; /* of the bytes as they must be */
static double errors[N_KEYS];

static struct variant_key key_of(unsigned i)
{
    return (struct variant_key){PART_DOWN, i % 2, KEPT, 0,
                                (i / 2) % 2 == 0 ? FORMAT_F16 : FORMAT_BF16};
}

/* More names for the same shape: sources of other identities. */
static struct variant_source source_of(unsigned i)
{
    struct variant_source source = bench.source;

    source.identity.bytes[0] ^= (uint8_t)(i / 4);
    return source;
}

static int get(struct store *store, unsigned i, struct variant *variant, struct err *err)
{
    struct variant_key key = key_of(i);
    struct variant_source source = source_of(i);

    return store_get(store, &source, &key, variant, err);
}

static bool is_right(const struct variant *variant, unsigned i)
{
    struct hash256 sum = sha256_of(variant->data, variant->n_bytes);

    return memcmp(&sum, &sums[i], sizeof sum) == 0 && variant->error == errors[i] &&
           (uintptr_t)variant->data % 64 == 0;
}

static struct store *open_bounded(const char *path, uint64_t max_bytes)
{
    struct err err;

    struct store *store = store_open(path, &err);
    bench_demand(store != NULL, &err);
    bench_demand(store_bound(store, max_bytes, &err) == 0, &err);
    return store;
}

/* One variant taken by a process of its own, so to say. */
static bool use(const char *path, uint64_t max_bytes, unsigned i, struct store_counts *counts)
{
    struct store *store = open_bounded(path, max_bytes);
    struct variant variant;
    struct err err = {0};

    bool right = get(store, i, &variant, &err) == 0 && is_right(&variant, i);
    if (counts != NULL)
        store_counts(store, counts);
    store_close(store);
    return right;
}

static bool has_file(const char *path, unsigned i)
{
    struct variant_key key = key_of(i);
    struct variant_source source = source_of(i);
    char hex[ID128_HEX], file[600];

    id128_hex(variant_id(&source, &key), hex);
    snprintf(file, sizeof file, "%s/%.2s/%s", path, hex, hex);
    return file_exists(file);
}

/* Bytes of the files below DIR/xx/. */
static uint64_t held_by(const char *path)
{
    uint64_t sum = 0;
    char folder[600], file[1200];
    struct stat status;

    for (unsigned byte = 0; byte < 256; byte++) {
        snprintf(folder, sizeof folder, "%s/%02x", path, byte);
        DIR *entries = opendir(folder);
        for (struct dirent *e; entries != NULL && (e = readdir(entries)) != NULL;) {
            snprintf(file, sizeof file, "%s/%s", folder, e->d_name);
            if (lstat(file, &status) == 0 && S_ISREG(status.st_mode))
                sum += (uint64_t)status.st_size;
        }
        if (entries != NULL)
            closedir(entries);
    }
    return sum;
}

/* The same at one moment: nobody adds or evicts meanwhile. */
static uint64_t held_at_once(const char *path)
{
    char file[600];

    snprintf(file, sizeof file, "%s/ledger", path);
    int fd = open(file, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return 0;
    flock(fd, LOCK_EX);
    uint64_t held = held_by(path);
    close(fd);
    return held;
}

static void check_least_recent(void)
{
    char path[512];
    struct store_counts counts;
    const uint64_t bound = 6 * FILE_BYTES;
    unsigned wrong = 0;

    folder_path(bench.folder, "recent", path);
    for (unsigned i = 0; i < 5; i++)
        wrong += !use(path, bound, i, NULL);
    ok(wrong == 0 && held_by(path) == 5 * FILE_BYTES, "what has room stays");
    use(path, bound, 0, &counts);
    ok(counts.n_found == 1, "and is found");
    wrong += !use(path, bound, 5, NULL) || !use(path, bound, 6, &counts);
    ok(wrong == 0 && counts.n_evicted > 0 && counts.evicted_bytes == counts.n_evicted * FILE_BYTES,
       "what has none makes room, and the bytes are told");
    ok(held_by(path) <= bound && has_file(path, 0) && !has_file(path, 1) && has_file(path, 5) &&
           has_file(path, 6),
       "what was used least recently goes, not what was built first");
    ok(use(path, bound, 1, &counts) && counts.n_built == 1,
       "what went is built again with the same bytes");
    ok(use(path, 2 * FILE_BYTES, 1, &counts) && held_by(path) <= 2 * FILE_BYTES &&
           has_file(path, 1),
       "a lower bound holds from the next opening on");
}

static void check_too_small(void)
{
    struct variant variant[N_KEYS];
    struct store_counts counts;
    char path[512];
    unsigned wrong = 0;
    struct err err;

    folder_path(bench.folder, "tight", path);
    ok(use(path, FILE_BYTES - 1, 3, &counts) && counts.n_built == 1 && counts.n_unkept == 1 &&
           held_by(path) == 0,
       "a variant that is larger than the bound is right, and in no file");
    struct store *store = open_bounded(path, 4 * FILE_BYTES);
    for (unsigned i = 0; i < N_KEYS; i++)
        wrong += get(store, i, &variant[i], &err) != 0;
    for (unsigned i = 0; i < N_KEYS; i++)
        wrong += !is_right(&variant[i], i);
    store_counts(store, &counts);
    ok(wrong == 0 && counts.n_built == N_KEYS && counts.n_unkept == N_KEYS - 4 &&
           counts.n_evicted == 0 && held_by(path) == 4 * FILE_BYTES,
       "more in use at once than the bound: files up to it, the rest in memory, all of it right");
    for (unsigned i = 0; i < N_KEYS; i++) {
        struct variant again;
        wrong += get(store, i, &again, &err) != 0 || again.data != variant[i].data;
    }
    ok(wrong == 0, "and each is where it was");

    /* Another process evicts what this one has mapped. */
    wrong += !use(path, 2 * FILE_BYTES, 9, NULL);
    for (unsigned i = 0; i < N_KEYS; i++)
        wrong += !is_right(&variant[i], i);
    ok(wrong == 0 && held_by(path) <= 2 * FILE_BYTES,
       "what another process evicts stays readable for those who have it");
    store_close(store);
}

/* Every get with a store of its own, for a while; 0 when all was right. */
static int hammer(const char *path, uint64_t bound, uint64_t seed, unsigned n_rounds)
{
    struct rng rng = rng_make(seed, 5);
    int wrong = 0;

    for (unsigned round = 0; round < n_rounds; round++) {
        struct store *store = open_bounded(path, bound);
        for (int i = 0; i < 3; i++) {
            struct variant variant;
            unsigned which = (unsigned)rng_below(&rng, N_KEYS);
            wrong += get(store, which, &variant, NULL) != 0 || !is_right(&variant, which);
        }
        store_close(store);
    }
    return wrong;
}

/* With a sound ledger or none: after an opening the account is what the folder holds. */
static bool account_is_right(const char *path)
{
    char file[600];
    size_t n_bytes;
    uint64_t held = 0;

    store_close(open_bounded(path, UINT64_C(1) << 40));
    snprintf(file, sizeof file, "%s/ledger", path);
    char *ledger = file_read(file, 4096, &n_bytes, NULL);
    if (ledger != NULL && n_bytes == 64)
        memcpy(&held, ledger + 16, sizeof held);
    free(ledger);
    return held == held_by(path);
}

static void check_processes(void)
{
    enum { N_CHILDREN = 4 };
    const uint64_t bound = 7 * FILE_BYTES;
    pid_t child[N_CHILDREN];
    char path[512];
    int status, failed = 0, n_left = N_CHILDREN;
    uint64_t most = 0;

    folder_path(bench.folder, "processes", path);
    for (unsigned c = 0; c < N_CHILDREN; c++) {
        child[c] = fork();
        if (child[c] == 0)
            _exit(hammer(path, bound, c, 60) == 0 ? 0 : 1);
    }
    while (n_left > 0) {
        uint64_t held = held_at_once(path);
        most = held > most ? held : most;
        pid_t done = waitpid(-1, &status, WNOHANG);
        if (done > 0) {
            n_left--;
            failed += status != 0;
        }
    }
    ok(failed == 0, "four processes build, use and evict side by side, and all bytes are right");
    ok(most <= bound && most > bound / 2, "never more than the bound");
    ok(account_is_right(path), "and the account agrees with the folder");
}

static void check_kills(void)
{
    const uint64_t bound = 5 * FILE_BYTES;
    char path[512], command[600];
    unsigned wrong = 0;
    int status;

    folder_path(bench.folder, "kills", path);
    for (unsigned k = 0; k < 40; k++) {
        pid_t child = fork();
        if (child == 0)
            _exit(hammer(path, bound, 100 + k, 1000));
        struct timespec nap = {0, 1000000 + 300000 * (long)k};
        nanosleep(&nap, NULL);
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
    }
    for (unsigned i = 0; i < N_KEYS; i++)
        wrong += !use(path, bound, i, NULL);
    ok(wrong == 0 && held_by(path) <= bound, "40 builders were killed: what is there is sound");
    snprintf(command, sizeof command, "find '%s' -name '*.tmp.*' -delete", path);
    ok(system(command) == 0 && account_is_right(path), "and the account finds itself");
}

static void check_ledger(void)
{
    char path[512], file[600], text[64] = "KERFROOM";
    const uint64_t bound = 3 * FILE_BYTES;
    unsigned wrong = 0;

    folder_path(bench.folder, "ledger", path);
    struct store *store = open_bounded(path, bound);
    snprintf(file, sizeof file, "%s/ledger", path);
    for (unsigned i = 0; i < 8; i++) {
        struct store *other = open_bounded(path, bound);
        struct variant variant;
        /* Garbage, a lie without a sum, too short, gone: counted anew each time. */
        FILE *ledger = i % 4 < 3 ? fopen(file, "r+") : NULL;
        if (ledger != NULL) {
            fwrite(text, 1, i % 4 == 2 ? 9 : sizeof text, ledger);
            fclose(ledger);
            wrong += i % 4 == 2 && truncate(file, 9) != 0;
        }
        wrong += get(other, i, &variant, NULL) != 0 || !is_right(&variant, i);
        wrong += held_by(path) > bound;
        store_close(other);
    }
    ok(wrong == 0, "a damaged ledger is counted anew, and the bound holds");
    store_close(store);
    ok(account_is_right(path), "and the account is right");
}

static void check_strangers(void)
{
    static const char *const strangers[] = {
        "readme.txt", "ab/notes.txt", "ab/cdabcdefabcdefabcdefabcdefabcdef",
        "ab/abcdefabcdefabcdefabcdefabcdefab.bak", "ab/ABCDEFABCDEFABCDEFABCDEFABCDEFAB"};
    enum { N = sizeof strangers / sizeof strangers[0] };
    char path[512], file[700], folder[600];
    unsigned there = 0, wrong = 0;
    char *filling = calloc(1, FILE_BYTES);

    folder_path(bench.folder, "strangers", path);
    snprintf(folder, sizeof folder, "%s/ab", path);
    file_make_dirs(folder, NULL);
    for (unsigned s = 0; s < N; s++) {
        snprintf(file, sizeof file, "%s/%s", path, strangers[s]);
        file_replace(file, filling, FILE_BYTES, NULL);
    }
    for (unsigned i = 0; i < 8; i++)
        wrong += !use(path, 2 * FILE_BYTES, i, NULL);
    for (unsigned s = 0; s < N; s++) {
        snprintf(file, sizeof file, "%s/%s", path, strangers[s]);
        there += file_exists(file);
    }
    ok(wrong == 0 && has_file(path, 7) && has_file(path, 6),
       "files that are not the store's do not count");
    ok(there == N, "and are never removed");
    free(filling);
}

/* In a process of its own, which alone sees a disk of 64 KB. */
static int on_small_disk(const char *path)
{
    struct variant variant[N_KEYS];
    struct err err = {0};
    char command[600];
    int wrong = 0;
    unsigned n = 0;

    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("kerf-test", path, "tmpfs", 0, "size=64k") != 0)
        return 77;
    log_setup(LOG_ERROR, -1);
    for (unsigned i = 0; i < 2 * N_KEYS; i++)
        wrong += !use(path, UINT64_C(1) << 30, i % N_KEYS, NULL);
    /* All of it in use: nothing can be removed. */
    struct store *store = open_bounded(path, UINT64_C(1) << 30);
    while (n < N_KEYS && get(store, n, &variant[n], &err) == 0)
        n++;
    wrong += n < 2 || n == N_KEYS || err.code != ERR_IO || strchr(err.text, '\n') != NULL;
    for (unsigned i = 0; i < n; i++)
        wrong += !is_right(&variant[i], i);
    store_close(store);
    /* Without a bound nothing is ever removed. */
    store = store_open(path, &err);
    uint64_t held = held_by(path);
    for (unsigned i = 0; i < N_KEYS; i++)
        get(store, i, &variant[i], NULL);
    wrong += held_by(path) < held;
    store_close(store);
    snprintf(command, sizeof command, "test -z \"$(find '%s' -name '*.tmp.*')\"", path);
    return wrong + (system(command) != 0);
}

static void check_small_disk(void)
{
    char path[512];
    int status;

    folder_path(bench.folder, "disk", path);
    file_make_dirs(path, NULL);
    pid_t child = fork();
    if (child == 0)
        _exit(on_small_disk(path));
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        ok(true, "a full disk is met with eviction # SKIP only root can mount a small disk");
    else
        ok(status == 0, "a disk that is full before the bound is met with eviction, or ERR_IO");
}

static void *hammer_thread(void *arg)
{
    struct store *store = arg;
    uintptr_t wrong = 0;

    for (unsigned i = 0; i < N_KEYS; i++) {
        struct variant variant;
        wrong += get(store, i, &variant, NULL) != 0 || !is_right(&variant, i);
    }
    return (void *)wrong;
}

static void check_threads(void)
{
    enum { N_ROUNDS = 8 };
    pthread_t threads[3];
    char path[512], name[32];
    uintptr_t wrong = 0;
    unsigned n_over = 0;

    for (unsigned round = 0; round < N_ROUNDS; round++) {
        snprintf(name, sizeof name, "threads%u", round);
        struct store *store = open_bounded(folder_path(bench.folder, name, path), 5 * FILE_BYTES);
        for (int t = 0; t < 3; t++)
            pthread_create(&threads[t], NULL, hammer_thread, store);
        for (int t = 0; t < 3; t++) {
            void *own;
            pthread_join(threads[t], &own);
            wrong += (uintptr_t)own;
        }
        n_over += held_by(path) > 5 * FILE_BYTES;
        store_close(store);
    }
    ok(wrong == 0, "three threads share one bounded store");
    ok(n_over == 0, "and keep the bound together (%u of %d rounds did not)", n_over, N_ROUNDS);
}

int main(void)
{
    log_setup(LOG_ERROR, -1);
    bench_open(&bench, &bench_small, FORMAT_F32, 31);
    for (unsigned i = 0; i < N_KEYS; i++) {
        struct variant_key key = key_of(i);
        struct variant_source source = source_of(i);
        struct variant layout;
        struct err err;
        variant_layout(&source, &key, &layout);
        uint8_t *bytes = malloc(layout.n_bytes);
        bench_demand(variant_build(&source, &key, &layout, bytes, &err) == 0, &err);
        sums[i] = sha256_of(bytes, layout.n_bytes);
        errors[i] = layout.error;
        free(bytes);
    }
    check_least_recent();
    check_too_small();
    check_processes();
    check_kills();
    check_ledger();
    check_strangers();
    check_small_disk();
    check_threads();
    bench_close(&bench);
    return tap_done();
}
