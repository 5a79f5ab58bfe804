/* calibration.c - a run over the calibration text with a listener at every linear input.
 * Layer by layer, and in each in batches, so that the residual stream before and after the layer is
 * at hand; in between it is read off the FFN's normed input. */
#include "evaluator/compression/calibration_parts.h"

#include "evaluator/parent.h"
#include "evaluator/quality/token_set.h"
#include "space/base/err.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CALIBRATION_BATCH = 128 };

const char calibration_magic[8] = "KERFCALI";

/* --- sizes ------------------------------------------------------------------------------------ */

size_t calibration_site_size(const struct geometry *g, int site)
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

size_t calibration_site_offset(const struct geometry *g, uint32_t layer, int site)
{
    size_t before = 0, all = 0;

    for (int s = 0; s < N_LINEAR_SITES; s++) {
        before += s < site ? calibration_site_size(g, s) : 0;
        all += calibration_site_size(g, s);
    }
    return layer * all + before;
}

size_t calibration_triangle_offset(const struct geometry *g, uint32_t layer, int site)
{
    size_t before = 0, all = 0;

    for (int s = 0; s < N_LINEAR_SITES; s++) {
        size_t size = hessian_triangle_size(calibration_site_size(g, s));
        before += s < site ? size : 0;
        all += size;
    }
    return layer * all + before;
}

size_t calibration_n_means(const struct geometry *g)
{
    return calibration_site_offset(g, g->n_layers, 0) + g->d_model;
}

size_t calibration_n_triangles(const struct geometry *g)
{
    return calibration_triangle_offset(g, g->n_layers, 0) + hessian_triangle_size(g->d_model);
}

/* Floats in the triangles of a layer, or in the head's. */
static size_t n_triangles_of(const struct geometry *g, uint32_t layer)
{
    if (layer == g->n_layers)
        return hessian_triangle_size(g->d_model);
    return calibration_triangle_offset(g, 1, 0);
}

struct calibration *calibration_alloc(const struct geometry *geometry, struct err *err)
{
    struct calibration *c = calloc(1, sizeof *c);

    if (c != NULL) {
        c->geometry = *geometry;
        c->influence = calloc(2 * (size_t)geometry->n_layers, sizeof *c->influence);
        c->mean = calloc(calibration_n_means(geometry), sizeof *c->mean);
        c->mean_square = calloc(calibration_n_means(geometry), sizeof *c->mean_square);
        c->layer_sum = calloc(geometry->n_layers + 1, sizeof *c->layer_sum);
        c->is_checked = calloc(geometry->n_layers + 1, sizeof *c->is_checked);
    }
    if (c == NULL || c->influence == NULL || c->mean == NULL || c->mean_square == NULL ||
        c->layer_sum == NULL || c->is_checked == NULL) {
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
    free(c->mean);
    free(c->mean_square);
    free(c->layer_sum);
    free(c->is_checked);
    free(c->own);
    free(c->path);
    file_map_close(&c->map);
    free(c);
}

/* --- listening -------------------------------------------------------------------------------- */

/* One batch of a layer: its inputs are taken down as they come by and added when it is through. */
struct listener {
    const struct model *model;
    const struct kernels *kernels;
    const struct geometry *g;
    struct hessian sums[N_LINEAR_SITES]; /* of the layer that is run */
    double *heard[N_LINEAR_SITES];       /* the batch's inputs (hessian_widen) */
    uint32_t n_heard[N_LINEAR_SITES];    /* tokens of them */
    float *middle; /* [CALIBRATION_BATCH][d_model], the stream between the units, up to a factor */
    int bad_layer, bad_site; /* where a NaN or an infinity came by; -1 when none did */
};

static void hear(void *arg, uint32_t layer, enum linear_site site, const float *x,
                 uint32_t n_tokens, uint32_t n_in)
{
    struct listener *ear = arg;

    assert(n_in == ear->sums[site].n && n_tokens <= CALIBRATION_BATCH);
    ear->n_heard[site] = n_tokens;
    if (!hessian_widen(x, n_tokens, n_in, ear->heard[site]) && ear->bad_layer < 0) {
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

static void add_heard(void *arg, unsigned member, unsigned n_members)
{
    struct listener *ear = arg;

    for (int s = 0; s < N_LINEAR_SITES; s++)
        if (ear->n_heard[s] > 0)
            hessian_add(&ear->sums[s], ear->kernels, ear->heard[s], ear->n_heard[s], member,
                        n_members);
}

/* What a layer's sites take in: 0 where it has no such unit. */
static size_t site_width(const struct model *model, uint32_t layer, int site)
{
    const struct attn_unit *attn = &model->attn[layer];
    const struct ffn_unit *ffn = &model->ffn[layer];

    switch (site) {
    case SITE_QKV:
        return attn->present ? attn->q.n_in : 0;
    case SITE_O:
        return attn->present ? attn->o.n_in : 0;
    case SITE_GATE_UP:
        return ffn->present ? ffn->gate.n_in : 0;
    default:
        return ffn->present ? ffn->down.n_in : 0;
    }
}

static void listener_fini(struct listener *ear)
{
    for (int s = 0; s < N_LINEAR_SITES; s++) {
        hessian_fini(&ear->sums[s]);
        free(ear->heard[s]);
    }
    free(ear->middle);
}

static int listener_init(struct listener *ear, const struct model *model,
                         const struct kernels *kernels, struct err *err)
{
    *ear = (struct listener){
        .model = model, .kernels = kernels, .g = &model->geometry, .bad_layer = -1};
    bool whole = true;
    for (int s = 0; s < N_LINEAR_SITES && whole; s++) {
        size_t n = calibration_site_size(ear->g, s);
        ear->heard[s] = malloc(hessian_wide_size(CALIBRATION_BATCH, n) * sizeof *ear->heard[s]);
        whole = ear->heard[s] != NULL && hessian_init(&ear->sums[s], n, err) == 0;
    }
    ear->middle = calloc((size_t)CALIBRATION_BATCH * ear->g->d_model, sizeof *ear->middle);
    if (whole && ear->middle != NULL)
        return 0;
    err_set(err, ERR_MEMORY, "calibration: out of memory");
    listener_fini(ear);
    return -1;
}

/* --- the run ---------------------------------------------------------------------------------- */

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

/* A run over the text, one layer at a time. */
struct run {
    struct forward *forward;
    struct team *team;
    const struct token_set *set;
    struct listener ear;
    float *stream; /* [n_tokens][d_model] in front of the layer, then behind it */
    float *before; /* [CALIBRATION_BATCH][d_model] */
};

static int embed_text(struct run *run, struct err *err)
{
    uint32_t n_tokens = run->set->n_tokens, room = forward_n_ctx(run->forward);
    uint32_t step = room < CALIBRATION_BATCH ? room : CALIBRATION_BATCH;

    for (uint32_t at = 0; at < n_tokens; at += step) {
        uint32_t n = n_tokens - at < step ? n_tokens - at : step;
        if (forward_embed(run->forward, run->set->tokens + at, n,
                          run->stream + (size_t)at * run->ear.g->d_model, err) != 0)
            return -1;
    }
    return 0;
}

/* One batch through one layer; `change` has room for its two units. */
static void run_batch(struct run *run, uint32_t layer, float *hidden, uint32_t n, double change[2])
{
    struct listener *ear = &run->ear;
    uint32_t d_model = ear->g->d_model;
    bool attn = ear->model->attn[layer].present, ffn = ear->model->ffn[layer].present;

    memset(ear->n_heard, 0, sizeof ear->n_heard);
    memcpy(run->before, hidden, (size_t)n * d_model * sizeof *hidden);
    forward_layers(run->forward, hidden, n, layer, layer + 1, true);
    team_run(run->team, add_heard, ear);
    if (attn && ffn) {
        const float *gain = ear->model->ffn[layer].norm;
        change[0] += stream_change(run->before, ear->middle, gain, n, d_model);
        change[1] += stream_change(ear->middle, hidden, gain, n, d_model);
    } else if (attn || ffn) {
        change[ffn ? 1 : 0] += stream_change(run->before, hidden, NULL, n, d_model);
    }
}

/* The whole text through one layer. */
static int run_layer(struct run *run, uint32_t layer, double change[2], struct err *err)
{
    static const char *const site_names[N_LINEAR_SITES] = {"qkv", "o", "gate/up", "down"};
    struct listener *ear = &run->ear;

    for (int s = 0; s < N_LINEAR_SITES; s++) {
        ear->sums[s].n = site_width(ear->model, layer, s);
        hessian_clear(&ear->sums[s]);
    }
    for (uint32_t s = 0; s < run->set->n_sequences; s++) {
        uint32_t begin, end;
        token_set_sequence(run->set, s, &begin, &end);
        forward_reset(run->forward);
        for (uint32_t at = begin; at < end; at += CALIBRATION_BATCH) {
            uint32_t n = end - at < CALIBRATION_BATCH ? end - at : CALIBRATION_BATCH;
            run_batch(run, layer, run->stream + (size_t)at * ear->g->d_model, n, change);
            if (ear->bad_layer < 0)
                continue;
            err_set(err, ERR_DATA,
                    "calibration: input of %s in layer %d is not finite near "
                    "token %u of the text",
                    site_names[ear->bad_site], ear->bad_layer, at);
            return -1;
        }
    }
    return 0;
}

void calibration_enter(struct calibration *c, uint32_t layer, int site, const struct hessian *sums)
{
    float *triangle = c->own + calibration_triangle_offset(&c->geometry, layer, site);
    size_t at = calibration_site_offset(&c->geometry, layer, site);

    if (sums->n == 0)
        return;
    hessian_pack(sums, triangle, c->mean + at);
    for (size_t i = 0; i < sums->n; i++)
        c->mean_square[at + i] = triangle[hessian_triangle_size(i + 1) - 1];
}

void calibration_seal(struct calibration *c, uint32_t layer)
{
    const float *triangles = c->triangle + calibration_triangle_offset(&c->geometry, layer, 0);

    c->layer_sum[layer] =
        sha256_of(triangles, n_triangles_of(&c->geometry, layer) * sizeof *triangles);
    atomic_store(&c->is_checked[layer], true);
}

/* What comes out of the last layer goes through the final norm to the head. */
static int run_head(struct run *run, struct calibration *c, struct err *err)
{
    struct listener *ear = &run->ear;
    struct hessian *sums = &ear->sums[SITE_QKV];
    uint32_t d_model = ear->g->d_model, n;

    sums->n = d_model;
    hessian_clear(sums);
    memset(ear->n_heard, 0, sizeof ear->n_heard);
    for (uint32_t at = 0; at < run->set->n_tokens; at += n) {
        n = run->set->n_tokens - at < CALIBRATION_BATCH ? run->set->n_tokens - at
                                                        : CALIBRATION_BATCH;
        for (uint32_t t = 0; t < n; t++)
            ear->kernels->rms_norm(run->before + (size_t)t * d_model,
                                   run->stream + (size_t)(at + t) * d_model, ear->model->out_norm,
                                   d_model, ear->g->rms_eps);
        if (!hessian_widen(run->before, n, d_model, ear->heard[SITE_QKV])) {
            err_set(err, ERR_DATA,
                    "calibration: input of the head is not finite near token %u of the text", at);
            return -1;
        }
        ear->n_heard[SITE_QKV] = n;
        team_run(run->team, add_heard, ear);
    }
    calibration_enter(c, c->geometry.n_layers, 0, sums);
    calibration_seal(c, c->geometry.n_layers);
    return 0;
}

static int run_text(struct run *run, struct calibration *c, struct err *err)
{
    if (embed_text(run, err) != 0)
        return -1;
    for (uint32_t l = 0; l < c->geometry.n_layers; l++) {
        if (run_layer(run, l, c->influence + 2 * (size_t)l, err) != 0)
            return -1;
        for (int s = 0; s < N_LINEAR_SITES; s++)
            calibration_enter(c, l, s, &run->ear.sums[s]);
        calibration_seal(c, l);
    }
    if (run_head(run, c, err) != 0)
        return -1;
    for (uint32_t u = 0; u < 2 * c->geometry.n_layers; u++)
        c->influence[u] /= (double)c->n_tokens;
    return 0;
}

struct calibration *calibration_collect(const struct model *model, const struct kernels *kernels,
                                        struct team *team, const struct token_set *set,
                                        struct err *err)
{
    const struct geometry *g = &model->geometry;
    struct forward_options options = {.n_ctx = set->sequence, .n_batch = CALIBRATION_BATCH};
    struct run run = {.team = team, .set = set};
    struct calibration *c = NULL;
    int status = -1;

    if (listener_init(&run.ear, model, kernels, err) != 0)
        return NULL;
    run.forward = forward_create(model, kernels, team, &options, err);
    c = run.forward != NULL ? calibration_alloc(g, err) : NULL;
    if (c == NULL)
        goto done;
    c->triangle = c->own = calloc(calibration_n_triangles(g), sizeof *c->own);
    run.stream = malloc((size_t)set->n_tokens * g->d_model * sizeof *run.stream);
    run.before = malloc((size_t)CALIBRATION_BATCH * g->d_model * sizeof *run.before);
    if (c->own == NULL || run.stream == NULL || run.before == NULL) {
        err_set(err, ERR_MEMORY, "calibration: out of memory for %u tokens", set->n_tokens);
        goto done;
    }
    c->n_tokens = set->n_tokens;
    c->text = set->hash;
    forward_listen(run.forward, hear, &run.ear);
    status = run_text(&run, c, err);
done:
    if (status != 0) {
        calibration_destroy(c);
        c = NULL;
    }
    forward_destroy(run.forward);
    listener_fini(&run.ear);
    free(run.before);
    free(run.stream);
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
    return c->mean_square + calibration_site_offset(&c->geometry, layer, (int)site);
}

const float *calibration_mean(const struct calibration *c, uint32_t layer, enum linear_site site)
{
    assert(layer < c->geometry.n_layers && (int)site >= 0 && site < N_LINEAR_SITES);
    return c->mean + calibration_site_offset(&c->geometry, layer, (int)site);
}

/* The triangles of a layer are what they were when it was summed up: looked at once. */
static int check_layer(const struct calibration *c, uint32_t layer, struct err *err)
{
    const struct geometry *g = &c->geometry;

    if (atomic_load(&c->is_checked[layer]))
        return 0;
    struct hash256 sum = sha256_of(c->triangle + calibration_triangle_offset(g, layer, 0),
                                   n_triangles_of(g, layer) * sizeof *c->triangle);
    if (memcmp(&sum, &c->layer_sum[layer], sizeof sum) != 0) {
        err_set(err, ERR_DATA,
                "%s is damaged (%s %u has another sum); "
                "remove it to calibrate again",
                c->path, layer < g->n_layers ? "layer" : "the head behind layer",
                layer < g->n_layers ? layer : layer - 1);
        return -1;
    }
    atomic_store(&c->is_checked[layer], true);
    return 0;
}

int calibration_hessian(const struct calibration *c, uint32_t layer, enum linear_site site,
                        size_t n, double *square, struct err *err)
{
    assert(layer < c->geometry.n_layers && (int)site >= 0 && site < N_LINEAR_SITES);
    assert(n <= calibration_site_size(&c->geometry, (int)site));
    if (check_layer(c, layer, err) != 0)
        return -1;
    hessian_unpack(c->triangle + calibration_triangle_offset(&c->geometry, layer, (int)site), n,
                   square);
    return 0;
}

int calibration_head_hessian(const struct calibration *c, double *square, struct err *err)
{
    const struct geometry *g = &c->geometry;

    if (check_layer(c, g->n_layers, err) != 0)
        return -1;
    hessian_unpack(c->triangle + calibration_triangle_offset(g, g->n_layers, 0), g->d_model,
                   square);
    return 0;
}

int calibration_verify(const struct calibration *c, struct err *err)
{
    for (uint32_t l = 0; l <= c->geometry.n_layers; l++)
        if (check_layer(c, l, err) != 0)
            return -1;
    return 0;
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
    sha256_update(&sha, calibration_magic, sizeof calibration_magic);
    sha256_update(&sha, &version, sizeof version);
    sha256_update(&sha, c->parent.bytes, sizeof c->parent.bytes);
    sha256_update(&sha, c->text.bytes, sizeof c->text.bytes);
    return sha256_final(&sha);
}

struct hash256 calibration_values_hash(const struct calibration *c)
{
    struct sha256 sha;

    sha256_init(&sha);
    sha256_update(&sha, c->mean, calibration_n_means(&c->geometry) * sizeof *c->mean);
    sha256_update(&sha, c->layer_sum, (c->geometry.n_layers + 1) * sizeof *c->layer_sum);
    return sha256_final(&sha);
}
