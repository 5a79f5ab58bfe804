/* bench_polish.c - what polish.h is worth: KL divergence to the parent on held-out tokens before
 * and after, paired by sequence, for several models and several settings of alpha and drift.
 * Quality only: nothing is timed.
 *
 *   bench_polish MODEL.gguf CALIBRATION.txt HELDOUT.txt [CALIBRATION_TOKENS [POINTS [PLAN ...]]]
 *
 * POINTS are digits, 024 for the first, third and fifth of the table below; PLAN is
 * ALPHA,DRIFT,RIDGE. */
#include "evaluator/compression/polish.h"
#include "evaluator/compression/stitch.h"
#include "space/base/err.h"
#include "tests/bench/bench_program.h"
#include "tests/bench/bench_variants.h"
#include "tests/bench/divergence.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALIBRATION_TOKENS 16384
#define QUALITY_TOKENS     8192
#define THREADS            1

struct bench {
    struct bench_model m;
    struct token_set text;
    struct bench_variants v;
    struct polish_plan plan[16];
    int n_plans;
    const char *points; /* see above; NULL: all */
};

/* The same in every layer; a width of 0 is the parent's. */
struct point {
    enum format format;
    uint32_t width, kv_groups, heads_per_group;
    uint32_t dropped; /* layers without an FFN, from the middle on */
};

static int open_all(struct bench *b, int argc, char **argv, struct err *err)
{
    struct bench_model_plan plan = {
        .n_calibration = CALIBRATION_TOKENS, .n_quality = QUALITY_TOKENS, .n_threads = THREADS};

    bench_model_plan_read(&plan, argc, argv);
    b->plan[0] =
        (struct polish_plan){.alpha = POLISH_ALPHA, .drift = POLISH_DRIFT, .ridge = POLISH_RIDGE};
    b->n_plans = 1;
    b->points = argc > 5 ? argv[5] : NULL;
    for (int i = 6; i < argc && i - 6 < 16; i++) {
        struct polish_plan *wanted = &b->plan[i - 6];
        b->n_plans = i - 5;
        if (sscanf(argv[i], "%lf,%lf,%lf", &wanted->alpha, &wanted->drift, &wanted->ridge) != 3) {
            err_set(err, ERR_USAGE, "%s: ALPHA,DRIFT,RIDGE", argv[i]);
            return -1;
        }
    }
    if (bench_model_open(&b->m, &plan, err) != 0 ||
        token_set_read(&b->text, b->m.tokenizer, plan.calibration, "", 512, plan.n_calibration, 2,
                       err) != 0)
        return -1;
    return bench_variants_open(&b->v, b->m.parent, b->m.calibration, b->m.folder, err);
}

static void point_genome(const struct bench *b, const struct point *point, struct genome *genome)
{
    const struct geometry *g = parent_geometry(b->m.parent);

    genome_uniform(genome, g, point->format);
    for (uint32_t l = 0; l < g->n_layers; l++) {
        if (point->width > 0)
            genome->ffn[l].width = point->width;
        if (point->kv_groups > 0)
            genome->attn[l].kv_groups = point->kv_groups;
        if (point->heads_per_group > 0)
            genome->attn[l].heads_per_group = point->heads_per_group;
        if (l >= g->n_layers / 2 && l < g->n_layers / 2 + point->dropped)
            genome->ffn[l].width = 0;
    }
}

static int bench_plan(struct bench *b, const char *what, const struct genome *genome,
                      const struct model *model, const struct divergence *before,
                      const struct polish_plan *plan, struct err *err)
{
    struct polished polished;
    struct divergence after;

    if (polish_model(&polished, &b->v.source, genome, model, b->m.kernels, b->m.team, &b->text,
                     plan, err) != 0)
        return -1;
    int status = divergence_measure(&b->m, polished.model, DIVERGENCE_ALL, &after, err);
    if (status == 0) {
        struct ratio ratio = divergence_ratio(&after, before);
        printf("| %s | %g | %g | %g | %.4g +- %.2g | %.4g +- %.2g | %.3f +- %.3f |\n", what,
               plan->alpha, plan->drift, plan->ridge, before->kld, before->kld_se, after.kld,
               after.kld_se, ratio.value, ratio.se);
    }
    fflush(stdout);
    polished_fini(&polished);
    return status;
}

static int bench_point(struct bench *b, const struct point *point, struct err *err)
{
    const struct geometry *g = parent_geometry(b->m.parent);
    struct genome *genome = malloc(sizeof *genome);
    struct model *model = NULL;
    struct divergence before;
    char what[96];
    int status = -1;

    if (genome == NULL)
        return -1;
    point_genome(b, point, genome);
    snprintf(what, sizeof what, "%s, FFN %u, KV groups %u, %u heads each, %u FFNs dropped",
             format_name(point->format), point->width > 0 ? point->width : g->d_ff,
             point->kv_groups > 0 ? point->kv_groups : g->n_kv_heads,
             point->heads_per_group > 0 ? point->heads_per_group : g->n_heads / g->n_kv_heads,
             point->dropped);
    if (genome_canonicalize(genome, g, err) == 0)
        status = divergence_of_genome(&b->m, &b->v.source, b->v.store, genome, DIVERGENCE_ALL,
                                      &before, err);
    if (status == 0)
        model = stitch_model(&b->v.source, b->v.store, genome, err);
    if (model == NULL)
        status = -1;
    for (int i = 0; i < b->n_plans && status == 0; i++)
        status = bench_plan(b, what, genome, model, &before, &b->plan[i], err);
    model_destroy(model);
    free(genome);
    return status;
}

static int bench_all(struct bench *b, struct err *err)
{
    static const struct point points[] = {
        {.format = FORMAT_Q4_0},
        {.format = FORMAT_Q3_K},
        {.format = FORMAT_Q2_K},
        {.format = FORMAT_Q4_K, .width = 768},
        {.format = FORMAT_Q4_K, .width = 512},
        {.format = FORMAT_Q4_K, .kv_groups = 2},
        {.format = FORMAT_Q4_K, .dropped = 1},
        {.format = FORMAT_Q2_K, .width = 512, .heads_per_group = 2},
    };

    printf("| every layer | alpha | drift | ridge | KLD before +- SE | after +- SE | ratio +- SE |\n"
           "|---|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++)
        if ((b->points == NULL || strchr(b->points, (int)('0' + i)) != NULL) &&
            bench_point(b, &points[i], err) != 0)
            return -1;
    return 0;
}

static void close_all(struct bench *b)
{
    bench_variants_close(&b->v);
    token_set_fini(&b->text);
    bench_model_close(&b->m);
}

int main(int argc, char **argv)
{
    static const struct bench_program program = {.name = "bench_polish",
                                                 .more = "[TOKENS ...]",
                                                 .size = sizeof(struct bench),
                                                 .open = open_all,
                                                 .run = bench_all,
                                                 .close = close_all};

    return bench_program_run(&program, argc, argv);
}
