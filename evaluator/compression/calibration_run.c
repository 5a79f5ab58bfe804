/* calibration_run.c - a run over the calibration text with a listener at every linear input.
 * Layer by layer, and in each in batches, so that the residual stream before and after the layer is
 * at hand; in between it is read off the FFN's normed input. */
#include "evaluator/compression/calibration_part.h"
#include "evaluator/parent.h"
#include "evaluator/quality/token_set.h"
#include "space/base/err.h"
#include "space/base/log.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CALIBRATION_BATCH = 128 };

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
    struct calibration_part *part; /* NULL in memory */
    const volatile sig_atomic_t *stop;
};

static bool is_stopped(const struct run *run, struct err *err)
{
    if (run->stop == NULL || *run->stop == 0)
        return false;
    err_set(err, ERR_STOPPED, "stopped as asked; the same command goes on");
    return true;
}

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
            if (is_stopped(run, err))
                return -1;
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

/* What comes out of the last layer goes through the final norm to the head. */
static int run_head(struct run *run, struct err *err)
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
        if (is_stopped(run, err))
            return -1;
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
    return 0;
}

/* Round the sums of a layer, or of the head, into the calibration; in a file they are written away. */
static int keep_layer(struct run *run, struct calibration *c, uint32_t layer, struct err *err)
{
    bool is_head = layer == c->geometry.n_layers;

    if (run->part != NULL) {
        c->own_first = layer;
        memset(c->own, 0, calibration_n_triangles_of(&c->geometry, layer) * sizeof *c->own);
    }
    for (int s = 0; s < (is_head ? 1 : N_LINEAR_SITES); s++)
        calibration_enter(c, layer, s, &run->ear.sums[s]);
    calibration_seal(c, layer);
    if (run->part == NULL)
        return 0;
    return calibration_part_keep(run->part, c, layer, run->stream, err);
}

/* Layers from n_done on, and the head. */
static int run_text(struct run *run, struct calibration *c, uint32_t n_done, struct err *err)
{
    uint32_t n_layers = c->geometry.n_layers;

    if (n_done == 0 && embed_text(run, err) != 0)
        return -1;
    for (uint32_t l = n_done; l < n_layers; l++)
        if (run_layer(run, l, c->influence + 2 * (size_t)l, err) != 0 ||
            keep_layer(run, c, l, err) != 0)
            return -1;
    if (run_head(run, err) != 0 || keep_layer(run, c, n_layers, err) != 0)
        return -1;
    for (uint32_t u = 0; u < 2 * n_layers; u++)
        c->influence[u] /= (double)c->n_tokens;
    return 0;
}

static void run_fini(struct run *run)
{
    forward_destroy(run->forward);
    listener_fini(&run->ear);
    free(run->before);
    free(run->stream);
}

static int run_init(struct run *run, const struct model *model, const struct kernels *kernels,
                    struct team *team, const struct token_set *set, struct err *err)
{
    const struct geometry *g = &model->geometry;
    struct forward_options options = {.n_ctx = set->sequence, .n_batch = CALIBRATION_BATCH};

    *run = (struct run){.team = team, .set = set};
    if (listener_init(&run->ear, model, kernels, err) != 0)
        return -1;
    run->forward = forward_create(model, kernels, team, &options, err);
    if (run->forward == NULL)
        goto undo;
    run->stream = malloc((size_t)set->n_tokens * g->d_model * sizeof *run->stream);
    run->before = malloc((size_t)CALIBRATION_BATCH * g->d_model * sizeof *run->before);
    if (run->stream == NULL || run->before == NULL) {
        err_set(err, ERR_MEMORY, "calibration: out of memory for %u tokens", set->n_tokens);
        goto undo;
    }
    forward_listen(run->forward, hear, &run->ear);
    return 0;

undo:
    run_fini(run);
    return -1;
}

static struct calibration *begin(const struct model *model, const struct token_set *set,
                                 struct err *err)
{
    struct calibration *c = calibration_alloc(&model->geometry, err);

    if (c != NULL) {
        c->n_tokens = set->n_tokens;
        c->text = set->hash;
    }
    return c;
}

/* --- in memory -------------------------------------------------------------------------------- */

struct calibration *calibration_collect(const struct model *model, const struct kernels *kernels,
                                        struct team *team, const struct token_set *set,
                                        struct err *err)
{
    const struct geometry *g = &model->geometry;
    struct run run;

    if (run_init(&run, model, kernels, team, set, err) != 0)
        return NULL;
    struct calibration *c = begin(model, set, err);
    if (c != NULL) {
        c->own = calloc(calibration_n_triangles(g), sizeof *c->own);
        c->triangle = c->own;
        if (c->own == NULL)
            err_set(err, ERR_MEMORY, "calibration: out of memory");
        if (c->own == NULL || run_text(&run, c, 0, err) != 0) {
            calibration_destroy(c);
            c = NULL;
        }
    }
    run_fini(&run);
    return c;
}

/* A weight that is to blame for an input that is not finite is what the message should name. */
static void name_culprit(const struct parent *parent, struct err *err)
{
    struct err culprit = {0};

    if (err != NULL && err->code == ERR_DATA && parent_check_weights(parent, &culprit) != 0)
        *err = culprit;
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
    } else {
        name_culprit(parent, err);
    }
    model_destroy(model);
    return c;
}

/* --- in a file -------------------------------------------------------------------------------- */

/* Everything that the bits of a part depend on. */
static struct hash256 identity_of(const struct calibration *c, const struct kernels *kernels)
{
    struct hash256 name = calibration_hash(c);
    uint32_t batch = CALIBRATION_BATCH;
    struct sha256 sha;

    sha256_init(&sha);
    sha256_update(&sha, name.bytes, sizeof name.bytes);
    sha256_update(&sha, &batch, sizeof batch);
    sha256_update(&sha, kernels->name, strlen(kernels->name));
    return sha256_final(&sha);
}

static int make_file(const char *path, struct run *run, struct calibration *c,
                     const struct kernels *kernels, double checkpoint_s,
                     enum calibration_origin *origin, struct err *err)
{
    const struct geometry *g = &c->geometry;
    struct hash256 identity = identity_of(c, kernels);
    struct calibration_part part;
    uint32_t n_done;

    c->own = malloc(calibration_n_triangles_of(g, 0) * sizeof *c->own); /* a layer's at a time */
    if (c->own == NULL) {
        err_set(err, ERR_MEMORY, "calibration: out of memory");
        return -1;
    }
    if (calibration_part_open(&part, path, c, &identity, checkpoint_s, run->stream,
                              (size_t)c->n_tokens * g->d_model, &n_done, err) != 0)
        return -1;
    run->part = &part;
    *origin = n_done > 0 ? CALIBRATION_RESUMED : CALIBRATION_MADE;
    if (n_done > 0)
        log_info("calibration", "going on behind layers=%u of %u", n_done, g->n_layers);
    struct err why = {0};
    if (run_text(run, c, n_done, &why) == 0)
        return calibration_part_finish(&part, c, err);
    err_set(err, why.code, "%s", why.text);
    /* What is wrong with the parent is wrong the next time too. */
    if (why.code == ERR_DATA)
        calibration_part_drop(&part);
    else
        calibration_part_close(&part);
    return -1;
}

static int make(const char *path, struct parent *parent, const struct hash256 *hash,
                const struct kernels *kernels, struct team *team, const struct token_set *tokens,
                const struct calibration_options *options, enum calibration_origin *origin,
                struct err *err)
{
    struct run run;
    int status = -1;

    if (tokens->n_tokens < tokens->sequence) {
        err_set(err, ERR_DATA,
                "calibration: %u tokens, one sequence has %u; take more text, or shorter sequences",
                tokens->n_tokens, tokens->sequence);
        return -1;
    }
    struct model *model = model_of_parent(parent, err);
    if (model == NULL)
        return -1;
    if (run_init(&run, model, kernels, team, tokens, err) == 0) {
        struct calibration *c = begin(model, tokens, err);
        run.stop = options->stop;
        if (c != NULL) {
            calibration_name_parent(c, hash);
            status = make_file(path, &run, c, kernels, options->checkpoint_s, origin, err);
        }
        if (status != 0)
            name_culprit(parent, err);
        calibration_destroy(c);
        run_fini(&run);
    }
    model_destroy(model);
    return status;
}

/* What is there already; NULL with the reason in *why. */
static struct calibration *find(const char *path, const struct parent *parent,
                                const struct hash256 *hash, const struct token_set *tokens,
                                struct err *why)
{
    struct calibration *c = calibration_load(path, parent_geometry(parent), hash, why);

    if (c == NULL)
        return NULL;
    struct hash256 text = calibration_text(c);
    if (calibration_verify(c, why) == 0) {
        if (memcmp(&text, &tokens->hash, sizeof text) == 0 && !calibration_is_diagonal(c))
            return c;
        err_set(why, ERR_DATA, "%s is of another text", path);
    }
    calibration_destroy(c);
    return NULL;
}

static void tell_shortage(const struct calibration *c)
{
    struct calibration_summary s;

    calibration_summarise(c, &s);
    if (s.is_short)
        log_warn("calibration",
                 "tokens=%llu are few for inputs=%zu: second moments are damped by %.2g of their "
                 "mean; a longer text keeps more",
                 (unsigned long long)s.n_tokens, s.widest, s.damping);
}

int calibration_ensure(const char *path, struct parent *parent, const struct hash256 *hash,
                       const struct kernels *kernels, struct team *team,
                       const struct token_set *tokens, const struct calibration_options *options,
                       enum calibration_origin *origin, struct err *err)
{
    struct err why = {0};

    *origin = CALIBRATION_FOUND;
    struct calibration *c = find(path, parent, hash, tokens, &why);
    if (c == NULL) {
        if (why.code != ERR_MISSING)
            log_info("calibration", "%s: it is made anew", why.text);
        if (make(path, parent, hash, kernels, team, tokens, options, origin, err) != 0)
            return -1;
        c = calibration_load(path, parent_geometry(parent), hash, err);
        if (c == NULL)
            return -1;
    }
    tell_shortage(c);
    calibration_destroy(c);
    return 0;
}
