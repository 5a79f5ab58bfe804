/* ragged_fixture.h - two small geometries, and a model whose layers are all different. */
#ifndef KERF_RAGGED_FIXTURE_H
#define KERF_RAGGED_FIXTURE_H

#include "tests/model_fixture.h"

/* 3 groups of 2 heads of 8; nothing is a multiple of 16. */
static const struct geometry small = {.n_layers = 6,
                                      .d_model = 24,
                                      .n_heads = 6,
                                      .n_kv_heads = 3,
                                      .head_dim = 8,
                                      .d_ff = 40,
                                      .n_vocab = 37,
                                      .n_ctx = 128,
                                      .rms_eps = 1e-5F,
                                      .rope_base = 10000.0F};

/* Every row takes every format. */
static const struct geometry wide = {.n_layers = 2,
                                     .d_model = 256,
                                     .n_heads = 8,
                                     .n_kv_heads = 2,
                                     .head_dim = 32,
                                     .d_ff = 512,
                                     .n_vocab = 64,
                                     .n_ctx = 128,
                                     .tied = true,
                                     .rms_eps = 1e-5F,
                                     .rope_base = 500000.0F};

/* Of `small`: layers whole, narrower, without one unit, without the other, without both; the last
 * with one head. */
static struct fixture *fixture_ragged(enum format format, enum format kv)
{
    struct fixture *f = fixture_create(&small, format, kv, 7);

    fixture_attn(f, 0, 3, 2, format);
    fixture_ffn(f, 0, 40, format);
    fixture_attn(f, 1, 2, 1, format);
    fixture_ffn(f, 1, 12, format);
    fixture_attn(f, 2, 3, 2, format);
    fixture_ffn(f, 3, 33, format);
    fixture_attn(f, 5, 1, 2, format);
    return f;
}

#endif
