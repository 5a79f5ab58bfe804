/* fuzz_driver.c - seeded mutations of a valid input, without libFuzzer.
 *
 *     fuzz_gguf [RUNS [SEED]]       mutations of the sample (default 10000 from seed 1)
 *     fuzz_gguf FILE...             the files as they are, to repeat a finding
 *
 * Run i of a seed is the same everywhere.  The number of the run is kept in a variable that a core
 * dump shows, and with KERF_FUZZ_KEEP=FILE every input is written there before it is tried, so the
 * file holds the one that stopped the process. */
#include "tests/fuzz/fuzz.h"

#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/rng.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GROWTH 64 /* bytes that a mutated input may be longer than the sample */

/* Numbers that sit at the edges of counts, lengths and offsets. */
/* clang-format off */
static const uint64_t edges[] = {
    0, 1, 2, 3, 4, 7, 8, 9, 12, 31, 32, 63, 64, 65, 255, 256, 65535, 65536, INT32_MAX,
    (uint64_t)1 << 31, UINT32_MAX, (uint64_t)1 << 32, (uint64_t)1 << 60, (uint64_t)1 << 61,
    INT64_MAX, (uint64_t)1 << 63, UINT64_MAX - 31, UINT64_MAX - 7, UINT64_MAX - 1, UINT64_MAX,
};
/* clang-format on */

static volatile uint64_t current_run;

/* Overwrite up to 8 bytes at a place with an edge, or with what is there plus a little. */
static void mutate_word(struct rng *rng, uint8_t *data, size_t n)
{
    size_t width = (size_t)1 << rng_below(rng, 4), at = rng_below(rng, n);
    uint64_t value = 0;

    if (width > n - at)
        width = n - at;
    if (rng_below(rng, 2) == 0) {
        value = edges[rng_below(rng, sizeof edges / sizeof edges[0])];
    } else {
        memcpy(&value, data + at, width);
        value += rng_below(rng, 65) - 32;
    }
    memcpy(data + at, &value, width);
}

/* Copy, move or remove a stretch; the new length. */
static size_t mutate_stretch(struct rng *rng, uint8_t *data, size_t n, size_t room)
{
    size_t from = rng_below(rng, n), length = 1 + rng_below(rng, GROWTH), to = rng_below(rng, n);

    if (length > n - from)
        length = n - from;
    switch (rng_below(rng, 3)) {
    case 0: /* copy over what is there */
        if (length > n - to)
            length = n - to;
        memmove(data + to, data + from, length);
        return n;
    case 1: /* insert a copy in place */
        if (n + length > room)
            return n;
        memmove(data + from + length, data + from, n - from);
        return n + length;
    default:
        memmove(data + from, data + from + length, n - from - length);
        return n - length;
    }
}

/* One to four changes; the new length. */
static size_t mutate(struct rng *rng, uint8_t *data, size_t n, size_t room)
{
    for (uint64_t changes = 1 + rng_below(rng, 4); changes > 0 && n > 0; changes--) {
        switch (rng_below(rng, 8)) {
        case 0:
            n = rng_below(rng, n); /* cut */
            break;
        case 1:
            n = mutate_stretch(rng, data, n, room);
            break;
        case 2:
        case 3:
            data[rng_below(rng, n)] ^= (uint8_t)(1u << rng_below(rng, 8));
            break;
        case 4:
            data[rng_below(rng, n)] = (uint8_t)rng_u32(rng);
            break;
        default:
            mutate_word(rng, data, n);
            break;
        }
    }
    return n;
}

static int run_mutations(uint64_t n_runs, uint64_t seed)
{
    const char *keep = getenv("KERF_FUZZ_KEEP");
    size_t n_sample;
    uint8_t *sample = fuzz_sample(&n_sample);
    uint8_t *data = malloc(n_sample + GROWTH);

    if (sample == NULL || data == NULL) {
        fprintf(stderr, "out of memory\n");
        free(sample);
        free(data);
        return 1;
    }
    LLVMFuzzerTestOneInput(sample, n_sample);
    for (uint64_t run = 0; run < n_runs; run++) {
        struct rng rng = rng_make(seed, run);
        current_run = run;
        memcpy(data, sample, n_sample);
        size_t n = mutate(&rng, data, n_sample, n_sample + GROWTH);
        if (keep != NULL && file_replace(keep, data, n, NULL) != 0)
            fprintf(stderr, "cannot write %s\n", keep);
        LLVMFuzzerTestOneInput(data, n);
    }
    printf("%llu mutations of %zu bytes from seed %llu: nothing found\n",
           (unsigned long long)n_runs, n_sample, (unsigned long long)seed);
    free(sample);
    free(data);
    return 0;
}

static int run_file(const char *path)
{
    struct err err = {0};
    size_t n = 0;
    char *data = file_read(path, (size_t)1 << 30, &n, &err);

    if (data == NULL) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    LLVMFuzzerTestOneInput((const uint8_t *)data, n);
    printf("%s: nothing found\n", path);
    free(data);
    return 0;
}

int main(int argc, char **argv)
{
    int status = 0;

    if (argc < 2 || isdigit((unsigned char)argv[1][0]))
        return run_mutations(argc > 1 ? strtoull(argv[1], NULL, 10) : 10000,
                             argc > 2 ? strtoull(argv[2], NULL, 10) : 1);
    for (int i = 1; i < argc; i++)
        status |= run_file(argv[i]);
    return status;
}
