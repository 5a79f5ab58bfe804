/* bench_order.c - what the order of pruning and quantizing is worth (compress_order.h): KL
 * divergence to the parent on held-out tokens when every FFN is narrowed alike and kept in one
 * format, attention and embedding as the parent has them.  The ratio of the two orders is paired by
 * sequence, its standard error by the delta method.  At full width nothing is pruned: there the
 * orders differ only in that one rounds columns as the parent has them, the other best first.
 * Quality only: nothing is timed.
 *
 *   bench_order MODEL.gguf CALIBRATION.txt HELDOUT.txt [CALIBRATION_TOKENS] */
#include "evaluator/compression/stitch.h"
#include "space/base/err.h"
#include "tests/bench/bench_model.h"
#include "tests/bench/bench_program.h"
#include "tests/bench/bench_variants.h"
#include "tests/bench/divergence.h"

#include <stdio.h>
#include <stdlib.h>

#define CALIBRATION_TOKENS 65536
#define QUALITY_TOKENS     16384
#define THREADS            1

struct bench {
    struct bench_model m;
    struct bench_variants v;
    struct variant_source source[N_COMPRESS_ORDERS]; /* v.source in each order */
};

static int open_all(struct bench *b, int argc, char **argv, struct err *err)
{
    struct bench_model_plan plan = {
        .n_calibration = CALIBRATION_TOKENS, .n_quality = QUALITY_TOKENS, .n_threads = THREADS};

    bench_model_plan_read(&plan, argc, argv);
    if (bench_model_open(&b->m, &plan, err) != 0 ||
        bench_variants_open(&b->v, b->m.parent, b->m.calibration, b->m.folder, err) != 0)
        return -1;
    for (int o = 0; o < N_COMPRESS_ORDERS; o++) {
        b->source[o] = b->v.source;
        b->source[o].compress_order = (enum compress_order)o;
    }
    return 0;
}

static int bench_one(struct bench *b, uint32_t width, enum format format, struct genome *genome,
                     struct err *err)
{
    struct divergence d[N_COMPRESS_ORDERS];

    parent_genome(b->m.parent, genome);
    for (uint32_t l = 0; l < genome->n_layers; l++) {
        genome->ffn[l].width = width;
        genome->ffn[l].gate_up = genome->ffn[l].down = format;
        genome->ffn[l].act = act_format_of(format);
    }
    if (genome_canonicalize(genome, parent_geometry(b->m.parent), err) != 0)
        return -1;
    for (int o = 0; o < N_COMPRESS_ORDERS; o++)
        if (divergence_of_genome(&b->m, &b->source[o], b->v.store, genome, DIVERGENCE_ALL, &d[o],
                                 err) != 0)
            return -1;
    struct ratio ratio = divergence_ratio(&d[COMPRESS_QUANTIZE_PRUNE], &d[COMPRESS_PRUNE_QUANTIZE]);
    printf("| %u of %u | %s | %.4g +- %.2g | %.4g +- %.2g | %.2f +- %.2f |\n", width,
           parent_geometry(b->m.parent)->d_ff, format_name(format), d[0].kld, d[0].kld_se, d[1].kld,
           d[1].kld_se, ratio.value, ratio.se);
    fflush(stdout);
    return 0;
}

static int bench_all(struct bench *b, struct err *err)
{
    static const enum format formats[] = {FORMAT_Q2_K, FORMAT_Q3_K, FORMAT_Q4_K, FORMAT_Q6_K};
    uint32_t d_ff = parent_geometry(b->m.parent)->d_ff;
    struct genome *genome = malloc(sizeof *genome);
    int status = genome != NULL ? 0 : -1;

    printf("| FFN | format | prune-quantize, KLD +- SE | quantize-prune, KLD +- SE | ratio |\n"
           "|---|---|---|---|---|\n");
    for (uint32_t quarters = 4; quarters >= 2 && status == 0; quarters--)
        for (size_t f = 0; f < sizeof formats / sizeof formats[0] && status == 0; f++)
            status = bench_one(b, d_ff * quarters / 4, formats[f], genome, err);
    free(genome);
    return status;
}

static void close_all(struct bench *b)
{
    bench_variants_close(&b->v);
    bench_model_close(&b->m);
}

int main(int argc, char **argv)
{
    static const struct bench_program program = {.name = "bench_order",
                                                 .more = "[TOKENS]",
                                                 .size = sizeof(struct bench),
                                                 .open = open_all,
                                                 .run = bench_all,
                                                 .close = close_all};

    return bench_program_run(&program, argc, argv);
}
