/* engine_cases.c - exports candidates of many kinds and writes down what kerf computes for them,
 * for a stock engine to repeat.
 *
 *   engine_cases MODEL TEXT SEPARATOR FOLDER
 *
 * FOLDER gets one GGUF a case and cases.json (see engine.mjs). */
#include "evaluator/compression/workshop.h"
#include "evaluator/export.h"
#include "evaluator/quality/token_set.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CALIBRATION_TOKENS = 4096, TEST_TOKENS = 768, SEQUENCE = 256, BATCH = 64 };

/* Deviation of the biases that a case is given: enough to be missed, and not so much that the model
 * becomes one whose every rounding error grows into something else. */
#define BIAS 0.03

struct maker {
    struct workshop shop;
    struct parent *parent; /* the workshop's */
    struct team *team;
    struct token_set text;
    const char *folder;
    FILE *list; /* cases.json */
    int n_cases;
};

static void die(const struct err *err)
{
    fprintf(stderr, "engine_cases: %s\n", err->text);
    exit(1);
}

/* --- the genomes ------------------------------------------------------------------------------ */

/* A fraction of a width, on a grid of 32 where that is possible. */
static uint32_t part_of(uint32_t whole, uint32_t quarters)
{
    uint32_t part = whole * quarters / 4;

    return part >= 64 ? part / 32 * 32 : part > 0 ? part : 1;
}

static void drop_layer(struct genome *genome, uint32_t layer)
{
    genome->attn[layer].kv_groups = 0;
    genome->ffn[layer].width = 0;
}

/* Every layer the same: `quarters` of FFN and groups, fewer query heads in a group. */
static void narrow_all(struct genome *genome, const struct geometry *g, uint32_t quarters,
                       uint32_t fewer_heads)
{
    for (uint32_t l = 0; l < g->n_layers; l++) {
        uint32_t groups = g->n_kv_heads * quarters / 4;
        genome->attn[l].kv_groups = groups > 0 ? groups : 1;
        if (genome->attn[l].heads_per_group > fewer_heads)
            genome->attn[l].heads_per_group -= fewer_heads;
        genome->ffn[l].width = part_of(g->d_ff, quarters);
    }
}

/* Rows of a single block of Q4_0 or Q8_0 are what some stock engines get wrong (export.h). */
static void avoid_single_blocks(struct genome *genome, const struct geometry *g)
{
    for (uint32_t l = 0; l < g->n_layers; l++) {
        struct attn_choice *a = &genome->attn[l];
        struct ffn_choice *f = &genome->ffn[l];
        if (a->kv_groups * a->heads_per_group * g->head_dim == 32)
            a->o = FORMAT_Q5_0;
        if (f->width == 32)
            f->down = FORMAT_IQ4_NL;
    }
}

/* Each layer its own widths and formats. */
static void scatter(struct genome *genome, const struct geometry *g)
{
    static const enum format some[] = {FORMAT_Q4_K, FORMAT_Q8_0,   FORMAT_Q3_K, FORMAT_Q6_K,
                                       FORMAT_Q5_0, FORMAT_IQ4_NL, FORMAT_BF16, FORMAT_Q5_K,
                                       FORMAT_Q4_0, FORMAT_Q2_K,   FORMAT_F16};
    const size_t n = sizeof some / sizeof some[0];

    for (uint32_t l = 0; l < g->n_layers; l++) {
        struct attn_choice *a = &genome->attn[l];
        struct ffn_choice *f = &genome->ffn[l];
        a->kv_groups = 1 + (l + g->n_kv_heads - 1) % g->n_kv_heads;
        a->heads_per_group = 1 + l % a->heads_per_group;
        a->qkv = some[l % n];
        a->o = some[(l + 3) % n];
        f->width = part_of(g->d_ff, 1 + (l + 3) % 4);
        f->gate_up = some[(l + 5) % n];
        f->down = some[(l + 8) % n];
    }
}

static void mix_formats(struct genome *genome, const struct geometry *g)
{
    struct genome other = *genome;

    scatter(&other, g);
    for (uint32_t l = 0; l < g->n_layers; l++) {
        genome->attn[l].qkv = other.attn[l].qkv;
        genome->attn[l].o = other.attn[l].o;
        genome->ffn[l].gate_up = other.ffn[l].gate_up;
        genome->ffn[l].down = other.ffn[l].down;
    }
}

/* --- one case --------------------------------------------------------------------------------- */

static double row_nll(const float *logits, uint32_t n_vocab, int32_t next, int32_t *best)
{
    double most = -INFINITY, sum = 0;

    for (uint32_t v = 0; v < n_vocab; v++)
        if (logits[v] > most) {
            most = logits[v];
            *best = (int32_t)v;
        }
    for (uint32_t v = 0; v < n_vocab; v++)
        sum += exp(logits[v] - most);
    return log(sum) + most - logits[next];
}

/* nll[] and best[] of every predicted token; returns their number. */
static uint32_t measure(struct maker *m, const struct model *model, double *nll, int32_t *best)
{
    struct forward_options options = {.n_ctx = SEQUENCE, .n_batch = BATCH};
    uint32_t n_vocab = model->geometry.n_vocab, count = 0;
    struct err err;

    struct forward *forward = forward_create(model, kernels_select(), m->team, &options, &err);
    if (forward == NULL)
        die(&err);
    for (uint32_t s = 0; s < m->text.n_sequences; s++) {
        uint32_t begin, end;
        token_set_sequence(&m->text, s, &begin, &end);
        forward_reset(forward);
        for (uint32_t at = begin; at < end; at += BATCH) {
            uint32_t n = end - at < BATCH ? end - at : BATCH;
            if (forward_tokens(forward, m->text.tokens + at, n, LOGITS_ALL, &err) != 0)
                die(&err);
            for (uint32_t t = 0; t < n && at + t + 1 < end; t++, count++)
                nll[count] = row_nll(forward_logits(forward) + (size_t)t * n_vocab, n_vocab,
                                     m->text.tokens[at + t + 1], &best[count]);
        }
    }
    forward_destroy(forward);
    return count;
}

static void write_case(struct maker *m, const char *name, const char *file, const char *arch,
                       const double *nll, const int32_t *best, uint32_t n)
{
    fprintf(m->list,
            "%s\n{\"name\": \"%s\", \"file\": \"%s\", \"architecture\": \"%s\",\n\"nll\": [",
            m->n_cases > 0 ? "," : "", name, file, arch);
    for (uint32_t i = 0; i < n; i++)
        fprintf(m->list, "%s%.6f", i > 0 ? "," : "", nll[i]);
    fprintf(m->list, "],\n\"top1\": [");
    for (uint32_t i = 0; i < n; i++)
        fprintf(m->list, "%s%d", i > 0 ? "," : "", best[i]);
    fprintf(m->list, "]}");
}

/* Biases large enough to be missed: without them perplexity is another by far. */
static void give_biases(struct model *model, struct genome *genome)
{
    static float values[2 * GEOMETRY_MAX_LAYERS][1024];
    struct rng rng = rng_make(9, 0);

    if (model->geometry.d_model > 1024)
        abort();
    for (uint32_t u = 0; u < 2 * model->n_layers; u++) {
        for (uint32_t i = 0; i < model->geometry.d_model; i++)
            values[u][i] = (float)(BIAS * rng_normal(&rng));
        *(u % 2 == 0 ? &model->attn[u / 2].bias : &model->ffn[u / 2].bias) = values[u];
    }
    genome->bias = true;
}

static void make(struct maker *m, const char *name, enum profile profile, struct genome *genome)
{
    const struct geometry *g = parent_geometry(m->parent);
    static double nll[TEST_TOKENS];
    static int32_t best[TEST_TOKENS];
    char file[32], path[4096];
    struct gguf_text arch;
    struct err err;

    /* Activations follow the weights; canonical form knows which are float. */
    for (uint32_t l = 0; l < g->n_layers; l++)
        genome->attn[l].act = genome->ffn[l].act = ACT_Q8;
    avoid_single_blocks(genome, g);
    genome->zero_ffn = profile_zero_ffn(profile, g);
    if (genome_canonicalize(genome, g, &err) != 0)
        die(&err);
    struct model *model = workshop_model(&m->shop, genome, &err);
    if (model == NULL)
        die(&err);
    if (profile == PROFILE_NATIVE)
        give_biases(model, genome);
    snprintf(file, sizeof file, "case%02d.gguf", m->n_cases);
    snprintf(path, sizeof path, "%s/%s", m->folder, file);
    if (export_gguf(m->parent, model, genome, profile, NULL, path, &err) != 0)
        die(&err);
    struct gguf *gguf = gguf_open(path, &err);
    if (gguf == NULL || gguf_get_text(gguf, "general.architecture", &arch, &err) != 1)
        die(&err);
    char arch_name[16];
    snprintf(arch_name, sizeof arch_name, "%.*s", (int)arch.length, arch.data);
    gguf_close(gguf);
    write_case(m, name, file, arch_name, nll, best, measure(m, model, nll, best));
    m->n_cases++;
    model_destroy(model);
}

/* --- all cases -------------------------------------------------------------------------------- */

static void make_formats(struct maker *m)
{
    const struct geometry *g = parent_geometry(m->parent);
    struct genome genome;
    char name[64];

    parent_genome(m->parent, &genome);
    make(m, "the parent as it is", PROFILE_GGUF, &genome);
    for (int f = 0; f < N_FORMATS; f++) {
        genome_uniform(&genome, g, (enum format)f);
        snprintf(name, sizeof name, "every matrix in %s", format_name((enum format)f));
        make(m, name, PROFILE_GGUF, &genome);
    }
    genome_uniform(&genome, g, FORMAT_Q8_0);
    mix_formats(&genome, g);
    make(m, "formats mixed by matrix", PROFILE_GGUF, &genome);
}

static void make_uniform(struct maker *m)
{
    const struct geometry *g = parent_geometry(m->parent);
    struct genome genome;

    genome_uniform(&genome, g, FORMAT_Q8_0);
    drop_layer(&genome, 1);
    drop_layer(&genome, g->n_layers - 1);
    make(m, "two layers dropped", PROFILE_GGUF, &genome);

    genome_uniform(&genome, g, FORMAT_BF16);
    drop_layer(&genome, 0);
    make(m, "the first layer dropped", PROFILE_GGUF, &genome);

    genome_uniform(&genome, g, FORMAT_Q6_K);
    narrow_all(&genome, g, 2, 0);
    make(m, "half the groups and half the FFN everywhere", PROFILE_GGUF, &genome);

    genome_uniform(&genome, g, FORMAT_Q5_K);
    narrow_all(&genome, g, 3, 1);
    drop_layer(&genome, 2);
    make(m, "three quarters, a query head less in each group, a layer dropped", PROFILE_GGUF,
         &genome);
}

/* The residual stream narrower, or turned. */
static void make_hidden(struct maker *m)
{
    const struct geometry *g = parent_geometry(m->parent);
    struct genome genome;

    genome_uniform(&genome, g, FORMAT_Q4_K);
    genome.hidden = g->d_model / 8 * 7;
    genome.head = FORMAT_Q8_0;
    make(m, "seven eighths of the hidden width", PROFILE_GGUF, &genome);

    genome_uniform(&genome, g, FORMAT_BF16);
    scatter(&genome, g);
    genome.hidden = g->d_model / 4 * 3;
    genome.rotation = ROTATION_HADAMARD;
    drop_layer(&genome, 2);
    make(m, "three quarters of it, rotated, widths by layer", PROFILE_GGUF_HETERO, &genome);

    genome_uniform(&genome, g, FORMAT_Q4_K);
    genome.rotation = ROTATION_HADAMARD;
    make(m, "the whole width, rotated", PROFILE_GGUF, &genome);
}

static void make_ragged(struct maker *m)
{
    const struct geometry *g = parent_geometry(m->parent);
    uint32_t last = g->n_layers - 1;
    struct genome genome;

    genome_uniform(&genome, g, FORMAT_Q8_0);
    scatter(&genome, g);
    make(m, "widths, heads and formats by layer", PROFILE_GGUF_HETERO, &genome);

    genome_uniform(&genome, g, FORMAT_BF16);
    genome.attn[1].kv_groups = genome.attn[last].kv_groups = 0;
    make(m, "attention dropped, in the last layer too", PROFILE_GGUF_HETERO, &genome);

    genome_uniform(&genome, g, FORMAT_BF16);
    genome.ffn[0].width = genome.ffn[2].width = genome.ffn[last].width = 0;
    make(m, "FFN dropped: first, middle, last", PROFILE_GGUF_HETERO, &genome);

    genome_uniform(&genome, g, FORMAT_Q4_K);
    scatter(&genome, g);
    drop_layer(&genome, 0);
    genome.ffn[1].width = 0;
    genome.attn[2].kv_groups = 0;
    genome.ffn[last].width = 0;
    make(m, "all of it at once", PROFILE_GGUF_HETERO, &genome);
}

/* Biases of o and down are kerf's business, yet engines that know them must get them right: verify
 * lets such a file pass as long as every unit is there. */
static void make_biased(struct maker *m)
{
    const struct geometry *g = parent_geometry(m->parent);
    struct genome genome;

    genome_uniform(&genome, g, FORMAT_Q8_0);
    make(m, "biases of o and down, equal layers", PROFILE_NATIVE, &genome);

    genome_uniform(&genome, g, FORMAT_Q8_0);
    scatter(&genome, g);
    make(m, "biases of o and down, widths by layer", PROFILE_NATIVE, &genome);
}

/* Calibrate, and leave everything that a workshop opens in the folder. */
static void open_workshop(struct maker *m, const char *model, const struct token_set *text)
{
    const struct geometry *g;
    char path[4096], store[4096];
    struct err err;

    struct parent *parent = parent_open(model, &err);
    struct calibration *calibration =
        parent != NULL ? calibration_of_parent(parent, kernels_select(), m->team, text, &err)
                       : NULL;
    snprintf(path, sizeof path, "%s/calibration.bin", m->folder);
    snprintf(store, sizeof store, "%s/store", m->folder);
    if (calibration == NULL || calibration_save(calibration, path, &err) != 0)
        die(&err);
    struct hash256 hash = parent_hash(parent);
    g = parent_geometry(parent);
    if (workshop_prepare_basis(parent, &hash, path, g->d_model / 8 * 7, ROTATION_NONE, false,
                               &err) != 0 ||
        workshop_prepare_basis(parent, &hash, path, g->d_model / 4 * 3, ROTATION_HADAMARD, false,
                               &err) != 0 ||
        workshop_prepare_basis(parent, &hash, path, 0, ROTATION_HADAMARD, false, &err) != 0 ||
        workshop_open(&m->shop, model, &hash, path, store, false, &err) != 0)
        die(&err);
    m->parent = m->shop.parent;
    calibration_destroy(calibration);
    parent_close(parent);
}

static void open_all(struct maker *m, char **argv)
{
    struct token_set text;
    struct err err;

    struct parent *parent = parent_open(argv[1], &err);
    m->team = parent != NULL ? team_create(1, NULL, NULL, &err) : NULL;
    struct tokenizer *tokenizer =
        m->team != NULL ? tokenizer_create(parent_gguf(parent), &err) : NULL;
    if (tokenizer == NULL ||
        token_set_read(&text, tokenizer, argv[2], argv[3], SEQUENCE, CALIBRATION_TOKENS,
                       TEST_TOKENS, &err) != 0 ||
        token_set_read(&m->text, tokenizer, argv[2], argv[3], SEQUENCE, TEST_TOKENS, TEST_TOKENS,
                       &err) != 0)
        die(&err);
    tokenizer_destroy(tokenizer);
    parent_close(parent);
    m->folder = argv[4];
    open_workshop(m, argv[1], &text);
    token_set_fini(&text);
}

static void close_all(struct maker *m)
{
    workshop_close(&m->shop);
    token_set_fini(&m->text);
    team_destroy(m->team);
}

static void write_sequences(struct maker *m)
{
    fprintf(m->list, "{\"vocabulary\": %u, \"sequences\": [", parent_geometry(m->parent)->n_vocab);
    for (uint32_t s = 0; s < m->text.n_sequences; s++) {
        uint32_t begin, end;
        token_set_sequence(&m->text, s, &begin, &end);
        fprintf(m->list, "%s\n[", s > 0 ? "," : "");
        for (uint32_t t = begin; t < end; t++)
            fprintf(m->list, "%s%d", t > begin ? "," : "", m->text.tokens[t]);
        fprintf(m->list, "]");
    }
    fprintf(m->list, "], \"cases\": [");
}

int main(int argc, char **argv)
{
    static struct maker maker;
    char path[4096];

    if (argc != 5) {
        fprintf(stderr, "usage: engine_cases MODEL TEXT SEPARATOR FOLDER\n");
        return 2;
    }
    open_all(&maker, argv);
    snprintf(path, sizeof path, "%s/cases.json", maker.folder);
    maker.list = fopen(path, "w");
    if (maker.list == NULL) {
        perror(path);
        return 1;
    }
    write_sequences(&maker);
    make_formats(&maker);
    make_uniform(&maker);
    make_hidden(&maker);
    make_ragged(&maker);
    make_biased(&maker);
    fprintf(maker.list, "]}\n");
    int failed = fclose(maker.list);
    close_all(&maker);
    return failed != 0 ? 1 : 0;
}
