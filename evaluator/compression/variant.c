/* variant.c - select, quantize, judge: row by row, so that a build needs memory for a few rows. */
#include "evaluator/compression/variant.h"

#include "evaluator/compression/quantize.h"
#include "evaluator/kernels/kernels.h"
#include "space/base/err.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VARIANT_VERSION = 1, VARIANT_ALIGN = 64 };

/* Share of the mean that is added to each importance. */
static const double damping = 0.01;

static const char *const part_names[N_PARTS] = {"qkv", "o", "gate_up", "down", "embd", "head"};

const char *part_name(enum part part)
{
    assert((int)part >= 0 && part < N_PARTS);
    return part_names[part];
}

void variant_source_init(struct variant_source *source, const struct parent *parent,
                         const struct calibration *calibration, const struct keep_order *order)
{
    struct hash256 name = calibration_hash(calibration),
                   figures = calibration_values_hash(calibration);
    struct sha256 sha;

    sha256_init(&sha);
    sha256_update(&sha, name.bytes, sizeof name.bytes);
    sha256_update(&sha, figures.bytes, sizeof figures.bytes);
    *source = (struct variant_source){parent, calibration, order, sha256_final(&sha)};
}

struct id128 variant_id(const struct variant_source *source, const struct variant_key *key)
{
    /* The ggml type, not our own enum, which may be renumbered. */
    uint32_t words[] = {VARIANT_VERSION, (uint32_t)key->part,  key->layer,
                        key->kept,       key->heads_per_group, format_to_ggml(key->format)};
    struct sha256 sha;

    sha256_init(&sha);
    sha256_update(&sha, source->identity.bytes, sizeof source->identity.bytes);
    sha256_update(&sha, words, sizeof words);
    return id128_of(sha256_final(&sha));
}

/* --- layout ----------------------------------------------------------------------------------- */

static void add_matrix(struct variant *layout, enum format format, size_t n_out, size_t n_in)
{
    uint32_t m = layout->n_matrices++;
    size_t offset = (layout->n_bytes + VARIANT_ALIGN - 1) / VARIANT_ALIGN * VARIANT_ALIGN;

    layout->matrix[m].offset = offset;
    layout->matrix[m].n_bytes = n_out * format_row_bytes(format, n_in);
    layout->matrix[m].n_out = (uint32_t)n_out;
    layout->matrix[m].n_in = (uint32_t)n_in;
    layout->n_bytes = offset + layout->matrix[m].n_bytes;
}

void variant_layout(const struct geometry *g, const struct variant_key *key, struct variant *layout)
{
    size_t kv_rows = (size_t)key->kept * g->head_dim;
    size_t q_rows = kv_rows * key->heads_per_group;

    memset(layout, 0, sizeof *layout);
    layout->error = NAN;
    switch (key->part) {
    case PART_QKV:
        add_matrix(layout, key->format, q_rows, g->d_model);
        add_matrix(layout, key->format, kv_rows, g->d_model);
        add_matrix(layout, key->format, kv_rows, g->d_model);
        break;
    case PART_O:
        add_matrix(layout, key->format, g->d_model, q_rows);
        break;
    case PART_GATE_UP:
        add_matrix(layout, key->format, key->kept, g->d_model);
        add_matrix(layout, key->format, key->kept, g->d_model);
        break;
    case PART_DOWN:
        add_matrix(layout, key->format, g->d_model, key->kept);
        break;
    default:
        add_matrix(layout, key->format, g->n_vocab, g->d_model);
    }
}

/* --- what stays ------------------------------------------------------------------------------- */

/* A list of kept positions, ascending; NULL means all of them. */
struct kept {
    uint32_t *at;
    uint32_t n;
};

/* What stays of one matrix of the parent. */
struct cut {
    const struct gguf_tensor *tensor;
    struct kept rows, cols;
    const float *mean_square; /* [row length of the parent's matrix]; NULL: all 1 */
};

/* Each kept item becomes `size` positions in a row. */
static int spread(const uint32_t *items, uint32_t n, uint32_t size, struct kept *kept,
                  struct err *err)
{
    kept->n = n * size;
    kept->at = malloc((size_t)kept->n * sizeof *kept->at);
    if (kept->at == NULL) {
        err_set(err, ERR_MEMORY, "variant: out of memory");
        return -1;
    }
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < size; j++)
            kept->at[(size_t)i * size + j] = items[i] * size + j;
    return 0;
}

static int refuse_missing(const struct variant_key *key, struct err *err)
{
    err_set(err, ERR_MISSING, "layer %u of the parent has no %s with %u kept%s", key->layer,
            part_name(key->part), key->kept,
            key->heads_per_group > 0 ? " groups of that many heads" : " channels");
    return -1;
}

/* Kept groups and query heads of an attention part, as positions among the parent's heads. */
static int keep_heads(const struct variant_source *source, const struct variant_key *key,
                      struct kept *q_rows, struct kept *kv_rows, struct err *err)
{
    const struct gguf_tensor *q = parent_tensor(source->parent, key->layer, TENSOR_Q);
    const struct gguf_tensor *k = parent_tensor(source->parent, key->layer, TENSOR_K);
    uint32_t head_dim = parent_geometry(source->parent)->head_dim;
    int status = -1;

    if (q == NULL || k == NULL)
        return refuse_missing(key, err);
    uint32_t n_groups = (uint32_t)(k->dims[1] / head_dim);
    uint32_t per_group = (uint32_t)(q->dims[1] / k->dims[1]);
    if (key->kept == 0 || key->kept > n_groups || key->heads_per_group == 0 ||
        key->heads_per_group > per_group)
        return refuse_missing(key, err);

    uint32_t *groups = malloc(key->kept * sizeof *groups);
    uint32_t *heads = malloc((size_t)key->kept * key->heads_per_group * sizeof *heads);
    if (groups == NULL || heads == NULL) {
        err_set(err, ERR_MEMORY, "variant: out of memory");
        goto done;
    }
    keep_order_take(source->order->group[key->layer], key->kept, groups);
    for (uint32_t g = 0; g < key->kept; g++) {
        uint32_t *own = heads + (size_t)g * key->heads_per_group;
        keep_order_take(source->order->head[key->layer] + (size_t)groups[g] * per_group,
                        key->heads_per_group, own);
        for (uint32_t h = 0; h < key->heads_per_group; h++)
            own[h] += groups[g] * per_group;
    }
    if (spread(heads, key->kept * key->heads_per_group, head_dim, q_rows, err) == 0 &&
        spread(groups, key->kept, head_dim, kv_rows, err) == 0)
        status = 0;
done:
    free(heads);
    free(groups);
    return status;
}

static int keep_channels(const struct variant_source *source, const struct variant_key *key,
                         struct kept *channels, struct err *err)
{
    const struct gguf_tensor *down = parent_tensor(source->parent, key->layer, TENSOR_DOWN);

    if (down == NULL || key->kept == 0 || key->kept > down->dims[0])
        return refuse_missing(key, err);
    channels->at = malloc(key->kept * sizeof *channels->at);
    if (channels->at == NULL) {
        err_set(err, ERR_MEMORY, "variant: out of memory");
        return -1;
    }
    channels->n = key->kept;
    keep_order_take(source->order->channel[key->layer], key->kept, channels->at);
    return 0;
}

/* --- one matrix ------------------------------------------------------------------------------- */

/* Whether the kept columns are whole, aligned blocks of `block` weights. */
static bool cuts_whole_blocks(const struct kept *cols, size_t block)
{
    if (cols->n % block != 0)
        return false;
    for (uint32_t i = 0; i < cols->n; i++)
        if (cols->at[i] % block != i % block ||
            (i % block != 0 && cols->at[i] != cols->at[i - 1] + 1))
            return false;
    return true;
}

/* The bytes of the kept blocks of one packed row, as they are. */
static void copy_blocks(enum format format, const struct kept *cols, size_t n_cols,
                        const uint8_t *row, uint8_t *out)
{
    size_t block = format_block(format), bytes = format_block_bytes(format);

    if (cols->at == NULL) {
        memcpy(out, row, n_cols / block * bytes);
        return;
    }
    for (size_t i = 0; i < cols->n; i += block)
        memcpy(out + i / block * bytes, row + cols->at[i] / block * bytes, bytes);
}

/* Buffers of one cut: `n_full` columns in the parent, `n_cols` of them stay. */
struct bench {
    size_t n_full, n_cols;
    float *full;       /* [n_full] a row of the parent */
    float *picked;     /* [n_cols] what stays of it */
    float *back;       /* [n_cols] the same, packed and unpacked again */
    float *importance; /* [n_cols] damped */
    double *energy;    /* [n_full] mean squares */
    double *lost;      /* [n_full] the same where a column goes, 0 where it stays */
    double error, whole;
};

static void bench_fini(struct bench *b)
{
    free(b->full);
    free(b->energy);
}

static int bench_init(struct bench *b, const struct cut *cut, struct err *err)
{
    size_t n_full = cut->tensor->dims[0], n_cols = cut->cols.at != NULL ? cut->cols.n : n_full;
    double mean = 0;

    *b = (struct bench){.n_full = n_full, .n_cols = n_cols};
    b->full = malloc((n_full + 3 * n_cols) * sizeof *b->full);
    b->energy = malloc(2 * n_full * sizeof *b->energy);
    if (b->full == NULL || b->energy == NULL) {
        err_set(err, ERR_MEMORY, "variant: out of memory");
        bench_fini(b);
        return -1;
    }
    b->picked = b->full + n_full;
    b->back = b->picked + n_cols;
    b->importance = b->back + n_cols;
    b->lost = b->energy + n_full;

    for (size_t i = 0; i < n_full; i++)
        b->energy[i] = b->lost[i] = cut->mean_square != NULL ? cut->mean_square[i] : 1.0;
    for (size_t c = 0; c < n_cols; c++) {
        size_t i = cut->cols.at != NULL ? cut->cols.at[c] : c;
        b->lost[i] = 0;
        mean += b->energy[i] / (double)n_cols;
    }
    for (size_t c = 0; c < n_cols; c++) {
        size_t i = cut->cols.at != NULL ? cut->cols.at[c] : c;
        b->importance[c] = mean > 0 ? (float)(b->energy[i] + damping * mean) : 1.0f;
    }
    return 0;
}

/* First position where `x` is not finite, n when there is none. */
static size_t find_unsound(const float *x, size_t n)
{
    size_t i = 0;

    while (i < n && isfinite(x[i]))
        i++;
    return i;
}

static void bench_judge(struct bench *b, const struct kept *cols)
{
    for (size_t i = 0; i < b->n_full; i++) {
        double square = (double)b->full[i] * b->full[i];
        b->whole += b->energy[i] * square;
        b->error += b->lost[i] * square;
    }
    for (size_t c = 0; c < b->n_cols; c++) {
        double off = (double)b->picked[c] - (double)b->back[c];
        b->error += b->energy[cols->at != NULL ? cols->at[c] : c] * off * off;
    }
}

static int cut_row(const struct cut *cut, enum format format, bool copied, struct bench *b,
                   size_t row, uint8_t *out, struct err *err)
{
    const struct gguf_tensor *t = cut->tensor;
    size_t bad;

    parent_unpack(t, row, 1, b->full);
    bad = find_unsound(b->full, b->n_full);
    if (bad < b->n_full) {
        err_set(err, ERR_DATA, "tensor %.*s: row %zu, column %zu is not a finite number",
                (int)t->name.length, t->name.data, row, bad);
        return -1;
    }
    for (size_t c = 0; c < b->n_cols; c++)
        b->picked[c] = b->full[cut->cols.at != NULL ? cut->cols.at[c] : c];
    if (copied) {
        size_t row_bytes = format_row_bytes(t->format, b->n_full);
        copy_blocks(format, &cut->cols, b->n_cols, (const uint8_t *)t->data + row * row_bytes, out);
    } else if (quantize_rows(format, b->picked, 1, b->n_cols,
                             cut->mean_square != NULL ? b->importance : NULL, out, err) != 0) {
        err_prefix(err, "tensor %.*s, row %zu", (int)t->name.length, t->name.data, row);
        return -1;
    }
    kernels_reference()->unpack[format](out, b->n_cols, b->back);
    bad = find_unsound(b->back, b->n_cols);
    if (bad < b->n_cols) {
        err_set(err, ERR_DATA, "tensor %.*s: row %zu holds %g, too large for %s",
                (int)t->name.length, t->name.data, row, (double)b->picked[bad],
                format_name(format));
        return -1;
    }
    bench_judge(b, &cut->cols);
    return 0;
}

/* All rows of a cut into `out`; adds to *error and *whole. */
static int cut_build(const struct cut *cut, enum format format, uint8_t *out, double *error,
                     double *whole, struct err *err)
{
    struct bench b;
    int status = 0;

    if (bench_init(&b, cut, err) != 0)
        return -1;
    size_t n_rows = cut->rows.at != NULL ? cut->rows.n : cut->tensor->dims[1];
    size_t row_bytes = format_row_bytes(format, b.n_cols);
    bool copied = cut->tensor->format == format &&
                  (cut->cols.at == NULL || cuts_whole_blocks(&cut->cols, format_block(format)));

    for (size_t r = 0; r < n_rows && status == 0; r++)
        status = cut_row(cut, format, copied, &b, cut->rows.at != NULL ? cut->rows.at[r] : r,
                         out + r * row_bytes, err);
    *error += b.error;
    *whole += b.whole;
    bench_fini(&b);
    return status;
}

/* --- one part --------------------------------------------------------------------------------- */

/* Fill cuts[] for the part's matrices.  `q` and `kv` (or `q` alone for channels) own the lists. */
static int choose_cuts(const struct variant_source *source, const struct variant_key *key,
                       struct cut cuts[3], struct kept *q, struct kept *kv, struct err *err)
{
    const struct parent *parent = source->parent;
    const struct calibration *cal = source->calibration;
    uint32_t l = key->layer;
    const struct kept all = {0};

    switch (key->part) {
    case PART_QKV:
    case PART_O:
        if (keep_heads(source, key, q, kv, err) != 0)
            return -1;
        break;
    case PART_GATE_UP:
    case PART_DOWN:
        if (keep_channels(source, key, q, err) != 0)
            return -1;
        break;
    default:
        break;
    }
    switch (key->part) {
    case PART_QKV: {
        const float *x = calibration_mean_square(cal, l, SITE_QKV);
        cuts[0] = (struct cut){parent_tensor(parent, l, TENSOR_Q), *q, all, x};
        cuts[1] = (struct cut){parent_tensor(parent, l, TENSOR_K), *kv, all, x};
        cuts[2] = (struct cut){parent_tensor(parent, l, TENSOR_V), *kv, all, x};
        break;
    }
    case PART_O:
        cuts[0] = (struct cut){parent_tensor(parent, l, TENSOR_O), all, *q,
                               calibration_mean_square(cal, l, SITE_O)};
        break;
    case PART_GATE_UP: {
        const float *x = calibration_mean_square(cal, l, SITE_GATE_UP);
        cuts[0] = (struct cut){parent_tensor(parent, l, TENSOR_GATE), *q, all, x};
        cuts[1] = (struct cut){parent_tensor(parent, l, TENSOR_UP), *q, all, x};
        break;
    }
    case PART_DOWN:
        cuts[0] = (struct cut){parent_tensor(parent, l, TENSOR_DOWN), all, *q,
                               calibration_mean_square(cal, l, SITE_DOWN)};
        break;
    case PART_EMBD:
        cuts[0] = (struct cut){parent_embd(parent), all, all, NULL};
        break;
    default:
        cuts[0] = (struct cut){parent_head(parent), all, all, NULL};
    }
    return 0;
}

int variant_build(const struct variant_source *source, const struct variant_key *key,
                  struct variant *layout, uint8_t *out, struct err *err)
{
    struct kept q = {0}, kv = {0};
    struct cut cuts[3] = {0};
    double error = 0, whole = 0;
    int status = -1;

    if (choose_cuts(source, key, cuts, &q, &kv, err) != 0)
        goto done;
    memset(out, 0, layout->n_bytes);
    for (uint32_t m = 0; m < layout->n_matrices; m++) {
        /* A list that keeps everything is no list: whole rows need no look at their columns. */
        if (cuts[m].cols.at != NULL && cuts[m].cols.n == cuts[m].tensor->dims[0])
            cuts[m].cols = (struct kept){0};
        if (cut_build(&cuts[m], key->format, out + layout->matrix[m].offset, &error, &whole, err) !=
            0)
            goto done;
    }
    layout->error = whole > 0 ? error / whole : 0.0;
    status = 0;
done:
    free(q.at);
    free(kv.at);
    return status;
}
