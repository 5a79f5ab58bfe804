#include "space/profile.h"

#include "space/base/err.h"
#include "tests/tap.h"
#include "tests/unit/space_fixture.h"

static struct geometry g;

/* Whether the profile takes it, after canonicalizing; else the message must name `word`. */
static bool takes(enum profile profile, struct genome genome)
{
    genome.zero_ffn = profile_zero_ffn(profile, &g);
    return genome_canonicalize(&genome, &g, NULL) == 0 &&
           profile_check(profile, &genome, &g, NULL) == 0;
}

static bool refuses(enum profile profile, struct genome genome, const char *word)
{
    struct err err = {0};

    genome.zero_ffn = profile_zero_ffn(profile, &g);
    return genome_canonicalize(&genome, &g, NULL) == 0 &&
           profile_check(profile, &genome, &g, &err) == -1 && err.code == ERR_CONFIG &&
           strstr(err.text, word) != NULL;
}

static void check_bias(void)
{
    struct genome a;

    genome_uniform(&a, &g, FORMAT_Q8_0);
    a.bias = true;
    ok(takes(PROFILE_NATIVE, a) && refuses(PROFILE_GGUF, a, "profile native") &&
           refuses(PROFILE_GGUF_HETERO, a, "profile native"),
       "biases are for the native profile");
    ok(profile_has_bias(PROFILE_NATIVE) && !profile_has_bias(PROFILE_GGUF) &&
           !profile_has_bias(PROFILE_GGUF_HETERO),
       "which is the one that wants them");
}

static struct genome drop(struct genome genome, uint32_t layer, bool attn, bool ffn)
{
    if (attn)
        genome.attn[layer].kv_groups = 0;
    if (ffn)
        genome.ffn[layer].width = 0;
    return genome;
}

/* Where the residual stream is one block wide, so are the rows of most matrices. */
static void check_narrow_model(void)
{
    struct geometry wide = g;
    struct genome a;
    int finer = 0, safe = 0;

    g.d_model = 32;
    genome_uniform(&a, &g, FORMAT_IQ4_NL);
    ok(takes(PROFILE_GGUF, a), "a model 32 wide may be kept in IQ4_NL");
    a.embd = a.head = FORMAT_Q8_0;
    ok(refuses(PROFILE_GGUF, a, "token_embd"), "but its embedding not in Q8_0");
    a.embd = a.head = FORMAT_F16, a.attn[3].qkv = FORMAT_Q4_0;
    ok(refuses(PROFILE_GGUF, a, "layer 3: rows of attn_qkv"), "nor its queries in Q4_0");
    g = wide;

    for (int f = 0; f < N_FORMATS; f++) {
        enum format instead = profile_format(PROFILE_GGUF, (enum format)f, 32);
        safe += format_fits(instead, 32) && profile_row_is_safe(instead, 32);
        finer += f == 0 || instead >= profile_format(PROFILE_GGUF, (enum format)(f - 1), 32);
    }
    ok(safe == N_FORMATS, "every format has a safe one that stands for it on rows of 32");
    ok(finer == N_FORMATS, "and a finer one never leads to a coarser one");
    ok(profile_format(PROFILE_GGUF, FORMAT_Q4_K, 32) == FORMAT_Q5_0 &&
           profile_format(PROFILE_GGUF, FORMAT_Q4_K, 64) == FORMAT_Q4_0 &&
           profile_format(PROFILE_NATIVE, FORMAT_Q4_K, 32) == FORMAT_Q4_0,
       "Q5_0 stands for Q4_0, on rows of 32 and outside native only");
}

int main(void)
{
    struct genome dense, mixed, a;
    struct err err = {0};

    g = fixture_wide();
    genome_uniform(&dense, &g, FORMAT_Q4_K);
    is_text(profile_name(PROFILE_GGUF_HETERO), "gguf-hetero", "profiles have names");
    ok(profile_parse("gguf") == PROFILE_GGUF && profile_parse("native") == PROFILE_NATIVE &&
           profile_parse("GGUF") == N_PROFILES,
       "names are read back, exactly");

    for (int p = 0; p < N_PROFILES; p++)
        ok(takes((enum profile)p, dense), "%s takes the dense parent",
           profile_name((enum profile)p));

    mixed = dense;
    mixed.attn[1].qkv = FORMAT_Q2_K;
    mixed.attn[1].o = FORMAT_F16;
    mixed.ffn[2].down = FORMAT_Q8_0;
    ok(takes(PROFILE_GGUF, mixed), "gguf takes any mix of formats");
    mixed.attn[1].act = ACT_FLOAT;
    ok(refuses(PROFILE_GGUF, mixed, "layer 1") && refuses(PROFILE_GGUF_HETERO, mixed, "layer 1"),
       "the gguf profiles refuse float activations on quantized weights");
    ok(takes(PROFILE_NATIVE, mixed), "native takes them");

    a = drop(drop(dense, 0, true, true), 5, true, true);
    ok(takes(PROFILE_GGUF, a), "gguf takes whole layers dropped, the first one too");
    ok(refuses(PROFILE_GGUF, drop(dense, 3, true, false), "layer 3"),
       "gguf refuses a layer without attention");
    ok(refuses(PROFILE_GGUF, drop(dense, 3, false, true), "layer 3"),
       "gguf refuses a layer without FFN");
    a = dense, a.ffn[4].width = 512;
    ok(refuses(PROFILE_GGUF, a, "layer 4") && takes(PROFILE_GGUF_HETERO, a),
       "one narrower FFN needs gguf-hetero");
    a = dense, a.attn[4].kv_groups = 2;
    ok(refuses(PROFILE_GGUF, a, "layer 4") && takes(PROFILE_GGUF_HETERO, a),
       "so do fewer KV groups in one layer");
    a = dense, a.attn[4].heads_per_group = 2;
    ok(refuses(PROFILE_GGUF, a, "layer 4"), "and fewer heads in a group");
    a = dense;
    for (uint32_t l = 0; l < g.n_layers; l++)
        a.ffn[l].width = 512, a.attn[l].kv_groups = 2;
    ok(takes(PROFILE_GGUF, a), "gguf takes narrower units when they are so in all layers");

    ok(takes(PROFILE_GGUF_HETERO, drop(dense, 7, true, false)),
       "gguf-hetero takes a last layer without attention");
    ok(refuses(PROFILE_GGUF_HETERO, drop(dense, 0, true, false), "layer 0"), "but not a first one");
    a = drop(dense, 0, true, true);
    ok(takes(PROFILE_GGUF_HETERO, a), "a whole first layer may go, the second is then the first");
    ok(refuses(PROFILE_GGUF_HETERO, drop(a, 1, true, false), "layer 1"),
       "which then must have attention");

    a = drop(dense, 7, false, true);
    ok(takes(PROFILE_GGUF_HETERO, a) && takes(PROFILE_NATIVE, a),
       "an FFN may go alone, from the last layer too");
    ok(profile_has_zero_ffn(PROFILE_GGUF_HETERO, &a, 7) &&
           !profile_has_zero_ffn(PROFILE_GGUF_HETERO, &a, 6) &&
           !profile_has_zero_ffn(PROFILE_NATIVE, &a, 7),
       "a zero FFN stands for it in gguf-hetero only");
    genome_canonicalize(&a, &g, NULL);
    ok(profile_check(PROFILE_GGUF_HETERO, &a, &g, &err) == -1 &&
           strstr(err.text, "zero FFN of 32") != NULL,
       "without the zero FFN gguf-hetero refuses");

    a = dense, a.attn[4].kv_groups = a.attn[4].heads_per_group = 1;
    ok(refuses(PROFILE_GGUF_HETERO, a, "layer 4: rows of attn_output have one block of Q4_0"),
       "a row of one Q4_0 block is refused, by layer and matrix");
    a.attn[4].o = FORMAT_Q5_0;
    ok(takes(PROFILE_GGUF_HETERO, a), "in Q5_0 it is taken");
    a.attn[4].o = FORMAT_Q8_0;
    ok(refuses(PROFILE_GGUF_HETERO, a, "AMX") && takes(PROFILE_NATIVE, a),
       "one Q8_0 block is refused too, and native takes it");
    a = dense, a.ffn[2].width = 32, a.ffn[2].down = FORMAT_Q8_0;
    ok(refuses(PROFILE_GGUF_HETERO, a, "layer 2: rows of ffn_down"), "so it is in an FFN");
    a.ffn[2].width = 64;
    ok(takes(PROFILE_GGUF_HETERO, a), "two blocks are taken");
    check_narrow_model();
    check_bias();

    a = dense;
    for (uint32_t l = 0; l < g.n_layers; l++)
        a = drop(a, l, true, true);
    for (int p = 0; p < N_PROFILES; p++)
        ok(refuses((enum profile)p, a, "no layer"), "%s refuses an empty model",
           profile_name((enum profile)p));
    return tap_done();
}
