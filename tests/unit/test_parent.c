/* Files become parents: what is there is read right, what is wrong or unknown is refused by name.
 */
#include "evaluator/forward.h"
#include "evaluator/parent.h"
#include "space/account.h"
#include "tests/parent_file.h"
#include "tests/tap.h"

static const struct geometry small = {.n_layers = 3,
                                      .d_model = 32,
                                      .n_heads = 4,
                                      .n_kv_heads = 2,
                                      .head_dim = 8,
                                      .d_ff = 48,
                                      .n_vocab = 270,
                                      .n_ctx = 64,
                                      .tied = true,
                                      .rms_eps = 1e-6F,
                                      .rope_base = 5000.0F};

static char folder[256];

/* A file under construction: the keys and tensors of `model`, but for what a case changes. */
struct recipe {
    const struct model *model;
    const char *arch;
    const char *without; /* key or tensor to leave out */
    const char *also;    /* tensor to add, `also_n` (else 32) zeros in F32 */
    bool also_f16;
    size_t also_n;
    bool poison;             /* its last value is a NaN */
    const char *also_number; /* key to add */
    uint32_t number;
    const char *also_text; /* key to add */
    const char *text;
    bool keys_again; /* a name and a note, which are no part of the identity */
    bool arrays;     /* heads, groups and widths as arrays, as the units have them */
};

static bool wanted(const struct recipe *r, const char *name)
{
    return r->without == NULL || strcmp(r->without, name) != 0;
}

static void put_number(struct gguf_writer *w, const struct recipe *r, const char *name,
                       uint32_t value)
{
    char key[96];

    snprintf(key, sizeof key, "%s.%s", r->arch, name);
    if (!wanted(r, name))
        return;
    if (r->also_number != NULL && strcmp(r->also_number, name) == 0)
        value = r->number;
    gguf_put_u32(w, key, value, NULL);
}

static void put_shapes(struct gguf_writer *w, const struct recipe *r)
{
    static const char *const names[3] = {"attention.head_count", "attention.head_count_kv",
                                         "feed_forward_length"};
    const struct geometry *g = &r->model->geometry;
    uint32_t one[3] = {g->n_heads, g->n_kv_heads, g->d_ff}, all[3][GEOMETRY_MAX_LAYERS];
    char key[96];

    for (uint32_t l = 0; l < g->n_layers; l++) {
        all[0][l] = r->model->attn[l].n_heads;
        all[1][l] = r->model->attn[l].n_groups;
        all[2][l] = r->model->ffn[l].width;
    }
    for (int i = 0; i < 3; i++) {
        snprintf(key, sizeof key, "%s.%s", r->arch, names[i]);
        if (r->arrays)
            gguf_put_u32_array(w, key, all[i], g->n_layers, NULL);
        else
            put_number(w, r, names[i], one[i]);
    }
}

static void put_keys(struct gguf_writer *w, const struct recipe *r)
{
    static const char *const known[] = {
        "attention.head_count", "attention.head_count_kv", "feed_forward_length",
        "block_count",          "context_length",          "embedding_length",
        "attention.key_length", "attention.value_length",  "rope.dimension_count"};
    const struct geometry *g = &r->model->geometry;
    bool changes = false;
    char key[96];

    gguf_put_text(w, "general.architecture", r->arch, NULL);
    if (r->keys_again)
        gguf_put_text(w, "general.name", "again", NULL);
    put_number(w, r, "block_count", g->n_layers);
    put_number(w, r, "context_length", g->n_ctx);
    put_number(w, r, "embedding_length", g->d_model);
    put_number(w, r, "attention.key_length", g->head_dim);
    put_number(w, r, "attention.value_length", g->head_dim);
    put_number(w, r, "rope.dimension_count", g->head_dim);
    put_shapes(w, r);
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", r->arch);
    if (wanted(r, "attention.layer_norm_rms_epsilon"))
        gguf_put_f32(w, key, g->rms_eps, NULL);
    snprintf(key, sizeof key, "%s.rope.freq_base", r->arch);
    if (wanted(r, "rope.freq_base"))
        gguf_put_f32(w, key, g->rope_base, NULL);
    for (size_t i = 0; i < sizeof known / sizeof known[0] && r->also_number != NULL; i++)
        changes = changes || strcmp(known[i], r->also_number) == 0;
    if (r->also_number != NULL && !changes)
        put_number(w, r, r->also_number, r->number);
    if (r->also_text != NULL) {
        /* kerf's own keys have its prefix already. */
        bool own = strncmp(r->also_text, "kerf.", 5) == 0;
        snprintf(key, sizeof key, "%s%s%s", own ? "" : r->arch, own ? "" : ".", r->also_text);
        gguf_put_text(w, key, r->text, NULL);
    }
}

static void put_matrix(struct gguf_writer *w, const struct recipe *r, const char *name,
                       const struct weights *m)
{
    if (wanted(r, name))
        gguf_put_tensor(w, name, m->format, m->n_in, m->n_out, m->data, NULL);
}

static void put_norm(struct gguf_writer *w, const struct recipe *r, const char *name,
                     const float *gain)
{
    if (wanted(r, name))
        gguf_put_tensor(w, name, FORMAT_F32, r->model->geometry.d_model, 1, gain, NULL);
}

static void put_layer(struct gguf_writer *w, const struct recipe *r, uint32_t l)
{
    const struct attn_unit *a = &r->model->attn[l];
    const struct ffn_unit *f = &r->model->ffn[l];
    const struct weights *m[] = {&a->q, &a->k, &a->v, &a->o, &f->gate, &f->up, &f->down};
    static const enum tensor_role roles[] = {TENSOR_Q,    TENSOR_K,  TENSOR_V,   TENSOR_O,
                                             TENSOR_GATE, TENSOR_UP, TENSOR_DOWN};
    char name[64];

    snprintf(name, sizeof name, "blk.%u.attn_norm.weight", l);
    if (a->present)
        put_norm(w, r, name, a->norm);
    snprintf(name, sizeof name, "blk.%u.ffn_norm.weight", l);
    if (f->present)
        put_norm(w, r, name, f->norm);
    for (int i = 0; i < 7; i++) {
        snprintf(name, sizeof name, "blk.%u.%s", l, tensor_role_name(roles[i]));
        if (i < 4 ? a->present : f->present)
            put_matrix(w, r, name, m[i]);
    }
    snprintf(name, sizeof name, "blk.%u.attn_output.bias", l);
    if (a->bias != NULL)
        put_norm(w, r, name, a->bias);
    snprintf(name, sizeof name, "blk.%u.ffn_down.bias", l);
    if (f->bias != NULL)
        put_norm(w, r, name, f->bias);
}

static const char *write_file(const struct recipe *r, char path[512])
{
    static float more[64];
    struct gguf_writer *w = gguf_writer_create(NULL);

    put_keys(w, r);
    /* Not the order of llama.cpp: order carries no meaning. */
    for (uint32_t l = r->model->n_layers; l-- > 0;)
        put_layer(w, r, l);
    put_norm(w, r, "output_norm.weight", r->model->out_norm);
    if (!r->model->geometry.tied)
        put_matrix(w, r, "output.weight", &r->model->head);
    put_matrix(w, r, "token_embd.weight", &r->model->embd);
    size_t n = r->also_n > 0 ? r->also_n : 32;
    more[n - 1] = r->poison ? NAN : 0.0F;
    if (r->also != NULL)
        gguf_put_tensor(w, r->also, r->also_f16 ? FORMAT_F16 : FORMAT_F32, n, 1, more, NULL);
    folder_path(folder, "model.gguf", path);
    if (gguf_writer_save(w, path, NULL) != 0)
        abort();
    gguf_writer_destroy(w);
    return path;
}

static void check_reading(void)
{
    struct fixture *f = fixture_dense(&small, FORMAT_Q8_0, 1);
    struct recipe r = {.model = &f->model, .arch = "llama"};
    struct err err = {0};
    char path[512];

    struct parent *p = parent_open(write_file(&r, path), &err);
    if (!ok(p != NULL, "a dense llama file opens %s", err.text))
        return;
    const struct geometry *g = parent_geometry(p);
    ok(memcmp(g, &small, sizeof small) == 0, "its geometry is the one that was written");
    ok(parent_head(p) == parent_embd(p), "without output.weight the head is the embedding");
    const struct gguf_tensor *t = parent_tensor(p, 1, TENSOR_DOWN);
    ok(t != NULL && t->dims[0] == 48 && t->format == FORMAT_F16,
       "a row of 48 weights fell back to F16");
    float row[2][32], want[32];
    parent_unpack(parent_tensor(p, 2, TENSOR_UP), 5, 2, row[0]);
    kernels_reference()->unpack[FORMAT_Q8_0]((const char *)f->model.ffn[2].up.data + 6 * 34, 32,
                                             want);
    ok(memcmp(row[1], want, sizeof want) == 0, "rows are unpacked as they were packed");

    struct genome genome, uniform;
    parent_genome(p, &genome);
    genome_uniform(&uniform, &small, FORMAT_Q8_0);
    ok(genome_equal(&genome, &uniform), "its genome is the uniform one");
    struct model *model = model_of_parent(p, &err);
    ok(model != NULL && model_weight_bytes(model) == account_weight_bytes(&genome, g),
       "the model has the bytes that the space counts");
    struct hash256 hash = parent_hash(p), again = parent_hash(p);
    ok(memcmp(&hash, &again, sizeof hash) == 0, "the hash stays");
    model_destroy(model);
    parent_close(p);

    r.keys_again = true;
    p = parent_open(write_file(&r, path), &err);
    again = parent_hash(p);
    ok(memcmp(&hash, &again, sizeof hash) == 0, "other metadata do not change it");
    parent_close(p);
    ((uint8_t *)(uintptr_t)f->model.attn[1].v.data)[40] ^= 1;
    p = parent_open(write_file(&r, path), &err);
    again = parent_hash(p);
    ok(memcmp(&hash, &again, sizeof hash) != 0, "a changed bit of a weight does");
    parent_close(p);
    parent_close(NULL);
    fixture_destroy(f);
}

static void check_untied(void)
{
    struct geometry untied = small;
    untied.tied = false;
    struct fixture *f = fixture_dense(&untied, FORMAT_F32, 2);
    struct recipe r = {.model = &f->model, .arch = "llama", .without = "rope.freq_base"};
    char path[512];

    struct parent *p = parent_open(write_file(&r, path), NULL);
    ok(p != NULL && !parent_geometry(p)->tied && parent_head(p) != parent_embd(p),
       "with output.weight the head is a matrix of its own");
    ok(p != NULL && parent_geometry(p)->rope_base == 10000.0F,
       "RoPE's base is 10000 when not told");
    struct model *model = model_of_parent(p, NULL);
    ok(model != NULL && model->head.data != model->embd.data &&
           memcmp(model->head.data, f->model.head.data, 270 * 32 * sizeof(float)) == 0,
       "and the model has it");
    model_destroy(model);
    parent_close(p);
    fixture_destroy(f);
}

/* What kerf exports under deci: layers of their own widths, units missing, mixed formats. */
static void check_hetero(void)
{
    struct fixture *f = fixture_create(&small, FORMAT_Q8_0, FORMAT_F16, 3);
    struct recipe r = {.model = &f->model, .arch = "deci", .arrays = true};
    struct err err = {0};
    struct genome genome;
    char path[512], text[GENOME_TEXT_MAX];

    fixture_attn(f, 0, 1, 2, FORMAT_Q4_0);
    fixture_ffn(f, 0, 32, FORMAT_Q8_0);
    fixture_ffn(f, 1, 48, FORMAT_BF16);
    fixture_attn(f, 2, 2, 1, FORMAT_F16);
    fixture_ffn(f, 2, 16, FORMAT_Q4_0);
    struct parent *p = parent_open(write_file(&r, path), &err);
    if (!ok(p != NULL, "a deci file with a width a layer opens %s", err.text))
        return;
    const struct geometry *g = parent_geometry(p);
    ok(g->n_kv_heads == 2 && g->n_heads == 4 && g->d_ff == 48,
       "its geometry has the most groups, heads in a group and channels of any layer");
    parent_genome(p, &genome);
    genome_format(&genome, text);
    is_text(text,
            "k1 embd=Q8_0 head=Q8_0 kv=F16 | 1x2 Q4_0 F16 a8 / 32 Q8_0 Q8_0 a8 | - / 48 BF16 BF16 "
            "a16 | 2x1 F16 F16 a16 / 16 Q4_0 F16 a8",
            "its genome has each layer's own");
    ok(parent_tensor(p, 1, TENSOR_Q) == NULL && parent_tensor(p, 1, TENSOR_ATTN_NORM) == NULL,
       "a unit that is not there has no tensors");

    /* It computes what the fixture itself computes. */
    struct model *model = model_of_parent(p, &err);
    struct team *team = team_create(1, NULL, NULL, NULL);
    struct forward_options options = {.n_ctx = 8, .n_batch = 8};
    struct forward *a = forward_create(model, kernels_reference(), team, &options, &err);
    struct forward *b = forward_create(&f->model, kernels_reference(), team, &options, &err);
    const int32_t tokens[] = {1, 200, 3, 77};
    ok(!model->attn[1].present && model->ffn[1].present && model->attn[2].n_heads == 2,
       "its model leaves the unit out");
    forward_tokens(a, tokens, 4, LOGITS_ALL, NULL);
    forward_tokens(b, tokens, 4, LOGITS_ALL, NULL);
    ok(memcmp(forward_logits(a), forward_logits(b), 4 * 270 * sizeof(float)) == 0,
       "and computes the same logits");
    forward_destroy(a);
    forward_destroy(b);
    team_destroy(team);
    model_destroy(model);
    parent_close(p);

    r.arch = "llama";
    ok(parent_open(write_file(&r, path), &err) == NULL && err.code == ERR_DATA &&
           strstr(err.text, "attention.head_count differs between layers") != NULL,
       "the same under llama is refused");
    fixture_destroy(f);

    f = fixture_dense(&small, FORMAT_F32, 4);
    r = (struct recipe){.model = &f->model, .arch = "llama", .arrays = true};
    p = parent_open(write_file(&r, path), &err);
    ok(p != NULL, "arrays of equal entries are one number");
    parent_close(p);
    fixture_destroy(f);
}

/* Biases of o and down, and what units that are not there leave behind, one before all others. */
static void check_biases(void)
{
    struct fixture *f = fixture_create(&small, FORMAT_F32, FORMAT_F16, 6);
    struct recipe r = {.model = &f->model, .arch = "deci", .arrays = true};
    struct err err = {0};
    struct genome genome;
    char path[512];

    fixture_ffn(f, 0, 48, FORMAT_F32);
    fixture_attn(f, 2, 2, 2, FORMAT_F32);
    fixture_biases(f);
    f->model.ffn[2].bias = NULL;
    struct parent *p = parent_open(write_file(&r, path), &err);
    if (!ok(p != NULL, "a file with biases in place of units opens %s", err.text))
        return;
    parent_genome(p, &genome);
    ok(parent_has_bias(p) && genome.bias, "its genome says so");
    ok(parent_tensor(p, 1, TENSOR_O) == NULL && parent_tensor(p, 1, TENSOR_O_BIAS) != NULL &&
           parent_tensor(p, 2, TENSOR_DOWN_BIAS) == NULL,
       "a bias stands alone where the unit is not there, or is not there");
    struct model *model = model_of_parent(p, &err);
    struct team *team = team_create(1, NULL, NULL, NULL);
    struct forward_options options = {.n_ctx = 8, .n_batch = 8};
    struct forward *forward = forward_create(model, kernels_reference(), team, &options, &err);
    const int32_t tokens[] = {1, 200, 3, 77};
    double want[4 * 270], gap = 0;
    oracle_logits(&f->model, tokens, 4, want);
    forward_tokens(forward, tokens, 4, LOGITS_ALL, NULL);
    for (int i = 0; i < 4 * 270; i++)
        gap = fmax(gap, fabs((double)forward_logits(forward)[i] - want[i]));
    ok(gap < 5e-3, "and its model computes with them (%.1e)", gap);
    ok(model_weight_bytes(model) == account_weight_bytes(&genome, parent_geometry(p)) - 32 * 4,
       "their bytes are counted");
    struct hash256 hash = parent_hash(p), other;
    parent_close(p);
    ((float *)(uintptr_t)f->model.attn[1].bias)[3] += 1;
    p = parent_open(write_file(&r, path), &err);
    other = parent_hash(p);
    ok(memcmp(&hash, &other, sizeof hash) != 0, "another bias is another parent");
    forward_destroy(forward);
    team_destroy(team);
    model_destroy(model);
    parent_close(p);
    fixture_destroy(f);
}

static void refuse(const struct recipe *recipe, const struct model *model, const char *says)
{
    struct recipe r = *recipe;
    struct err err = {0};
    char path[512];

    r.model = model;
    r.arch = r.arch != NULL ? r.arch : "llama";
    struct parent *p = parent_open(write_file(&r, path), &err);
    if (!ok(p == NULL && err.code == ERR_DATA && strstr(err.text, says) != NULL, "refused: %s",
            says))
        printf("# %s\n", p != NULL ? "opened" : err.text);
    parent_close(p);
}

static void check_refusals(void)
{
    static const struct {
        struct recipe recipe;
        const char *says;
    } cases[] = {
        {{.arch = "gpt2"}, "architecture gpt2 is not supported: kerf reads llama and deci"},
        {{.without = "block_count"}, "key llama.block_count is missing"},
        {{.without = "embedding_length"}, "key llama.embedding_length is missing"},
        {{.without = "context_length"}, "key llama.context_length is missing"},
        {{.without = "feed_forward_length"}, "key llama.feed_forward_length is missing"},
        {{.without = "attention.head_count"}, "key llama.attention.head_count is missing"},
        {{.without = "attention.layer_norm_rms_epsilon"}, "layer_norm_rms_epsilon is missing"},
        {{.without = "token_embd.weight"}, "tensor token_embd.weight is missing"},
        {{.without = "output_norm.weight"}, "tensor output_norm.weight is missing"},
        {{.without = "blk.1.attn_v.weight"}, "tensor blk.1.attn_v.weight is missing"},
        {{.without = "blk.2.ffn_norm.weight"}, "tensor blk.2.ffn_norm.weight is missing"},
        {{.also = "rope_freqs.weight"}, "tensor rope_freqs.weight changes the result"},
        {{.also = "blk.0.attn_q.bias"}, "tensor blk.0.attn_q.bias changes the result"},
        {{.also = "blk.0.ffn_gate.bias"}, "tensor blk.0.ffn_gate.bias changes the result"},
        {{.also = "blk.3.attn_output.bias"}, "tensor blk.3.attn_output.bias changes the result"},
        {{.also = "blk.0.attn_output.bias", .also_n = 33},
         "tensor blk.0.attn_output.bias is 33 x 1, the keys ask for 32 x 1"},
        {{.also = "blk.2.ffn_down.bias", .also_f16 = true},
         "tensor blk.2.ffn_down.bias has ggml type 1, norms and biases must be F32"},
        {{.also = "blk.2.ffn_down.bias", .poison = true},
         "tensor blk.2.ffn_down.bias: value 31 is not a finite number"},
        {{.also = "blk.0.attn_q_norm.weight"}, "tensor blk.0.attn_q_norm.weight changes"},
        {{.also = "blk.3.attn_norm.weight"}, "tensor blk.3.attn_norm.weight changes"},
        {{.also_number = "expert_count", .number = 8}, "llama.expert_count is in use"},
        {{.also_number = "attention.sliding_window", .number = 99}, "sliding_window is in use"},
        {{.also_text = "kerf.activations", .text = "a8 a8"}, "a8 or a16 for each of"},
        {{.also_text = "kerf.activations", .text = "a8 a4 a8 a8 a8 a8"}, "a8 or a16 for each of"},
        {{.also_text = "kerf.activations", .text = ""}, "a8 or a16 for each of"},
        {{.also_text = "kerf.activations", .text = "a8 a8 a8 a8 a8 a8 a8 a8 a8 a8 a8 a8 a8 "},
         "a8 or a16 for each of"},
        {{.also_text = "kerf.kv_cache", .text = "q5_0"}, "names no format of a KV cache"},
        {{.also_text = "rope.scaling.type", .text = "yarn"}, "llama.rope.scaling.type is in use"},
        {{.also_number = "block_count", .number = 0}, "0 layers, allowed are 1 to 256"},
        {{.also_number = "block_count", .number = 257}, "257 layers, allowed are 1 to 256"},
        {{.also_number = "block_count", .number = 2}, "tensor blk.2.attn_norm.weight changes"},
        {{.also_number = "block_count", .number = 4}, "tensor blk.3.attn_norm.weight is missing"},
        {{.also_number = "embedding_length", .number = 64}, "the keys ask for"},
        {{.also_number = "attention.head_count", .number = 8},
         "tensor blk.0.attn_q.weight is 32 x 32, the keys ask for 32 x 64"},
        {{.also_number = "attention.head_count", .number = 3},
         "layer 0 has 3 query heads and 2 KV heads"},
        {{.also_number = "attention.head_count_kv", .number = 0},
         "layer 0 has 4 query heads and 0 KV heads"},
        {{.also_number = "feed_forward_length", .number = 47},
         "tensor blk.0.ffn_gate.weight is 32 x 48, the keys ask for 32 x 47"},
        {{.also_number = "feed_forward_length", .number = 0},
         "tensor blk.0.ffn_norm.weight belongs to a unit that the keys leave out"},
        {{.also_number = "rope.dimension_count", .number = 4},
         "llama.rope.dimension_count is 4 and the head size 8"},
        {{.also_number = "attention.value_length", .number = 16},
         "llama.attention.value_length is 16 and the head size 8"},
        {{.also_number = "vocab_size", .number = 271}, "llama.vocab_size is 271"},
        {{.also_number = "context_length", .number = 0}, "context is 0"},
        {{.also_number = "context_length", .number = 4000000000u},
         "llama.context_length is 4000000000, which no model has"},
    };
    struct fixture *f = fixture_dense(&small, FORMAT_F32, 5);

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        refuse(&cases[i].recipe, &f->model, cases[i].says);
    fixture_destroy(f);

    struct geometry odd = small;
    odd.rms_eps = 2.0F;
    f = fixture_dense(&odd, FORMAT_F32, 5);
    refuse(&(struct recipe){0}, &f->model, "RMS epsilon is 2");
    fixture_destroy(f);

    struct err err = {0};
    ok(parent_open("/nowhere/model.gguf", &err) == NULL && err.code == ERR_MISSING,
       "a file that is not there is missing");
}

int main(void)
{
    folder_make(folder);
    check_reading();
    check_untied();
    check_hetero();
    check_biases();
    check_refusals();
    folder_remove(folder);
    return tap_done();
}
