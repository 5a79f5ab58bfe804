/* The store: built once, found again, repaired when damaged, and harmless when the disk is full or
 * several builders meet. */
#include "evaluator/compression/store.h"
#include "space/base/file.h"
#include "space/base/log.h"
#include "tests/compression_fixture.h"
#include "tests/tap.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <utime.h>

static const struct variant_key some_key = {PART_DOWN, 1, 96, 0, FORMAT_Q5_0};
static struct bench bench;

/* Where some_key lies. */
static void file_of(const char *name, char path[600])
{
    char hex[ID128_HEX];

    id128_hex(variant_id(&bench.source, &some_key), hex);
    snprintf(path, 600, "%s/%s/%.2s/%s", bench.folder, name, hex, hex);
}

static uint64_t built_by(struct store *store)
{
    struct store_counts counts;

    store_counts(store, &counts);
    return counts.n_built;
}

static void check_life(void)
{
    struct variant first, again, fresh;
    struct store_counts counts;
    struct err err;

    struct store *store = bench_store(&bench, "life");
    ok(store_get(store, &bench.source, &some_key, &first, &err) == 0 && built_by(store) == 1,
       "a variant is built on first use");
    ok(store_get(store, &bench.source, &some_key, &again, &err) == 0 && again.data == first.data &&
           built_by(store) == 1,
       "and is where it was on the second");
    variant_layout(&bench.source, &some_key, &fresh);
    uint8_t *bytes = malloc(fresh.n_bytes);
    variant_build(&bench.source, &some_key, &fresh, bytes, &err);
    ok(memcmp(bytes, first.data, fresh.n_bytes) == 0 && fresh.error == first.error,
       "with the bytes and the error of a build");
    ok((uintptr_t)first.data % 64 == 0, "at a multiple of 64 bytes");

    struct store *other = bench_store(&bench, "life");
    ok(store_get(other, &bench.source, &some_key, &again, &err) == 0,
       "another store of the folder has it too");
    store_counts(other, &counts);
    ok(counts.n_built == 0 && counts.n_found == 1 && again.error == first.error &&
           memcmp(again.data, bytes, fresh.n_bytes) == 0,
       "found, not built");
    store_close(other);
    store_close(store);
    free(bytes);
}

/* Many variants, so that the table grows under them. */
static void check_many(void)
{
    struct store *store = bench_store(&bench, "many");
    size_t wrong = 0;
    struct variant v;
    struct err err;

    for (int round = 0; round < 2; round++)
        for (uint32_t width = 1; width <= 200; width++)
            for (uint32_t layer = 0; layer < 2; layer++) {
                struct variant_key key = {PART_GATE_UP, layer, width, 0, FORMAT_F32};
                wrong += store_get(store, &bench.source, &key, &v, &err) != 0 ||
                         v.matrix[0].n_out != width;
            }
    ok(wrong == 0 && built_by(store) == 400, "400 variants are each built once and found again");
    store_close(store);
}

/* Every kind of damage is noticed, removed and repaired. */
static void check_damage(void)
{
    struct variant v;
    char path[600];
    size_t n_bytes, repaired = 0, tried = 0;
    struct err err;

    struct store *store = bench_store(&bench, "torn");
    store_get(store, &bench.source, &some_key, &v, &err);
    file_of("torn", path);
    store_close(store);
    char *good = file_read(path, 1 << 20, &n_bytes, &err);
    for (size_t at = 0; at < n_bytes; at += 37, tried++) {
        char *bad = malloc(n_bytes);
        memcpy(bad, good, n_bytes);
        bad[at] ^= 4;
        file_replace(path, bad, tried % 3 == 0 ? at : n_bytes, &err);
        store = bench_store(&bench, "torn");
        bool right = store_get(store, &bench.source, &some_key, &v, &err) == 0 &&
                     memcmp(v.data, good + 512, v.n_bytes) == 0;
        /* Between the page's sum and the payload lies nothing that counts. */
        bool counted = tried % 3 == 0 || at < 224 || at >= 512;
        repaired += right && built_by(store) == (counted ? 1 : 0);
        store_close(store);
        free(bad);
    }
    ok(repaired == tried, "a torn or flipped file is built anew, wherever it was hurt");

    /* A sound file of another variant under this name. */
    struct variant_key other = some_key;
    char hex[ID128_HEX], from[600];
    other.kept = 64;
    store = bench_store(&bench, "torn");
    store_get(store, &bench.source, &other, &v, &err);
    id128_hex(variant_id(&bench.source, &other), hex);
    snprintf(from, sizeof from, "%s/torn/%.2s/%s", bench.folder, hex, hex);
    char *foreign = file_read(from, 1 << 20, &n_bytes, &err);
    file_replace(path, foreign, n_bytes, &err);
    ok(store_get(store, &bench.source, &some_key, &v, &err) == 0 && v.matrix[0].n_in == 96 &&
           memcmp(v.data, good + 512, v.n_bytes) == 0,
       "another variant's file under the name is not taken for it");
    store_close(store);
    free(foreign);
    free(good);
}

/* A file size limit stands for a full disk: the write fails halfway. */
static void check_full_disk(void)
{
    struct rlimit old, tight;
    struct variant v;
    struct err err;
    char path[600], command[700];

    struct store *store = bench_store(&bench, "full");
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    tight = old;
    tight.rlim_cur = 700;
    setrlimit(RLIMIT_FSIZE, &tight);
    int status = store_get(store, &bench.source, &some_key, &v, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    ok(status != 0 && err.code == ERR_IO && strstr(err.text, "variant store") != NULL &&
           strchr(err.text, '\n') == NULL,
       "a write that fails halfway is ERR_IO and one line");
    file_of("full", path);
    snprintf(command, sizeof command, "test -z \"$(find '%s/full' -type f)\"", bench.folder);
    ok(!file_exists(path) && system(command) == 0, "and leaves no file behind, not even a draft");
    ok(store_get(store, &bench.source, &some_key, &v, &err) == 0,
       "with room again the same store goes on");
    store_close(store);
}

static void *get_all(void *arg)
{
    struct store *store = arg;
    uintptr_t wrong = 0;
    struct variant v;

    for (uint32_t width = 1; width <= 60; width++) {
        struct variant_key key = {PART_DOWN, 0, width, 0, FORMAT_F16};
        wrong += store_get(store, &bench.source, &key, &v, NULL) != 0 || v.matrix[0].n_in != width;
    }
    return (void *)wrong;
}

static void check_builders(void)
{
    pthread_t threads[3];
    pid_t children[3];
    uintptr_t wrong = 0;
    int failed = 0, status;

    struct store *store = bench_store(&bench, "threads");
    for (int t = 0; t < 3; t++)
        pthread_create(&threads[t], NULL, get_all, store);
    for (int t = 0; t < 3; t++) {
        void *own;
        pthread_join(threads[t], &own);
        wrong += (uintptr_t)own;
    }
    ok(wrong == 0, "three threads build from one store");
    store_close(store);

    for (int c = 0; c < 3; c++) {
        children[c] = fork();
        if (children[c] == 0) {
            struct store *own = bench_store(&bench, "processes");
            uintptr_t bad = (uintptr_t)get_all(own);
            store_close(own);
            _exit(bad == 0 ? 0 : 1);
        }
    }
    for (int c = 0; c < 3; c++)
        failed += waitpid(children[c], &status, 0) != children[c] || status != 0;
    store = bench_store(&bench, "processes");
    ok(failed == 0 && (uintptr_t)get_all(store) == 0 && built_by(store) == 0,
       "three processes build into one folder, and all of it is sound");
    store_close(store);
}

#define DRAFT "abcdefabcdefabcdefabcdefabcdefab.tmp."

static void check_sweep(void)
{
    struct utimbuf long_ago = {1000000, 1000000};
    char old[600], young[600], folder[600];
    struct err err;

    snprintf(folder, sizeof folder, "%s/sweep/ab", bench.folder);
    file_make_dirs(folder, &err);
    snprintf(old, sizeof old, "%s/sweep/ab/" DRAFT "1.0", bench.folder);
    snprintf(young, sizeof young, "%s/sweep/ab/" DRAFT "2.0", bench.folder);
    file_replace(old, "x", 1, &err);
    file_replace(young, "x", 1, &err);
    utime(old, &long_ago);
    store_close(bench_store(&bench, "sweep"));
    ok(!file_exists(old) && file_exists(young),
       "opening sweeps old drafts away and leaves young ones to their builders");
}

static void check_zeros(void)
{
    struct store *store = bench_store(&bench, "zeros");
    const uint8_t *a = store_zeros(store, 0, 1000, NULL), *b = store_zeros(store, 1, 1000, NULL);
    size_t set = 0;

    for (size_t i = 0; i < 1000; i++)
        set += a[i] != 0 || b[i] != 0;
    ok(set == 0 && a != b && store_zeros(store, 0, 1000, NULL) == a,
       "each layer has zeros of its own, always the same");
    store_close(store);
}

static void check_refusals(void)
{
    char path[512];
    struct err err;

    folder_path(bench.folder, "parent.gguf", path);
    ok(store_open(path, &err) == NULL && err.code == ERR_CREATE,
       "a file where the folder should be is ERR_CREATE");
}

int main(void)
{
    log_setup(LOG_ERROR, -1);
    bench_open(&bench, &bench_small, FORMAT_F32, 31);
    check_life();
    check_many();
    check_damage();
    check_full_disk();
    check_builders();
    check_sweep();
    check_zeros();
    check_refusals();
    bench_close(&bench);
    return tap_done();
}
