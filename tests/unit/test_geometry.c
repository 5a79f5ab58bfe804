#include "space/geometry.h"

#include "space/base/err.h"
#include "tests/tap.h"
#include "tests/unit/space_fixture.h"

/* Whether the geometry is refused as bad data and the message names `word`. */
static bool refused(struct geometry g, const char *word)
{
    struct err err = {0};

    return geometry_check(&g, &err) == -1 && err.code == ERR_DATA && strstr(err.text, word) != NULL;
}

int main(void)
{
    struct geometry g = fixture_wide(), s = fixture_stories(), bad;
    struct err err = {0};
    char text[160];

    ok(geometry_check(&g, &err) == 0, "the reference geometry is accepted");
    ok(geometry_check(&s, &err) == 0, "the geometry of stories260K is accepted");

    bad = g, bad.n_layers = 0;
    ok(refused(bad, "layers"), "no layers are refused by name");
    bad = g, bad.n_layers = GEOMETRY_MAX_LAYERS + 1;
    ok(refused(bad, "layers"), "more layers than a genome holds are refused");
    bad = g, bad.n_kv_heads = 0;
    ok(refused(bad, "KV heads"), "zero KV heads are refused, not divided by");
    bad = g, bad.n_kv_heads = 5;
    ok(refused(bad, "shared"), "query heads that KV heads do not divide are refused");
    bad = g, bad.head_dim = 31;
    ok(refused(bad, "even"), "an odd head size is refused");
    bad = g, bad.d_ff = UINT32_MAX;
    ok(refused(bad, "FFN"), "an FFN as wide as the type allows is refused");
    bad = g, bad.n_heads = 1 << 14, bad.head_dim = 1 << 12;
    ok(refused(bad, "wider"), "a product of heads and head size beyond the limit is refused");
    bad = g, bad.n_vocab = 0;
    ok(refused(bad, "vocabulary"), "an empty vocabulary is refused");
    bad = g, bad.rms_eps = NAN;
    ok(refused(bad, "epsilon"), "an epsilon that is no number is refused");
    bad = g, bad.rope_base = INFINITY;
    ok(refused(bad, "RoPE"), "an infinite RoPE base is refused");
    ok(geometry_check(&bad, NULL) == -1, "the reason may be left out");

    ok(geometry_grid(&g) == 256, "widths of 1024 at width 256 step by 256");
    ok(geometry_grid(&s) == 4, "172 steps by 4");
    s.d_ff = 192;
    ok(geometry_grid(&s) == 32, "192 at width 64 steps by 32");
    s.d_ff = 173;
    ok(geometry_grid(&s) == 1, "173 steps by 1");
    is_text(geometry_describe(&g, text),
            "dim 256, 8 layers, 16/4 heads of 32, FFN 1024, vocabulary 1536",
            "a geometry describes itself");
    ok(geometry_parse(text, &bad, &err) == 0 && bad.d_model == 256 && bad.n_layers == 8 &&
           bad.n_heads == 16 && bad.n_kv_heads == 4 && bad.head_dim == 32 && bad.d_ff == 1024 &&
           bad.n_vocab == 1536 && bad.n_ctx == GEOMETRY_USUAL_CTX && !bad.tied,
       "and is read again from that %s", err.text);
    ok(geometry_parse("dim 256, 8 layers", &bad, &err) == -1 && err.code == ERR_USAGE, "%s",
       err.text);
    ok(geometry_parse("dim 256, 8 layers, 16/4 heads of 32, FFN 1024, vocabulary 1536 more", &bad,
                      &err) == -1 &&
           geometry_parse("dim -2, 8 layers, 16/4 heads of 32, FFN 1024, vocabulary 1536", &bad,
                          &err) == -1 &&
           err.code == ERR_USAGE,
       "no more and no less");
    ok(geometry_parse("dim 256, 8 layers, 16/5 heads of 32, FFN 1024, vocabulary 1536", &bad,
                      &err) == -1 &&
           err.code == ERR_DATA && bad.n_kv_heads == 4,
       "%s", err.text);
    return tap_done();
}
