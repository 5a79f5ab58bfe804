/* bench_bias.c - what a bias of o and down is worth: KL divergence to the parent on held-out
 * tokens, without   weights ordered, solved and rounded with second moments, dropped units just
 * gone with      the same with covariances, the bias makes up for the mean; a dropped unit leaves
 * its mean output behind for every layer narrower (in the parent's own format), for every layer in
 * a coarse format (at full width), and for each unit dropped alone.  Ratios are with over without
 * on the same tokens, with standard errors clustered by sequence: below 1 the bias pays.  Over the
 * units the ratio is a geometric mean, its error that of the mean of the logarithms.  Quality only:
 * nothing is timed, nothing is random.
 *
 *   bench_bias MODEL.gguf CALIBRATION.txt HELDOUT.txt [CALIBRATION_TOKENS] */
#include "space/base/err.h"
#include "tests/bench/bench_program.h"
#include "tests/bench/bench_variants.h"
#include "tests/bench/divergence.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define CALIBRATION_TOKENS 65536
#define QUALITY_TOKENS     16384
#define THREADS            2

struct bench {
    struct bench_model m;
    struct bench_variants v[2]; /* without, with */
};

static int open_all(struct bench *b, int argc, char **argv, struct err *err)
{
    struct bench_model_plan plan = {
        .n_calibration = CALIBRATION_TOKENS, .n_quality = QUALITY_TOKENS, .n_threads = THREADS};

    bench_model_plan_read(&plan, argc, argv);
    if (bench_model_open(&b->m, &plan, err) != 0 ||
        bench_variants_open(&b->v[0], b->m.parent, b->m.calibration, b->m.folder, err) != 0 ||
        keep_order_init_centred(&b->v[1].order, b->m.parent, b->m.calibration, err) != 0)
        return -1;
    return bench_variants_open_ordered(&b->v[1], b->m.parent, b->m.calibration, b->m.folder, err);
}

/* One row: the genome without biases, and with them. */
static int bench_genome(struct bench *b, const char *what, struct genome *genome,
                        struct ratio *ratio, struct err *err)
{
    struct divergence d[2];

    for (int with = 0; with < 2; with++) {
        genome->bias = with;
        if (genome_canonicalize(genome, parent_geometry(b->m.parent), err) != 0 ||
            divergence_of_genome(&b->m, &b->v[with].source, b->v[with].store, genome,
                                 DIVERGENCE_ALL, &d[with], err) != 0)
            return -1;
    }
    *ratio = divergence_ratio(&d[1], &d[0]);
    printf("%-24s  %9.4g +- %-7.2g  %9.4g +- %-7.2g  %7.3f +- %.3f\n", what, d[0].kld, d[0].kld_se,
           d[1].kld, d[1].kld_se, ratio->value, ratio->se);
    fflush(stdout);
    return 0;
}

static int bench_widths(struct bench *b, struct genome *genome, struct err *err)
{
    static const uint32_t percent[] = {75, 50, 25};
    const struct geometry *g = parent_geometry(b->m.parent);
    struct ratio ratio;
    char name[64];

    for (size_t i = 0; i < sizeof percent / sizeof percent[0]; i++) {
        parent_genome(b->m.parent, genome);
        for (uint32_t l = 0; l < g->n_layers; l++)
            genome->ffn[l].width = g->d_ff * percent[i] / 100;
        snprintf(name, sizeof name, "FFN %u of %u", genome->ffn[0].width, g->d_ff);
        if (bench_genome(b, name, genome, &ratio, err) != 0)
            return -1;
    }
    parent_genome(b->m.parent, genome);
    for (uint32_t l = 0; l < g->n_layers; l++)
        genome->attn[l].kv_groups = (g->n_kv_heads + 1) / 2;
    snprintf(name, sizeof name, "KV groups %u of %u", genome->attn[0].kv_groups, g->n_kv_heads);
    return bench_genome(b, name, genome, &ratio, err);
}

static int bench_formats(struct bench *b, struct genome *genome, struct err *err)
{
    static const enum format formats[] = {FORMAT_Q2_K, FORMAT_Q3_K, FORMAT_Q4_0, FORMAT_Q4_K};
    struct ratio ratio;
    struct genome own;
    char name[64];

    parent_genome(b->m.parent, &own);
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        /* The embedding and the head stay: no bias can make up for them. */
        genome_uniform(genome, parent_geometry(b->m.parent), formats[i]);
        genome->embd = own.embd;
        genome->head = own.head;
        snprintf(name, sizeof name, "all units in %s", format_name(formats[i]));
        if (bench_genome(b, name, genome, &ratio, err) != 0)
            return -1;
    }
    return 0;
}

static int bench_drops(struct bench *b, struct genome *genome, struct err *err)
{
    uint32_t n_layers = parent_geometry(b->m.parent)->n_layers, n[2] = {0};
    double sum[2] = {0}, square[2] = {0};
    char name[64];

    for (uint32_t u = 0; u < 2 * n_layers; u++) {
        struct ratio ratio;
        uint32_t ffn = u % 2;
        parent_genome(b->m.parent, genome);
        if (ffn)
            genome->ffn[u / 2].width = 0;
        else
            genome->attn[u / 2].kv_groups = 0;
        snprintf(name, sizeof name, "layer %u without %s", u / 2, ffn ? "FFN" : "attention");
        if (bench_genome(b, name, genome, &ratio, err) != 0)
            return -1;
        sum[ffn] += log(ratio.value);
        square[ffn] += log(ratio.value) * log(ratio.value);
        n[ffn]++;
    }
    printf("\n");
    for (int kind = 0; kind < 3; kind++) {
        static const char *const names[] = {"attention dropped", "FFN dropped", "either dropped"};
        double s = kind < 2 ? sum[kind] : sum[0] + sum[1];
        double q = kind < 2 ? square[kind] : square[0] + square[1];
        double count = kind < 2 ? n[kind] : n[0] + n[1], mean = s / count;
        double se = sqrt((q / count - mean * mean) / (count - 1));
        printf("%-24s  geometric mean over %2.0f units: %.3f +- %.3f\n", names[kind], count,
               exp(mean), exp(mean) * se);
    }
    return 0;
}

static int bench_all(struct bench *b, struct err *err)
{
    struct genome *genome = malloc(sizeof *genome);

    if (genome == NULL) {
        err_set(err, ERR_MEMORY, "bench: out of memory");
        return -1;
    }
    bench_model_describe(&b->m);
    printf("%-24s  %20s  %20s  %15s\n", "KLD, nats/token +- SE", "without", "with bias",
           "with/without");
    int status = bench_widths(b, genome, err) == 0 && bench_formats(b, genome, err) == 0 &&
                         bench_drops(b, genome, err) == 0
                     ? 0
                     : -1;
    free(genome);
    return status;
}

static void close_all(struct bench *b)
{
    bench_variants_close(&b->v[0]);
    bench_variants_close(&b->v[1]);
    bench_model_close(&b->m);
}

int main(int argc, char **argv)
{
    static const struct bench_program program = {.name = "bench_bias",
                                                 .more = "[TOKENS]",
                                                 .size = sizeof(struct bench),
                                                 .open = open_all,
                                                 .run = bench_all,
                                                 .close = close_all};

    return bench_program_run(&program, argc, argv);
}
