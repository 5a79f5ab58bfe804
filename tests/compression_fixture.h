/* compression_fixture.h - a random parent on disk with its calibration and orders, ready for
 * variants, and what models stitched from them compute. */
#ifndef KERF_COMPRESSION_FIXTURE_H
#define KERF_COMPRESSION_FIXTURE_H

#include "evaluator/compression/stitch.h"
#include "evaluator/compression/variant.h"
#include "evaluator/quality/token_set.h"
#include "tests/parent_file.h"

struct bench {
    char folder[256];
    struct fixture *fixture; /* the dense model that the file was made from */
    struct parent *parent;
    struct team *team;
    struct token_set text;
    struct calibration *calibration;
    struct keep_order order;
    struct variant_source source;
};

/* Small, with FFNs of one block of 256. */
__attribute__((unused)) static const struct geometry bench_small = {.n_layers = 2,
                                                                    .d_model = 64,
                                                                    .n_heads = 4,
                                                                    .n_kv_heads = 2,
                                                                    .head_dim = 32,
                                                                    .d_ff = 256,
                                                                    .n_vocab = 270,
                                                                    .n_ctx = 128,
                                                                    .rms_eps = 1e-5F,
                                                                    .rope_base = 10000.0F};

/* Smaller still: heads of 16, and rows of 64 and 96, which no block of 256 divides. */
__attribute__((unused)) static const struct geometry bench_tiny = {.n_layers = 2,
                                                                   .d_model = 64,
                                                                   .n_heads = 4,
                                                                   .n_kv_heads = 2,
                                                                   .head_dim = 16,
                                                                   .d_ff = 96,
                                                                   .n_vocab = 270,
                                                                   .n_ctx = 128,
                                                                   .rms_eps = 1e-5F,
                                                                   .rope_base = 10000.0F};

/* Aborts with the reason when anything fails: there is nothing to test then. */
__attribute__((unused)) static void bench_demand(bool held, const struct err *err)
{
    if (held)
        return;
    fprintf(stderr, "fixture: %s\n", err->text);
    abort();
}

__attribute__((unused)) static void bench_open_changed(struct bench *b, const struct geometry *g,
                                                       enum format format, uint64_t seed,
                                                       void (*change)(struct fixture *fixture))
{
    struct rng rng = rng_make(seed, 77);
    int32_t tokens[192];
    char path[512];
    struct err err;

    memset(b, 0, sizeof *b);
    folder_make(b->folder);
    b->fixture = fixture_dense(g, format, seed);
    if (change != NULL)
        change(b->fixture);
    parent_file_write(folder_path(b->folder, "parent.gguf", path), &b->fixture->model);
    b->parent = parent_open(path, &err);
    bench_demand(b->parent != NULL, &err);
    b->team = team_create(1, NULL, NULL, &err);
    for (int t = 0; t < 192; t++)
        tokens[t] = (int32_t)rng_below(&rng, g->n_vocab);
    bench_demand(token_set_of(&b->text, tokens, 192, 64, &err) == 0, &err);
    b->calibration = calibration_of_parent(b->parent, kernels_reference(), b->team, &b->text, &err);
    bench_demand(b->calibration != NULL, &err);
    bench_demand(keep_order_init(&b->order, b->parent, b->calibration, &err) == 0, &err);
    variant_source_init(&b->source, b->parent, b->calibration, &b->order);
}

__attribute__((unused)) static void bench_open(struct bench *b, const struct geometry *g,
                                               enum format format, uint64_t seed)
{
    bench_open_changed(b, g, format, seed, NULL);
}

/* A variant that was built; `bytes`, where v.data is, are to be freed. */
struct built {
    struct variant v;
    uint8_t *bytes;
};

__attribute__((unused)) static struct built bench_build(const struct variant_source *source,
                                                        const struct variant_key *key)
{
    struct built out;
    struct err err;

    variant_layout(source, key, &out.v);
    out.bytes = malloc(out.v.n_bytes);
    bench_demand(variant_build(source, key, &out.v, out.bytes, &err) == 0, &err);
    out.v.data = out.bytes;
    return out;
}

/* A store in the folder of the bench, to be closed. */
__attribute__((unused)) static struct store *bench_store(const struct bench *b, const char *name)
{
    char path[512];
    struct err err;

    struct store *store = store_open(folder_path(b->folder, name, path), &err);
    bench_demand(store != NULL, &err);
    return store;
}

/* Of a genome, which is made canonical. */
__attribute__((unused)) static struct model *
bench_stitch(const struct variant_source *source, struct store *store, struct genome *genome)
{
    struct err err;

    bench_demand(genome_canonicalize(genome, parent_geometry(source->parent), &err) == 0, &err);
    struct model *model = stitch_model(source, store, genome, &err);
    bench_demand(model != NULL, &err);
    return model;
}

/* After each of the first `n` tokens (64 at most) of the text: [n][n_vocab], to be freed. */
__attribute__((unused)) static float *bench_logits(const struct bench *b, const struct model *model,
                                                   uint32_t n)
{
    struct forward_options options = {.n_ctx = 64, .n_batch = 64};
    size_t n_logits = (size_t)n * model->geometry.n_vocab;
    float *copy = malloc(n_logits * sizeof *copy);
    struct err err;

    struct forward *forward = forward_create(model, kernels_reference(), b->team, &options, &err);
    bench_demand(forward != NULL, &err);
    bench_demand(forward_tokens(forward, b->text.tokens, n, LOGITS_ALL, &err) == 0, &err);
    memcpy(copy, forward_logits(forward), n_logits * sizeof *copy);
    forward_destroy(forward);
    return copy;
}

/* Of b from a, relative to a. */
__attribute__((unused)) static double bench_distance(size_t n, const float *a, const float *b)
{
    double off = 0, all = 0;

    for (size_t i = 0; i < n; i++) {
        off += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        all += (double)a[i] * a[i];
    }
    return sqrt(off / all);
}

__attribute__((unused)) static void bench_close(struct bench *b)
{
    keep_order_fini(&b->order);
    calibration_destroy(b->calibration);
    token_set_fini(&b->text);
    team_destroy(b->team);
    parent_close(b->parent);
    fixture_destroy(b->fixture);
    folder_remove(b->folder);
}

#endif
