#include "space/genome.h"

#include "space/base/err.h"
#include "space/base/rng.h"
#include "tests/tap.h"
#include "tests/unit/space_fixture.h"

#include <stdlib.h>

static enum format any_format(struct rng *rng)
{
    return (enum format)rng_below(rng, N_FORMATS);
}

/* Any genome that lies inside the geometry, not canonical. */
static struct genome random_genome(struct rng *rng, const struct geometry *g)
{
    struct genome genome = {.n_layers = g->n_layers,
                            .embd = any_format(rng),
                            .head = any_format(rng),
                            .hidden = (uint32_t)rng_below(rng, 3) * (g->d_model / 2),
                            .rotation = (enum rotation)rng_below(rng, N_ROTATIONS),
                            .kv = rng_below(rng, 2) ? FORMAT_Q8_0 : FORMAT_F16,
                            .zero_ffn = rng_below(rng, 2) ? 32 : 0};

    for (uint32_t l = 0; l < g->n_layers; l++) {
        genome.attn[l] = (struct attn_choice){
            (uint32_t)rng_below(rng, g->n_kv_heads + 1),
            1 + (uint32_t)rng_below(rng, g->n_heads / g->n_kv_heads), any_format(rng),
            any_format(rng), (enum act_format)rng_below(rng, N_ACT_FORMATS)};
        genome.ffn[l] =
            (struct ffn_choice){(uint32_t)rng_below(rng, 4) * (g->d_ff / 4), any_format(rng),
                                any_format(rng), (enum act_format)rng_below(rng, N_ACT_FORMATS)};
    }
    return genome;
}

static void test_canonical(void)
{
    struct geometry g = fixture_wide(), s = fixture_stories();
    struct genome a, b;
    struct err err = {0};

    genome_uniform(&a, &g, FORMAT_Q4_K);
    ok(a.n_layers == 8 && a.attn[7].kv_groups == 4 && a.attn[7].heads_per_group == 4 &&
           a.ffn[7].width == 1024,
       "the uniform genome is the dense parent");
    ok(a.embd == FORMAT_Q4_K && a.head == FORMAT_Q4_K && a.kv == FORMAT_F16 &&
           a.attn[0].act == ACT_Q8 && a.ffn[0].act == ACT_Q8,
       "quantized matrices come with 8-bit activations and a 16-bit cache");
    ok(genome_layers_kept(&a) == 8, "the dense parent keeps every layer");
    genome_uniform(&a, &g, FORMAT_BF16);
    ok(a.attn[0].act == ACT_FLOAT && a.ffn[0].act == ACT_FLOAT,
       "float matrices come with float activations");

    genome_uniform(&a, &s, FORMAT_Q6_K);
    ok(a.attn[0].qkv == FORMAT_Q8_0 && a.attn[0].o == FORMAT_Q8_0 && a.embd == FORMAT_Q8_0 &&
           a.head == FORMAT_Q8_0 && a.ffn[0].gate_up == FORMAT_Q8_0,
       "Q6_K falls to Q8_0 where rows are 64 long");
    ok(a.ffn[0].down == FORMAT_F16 && a.ffn[0].act == ACT_Q8,
       "rows of 172 fall to F16 while the unit still says 8-bit activations for its gate");
    ok(genome_matrix_act(a.ffn[0].act, a.ffn[0].down) == ACT_FLOAT &&
           genome_matrix_act(a.ffn[0].act, a.ffn[0].gate_up) == ACT_Q8,
       "a float matrix takes float activations in any unit");

    /* Rows of o follow the groups that are kept. */
    genome_uniform(&a, &g, FORMAT_Q4_K);
    a.attn[2].kv_groups = 1;
    a.attn[3].kv_groups = 2;
    a.ffn[4].width = 800;
    a.ffn[5].width = 804;
    ok(genome_canonicalize(&a, &g, &err) == 0 && a.attn[2].o == FORMAT_Q4_0 &&
           a.attn[2].qkv == FORMAT_Q4_K && a.attn[3].o == FORMAT_Q4_K,
       "o falls back where 1 group leaves 128 columns, not where 2 leave 256");
    ok(a.ffn[4].down == FORMAT_Q4_0 && a.ffn[5].down == FORMAT_F16 &&
           a.ffn[5].gate_up == FORMAT_Q4_K,
       "down falls back by the width that is kept");

    /* Whatever a dropped unit said is forgotten. */
    genome_uniform(&a, &g, FORMAT_Q4_K);
    genome_uniform(&b, &g, FORMAT_Q4_K);
    a.attn[1] = (struct attn_choice){0, 3, FORMAT_Q2_K, FORMAT_Q8_0, ACT_Q8};
    b.attn[1] = (struct attn_choice){0, 0, FORMAT_NONE, FORMAT_NONE, ACT_FLOAT};
    a.ffn[6] = (struct ffn_choice){0, FORMAT_Q2_K, FORMAT_Q8_0, ACT_Q8};
    b.ffn[6].width = 0;
    a.head = FORMAT_F32;
    ok(genome_canonicalize(&a, &g, &err) == 0 && genome_canonicalize(&b, &g, &err) == 0 &&
           genome_equal(&a, &b) && a.ffn[6].down == FORMAT_NONE,
       "equal models have equal genomes whatever dropped units and a tied head said");
    ok(genome_layers_kept(&a) == 8, "a layer with one unit left is kept");
    a.ffn[1].width = 0;
    ok(genome_canonicalize(&a, &g, &err) == 0 && genome_layers_kept(&a) == 7,
       "a layer without units is gone");

    a.zero_ffn = 32;
    ok(genome_canonicalize(&a, &g, &err) == 0 && a.zero_ffn == 32 && genome_has_zero_ffn(&a, 6) &&
           !genome_has_zero_ffn(&a, 1) && !genome_has_zero_ffn(&a, 0),
       "a zero FFN stands where attention is kept alone");
    a.ffn[6].width = 256, a.ffn[6].gate_up = a.ffn[6].down = FORMAT_Q8_0;
    ok(genome_canonicalize(&a, &g, &err) == 0 && a.zero_ffn == 0,
       "a zero FFN that no layer needs is forgotten");

    /* A residual stream in another basis. */
    genome_uniform(&a, &g, FORMAT_Q4_K);
    b = a;
    a.hidden = 256;
    ok(genome_canonicalize(&a, &g, &err) == 0 && genome_equal(&a, &b) && !genome_is_turned(&a),
       "a stream as wide as the parent's is the parent's");
    a.hidden = 224, a.head = FORMAT_Q6_K;
    ok(genome_canonicalize(&a, &g, &err) == 0 && a.embd == FORMAT_Q4_0 &&
           a.attn[0].qkv == FORMAT_Q4_0 && a.ffn[7].gate_up == FORMAT_Q4_0 &&
           a.attn[0].o == FORMAT_Q4_K && a.ffn[7].down == FORMAT_Q4_K,
       "readers of a stream of 224 fall back, writers do not");
    ok(a.head == FORMAT_Q8_0 && !genome_geometry(&a, &g).tied &&
           genome_geometry(&a, &g).d_model == 224,
       "its head is a matrix of its own");
    b.rotation = ROTATION_HADAMARD, b.head = FORMAT_Q6_K;
    ok(genome_canonicalize(&b, &g, &err) == 0 && b.head == FORMAT_Q6_K && b.hidden == 0 &&
           genome_geometry(&b, &g).d_model == 256 && !genome_geometry(&b, &g).tied,
       "so is that of one that is only turned");

    genome_uniform(&a, &s, FORMAT_Q8_0);
    a.kv = FORMAT_Q8_0;
    ok(genome_canonicalize(&a, &s, &err) == 0 && a.kv == FORMAT_F16,
       "an 8-bit cache falls to F16 where heads are 8 wide");
    genome_uniform(&a, &g, FORMAT_Q8_0);
    a.kv = FORMAT_Q4_0;
    b = a;
    for (uint32_t l = 0; l < g.n_layers; l++)
        b.attn[l].kv_groups = 0;
    ok(genome_canonicalize(&a, &g, &err) == 0 && a.kv == FORMAT_Q4_0 &&
           genome_canonicalize(&b, &g, &err) == 0 && b.kv == FORMAT_F16,
       "and 4 bits stay where they fit, unless no attention has use for them");
}

/* Whether the genome is refused, with a message that names `word`, and stays as it was. */
static bool refused(struct genome genome, const struct geometry *g, const char *word)
{
    struct genome before = genome;
    struct err err = {0};

    return genome_canonicalize(&genome, g, &err) == -1 && err.code == ERR_CONFIG &&
           strstr(err.text, word) != NULL && genome_equal(&genome, &before);
}

static void test_limits(void)
{
    struct geometry g = fixture_wide();
    struct genome dense, bad;

    genome_uniform(&dense, &g, FORMAT_Q4_K);
    bad = dense, bad.n_layers = 7;
    ok(refused(bad, &g, "7 layers"), "a genome of another depth is refused");
    bad = dense, bad.attn[3].kv_groups = 5;
    ok(refused(bad, &g, "layer 3: 5 KV groups"), "more groups than the parent has are refused");
    bad = dense, bad.attn[3].heads_per_group = 5;
    ok(refused(bad, &g, "layer 3: 5 query heads"), "more heads in a group are refused");
    bad = dense, bad.attn[3].heads_per_group = 0;
    ok(refused(bad, &g, "layer 3: 0 query heads"), "a group without heads is refused");
    bad = dense, bad.ffn[7].width = 1025;
    ok(refused(bad, &g, "layer 7: FFN width 1025"), "a width above the parent's is refused");
    bad = dense, bad.ffn[7].down = FORMAT_NONE;
    ok(refused(bad, &g, "layer 7"), "a kept FFN without a format is refused");
    bad = dense, bad.attn[0].qkv = (enum format)99;
    ok(refused(bad, &g, "layer 0"), "a format that is none is refused");
    bad = dense, bad.kv = FORMAT_Q2_K;
    ok(refused(bad, &g, "KV cache"), "a KV cache in Q2_K is refused");
    bad = dense, bad.embd = FORMAT_NONE;
    ok(refused(bad, &g, "embedding"), "a model without an embedding is refused");
    bad = dense, bad.hidden = 257;
    ok(refused(bad, &g, "hidden width 257"), "a stream wider than the parent's is refused");
    bad = dense, bad.rotation = N_ROTATIONS;
    ok(refused(bad, &g, "rotation"), "a rotation that is none is refused");
    bad = dense, bad.hidden = 224, bad.head = FORMAT_NONE;
    ok(refused(bad, &g, "head"), "a narrower stream without a head of its own is refused");
    bad = dense, bad.zero_ffn = 4096;
    ok(refused(bad, &g, "zero FFN"), "a zero FFN wider than the real one is refused");
}

static void test_text(void)
{
    struct geometry g = fixture_wide();
    struct genome a, b;
    struct err err = {0};
    char text[GENOME_TEXT_MAX], again[GENOME_TEXT_MAX];
    size_t cut_refused = 0, len;

    g.n_layers = 2;
    genome_uniform(&a, &g, FORMAT_Q4_K);
    a.attn[0].o = FORMAT_Q6_K;
    a.ffn[0].down = FORMAT_Q5_K;
    a.attn[1].kv_groups = 0;
    a.ffn[1] = (struct ffn_choice){512, FORMAT_Q3_K, FORMAT_Q4_K, ACT_Q8};
    genome_canonicalize(&a, &g, &err);
    len = genome_format(&a, text);
    is_text(text,
            "k1 embd=Q4_K head=Q4_K kv=F16 | 4x4 Q4_K Q6_K a8 / 1024 Q4_K Q5_K a8 | - / 512 Q3_K "
            "Q4_K a8",
            "the canonical text reads as the header says");
    ok(len == strlen(text), "its length is told");
    ok(genome_parse(text, &b, &err) == 0 && genome_equal(&a, &b), "it is read back");

    /* Every proper prefix but one that ends at a layer boundary is refused. */
    for (size_t n = 0; n < len; n++) {
        memcpy(again, text, n);
        again[n] = '\0';
        cut_refused += genome_parse(again, &b, &err) == -1 && err.code == ERR_DATA;
    }
    ok(cut_refused == len - 1, "cut texts are refused (%zu of %zu)", cut_refused, len);

    a.ffn[1].width = 0;
    a.attn[1] = a.attn[0];
    a.zero_ffn = 32;
    genome_canonicalize(&a, &g, &err);
    genome_format(&a, text);
    ok(strstr(text, " kv=F16 zero=32 | ") != NULL && genome_parse(text, &b, &err) == 0 &&
           genome_equal(&a, &b),
       "a zero FFN is part of the text");

    a.hidden = 224, a.rotation = ROTATION_HADAMARD;
    genome_canonicalize(&a, &g, &err);
    genome_format(&a, text);
    ok(strncmp(text, "k1 hidden=224 rotation=hadamard embd=Q4_0 ", 42) == 0 &&
           genome_parse(text, &b, &err) == 0 && genome_equal(&a, &b),
       "so is another basis of the residual stream");
    struct genome without = a;
    a.bias = true;
    genome_format(&a, text);
    ok(strstr(text, " kv=F16 zero=32 bias | ") != NULL && genome_parse(text, &b, &err) == 0 &&
           genome_equal(&a, &b) && !genome_equal(&a, &without),
       "so are biases");
}

static void test_hostile_text(void)
{
    static const char *const bad[] = {
        "",
        "k2 embd=Q4_K head=Q4_K kv=F16 | - / -",
        "k1 embd=Q4_K head=Q4_K kv=F16",
        "k1 embd=Q4_k head=Q4_K kv=F16 | - / -",
        "k1 embd=Q4_K head=Q4_K kv=F16 zero=0 | - / -",
        "k1 hidden=0 embd=Q4_K head=Q4_K kv=F16 | - / -",
        "k1 rotation=none embd=Q4_K head=Q4_K kv=F16 | - / -",
        "k1 rotation=hadamard hidden=64 embd=Q4_K head=Q4_K kv=F16 | - / -",
        "k1 embd=Q4_K head=Q4_K kv=F16 | - / - ",
        "k1 embd=Q4_K head=Q4_K kv=F16 | - / -\n",
        "k1 embd=Q4_K head=Q4_K kv=F16 | 4x4 Q4_K Q4_K a9 / -",
        "k1 embd=Q4_K head=Q4_K kv=F16 | 04x4 Q4_K Q4_K a8 / -",
        "k1 embd=Q4_K head=Q4_K kv=F16 | 0x4 Q4_K Q4_K a8 / -",
        "k1 embd=Q4_K head=Q4_K kv=F16 | 4294967296x4 Q4_K Q4_K a8 / -",
        "k1 embd=Q4_K head=Q4_K kv=F16 | 4x4 Q4_K  Q4_K a8 / -",
        "k1 embd=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA head=Q4_K kv=F16 | - / -",
        "k1 embd=none head=Q4_K kv=F16 | - / -",
    };
    struct genome genome = {.n_layers = 99};
    struct err err = {0};
    size_t refused_too_many;
    char *many = malloc(64 + 8 * (GEOMETRY_MAX_LAYERS + 1));
    char *at = many;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ok(genome_parse(bad[i], &genome, &err) == -1 && err.code == ERR_DATA &&
               genome.n_layers == 99 && strchr(err.text, '\n') == NULL,
           "hostile text %zu is refused in one line", i);
    ok(genome_parse("k1 embd=Q4_K head=Q4_K kv=F16 | 4x4 Q4_K Q9_K a8 / -", &genome, &err) == -1 &&
           strstr(err.text, "character 42") != NULL,
       "the position of the first flaw is told");

    at += sprintf(at, "k1 embd=Q4_K head=Q4_K kv=F16");
    for (int l = 0; l <= GEOMETRY_MAX_LAYERS; l++)
        at += sprintf(at, " | - / -");
    refused_too_many = genome_parse(many, &genome, &err) == -1;
    at[-8] = '\0';
    ok(refused_too_many && genome_parse(many, &genome, &err) == 0 && genome.n_layers == 256,
       "256 layers are read, 257 are refused");
    free(many);
}

static void test_random(void)
{
    struct geometry geometries[2] = {fixture_wide(), fixture_stories()};
    struct hash256 parent = sha256_of("parent", 6), other = sha256_of("other", 5);
    struct rng rng = rng_make(1, 7);
    int idempotent = 0, read_back = 0, same_id = 0, differ = 0, moved = 0;
    const int n = 2000;

    for (int i = 0; i < n; i++) {
        const struct geometry *g = &geometries[i % 2];
        struct genome a = random_genome(&rng, g), b, c;
        char text[GENOME_TEXT_MAX];

        if (genome_canonicalize(&a, g, NULL) != 0)
            continue;
        b = a;
        idempotent += genome_canonicalize(&b, g, NULL) == 0 && genome_equal(&a, &b);
        genome_format(&a, text);
        read_back += genome_parse(text, &c, NULL) == 0 && genome_equal(&a, &c);
        same_id += id128_equal(genome_id(&a, &parent), genome_id(&c, &parent));
        differ += !id128_equal(genome_id(&a, &parent), genome_id(&a, &other));
        c.embd = c.embd == FORMAT_F32 ? FORMAT_F16 : FORMAT_F32;
        moved +=
            !id128_equal(genome_id(&a, &parent), genome_id(&c, &parent)) && !genome_equal(&a, &c);
    }
    ok(idempotent == n, "canonical form is a fixed point (%d of %d)", idempotent, n);
    ok(read_back == n, "every canonical text is read back (%d of %d)", read_back, n);
    ok(same_id == n, "equal genomes have equal ids");
    ok(differ == n, "another parent is another candidate");
    ok(moved == n, "another embedding format is another candidate");
}

int main(void)
{
    test_canonical();
    test_limits();
    test_text();
    test_hostile_text();
    test_random();
    return tap_done();
}
