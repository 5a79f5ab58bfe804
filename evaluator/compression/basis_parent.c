#include "evaluator/compression/basis_parent.h"

#include "evaluator/compression/calibration_parts.h"
#include "evaluator/compression/quantize.h"
#include "evaluator/formats/gguf_write.h"
#include "space/base/err.h"
#include "space/base/linalg.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BASIS_VERSION = 1, BASIS_PATH = 4096, ROWS_AT_ONCE = 1024 };

#define IDENTITY_KEY "kerf.basis.identity"

struct hash256 basis_parent_identity(const struct calibration *calibration, uint32_t hidden,
                                     enum rotation rotation)
{
    struct hash256 name = calibration_hash(calibration),
                   figures = calibration_values_hash(calibration);
    uint32_t words[] = {BASIS_VERSION, hidden, (uint32_t)rotation};
    struct sha256 sha;

    sha256_init(&sha);
    sha256_update(&sha, name.bytes, sizeof name.bytes);
    sha256_update(&sha, figures.bytes, sizeof figures.bytes);
    sha256_update(&sha, words, sizeof words);
    return sha256_final(&sha);
}

uint32_t basis_parent_version(void)
{
    return BASIS_VERSION;
}

bool basis_parent_is(const struct parent *parent, const struct hash256 *identity)
{
    struct gguf_text text;
    char hex[HASH256_HEX];

    hash256_hex(*identity, hex);
    return gguf_get_text(parent_gguf(parent), IDENTITY_KEY, &text, NULL) == 1 &&
           text.length == strlen(hex) && memcmp(text.data, hex, text.length) == 0;
}

/* Everything that is on its way into the two files. */
struct making {
    const struct parent *parent;
    const struct calibration *calibration;
    const struct basis *basis;
    enum format format;
    struct gguf_writer *writer;
    struct calibration *turned;
    float *directions; /* [hidden][d_model], Q' */
    void **blocks;     /* tensors, which the writer borrows; [n_blocks] */
    size_t n_blocks;
};

static int no_memory(struct err *err)
{
    err_set(err, ERR_MEMORY, "basis: out of memory");
    return -1;
}

/* Memory that lives until the file is written; NULL with `err`. */
static void *keep_block(struct making *m, size_t n_bytes, struct err *err)
{
    void **grown = realloc(m->blocks, (m->n_blocks + 1) * sizeof *grown);
    void *block = malloc(n_bytes);

    if (grown != NULL)
        m->blocks = grown;
    if (grown == NULL || block == NULL) {
        free(block);
        no_memory(err);
        return NULL;
    }
    m->blocks[m->n_blocks++] = block;
    return block;
}

/* ---- matrices ------------------------------------------------------------------------------- */

static void name_of(const struct gguf_tensor *tensor, char name[64])
{
    snprintf(name, 64, "%.*s", (int)tensor->name.length, tensor->name.data);
}

/* Room for a tensor of the new parent under `name`. */
static uint8_t *put_matrix(struct making *m, const char *name, size_t row_len, size_t n_rows,
                           struct err *err)
{
    uint8_t *out = keep_block(m, n_rows * format_row_bytes(m->format, row_len), err);

    if (out == NULL || gguf_put_tensor(m->writer, name, m->format, row_len, n_rows, out, err) != 0)
        return NULL;
    return out;
}

/* W[n][d_model] becomes W map, a few rows at a time; map[d_model][hidden], or NULL for Q itself. */
static int put_reader(struct making *m, const char *name, const struct gguf_tensor *tensor,
                      const float *map, struct err *err)
{
    size_t d = m->basis->d_model, k = m->basis->hidden, n = tensor->dims[1];
    float *before = malloc(ROWS_AT_ONCE * d * sizeof *before);
    float *after = malloc(ROWS_AT_ONCE * k * sizeof *after);
    uint8_t *out = put_matrix(m, name, k, n, err);
    int status = out != NULL ? 0 : -1;

    if (before == NULL || after == NULL)
        status = no_memory(err);
    for (size_t row = 0; row < n && status == 0; row += ROWS_AT_ONCE) {
        size_t n_rows = n - row < ROWS_AT_ONCE ? n - row : ROWS_AT_ONCE;
        parent_unpack(tensor, row, n_rows, before);
        if (map != NULL)
            linalg_gemm_nn(n_rows, k, d, 1, before, d, map, k, 0, after, k);
        else
            linalg_gemm_nt(n_rows, k, d, 1, before, d, m->directions, d, 0, after, k);
        status = quantize_rows_plain(m->format, after, n_rows, k,
                                     out + row * format_row_bytes(m->format, k), err);
    }
    if (status != 0)
        err_prefix(err, "basis: %s", name);
    free(after);
    free(before);
    return status;
}

/* W[d_model][n_in] becomes Q'W. */
static int put_writer(struct making *m, const struct gguf_tensor *tensor, struct err *err)
{
    size_t d = m->basis->d_model, k = m->basis->hidden, n_in = tensor->dims[0];
    float *before = malloc(d * n_in * sizeof *before), *after = malloc(k * n_in * sizeof *after);
    char name[64];
    int status = -1;

    name_of(tensor, name);
    uint8_t *out = put_matrix(m, name, n_in, k, err);
    if (before == NULL || after == NULL) {
        no_memory(err);
    } else if (out != NULL) {
        parent_unpack(tensor, 0, d, before);
        linalg_gemm_nn(k, n_in, d, 1, m->directions, d, before, n_in, 0, after, n_in);
        status = quantize_rows_plain(m->format, after, k, n_in, out, err);
    }
    if (status != 0)
        err_prefix(err, "basis: %s", name);
    free(after);
    free(before);
    return status;
}

static int put_norm(struct making *m, const struct gguf_tensor *tensor, float gain, struct err *err)
{
    size_t k = m->basis->hidden;
    float *values = keep_block(m, k * sizeof *values, err);
    char name[64];

    if (values == NULL)
        return -1;
    for (size_t i = 0; i < k; i++)
        values[i] = gain;
    name_of(tensor, name);
    return gguf_put_tensor(m->writer, name, FORMAT_F32, k, 1, values, err);
}

/* b[d_model], added to the stream, becomes Q'b. */
static int put_bias(struct making *m, const struct gguf_tensor *tensor, struct err *err)
{
    size_t d = m->basis->d_model, k = m->basis->hidden;
    const float *bias = tensor->data;
    float *values = keep_block(m, k * sizeof *values, err);
    char name[64];

    if (values == NULL)
        return -1;
    for (size_t j = 0; j < k; j++) {
        double sum = 0;
        for (size_t i = 0; i < d; i++)
            sum += m->basis->q[i * k + j] * (double)bias[i];
        values[j] = (float)sum;
    }
    name_of(tensor, name);
    return gguf_put_tensor(m->writer, name, FORMAT_F32, k, 1, values, err);
}

/* ---- one norm and what reads behind it ------------------------------------------------------ */

/* What was measured in front of layer n_layers is the head's. */
static int reader_of(struct making *m, uint32_t layer, enum linear_site site,
                     const struct gguf_tensor *norm, struct basis_reader *reader, struct err *err)
{
    const struct calibration *c = m->calibration;
    size_t d = m->basis->d_model;
    double *moments = malloc(d * d * sizeof *moments);
    int status = -1;

    memset(reader, 0, sizeof *reader);
    if (moments == NULL)
        return no_memory(err);
    if (layer < c->geometry.n_layers)
        status = calibration_hessian(c, layer, site, d, moments, err);
    else
        status = calibration_head_hessian(c, moments, err);
    if (status == 0)
        status =
            basis_reader_init(reader, m->basis, moments,
                              c->mean + calibration_site_offset(&c->geometry, layer, (int)site),
                              norm->data, calibration_n_tokens(c), err);
    free(moments);
    return status;
}

/* The moments of a site of the new parent. */
static void enter_moments(struct making *m, uint32_t layer, enum linear_site site, size_t n,
                          double *moments, double *mean)
{
    struct hessian sums = {.n = n, .n_tokens = 1, .second = moments, .first = mean};

    calibration_enter(m->turned, layer, (int)site, &sums);
}

static int put_norm_and_readers(struct making *m, uint32_t layer, enum linear_site site,
                                const struct gguf_tensor *norm,
                                const struct gguf_tensor *const *tensors, int n_tensors,
                                struct err *err)
{
    struct basis_reader reader;
    size_t n = (size_t)m->basis->d_model * m->basis->hidden;
    float *map = malloc(n * sizeof *map);
    int status = map != NULL ? 0 : no_memory(err);

    if (status == 0)
        status = reader_of(m, layer, site, norm, &reader, err);
    if (status != 0) {
        free(map);
        return -1;
    }
    for (size_t i = 0; i < n; i++)
        map[i] = (float)reader.map[i];
    enter_moments(m, layer, site, m->basis->hidden, reader.moment, reader.mean);
    status = put_norm(m, norm, reader.gain, err);
    for (int i = 0; i < n_tensors && status == 0; i++) {
        char name[64];
        name_of(tensors[i], name);
        /* A tied head gets a matrix of its own. */
        status = put_reader(m, layer < m->calibration->geometry.n_layers ? name : "output.weight",
                            tensors[i], map, err);
    }
    basis_reader_fini(&reader);
    free(map);
    return status;
}

/* The inputs of o and down are what they were. */
static int copy_moments(struct making *m, uint32_t layer, enum linear_site site, struct err *err)
{
    const struct calibration *c = m->calibration;
    size_t n = calibration_site_size(&c->geometry, (int)site);
    const float *mean = calibration_mean(c, layer, site);
    double *moments = malloc(n * n * sizeof *moments), *means = malloc(n * sizeof *means);
    int status = moments != NULL && means != NULL ? 0 : no_memory(err);

    if (status == 0)
        status = calibration_hessian(c, layer, site, n, moments, err);
    if (status == 0) {
        for (size_t i = 0; i < n; i++)
            means[i] = (double)mean[i];
        enter_moments(m, layer, site, n, moments, means);
    }
    free(means);
    free(moments);
    return status;
}

static int put_layer(struct making *m, uint32_t layer, struct err *err)
{
    const struct gguf_tensor *t[N_TENSOR_ROLES];

    for (int role = 0; role < N_TENSOR_ROLES; role++)
        t[role] = parent_tensor(m->parent, layer, (enum tensor_role)role);
    const struct gguf_tensor *qkv[] = {t[TENSOR_Q], t[TENSOR_K], t[TENSOR_V]};
    const struct gguf_tensor *gate_up[] = {t[TENSOR_GATE], t[TENSOR_UP]};
    if (t[TENSOR_ATTN_NORM] != NULL &&
        (put_norm_and_readers(m, layer, SITE_QKV, t[TENSOR_ATTN_NORM], qkv, 3, err) != 0 ||
         put_writer(m, t[TENSOR_O], err) != 0 || copy_moments(m, layer, SITE_O, err) != 0))
        return -1;
    if (t[TENSOR_FFN_NORM] != NULL &&
        (put_norm_and_readers(m, layer, SITE_GATE_UP, t[TENSOR_FFN_NORM], gate_up, 2, err) != 0 ||
         put_writer(m, t[TENSOR_DOWN], err) != 0 || copy_moments(m, layer, SITE_DOWN, err) != 0))
        return -1;
    for (int role = TENSOR_O_BIAS; role <= TENSOR_DOWN_BIAS; role++)
        if (t[role] != NULL && put_bias(m, t[role], err) != 0)
            return -1;
    calibration_seal(m->turned, layer);
    return 0;
}

static int put_ends(struct making *m, struct err *err)
{
    const struct gguf_tensor *head = parent_head(m->parent);
    uint32_t n_layers = parent_geometry(m->parent)->n_layers;

    if (put_reader(m, "token_embd.weight", parent_embd(m->parent), NULL, err) != 0 ||
        put_norm_and_readers(m, n_layers, SITE_QKV, parent_out_norm(m->parent), &head, 1, err) != 0)
        return -1;
    calibration_seal(m->turned, n_layers);
    return 0;
}

/* ---- keys ----------------------------------------------------------------------------------- */

static int put_keys(struct making *m, const struct hash256 *identity, struct err *err)
{
    const struct geometry *g = parent_geometry(m->parent);
    struct genome *genome = malloc(sizeof *genome);
    uint32_t heads[GEOMETRY_MAX_LAYERS], groups[GEOMETRY_MAX_LAYERS], width[GEOMETRY_MAX_LAYERS];
    struct gguf_writer *w = m->writer;
    char hex[HASH256_HEX];

    if (genome == NULL)
        return no_memory(err);
    parent_genome(m->parent, genome);
    for (uint32_t l = 0; l < g->n_layers; l++) {
        groups[l] = genome->attn[l].kv_groups;
        heads[l] = groups[l] * genome->attn[l].heads_per_group;
        width[l] = genome->ffn[l].width;
    }
    free(genome);
    hash256_hex(*identity, hex);
    bool whole =
        gguf_put_text(w, "general.architecture", "deci", err) == 0 &&
        gguf_put_text(w, IDENTITY_KEY, hex, err) == 0 &&
        gguf_put_u32(w, "deci.block_count", g->n_layers, err) == 0 &&
        gguf_put_u32(w, "deci.context_length", g->n_ctx, err) == 0 &&
        gguf_put_u32(w, "deci.embedding_length", m->basis->hidden, err) == 0 &&
        gguf_put_u32(w, "deci.attention.key_length", g->head_dim, err) == 0 &&
        gguf_put_u32(w, "deci.attention.value_length", g->head_dim, err) == 0 &&
        gguf_put_u32(w, "deci.rope.dimension_count", g->head_dim, err) == 0 &&
        gguf_put_f32(w, "deci.attention.layer_norm_rms_epsilon", g->rms_eps, err) == 0 &&
        gguf_put_f32(w, "deci.rope.freq_base", g->rope_base, err) == 0 &&
        gguf_put_u32_array(w, "deci.feed_forward_length", width, g->n_layers, err) == 0 &&
        gguf_put_u32_array(w, "deci.attention.head_count", heads, g->n_layers, err) == 0 &&
        gguf_put_u32_array(w, "deci.attention.head_count_kv", groups, g->n_layers, err) == 0;
    return whole ? 0 : -1;
}

/* ---- the two files -------------------------------------------------------------------------- */

static int begin(struct making *m, const struct hash256 *identity, struct err *err)
{
    const struct calibration *c = m->calibration;
    struct geometry g = *parent_geometry(m->parent);
    size_t d = m->basis->d_model, k = m->basis->hidden;

    g.d_model = m->basis->hidden;
    g.tied = false;
    m->writer = gguf_writer_create(err);
    m->directions = malloc(k * d * sizeof *m->directions);
    m->turned = calibration_alloc(&g, err);
    if (m->turned != NULL)
        m->turned->own = calloc(calibration_n_triangles(&g), sizeof *m->turned->own);
    if (m->writer == NULL || m->directions == NULL || m->turned == NULL || m->turned->own == NULL)
        return no_memory(err);
    m->turned->triangle = m->turned->own;
    for (size_t i = 0; i < d; i++)
        for (size_t j = 0; j < k; j++)
            m->directions[j * d + i] = (float)m->basis->q[i * k + j];
    m->turned->n_tokens = c->n_tokens;
    m->turned->text = c->text;
    memcpy(m->turned->influence, c->influence, 2 * (size_t)g.n_layers * sizeof *c->influence);
    calibration_name_parent(m->turned, identity);
    return put_keys(m, identity, err);
}

static int save(struct making *m, const char *folder, struct err *err)
{
    char path[BASIS_PATH];

    if (strlen(folder) + 32 > sizeof path) {
        err_set(err, ERR_CREATE, "cannot create %.64s...: the path is too long", folder);
        return -1;
    }
    if (file_make_dirs(folder, err) != 0)
        return -1;
    snprintf(path, sizeof path, "%s/" BASIS_PARENT_NAME, folder);
    if (gguf_writer_save(m->writer, path, err) != 0)
        return -1;
    snprintf(path, sizeof path, "%s/" BASIS_CALIBRATION_NAME, folder);
    return calibration_save(m->turned, path, err);
}

int basis_parent_make(const struct parent *parent, const struct calibration *calibration,
                      const struct basis *basis, enum format format, const char *folder,
                      struct err *err)
{
    struct hash256 identity = basis_parent_identity(calibration, basis->hidden, basis->rotation);
    struct making m = {
        .parent = parent, .calibration = calibration, .basis = basis, .format = format};
    uint32_t n_layers = parent_geometry(parent)->n_layers;

    assert(basis->d_model == parent_geometry(parent)->d_model);
    int status = begin(&m, &identity, err);
    if (status == 0)
        status = put_ends(&m, err);
    for (uint32_t l = 0; l < n_layers && status == 0; l++)
        status = put_layer(&m, l, err);
    if (status == 0)
        status = save(&m, folder, err);
    gguf_writer_destroy(m.writer);
    calibration_destroy(m.turned);
    for (size_t i = 0; i < m.n_blocks; i++)
        free(m.blocks[i]);
    free(m.blocks);
    free(m.directions);
    return status;
}
