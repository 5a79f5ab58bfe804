/* Exported files: read back by kerf they are the model that was written, byte for byte, and each
 * rule of the stock loader is known by name.  (That a stock engine computes the same from them is
 * shown in tests/engine.) */
#include "evaluator/compression/stitch.h"
#include "evaluator/export.h"
#include "space/account.h"
#include "space/base/file.h"
#include "tests/compression_fixture.h"
#include "tests/tap.h"

#include <sys/stat.h>

static const struct geometry wide = {.n_layers = 4,
                                     .d_model = 256,
                                     .n_heads = 8,
                                     .n_kv_heads = 4,
                                     .head_dim = 32,
                                     .d_ff = 512,
                                     .n_vocab = 270,
                                     .n_ctx = 128,
                                     .tied = true,
                                     .rms_eps = 1e-5F,
                                     .rope_base = 50000.0F};

static const struct export_note note = {.candidate = "0123456789abcdef",
                                        .study = "feed",
                                        .metrics = "{\"kld\": 0.1}",
                                        .polish = "{\"alpha\": 1}"};
static struct bench bench;
static struct store *store;

static int export_as(struct genome *genome, enum profile profile, const char *path, struct err *err)
{
    bench_demand(genome_canonicalize(genome, &wide, err) == 0, err);
    struct model *model = stitch_model(&bench.source, store, genome, err);
    bench_demand(model != NULL, err);
    int status = export_gguf(bench.parent, model, genome, profile, &note, path, err);
    model_destroy(model);
    return status;
}

static bool text_is(const struct gguf *gguf, const char *key, const char *want)
{
    struct gguf_text text;

    return gguf_get_text(gguf, key, &text, NULL) == 1 && text.length == strlen(want) &&
           memcmp(text.data, want, text.length) == 0;
}

static uint64_t number_at(const struct gguf *gguf, const char *key, size_t i)
{
    uint64_t value = 999999;

    if (gguf_type_of(gguf, key) == GGUF_ARRAY)
        gguf_array_uint(gguf, key, i, &value, NULL);
    else
        gguf_get_uint(gguf, key, &value, NULL);
    return value;
}

static bool same_raw(const struct gguf *a, const struct gguf *b, const char *key)
{
    const void *x, *y;
    uint32_t s, t;
    size_t n, m;

    return gguf_raw_value(a, key, &s, &x, &n) == 0 && gguf_raw_value(b, key, &t, &y, &m) == 0 &&
           s == t && n == m && memcmp(x, y, n) == 0;
}

/* The file that kerf wrote is a parent whose own genome is the one that was exported. */
static void check_llama(void)
{
    char path[512], text[GENOME_TEXT_MAX], hex[HASH256_HEX];
    struct genome genome, again;
    struct err err;

    genome_uniform(&genome, &wide, FORMAT_Q4_K);
    genome.kv = FORMAT_Q8_0;
    for (uint32_t l = 0; l < 4; l++) {
        genome.attn[l].kv_groups = 2;
        genome.ffn[l].width = 256;
        genome.ffn[l].down = l == 0 ? FORMAT_Q6_K : FORMAT_Q3_K;
    }
    genome.attn[1].kv_groups = genome.ffn[1].width = 0;
    folder_path(bench.folder, "llama.gguf", path);
    ok(export_as(&genome, PROFILE_GGUF, path, &err) == 0, "equal layers are exported");
    ok(export_verify(path, &err) == 0, "and verified");
    struct parent *file = parent_open(path, &err);
    bench_demand(file != NULL, &err);
    const struct gguf *gguf = parent_gguf(file), *from = parent_gguf(bench.parent);
    ok(text_is(gguf, "general.architecture", "llama") &&
           number_at(gguf, "llama.block_count", 0) == 3 &&
           gguf_type_of(gguf, "llama.feed_forward_length") == GGUF_U32 &&
           number_at(gguf, "llama.feed_forward_length", 0) == 256 &&
           number_at(gguf, "llama.attention.head_count", 0) == 4 &&
           number_at(gguf, "llama.attention.head_count_kv", 0) == 2,
       "as architecture llama with one number for all layers");
    ok(number_at(gguf, "llama.attention.key_length", 0) == 32 &&
           number_at(gguf, "llama.attention.value_length", 0) == 32 &&
           number_at(gguf, "llama.rope.dimension_count", 0) == 32,
       "head sizes are written");
    ok(number_at(gguf, "general.quantization_version", 0) == 2 &&
           number_at(gguf, "general.file_type", 0) == 14,
       "the file type is that of most weights");
    ok(same_raw(gguf, from, "tokenizer.ggml.tokens") &&
           same_raw(gguf, from, "tokenizer.ggml.scores") &&
           same_raw(gguf, from, "general.license") && same_raw(gguf, from, "general.name"),
       "tokenizer, name and licence are the parent's");
    genome_format(&genome, text);
    hash256_hex(parent_hash(bench.parent), hex);
    ok(text_is(gguf, "kerf.genome", text) && text_is(gguf, "kerf.parent.sha256", hex) &&
           text_is(gguf, "kerf.candidate", note.candidate) &&
           text_is(gguf, "kerf.study", note.study) && text_is(gguf, "kerf.metrics", note.metrics) &&
           text_is(gguf, "kerf.polish", note.polish) && text_is(gguf, "kerf.kv_cache", "q8_0") &&
           gguf_type_of(gguf, "kerf.calibration.sha256") < 0,
       "kerf's keys say where it comes from");

    /* Renumbered: layer 2 of the parent is layer 1 of the file. */
    parent_genome(file, &again);
    ok(again.n_layers == 3 && again.ffn[0].down == FORMAT_Q6_K &&
           again.ffn[1].down == FORMAT_Q3_K && again.embd == FORMAT_Q4_K,
       "its own genome is what was exported");
    ok(memcmp(parent_tensor(file, 1, TENSOR_FFN_NORM)->data,
              parent_tensor(bench.parent, 2, TENSOR_FFN_NORM)->data, 256 * sizeof(float)) == 0,
       "layers are renumbered");
    parent_close(file);
}

static void check_deci(void)
{
    char path[512];
    struct genome genome;
    struct err err;

    genome_uniform(&genome, &wide, FORMAT_Q8_0);
    genome.attn[0].kv_groups = 3;
    genome.ffn[0].width = 0;
    genome.attn[1].kv_groups = 0;
    genome.ffn[1].width = 96;
    genome.attn[3].heads_per_group = 1;
    genome.ffn[3].width = 0;
    genome.zero_ffn = 32;
    folder_path(bench.folder, "deci.gguf", path);
    ok(export_as(&genome, PROFILE_GGUF_HETERO, path, &err) == 0 && export_verify(path, &err) == 0,
       "layers of their own widths are exported");
    struct gguf *gguf = gguf_open(path, &err);
    static const uint64_t want[3][4] = {{6, 0, 8, 4}, {3, 0, 4, 4}, {32, 96, 512, 32}};
    bool right = text_is(gguf, "general.architecture", "deci");
    for (size_t l = 0; l < 4; l++)
        right = right && number_at(gguf, "deci.attention.head_count", l) == want[0][l] &&
                number_at(gguf, "deci.attention.head_count_kv", l) == want[1][l] &&
                number_at(gguf, "deci.feed_forward_length", l) == want[2][l];
    ok(right, "as architecture deci with a number for each layer");
    right = true;
    for (int i = 0; i < 3; i++) {
        static const char *const keys[3] = {"deci.attention.head_count",
                                            "deci.attention.head_count_kv",
                                            "deci.feed_forward_length"};
        const void *data;
        uint32_t type, element = GGUF_U32;
        size_t n_bytes;
        if (gguf_raw_value(gguf, keys[i], &type, &data, &n_bytes) == 0 && n_bytes > sizeof element)
            memcpy(&element, data, sizeof element);
        right = right && element == GGUF_I32;
    }
    ok(right, "in signed words, which older loaders take too");
    ok(gguf_tensor_find(gguf, "blk.1.attn_norm.weight") == NULL &&
           gguf_tensor_find(gguf, "blk.1.attn_q.weight") == NULL,
       "a layer without attention has none of its tensors");
    const struct gguf_tensor *zero = gguf_tensor_find(gguf, "blk.3.ffn_down.weight");
    size_t set = 0;
    for (size_t i = 0; zero != NULL && i < zero->n_bytes; i++)
        set += ((const uint8_t *)zero->data)[i] != 0;
    ok(zero != NULL && zero->format == FORMAT_F16 && zero->dims[0] == 32 && set == 0,
       "a layer without FFN carries zeros");
    gguf_close(gguf);
}

/* Logits of a few tokens, [4][n_vocab]. */
static void run_model(const struct model *model, float *logits)
{
    const int32_t tokens[] = {3, 1, 260, 77};
    struct forward_options options = {.n_ctx = 8, .n_batch = 8};
    struct team *team = team_create(1, NULL, NULL, NULL);
    struct err err = {0};
    struct forward *f = forward_create(model, kernels_select(), team, &options, &err);

    bench_demand(f != NULL && forward_tokens(f, tokens, 4, LOGITS_ALL, &err) == 0, &err);
    memcpy(logits, forward_logits(f), 4 * 270 * sizeof *logits);
    forward_destroy(f);
    team_destroy(team);
}

/* Random biases for every unit, present or not; what `keep` has a bit for. */
static void give_biases(struct model *model, float *values, unsigned keep)
{
    struct rng rng = rng_make(77, 0);

    for (uint32_t u = 0; u < 2 * model->n_layers; u++) {
        for (uint32_t i = 0; i < 256; i++)
            values[256 * u + i] = (float)(0.3 * rng_normal(&rng));
        if (keep >> u & 1)
            *(u % 2 == 0 ? &model->attn[u / 2].bias : &model->ffn[u / 2].bias) = values + 256 * u;
    }
}

/* Native: what no stock engine takes, biases above all, comes back the same. */
static void check_native(void)
{
    static float values[8 * 256], want[4 * 270], got[4 * 270];
    char path[512];
    struct genome genome, again;
    struct err err;

    genome_uniform(&genome, &wide, FORMAT_Q8_0);
    genome.attn[0].kv_groups = genome.ffn[1].width = 0;
    genome.attn[2].kv_groups = genome.ffn[2].width = 0;
    genome.attn[3].kv_groups = genome.attn[3].heads_per_group = 1;
    bench_demand(genome_canonicalize(&genome, &wide, &err) == 0, &err);
    struct model *model = stitch_model(&bench.source, store, &genome, &err);
    bench_demand(model != NULL, &err);
    give_biases(model, values, 0xff);
    folder_path(bench.folder, "native.gguf", path);
    ok(export_gguf(bench.parent, model, &genome, PROFILE_NATIVE, &note, path, &err) == 0,
       "a native model is exported: no first attention, no FFN, a layer with biases alone");
    struct parent *file = parent_open(path, &err);
    bench_demand(file != NULL, &err);
    parent_genome(file, &again);
    genome.bias = true;
    ok(genome_equal(&genome, &again) && parent_has_bias(file),
       "it has all layers, and its genome is the one with biases");
    const struct gguf *gguf = parent_gguf(file);
    ok(gguf_tensor_find(gguf, "blk.2.attn_output.weight") == NULL &&
           gguf_tensor_find(gguf, "blk.2.attn_output.bias") != NULL &&
           gguf_tensor_find(gguf, "blk.2.ffn_down.bias") != NULL &&
           number_at(gguf, "deci.attention.head_count", 2) == 0 &&
           number_at(gguf, "deci.feed_forward_length", 2) == 0,
       "a dropped unit is a bias alone");
    struct model *own = model_of_parent(file, &err);
    run_model(model, want);
    run_model(own, got);
    ok(memcmp(want, got, sizeof got) == 0, "and it computes the same logits");
    ok(model_weight_bytes(own) == account_weight_bytes(&genome, &wide),
       "its bytes are those that are counted");
    model_destroy(own);
    parent_close(file);
    ok(export_verify(path, &err) != 0 && err.code == ERR_NO &&
           strstr(err.text, "for kerf alone: layer 0 has a mean output in place of its attention "
                            "(blk.0.attn_output.bias)") != NULL,
       "verify says that it is for kerf alone");
    model_destroy(model);

    genome_uniform(&genome, &wide, FORMAT_Q8_0);
    model = stitch_model(&bench.source, store, &genome, &err);
    bench_demand(model != NULL, &err);
    give_biases(model, values, 0x6f);
    ok(export_gguf(bench.parent, model, &genome, PROFILE_NATIVE, &note, path, &err) == 0 &&
           (file = parent_open(path, &err)) != NULL && parent_has_bias(file),
       "so is one that keeps all units");
    ok(parent_tensor(file, 2, TENSOR_O_BIAS) == NULL &&
           parent_tensor(file, 3, TENSOR_DOWN_BIAS) == NULL,
       "a unit without a bias has none in the file");
    parent_close(file);
    model_destroy(model);
}

/* A genome that must not be exported under a profile, and a word of the reason. */
static void check_refused(struct genome *genome, enum profile profile, const char *word,
                          const char *title)
{
    char path[512];
    struct err err = {0};

    folder_path(bench.folder, "refused.gguf", path);
    int status = export_as(genome, profile, path, &err);
    ok(status != 0 && err.code == ERR_CONFIG && strstr(err.text, word) != NULL &&
           !file_exists(path),
       "%s is refused", title);
    if (status == 0 || strstr(err.text, word) == NULL)
        printf("# %s\n", err.text);
}

static void check_refusals(void)
{
    struct genome genome;

    genome_uniform(&genome, &wide, FORMAT_Q8_0);
    genome.ffn[2].width = 256;
    check_refused(&genome, PROFILE_GGUF, "layer 2", "an unequal layer under profile gguf");

    genome_uniform(&genome, &wide, FORMAT_Q8_0);
    genome.attn[0].kv_groups = 0;
    check_refused(&genome, PROFILE_GGUF_HETERO, "layer 0", "a first layer without attention");
    genome_uniform(&genome, &wide, FORMAT_Q8_0);
    genome.attn[0].kv_groups = genome.ffn[0].width = genome.attn[1].kv_groups = 0;
    check_refused(&genome, PROFILE_GGUF_HETERO, "layer 1", "the same behind a dropped layer");

    genome_uniform(&genome, &wide, FORMAT_Q8_0);
    genome.ffn[1].width = 0;
    check_refused(&genome, PROFILE_GGUF_HETERO, "zero FFN", "attention without an FFN");
    genome_uniform(&genome, &wide, FORMAT_Q8_0);
    struct err err = {0};
    struct model *model = stitch_model(&bench.source, store, &genome, &err);
    genome.bias = true;
    ok(export_gguf(bench.parent, model, &genome, PROFILE_GGUF, &note, "/nowhere.gguf", &err) != 0 &&
           err.code == ERR_CONFIG && strstr(err.text, "profile native") != NULL,
       "a bias under profile gguf is refused");
    model_destroy(model);

    genome_uniform(&genome, &wide, FORMAT_Q8_0);
    genome.attn[1].act = ACT_FLOAT;
    check_refused(&genome, PROFILE_GGUF, "activations", "an activation format of kerf's own");

    genome_uniform(&genome, &wide, FORMAT_Q8_0);
    genome.attn[2].kv_groups = genome.attn[2].heads_per_group = 1;
    check_refused(&genome, PROFILE_GGUF_HETERO, "AMX", "a Q8_0 row of one block");
    genome.attn[2].o = FORMAT_IQ4_NL;
    char path[512];
    ok(export_as(&genome, PROFILE_GGUF_HETERO, folder_path(bench.folder, "ok.gguf", path), &err) ==
           0,
       "an IQ4_NL row of one block is not");
}

/* Activations and KV cache of a file for kerf alone. */
static void check_choices(void)
{
    struct genome genome, again;
    struct err err = {0};
    char path[512];

    genome_uniform(&genome, &wide, FORMAT_Q8_0);
    genome.attn[1].act = genome.ffn[3].act = ACT_FLOAT;
    genome.ffn[2].width = 0;
    genome.kv = FORMAT_Q4_0;
    folder_path(bench.folder, "choices.gguf", path);
    ok(export_as(&genome, PROFILE_NATIVE, path, &err) == 0,
       "under native some units may take float activations%s", err.text);
    struct parent *file = parent_open(path, &err);
    bench_demand(file != NULL, &err);
    struct model *model = model_of_parent(file, &err);
    bench_demand(model != NULL, &err);
    parent_genome(file, &again);
    ok(text_is(parent_gguf(file), "kerf.activations", "a8 a8 a16 a8 a8 a8 a8 a16") &&
           again.attn[1].act == ACT_FLOAT && again.ffn[1].act == ACT_Q8 &&
           model->attn[1].o.act == ACT_FLOAT && model->attn[0].o.act == ACT_Q8 &&
           model->ffn[3].gate.act == ACT_FLOAT,
       "they do so again when the file is read");
    ok(parent_kv_cache(file) == FORMAT_Q4_0 && model->kv == FORMAT_F16,
       "it says which KV cache it was measured with, and as a parent has F16");
    model_destroy(model);
    parent_close(file);
    ok(export_verify(path, &err) == -1 && err.code == ERR_NO &&
           strstr(err.text, "for kerf alone") != NULL,
       "no other engine computes that (%s)", err.text);
}

/* A failed export leaves what was there; a folder or a missing one is refused. */
static void check_places(void)
{
    char path[512], text[GENOME_TEXT_MAX];
    struct genome genome;
    size_t n_bytes;
    struct err err;

    genome_uniform(&genome, &wide, FORMAT_Q8_0);
    folder_path(bench.folder, "kept.gguf", path);
    file_replace(path, "precious", 8, &err);
    genome.ffn[2].width = 256;
    export_as(&genome, PROFILE_GGUF, path, &err);
    char *kept = file_read(path, 100, &n_bytes, &err);
    ok(kept != NULL && strcmp(kept, "precious") == 0, "a refused export leaves the old file");
    free(kept);
    genome.ffn[2].width = 512;
    ok(export_as(&genome, PROFILE_GGUF, path, &err) == 0 && export_verify(path, &err) == 0,
       "an export replaces it");
    ok(export_as(&genome, PROFILE_GGUF, bench.folder, &err) != 0 && err.code == ERR_CREATE,
       "a folder in its place is ERR_CREATE");
    ok(export_as(&genome, PROFILE_GGUF, "/nowhere/at/all.gguf", &err) != 0 &&
           err.code == ERR_CREATE,
       "a folder that is not there is ERR_CREATE");
    snprintf(text, sizeof text, "test -z \"$(find '%s' -name '*.kerf-*')\"", bench.folder);
    ok(system(text) == 0, "no draft is left behind");
}

/* Files of other makers: one key is wrong each time. */
static void write_variant(const char *path, const char *arch, const uint32_t heads[2],
                          const uint32_t groups[2], const uint32_t width[2], uint32_t key_length,
                          uint32_t rope)
{
    struct gguf_writer *w = gguf_writer_create(NULL);
    char key[64];
    struct err err;

#define KEY(name) (snprintf(key, sizeof key, "%s.%s", arch, name), key)
    gguf_put_text(w, "general.architecture", arch, NULL);
    gguf_put_u32(w, KEY("block_count"), 2, NULL);
    gguf_put_u32_array(w, KEY("attention.head_count"), heads, 2, NULL);
    gguf_put_u32_array(w, KEY("attention.head_count_kv"), groups, 2, NULL);
    gguf_put_u32_array(w, KEY("feed_forward_length"), width, 2, NULL);
    if (key_length > 0) {
        gguf_put_u32(w, KEY("attention.key_length"), key_length, NULL);
        gguf_put_u32(w, KEY("attention.value_length"), key_length, NULL);
    }
    gguf_put_u32(w, KEY("rope.dimension_count"), rope, NULL);
#undef KEY
    bench_demand(gguf_writer_save(w, path, &err) == 0, &err);
    gguf_writer_destroy(w);
}

static void check_rules(void)
{
    static const struct {
        const char *arch;
        uint32_t heads[2], groups[2], width[2], key, rope;
        const char *word;
    } rows[] = {
        {"llama", {4, 4}, {2, 2}, {64, 32}, 8, 8, "differs at layer 1"},
        {"llama", {4, 2}, {2, 2}, {64, 64}, 8, 8, "differs at layer 1"},
        {"deci", {0, 4}, {0, 2}, {64, 64}, 8, 8, "layer 0 has no attention"},
        {"deci", {4, 4}, {2, 2}, {64, 0}, 8, 8, "thrown away"},
        {"deci", {4, 6}, {2, 4}, {64, 64}, 8, 8, "multiple"},
        {"deci", {4, 4}, {2, 0}, {64, 64}, 8, 8, "without KV heads"},
        {"deci", {4, 4}, {2, 2}, {64, 64}, 0, 8, "key_length is not written"},
        {"deci", {4, 4}, {2, 2}, {64, 64}, 8, 4, "differ"},
        {"deci", {4, 4}, {2, 2}, {64, 64}, 7, 7, "odd"},
        {"deci", {4, 4}, {2, 2}, {64, 64}, 8, 8, "tokenizer"},
        {"qwen2", {4, 4}, {2, 2}, {64, 64}, 8, 8, "neither llama nor deci"},
    };
    char path[512];

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err = {0};
        write_variant(folder_path(bench.folder, "rule.gguf", path), rows[i].arch, rows[i].heads,
                      rows[i].groups, rows[i].width, rows[i].key, rows[i].rope);
        if (!ok(export_verify(path, &err) != 0 && err.code == ERR_NO &&
                    strstr(err.text, rows[i].word) != NULL,
                "verify names the rule: %s", rows[i].word))
            printf("# %s\n", err.text);
    }
    struct err err;
    ok(export_verify("/nowhere", &err) != 0 && err.code == ERR_MISSING, "no file is ERR_MISSING");
    file_replace(path, "GGUF what", 9, &err);
    ok(export_verify(path, &err) != 0 && err.code == ERR_DATA, "no GGUF is ERR_DATA");
}

int main(void)
{
    bench_open(&bench, &wide, FORMAT_BF16, 51);
    store = bench_store(&bench, "store");
    check_llama();
    check_deci();
    check_native();
    check_refusals();
    check_choices();
    check_places();
    check_rules();
    store_close(store);
    bench_close(&bench);
    return tap_done();
}
