/* compression_fixture.h - a random parent on disk with its calibration and orders, ready for
 * variants. */
#ifndef KERF_COMPRESSION_FIXTURE_H
#define KERF_COMPRESSION_FIXTURE_H

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

/* Aborts with the reason when anything fails: there is nothing to test then. */
__attribute__((unused)) static void bench_demand(bool held, const struct err *err)
{
    if (held)
        return;
    fprintf(stderr, "fixture: %s\n", err->text);
    abort();
}

__attribute__((unused)) static void bench_open(struct bench *b, const struct geometry *g,
                                               enum format format, uint64_t seed)
{
    struct rng rng = rng_make(seed, 77);
    int32_t tokens[192];
    char path[512];
    struct err err;

    memset(b, 0, sizeof *b);
    folder_make(b->folder);
    b->fixture = fixture_dense(g, format, seed);
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
