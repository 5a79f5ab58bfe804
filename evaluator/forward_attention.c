/* forward_attention.c - queries, keys and values of a layer, their cache, and attention over it.
 *
 * Keys in blocks meet queries in 8 bits, as llama.cpp does it, float keys float queries; rows of
 * both keys and values are written as tokens come.  Query head h uses KV group h / (heads /
 * groups).  Sequences that go in step are attended to one after the other, each in a cache of its
 * own.
 *
 * Attention is one call of a kernel, whose memory does not hang on the context: of a block of
 * positions in prefill, of one position in decode.  Where groups cannot be dealt out evenly, the
 * members cut the one position's context among them, and who is the last at a group puts its parts
 * together. */
#include "evaluator/forward_parts.h"

#include <assert.h>
#include <string.h>

/* What a member takes of a layer's rows: all of some groups, or any pieces of row_grain. */
struct qkv_share {
    struct span q, k, v;
    bool own_groups;    /* whole groups: attention needs no other member's work */
    struct span groups; /* its own, and their heads */
    struct span heads;
};

bool attention_can_cache(const struct model *model)
{
    return format_is_cache(model->kv) && format_fits(model->kv, model->geometry.head_dim);
}

static size_t rows_bytes(const struct forward *f, size_t row_bytes)
{
    return arena_rounded(f->model->geometry.n_kv_heads * f->n_ctx * row_bytes);
}

void attention_size_cache(struct forward *f)
{
    size_t head_dim = f->model->geometry.head_dim;

    attention_lay_out_cache(f);
    f->layer_room = 2 * rows_bytes(f, f->row_bytes);
    if (f->layer_room < 2 * rows_bytes(f, format_row_bytes(FORMAT_F16, head_dim)))
        f->layer_room = 2 * rows_bytes(f, format_row_bytes(FORMAT_F16, head_dim));
}

void attention_lay_out_cache(struct forward *f)
{
    f->row_bytes = format_row_bytes(f->model->kv, f->model->geometry.head_dim);
}

enum cache_half { CACHE_KEYS, CACHE_VALUES };

/* Whose rows: a layer of a sequence. */
struct cache_part {
    size_t sequence, layer;
};

/* The row of one position. */
static char *cache_row(const struct forward *f, struct cache_part part, enum cache_half half,
                       size_t group, size_t position)
{
    size_t begin = half == CACHE_KEYS ? 0 : rows_bytes(f, f->row_bytes);

    return f->cache + (part.sequence * f->model->geometry.n_layers + part.layer) * f->layer_room +
           begin + (group * f->n_ctx + position) * f->row_bytes;
}

/* ---- projections ---------------------------------------------------------------------------- */

/* Rows that a member takes at a time: whole blocks of the cache. */
static size_t row_grain(enum format kv)
{
    return format_block(kv) > ROW_GRAIN ? format_block(kv) : ROW_GRAIN;
}

/* The part of the units [begin, end), `grain` rows each, that lies in a matrix beginning at unit
 * `at`. */
static struct span rows_of_units(struct span units, size_t grain, size_t at, size_t n_rows)
{
    size_t n_units = (n_rows + grain - 1) / grain;
    size_t begin = units.begin > at ? units.begin - at : 0;
    size_t end = units.end > at ? units.end - at : 0;
    struct span rows;

    begin = begin < n_units ? begin : n_units;
    end = end < n_units ? end : n_units;
    rows.begin = begin * grain < n_rows ? begin * grain : n_rows;
    rows.end = end * grain < n_rows ? end * grain : n_rows;
    return rows;
}

static struct qkv_share share_of(const struct walker *walker, const struct attn_unit *unit)
{
    size_t head_dim = walker->pass->forward->model->geometry.head_dim;
    size_t ratio = unit->n_heads / unit->n_groups;
    size_t n_q = unit->n_heads * head_dim, n_kv = unit->n_groups * head_dim;
    struct qkv_share share = {.own_groups = unit->n_groups % walker->n_members == 0};

    if (share.own_groups) {
        struct span groups = walker_share(walker, unit->n_groups, 1);
        share.groups = groups;
        share.heads = (struct span){groups.begin * ratio, groups.end * ratio};
        share.q = (struct span){share.heads.begin * head_dim, share.heads.end * head_dim};
        share.k = (struct span){groups.begin * head_dim, groups.end * head_dim};
        share.v = share.k;
        return share;
    }
    size_t grain = row_grain(walker->pass->forward->model->kv);
    size_t q_units = (n_q + grain - 1) / grain, kv_units = (n_kv + grain - 1) / grain;
    struct span units = walker_share(walker, q_units + 2 * kv_units, 1);
    share.q = rows_of_units(units, grain, 0, n_q);
    share.k = rows_of_units(units, grain, q_units, n_kv);
    share.v = rows_of_units(units, grain, q_units + kv_units, n_kv);
    return share;
}

/* Of column c of a pass. */
static size_t position_of(const struct forward *f, size_t c)
{
    return f->position + c / f->n_sequences;
}

/* Turn rows [begin, end) of one vector of heads; they may begin and end inside a head. */
static void rotate(const struct forward *f, float *x, struct span rows, const float *cos_sin)
{
    size_t head_dim = f->model->geometry.head_dim, next;

    for (size_t r = rows.begin; r < rows.end; r = next) {
        size_t in_head = r % head_dim;
        next = r - in_head + head_dim < rows.end ? r - in_head + head_dim : rows.end;
        f->kernels->rope(x + r, cos_sin + in_head, (next - r) / 2);
    }
}

/* Write rows [begin, end) of the keys or values of column c, x[width], to its cache; they may begin
 * and end inside a head. */
static void store(const struct forward *f, uint32_t layer, enum cache_half half, size_t c,
                  struct span rows, const float *x)
{
    enum format kv = f->model->kv;
    struct cache_part part = {c % f->n_sequences, layer};
    size_t head_dim = f->model->geometry.head_dim, next;

    for (size_t r = rows.begin; r < rows.end; r = next) {
        size_t in_head = r % head_dim;
        char *row = cache_row(f, part, half, r / head_dim, position_of(f, c));
        next = r - in_head + head_dim < rows.end ? r - in_head + head_dim : rows.end;
        f->kernels->store[kv](x + r, next - r,
                              row + in_head / format_block(kv) * format_block_bytes(kv));
    }
}

static void project_queries(const struct forward *f, const struct attn_unit *unit,
                            const struct site_input *input, struct span rows, size_t n)
{
    size_t head_dim = f->model->geometry.head_dim, width = unit->q.n_out;

    if (rows.begin == rows.end)
        return;
    site_multiply(f, &unit->q, input, rows, n, f->q, width);
    for (size_t c = 0; c < n; c++)
        rotate(f, f->q + c * width, rows, f->rope_q + position_of(f, c) * head_dim);
}

static void project_keys(const struct forward *f, uint32_t layer, const struct attn_unit *unit,
                         const struct site_input *input, struct span rows, size_t n)
{
    size_t head_dim = f->model->geometry.head_dim, width = unit->k.n_out;

    if (rows.begin == rows.end)
        return;
    site_multiply(f, &unit->k, input, rows, n, f->k, width);
    for (size_t c = 0; c < n; c++) {
        rotate(f, f->k + c * width, rows, f->rope + position_of(f, c) * head_dim);
        store(f, layer, CACHE_KEYS, c, rows, f->k + c * width);
    }
}

static void project_values(const struct forward *f, uint32_t layer, const struct attn_unit *unit,
                           const struct site_input *input, struct span rows, size_t n)
{
    size_t width = unit->v.n_out;

    if (rows.begin == rows.end)
        return;
    site_multiply(f, &unit->v, input, rows, n, f->v, width);
    for (size_t c = 0; c < n; c++)
        store(f, layer, CACHE_VALUES, c, rows, f->v + c * width);
}

/* ---- attention ------------------------------------------------------------------------------ */

/* Positions of one group that a member takes at a time where groups are cut. */
enum { KEY_GRAIN = 32 };

/* What one position looks at: the keys of a group of a sequence, cut in grains. */
struct look {
    struct cache_part part;
    const struct attn_unit *unit;
    size_t group, n_keys;
};

/* The queries of a group at its keys [begin, end); `out` and `log_sums` are those of all heads of
 * the sequence. */
static void attend_keys(const struct walker *walker, const struct look *look, struct span keys,
                        float *out, float *log_sums)
{
    const struct forward *f = walker->pass->forward;
    size_t ratio = look->unit->n_heads / look->unit->n_groups, n, end = (look->group + 1) * ratio;
    size_t head_dim = f->model->geometry.head_dim;
    const float *q = f->q + look->part.sequence * look->unit->n_heads * head_dim;

    for (size_t h = end - ratio; h < end; h += n) {
        n = end - h < ATTEND_COLUMNS ? end - h : ATTEND_COLUMNS;
        struct attention attention = {
            .keys = cache_row(f, look->part, CACHE_KEYS, look->group, keys.begin),
            .values = cache_row(f, look->part, CACHE_VALUES, look->group, keys.begin),
            .queries = q + h * head_dim,
            .out = out + h * head_dim,
            .log_sums = log_sums != NULL ? log_sums + h : NULL,
            .head_dim = head_dim,
            .n_heads = n,
            .n_positions = 1,
            .see = keys.end - keys.begin};
        f->kernels->attend[f->model->kv](&attention, f->scratch[walker->member].attend);
    }
}

/* The outputs of a group, mixed of those that `members` have made of their keys. */
static void put_together(const struct walker *walker, const struct look *look, struct span members)
{
    const struct forward *f = walker->pass->forward;
    size_t n_heads = look->unit->n_heads, head_dim = f->model->geometry.head_dim;
    size_t ratio = n_heads / look->unit->n_groups, n = members.end - members.begin;
    size_t first = look->part.sequence * n_heads + look->group * ratio;
    float *weight = f->scratch[walker->member].weights;

    for (size_t h = first; h < first + ratio; h++) {
        float *out = f->attn + h * head_dim;
        for (size_t m = 0; m < n; m++)
            weight[m] = f->scratch[members.begin + m].log_sums[h];
        f->kernels->softmax(weight, n);
        memset(out, 0, head_dim * sizeof *out);
        for (size_t m = 0; m < n; m++)
            f->kernels->add_scaled(out, f->scratch[members.begin + m].attn + h * head_dim,
                                   weight[m], head_dim);
    }
}

/* Grains of keys of one group that a member has among all groups of all sequences. */
static struct span grains_of(const struct walker *walker, unsigned member, size_t n_looks,
                             size_t n_grains, size_t look)
{
    struct span all;
    team_share(n_looks * n_grains, 1, member, walker->n_members, &all.begin, &all.end);
    return rows_of_units(all, 1, look * n_grains, n_grains);
}

/* Its share of one group, if it has any; alone, or in part. */
static void attend_share(const struct walker *walker, const struct look *look, size_t n_looks)
{
    struct forward *f = walker->pass->forward;
    size_t n_groups = look->unit->n_groups, number = look->part.sequence * n_groups + look->group;
    size_t n_grains = (look->n_keys + KEY_GRAIN - 1) / KEY_GRAIN;
    size_t first = look->part.sequence * look->unit->n_heads;
    size_t head_dim = f->model->geometry.head_dim;
    struct span mine = grains_of(walker, walker->member, n_looks, n_grains, number);
    struct span keys = {mine.begin * KEY_GRAIN, mine.end * KEY_GRAIN};
    const struct scratch *scratch = &f->scratch[walker->member];

    if (mine.begin == mine.end)
        return;
    keys.end = keys.end < look->n_keys ? keys.end : look->n_keys;
    if (mine.end - mine.begin == n_grains) {
        attend_keys(walker, look, keys, f->attn + first * head_dim, NULL);
        return;
    }
    attend_keys(walker, look, keys, scratch->attn + first * head_dim, scratch->log_sums + first);
    /* Who completes the group sees what the others wrote before they added theirs. */
    size_t done = atomic_fetch_add(&f->grains_done[number], (unsigned)(mine.end - mine.begin)) +
                  mine.end - mine.begin;
    if (done < n_grains)
        return;
    atomic_store(&f->grains_done[number], 0);
    struct span members = {walker->member, walker->member + 1}, theirs = mine;
    while (theirs.begin > 0)
        theirs = grains_of(walker, (unsigned)--members.begin, n_looks, n_grains, number);
    for (theirs = mine; theirs.end < n_grains; members.end++)
        theirs = grains_of(walker, (unsigned)members.end, n_looks, n_grains, number);
    put_together(walker, look, members);
}

/* One token of each sequence. */
static void attend_tokens(const struct walker *walker, uint32_t layer, const struct attn_unit *unit,
                          const struct qkv_share *share)
{
    const struct forward *f = walker->pass->forward;
    size_t n = walker->pass->n, n_keys = f->position + 1, width = unit->q.n_out;

    for (size_t s = 0; s < n; s++) {
        struct look look = {.part = {s, layer}, .unit = unit, .n_keys = n_keys};
        if (share->own_groups)
            for (look.group = share->groups.begin; look.group < share->groups.end; look.group++)
                attend_keys(walker, &look, (struct span){0, n_keys}, f->attn + s * width, NULL);
        else
            for (look.group = 0; look.group < unit->n_groups; look.group++)
                attend_share(walker, &look, n * unit->n_groups);
    }
}

/* Many tokens: QUERY_BLOCK positions of some heads of one group at a time. */
static void attend_block(const struct walker *walker, struct cache_part part,
                         const struct attn_unit *unit, struct span heads, size_t block)
{
    const struct forward *f = walker->pass->forward;
    size_t n = walker->pass->n / f->n_sequences, begin = block * QUERY_BLOCK;
    size_t end = begin + QUERY_BLOCK < n ? begin + QUERY_BLOCK : n;
    size_t head_dim = f->model->geometry.head_dim, width = unit->n_heads * head_dim;
    size_t first = (begin * f->n_sequences + part.sequence) * width + heads.begin * head_dim;
    size_t group = heads.begin / (unit->n_heads / unit->n_groups);
    struct attention attention = {.keys = cache_row(f, part, CACHE_KEYS, group, 0),
                                  .values = cache_row(f, part, CACHE_VALUES, group, 0),
                                  .queries = f->q + first,
                                  .out = f->attn + first,
                                  .head_dim = head_dim,
                                  .n_heads = heads.end - heads.begin,
                                  .n_positions = end - begin,
                                  .see = f->position + begin + 1,
                                  .queries_stride = f->n_sequences * width,
                                  .out_stride = f->n_sequences * width};

    f->kernels->attend[f->model->kv](&attention, f->scratch[walker->member].attend);
}

/* All blocks of whole groups: heads of a group go together, so that its keys and values are
 * unpacked once for several of them. */
static void attend_groups(const struct walker *walker, struct cache_part part,
                          const struct attn_unit *unit, struct span heads, size_t n_blocks)
{
    enum { MOST = ATTEND_COLUMNS / QUERY_BLOCK };
    size_t ratio = unit->n_heads / unit->n_groups;

    for (size_t h = heads.begin, next; h < heads.end; h = next) {
        next = h / ratio * ratio + ratio;
        next = next - h <= MOST ? next : h + MOST;
        for (size_t b = 0; b < n_blocks; b++)
            attend_block(walker, part, unit, (struct span){h, next}, b);
    }
}

static void attend_batch(const struct walker *walker, uint32_t layer, const struct attn_unit *unit,
                         const struct qkv_share *share)
{
    size_t n_sequences = walker->pass->forward->n_sequences, n_heads = unit->n_heads;
    size_t n_blocks = (walker->pass->n / n_sequences + QUERY_BLOCK - 1) / QUERY_BLOCK;

    for (size_t s = 0; s < n_sequences; s++) {
        struct cache_part part = {s, layer};
        if (share->own_groups) {
            attend_groups(walker, part, unit, share->heads, n_blocks);
            continue;
        }
        /* Dealt out one by one, the heads of a block after each other: they cost the same. */
        for (size_t i = walker->member; i < n_blocks * n_heads; i += walker->n_members)
            attend_block(walker, part, unit, (struct span){i % n_heads, i % n_heads + 1},
                         i / n_heads);
    }
}

void attention_run(const struct walker *walker, uint32_t layer, const struct attn_unit *unit)
{
    struct pass *p = walker->pass;
    const struct weights *qkv[] = {&unit->q, &unit->k, &unit->v};
    struct qkv_share share = share_of(walker, unit);

    struct site_input input =
        site_prepare(walker, layer, SITE_QKV, p->hidden, p->n, unit->q.n_in, unit->norm, qkv, 3);
    project_queries(p->forward, unit, &input, share.q, p->n);
    project_keys(p->forward, layer, unit, &input, share.k, p->n);
    project_values(p->forward, layer, unit, &input, share.v, p->n);
    if (!share.own_groups)
        walker_wait(walker);
    if (p->n == p->forward->n_sequences)
        attend_tokens(walker, layer, unit, &share);
    else
        attend_batch(walker, layer, unit, &share);
}
