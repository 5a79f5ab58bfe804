/* bench_quantize.c - what rounding with feedback is worth: KL divergence to the parent on held-out
 * tokens with every matrix in one format, kerf's quantizer (feedback.h) against quantizers that
 * know less (rounding.h).  Ratios are kerf's divergence over the other's on the same tokens, with
 * standard errors clustered by sequence: below 1 kerf is better.  What is rounded:
 *   layers, a16   the matrices of the layers, activations in float: the weights alone
 *   layers, a8    the same, activations in 8 bits as kernels take them: this rounding is the same
 * for all quantizers, and from 5 bits a weight on it is most of what is left whole, a8 embedding
 * and head too Quality only: nothing is timed, nothing is random.
 *
 *   bench_quantize MODEL.gguf CALIBRATION.txt HELDOUT.txt [--separator TEXT] [FORMAT...]
 *
 * All quantized formats when none is named. */
#include "space/base/err.h"
#include "tests/bench/bench_variants.h"
#include "tests/bench/divergence.h"
#include "tests/bench/rounding.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALIBRATION_TOKENS 65536
#define QUALITY_TOKENS     16384
#define THREADS            2
#define SAME               1e-12 /* nats: the rounding of the sums */

/* What is rounded. */
enum scope { SCOPE_FLOAT, SCOPE_LAYERS, SCOPE_WHOLE, N_SCOPES };

static const char *const scope_names[N_SCOPES] = {"layers, a16", "layers, a8", "whole, a8"};

struct bench {
    struct bench_model m;
    struct bench_variants v;
    bool wanted[N_FORMATS];
};

static int open_all(struct bench *b, char **argv, const char *separator, struct err *err)
{
    struct bench_model_plan plan = {.separator = separator,
                                    .n_calibration = CALIBRATION_TOKENS,
                                    .n_quality = QUALITY_TOKENS,
                                    .n_threads = THREADS};

    bench_model_plan_read(&plan, 4, argv);
    return bench_model_open(&b->m, &plan, err) == 0
               ? bench_variants_open(&b->v, b->m.parent, b->m.calibration, b->m.folder, err)
               : -1;
}

/* kerf's own. */
static int measure_kerf(struct bench *b, enum format format, enum scope scope, struct divergence *d,
                        struct err *err)
{
    const struct geometry *g = parent_geometry(b->m.parent);
    struct genome *own = malloc(sizeof *own), *genome = malloc(sizeof *genome);
    int status = -1;

    if (own == NULL || genome == NULL) {
        err_set(err, ERR_MEMORY, "bench: out of memory");
        goto done;
    }
    parent_genome(b->m.parent, own);
    genome_uniform(genome, g, format);
    for (uint32_t l = 0; l < g->n_layers && scope == SCOPE_FLOAT; l++)
        genome->attn[l].act = genome->ffn[l].act = ACT_FLOAT;
    if (scope != SCOPE_WHOLE) {
        genome->embd = own->embd;
        genome->head = own->head;
    }
    if (genome_canonicalize(genome, g, err) == 0)
        status =
            divergence_of_genome(&b->m, &b->v.source, b->v.store, genome, DIVERGENCE_ALL, d, err);
done:
    free(genome);
    free(own);
    return status;
}

static int measure_rounded(struct bench *b, enum rounding rounding, enum format format,
                           enum scope scope, struct divergence *d, struct err *err)
{
    struct rounded *rounded =
        rounded_create(&b->m, rounding, format, scope == SCOPE_FLOAT ? ACT_FLOAT : ACT_Q8,
                       scope == SCOPE_WHOLE, err);

    if (rounded == NULL)
        return -1;
    int status = divergence_measure(&b->m, rounded_model(rounded), DIVERGENCE_ALL, d, err);
    rounded_destroy(rounded);
    return status;
}

static int bench_format(struct bench *b, enum format format, enum scope scope, struct err *err)
{
    struct divergence kerf, other;

    if (measure_kerf(b, format, scope, &kerf, err) != 0)
        return -1;
    printf("%-6s  %-11s  %9.3g +- %-7.2g", format_name(format), scope_names[scope], kerf.kld,
           kerf.kld_se);
    for (int r = 0; r < N_ROUNDINGS; r++) {
        if (measure_rounded(b, (enum rounding)r, format, scope, &other, err) != 0)
            return -1;
        struct ratio ratio = divergence_ratio(&kerf, &other);
        if (other.kld > SAME)
            printf("  %7.3f +- %.3f", ratio.value, ratio.se);
        else
            printf("  %16s", "same");
    }
    printf("\n");
    fflush(stdout);
    return 0;
}

static int bench_all(struct bench *b, struct err *err)
{

    bench_model_describe(&b->m);
    printf("%-6s  %-11s  %20s", "format", "what", "KLD, nats/token +-SE");
    for (int r = 0; r < N_ROUNDINGS; r++) {
        char head[32];
        snprintf(head, sizeof head, "kerf/%s", rounding_name((enum rounding)r));
        printf("  %16s", head);
    }
    printf("\n");
    for (int scope = 0; scope < N_SCOPES; scope++)
        for (int f = 0; f < N_FORMATS; f++)
            if (b->wanted[f] && bench_format(b, (enum format)f, (enum scope)scope, err) != 0)
                return -1;
    return 0;
}

static void close_all(struct bench *b)
{
    bench_variants_close(&b->v);
    bench_model_close(&b->m);
}

/* Formats from argv[first] on. */
static int parse_formats(struct bench *b, int argc, char **argv, int first)
{
    for (int f = 0; f < N_FORMATS; f++)
        b->wanted[f] = first == argc && format_is_quantized((enum format)f);
    for (int i = first; i < argc; i++) {
        enum format format = format_parse(argv[i]);
        if (format == FORMAT_NONE)
            return -1;
        b->wanted[format] = true;
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct bench *bench = calloc(1, sizeof *bench);
    struct err err = {0};
    bool separated = argc > 5 && strcmp(argv[4], "--separator") == 0;

    if (argc < 4 || bench == NULL || parse_formats(bench, argc, argv, separated ? 6 : 4) != 0) {
        fprintf(stderr, "usage: bench_quantize MODEL.gguf CALIBRATION HELDOUT [--separator TEXT] "
                        "[FORMAT...]\n");
        free(bench);
        return 2;
    }
    int status =
        open_all(bench, argv, separated ? argv[5] : NULL, &err) == 0 && bench_all(bench, &err) == 0
            ? 0
            : 1;
    if (status != 0)
        fprintf(stderr, "bench_quantize: %s\n", err.text);
    close_all(bench);
    free(bench);
    return status;
}
