/* bench_stand_in.c - whether latency hangs on what weights say: candidates with their compressed
 * weights, each timed in turn with the same candidate on stand-ins (stand_in.h), all cores pinned.
 *
 *   bench_stand_in MODEL.gguf CALIBRATION.txt HELDOUT.txt [CALIBRATION_TOKENS]
 *
 * The ratio is stand-in over compressed, median of the rounds with its 95 % interval; in the last
 * line the mean over the candidates and the standard deviation of one. */
#include "evaluator/compression/stitch.h"
#include "latency_model/stand.h"
#include "latency_model/stand_in.h"
#include "space/base/err.h"
#include "space/base/rng.h"
#include "space/base/stats.h"
#include "space/space.h"
#include "tests/bench/bench_model.h"
#include "tests/bench/bench_program.h"
#include "tests/bench/bench_variants.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define CALIBRATION_TOKENS 4096
#define QUALITY_TOKENS     512
#define N_CANDIDATES       12

static const struct workload workloads[2] = {{WORKLOAD_DECODE, 32, 0, 1},
                                             {WORKLOAD_PREFILL, 128, 0, 1}};

struct bench {
    struct stand stand;
    struct bench_model m;
    struct bench_variants v;
    struct space space;
    struct genome genome[N_CANDIDATES];
    int32_t tokens[128];
    struct probe_result result[2];
};

static int open_all(struct bench *b, int argc, char **argv, struct err *err)
{
    struct bench_model_plan plan = {
        .n_calibration = CALIBRATION_TOKENS, .n_quality = QUALITY_TOKENS, .n_threads = 1};

    bench_model_plan_read(&plan, argc, argv);
    if (stand_open(&b->stand, 0, err) != 0 || bench_model_open(&b->m, &plan, err) != 0)
        return -1;
    return bench_variants_open(&b->v, b->m.parent, b->m.calibration, b->m.folder, err);
}

/* Any widths and formats, in the parent's own basis. */
static int draw_genomes(struct bench *b, struct rng *rng, struct err *err)
{
    const struct geometry *g = parent_geometry(b->m.parent);
    struct space_limits limits;

    space_default_limits(&limits, g, PROFILE_GGUF_HETERO);
    limits.hidden[0] = 1;
    limits.n_hidden = 1;
    if (space_init(&b->space, g, &limits, err) != 0)
        return -1;
    for (int i = 0; i < N_CANDIDATES; i++) {
        uint8_t levels[SPACE_MAX_GENES];
        for (uint32_t k = 0; k < b->space.n_genes; k++)
            levels[k] = (uint8_t)rng_below(rng, b->space.gene[k].n_levels);
        space_genome(&b->space, levels, &b->genome[i]);
    }
    return 0;
}

/* log of the ratio. */
static int compare(struct bench *b, const struct stand_pair *pair, int w, struct rng *rng,
                   double *ratio, struct err *err)
{
    struct probe_plan plan = {.warmup_max = 5, .rounds_min = 40, .rounds_max = 200, .ci = 0.004};

    if (stand_probe(&b->stand, pair, &workloads[w], &plan, rng, b->result, err) != 0)
        return -1;
    const struct probe_result *r = &b->result[1];
    printf("  %9.4g us %7.4f +-%.4f%s", r->median_ns * 1e-3, r->ratio_mid,
           (r->ratio_hi - r->ratio_lo) / 2, r->noisy ? " noisy" : "");
    *ratio = log(r->ratio_mid);
    return 0;
}

static int run_all(struct bench *b, struct err *err)
{
    const struct geometry *g = parent_geometry(b->m.parent);
    struct rng rng = rng_make(1, 0);
    double ratio[2][N_CANDIDATES];
    int status = draw_genomes(b, &rng, err);
    struct stand_in *weights =
        status == 0 ? stand_in_create(g, b->genome, N_CANDIDATES, err) : NULL;

    for (uint32_t t = 0; t < 128; t++)
        b->tokens[t] = (int32_t)rng_below(&rng, g->n_vocab);
    printf("%s, %s kernels, %u threads\n", b->stand.device.name, b->stand.kernels->name,
           b->stand.n_threads);
    printf("   MB      tg32@b1  stand-in / compressed      pp128@b1  stand-in / compressed\n");
    status = weights != NULL ? 0 : -1;
    for (int i = 0; i < N_CANDIDATES && status == 0; i++) {
        struct model *real = stitch_model(&b->v.source, b->v.store, &b->genome[i], err);
        struct model *other = real != NULL ? stand_in_model(weights, &b->genome[i], err) : NULL;
        struct stand_pair pair = {real, other, b->tokens};
        status = other != NULL ? 0 : -1;
        if (status == 0)
            printf("%5.2f", (double)model_weight_bytes(real) * 1e-6);
        for (int w = 0; w < 2 && status == 0; w++)
            status = compare(b, &pair, w, &rng, &ratio[w][i], err);
        printf("\n");
        fflush(stdout);
        model_destroy(other);
        model_destroy(real);
    }
    stand_in_destroy(weights);
    for (int w = 0; w < 2 && status == 0; w++)
        printf("%s mean ratio %.4f, standard deviation %.1f %%\n", w == 0 ? "decode " : "prefill",
               exp(stats_mean(ratio[w], N_CANDIDATES)), 100 * stats_sd(ratio[w], N_CANDIDATES));
    return status;
}

static void close_all(struct bench *b)
{
    bench_variants_close(&b->v);
    bench_model_close(&b->m);
    stand_close(&b->stand);
}

int main(int argc, char **argv)
{
    static const struct bench_program program = {.name = "bench_stand_in",
                                                 .more = "[CALIBRATION_TOKENS]",
                                                 .size = sizeof(struct bench),
                                                 .open = open_all,
                                                 .run = run_all,
                                                 .close = close_all};

    return bench_program_run(&program, argc, argv);
}
