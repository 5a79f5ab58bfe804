/* polish.c - two streams through the layers side by side, and what each matrix hears. */
#include "evaluator/compression/polish_parts.h"

#include "evaluator/compression/stitch.h"
#include "evaluator/forward.h"
#include "space/base/err.h"
#include "space/base/log.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Tokens that go through a unit at once. */
enum { POLISH_BATCH = 256 };

/* One of the two models on its way: only the unit at hand is switched on. */
struct walk {
    struct model *view;
    struct forward *forward;
    float *stream; /* [n_tokens][d_model] in front of the unit, then behind it */
    double *heard; /* a batch's inputs of a site (hessian_widen) */
    enum linear_site site;
    uint32_t n_heard; /* tokens */
    bool sound;       /* all of them finite */
};

struct pass {
    const struct variant_source *source;
    const struct genome *genome;
    const struct kernels *kernels;
    struct team *team;
    const struct token_set *text;
    const struct polish_plan *plan;
    struct polished *polished;
    struct model *parent;
    struct walk theirs, ours; /* the parent's and the candidate's */
    float *batch;             /* [POLISH_BATCH][d_model] */
    double *drift;            /* what is asked for besides, of the batch (hessian_widen) */
    uint32_t n_heard;         /* tokens of the batch */
    struct match match;       /* of the site at hand */
    uint32_t layer;
    bool is_attn; /* else the FFN of the layer */
};

/* --- walking ---------------------------------------------------------------------------------- */

static void hear(void *arg, uint32_t layer, enum linear_site site, const float *x,
                 uint32_t n_tokens, uint32_t n_in)
{
    struct walk *walk = arg;

    (void)layer;
    if (site != walk->site)
        return;
    walk->n_heard = n_tokens;
    walk->sound = hessian_widen(x, n_tokens, n_in, walk->heard);
}

/* Neither the layer's units nor what they may leave behind. */
static void walk_leave(struct walk *walk, uint32_t layer)
{
    walk->view->attn[layer] = (struct attn_unit){0};
    walk->view->ffn[layer] = (struct ffn_unit){0};
}

static void walk_fini(struct walk *walk)
{
    forward_destroy(walk->forward);
    model_destroy(walk->view);
    free(walk->stream);
    free(walk->heard);
}

static int walk_init(struct walk *walk, const struct pass *p, const struct model *model,
                     struct err *err)
{
    const struct geometry *g = &model->geometry;
    size_t n_q = (size_t)g->n_heads * g->head_dim, widest = n_q > g->d_ff ? n_q : g->d_ff;
    struct forward_options options = {.n_ctx = p->text->sequence, .n_batch = POLISH_BATCH};

    widest = widest > g->d_model ? widest : g->d_model;
    walk->view = malloc(sizeof *walk->view);
    walk->stream = malloc((size_t)p->text->n_tokens * g->d_model * sizeof *walk->stream);
    walk->heard = malloc(hessian_wide_size(POLISH_BATCH, widest) * sizeof *walk->heard);
    if (walk->view == NULL || walk->stream == NULL || walk->heard == NULL) {
        err_set(err, ERR_MEMORY, "polish: out of memory for %u tokens", p->text->n_tokens);
        return -1;
    }
    *walk->view = *model;
    for (uint32_t l = 0; l < model->n_layers; l++)
        walk_leave(walk, l);
    if (options.n_batch > options.n_ctx)
        options.n_batch = options.n_ctx;
    walk->forward = forward_create(walk->view, p->kernels, p->team, &options, err);
    if (walk->forward == NULL)
        return -1;
    forward_listen(walk->forward, hear, walk);
    return 0;
}

/* The unit at hand of `model` is what the walk goes through. */
static void walk_enter(struct walk *walk, const struct pass *p, const struct model *model)
{
    if (p->is_attn)
        walk->view->attn[p->layer] = model->attn[p->layer];
    else
        walk->view->ffn[p->layer] = model->ffn[p->layer];
}

static void walk_through(struct walk *walk, const struct pass *p, float *hidden, uint32_t n)
{
    forward_layers(walk->forward, hidden, n, p->layer, p->layer + 1, true);
}

static uint32_t batch_of(const struct pass *p)
{
    return forward_n_batch(p->ours.forward);
}

/* What is done with the tokens [at, at + n) of a sequence; positions are those of the sequence. */
typedef int batch_fn(struct pass *p, uint32_t at, uint32_t n, struct err *err);

static int each_batch(struct pass *p, batch_fn *fn, struct err *err)
{
    for (uint32_t s = 0; s < p->text->n_sequences; s++) {
        uint32_t begin, end;
        token_set_sequence(p->text, s, &begin, &end);
        forward_reset(p->theirs.forward);
        forward_reset(p->ours.forward);
        for (uint32_t at = begin, n; at < end; at += n) {
            n = end - at < batch_of(p) ? end - at : batch_of(p);
            if (fn(p, at, n, err) != 0)
                return -1;
        }
        if (p->plan->step != NULL && p->plan->step(p->plan->step_arg, err) != 0)
            return -1;
    }
    return 0;
}

static size_t stream_at(const struct pass *p, uint32_t token)
{
    return (size_t)token * p->parent->geometry.d_model;
}

static int refuse_input(const struct pass *p, const char *what, uint32_t at, struct err *err)
{
    err_set(err, ERR_DATA,
            "polish: input of %s in layer %u is not finite near token %u of the text", what,
            p->layer, at);
    return -1;
}

static int embed_batch(struct pass *p, uint32_t at, uint32_t n, struct err *err)
{
    const int32_t *tokens = p->text->tokens + at;

    return forward_embed(p->theirs.forward, tokens, n, p->theirs.stream + stream_at(p, at), err) ||
                   forward_embed(p->ours.forward, tokens, n, p->ours.stream + stream_at(p, at), err)
               ? -1
               : 0;
}

/* Inputs of qkv or gate/up: the normed streams. */
static bool hear_normed(const struct pass *p, struct walk *walk, const float *gain, uint32_t at,
                        uint32_t n)
{
    const struct geometry *g = &p->parent->geometry;
    const float *stream = walk->stream + stream_at(p, at);

    for (uint32_t t = 0; t < n; t++)
        p->kernels->rms_norm(p->batch + (size_t)t * g->d_model, stream + (size_t)t * g->d_model,
                             gain, g->d_model, g->rms_eps);
    return hessian_widen(p->batch, n, g->d_model, walk->heard);
}

static void add_share(void *arg, unsigned member, unsigned n_members)
{
    struct pass *p = arg;

    match_add(&p->match, p->kernels, p->theirs.heard, p->ours.heard, p->drift, p->n_heard, member,
              n_members);
}

static void add_heard(struct pass *p, uint32_t n)
{
    p->n_heard = n;
    team_run(p->team, add_share, p);
}

static int hear_first(struct pass *p, uint32_t at, uint32_t n, struct err *err)
{
    const struct model *ours = p->polished->model;
    const float *norm = p->is_attn ? ours->attn[p->layer].norm : ours->ffn[p->layer].norm;
    const float *parent_norm =
        p->is_attn ? p->parent->attn[p->layer].norm : p->parent->ffn[p->layer].norm;

    if (!hear_normed(p, &p->theirs, parent_norm, at, n) || !hear_normed(p, &p->ours, norm, at, n))
        return refuse_input(p, p->is_attn ? "qkv" : "gate/up", at, err);
    add_heard(p, n);
    return 0;
}

/* What the parent's bias of the unit gives that the candidate's does not. */
static void add_biases(struct pass *p, uint32_t n)
{
    const struct model *ours = p->polished->model;
    const float *theirs_bias =
        p->is_attn ? p->parent->attn[p->layer].bias : p->parent->ffn[p->layer].bias;
    const float *ours_bias = p->is_attn ? ours->attn[p->layer].bias : ours->ffn[p->layer].bias;
    size_t d_model = p->parent->geometry.d_model;

    for (uint32_t t = 0; t < n; t++) {
        float *y = p->batch + t * d_model;
        if (theirs_bias != NULL)
            p->kernels->add_scaled(y, theirs_bias, 1.0F, d_model);
        if (ours_bias != NULL)
            p->kernels->add_scaled(y, ours_bias, -1.0F, d_model);
    }
}

/* Inputs of o or down; the parent's stream goes on, the candidate's waits for its new weights. */
static int hear_second(struct pass *p, uint32_t at, uint32_t n, struct err *err)
{
    size_t size = stream_at(p, n);
    float *theirs = p->theirs.stream + stream_at(p, at);
    const float *ours = p->ours.stream + stream_at(p, at);

    for (size_t i = 0; i < size; i++)
        p->batch[i] = (float)(p->plan->drift * ((double)theirs[i] - (double)ours[i]));
    add_biases(p, n);
    hessian_widen(p->batch, n, p->parent->geometry.d_model, p->drift);
    walk_through(&p->theirs, p, theirs, n);
    memcpy(p->batch, ours, size * sizeof *p->batch);
    walk_through(&p->ours, p, p->batch, n);
    if (!p->theirs.sound || !p->ours.sound)
        return refuse_input(p, p->is_attn ? "o" : "down", at, err);
    assert(p->theirs.n_heard == n && p->ours.n_heard == n);
    add_heard(p, n);
    return 0;
}

static int advance_theirs(struct pass *p, uint32_t at, uint32_t n, struct err *err)
{
    (void)err;
    walk_through(&p->theirs, p, p->theirs.stream + stream_at(p, at), n);
    return 0;
}

static int advance_ours(struct pass *p, uint32_t at, uint32_t n, struct err *err)
{
    (void)err;
    walk_through(&p->ours, p, p->ours.stream + stream_at(p, at), n);
    return 0;
}

/* --- one part --------------------------------------------------------------------------------- */

/* The matrices of a part, in the order of a variant's; returns their number. */
static uint32_t part_weights(struct model *model, enum part part, uint32_t layer,
                             struct weights *w[3])
{
    struct attn_unit *attn = &model->attn[layer];
    struct ffn_unit *ffn = &model->ffn[layer];

    switch (part) {
    case PART_QKV:
        w[0] = &attn->q;
        w[1] = &attn->k;
        w[2] = &attn->v;
        return 3;
    case PART_O:
        w[0] = &attn->o;
        return 1;
    case PART_GATE_UP:
        w[0] = &ffn->gate;
        w[1] = &ffn->up;
        return 2;
    default:
        w[0] = &ffn->down;
        return 1;
    }
}

/* All matrices of a part share their inputs, so moments and factor are made once. */
static int make_part(struct pass *p, enum part part, batch_fn *collect, struct err *err)
{
    bool writes = part == PART_O || part == PART_DOWN;
    struct feedback *feedback = NULL;
    struct variant_cuts cuts;
    struct variant_key key;
    struct weights *w[3];
    char name[64];
    int status = -1;

    bool kept = stitch_key(p->genome, part, p->layer, &key);
    uint32_t n = part_weights(p->polished->model, part, p->layer, w);
    assert(kept);
    (void)kept;
    if (variant_cuts_init(&cuts, p->source, &key, err) != 0)
        return -1;
    assert(cuts.n == n);
    if (match_init(&p->match, cuts.cut[0].tensor->dims[0], w[0]->n_in, writes ? w[0]->n_out : 0,
                   err) != 0 ||
        each_batch(p, collect, err) != 0)
        goto done;
    match_close(&p->match);
    snprintf(name, sizeof name, "layer %u, %s", p->layer, part_name(part));
    feedback = feedback_create(name, p->match.h, p->match.n_z, FEEDBACK_DAMPING, err);
    status = feedback != NULL ? 0 : -1;
    for (uint32_t m = 0; m < n && status == 0; m++)
        status = polish_matrix(p->plan, &p->match, feedback, &cuts.cut[m], p->team, p->polished,
                               w[m], err);
done:
    feedback_destroy(feedback);
    match_fini(&p->match);
    variant_cuts_fini(&cuts);
    return status;
}

/* The second part hears what the first one, made anew, hands on. */
static int make_parts(struct pass *p, struct err *err)
{
    if (make_part(p, p->is_attn ? PART_QKV : PART_GATE_UP, hear_first, err) != 0)
        return -1;
    walk_enter(&p->ours, p, p->polished->model);
    p->theirs.site = p->ours.site = p->is_attn ? SITE_O : SITE_DOWN;
    return make_part(p, p->is_attn ? PART_O : PART_DOWN, hear_second, err);
}

/* What the candidate keeps of the parent's unit is made anew; what it has dropped, or carries as
 * zeros, is passed as it is. */
static int make_unit(struct pass *p, uint32_t layer, bool is_attn, struct err *err)
{
    bool kept = is_attn ? p->genome->attn[layer].kv_groups > 0 : p->genome->ffn[layer].width > 0;
    int status = 0;

    p->layer = layer;
    p->is_attn = is_attn;
    walk_enter(&p->theirs, p, p->parent);
    if (!kept)
        status = each_batch(p, advance_theirs, err);
    else
        status = make_parts(p, err);
    walk_enter(&p->ours, p, p->polished->model);
    if (status == 0)
        status = each_batch(p, advance_ours, err);
    walk_leave(&p->theirs, layer);
    walk_leave(&p->ours, layer);
    return status;
}

/* --- all of it -------------------------------------------------------------------------------- */

static double stream_error(const struct pass *p)
{
    size_t n = stream_at(p, p->text->n_tokens);
    double error = 0, whole = 0;

    for (size_t i = 0; i < n; i++) {
        double theirs = (double)p->theirs.stream[i], d = theirs - (double)p->ours.stream[i];
        error += d * d;
        whole += theirs * theirs;
    }
    return whole > 0 ? error / whole : 0;
}

static int pass_init(struct pass *p, const struct model *candidate, struct err *err)
{
    const struct geometry *g = &candidate->geometry;
    struct polished *out = p->polished;

    out->model = malloc(sizeof *out->model);
    out->block = calloc(7 * (size_t)candidate->n_layers, sizeof *out->block);
    p->batch = malloc((size_t)POLISH_BATCH * g->d_model * sizeof *p->batch);
    p->drift = malloc(hessian_wide_size(POLISH_BATCH, g->d_model) * sizeof *p->drift);
    if (out->model == NULL || out->block == NULL || p->batch == NULL || p->drift == NULL) {
        err_set(err, ERR_MEMORY, "polish: out of memory");
        return -1;
    }
    *out->model = *candidate;
    p->parent = model_of_parent(p->source->parent, err);
    if (p->parent == NULL)
        return -1;
    return walk_init(&p->theirs, p, p->parent, err) == 0 &&
                   walk_init(&p->ours, p, candidate, err) == 0
               ? 0
               : -1;
}

static void pass_fini(struct pass *p)
{
    walk_fini(&p->theirs);
    walk_fini(&p->ours);
    model_destroy(p->parent);
    free(p->batch);
    free(p->drift);
}

int polish_model(struct polished *polished, const struct variant_source *source,
                 const struct genome *genome, const struct model *candidate,
                 const struct kernels *kernels, struct team *team, const struct token_set *text,
                 const struct polish_plan *plan, struct err *err)
{
    struct polished made = {0};
    struct pass p = {.source = source,
                     .genome = genome,
                     .kernels = kernels,
                     .team = team,
                     .text = text,
                     .plan = plan,
                     .polished = &made};

    if (genome_is_turned(genome)) {
        err_set(err, ERR_CONFIG,
                "polish: its residual stream is in another basis than the "
                "parent's; such a model is not polished");
        return -1;
    }
    assert(plan->alpha >= 0 && plan->alpha <= 1 && plan->drift >= 0 && plan->drift <= 1);
    int status = pass_init(&p, candidate, err);
    if (status == 0)
        status = each_batch(&p, embed_batch, err);
    for (uint32_t l = 0; l < genome->n_layers && status == 0; l++) {
        status = make_unit(&p, l, true, err);
        if (status == 0)
            status = make_unit(&p, l, false, err);
        if (status == 0)
            log_info("polish", "layer=%u/%u matrices=%u changed=%u", l + 1, genome->n_layers,
                     made.n_matrices, made.n_changed);
    }
    if (status == 0) {
        made.stream_error = stream_error(&p);
        *polished = made;
    } else {
        polished_fini(&made);
    }
    pass_fini(&p);
    return status;
}

void polished_fini(struct polished *polished)
{
    for (uint32_t i = 0; i < polished->n_changed; i++)
        free(polished->block[i]);
    free(polished->block);
    model_destroy(polished->model);
    memset(polished, 0, sizeof *polished);
}
