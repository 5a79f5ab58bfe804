/* bench_reference.c - how the reference model loses quality: every format, fewer layers, narrower
 * units, each alone and uniformly; the table of evaluator/reference/README.md.
 *
 *   bench_reference MODEL.gguf CALIBRATION.txt HELDOUT.txt TASKS.jsonl... */
#include "evaluator/compression/stitch.h"
#include "evaluator/quality/quality.h"
#include "evaluator/quality/task.h"
#include "space/base/err.h"
#include "space/space.h"
#include "tests/bench/bench_model.h"
#include "tests/bench/bench_program.h"
#include "tests/bench/bench_variants.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALIBRATION_TOKENS 65536
#define QUALITY_TOKENS     16384
#define TASK_ITEMS         200
#define THREADS            2
#define MAX_TASKS          8

struct bench {
    struct bench_model m;
    struct bench_variants v;
    struct task *task[MAX_TASKS];
    int n_tasks;
};

static int open_all(struct bench *b, int argc, char **argv, struct err *err)
{
    struct bench_model_plan plan = {
        .n_calibration = CALIBRATION_TOKENS, .n_quality = QUALITY_TOKENS, .n_threads = THREADS};

    bench_model_plan_read(&plan, 4, argv);
    if (bench_model_open(&b->m, &plan, err) != 0 ||
        bench_variants_open(&b->v, b->m.parent, b->m.calibration, b->m.folder, err) != 0)
        return -1;
    for (int i = 4; i < argc && b->n_tasks < MAX_TASKS; i++) {
        b->task[b->n_tasks] = task_read(argv[i], b->m.tokenizer, TASK_ITEMS, err);
        if (b->task[b->n_tasks++] == NULL)
            return -1;
    }
    return 0;
}

static int print_row(struct bench *b, const char *name, const struct model *model,
                     const struct genome *genome, struct err *err)
{
    struct quality q;
    double sum = 0, variance = 0;
    forward_set_model(b->m.forward, model);
    if (quality_measure(b->m.forward, b->m.model, b->m.states, &b->m.heldout, QUALITY_TOKENS, &q,
                        err) != 0)
        return -1;
    printf("| %s | %.2f | %.3g +- %.2g | %.3f | %.3f |", name,
           (double)account_weight_bytes(genome, parent_geometry(b->m.parent)) * 1e-6, q.kld,
           1.96 * q.kld_se, q.ppl, q.top1);
    for (int i = 0; i < b->n_tasks; i++) {
        struct task_score score;
        if (task_score(b->m.forward, b->task[i], &score, err) != 0)
            return -1;
        printf(" %.2f |", score.acc_norm);
        sum += score.acc_norm;
        variance += score.acc_norm_se * score.acc_norm_se;
    }
    if (b->n_tasks > 0)
        printf(" %.3f +- %.3f |", sum / b->n_tasks, 1.96 * sqrt(variance) / b->n_tasks);
    printf("\n");
    fflush(stdout);
    return 0;
}

static int bench_genome(struct bench *b, const char *name, struct genome *genome, struct err *err)
{
    if (genome_canonicalize(genome, parent_geometry(b->m.parent), err) != 0)
        return -1;
    struct model *model = stitch_model(&b->v.source, b->v.store, genome, err);
    int status = model != NULL ? print_row(b, name, model, genome, err) : -1;
    forward_set_model(b->m.forward, b->m.model);
    model_destroy(model);
    return status;
}

/* Drop the units that change the residual stream least, layer by layer (block influence). */
static void drop_layers(const struct bench *b, struct genome *genome, uint32_t n)
{
    while (n-- > 0) {
        uint32_t least = 0;
        double smallest = INFINITY;
        for (uint32_t l = 1; l < genome->n_layers; l++) {
            double sum = calibration_influence(b->m.calibration, 2 * l) +
                         calibration_influence(b->m.calibration, 2 * l + 1);
            if (genome->attn[l].kv_groups > 0 && sum < smallest) {
                smallest = sum;
                least = l;
            }
        }
        genome->attn[least].kv_groups = 0;
        genome->ffn[least].width = 0;
    }
}

static int bench_all(struct bench *b, struct err *err)
{
    const struct geometry *g = parent_geometry(b->m.parent);
    struct genome *genome = malloc(sizeof *genome);
    char name[64];
    int status = genome != NULL ? 0 : -1;
    parent_genome(b->m.parent, genome);
    printf("| model | MB | KLD, nats/token | perplexity | top-1 |");
    for (int i = 0; i < b->n_tasks; i++)
        printf(" %s |", task_name(b->task[i]));
    printf(" mean |\n|---|---|---|---|---|");
    for (int i = 0; i < b->n_tasks; i++)
        printf("---|");
    printf("---|\n");
    if (status == 0)
        status = print_row(b, "parent, BF16", b->m.model, genome, err);
    for (int f = N_FORMATS - 1; f >= 0 && status == 0; f--) {
        if (!format_is_quantized((enum format)f))
            continue;
        genome_uniform(genome, g, (enum format)f);
        status = bench_genome(b, format_name((enum format)f), genome, err);
    }
    for (uint32_t n = 1; n <= g->n_layers / 2 && status == 0; n++) {
        parent_genome(b->m.parent, genome);
        drop_layers(b, genome, n);
        snprintf(name, sizeof name, "BF16, %u of %u layers", g->n_layers - n, g->n_layers);
        status = bench_genome(b, name, genome, err);
    }
    for (uint32_t width = g->d_ff - 256; width >= 256 && status == 0; width -= 256) {
        parent_genome(b->m.parent, genome);
        for (uint32_t l = 0; l < g->n_layers; l++)
            genome->ffn[l].width = width;
        snprintf(name, sizeof name, "BF16, FFN %u of %u", width, g->d_ff);
        status = bench_genome(b, name, genome, err);
    }
    if (status == 0) {
        parent_genome(b->m.parent, genome);
        for (uint32_t l = 0; l < g->n_layers; l++)
            genome->attn[l].kv_groups = g->n_kv_heads / 2;
        status = bench_genome(b, "BF16, half of the KV groups", genome, err);
    }
    free(genome);
    return status;
}

static void close_all(struct bench *b)
{
    for (int i = 0; i < b->n_tasks; i++)
        task_destroy(b->task[i]);
    bench_variants_close(&b->v);
    bench_model_close(&b->m);
}

int main(int argc, char **argv)
{
    static const struct bench_program program = {.name = "bench_reference",
                                                 .more = "[TASK.jsonl...]",
                                                 .size = sizeof(struct bench),
                                                 .open = open_all,
                                                 .run = bench_all,
                                                 .close = close_all};

    return bench_program_run(&program, argc, argv);
}
