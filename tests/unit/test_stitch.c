/* Stitched models compute what the parent computes, less what the genome takes away. */
#include "evaluator/compression/stitch.h"
#include "tests/compression_fixture.h"
#include "tests/tap.h"

static const struct geometry wide = {.n_layers = 4,
                                     .d_model = 256,
                                     .n_heads = 8,
                                     .n_kv_heads = 4,
                                     .head_dim = 32,
                                     .d_ff = 512,
                                     .n_vocab = 270,
                                     .n_ctx = 128,
                                     .rms_eps = 1e-5F,
                                     .rope_base = 10000.0F};

enum { N = 24 };

static struct bench bench;
static struct store *store;

static void check_identity(void)
{
    struct genome genome;

    parent_genome(bench.parent, &genome);
    struct model *own = model_of_parent(bench.parent, NULL),
                 *model = bench_stitch(&bench.source, store, &genome);
    float *a = bench_logits(&bench, own, N), *b = bench_logits(&bench, model, N);
    ok(memcmp(a, b, (size_t)N * wide.n_vocab * sizeof *a) == 0,
       "the parent's own genome computes the parent's logits, bit for bit");
    ok(model_weight_bytes(own) == model_weight_bytes(model), "with as many bytes");
    free(b);
    free(a);
    model_destroy(model);
    model_destroy(own);
}

/* Formats get finer and the logits come nearer. */
static void check_formats(void)
{
    static const enum format finer[] = {FORMAT_Q2_K, FORMAT_Q4_K, FORMAT_Q6_K, FORMAT_F16};
    struct model *own = model_of_parent(bench.parent, NULL);
    float *a = bench_logits(&bench, own, N);
    double last = INFINITY;
    bool nearer = true;

    for (size_t i = 0; i < 4; i++) {
        struct genome genome;
        genome_uniform(&genome, &wide, finer[i]);
        struct model *model = bench_stitch(&bench.source, store, &genome);
        float *b = bench_logits(&bench, model, N);
        double d = bench_distance((size_t)N * wide.n_vocab, a, b);
        nearer = nearer && d < last && model->attn[1].q.format == finer[i] &&
                 model->attn[1].q.act == act_format_of(finer[i]);
        last = d;
        free(b);
        model_destroy(model);
    }
    ok(nearer && last < 1e-2, "finer formats come nearer to the parent");
    free(a);
    model_destroy(own);
}

/* A zero FFN adds nothing, and its bytes are counted. */
static void check_zero_ffn(void)
{
    struct genome genome;

    genome_uniform(&genome, &wide, FORMAT_BF16);
    genome.ffn[1].width = genome.ffn[3].width = 0;
    struct model *without = bench_stitch(&bench.source, store, &genome);
    genome.zero_ffn = 32;
    struct model *with = bench_stitch(&bench.source, store, &genome);
    float *a = bench_logits(&bench, without, N), *b = bench_logits(&bench, with, N);
    ok(!without->ffn[1].present && with->ffn[1].present && with->ffn[1].width == 32 &&
           with->ffn[1].down.n_in == 32 && with->ffn[1].gate.format == FORMAT_F16,
       "where the genome says so a dropped FFN is a zero one of 32 columns");
    ok(memcmp(a, b, (size_t)N * wide.n_vocab * sizeof *a) == 0, "that changes no logit");
    ok(model_weight_bytes(with) - model_weight_bytes(without) ==
           2 * (3 * 32 * 256 * 2 + 256 * sizeof(float)),
       "but has its bytes");
    free(b);
    free(a);
    model_destroy(with);
    model_destroy(without);
}

/* Shapes follow the genome, norms stay the parent's. */
static void check_narrow(void)
{
    struct genome genome;

    genome_uniform(&genome, &wide, FORMAT_F32);
    genome.attn[0].kv_groups = 3;
    genome.attn[0].heads_per_group = 1;
    genome.ffn[0].width = 100;
    genome.attn[1].kv_groups = 0;
    genome.ffn[2].width = 0;
    genome.attn[3].kv_groups = genome.ffn[3].width = 0;
    struct model *model = bench_stitch(&bench.source, store, &genome);
    ok(model->attn[0].n_heads == 3 && model->attn[0].n_groups == 3 && model->ffn[0].width == 100 &&
           !model->attn[1].present && model->ffn[1].present && model->attn[2].present &&
           !model->ffn[2].present && !model->attn[3].present && !model->ffn[3].present,
       "units are as wide as the genome says, or gone");
    ok(model->attn[0].norm == parent_tensor(bench.parent, 0, TENSOR_ATTN_NORM)->data &&
           model->attn[0].o.n_in == 96 && model->ffn[0].down.n_in == 100,
       "norms are the parent's");
    model_destroy(model);
}

static double error_of(enum part part, uint32_t layer, uint32_t kept, uint32_t heads,
                       enum format format)
{
    struct variant_key key = {part, layer, kept, heads, format};
    struct variant variant;
    struct err err;

    bench_demand(store_get(store, &bench.source, &key, &variant, &err) == 0, &err);
    return variant.error;
}

/* What differs is told by the parts that differ, the worst of them. */
static void check_error(void)
{
    struct genome base, genome;
    struct err err;
    double error = 7;

    genome_uniform(&base, &wide, FORMAT_Q8_0);
    genome = base;
    ok(stitch_error(&bench.source, store, &base, &genome, &error, &err) == 0 && isnan(error),
       "equal genomes differ in no layer");
    genome.ffn[1].down = FORMAT_Q3_K;
    ok(stitch_error(&bench.source, store, &base, &genome, &error, &err) == 0 && error > 0 &&
           error == error_of(PART_DOWN, 1, 512, 0, FORMAT_Q3_K),
       "one coarser matrix: its own relative error (%.2g)", error);
    genome.attn[2].qkv = FORMAT_Q2_K;
    double worse = error_of(PART_QKV, 2, 4, 2, FORMAT_Q2_K);
    ok(stitch_error(&bench.source, store, &base, &genome, &error, &err) == 0 &&
           error == fmax(worse, error_of(PART_DOWN, 1, 512, 0, FORMAT_Q3_K)),
       "of two the larger");
    genome = base;
    genome.ffn[3].width = 256;
    ok(stitch_error(&bench.source, store, &base, &genome, &error, &err) == 0 &&
           error == fmax(error_of(PART_DOWN, 3, 256, 0, FORMAT_Q8_0),
                         error_of(PART_GATE_UP, 3, 256, 0, FORMAT_Q8_0)),
       "a narrower unit: both of its parts are others");
    genome.attn[0].kv_groups = 0;
    genome_canonicalize(&genome, &wide, NULL);
    ok(stitch_error(&bench.source, store, &base, &genome, &error, &err) == 0 && error == 1,
       "a unit that is gone: all of it");
    genome = base;
    genome.head = FORMAT_Q4_0;
    ok(stitch_error(&bench.source, store, &base, &genome, &error, &err) == 0 &&
           error == error_of(PART_HEAD, 0, 0, 0, FORMAT_Q4_0),
       "the head counts too");
}

static void check_refusal(void)
{
    struct genome genome;
    struct err err;

    genome_uniform(&genome, &wide, FORMAT_F32);
    genome.attn[2].heads_per_group = 3;
    ok(stitch_model(&bench.source, store, &genome, &err) == NULL && err.code == ERR_MISSING,
       "more query heads than the parent has is ERR_MISSING");
}

/* --- the record --- */

static void count_fallback(void *arg, enum part part, uint32_t layer, double damping)
{
    uint32_t *seen = arg;
    seen[0] += layer == 1 && part == PART_GATE_UP && isinf(damping);
    seen[1] += layer == 1 && part == PART_DOWN && isinf(damping);
    seen[2]++;
}

static void check_record(void)
{
    struct genome genome;
    struct hash256 first, again, other;
    uint32_t seen[3] = {0};

    genome_uniform(&genome, &wide, FORMAT_Q4_K);
    ok(stitch_record(&bench.source, store, &genome, &first, count_fallback, seen, NULL) == 0 &&
           stitch_record(&bench.source, store, &genome, &again, NULL, NULL, NULL) == 0 &&
           memcmp(&first, &again, sizeof first) == 0,
       "a genome has one record");
    ok(seen[2] == 0, "where nothing had to fall back");
    genome.ffn[3].down = FORMAT_Q5_K;
    ok(stitch_record(&bench.source, store, &genome, &other, NULL, NULL, NULL) == 0 &&
           memcmp(&first, &other, sizeof first) != 0,
       "another has another");
}

static void silence_ffn(struct fixture *fixture)
{
    float *gain = (float *)fixture->model.ffn[1].norm;
    for (uint32_t i = 0; i < bench_small.d_model; i++)
        gain[i] = 0;
}

/* An FFN that never hears anything: its weights are rounded plainly, and the record says so, also
 * when they come from the files of an earlier run. */
static void check_fallback(void)
{
    struct bench deaf;
    struct genome genome;
    struct hash256 weights;
    struct err err;

    bench_open_changed(&deaf, &bench_small, FORMAT_F32, 42, silence_ffn);
    genome_uniform(&genome, &bench_small, FORMAT_Q4_0);
    for (int run = 0; run < 2; run++) {
        uint32_t seen[3] = {0};
        struct store *own = bench_store(&deaf, "store");
        ok(stitch_record(&deaf.source, own, &genome, &weights, count_fallback, seen, &err) == 0 &&
               seen[0] == 1 && seen[1] == 1 && seen[2] == 2,
           "two parts of a deaf FFN fell back, %s", run == 0 ? "built" : "found");
        store_close(own);
    }
    bench_close(&deaf);
}

int main(void)
{
    bench_open(&bench, &wide, FORMAT_BF16, 41);
    store = bench_store(&bench, "store");
    check_identity();
    check_formats();
    check_zero_ffn();
    check_narrow();
    check_error();
    check_refusal();
    check_record();
    check_fallback();
    store_close(store);
    bench_close(&bench);
    return tap_done();
}
