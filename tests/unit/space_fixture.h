/* space_fixture.h - two geometries that the tests of space/ share: one with rows that take every
 * format, one (that of stories260K) where formats fall back. */
#ifndef KERF_SPACE_FIXTURE_H
#define KERF_SPACE_FIXTURE_H

#include "space/geometry.h"

__attribute__((unused)) static struct geometry fixture_wide(void)
{
    return (struct geometry){.n_layers = 8,
                             .d_model = 256,
                             .n_heads = 16,
                             .n_kv_heads = 4,
                             .head_dim = 32,
                             .d_ff = 1024,
                             .n_vocab = 1536,
                             .n_ctx = 512,
                             .tied = true,
                             .rms_eps = 1e-5F,
                             .rope_base = 10000.0F};
}

__attribute__((unused)) static struct geometry fixture_stories(void)
{
    return (struct geometry){.n_layers = 5,
                             .d_model = 64,
                             .n_heads = 8,
                             .n_kv_heads = 4,
                             .head_dim = 8,
                             .d_ff = 172,
                             .n_vocab = 512,
                             .n_ctx = 512,
                             .tied = false,
                             .rms_eps = 1e-5F,
                             .rope_base = 10000.0F};
}

#endif
