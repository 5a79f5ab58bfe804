/* forward.c - buffers, and the entry points that describe a pass and set the team on it. */
#include "evaluator/forward_parts.h"

#include "space/base/err.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- memory --------------------------------------------------------------------------------- */

/* Walked twice: without memory the pieces are counted, then they are handed out. */
struct plan {
    struct arena *arena; /* NULL while counting */
    size_t total;
    bool overflow;
};

static void *plan_take(struct plan *plan, size_t n, size_t m, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(n, m, &bytes) || __builtin_mul_overflow(bytes, size, &bytes) ||
        __builtin_add_overflow(plan->total, arena_rounded(bytes), &plan->total))
        plan->overflow = true;
    return plan->arena != NULL ? arena_take(plan->arena, bytes) : NULL;
}

/* Bytes of the longest vector packed with 8 bits: rows are padded to whole blocks here, for not
 * every width fits every kind. */
static size_t packed_bytes(enum format format, size_t n_in)
{
    size_t block = format_block(format);

    return kernels_act_bytes(format, ACT_Q8, (n_in + block - 1) / block * block);
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void plan_scratch(struct forward *f, struct plan *plan, struct scratch *s, size_t widest)
{
    const struct geometry *g = &f->model->geometry;

    s->normed = plan_take(plan, 1, widest, sizeof(float));
    s->packed[KIND_Q8_32] = plan_take(plan, 1, packed_bytes(FORMAT_Q8_0, widest), 1);
    s->packed[KIND_Q8_K] = plan_take(plan, 1, packed_bytes(FORMAT_Q4_K, widest), 1);
    s->attend = plan_take(plan, kernels_attend_bytes(g->head_dim), 1, 1);
    s->attn = plan_take(plan, f->most_sequences, (size_t)g->n_heads * g->head_dim, sizeof(float));
    s->log_sums = plan_take(plan, f->most_sequences, g->n_heads, sizeof(float));
    s->weights = plan_take(plan, team_size(f->team), 1, sizeof(float));
}

static void plan_buffers(struct forward *f, struct plan *plan)
{
    const struct geometry *g = &f->model->geometry;
    size_t n_q = (size_t)g->n_heads * g->head_dim, n_kv = (size_t)g->n_kv_heads * g->head_dim;
    size_t widest = larger(larger(f->d_model, n_q), g->d_ff), n = f->n_batch;

    attention_size_cache(f);
    f->cache = plan_take(plan, (size_t)f->most_sequences * g->n_layers, f->layer_room, 1);
    f->rope = plan_take(plan, f->n_ctx, g->head_dim, sizeof(float));
    f->rope_q = plan_take(plan, f->n_ctx, g->head_dim, sizeof(float));
    f->hidden = plan_take(plan, n, f->d_model, sizeof(float));
    f->normed = plan_take(plan, n, f->d_model, sizeof(float));
    f->q = plan_take(plan, n, n_q, sizeof(float));
    f->k = plan_take(plan, n, n_kv, sizeof(float));
    f->v = plan_take(plan, n, n_kv, sizeof(float));
    f->attn = plan_take(plan, n, n_q, sizeof(float));
    f->gate = plan_take(plan, n, g->d_ff, sizeof(float));
    f->up = plan_take(plan, n, g->d_ff, sizeof(float));
    f->sum = plan_take(plan, n, f->d_model, sizeof(float));
    f->logits = plan_take(plan, n, g->n_vocab, sizeof(float));
    f->packed[KIND_Q8_32] = plan_take(plan, n, packed_bytes(FORMAT_Q8_0, widest), 1);
    f->packed[KIND_Q8_K] = plan_take(plan, n, packed_bytes(FORMAT_Q4_K, widest), 1);
    f->grains_done = plan_take(plan, f->most_sequences, g->n_kv_heads, sizeof *f->grains_done);
    for (unsigned m = 0; m < team_size(f->team); m++)
        plan_scratch(f, plan, &f->scratch[m], widest);
}

/* Angle of pair i at position p: p * base^(-2i / head_dim). */
static void fill_rope(struct forward *f)
{
    const struct geometry *g = &f->model->geometry;
    double scale = 1.0 / sqrt(g->head_dim);

    for (size_t i = 0; i < g->head_dim / 2; i++) {
        double step = pow(g->rope_base, -2.0 * (double)i / g->head_dim);
        for (size_t p = 0; p < f->n_ctx; p++) {
            double c = cos((double)p * step), s = sin((double)p * step);
            size_t at = p * g->head_dim + 2 * i;
            f->rope[at] = (float)c;
            f->rope[at + 1] = (float)s;
            f->rope_q[at] = (float)(c * scale);
            f->rope_q[at + 1] = (float)(s * scale);
        }
    }
}

/* Hand out the arena's pieces; what is in them stays. */
static void lay_out(struct forward *f)
{
    struct plan plan = {.arena = &f->arena};

    arena_reset(&f->arena);
    plan_buffers(f, &plan);
}

/* On an error the arena is what it was, with no piece handed out. */
static int reserve(struct forward *f, struct err *err)
{
    struct plan plan = {0};

    plan_buffers(f, &plan);
    if (plan.overflow) {
        err_set(err, ERR_MEMORY,
                "forward: %u sequences of %u positions, %u tokens at once, do not fit in memory",
                f->most_sequences, f->n_ctx, f->n_batch);
        return -1;
    }
    if (arena_init(&f->arena, plan.total, err) != 0)
        return -1;
    lay_out(f);
    return 0;
}

struct forward *forward_create(const struct model *model, const struct kernels *kernels,
                               struct team *team, const struct forward_options *options,
                               struct err *err)
{
    assert(options->n_ctx >= 1 && options->n_batch >= 1);
    if (!attention_can_cache(model)) {
        err_set(err, ERR_CONFIG,
                "a KV cache in %s does not fit heads of %u; F16 fits all, Q8_0 and Q4_0 multiples "
                "of 32",
                format_name(model->kv), model->geometry.head_dim);
        return NULL;
    }
    struct forward *f = calloc(1, sizeof *f);
    if (f == NULL || (f->scratch = calloc(team_size(team), sizeof *f->scratch)) == NULL) {
        err_set(err, ERR_MEMORY, "forward: out of memory");
        goto undo;
    }
    f->model = model;
    f->kernels = kernels;
    f->team = team;
    f->n_ctx = options->n_ctx;
    f->n_batch = options->n_batch;
    f->most_sequences = options->n_sequences > 1 ? options->n_sequences : 1;
    f->n_sequences = 1;
    f->d_model = model->geometry.d_model;
    if (options->d_model > f->d_model)
        f->d_model = options->d_model;
    if (reserve(f, err) != 0)
        goto undo;
    fill_rope(f);
    return f;

undo:
    forward_destroy(f);
    return NULL;
}

void forward_destroy(struct forward *f)
{
    if (f == NULL)
        return;
    arena_fini(&f->arena);
    free(f->scratch);
    free(f);
}

void forward_set_model(struct forward *f, const struct model *model)
{
    const struct geometry *a = &f->model->geometry, *b = &model->geometry;

    /* Same parent: everything was sized for its geometry. */
    assert(a->n_layers == b->n_layers && b->d_model <= f->d_model && a->n_heads == b->n_heads &&
           a->n_kv_heads == b->n_kv_heads && a->head_dim == b->head_dim && a->d_ff == b->d_ff &&
           a->n_vocab == b->n_vocab && a->rope_base == b->rope_base);
    assert(attention_can_cache(model) && (f->model->kv == model->kv || model->kv != FORMAT_F32));
    (void)a, (void)b;
    f->model = model;
    attention_lay_out_cache(f);
    forward_reset(f);
}

int forward_move(struct forward *f, struct err *err)
{
    size_t angles = (size_t)f->n_ctx * f->model->geometry.head_dim * sizeof *f->rope;
    const float *rope = f->rope, *rope_q = f->rope_q;
    struct arena old = f->arena;

    if (reserve(f, err) != 0) {
        lay_out(f);
        return -1;
    }
    memcpy(f->rope, rope, angles);
    memcpy(f->rope_q, rope_q, angles);
    arena_fini(&old); /* only now, or the same pages would come back */
    forward_reset(f);
    return 0;
}

const struct model *forward_model(const struct forward *f)
{
    return f->model;
}

struct team *forward_team(const struct forward *f)
{
    return f->team;
}

uint32_t forward_n_ctx(const struct forward *f)
{
    return f->n_ctx;
}

uint32_t forward_n_batch(const struct forward *f)
{
    return f->n_batch;
}

size_t forward_bytes(const struct forward *f)
{
    return f->arena.size;
}

void forward_reset(struct forward *f)
{
    forward_begin(f, 1);
}

void forward_begin(struct forward *f, uint32_t n_sequences)
{
    assert(n_sequences >= 1 && n_sequences <= f->most_sequences);
    f->n_sequences = n_sequences;
    f->position = 0;
}

void forward_rewind(struct forward *f, uint32_t position)
{
    assert(position <= f->position);
    f->position = position;
}

uint32_t forward_position(const struct forward *f)
{
    return f->position;
}

uint32_t forward_n_sequences(const struct forward *f)
{
    return f->n_sequences;
}

void forward_listen(struct forward *f, forward_listen_fn *listen, void *arg)
{
    f->listen = listen;
    f->listen_arg = arg;
}

/* ---- a pass --------------------------------------------------------------------------------- */

/* "position 7", and of which sequence where there are several: where column c of a call belongs. */
static const char *place_of(const struct forward *f, uint32_t c, char text[48])
{
    uint32_t position = f->position + c / f->n_sequences;

    if (f->n_sequences == 1)
        snprintf(text, 48, "position %u", position);
    else
        snprintf(text, 48, "position %u of sequence %u", position, c % f->n_sequences);
    return text;
}

static int check_tokens(const struct forward *f, const int32_t *tokens, uint32_t n, struct err *err)
{
    uint32_t n_vocab = f->model->geometry.n_vocab, n_cols = n * f->n_sequences;
    char place[48];

    assert(n <= f->n_batch / f->n_sequences);
    if (n > f->n_ctx - f->position) {
        err_set(err, ERR_DATA, "%u tokens at position %u do not fit a context of %u", n,
                f->position, f->n_ctx);
        return -1;
    }
    for (uint32_t c = 0; c < n_cols; c++) {
        if (tokens[c] >= 0 && (uint32_t)tokens[c] < n_vocab)
            continue;
        err_set(err, ERR_DATA, "token %d at %s is not in the vocabulary of %u", tokens[c],
                place_of(f, c, place), n_vocab);
        return -1;
    }
    return 0;
}

static bool is_finite(const float *x, size_t n)
{
    /* Zero times anything finite is zero; a sum of zeros stays zero unless one was not. */
    float sum[8] = {0};
    size_t i = 0;

    for (; i + 8 <= n; i += 8)
        for (size_t j = 0; j < 8; j++)
            sum[j] += x[i + j] * 0.0F;
    for (; i < n; i++)
        sum[0] += x[i] * 0.0F;
    for (size_t j = 1; j < 8; j++)
        sum[0] += sum[j];
    return sum[0] == 0.0F;
}

/* Where did it begin?  The batch is run again, layer by layer, over the same cache. */
static void explain_unsound(struct forward *f, const int32_t *tokens, uint32_t n, struct err *err)
{
    size_t d_model = f->model->geometry.d_model;
    char place[48];

    if (forward_embed(f, tokens, n, f->hidden, err) != 0)
        return;
    for (uint32_t l = 0; l <= f->model->n_layers; l++) {
        for (uint32_t c = 0; c < n * f->n_sequences; c++) {
            if (is_finite(f->hidden + c * d_model, d_model))
                continue;
            if (l == 0)
                err_set(err, ERR_DATA, "%s (token %d): its embedding is not a finite number",
                        place_of(f, c, place), tokens[c]);
            else
                err_set(err, ERR_DATA, "%s (token %d): not a finite number after layer %u",
                        place_of(f, c, place), tokens[c], l - 1);
            return;
        }
        if (l < f->model->n_layers)
            forward_layers(f, f->hidden, n, l, l + 1, false);
    }
    err_set(err, ERR_DATA,
            "position %u to %u: final norm or head gives a number that is not finite", f->position,
            f->position + n - 1);
}

static void pass_embed(const struct walker *walker)
{
    struct pass *p = walker->pass;
    const struct weights *embd = &p->forward->model->embd;
    size_t row_bytes = format_row_bytes(embd->format, embd->n_in);
    kernel_unpack_fn *unpack = p->forward->kernels->unpack[embd->format];

    struct span mine = walker_share(walker, p->n, 1);
    for (size_t t = mine.begin; t < mine.end; t++)
        unpack((const char *)embd->data + (size_t)p->tokens[t] * row_bytes, embd->n_in,
               p->hidden + t * embd->n_in);
    walker_wait(walker);
}

/* Units are numbered as everywhere: 2 * layer, + 1 for the FFN. */
static bool unit_is_present(const struct model *model, uint32_t unit)
{
    return unit % 2 == 0 ? model->attn[unit / 2].present : model->ffn[unit / 2].present;
}

static const float *unit_bias(const struct model *model, uint32_t unit)
{
    return unit % 2 == 0 ? model->attn[unit / 2].bias : model->ffn[unit / 2].bias;
}

/* hidden[n][d_model] += bias[d_model], these rows. */
static void add_bias(const struct pass *p, const float *bias, struct span rows)
{
    size_t d_model = p->forward->model->geometry.d_model;

    for (size_t t = 0; bias != NULL && t < p->n; t++)
        p->forward->kernels->add_scaled(p->hidden + t * d_model + rows.begin, bias + rows.begin,
                                        1.0F, rows.end - rows.begin);
}

/* What the units from `unit` on leave behind that are not there, up to the next one that is or the
 * end of the pass. */
static void add_left_behind(const struct pass *p, uint32_t unit, struct span rows)
{
    const struct model *model = p->forward->model;

    for (; unit < 2 * p->last && !unit_is_present(model, unit); unit++)
        add_bias(p, unit_bias(model, unit), rows);
}

/* out[n][d_model] = w * input, added to the residual stream, and the biases that belong there: of
 * the unit, and of dropped ones right behind it, which so cost no barrier.  Rows are shared out, so
 * a member adds to what nobody else touches. */
static void add_product(const struct walker *walker, uint32_t unit, const struct weights *w,
                        const struct site_input *input)
{
    struct pass *p = walker->pass;
    struct forward *f = p->forward;
    struct span rows = walker_share(walker, w->n_out, ROW_GRAIN);
    size_t d_model = w->n_out, n_rows = rows.end - rows.begin;

    if (n_rows == 0)
        return;
    site_multiply(f, w, input, rows, p->n, f->sum, d_model);
    for (size_t t = 0; t < p->n; t++)
        f->kernels->add_scaled(p->hidden + t * d_model + rows.begin,
                               f->sum + t * d_model + rows.begin, 1.0F, n_rows);
    add_bias(p, unit_bias(f->model, unit), rows);
    add_left_behind(p, unit + 1, rows);
}

/* The pass begins with units that are not there: what they leave behind comes first. */
static void pass_left_behind(const struct walker *walker)
{
    const struct pass *p = walker->pass;
    const struct model *model = p->forward->model;
    bool any = false;

    for (uint32_t u = 2 * p->first; u < 2 * p->last && !unit_is_present(model, u); u++)
        any = any || unit_bias(model, u) != NULL;
    if (!any)
        return;
    add_left_behind(p, 2 * p->first, walker_share(walker, model->geometry.d_model, ROW_GRAIN));
    walker_wait(walker);
}

static void pass_attn(const struct walker *walker, uint32_t layer, const struct attn_unit *unit)
{
    struct pass *p = walker->pass;
    const struct weights *o[] = {&unit->o};

    attention_run(walker, layer, unit);
    walker_wait(walker);
    struct site_input input =
        site_prepare(walker, layer, SITE_O, p->forward->attn, p->n, unit->o.n_in, NULL, o, 1);
    add_product(walker, 2 * layer, &unit->o, &input);
    walker_wait(walker);
}

/* Gate, up and activation of the same channels, a piece at a time, so that it is still in the cache
 * when it is read again. */
static void activate(const struct walker *walker, const struct ffn_unit *unit,
                     const struct site_input *input)
{
    enum { PIECE = 128 };
    struct forward *f = walker->pass->forward;
    size_t n = walker->pass->n, width = unit->width;
    struct span mine = walker_share(walker, width, ROW_GRAIN), rows;

    for (rows.begin = mine.begin; rows.begin < mine.end; rows.begin = rows.end) {
        rows.end = n == 1 || rows.begin + PIECE > mine.end ? mine.end : rows.begin + PIECE;
        site_multiply(f, &unit->gate, input, rows, n, f->gate, width);
        site_multiply(f, &unit->up, input, rows, n, f->up, width);
        for (size_t t = 0; t < n; t++) {
            float *gate = f->gate + t * width + rows.begin;
            f->kernels->silu_mul(gate, gate, f->up + t * width + rows.begin, rows.end - rows.begin);
        }
    }
}

static void pass_ffn(const struct walker *walker, uint32_t layer, const struct ffn_unit *unit)
{
    struct pass *p = walker->pass;
    const struct weights *gate_up[] = {&unit->gate, &unit->up}, *down[] = {&unit->down};

    struct site_input input = site_prepare(walker, layer, SITE_GATE_UP, p->hidden, p->n,
                                           unit->gate.n_in, unit->norm, gate_up, 2);
    activate(walker, unit, &input);
    walker_wait(walker);
    input =
        site_prepare(walker, layer, SITE_DOWN, p->forward->gate, p->n, unit->width, NULL, down, 1);
    add_product(walker, 2 * layer + 1, &unit->down, &input);
    walker_wait(walker);
}

static void pass_head(const struct walker *walker)
{
    struct pass *p = walker->pass;
    const struct model *model = p->head_model;
    const struct weights *head[] = {&model->head};
    size_t n_vocab = model->head.n_out;

    struct site_input input = site_prepare(walker, model->n_layers, N_LINEAR_SITES, p->head_hidden,
                                           p->n_head, model->head.n_in, model->out_norm, head, 1);
    struct span rows = walker_share(walker, n_vocab, ROW_GRAIN);
    if (rows.begin == rows.end)
        return;
    site_multiply(p->forward, &model->head, &input, rows, p->n_head, p->logits, n_vocab);
    for (size_t t = 0; t < p->n_head; t++)
        if (!is_finite(p->logits + t * n_vocab + rows.begin, rows.end - rows.begin))
            atomic_store_explicit(&p->unsound, true, memory_order_relaxed);
}

static void pass_work(void *arg, unsigned member, unsigned n_members)
{
    struct pass *p = arg;
    struct walker walker = {p, member, n_members};
    const struct model *model = p->forward->model;

    if (p->tokens != NULL)
        pass_embed(&walker);
    pass_left_behind(&walker);
    for (uint32_t l = p->first; l < p->last; l++) {
        if (model->attn[l].present)
            pass_attn(&walker, l, &model->attn[l]);
        if (model->ffn[l].present)
            pass_ffn(&walker, l, &model->ffn[l]);
    }
    if (p->head_model != NULL)
        pass_head(&walker);
}

/* ---- entry points --------------------------------------------------------------------------- */

int forward_tokens(struct forward *f, const int32_t *tokens, uint32_t n, enum forward_logits logits,
                   struct err *err)
{
    uint32_t n_cols = n * f->n_sequences;
    uint32_t n_head = logits == LOGITS_ALL ? n_cols : logits == LOGITS_LAST ? f->n_sequences : 0;
    struct pass pass = {.forward = f,
                        .tokens = tokens,
                        .hidden = f->hidden,
                        .n = n_cols,
                        .last = f->model->n_layers,
                        .head_model = n_head > 0 ? f->model : NULL,
                        .n_head = n_head,
                        .logits = f->logits};

    if (check_tokens(f, tokens, n, err) != 0)
        return -1;
    if (n == 0)
        return 0;
    pass.head_hidden = f->hidden + (size_t)(n_cols - n_head) * f->model->geometry.d_model;
    team_run(f->team, pass_work, &pass);
    if (atomic_load(&pass.unsound)) {
        explain_unsound(f, tokens, n, err);
        return -1;
    }
    f->position += n;
    return 0;
}

const float *forward_logits(const struct forward *f)
{
    return f->logits;
}

int forward_embed(struct forward *f, const int32_t *tokens, uint32_t n, float *hidden,
                  struct err *err)
{
    struct pass pass = {.forward = f, .tokens = tokens, .hidden = hidden, .n = n * f->n_sequences};

    if (check_tokens(f, tokens, n, err) != 0)
        return -1;
    if (n > 0)
        team_run(f->team, pass_work, &pass);
    return 0;
}

void forward_layers(struct forward *f, float *hidden, uint32_t n, uint32_t first, uint32_t last,
                    bool advance)
{
    struct pass pass = {
        .forward = f, .hidden = hidden, .n = n * f->n_sequences, .first = first, .last = last};

    assert(n <= f->n_batch / f->n_sequences && n <= f->n_ctx - f->position &&
           last <= f->model->n_layers);
    if (n > 0)
        team_run(f->team, pass_work, &pass);
    if (advance)
        f->position += n;
}

void forward_head(struct forward *f, const float *hidden, uint32_t n, float *logits)
{
    forward_head_of(f, f->model, hidden, n, logits);
}

void forward_head_of(struct forward *f, const struct model *model, const float *hidden, uint32_t n,
                     float *logits)
{
    assert(model->geometry.d_model <= f->d_model);
    for (uint32_t done = 0, part; done < n; done += part) {
        part = n - done < f->n_batch ? n - done : f->n_batch;
        struct pass pass = {.forward = f,
                            .head_model = model,
                            .head_hidden = hidden + (size_t)done * model->head.n_in,
                            .n_head = part,
                            .logits = logits + (size_t)done * model->head.n_out};
        team_run(f->team, pass_work, &pass);
    }
}
