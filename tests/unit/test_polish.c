/* Polished models: the parent's own stays what it is, another one comes nearer to the parent on the
 * calibration text, in the same bytes. */
#include "evaluator/compression/polish.h"
#include "evaluator/compression/stitch.h"
#include "evaluator/forward.h"
#include "space/base/err.h"
#include "tests/compression_fixture.h"
#include "tests/tap.h"

static const struct geometry shape = {.n_layers = 3,
                                      .d_model = 64,
                                      .n_heads = 4,
                                      .n_kv_heads = 2,
                                      .head_dim = 32,
                                      .d_ff = 128,
                                      .n_vocab = 96,
                                      .n_ctx = 128,
                                      .rms_eps = 1e-5F,
                                      .rope_base = 10000.0F};
static const struct polish_plan plain = {
    .alpha = POLISH_ALPHA, .drift = POLISH_DRIFT, .ridge = POLISH_RIDGE};

static struct bench bench;
static const struct variant_source *source; /* of what is stitched and polished */
static struct store *store;

static struct model *stitch(struct genome *genome)
{
    struct err err;

    bench_demand(genome_canonicalize(genome, &shape, &err) == 0, &err);
    struct model *model = stitch_model(source, store, genome, &err);
    bench_demand(model != NULL, &err);
    return model;
}

static int polish(struct polished *polished, const struct genome *genome, const struct model *model,
                  const struct polish_plan *plan, struct err *err)
{
    return polish_model(polished, source, genome, model, kernels_reference(), bench.team,
                        &bench.text, plan, err);
}

/* Last hidden states of the whole text, [n_tokens][d_model]. */
static float *states_of(const struct model *model)
{
    struct forward_options options = {.n_ctx = 64, .n_batch = 64};
    float *states = malloc((size_t)bench.text.n_tokens * shape.d_model * sizeof *states);
    struct err err;

    struct forward *forward =
        forward_create(model, kernels_reference(), bench.team, &options, &err);
    bench_demand(forward != NULL, &err);
    for (uint32_t s = 0; s < bench.text.n_sequences; s++) {
        uint32_t begin, end;
        token_set_sequence(&bench.text, s, &begin, &end);
        float *own = states + (size_t)begin * shape.d_model;
        forward_reset(forward);
        bench_demand(forward_embed(forward, bench.text.tokens + begin, end - begin, own, &err) == 0,
                     &err);
        forward_layers(forward, own, end - begin, 0, shape.n_layers, true);
    }
    forward_destroy(forward);
    return states;
}

/* Mean square distance to the parent's states over their mean square. */
static double stream_error(const struct model *model)
{
    struct model *own = model_of_parent(bench.parent, NULL);
    float *a = states_of(own), *b = states_of(model);
    double error = 0, whole = 0;

    for (size_t i = 0; i < (size_t)bench.text.n_tokens * shape.d_model; i++) {
        error += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        whole += (double)a[i] * a[i];
    }
    free(a);
    free(b);
    model_destroy(own);
    return error / whole;
}

static bool same_matrix(const struct weights *a, const struct weights *b)
{
    return a->format == b->format && a->act == b->act && a->n_out == b->n_out && a->n_in == b->n_in;
}

/* Shapes, formats and what is not made anew. */
static bool same_shape(const struct model *a, const struct model *b)
{
    bool same = a->embd.data == b->embd.data && a->head.data == b->head.data &&
                a->out_norm == b->out_norm && a->kv == b->kv &&
                model_weight_bytes(a) == model_weight_bytes(b);

    for (uint32_t l = 0; l < shape.n_layers; l++) {
        const struct attn_unit *t = &a->attn[l], *u = &b->attn[l];
        const struct ffn_unit *f = &a->ffn[l], *g = &b->ffn[l];
        same = same && t->present == u->present && f->present == g->present && t->bias == u->bias &&
               f->bias == g->bias;
        if (t->present)
            same = same && t->norm == u->norm && t->n_heads == u->n_heads &&
                   t->n_groups == u->n_groups && same_matrix(&t->q, &u->q) &&
                   same_matrix(&t->k, &u->k) && same_matrix(&t->v, &u->v) &&
                   same_matrix(&t->o, &u->o);
        if (f->present)
            same = same && f->norm == g->norm && f->width == g->width &&
                   same_matrix(&f->gate, &g->gate) && same_matrix(&f->up, &g->up) &&
                   same_matrix(&f->down, &g->down);
    }
    return same;
}

static void check_identity(void)
{
    struct polished polished;
    struct genome genome;
    struct err err;

    parent_genome(bench.parent, &genome);
    struct model *model = stitch(&genome);
    bench_demand(polish(&polished, &genome, model, &plain, &err) == 0, &err);
    ok(polished.n_changed == 0 && polished.n_matrices == 7 * shape.n_layers,
       "the parent's own formats and widths: no matrix is made anew");
    near(polished.stream_error, 0, 0, "the streams are the same");
    ok(polished.model->ffn[1].down.data == model->ffn[1].down.data &&
           polished.model->attn[2].q.data == model->attn[2].q.data,
       "and the weights those of the candidate");
    polished_fini(&polished);
    model_destroy(model);
}

static void check_nearer(struct genome *genome, const char *what)
{
    struct polished polished;
    struct err err;

    struct model *model = stitch(genome);
    double before = stream_error(model);
    bench_demand(polish(&polished, genome, model, &plain, &err) == 0, &err);
    ok(same_shape(model, polished.model), "%s: the same shapes, formats and bytes", what);
    ok(polished.n_changed > 0, "%s: weights are made anew", what);
    near(polished.stream_error / stream_error(polished.model), 1, 1e-4,
         "%s: the error it reports is that of its model", what);
    if (!ok(polished.stream_error < 0.8 * before, "%s: nearer to the parent", what))
        printf("# before %g, after %g\n", before, polished.stream_error);
    near(stream_error(model), before, 0, "%s: the candidate is as it was", what);
    polished_fini(&polished);
    model_destroy(model);
}

static void check_candidates(void)
{
    struct genome genome;

    genome_uniform(&genome, &shape, FORMAT_Q4_0);
    check_nearer(&genome, "4 bits");
    genome_uniform(&genome, &shape, FORMAT_Q4_0);
    for (uint32_t l = 0; l < shape.n_layers; l++)
        genome.ffn[l].width = 64;
    genome.attn[0].kv_groups = 1;
    genome.attn[1].heads_per_group = 1;
    check_nearer(&genome, "4 bits and narrow");
    genome_uniform(&genome, &shape, FORMAT_Q8_0);
    genome.attn[1].kv_groups = 0;
    genome.ffn[0].width = 0;
    genome.zero_ffn = 32;
    check_nearer(&genome, "units dropped, a zero FFN among them");
}

/* Columns stand in another order where quantizing comes first. */
static void check_quantized_first(void)
{
    struct variant_source first = bench.source;
    struct genome genome;

    first.compress_order = COMPRESS_PRUNE_QUANTIZE;
    source = &first;
    genome_uniform(&genome, &shape, FORMAT_Q4_0);
    genome.ffn[0].width = genome.ffn[2].width = 64;
    genome.attn[1].kv_groups = 1;
    check_nearer(&genome, "quantized first");
    source = &bench.source;
}

/* Biases stay, and so do those that dropped units leave behind. */
static void check_biased(void)
{
    struct variant_source centred;
    struct keep_order order;
    struct genome genome;
    struct err err;

    bench_demand(keep_order_init_centred(&order, bench.parent, bench.calibration, &err) == 0, &err);
    variant_source_init(&centred, bench.parent, bench.calibration, &order);
    source = &centred;
    genome_uniform(&genome, &shape, FORMAT_Q4_0);
    genome.bias = true;
    genome.ffn[1].width = 64;
    genome.attn[2].kv_groups = 0;
    check_nearer(&genome, "with biases");
    source = &bench.source;
    keep_order_fini(&order);
}

static int stop(void *arg, struct err *err)
{
    err_set(err, ERR_STOPPED, "stopped as asked");
    return --*(int *)arg > 0 ? 0 : -1;
}

static void check_stop(void)
{
    struct polish_plan plan = plain;
    struct polished polished = {.n_matrices = 77};
    struct genome genome;
    struct err err = {0};
    int left = 8;

    plan.step = stop;
    plan.step_arg = &left;
    genome_uniform(&genome, &shape, FORMAT_Q4_0);
    struct model *model = stitch(&genome);
    ok(polish(&polished, &genome, model, &plan, &err) == -1 && err.code == ERR_STOPPED &&
           left == 0 && polished.n_matrices == 77,
       "a step that says no ends the run, and nothing is handed out");
    model_destroy(model);
}

int main(void)
{
    source = &bench.source;
    bench_open(&bench, &shape, FORMAT_BF16, 5);
    store = bench_store(&bench, "store");
    check_identity();
    check_candidates();
    check_biased();
    check_quantized_first();
    check_stop();
    store_close(store);
    bench_close(&bench);
    bench_open(&bench, &shape, FORMAT_Q8_0, 6);
    store = bench_store(&bench, "store");
    check_identity();
    store_close(store);
    bench_close(&bench);
    return tap_done();
}
