/* results_fixture.h - a small study with candidates of known numbers, and folders that are removed
 * at the end; shared by the tests of results/. */
#ifndef KERF_RESULTS_FIXTURE_H
#define KERF_RESULTS_FIXTURE_H

#include "results/archive.h"
#include "space/base/err.h"
#include "tests/unit/space_fixture.h"
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Not in search.h's reach: the number of the parent's origin. */
#define FIXTURE_ORIGIN_PARENT 5

static int fixture_remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st;
    (void)kind;
    (void)ftw;
    return remove(path);
}

__attribute__((unused)) static void fixture_remove(const char *dir)
{
    nftw(dir, fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* A fresh folder below TMPDIR; exits where there is none. */
__attribute__((unused)) static void fixture_folder(char dir[128])
{
    const char *base = getenv("TMPDIR");
    snprintf(dir, 128, "%.90s/kerf-results-XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(dir) == NULL) {
        perror(dir);
        exit(1);
    }
}

__attribute__((unused)) static struct hash256 fixture_hash(const char *text)
{
    return sha256_of(text, strlen(text));
}

__attribute__((unused)) static struct id128 fixture_device(void)
{
    return id128_of(fixture_hash("device"));
}

/* Genome number `n` of the wide geometry: widths and formats vary with n, all distinct for
 * n < 1,000. */
__attribute__((unused)) static void fixture_genome(uint32_t n, struct genome *genome)
{
    static const enum format formats[] = {FORMAT_Q8_0, FORMAT_Q6_K, FORMAT_Q5_K,
                                          FORMAT_Q4_K, FORMAT_Q3_K, FORMAT_Q2_K};
    struct geometry geometry = fixture_wide();
    genome_uniform(genome, &geometry, formats[n % 6]);
    for (uint32_t l = 0, rest = n / 6; l < geometry.n_layers; l++, rest /= 4)
        genome->ffn[l].width = 1024 - 256 * (rest % 4);
    genome_canonicalize(genome, &geometry, NULL);
}

__attribute__((unused)) static struct measured fixture_measured(double median_ns, double half_ns)
{
    return (struct measured){.median_ns = median_ns,
                             .lo_ns = median_ns - half_ns,
                             .hi_ns = median_ns + half_ns,
                             .p10_ns = median_ns * 0.98,
                             .p90_ns = median_ns * 1.05,
                             .min_ns = median_ns * 0.97,
                             .ratio = 0.5,
                             .ratio_lo = 0.49,
                             .ratio_hi = 0.51,
                             .n_accepted = 20,
                             .n_rejected = 1};
}

__attribute__((unused)) static struct evaluation fixture_evaluation(const struct id128 *id,
                                                                    double kld, double decode_ns,
                                                                    double prefill_ns,
                                                                    uint64_t weight_bytes)
{
    return (struct evaluation){.candidate = *id,
                               .rung = RUNG_SEARCH,
                               .n_tokens = 2048,
                               .kld = kld,
                               .kld_se = kld * 0.02,
                               .kld_p99 = kld * 9,
                               .ppl = 4 * exp(kld),
                               .parent_ppl = 4,
                               .ppl_ratio = exp(kld),
                               .ppl_ratio_se = 0.001,
                               .top1 = 1 / (1 + kld),
                               .top1_se = 0.002,
                               .decode = fixture_measured(decode_ns, decode_ns * 0.01),
                               .prefill = fixture_measured(prefill_ns, prefill_ns * 0.01),
                               .predicted_decode_ns = decode_ns * 1.03,
                               .predicted_prefill_ns = NAN,
                               .weight_bytes = weight_bytes,
                               .kv_bytes_per_token = 2048,
                               .accuracy = NAN,
                               .accuracy_se = NAN,
                               .decode_joules = NAN,
                               .prefill_joules = NAN,
                               .seconds = 1.5,
                               .wall_s = 1700000000,
                               .device = fixture_device()};
}

/* An archive with what the master puts into meta.  NULL with a line on stdout. */
__attribute__((unused)) static struct archive *fixture_archive(const char *dir)
{
    struct err err = {0};
    struct hash256 study = fixture_hash("study"), parent = fixture_hash("parent");
    char device[ID128_HEX], hash[HASH256_HEX];
    id128_hex(fixture_device(), device);
    hash256_hex(parent, hash);
    struct archive *archive = archive_open(dir, ARCHIVE_WRITE, &study, &err);
    if (archive == NULL || archive_begin(archive, &err) != 0 ||
        archive_put_meta(archive, ARCHIVE_META_PARENT, hash, &err) != 0 ||
        archive_put_meta(archive, ARCHIVE_META_DEVICE, "cpu:test/2c", &err) != 0 ||
        archive_put_meta(archive, ARCHIVE_META_DEVICE_ID, device, &err) != 0 ||
        archive_put_meta(archive, ARCHIVE_META_KERNELS, "reference", &err) != 0 ||
        archive_put_meta(archive, ARCHIVE_META_PRIVATE_CACHE, "2097152", &err) != 0 ||
        archive_commit(archive, &err) != 0)
        printf("# fixture: %s\n", err.text);
    return archive;
}

/* Propose genome `n`.  0, or -1 with a line on stdout. */
__attribute__((unused)) static int fixture_propose(struct archive *archive, uint32_t n,
                                                   struct id128 *id)
{
    struct genome genome;
    struct err err = {0};
    char text[GENOME_TEXT_MAX];
    struct candidate candidate = {.origin = n % 5, .n_levels = 3, .levels = {1, 2, 3}};
    struct hash256 parent = fixture_hash("parent");
    fixture_genome(n, &genome);
    genome_format(&genome, text);
    candidate.id = genome_id(&genome, &parent);
    int status = archive_put_candidate(archive, &candidate, text, &err);
    if (status != 0)
        printf("# propose %u: %s\n", n, err.text);
    *id = candidate.id;
    return status;
}

/* Propose genome `n` and enter its evaluation. */
__attribute__((unused)) static struct id128 fixture_enter(struct archive *archive, uint32_t n,
                                                          double kld, double decode_ns,
                                                          double prefill_ns, uint64_t bytes,
                                                          enum rung rung)
{
    struct id128 id = {{0}};
    struct err err = {0};
    if (fixture_propose(archive, n, &id) == 0) {
        struct evaluation evaluation = fixture_evaluation(&id, kld, decode_ns, prefill_ns, bytes);
        evaluation.rung = rung;
        if (archive_put_evaluation(archive, &evaluation, "{}", &err) != 0)
            printf("# enter %u: %s\n", n, err.text);
    }
    return id;
}

#endif
