/* calibration.c - one pass over the calibration text with a listener at every linear input.
 * The pass goes layer by layer over whole batches, so that the residual stream before and after
 * each layer is at hand; in between it is read off the FFN's normed input. */
#include "evaluator/compression/calibration.h"

#include "evaluator/parent.h"
#include "evaluator/quality/token_set.h"
#include "space/base/err.h"
#include "space/base/file.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CALIBRATION_VERSION = 1, CALIBRATION_BATCH = 128 };

static const char magic[8] = "KERFCALI";

struct file_head {
    char magic[8];
    uint32_t version, n_layers, d_model, n_heads, n_kv_heads, head_dim, d_ff, zero;
    uint64_t n_tokens;
    uint8_t parent[32];
    uint8_t text[32];
};
_Static_assert(sizeof(struct file_head) == 112, "the head of a calibration file has no holes");

struct calibration {
    struct geometry geometry; /* the sizes of the sites */
    uint64_t n_tokens;
    bool named; /* `parent` is known */
    struct hash256 parent;
    struct hash256 text; /* of the token set */
    double *influence;   /* [2 * n_layers] */
    float *mean_square;  /* [n_layers][sites of one layer], sites as site_offset says */
};

/* A layer's inputs lie one after another: qkv, o, gate/up, down. */
static size_t site_size(const struct geometry *g, int site)
{
    switch (site) {
    case SITE_O:
        return (size_t)g->n_heads * g->head_dim;
    case SITE_DOWN:
        return g->d_ff;
    default:
        return g->d_model;
    }
}

static size_t site_offset(const struct geometry *g, uint32_t layer, int site)
{
    size_t before = 0, all = 0;

    for (int s = 0; s < N_LINEAR_SITES; s++) {
        before += s < site ? site_size(g, s) : 0;
        all += site_size(g, s);
    }
    return layer * all + before;
}

static size_t n_means(const struct geometry *g)
{
    return site_offset(g, g->n_layers, 0);
}

static struct calibration *calibration_alloc(const struct geometry *geometry, struct err *err)
{
    struct calibration *c = calloc(1, sizeof *c);

    if (c != NULL) {
        c->geometry = *geometry;
        c->influence = calloc(2 * (size_t)geometry->n_layers, sizeof *c->influence);
        c->mean_square = calloc(n_means(geometry), sizeof *c->mean_square);
    }
    if (c == NULL || c->influence == NULL || c->mean_square == NULL) {
        err_set(err, ERR_MEMORY, "calibration: out of memory");
        calibration_destroy(c);
        return NULL;
    }
    return c;
}

void calibration_destroy(struct calibration *c)
{
    if (c == NULL)
        return;
    free(c->influence);
    free(c->mean_square);
    free(c);
}

/* --- the pass --------------------------------------------------------------------------------- */

struct listener {
    const struct model *model;
    const struct geometry *g;
    double *sums;   /* as mean_square, of squares */
    double *change; /* [2 * n_layers], sums of 1 - cosine */
    float *middle;  /* [CALIBRATION_BATCH][d_model], the stream between the units, up to a factor */
    int bad_layer, bad_site; /* where a NaN or an infinity came by; -1 when none did */
};

static void hear(void *arg, uint32_t layer, enum linear_site site, const float *x,
                 uint32_t n_tokens, uint32_t n_in)
{
    struct listener *ear = arg;
    double *sums = ear->sums + site_offset(ear->g, layer, (int)site);
    double total = 0;

    assert(n_in <= site_size(ear->g, (int)site) && n_tokens <= CALIBRATION_BATCH);
    for (uint32_t t = 0; t < n_tokens; t++) {
        const float *row = x + (size_t)t * n_in;
        for (uint32_t i = 0; i < n_in; i++) {
            double square = (double)row[i] * row[i];
            sums[i] += square;
            total += square;
        }
    }
    if (!isfinite(total) && ear->bad_layer < 0) {
        ear->bad_layer = (int)layer;
        ear->bad_site = (int)site;
    }
    if (site != SITE_GATE_UP)
        return;
    /* x = h / rms(h) * gain, and a cosine does not mind the factor 1 / rms(h). */
    const float *gain = ear->model->ffn[layer].norm;
    for (uint32_t t = 0; t < n_tokens; t++)
        for (uint32_t i = 0; i < n_in; i++)
            ear->middle[(size_t)t * n_in + i] =
                gain[i] != 0.0f ? x[(size_t)t * n_in + i] / gain[i] : 0.0f;
}

/* Sum over tokens of 1 - cosine of two streams; channels where `gain` (may be NULL) is 0 are left
 * out. */
static double stream_change(const float *a, const float *b, const float *gain, uint32_t n_tokens,
                            uint32_t d_model)
{
    double change = 0;

    for (uint32_t t = 0; t < n_tokens; t++, a += d_model, b += d_model) {
        double ab = 0, aa = 0, bb = 0;
        for (uint32_t i = 0; i < d_model; i++) {
            if (gain != NULL && gain[i] == 0.0f)
                continue;
            ab += (double)a[i] * b[i];
            aa += (double)a[i] * a[i];
            bb += (double)b[i] * b[i];
        }
        /* A stream of zeros has no direction to change. */
        if (aa > 0 && bb > 0)
            change += 1.0 - ab / sqrt(aa * bb);
    }
    return change;
}

/* One batch through all layers.  `before` and `hidden`: [n][d_model]. */
static void run_layers(struct forward *forward, struct listener *ear, float *before, float *hidden,
                       uint32_t n)
{
    uint32_t n_layers = ear->g->n_layers, d_model = ear->g->d_model;

    for (uint32_t l = 0; l < n_layers; l++) {
        bool attn = ear->model->attn[l].present, ffn = ear->model->ffn[l].present;
        memcpy(before, hidden, (size_t)n * d_model * sizeof *hidden);
        forward_layers(forward, hidden, n, l, l + 1, l + 1 == n_layers);
        if (attn && ffn) {
            const float *gain = ear->model->ffn[l].norm;
            ear->change[2 * l] += stream_change(before, ear->middle, gain, n, d_model);
            ear->change[2 * l + 1] += stream_change(ear->middle, hidden, gain, n, d_model);
        } else if (attn || ffn) {
            ear->change[2 * l + (ffn ? 1 : 0)] += stream_change(before, hidden, NULL, n, d_model);
        }
    }
}

static int run_text(struct forward *forward, struct listener *ear, const struct token_set *set,
                    struct err *err)
{
    static const char *const site_names[N_LINEAR_SITES] = {"qkv", "o", "gate/up", "down"};
    uint32_t d_model = ear->g->d_model;
    int status = -1;

    float *hidden = malloc(2 * (size_t)CALIBRATION_BATCH * d_model * sizeof *hidden);
    if (hidden == NULL) {
        err_set(err, ERR_MEMORY, "calibration: out of memory");
        return -1;
    }
    for (uint32_t s = 0; s < set->n_sequences; s++) {
        uint32_t begin, end;
        token_set_sequence(set, s, &begin, &end);
        forward_reset(forward);
        for (uint32_t at = begin; at < end; at += CALIBRATION_BATCH) {
            uint32_t n = end - at < CALIBRATION_BATCH ? end - at : CALIBRATION_BATCH;
            if (forward_embed(forward, set->tokens + at, n, hidden, err) != 0)
                goto done;
            run_layers(forward, ear, hidden + (size_t)CALIBRATION_BATCH * d_model, hidden, n);
            if (ear->bad_layer >= 0) {
                err_set(err, ERR_DATA,
                        "calibration: input of %s in layer %d is not finite near "
                        "token %u of the text",
                        site_names[ear->bad_site], ear->bad_layer, at);
                goto done;
            }
        }
    }
    status = 0;
done:
    free(hidden);
    return status;
}

struct calibration *calibration_collect(const struct model *model, const struct kernels *kernels,
                                        struct team *team, const struct token_set *set,
                                        struct err *err)
{
    const struct geometry *g = &model->geometry;
    size_t n_sums = n_means(g);
    struct listener ear = {.model = model, .g = g, .bad_layer = -1};
    struct forward *forward = NULL;

    struct calibration *c = calibration_alloc(g, err);
    if (c == NULL)
        return NULL;
    ear.change = c->influence;
    ear.sums = calloc(n_sums, sizeof *ear.sums);
    ear.middle = calloc((size_t)CALIBRATION_BATCH * g->d_model, sizeof *ear.middle);
    if (ear.sums == NULL || ear.middle == NULL) {
        err_set(err, ERR_MEMORY, "calibration: out of memory");
        goto undo;
    }
    struct forward_options options = {.n_ctx = set->sequence, .n_batch = CALIBRATION_BATCH};
    forward = forward_create(model, kernels, team, &options, err);
    if (forward == NULL)
        goto undo;
    forward_listen(forward, hear, &ear);
    if (run_text(forward, &ear, set, err) != 0)
        goto undo;

    c->n_tokens = set->n_tokens;
    c->text = set->hash;
    for (size_t i = 0; i < n_sums; i++)
        c->mean_square[i] = (float)(ear.sums[i] / (double)set->n_tokens);
    for (uint32_t u = 0; u < 2 * g->n_layers; u++)
        c->influence[u] /= (double)set->n_tokens;
    goto done;

undo:
    calibration_destroy(c);
    c = NULL;
done:
    forward_destroy(forward);
    free(ear.middle);
    free(ear.sums);
    return c;
}

struct calibration *calibration_of_parent(struct parent *parent, const struct kernels *kernels,
                                          struct team *team, const struct token_set *tokens,
                                          struct err *err)
{
    struct model *model = model_of_parent(parent, err);
    if (model == NULL)
        return NULL;

    struct calibration *c = calibration_collect(model, kernels, team, tokens, err);
    if (c != NULL) {
        struct hash256 hash = parent_hash(parent);
        calibration_name_parent(c, &hash);
    }
    model_destroy(model);
    return c;
}

/* --- what it says ----------------------------------------------------------------------------- */

void calibration_name_parent(struct calibration *c, const struct hash256 *parent)
{
    c->parent = *parent;
    c->named = true;
}

const float *calibration_mean_square(const struct calibration *c, uint32_t layer,
                                     enum linear_site site)
{
    assert(layer < c->geometry.n_layers && (int)site >= 0 && site < N_LINEAR_SITES);
    return c->mean_square + site_offset(&c->geometry, layer, (int)site);
}

uint64_t calibration_n_tokens(const struct calibration *c)
{
    return c->n_tokens;
}

double calibration_influence(const struct calibration *c, uint32_t unit)
{
    assert(unit < 2 * c->geometry.n_layers);
    return c->influence[unit];
}

struct hash256 calibration_hash(const struct calibration *c)
{
    uint32_t version = CALIBRATION_VERSION;
    struct sha256 sha;

    assert(c->named);
    sha256_init(&sha);
    sha256_update(&sha, magic, sizeof magic);
    sha256_update(&sha, &version, sizeof version);
    sha256_update(&sha, c->parent.bytes, sizeof c->parent.bytes);
    sha256_update(&sha, c->text.bytes, sizeof c->text.bytes);
    return sha256_final(&sha);
}

struct hash256 calibration_values_hash(const struct calibration *c)
{
    return sha256_of(c->mean_square, n_means(&c->geometry) * sizeof *c->mean_square);
}

/* --- the file --------------------------------------------------------------------------------- */

static struct file_head head_of(const struct geometry *g, const struct hash256 *parent)
{
    struct file_head head = {.version = CALIBRATION_VERSION,
                             .n_layers = g->n_layers,
                             .d_model = g->d_model,
                             .n_heads = g->n_heads,
                             .n_kv_heads = g->n_kv_heads,
                             .head_dim = g->head_dim,
                             .d_ff = g->d_ff};

    memcpy(head.magic, magic, sizeof magic);
    memcpy(head.parent, parent->bytes, sizeof head.parent);
    return head;
}

int calibration_save(const struct calibration *c, const char *path, struct err *err)
{
    size_t influence_bytes = 2 * (size_t)c->geometry.n_layers * sizeof *c->influence;
    size_t mean_bytes = n_means(&c->geometry) * sizeof *c->mean_square;
    struct file_head head = head_of(&c->geometry, &c->parent);
    struct file_draft draft;
    struct sha256 sha;

    assert(c->named);
    head.n_tokens = c->n_tokens;
    memcpy(head.text, c->text.bytes, sizeof head.text);
    sha256_init(&sha);
    sha256_update(&sha, &head, sizeof head);
    sha256_update(&sha, c->influence, influence_bytes);
    sha256_update(&sha, c->mean_square, mean_bytes);
    struct hash256 sum = sha256_final(&sha);

    if (file_draft_open(&draft, path, err) != 0)
        return -1;
    fwrite(&head, 1, sizeof head, draft.stream);
    fwrite(c->influence, 1, influence_bytes, draft.stream);
    fwrite(c->mean_square, 1, mean_bytes, draft.stream);
    fwrite(sum.bytes, 1, sizeof sum.bytes, draft.stream);
    return file_draft_commit(&draft, err);
}

/* Sizes, version and owner first, then the sum over everything. */
static int check_file(const struct file_map *map, const char *path, const struct geometry *g,
                      const struct hash256 *parent, struct file_head *head, struct err *err)
{
    size_t want = sizeof *head + 2 * (size_t)g->n_layers * sizeof(double) +
                  n_means(g) * sizeof(float) + sizeof(struct hash256);
    struct file_head ours = head_of(g, parent);

    if (map->size < sizeof *head || memcmp(map->data, magic, sizeof magic) != 0) {
        err_set(err, ERR_DATA, "%s is not a calibration file", path);
        return -1;
    }
    memcpy(head, map->data, sizeof *head);
    if (head->version != CALIBRATION_VERSION) {
        err_set(err, ERR_DATA,
                "%s: calibration version %u, this program knows %d; remove it to "
                "calibrate again",
                path, head->version, CALIBRATION_VERSION);
        return -1;
    }
    if (memcmp(head->parent, ours.parent, sizeof ours.parent) != 0 ||
        memcmp(&head->n_layers, &ours.n_layers, 7 * sizeof(uint32_t)) != 0) {
        err_set(err, ERR_DATA,
                "%s was made from another parent model; remove it to calibrate "
                "again",
                path);
        return -1;
    }
    struct hash256 sum = {0};
    if (map->size == want)
        sum = sha256_of(map->data, map->size - sizeof sum);
    if (map->size != want ||
        memcmp(sum.bytes, map->data + map->size - sizeof sum, sizeof sum) != 0) {
        err_set(err, ERR_DATA,
                "%s is damaged (%zu bytes, expected %zu with a matching sum); "
                "remove it to calibrate again",
                path, map->size, want);
        return -1;
    }
    return 0;
}

static bool all_sound(const struct calibration *c)
{
    for (size_t i = 0; i < n_means(&c->geometry); i++)
        if (!isfinite(c->mean_square[i]) || c->mean_square[i] < 0)
            return false;
    for (uint32_t u = 0; u < 2 * c->geometry.n_layers; u++)
        if (!isfinite(c->influence[u]))
            return false;
    return true;
}

struct calibration *calibration_load(const char *path, const struct geometry *geometry,
                                     const struct hash256 *parent, struct err *err)
{
    size_t influence_bytes = 2 * (size_t)geometry->n_layers * sizeof(double);
    struct calibration *c = NULL;
    struct file_head head;
    struct file_map map;

    if (file_map_open(&map, path, err) != 0)
        return NULL;
    if (check_file(&map, path, geometry, parent, &head, err) != 0)
        goto done;
    c = calibration_alloc(geometry, err);
    if (c == NULL)
        goto done;
    c->n_tokens = head.n_tokens;
    memcpy(c->text.bytes, head.text, sizeof head.text);
    calibration_name_parent(c, parent);
    memcpy(c->influence, map.data + sizeof head, influence_bytes);
    memcpy(c->mean_square, map.data + sizeof head + influence_bytes,
           n_means(geometry) * sizeof *c->mean_square);
    if (head.n_tokens == 0 || !all_sound(c)) {
        err_set(err, ERR_DATA, "%s holds figures that cannot be", path);
        calibration_destroy(c);
        c = NULL;
    }
done:
    file_map_close(&map);
    return c;
}
