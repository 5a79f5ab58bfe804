/* bench_compress.c - what repairing the weights that stay is worth: KL divergence to the parent on
 * held-out tokens when every layer gets narrower, weights in the parent's own float format, for
 *   OBS          the order of keep_order.h, weights solved anew
 *   OBS, cut     the same order, weights as they were
 *   importance   order by mean square of the input times column norm, weights as they were
 *   magnitude    order by column norm alone, weights as they were
 * Ratios are OBS over the other on the same tokens, with standard errors clustered by sequence:
 * below 1 OBS is better.  The layer error is the mean of variant.h's over the layers.  Widths are
 * shares of the parent's, to the nearest multiple of WIDTH_STEP.  Quality only: nothing is timed,
 * nothing is random.
 *
 *   bench_compress MODEL.gguf CALIBRATION.txt HELDOUT.txt [CALIBRATION_TOKENS] */
#include "evaluator/compression/obs.h"
#include "space/base/err.h"
#include "tests/bench/bench_program.h"
#include "tests/bench/bench_variants.h"
#include "tests/bench/divergence.h"
#include "tests/bench/magnitude.h"

#include <stdio.h>
#include <stdlib.h>

#define CALIBRATION_TOKENS 65536
#define QUALITY_TOKENS     16384
#define THREADS            2
#define WIDTH_STEP         32 /* rows of every 32-block format */

/* One way to narrow. */
struct method {
    const char *name;
    struct bench_variants v;
};

enum { METHOD_OBS, METHOD_CUT, METHOD_IMPORTANCE, METHOD_MAGNITUDE, N_METHODS };

struct bench {
    struct bench_model m;
    struct method method[N_METHODS];
};

static int make_order(struct bench *b, int m, struct err *err)
{
    struct keep_order *order = &b->method[m].v.order;

    if (m == METHOD_IMPORTANCE || m == METHOD_MAGNITUDE) {
        if (keep_order_init_plain(order, b->m.parent, b->m.calibration, err) != 0)
            return -1;
        return m == METHOD_MAGNITUDE ? magnitude_order(order, b->m.parent, err) : 0;
    }
    if (keep_order_init(order, b->m.parent, b->m.calibration, err) != 0)
        return -1;
    for (uint32_t u = 0; m == METHOD_CUT && u < 2 * order->n_layers; u++)
        order->damping[u] = OBS_PLAIN;
    return 0;
}

static int open_methods(struct bench *b, struct err *err)
{
    static const char *const names[N_METHODS] = {"OBS", "OBS, cut", "importance", "magnitude"};

    for (int m = 0; m < N_METHODS; m++) {
        struct method *method = &b->method[m];
        method->name = names[m];
        if (make_order(b, m, err) != 0 ||
            bench_variants_open_ordered(&method->v, b->m.parent, b->m.calibration, b->m.folder,
                                        err) != 0)
            return -1;
    }
    return 0;
}

static int open_all(struct bench *b, int argc, char **argv, struct err *err)
{
    struct bench_model_plan plan = {
        .n_calibration = CALIBRATION_TOKENS, .n_quality = QUALITY_TOKENS, .n_threads = THREADS};

    bench_model_plan_read(&plan, argc, argv);
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
        if (store_get(method->v.store, &method->v.source, &key, &v, err) != 0)
            return -1;
        *mean += v.error / genome->n_layers;
    }
    return 0;
}

/* One row of the table for each method. */
static int bench_genome(struct bench *b, const char *what, struct genome *genome, bool attn,
                        struct err *err)
{
    struct divergence obs, d;

    if (genome_canonicalize(genome, parent_geometry(b->m.parent), err) != 0)
        return -1;
    for (int m = 0; m < N_METHODS; m++) {
        double layer;
        if (divergence_of_genome(&b->m, &b->method[m].v.source, b->method[m].v.store, genome,
                                 DIVERGENCE_ALL, &d, err) != 0 ||
            mean_error(&b->method[m], genome, attn, &layer, err) != 0)
            return -1;
        if (m == METHOD_OBS)
            obs = d;
        printf("%-22s  %-10s  %11.4f  %9.4g +- %-7.2g", m == METHOD_OBS ? what : "",
               b->method[m].name, layer, d.kld, d.kld_se);
        if (m != METHOD_OBS) {
            struct ratio ratio = divergence_ratio(&obs, &d);
            printf("  %7.3f +- %.3f", ratio.value, ratio.se);
        }
        printf("\n");
        fflush(stdout);
    }
    return 0;
}

static int bench_widths(struct bench *b, struct genome *genome, struct err *err)
{
    static const uint32_t percent[] = {90, 80, 75, 70, 50, 25};
    const struct geometry *g = parent_geometry(b->m.parent);
    char name[64];

    for (size_t i = 0; i < sizeof percent / sizeof percent[0]; i++) {
        uint32_t width = (g->d_ff * percent[i] / 100 + WIDTH_STEP / 2) / WIDTH_STEP * WIDTH_STEP;
        parent_genome(b->m.parent, genome);
        for (uint32_t l = 0; l < g->n_layers; l++)
            genome->ffn[l].width = width;
        snprintf(name, sizeof name, "FFN %u of %u (%u %%)", width, g->d_ff, percent[i]);
        if (bench_genome(b, name, genome, false, err) != 0)
            return -1;
    }
    return 0;
}

static int bench_heads(struct bench *b, struct genome *genome, struct err *err)
{
    const struct geometry *g = parent_geometry(b->m.parent);
    uint32_t n_groups = g->n_kv_heads, per_group = g->n_heads / g->n_kv_heads;
    char name[64];

    parent_genome(b->m.parent, genome);
    for (uint32_t l = 0; l < g->n_layers; l++)
        genome->attn[l].kv_groups = n_groups / 2;
    snprintf(name, sizeof name, "KV groups %u of %u", n_groups / 2, n_groups);
    if (n_groups > 1 && bench_genome(b, name, genome, true, err) != 0)
        return -1;
    parent_genome(b->m.parent, genome);
    for (uint32_t l = 0; l < g->n_layers; l++)
        genome->attn[l].heads_per_group = per_group / 2;
    snprintf(name, sizeof name, "query heads %u of %u", per_group / 2, per_group);
    return per_group > 1 ? bench_genome(b, name, genome, true, err) : 0;
}

static int bench_all(struct bench *b, struct err *err)
{
    struct genome *genome = malloc(sizeof *genome);

    if (genome == NULL) {
        err_set(err, ERR_MEMORY, "bench: out of memory");
        return -1;
    }
    bench_model_describe(&b->m);
    printf("%-22s  %-10s  %11s  %20s  %14s\n", "every layer", "method", "layer error",
           "KLD, nats/token +-SE", "OBS/this +- SE");
    int status = bench_widths(b, genome, err) == 0 ? bench_heads(b, genome, err) : -1;
    free(genome);
    return status;
}

static void close_all(struct bench *b)
{
    for (int m = 0; m < N_METHODS; m++)
        bench_variants_close(&b->method[m].v);
    bench_model_close(&b->m);
}

int main(int argc, char **argv)
{
    static const struct bench_program program = {.name = "bench_compress",
                                                 .more = "[TOKENS]",
                                                 .size = sizeof(struct bench),
                                                 .open = open_all,
                                                 .run = bench_all,
                                                 .close = close_all};

    return bench_program_run(&program, argc, argv);
}
