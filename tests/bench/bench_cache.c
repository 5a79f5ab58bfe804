/* bench_cache.c - what a KV cache in blocks and activations in 8 bits cost: KL divergence to the
 * parent on held-out tokens, for weights as they are and in a format for all units (embedding and
 * head stay), each with every cache and both kinds of activation.  The ratio is to the same weights
 * with a cache in F16 and float activations, on the same tokens, its error clustered by sequence.
 * Quality only: nothing is timed, nothing is random.
 *
 *   bench_cache MODEL.gguf CALIBRATION.txt HELDOUT.txt [CALIBRATION_TOKENS] */
#include "space/base/err.h"
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
};

static int open_all(struct bench *b, int argc, char **argv, struct err *err)
{
    struct bench_model_plan plan = {
        .n_calibration = CALIBRATION_TOKENS, .n_quality = QUALITY_TOKENS, .n_threads = THREADS};

    bench_model_plan_read(&plan, argc, argv);
    return bench_model_open(&b->m, &plan, err) == 0
               ? bench_variants_open(&b->v, b->m.parent, b->m.calibration, b->m.folder, err)
               : -1;
}

/* The parent with its units in `format`, or as it is (FORMAT_NONE). */
static int set_genome(const struct bench *b, enum format format, enum format kv,
                      enum act_format act, struct genome *genome, struct err *err)
{
    struct genome own;

    parent_genome(b->m.parent, &own);
    *genome = own;
    if (format != FORMAT_NONE) {
        genome_uniform(genome, parent_geometry(b->m.parent), format);
        genome->embd = own.embd;
        genome->head = own.head;
    }
    genome->kv = kv;
    for (uint32_t l = 0; l < genome->n_layers; l++)
        genome->attn[l].act = genome->ffn[l].act = act;
    return genome_canonicalize(genome, parent_geometry(b->m.parent), err);
}

/* Rows of one format of weights. */
static int bench_weights(struct bench *b, enum format format, struct genome *genome,
                         struct err *err)
{
    static const enum format caches[] = {FORMAT_F16, FORMAT_Q8_0, FORMAT_Q4_0};
    const char *name = format == FORMAT_NONE ? "as they are" : format_name(format);
    int n_acts = format == FORMAT_NONE || !format_is_quantized(format) ? 1 : N_ACT_FORMATS;
    struct divergence base, d;

    for (int act = ACT_FLOAT; act < n_acts; act++) {
        for (size_t k = 0; k < sizeof caches / sizeof caches[0]; k++) {
            if (set_genome(b, format, caches[k], (enum act_format)act, genome, err) != 0 ||
                divergence_of_genome(&b->m, &b->v.source, b->v.store, genome, DIVERGENCE_ALL, &d,
                                     err) != 0)
                return -1;
            if (act == ACT_FLOAT && k == 0)
                base = d;
            printf("%-12s %-5s %-5s  %10.4g +- %-8.2g", name, act_format_name((enum act_format)act),
                   format_name(genome->kv), d.kld, d.kld_se);
            if (base.kld > 1e-9) {
                struct ratio ratio = divergence_ratio(&d, &base);
                printf("  %8.4g +- %.2g", ratio.value, ratio.se);
            }
            printf("\n");
            fflush(stdout);
        }
    }
    return 0;
}

static int bench_all(struct bench *b, struct err *err)
{
    static const enum format formats[] = {FORMAT_NONE, FORMAT_Q8_0, FORMAT_Q4_K};
    struct genome *genome = malloc(sizeof *genome);
    int status = genome != NULL ? 0 : -1;

    if (status != 0)
        err_set(err, ERR_MEMORY, "bench: out of memory");
    bench_model_describe(&b->m);
    printf("\n%-12s %-5s %-5s  %-22s  %s\n", "weights", "act", "cache", "KLD, nats/token",
           "ratio to a16, F16");
    for (size_t i = 0; i < sizeof formats / sizeof formats[0] && status == 0; i++)
        status = bench_weights(b, formats[i], genome, err);
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
    static const struct bench_program program = {.name = "bench_cache",
                                                 .more = "[TOKENS]",
                                                 .size = sizeof(struct bench),
                                                 .open = open_all,
                                                 .run = bench_all,
                                                 .close = close_all};

    return bench_program_run(&program, argc, argv);
}
