/* Quantizing before pruning: a narrow variant is the beginning of a wide one, and the matrices of a
 * unit agree about the order in which their rows and columns stand. */
#include "evaluator/compression/obs.h"
#include "evaluator/compression/stitch.h"
#include "space/base/log.h"
#include "tests/compression_fixture.h"
#include "tests/tap.h"

static const struct geometry wide = {.n_layers = 2,
                                     .d_model = 256,
                                     .n_heads = 16,
                                     .n_kv_heads = 4,
                                     .head_dim = 32,
                                     .d_ff = 544,
                                     .n_vocab = 270,
                                     .n_ctx = 128,
                                     .rms_eps = 1e-5F,
                                     .rope_base = 10000.0F};

enum { N = 24 };

static struct bench bench;
static struct variant_source source; /* bench.source, quantized first */

static struct built build(const struct variant_key *key)
{
    return bench_build(&source, key);
}

/* Rows of `narrow` that are not the beginnings of the same rows of `whole`. */
static size_t count_strangers(const struct built *narrow, const struct built *whole, uint32_t m)
{
    size_t n_rows = narrow->v.matrix[m].n_out, wrong = 0;
    size_t bytes = narrow->v.matrix[m].n_bytes / n_rows;
    size_t stride = whole->v.matrix[m].n_bytes / whole->v.matrix[m].n_out;

    for (size_t r = 0; r < n_rows; r++)
        wrong += memcmp(narrow->bytes + narrow->v.matrix[m].offset + r * bytes,
                        whole->bytes + whole->v.matrix[m].offset + r * stride, bytes) != 0;
    return wrong;
}

static void check_beginnings(void)
{
    static const struct {
        enum part part;
        uint32_t kept, heads, whole; /* what the format fits at most */
        enum format format;
        const char *title;
    } cases[] = {
        {PART_DOWN, 256, 0, 512, FORMAT_Q2_K, "down in Q2_K, 256 of 512 channels"},
        {PART_DOWN, 256, 0, 512, FORMAT_Q4_K, "down in Q4_K"},
        {PART_DOWN, 96, 0, 544, FORMAT_Q4_0, "down in Q4_0, 96 of 544"},
        {PART_DOWN, 511, 0, 544, FORMAT_F16, "down in F16, 511 of 544"},
        {PART_O, 2, 4, 4, FORMAT_Q6_K, "o in Q6_K, 2 groups of 4"},
        {PART_O, 3, 4, 4, FORMAT_Q5_0, "o in Q5_0, 3 groups"},
        {PART_O, 1, 3, 4, FORMAT_Q8_0, "o in Q8_0, one group of three heads"},
        {PART_GATE_UP, 100, 0, 544, FORMAT_Q3_K, "gate and up in Q3_K, 100 of 544"},
        {PART_QKV, 3, 4, 4, FORMAT_Q4_0, "q, k and v in Q4_0, 3 groups"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct variant_key key = {cases[i].part, 1, cases[i].kept, cases[i].heads, cases[i].format};
        struct variant_key wider, want = key;
        bool columns = key.part == PART_DOWN || key.part == PART_O;
        size_t wrong = 0;
        want.kept = cases[i].whole;
        bool shortened = variant_is_shortened(&source, &key, &wider);
        struct built narrow = build(&key), whole = build(&want);
        for (uint32_t m = 0; m < narrow.v.n_matrices; m++)
            wrong += count_strangers(&narrow, &whole, m);
        ok(wrong == 0, "%s: the beginnings of the whole, byte for byte", cases[i].title);
        ok(shortened == columns && (!columns || wider.kept == want.kept),
           "and it is known of which");
        if (columns) {
            struct variant again;
            struct err err;
            uint8_t *bytes = malloc(narrow.v.n_bytes);
            variant_layout(&source, &key, &again);
            bench_demand(variant_shorten(&source, &key, &whole.v, &again, bytes, &err) == 0, &err);
            ok(memcmp(bytes, narrow.bytes, narrow.v.n_bytes) == 0 && again.error == narrow.v.error,
               "cutting the whole gives the same bytes and error");
            ok(narrow.v.error > whole.v.error && whole.v.error >= 0,
               "which is larger, for columns went");
            free(bytes);
        }
        free(whole.bytes);
        free(narrow.bytes);
    }
}

/* How far apart the logits of a genome are between two sources. */
static double distance(const struct variant_source *a, const struct variant_source *b,
                       struct store *store, struct genome *genome)
{
    struct model *one = bench_stitch(a, store, genome), *other = bench_stitch(b, store, genome);
    float *x = bench_logits(&bench, one, N), *y = bench_logits(&bench, other, N);
    double d = bench_distance((size_t)N * wide.n_vocab, x, y);

    free(y);
    free(x);
    model_destroy(other);
    model_destroy(one);
    return d;
}

/* What the order of rows and columns must not change: in the parent's own format nothing is
 * rounded, so the models are those of plain selection. */
static void check_agreement(void)
{
    struct keep_order *plain = malloc(sizeof *plain);
    struct variant_source selected;
    struct genome genome;

    *plain = bench.order;
    for (uint32_t u = 0; u < 2 * wide.n_layers; u++)
        plain->damping[u] = OBS_PLAIN;
    variant_source_init(&selected, bench.parent, bench.calibration, plain);
    struct store *store = bench_store(&bench, "store");

    parent_genome(bench.parent, &genome);
    ok(distance(&bench.source, &source, store, &genome) < 1e-5,
       "the whole model in keep order gives the parent's logits");
    for (uint32_t l = 0; l < 2; l++) {
        genome.ffn[l].width = 320;
        genome.attn[l].kv_groups = 3;
    }
    ok(distance(&selected, &source, store, &genome) < 1e-5,
       "fewer groups and channels: those of plain selection");
    genome.attn[0].heads_per_group = 2;
    genome.attn[1].heads_per_group = 3;
    ok(distance(&selected, &source, store, &genome) < 1e-5, "and fewer heads in the groups");
    ok(distance(&bench.source, &source, store, &genome) > 1e-3,
       "which solving the others anew does change");
    store_close(store);
    free(plain);
}

/* Beside a bias: it makes up for what the very columns that went did to the mean. */
static void check_bias(void)
{
    struct variant_key key = {PART_DOWN, 1, 256, 0, FORMAT_Q4_K}, wider;
    struct variant_source first, selected, was = source;
    struct keep_order order = {0}, *plain = malloc(sizeof *plain);
    struct variant v;
    struct genome genome;
    struct err err;

    bench_demand(keep_order_init_centred(&order, bench.parent, bench.calibration, &err) == 0, &err);
    variant_source_init(&first, bench.parent, bench.calibration, &order);
    first.compress_order = COMPRESS_QUANTIZE_PRUNE;
    source = first;
    struct built narrow = build(&key);
    struct store *store = bench_store(&bench, "bias");
    ok(variant_bias(&narrow.v) != NULL && variant_is_shortened(&first, &key, &wider) &&
           store_get(store, &first, &key, &v, &err) == 0 &&
           memcmp(v.data, narrow.bytes, narrow.v.n_bytes) == 0 && v.error == narrow.v.error,
       "a variant with a bias is cut from the whole, with a bias of its own");

    *plain = order;
    for (uint32_t u = 0; u < 2 * wide.n_layers; u++)
        plain->damping[u] = OBS_PLAIN;
    variant_source_init(&selected, bench.parent, bench.calibration, plain);
    parent_genome(bench.parent, &genome);
    for (uint32_t l = 0; l < 2; l++) {
        genome.ffn[l].width = 320;
        genome.attn[l].kv_groups = 3;
    }
    ok(distance(&selected, &first, store, &genome) < 1e-5,
       "and narrow models with biases are those of plain selection");
    store_close(store);
    free(narrow.bytes);
    free(plain);
    keep_order_fini(&order);
    source = was;
}

static void check_store(void)
{
    struct variant_key key = {PART_DOWN, 0, 256, 0, FORMAT_Q3_K}, wider;
    struct variant v;
    struct store_counts counts;
    struct err err;

    struct store *store = bench_store(&bench, "shorten");
    struct built fresh = build(&key);
    ok(store_get(store, &source, &key, &v, &err) == 0 && v.error == fresh.v.error &&
           memcmp(v.data, fresh.bytes, fresh.v.n_bytes) == 0,
       "a store cuts what variant_build builds");
    variant_is_shortened(&source, &key, &wider);
    store_get(store, &source, &wider, &v, &err);
    store_counts(store, &counts);
    ok(counts.n_built == 2, "and has kept the whole for the next width");
    ok(store_get(store, &bench.source, &key, &v, &err) == 0 &&
           memcmp(v.data, fresh.bytes, fresh.v.n_bytes) != 0,
       "the other order has other bytes in the same store");
    ok(!id128_equal(variant_id(&source, &key), variant_id(&bench.source, &key)),
       "under another name");
    store_close(store);
    free(fresh.bytes);
}

int main(void)
{
    log_setup(LOG_ERROR, -1);
    bench_open(&bench, &wide, FORMAT_BF16, 57);
    source = bench.source;
    source.compress_order = COMPRESS_QUANTIZE_PRUNE;
    check_beginnings();
    check_agreement();
    check_bias();
    check_store();
    bench_close(&bench);
    return tap_done();
}
