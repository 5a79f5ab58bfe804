/* tiny_model.c - a small world for tests of the whole program:
 *
 *     tiny_model DIR [ARCHITECTURE]
 *
 * writes DIR/tiny.gguf (a random Llama-like model whose rows take every format), calibration.txt
 * and heldout.txt (words that its vocabulary knows) and tasks/first.jsonl, tasks/second.jsonl.
 * The same bytes at every call.  Another architecture than `llama` makes a file that must be
 * refused. */
#include "space/base/file.h"
#include "tests/parent_file.h"

#define N_LETTERS  26
#define N_VOCAB    400
#define N_CONTROL  3
#define FIRST_WORD (N_CONTROL + 256 + 1 + 2 * N_LETTERS)
#define N_WORDS    (N_VOCAB - FIRST_WORD)
#define N_ITEMS    24

static const struct geometry geometry = {.n_layers = 3,
                                         .d_model = 256,
                                         .n_heads = 8,
                                         .n_kv_heads = 4,
                                         .head_dim = 32,
                                         .d_ff = 512,
                                         .n_vocab = N_VOCAB,
                                         .n_ctx = 128,
                                         .tied = true,
                                         .rms_eps = 1e-5F,
                                         .rope_base = 10000.0F};

/* Word i has two letters; merging letter by letter reaches it. */
static void word_spell(uint32_t i, char text[3])
{
    text[0] = (char)('a' + i % N_LETTERS);
    text[1] = (char)('a' + (i * 7 + i / N_LETTERS) % N_LETTERS);
    text[2] = '\0';
}

/* --- the vocabulary: control pieces, bytes, the space, letters, letters behind a space, words ---
 */

struct vocabulary {
    char text[N_VOCAB][16];
    const char *piece[N_VOCAB];
    size_t length[N_VOCAB];
    float score[N_VOCAB];
    int32_t type[N_VOCAB];
};

static void piece_spell(uint32_t i, char text[16])
{
    static const char *const control[N_CONTROL] = {"<unk>", "<s>", "</s>"};
    static const char space[] = "\xe2\x96\x81";
    char word[3];

    if (i < N_CONTROL)
        snprintf(text, 16, "%s", control[i]);
    else if (i < N_CONTROL + 256)
        snprintf(text, 16, "<0x%02X>", i - N_CONTROL);
    else if (i == N_CONTROL + 256)
        snprintf(text, 16, "%s", space);
    else if (i < FIRST_WORD - N_LETTERS)
        snprintf(text, 16, "%c", (char)('a' + (i - (N_CONTROL + 257))));
    else if (i < FIRST_WORD)
        snprintf(text, 16, "%s%c", space, (char)('a' + (i - (FIRST_WORD - N_LETTERS))));
    else {
        word_spell(i - FIRST_WORD, word);
        snprintf(text, 16, "%s%s", space, word);
    }
}

static void put_vocabulary(struct gguf_writer *w)
{
    struct vocabulary *v = calloc(1, sizeof *v);

    if (v == NULL)
        abort();
    for (uint32_t i = 0; i < N_VOCAB; i++) {
        piece_spell(i, v->text[i]);
        v->piece[i] = v->text[i];
        v->length[i] = strlen(v->text[i]);
        /* Longer pieces merge first. */
        v->score[i] = i < N_CONTROL + 256 ? 0.0F : (float)i - (float)N_VOCAB;
        v->type[i] = i == 0 ? 2 : i < N_CONTROL ? 3 : i < N_CONTROL + 256 ? 6 : 1;
    }
    gguf_put_text(w, "tokenizer.ggml.model", "llama", NULL);
    gguf_put_text_array(w, "tokenizer.ggml.tokens", v->piece, v->length, N_VOCAB, NULL);
    gguf_put_f32_array(w, "tokenizer.ggml.scores", v->score, N_VOCAB, NULL);
    gguf_put_i32_array(w, "tokenizer.ggml.token_type", v->type, N_VOCAB, NULL);
    gguf_put_u32(w, "tokenizer.ggml.unknown_token_id", 0, NULL);
    gguf_put_u32(w, "tokenizer.ggml.bos_token_id", 1, NULL);
    gguf_put_u32(w, "tokenizer.ggml.eos_token_id", 2, NULL);
    gguf_put_bool(w, "tokenizer.ggml.add_bos_token", 1, NULL);
    free(v);
}

/* --- the model --- */

static void put_number(struct gguf_writer *w, const char *arch, const char *name, uint32_t value)
{
    char key[96];

    snprintf(key, sizeof key, "%s.%s", arch, name);
    gguf_put_u32(w, key, value, NULL);
}

static void put_keys(struct gguf_writer *w, const char *arch)
{
    const struct geometry *g = &geometry;
    char key[96];

    gguf_put_text(w, "general.architecture", arch, NULL);
    gguf_put_text(w, "general.name", "tiny", NULL);
    gguf_put_text(w, "general.license", "Apache-2.0", NULL);
    put_number(w, arch, "block_count", g->n_layers);
    put_number(w, arch, "context_length", g->n_ctx);
    put_number(w, arch, "embedding_length", g->d_model);
    put_number(w, arch, "feed_forward_length", g->d_ff);
    put_number(w, arch, "attention.head_count", g->n_heads);
    put_number(w, arch, "attention.head_count_kv", g->n_kv_heads);
    put_number(w, arch, "attention.key_length", g->head_dim);
    put_number(w, arch, "attention.value_length", g->head_dim);
    put_number(w, arch, "rope.dimension_count", g->head_dim);
    put_number(w, arch, "vocab_size", g->n_vocab);
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", arch);
    gguf_put_f32(w, key, g->rms_eps, NULL);
    snprintf(key, sizeof key, "%s.rope.freq_base", arch);
    gguf_put_f32(w, key, g->rope_base, NULL);
    put_vocabulary(w);
}

static void put_layer(struct gguf_writer *w, const struct model *model, uint32_t l)
{
    const struct attn_unit *a = &model->attn[l];
    const struct ffn_unit *f = &model->ffn[l];
    char layer[24];

    snprintf(layer, sizeof layer, "blk.%u.", l);
    parent_file_norm(w, layer, "attn_norm", a->norm, geometry.d_model);
    parent_file_matrix(w, layer, "attn_q", &a->q);
    parent_file_matrix(w, layer, "attn_k", &a->k);
    parent_file_matrix(w, layer, "attn_v", &a->v);
    parent_file_matrix(w, layer, "attn_output", &a->o);
    parent_file_norm(w, layer, "ffn_norm", f->norm, geometry.d_model);
    parent_file_matrix(w, layer, "ffn_gate", &f->gate);
    parent_file_matrix(w, layer, "ffn_up", &f->up);
    parent_file_matrix(w, layer, "ffn_down", &f->down);
}

static int write_model(const char *path, const char *arch, struct err *err)
{
    struct fixture *fixture = fixture_dense(&geometry, FORMAT_BF16, 1);
    struct gguf_writer *w = gguf_writer_create(err);

    if (w == NULL)
        return -1;
    put_keys(w, arch);
    parent_file_matrix(w, "", "token_embd", &fixture->model.embd);
    parent_file_norm(w, "", "output_norm", fixture->model.out_norm, geometry.d_model);
    for (uint32_t l = 0; l < geometry.n_layers; l++)
        put_layer(w, &fixture->model, l);
    int status = gguf_writer_save(w, path, err);
    gguf_writer_destroy(w);
    fixture_destroy(fixture);
    return status;
}

/* --- the texts --- */

/* Early words are more frequent. */
static const char *any_word(struct rng *rng, char word[3])
{
    uint32_t a = (uint32_t)rng_below(rng, N_WORDS), b = (uint32_t)rng_below(rng, N_WORDS);

    word_spell(a < b ? a : b, word);
    return word;
}

static int write_text(const char *path, uint32_t n_words, uint64_t stream, struct err *err)
{
    struct rng rng = rng_make(2, stream);
    struct file_draft draft;
    char word[3];

    if (file_draft_open(&draft, path, err) != 0)
        return -1;
    for (uint32_t i = 0; i < n_words; i++)
        fprintf(draft.stream, "%s%s", any_word(&rng, word), i + 1 < n_words ? " " : "\n");
    return file_draft_commit(&draft, err);
}

static int write_task(const char *path, uint64_t stream, struct err *err)
{
    struct rng rng = rng_make(3, stream);
    struct file_draft draft;
    char a[3], b[3], c[3], d[3], e[3];

    if (file_draft_open(&draft, path, err) != 0)
        return -1;
    for (uint32_t i = 0; i < N_ITEMS; i++)
        fprintf(draft.stream,
                "{\"context\": \"%s %s\", \"choices\": [\" %s\", \" %s\", \" %s\"], "
                "\"answer\": %u}\n",
                any_word(&rng, a), any_word(&rng, b), any_word(&rng, c), any_word(&rng, d),
                any_word(&rng, e), i % 3);
    return file_draft_commit(&draft, err);
}

static int write_all(const char *dir, const char *arch, struct err *err)
{
    char path[5][1024];
    static const char *const name[5] = {"tiny.gguf", "calibration.txt", "heldout.txt",
                                        "tasks/first.jsonl", "tasks/second.jsonl"};

    snprintf(path[0], sizeof path[0], "%s/tasks", dir);
    if (file_make_dirs(path[0], err) != 0)
        return -1;
    for (int i = 0; i < 5; i++)
        snprintf(path[i], sizeof path[i], "%s/%s", dir, name[i]);
    if (write_model(path[0], arch, err) != 0 || write_text(path[1], 3000, 1, err) != 0 ||
        write_text(path[2], 3000, 2, err) != 0 || write_task(path[3], 1, err) != 0)
        return -1;
    return write_task(path[4], 2, err);
}

int main(int argc, char **argv)
{
    struct err err = {0};

    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: tiny_model DIR [ARCHITECTURE]\n");
        return 2;
    }
    if (write_all(argv[1], argc == 3 ? argv[2] : "llama", &err) == 0)
        return 0;
    fprintf(stderr, "tiny_model: %s\n", err.text);
    return err_exit_status(err.code);
}
