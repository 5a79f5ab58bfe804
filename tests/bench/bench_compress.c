/* bench_compress.c - what repairing the weights that stay is worth: KL divergence to the parent on
 * held-out tokens when every layer gets narrower, weights in the parent's own float format, for
 *   OBS          the order of keep_order.h, weights solved anew
 *   OBS, cut     the same order, weights as they were
 *   importance   order by mean square times column norm, weights as they were
 * with standard errors by sequence.  Ratios are to OBS on the same tokens; their errors treat the
 * two as independent, so they are too large rather than too small.  Quality only: nothing is timed.
 *
 *   bench_compress MODEL.gguf CALIBRATION.txt HELDOUT.txt [CALIBRATION_TOKENS] */
#include "evaluator/compression/obs.h"
#include "evaluator/compression/stitch.h"
#include "evaluator/quality/quality.h"
#include "space/base/err.h"
#include "tests/bench/bench_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALIBRATION_TOKENS 65536
#define QUALITY_TOKENS     8192
#define THREADS            1

/* One way to narrow. */
struct method {
    const char *name;
    struct keep_order order;
    struct variant_source source;
    struct store *store;
};

enum { METHOD_OBS, METHOD_CUT, METHOD_IMPORTANCE, N_METHODS };

struct bench {
    struct bench_model m;
    struct method method[N_METHODS];
};

static int open_methods(struct bench *b, struct err *err)
{
    static const char *const names[N_METHODS] = {"OBS", "OBS, cut", "importance"};

    for (int m = 0; m < N_METHODS; m++) {
        struct method *method = &b->method[m];
        int status = m == METHOD_IMPORTANCE
                         ? keep_order_init_plain(&method->order, b->m.parent, b->m.calibration, err)
                         : keep_order_init(&method->order, b->m.parent, b->m.calibration, err);
        if (status != 0)
            return -1;
        for (uint32_t u = 0; m == METHOD_CUT && u < 2 * method->order.n_layers; u++)
            method->order.damping[u] = OBS_PLAIN;
        method->name = names[m];
        variant_source_init(&method->source, b->m.parent, b->m.calibration, &method->order);
        method->store = store_open(b->m.folder, err);
        if (method->store == NULL)
            return -1;
    }
    return 0;
}

static int open_all(struct bench *b, int argc, char **argv, struct err *err)
{
    uint64_t n_tokens = argc > 4 ? strtoull(argv[4], NULL, 10) : CALIBRATION_TOKENS;
    struct bench_model_plan plan = {.model = argv[1],
                                    .calibration = argv[2],
                                    .heldout = argv[3],
                                    .n_calibration = (uint32_t)n_tokens,
                                    .n_quality = QUALITY_TOKENS,
                                    .n_threads = THREADS};
    return bench_model_open(&b->m, &plan, err) == 0 ? open_methods(b, err) : -1;
}

/* Mean relative layer error of what narrows the unit, over the layers. */
static int mean_error(const struct method *method, const struct genome *genome, bool attn,
                      double *mean, struct err *err)
{
    *mean = 0;
    for (uint32_t l = 0; l < genome->n_layers; l++) {
        struct variant_key key = {PART_DOWN, l, genome->ffn[l].width, 0, genome->ffn[l].down};
        struct variant v;
        if (attn)
            key = (struct variant_key){PART_O, l, genome->attn[l].kv_groups,
                                       genome->attn[l].heads_per_group, genome->attn[l].o};
        if (store_get(method->store, &method->source, &key, &v, err) != 0)
            return -1;
        *mean += v.error / genome->n_layers;
    }
    return 0;
}

/* One row of the table for each method. */
static int bench_genome(struct bench *b, const char *what, struct genome *genome, bool attn,
                        struct err *err)
{
    double base = 0, base_se = 0;

    if (genome_canonicalize(genome, parent_geometry(b->m.parent), err) != 0)
        return -1;
    for (int m = 0; m < N_METHODS; m++) {
        struct quality q;
        double layer;
        struct model *model = stitch_model(&b->method[m].source, b->method[m].store, genome, err);
        if (model == NULL)
            return -1;
        forward_set_model(b->m.forward, model);
        int status = quality_measure(b->m.forward, b->m.model, b->m.states, &b->m.heldout,
                                     QUALITY_TOKENS, &q, err);
        forward_set_model(b->m.forward, b->m.model);
        model_destroy(model);
        if (status != 0 || mean_error(&b->method[m], genome, attn, &layer, err) != 0)
            return -1;
        if (m == METHOD_OBS) {
            base = q.kld;
            base_se = q.kld_se;
        }
        double ratio = q.kld / base;
        double ratio_se = ratio * hypot(q.kld_se / q.kld, base_se / base);
        printf("| %s | %s | %.4f | %.4g +- %.2g | %.3f | ", what, b->method[m].name, layer, q.kld,
               q.kld_se, q.top1);
        if (m == METHOD_OBS)
            printf("1 |\n");
        else
            printf("%.2f +- %.2f |\n", ratio, ratio_se);
        fflush(stdout);
    }
    return 0;
}

static int bench_all(struct bench *b, struct err *err)
{
    const struct geometry *g = parent_geometry(b->m.parent);
    struct genome *genome = malloc(sizeof *genome);
    char name[64];
    int status = genome != NULL ? 0 : -1;

    printf("| every layer | method | layer error | KLD, nats/token +- SE | top-1 | KLD / OBS |\n"
           "|---|---|---|---|---|---|\n");
    for (uint32_t quarters = 3; quarters > 0 && status == 0; quarters--) {
        parent_genome(b->m.parent, genome);
        for (uint32_t l = 0; l < g->n_layers; l++)
            genome->ffn[l].width = g->d_ff * quarters / 4;
        snprintf(name, sizeof name, "FFN %u of %u", g->d_ff * quarters / 4, g->d_ff);
        status = bench_genome(b, name, genome, false, err);
    }
    for (uint32_t groups = g->n_kv_heads - 1; groups > 0 && status == 0; groups--) {
        parent_genome(b->m.parent, genome);
        for (uint32_t l = 0; l < g->n_layers; l++)
            genome->attn[l].kv_groups = groups;
        snprintf(name, sizeof name, "KV groups %u of %u", groups, g->n_kv_heads);
        status = bench_genome(b, name, genome, true, err);
    }
    for (uint32_t heads = g->n_heads / g->n_kv_heads - 1; heads > 0 && status == 0; heads--) {
        parent_genome(b->m.parent, genome);
        for (uint32_t l = 0; l < g->n_layers; l++)
            genome->attn[l].heads_per_group = heads;
        snprintf(name, sizeof name, "query heads %u of %u", heads, g->n_heads / g->n_kv_heads);
        status = bench_genome(b, name, genome, true, err);
    }
    free(genome);
    return status;
}

static void close_all(struct bench *b)
{
    for (int m = 0; m < N_METHODS; m++) {
        store_close(b->method[m].store);
        keep_order_fini(&b->method[m].order);
    }
    bench_model_close(&b->m);
}

int main(int argc, char **argv)
{
    struct bench *bench = calloc(1, sizeof *bench);
    struct err err = {0};

    if (argc < 4 || bench == NULL) {
        fprintf(stderr, "usage: bench_compress MODEL.gguf CALIBRATION HELDOUT [TOKENS]\n");
        return 2;
    }
    int status = open_all(bench, argc, argv, &err) == 0 && bench_all(bench, &err) == 0 ? 0 : 1;
    if (status != 0)
        fprintf(stderr, "bench_compress: %s\n", err.text);
    close_all(bench);
    free(bench);
    return status;
}
