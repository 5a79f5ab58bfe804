/* export.c - keys and tensors of a model for stock engines, written, read back and compared. */
#include "evaluator/export.h"

#include "evaluator/formats/gguf_write.h"
#include "space/base/err.h"
#include "space/base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { EXPORT_SCHEMA = 1, EXPORT_PATH = 4096 };

/* What is left of the model, in the file's numbering. */
struct plan {
    const char *arch;
    uint32_t n_layers;
    uint32_t from[GEOMETRY_MAX_LAYERS]; /* the model's number of each layer */
    uint32_t n_heads[GEOMETRY_MAX_LAYERS], n_groups[GEOMETRY_MAX_LAYERS];
    uint32_t width[GEOMETRY_MAX_LAYERS];
};

/* --- the plan --------------------------------------------------------------------------------- */

static void plan_layers(struct plan *plan, const struct model *model)
{
    bool equal = true;

    memset(plan, 0, sizeof *plan);
    for (uint32_t l = 0; l < model->n_layers; l++) {
        const struct attn_unit *a = &model->attn[l];
        const struct ffn_unit *f = &model->ffn[l];
        if (!a->present && !f->present && a->bias == NULL && f->bias == NULL)
            continue;
        uint32_t i = plan->n_layers++;
        plan->from[i] = l;
        plan->n_heads[i] = a->present ? a->n_heads : 0;
        plan->n_groups[i] = a->present ? a->n_groups : 0;
        plan->width[i] = f->present ? f->width : 0;
        equal = equal && a->present && f->present && plan->n_heads[i] == plan->n_heads[0] &&
                plan->n_groups[i] == plan->n_groups[0] && plan->width[i] == plan->width[0];
    }
    plan->arch = equal ? "llama" : "deci";
}

/* What no stock loader takes; kerf itself takes anything that has a layer. */
static int check_plan(const struct plan *plan, enum profile profile, struct err *err)
{
    if (plan->n_layers == 0) {
        err_set(err, ERR_CONFIG, "nothing to export: no layer is left");
        return -1;
    }
    if (profile == PROFILE_NATIVE)
        return 0;
    if (profile == PROFILE_GGUF && strcmp(plan->arch, "llama") != 0) {
        err_set(err, ERR_CONFIG,
                "profile gguf exports equal layers only; this model needs "
                "gguf-hetero");
        return -1;
    }
    if (plan->n_heads[0] == 0) {
        err_set(err, ERR_CONFIG,
                "layer %u is the first that is left and has no attention: stock "
                "engines do not load that",
                plan->from[0]);
        return -1;
    }
    for (uint32_t i = 0; i < plan->n_layers; i++) {
        if (plan->width[i] == 0) {
            err_set(err, ERR_CONFIG,
                    "layer %u keeps attention without an FFN: stock engines lose "
                    "it there; the profile gguf-hetero carries a zero FFN",
                    plan->from[i]);
            return -1;
        }
    }
    return 0;
}

/* Stock engines choose the activations by the weights; another choice would not be what was
 * measured.  Nor would rows that some engines get wrong. */
static int check_matrix(const struct weights *w, enum profile profile, const char *where,
                        uint32_t layer, struct err *err)
{
    if (profile != PROFILE_NATIVE && w->act != act_format_of(w->format)) {
        err_set(err, ERR_CONFIG,
                "layer %u: %s weights with %s activations are kerf's alone; stock "
                "engines use %s",
                layer, format_name(w->format), act_format_name(w->act),
                act_format_name(act_format_of(w->format)));
        return -1;
    }
    if (profile != PROFILE_NATIVE && !profile_row_is_safe(w->format, w->n_in)) {
        err_set(err, ERR_CONFIG,
                "layer %u: rows of %s have one block of %s only, which llama.cpp "
                "gets wrong on processors with AMX; Q5_0 or a wider unit is right",
                layer, where, format_name(w->format));
        return -1;
    }
    return 0;
}

static int check_matrices(const struct plan *plan, const struct model *model, enum profile profile,
                          struct err *err)
{
    for (uint32_t i = 0; i < plan->n_layers; i++) {
        uint32_t l = plan->from[i];
        const struct attn_unit *a = &model->attn[l];
        const struct ffn_unit *f = &model->ffn[l];
        if (a->present && (check_matrix(&a->q, profile, "attn_q", l, err) != 0 ||
                           check_matrix(&a->k, profile, "attn_k", l, err) != 0 ||
                           check_matrix(&a->v, profile, "attn_v", l, err) != 0 ||
                           check_matrix(&a->o, profile, "attn_output", l, err) != 0))
            return -1;
        if (f->present && (check_matrix(&f->gate, profile, "ffn_gate", l, err) != 0 ||
                           check_matrix(&f->up, profile, "ffn_up", l, err) != 0 ||
                           check_matrix(&f->down, profile, "ffn_down", l, err) != 0))
            return -1;
    }
    return 0;
}

/* --- keys ------------------------------------------------------------------------------------- */

/* Keys are many and fail only without memory, so the first failure is remembered and the rest are
 * idle. */
struct keys {
    struct gguf_writer *writer;
    const char *arch;
    struct err *err;
    int status;
};

static void put_u32(struct keys *k, const char *name, uint32_t value)
{
    char key[96];

    snprintf(key, sizeof key, "%s.%s", k->arch, name);
    if (k->status == 0)
        k->status = gguf_put_u32(k->writer, key, value, k->err);
}

static void put_f32(struct keys *k, const char *name, float value)
{
    char key[96];

    snprintf(key, sizeof key, "%s.%s", k->arch, name);
    if (k->status == 0)
        k->status = gguf_put_f32(k->writer, key, value, k->err);
}

/* One number under `llama`, an array with an entry a layer under `deci`: of signed words, since
 * older loaders (llama.cpp of February 2025) refuse arrays of unsigned ones. */
static void put_per_layer(struct keys *k, const char *name, const uint32_t *values, uint32_t n)
{
    char key[96];

    if (strcmp(k->arch, "llama") == 0) {
        put_u32(k, name, values[0]);
        return;
    }
    snprintf(key, sizeof key, "%s.%s", k->arch, name);
    if (k->status == 0)
        k->status = gguf_put_i32_array(k->writer, key, (const int32_t *)values, n, k->err);
}

static void put_text(struct keys *k, const char *key, const char *value)
{
    if (k->status == 0 && value != NULL)
        k->status = gguf_put_text(k->writer, key, value, k->err);
}

static void put_shape(struct keys *k, const struct plan *plan, const struct geometry *g)
{
    put_u32(k, "block_count", plan->n_layers);
    put_u32(k, "context_length", g->n_ctx);
    put_u32(k, "embedding_length", g->d_model);
    put_per_layer(k, "feed_forward_length", plan->width, plan->n_layers);
    put_per_layer(k, "attention.head_count", plan->n_heads, plan->n_layers);
    put_per_layer(k, "attention.head_count_kv", plan->n_groups, plan->n_layers);
    put_u32(k, "attention.key_length", g->head_dim);
    put_u32(k, "attention.value_length", g->head_dim);
    put_u32(k, "rope.dimension_count", g->head_dim);
    put_f32(k, "attention.layer_norm_rms_epsilon", g->rms_eps);
    put_f32(k, "rope.freq_base", g->rope_base);
    put_u32(k, "vocab_size", g->n_vocab);
}

/* llama.cpp's number for a file that is mostly of one format. */
static uint32_t file_type(enum format format)
{
    static const uint32_t types[N_FORMATS] = {
        [FORMAT_F32] = 0,   [FORMAT_F16] = 1,   [FORMAT_BF16] = 32, [FORMAT_Q4_0] = 2,
        [FORMAT_Q5_0] = 8,  [FORMAT_Q8_0] = 7,  [FORMAT_Q2_K] = 10, [FORMAT_Q3_K] = 11,
        [FORMAT_Q4_K] = 14, [FORMAT_Q5_K] = 16, [FORMAT_Q6_K] = 18, [FORMAT_IQ4_NL] = 25};

    return types[format];
}

static void count_weights(const struct weights *w, uint64_t count[N_FORMATS])
{
    if (w->data != NULL)
        count[w->format] += (uint64_t)w->n_out * w->n_in;
}

/* The format of most weights; *quantized when any matrix is. */
static enum format majority(const struct model *model, bool *quantized)
{
    uint64_t count[N_FORMATS] = {0};
    enum format most = FORMAT_F32;

    count_weights(&model->embd, count);
    if (!model->geometry.tied)
        count_weights(&model->head, count);
    for (uint32_t l = 0; l < model->n_layers; l++) {
        const struct attn_unit *a = &model->attn[l];
        const struct ffn_unit *f = &model->ffn[l];
        const struct weights *all[] = {&a->q, &a->k, &a->v, &a->o, &f->gate, &f->up, &f->down};
        for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
            if (i < 4 ? a->present : f->present)
                count_weights(all[i], count);
    }
    *quantized = false;
    for (int f = 0; f < N_FORMATS; f++) {
        *quantized = *quantized || (count[f] > 0 && format_is_quantized((enum format)f));
        if (count[f] > count[most])
            most = (enum format)f;
    }
    return most;
}

/* Copy what the parent says about itself and its vocabulary, but not what no longer holds. */
static void put_inherited(struct keys *k, const struct gguf *from)
{
    static const char *const stale[] = {"general.architecture",         "general.file_type",
                                        "general.quantization_version", "general.alignment",
                                        "general.size_label",           "general.parameter_count"};
    char name[256];

    for (size_t i = 0; i < gguf_n_keys(from) && k->status == 0; i++) {
        struct gguf_text key = gguf_key_at(from, i);
        bool wanted = key.length < sizeof name && (strncmp(key.data, "general.", 8) == 0 ||
                                                   strncmp(key.data, "tokenizer.", 10) == 0);
        if (!wanted)
            continue;
        snprintf(name, sizeof name, "%.*s", (int)key.length, key.data);
        for (size_t s = 0; s < sizeof stale / sizeof stale[0]; s++)
            wanted = wanted && strcmp(name, stale[s]) != 0;
        if (wanted)
            k->status = gguf_put_copy(k->writer, from, name, k->err);
    }
}

static void put_note(struct keys *k, const struct parent *parent, const struct genome *genome,
                     const struct export_note *note)
{
    char *text = malloc(GENOME_TEXT_MAX);
    char hex[HASH256_HEX];

    if (text == NULL) {
        err_set(k->err, ERR_MEMORY, "export: out of memory");
        k->status = -1;
        return;
    }
    genome_format(genome, text);
    /* The hash is kept inside the parent; a caller's parent is never a read-only object. */
    hash256_hex(parent_hash((struct parent *)(uintptr_t)parent), hex);
    if (k->status == 0)
        k->status = gguf_put_u32(k->writer, "kerf.schema", EXPORT_SCHEMA, k->err);
    put_text(k, "kerf.version", KERF_VERSION);
    put_text(k, "kerf.genome", text);
    /* No part of the weights, but what was measured: the engine is told at run time. */
    put_text(k, "kerf.kv_cache", profile_cache_type(genome->kv));
    put_text(k, "kerf.parent.sha256", hex);
    if (note != NULL) {
        put_text(k, "kerf.candidate", note->candidate);
        put_text(k, "kerf.study", note->study);
        put_text(k, "kerf.calibration.sha256", note->calibration);
        put_text(k, "kerf.metrics", note->metrics);
        put_text(k, "kerf.polish", note->polish);
    }
    free(text);
}

/* Activations of each layer that is left, where some are not what a stock engine would take. */
static void put_activations(struct keys *k, const struct plan *plan, const struct genome *genome)
{
    char text[GEOMETRY_MAX_LAYERS * 8 + 1];
    size_t used = 0;
    bool own = false;

    for (uint32_t i = 0; i < plan->n_layers; i++) {
        const struct attn_choice *a = &genome->attn[plan->from[i]];
        const struct ffn_choice *f = &genome->ffn[plan->from[i]];
        bool attn = a->kv_groups > 0 && a->act == ACT_FLOAT &&
                    (format_is_quantized(a->qkv) || format_is_quantized(a->o));
        bool ffn = f->width > 0 && f->act == ACT_FLOAT &&
                   (format_is_quantized(f->gate_up) || format_is_quantized(f->down));
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s %s", i > 0 ? " " : "",
                                 act_format_name(attn ? ACT_FLOAT : ACT_Q8),
                                 act_format_name(ffn ? ACT_FLOAT : ACT_Q8));
        own = own || attn || ffn;
    }
    if (own)
        put_text(k, "kerf.activations", text);
}

static int put_keys(struct gguf_writer *writer, const struct plan *plan,
                    const struct parent *parent, const struct model *model,
                    const struct genome *genome, const struct export_note *note, struct err *err)
{
    struct keys k = {.writer = writer, .arch = plan->arch, .err = err};
    struct keys general = {.writer = writer, .arch = "general", .err = err};
    bool quantized;
    enum format most = majority(model, &quantized);

    put_text(&general, "general.architecture", plan->arch);
    put_u32(&general, "file_type", file_type(most));
    if (quantized)
        put_u32(&general, "quantization_version", 2);
    put_inherited(&general, parent_gguf(parent));
    put_shape(&k, plan, &model->geometry);
    put_note(&k, parent, genome, note);
    put_activations(&k, plan, genome);
    return general.status != 0 ? general.status : k.status;
}

/* --- tensors ---------------------------------------------------------------------------------- */

/* What happens to a tensor of the model: it is put into the file, or compared with one. */
typedef int tensor_fn(void *arg, const char *name, enum format format, size_t row_len,
                      size_t n_rows, const void *data, struct err *err);

static int put_tensor(void *arg, const char *name, enum format format, size_t row_len,
                      size_t n_rows, const void *data, struct err *err)
{
    return gguf_put_tensor(arg, name, format, row_len, n_rows, data, err);
}

static int compare_tensor(void *arg, const char *name, enum format format, size_t row_len,
                          size_t n_rows, const void *data, struct err *err)
{
    const struct gguf_tensor *t = gguf_tensor_find(arg, name);
    size_t n_bytes = n_rows * format_row_bytes(format, row_len);

    if (t != NULL && t->format == format && t->dims[0] == row_len && t->dims[1] == n_rows &&
        t->n_bytes == n_bytes && memcmp(t->data, data, n_bytes) == 0)
        return 0;
    err_set(err, ERR_INTERNAL, "%s: tensor %s %s", gguf_path(arg), name,
            t == NULL ? "is not in the file" : "reads back differently");
    return -1;
}

static int each_matrix(const char *prefix, const char *name, const struct weights *w, tensor_fn *fn,
                       void *arg, struct err *err)
{
    char full[64];

    snprintf(full, sizeof full, "%s%s", prefix, name);
    return fn(arg, full, w->format, w->n_in, w->n_out, w->data, err);
}

/* A norm or a bias; NULL is none. */
static int each_vector(const char *prefix, const char *name, const float *values, uint32_t n,
                       tensor_fn *fn, void *arg, struct err *err)
{
    char full[64];

    snprintf(full, sizeof full, "%s%s", prefix, name);
    return values != NULL ? fn(arg, full, FORMAT_F32, n, 1, values, err) : 0;
}

static int each_of_layer(const struct model *model, uint32_t from, uint32_t to, tensor_fn *fn,
                         void *arg, struct err *err)
{
    const struct attn_unit *a = &model->attn[from];
    const struct ffn_unit *f = &model->ffn[from];
    uint32_t d_model = model->geometry.d_model;
    char p[24];

    snprintf(p, sizeof p, "blk.%u.", to);
    if (a->present &&
        (each_vector(p, tensor_role_name(TENSOR_ATTN_NORM), a->norm, d_model, fn, arg, err) != 0 ||
         each_matrix(p, tensor_role_name(TENSOR_Q), &a->q, fn, arg, err) != 0 ||
         each_matrix(p, tensor_role_name(TENSOR_K), &a->k, fn, arg, err) != 0 ||
         each_matrix(p, tensor_role_name(TENSOR_V), &a->v, fn, arg, err) != 0 ||
         each_matrix(p, tensor_role_name(TENSOR_O), &a->o, fn, arg, err) != 0))
        return -1;
    if (f->present &&
        (each_vector(p, tensor_role_name(TENSOR_FFN_NORM), f->norm, d_model, fn, arg, err) != 0 ||
         each_matrix(p, tensor_role_name(TENSOR_GATE), &f->gate, fn, arg, err) != 0 ||
         each_matrix(p, tensor_role_name(TENSOR_UP), &f->up, fn, arg, err) != 0 ||
         each_matrix(p, tensor_role_name(TENSOR_DOWN), &f->down, fn, arg, err) != 0))
        return -1;
    if (each_vector(p, tensor_role_name(TENSOR_O_BIAS), a->bias, d_model, fn, arg, err) != 0 ||
        each_vector(p, tensor_role_name(TENSOR_DOWN_BIAS), f->bias, d_model, fn, arg, err) != 0)
        return -1;
    return 0;
}

/* Every tensor of the exported file, in its order. */
static int each_tensor(const struct plan *plan, const struct model *model, tensor_fn *fn, void *arg,
                       struct err *err)
{
    if (each_matrix("", "token_embd.weight", &model->embd, fn, arg, err) != 0)
        return -1;
    for (uint32_t i = 0; i < plan->n_layers; i++)
        if (each_of_layer(model, plan->from[i], i, fn, arg, err) != 0)
            return -1;
    if (each_vector("", "output_norm.weight", model->out_norm, model->geometry.d_model, fn, arg,
                    err) != 0)
        return -1;
    return model->geometry.tied ? 0 : each_matrix("", "output.weight", &model->head, fn, arg, err);
}

/* --- the file --------------------------------------------------------------------------------- */

static int write_file(const struct plan *plan, const struct parent *parent,
                      const struct model *model, const struct genome *genome,
                      const struct export_note *note, const char *path, struct err *err)
{
    struct gguf_writer *writer = gguf_writer_create(err);
    int status = -1;

    if (writer == NULL)
        return -1;
    if (put_keys(writer, plan, parent, model, genome, note, err) == 0 &&
        each_tensor(plan, model, put_tensor, writer, err) == 0)
        status = gguf_writer_save(writer, path, err);
    gguf_writer_destroy(writer);
    return status;
}

/* What a reader finds: the shapes by kerf's own opening, then every byte. */
static int check_file(const struct plan *plan, const struct model *model, enum profile profile,
                      const char *path, struct err *err)
{
    struct parent *again = parent_open(path, err);
    int status = -1;

    if (again == NULL) {
        err_prefix(err, "the exported file does not open");
        return -1;
    }
    const struct geometry *g = parent_geometry(again), *ours = &model->geometry;
    if (g->n_layers != plan->n_layers || g->d_model != ours->d_model ||
        g->head_dim != ours->head_dim || g->n_vocab != ours->n_vocab || g->n_ctx != ours->n_ctx ||
        g->tied != ours->tied || g->rms_eps != ours->rms_eps || g->rope_base != ours->rope_base)
        err_set(err, ERR_INTERNAL, "%s: the geometry reads back differently", path);
    else
        status = each_tensor(plan, model, compare_tensor,
                             (struct gguf *)(uintptr_t)parent_gguf(again), err);
    parent_close(again);
    return status == 0 && profile != PROFILE_NATIVE ? export_verify(path, err) : status;
}

/* Put the finished draft in place, as one step.  A folder that cannot be synced is no failure: the
 * file stands, only a crash of the machine could still take its name away. */
static int settle_file(const char *draft, const char *path, struct err *err)
{
    const char *slash = strrchr(path, '/');
    char folder[EXPORT_PATH] = ".";

    if (rename(draft, path) != 0) {
        err_set(err, ERR_CREATE, "cannot create %s: %s", path, strerror(errno));
        return -1;
    }
    if (slash != NULL)
        snprintf(folder, sizeof folder, "%.*s", (int)(slash - path + 1), path);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    return 0;
}

static int make_plan(struct plan *plan, const struct model *model, const struct genome *genome,
                     enum profile profile, struct err *err)
{
    if (profile_check(profile, genome, &model->geometry, err) != 0)
        return -1;
    plan_layers(plan, model);
    return check_plan(plan, profile, err) == 0 && check_matrices(plan, model, profile, err) == 0
               ? 0
               : -1;
}

int export_check(const struct model *model, const struct genome *genome, enum profile profile,
                 struct err *err)
{
    struct plan plan;

    return make_plan(&plan, model, genome, profile, err);
}

int export_gguf(const struct parent *parent, const struct model *model, const struct genome *genome,
                enum profile profile, const struct export_note *note, const char *path,
                struct err *err)
{
    char draft[EXPORT_PATH + 32];
    struct stat status;
    struct plan plan;

    if (make_plan(&plan, model, genome, profile, err) != 0)
        return -1;
    if (strlen(path) >= EXPORT_PATH) {
        err_set(err, ERR_CREATE, "cannot create %.64s...: the path is too long", path);
        return -1;
    }
    if (stat(path, &status) == 0 && !S_ISREG(status.st_mode)) {
        err_set(err, ERR_CREATE, "cannot replace %s: it is not a regular file", path);
        return -1;
    }
    /* A file that is being made never carries the name that was asked for. */
    snprintf(draft, sizeof draft, "%s.kerf-%ld", path, (long)getpid());
    if (write_file(&plan, parent, model, genome, note, draft, err) != 0)
        return -1;
    if (check_file(&plan, model, profile, draft, err) != 0 || settle_file(draft, path, err) != 0) {
        unlink(draft);
        return -1;
    }
    return 0;
}
