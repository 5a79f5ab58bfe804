/* op_table_measure.c - timing every operation of a space.
 *
 * A matmul is timed alone: the team runs it over and over on the successive matrices of a working
 * set, so that its weights come from where they come from in decoding.  What stands between the
 * matmuls (norms, packing, RoPE, attention, SiLU, barriers) cannot be timed alone without lying
 * about its caches and its waiting; it is timed in place instead: a stack of equal units runs in
 * the forward pass, and what its matmuls, timed beside it, do not explain is the time of its
 * attention (entry OP_ATTENTION) or of its activation (OP_SILU_MUL).  Embedding, final norm and the
 * rest of a pass are one entry too (OP_EMBED); OP_NORM and OP_ROPE entries are 0, their time is in
 * those. */
#include "evaluator/compression/quantize.h"
#include "evaluator/forward.h"
#include "latency_model/op_table_parts.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "space/base/log.h"
#include "space/base/rng.h"
#include "space/base/stats.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WORKING_SET_MAX (512u << 20) /* a larger one comes from memory all the same */
#define SAMPLE_NS       150000.0     /* wanted length of a matmul sample */
#define MAX_ROUNDS      64
#define USUAL_ROUNDS    5
#define MAX_STACK       8           /* units */
#define QUICK_NS        10000000000 /* rounds that take less are made three times as often */
#define QUICK_PASS_NS   1000000.0 /* of a stack: a pass that takes less is made MAX_ROUNDS times */

struct measuring {
    struct op_table *table;
    const struct space *space;
    const struct workload *workloads;
    size_t n_workloads;
    const struct kernels *kernels;
    struct team *team;
    unsigned char *weights[N_FORMATS]; /* working sets */
    unsigned char *acts;               /* packed activations, any content that is a number */
    float *out;
    uint32_t n_rounds;
    size_t cursor[N_FORMATS]; /* where the next matrices lie in their working set: what was read
                               * last may still be in a cache */
};

/* --- which operations --- */

static int add_ops_of(struct op_table *table, const struct genome *genome,
                      const struct workload *workloads, size_t n_workloads, struct op *ops,
                      struct err *err)
{
    for (size_t w = 0; w < n_workloads; w++) {
        size_t n = account_ops(genome, &table->geometry, &workloads[w], ops);
        for (size_t i = 0; i < n; i++)
            if (op_table_add(table, &ops[i], err) < 0)
                return -1;
    }
    return 0;
}

static bool sets_width(const struct gene *gene)
{
    return gene->kind == GENE_KV_GROUPS || gene->kind == GENE_FFN_WIDTH || gene->kind == GENE_LAYER;
}

static bool sets_act(const struct gene *gene)
{
    return gene->kind == GENE_ATTN_ACT || gene->kind == GENE_FFN_ACT;
}

/* Every gene at its finest, but the residual stream at its level `basis`, and activations at their
 * cheapest where `cheap`. */
static void set_base(const struct space *space, uint32_t basis, bool cheap, uint8_t *levels)
{
    int32_t stream = space_gene_of(space, GENE_BASIS, -1);
    for (uint32_t g = 0; g < space->n_genes; g++)
        levels[g] = sets_act(&space->gene[g]) && cheap ? 0 : (uint8_t)(space->gene[g].n_levels - 1);
    if (stream >= 0)
        levels[stream] = (uint8_t)basis;
}

/* Whether an operation's shape and its format hang on these two. */
static bool meet(const struct gene *a, const struct gene *b)
{
    return sets_width(a) && (a->unit == b->unit || a->layer < 0 || b->kind == GENE_KV);
}

/* A matrix's shape depends on the width of the residual stream and on one width gene, its format on
 * one format gene, a KV cache's groups on a width gene and its format on another: every pair of
 * levels of such genes, beside every level of the stream's and of activations (`base`), names every
 * operation of the space. */
static int add_pairs(struct op_table *table, const struct space *space, const uint8_t *base,
                     uint32_t a, uint32_t b, const struct workload *workloads, size_t n_workloads,
                     struct op *ops, struct genome *genome, struct err *err)
{
    uint8_t levels[SPACE_MAX_GENES];
    memcpy(levels, base, space->n_genes);
    for (uint32_t i = 0; i < space->gene[a].n_levels; i++)
        for (uint32_t j = 0; j < space->gene[b].n_levels; j++) {
            levels[a] = (uint8_t)i;
            levels[b] = (uint8_t)j;
            space_genome(space, levels, genome);
            if (add_ops_of(table, genome, workloads, n_workloads, ops, err) != 0)
                return -1;
        }
    return 0;
}

static int list_ops(struct op_table *table, const struct space *space,
                    const struct workload *workloads, size_t n_workloads, struct err *err)
{
    struct op *ops = malloc(ACCOUNT_MAX_OPS * sizeof *ops);
    struct genome *genome = malloc(sizeof *genome);
    int32_t stream = space_gene_of(space, GENE_BASIS, -1);
    uint32_t n_bases = stream >= 0 ? space->gene[stream].n_levels : 1, n_acts = 1;
    int status = ops != NULL && genome != NULL ? 0 : -1;
    if (status != 0)
        err_set(err, ERR_MEMORY, "op table: out of memory");
    for (uint32_t g = 0; g < space->n_genes; g++)
        n_acts = sets_act(&space->gene[g]) ? 2 : n_acts;
    for (uint32_t base = 0; base < n_bases * n_acts && status == 0; base++) {
        uint8_t levels[SPACE_MAX_GENES];
        set_base(space, base / n_acts, base % n_acts == 1, levels);
        for (uint32_t a = 0; a < space->n_genes && status == 0; a++)
            for (uint32_t b = 0; b < space->n_genes && status == 0; b++)
                if (a == b || meet(&space->gene[a], &space->gene[b]))
                    status = add_pairs(table, space, levels, a, b, workloads, n_workloads, ops,
                                       genome, err);
    }
    free(genome);
    free(ops);
    return status;
}

bool op_table_covers(const struct op_table *table, const struct space *space,
                     const struct workload *workloads, size_t n_workloads)
{
    struct op_table *wanted = op_table_new(&space->geometry, &table->device, NULL);
    bool covers = wanted != NULL && list_ops(wanted, space, workloads, n_workloads, NULL) == 0;
    for (size_t i = 0; covers && i < wanted->n; i++)
        covers = op_table_find(table, &wanted->entry[i].op) != NULL;
    op_table_destroy(wanted);
    return covers;
}

/* --- working sets --- */

/* Bytes of the dense parent's matrices in `format`. */
static size_t working_set(const struct geometry *geometry, enum format format)
{
    struct genome *genome = malloc(sizeof *genome);
    if (genome == NULL)
        return 0;
    genome_uniform(genome, geometry, format);
    size_t bytes = account_weight_bytes(genome, geometry);
    free(genome);
    return bytes < WORKING_SET_MAX ? bytes : WORKING_SET_MAX;
}

/* Whole blocks of random weights, repeated over the working set. */
static int fill_working_set(struct measuring *m, enum format format, struct err *err)
{
    enum { N_WEIGHTS = 1 << 18 };
    struct op_table *table = m->table;
    size_t block = format_row_bytes(format, N_WEIGHTS);
    size_t wanted = working_set(&table->geometry, format);
    size_t n_blocks = wanted / block + 1;
    float *random = malloc(N_WEIGHTS * sizeof *random);
    m->weights[format] = malloc(n_blocks * block);
    struct rng rng = rng_make(1, (uint64_t)format);
    int status = -1;
    if (random == NULL || m->weights[format] == NULL) {
        err_set(err, ERR_MEMORY, "op table: no %zu bytes for a working set", n_blocks * block);
    } else {
        for (size_t i = 0; i < N_WEIGHTS; i++)
            random[i] = (float)(0.02 * rng_normal(&rng));
        status = quantize_rows_plain(format, random, 1, N_WEIGHTS, m->weights[format], err);
        for (size_t i = 1; i < n_blocks && status == 0; i++)
            memcpy(m->weights[format] + i * block, m->weights[format], block);
        table->working_set[format] = n_blocks * block;
    }
    free(random);
    return status;
}

static int prepare(struct measuring *m, struct err *err)
{
    const struct geometry *g = &m->table->geometry;
    size_t widest = g->d_ff, most_out = g->n_vocab, most_cols = 1;
    if ((size_t)g->n_heads * g->head_dim > widest)
        widest = (size_t)g->n_heads * g->head_dim;
    widest = g->d_model > widest ? g->d_model : widest;
    most_out = widest > most_out ? widest : most_out;
    for (size_t i = 0; i < m->table->n; i++)
        if (m->table->entry[i].op.n_cols > most_cols)
            most_cols = m->table->entry[i].op.n_cols;
    /* A float is the largest form of an activation but for one block of Q8. */
    m->acts = calloc(most_cols, (widest + 256) * sizeof(float));
    m->out = malloc(most_cols * most_out * sizeof *m->out);
    if (m->acts == NULL || m->out == NULL) {
        err_set(err, ERR_MEMORY, "op table: out of memory");
        return -1;
    }
    for (size_t i = 0; i < m->table->n; i++) {
        const struct op *op = &m->table->entry[i].op;
        if (op->kind == OP_MATMUL && m->weights[op->format] == NULL &&
            fill_working_set(m, op->format, err) != 0)
            return -1;
    }
    return 0;
}

/* --- matmuls and read bandwidth --- */

struct matmul_run {
    struct measuring *m;
    const struct op *op;
    size_t first, n_reps; /* matrices of the working set */
    size_t n_matrices;    /* that take turns */
};

static void matmul_work(void *arg, unsigned member, unsigned n_members)
{
    const struct matmul_run *run = arg;
    const struct op *op = run->op;
    size_t row_bytes = format_row_bytes(op->format, op->n_in), begin, end;
    size_t matrix = row_bytes * op->n_out;
    size_t act_bytes = kernels_act_bytes(op->format, op->act, op->n_in);
    team_share(op->n_out, 16, member, n_members, &begin, &end);
    for (size_t i = 0; i < run->n_reps && begin < end; i++) {
        const unsigned char *w =
            run->m->weights[op->format] + (run->first + i) % run->n_matrices * matrix;
        run->m->kernels->matmul[op->format][op->act](w + begin * row_bytes, row_bytes, end - begin,
                                                     op->n_in, run->m->acts, act_bytes, op->n_cols,
                                                     run->m->out + begin, op->n_out);
    }
}

/* Pack a vector of ones into every column, so that kernels meet ordinary numbers. */
static void pack_columns(struct measuring *m, const struct op *op)
{
    size_t act_bytes = kernels_act_bytes(op->format, op->act, op->n_in);
    float *x = m->out; /* free until the product is written */
    for (uint32_t i = 0; i < op->n_in; i++)
        x[i] = (float)(i % 7) - 3;
    for (uint32_t c = 0; c < op->n_cols; c++)
        m->kernels->pack[op->format][op->act](x, op->n_in, m->acts + c * act_bytes);
}

static double time_matrices(struct measuring *m, const struct op *op, size_t first, size_t n_reps,
                            size_t n_matrices)
{
    struct matmul_run run = {.m = m, .op = op, .first = first, .n_reps = n_reps};
    run.n_matrices = n_matrices > 0 ? n_matrices : 1;
    pack_columns(m, op);
    int64_t start = clock_now_ns();
    team_run(m->team, matmul_work, &run);
    return (double)(clock_now_ns() - start) / (double)n_reps;
}

static size_t matrix_bytes(const struct op *op)
{
    return format_row_bytes(op->format, op->n_in) * op->n_out;
}

static double time_matmul(struct measuring *m, const struct op *op, size_t n_reps)
{
    size_t bytes = matrix_bytes(op), n = m->table->working_set[op->format] / bytes;
    size_t *cursor = &m->cursor[op->format], first = (*cursor + bytes - 1) / bytes;
    *cursor = (first + n_reps) * bytes % m->table->working_set[op->format];
    return time_matrices(m, op, first, n_reps, n);
}

/* Matrices that fit the cores' own caches together, as far as there are so many, each once before
 * the clock starts. */
static double time_near(struct measuring *m, const struct op *op, size_t n_reps)
{
    size_t most = m->table->working_set[op->format], near = op_table_near_bytes(m->table);
    size_t n = (near < most ? near : most) / matrix_bytes(op);
    time_matrices(m, op, 0, n > 0 ? n : 1, n);
    return time_matrices(m, op, 0, n_reps, n);
}

/* Whether an operation is one of a decode pass, as far as its columns tell. */
static bool is_decode(const struct measuring *m, const struct op *op)
{
    bool any = false;
    for (size_t w = 0; w < m->n_workloads; w++)
        any = any || (m->workloads[w].kind == WORKLOAD_DECODE &&
                      workload_columns(&m->workloads[w]) == op->n_cols);
    return any;
}

/* Whether there is such a thing as near: decoding, and a matrix that fits. */
static bool has_near(const struct measuring *m, const struct op *op)
{
    return is_decode(m, op) && matrix_bytes(op) <= op_table_near_bytes(m->table);
}

struct read_run {
    const struct measuring *m;
    enum format format;
};

static void read_work(void *arg, unsigned member, unsigned n_members)
{
    const struct read_run *run = arg;
    size_t begin, end;
    team_share(run->m->table->working_set[run->format], 4096, member, n_members, &begin, &end);
    volatile uint64_t sink =
        run->m->kernels->read(run->m->weights[run->format] + begin, end - begin);
    (void)sink;
}

static double time_read(struct measuring *m, enum format format)
{
    struct read_run run = {.m = m, .format = format};
    int64_t start = clock_now_ns();
    team_run(m->team, read_work, &run);
    return (double)m->table->working_set[format] / (double)(clock_now_ns() - start);
}

/* Repetitions that make a sample long enough, from one quick try. */
static size_t count_reps(struct measuring *m, const struct op *op)
{
    double ns = fmin(time_matmul(m, op, 1), fmin(time_matmul(m, op, 2), time_matmul(m, op, 2)));
    double reps = ceil(SAMPLE_NS / (ns > 1 ? ns : 1));
    return reps > 512 ? 512 : (size_t)reps;
}

/* p10 of the samples, which are sorted. */
static double fastest(double *sample, uint32_t n)
{
    stats_sort(sample, n);
    return stats_quantile(sample, n, 0.1);
}

/* Times of the rounds, [n][MAX_ROUNDS] each. */
struct samples {
    double *far, *near; /* of the table's matmuls */
    double *read;       /* by format */
    size_t *reps;
    uint32_t n_rounds;
};

static void run_round(struct measuring *m, struct samples *s)
{
    struct op_table *table = m->table;
    uint32_t r = s->n_rounds++;
    for (size_t i = 0; i < table->n; i++) {
        const struct op *op = &table->entry[i].op;
        if (op->kind != OP_MATMUL)
            continue;
        if (s->reps[i] == 0)
            s->reps[i] = count_reps(m, op);
        s->far[i * MAX_ROUNDS + r] = time_matmul(m, op, s->reps[i]);
        if (has_near(m, op))
            s->near[i * MAX_ROUNDS + r] = time_near(m, op, s->reps[i]);
    }
    for (int f = 0; f < N_FORMATS; f++)
        if (m->weights[f] != NULL)
            s->read[f * MAX_ROUNDS + r] = time_read(m, (enum format)f);
}

static void enter_samples(struct measuring *m, struct samples *s)
{
    struct op_table *table = m->table;
    for (size_t i = 0; i < table->n; i++) {
        struct op_entry *entry = &table->entry[i];
        if (entry->op.kind != OP_MATMUL)
            continue;
        entry->n_samples = s->n_rounds;
        entry->ns = fastest(&s->far[i * MAX_ROUNDS], s->n_rounds);
        entry->median_ns = stats_quantile(&s->far[i * MAX_ROUNDS], s->n_rounds, 0.5);
        entry->near_ns = entry->ns;
        if (has_near(m, &entry->op))
            entry->near_ns = fmin(entry->ns, fastest(&s->near[i * MAX_ROUNDS], s->n_rounds));
        if (is_decode(m, &entry->op))
            entry->bandwidth = (double)account_op_bytes(&entry->op, &table->geometry) / entry->ns;
    }
    for (int f = 0; f < N_FORMATS; f++)
        if (m->weights[f] != NULL)
            table->read_bandwidth[f] = stats_median(&s->read[f * MAX_ROUNDS], s->n_rounds);
}

/* Rounds over all matmuls and read bandwidths, so that a slow moment of the machine hits each of
 * them once and not one of them always. */
static int measure_matmuls(struct measuring *m, struct err *err)
{
    struct samples s = {.far = calloc(m->table->n * MAX_ROUNDS, sizeof *s.far),
                        .near = calloc(m->table->n * MAX_ROUNDS, sizeof *s.near),
                        .read = calloc((size_t)N_FORMATS * MAX_ROUNDS, sizeof *s.read),
                        .reps = calloc(m->table->n, sizeof *s.reps)};
    int status = s.far != NULL && s.near != NULL && s.read != NULL && s.reps != NULL ? 0 : -1;
    int64_t start = clock_now_ns();
    if (status != 0) {
        err_set(err, ERR_MEMORY, "op table: out of memory");
    } else {
        while (s.n_rounds < m->n_rounds)
            run_round(m, &s);
        bool quick = clock_now_ns() - start < QUICK_NS;
        while (quick && s.n_rounds < 3 * m->n_rounds && s.n_rounds < MAX_ROUNDS)
            run_round(m, &s);
        enter_samples(m, &s);
    }
    free(s.reps);
    free(s.read);
    free(s.near);
    free(s.far);
    return status;
}

/* --- what stands between the matmuls, in place --- */

/* A stack of equal units over the working set: the same op in every layer, other bytes in each. */
static struct weights stack_weights(struct measuring *m, enum format format, uint32_t n_out,
                                    uint32_t n_in)
{
    enum format fits = format_fallback(format, n_in);
    size_t bytes = format_row_bytes(fits, n_in) * n_out;
    if (m->weights[fits] == NULL) /* not searched: any format that is will do */
        fits = format;
    size_t stride = format_stride(fits), at = (m->cursor[fits] + stride - 1) / stride * stride;
    if (at + bytes > m->table->working_set[fits])
        at = 0;
    struct weights w = {.data = m->weights[fits] + at,
                        .format = fits,
                        .act = act_format_of(fits),
                        .n_out = n_out,
                        .n_in = n_in};
    m->cursor[fits] = at + bytes;
    return w;
}

static size_t weights_bytes(const struct weights *w)
{
    return format_row_bytes(w->format, w->n_in) * w->n_out;
}

/* A unit of decoding that fits the cores' own caches stands in every layer with the same weights,
 * so that they come from there, and what is left beside its matmuls is told from small times; of
 * any other unit each layer and each pass has its own. */
static bool stack_attention(struct measuring *m, struct model *model, enum format format,
                            const struct op *op, const float *norm)
{
    const struct geometry *g = &model->geometry;
    uint32_t n_heads = op->n_out, n_groups = op->n_in;
    bool near = false;
    for (uint32_t l = 0; l < model->n_layers; l++) {
        struct attn_unit unit = {.present = true,
                                 .n_heads = n_heads,
                                 .n_groups = n_groups,
                                 .norm = norm,
                                 .q = stack_weights(m, format, n_heads * g->head_dim, g->d_model),
                                 .k = stack_weights(m, format, n_groups * g->head_dim, g->d_model),
                                 .v = stack_weights(m, format, n_groups * g->head_dim, g->d_model),
                                 .o = stack_weights(m, format, g->d_model, n_heads * g->head_dim)};
        near = is_decode(m, op) &&
               weights_bytes(&unit.q) + 2 * weights_bytes(&unit.k) + weights_bytes(&unit.o) <=
                   op_table_near_bytes(m->table);
        model->attn[l] = near && l > 0 ? model->attn[0] : unit;
    }
    return near;
}

static bool stack_ffn(struct measuring *m, struct model *model, enum format format,
                      const struct op *op, const float *norm)
{
    const struct geometry *g = &model->geometry;
    bool near = false;
    for (uint32_t l = 0; l < model->n_layers; l++) {
        struct ffn_unit unit = {.present = true,
                                .width = op->n_out,
                                .norm = norm,
                                .gate = stack_weights(m, format, op->n_out, g->d_model),
                                .up = stack_weights(m, format, op->n_out, g->d_model),
                                .down = stack_weights(m, format, g->d_model, op->n_out)};
        near = is_decode(m, op) && 2 * weights_bytes(&unit.gate) + weights_bytes(&unit.down) <=
                                       op_table_near_bytes(m->table);
        model->ffn[l] = near && l > 0 ? model->ffn[0] : unit;
    }
    return near;
}

struct stage {
    struct model *model;
    struct forward *forward;
    float *hidden, *start; /* [n_cols][d_model] */
    float *norm;
    int32_t *tokens;
};

/* What the units of a stack are made of: the finest quantized format that the space has and that
 * fits rows of any width, because most candidates spend their time in such; a float one if need be.
 */
static enum format any_format(const struct measuring *m)
{
    enum format finest = FORMAT_NONE;
    for (int f = N_FORMATS - 1; f >= 0; f--) {
        if (m->weights[f] == NULL)
            continue;
        if (format_is_quantized((enum format)f) && format_block((enum format)f) <= 32)
            return (enum format)f;
        if (finest == FORMAT_NONE)
            finest = (enum format)f;
    }
    return finest;
}

/* The unit that an operation is the rest of, in every layer and nothing else; none for a pass. Each
 * call lays it further on in the working set. */
static bool stack_for(struct measuring *m, struct stage *stage, const struct op *op)
{
    struct model *model = stage->model;
    memset(model->attn, 0, sizeof model->attn);
    memset(model->ffn, 0, sizeof model->ffn);
    if (op->kind == OP_ATTENTION) {
        model->kv = op->format;
        return stack_attention(m, model, any_format(m), op, stage->norm);
    }
    if (op->kind == OP_SILU_MUL)
        return stack_ffn(m, model, any_format(m), op, stage->norm);
    return weights_bytes(&model->head) <= op_table_near_bytes(m->table);
}

/* The sequences that an operation's columns belong to; where it makes no difference, one. */
static uint32_t sequences_of(const struct op *op)
{
    return op->n_sequences > 1 ? op->n_sequences : 1;
}

/* One pass: the layers, or for OP_EMBED the embedding, final norm and head. */
static double time_pass(struct stage *stage, const struct op *op)
{
    size_t n = (size_t)op->n_cols * stage->model->geometry.d_model;
    uint32_t at = forward_position(stage->forward), n_each = op->n_cols / sequences_of(op);
    memcpy(stage->hidden, stage->start, n * sizeof *stage->hidden);
    int64_t start = clock_now_ns();
    if (op->kind == OP_EMBED)
        forward_tokens(stage->forward, stage->tokens, n_each, LOGITS_LAST, NULL);
    else
        forward_layers(stage->forward, stage->hidden, n_each, 0, stage->model->n_layers, false);
    double ns = (double)(clock_now_ns() - start);
    forward_rewind(stage->forward, at);
    return ns;
}

static struct op matmul_of(const struct weights *w, uint32_t n_cols)
{
    return (struct op){.kind = OP_MATMUL,
                       .format = w->format,
                       .act = w->act,
                       .n_out = w->n_out,
                       .n_in = w->n_in,
                       .n_cols = n_cols,
                       .count = 1};
}

/* Times of the matrices of a unit, `n_units` of it, one kind after another. */
static double time_matrices_of(struct measuring *m, const struct weights *const *w, size_t n,
                               uint32_t n_cols, size_t n_units, bool near)
{
    double ns = 0;
    for (size_t i = 0; i < n; i++) {
        struct op op = matmul_of(w[i], n_cols);
        ns += near ? time_near(m, &op, n_units) : time_matmul(m, &op, n_units);
    }
    return ns;
}

/* The matrices of a unit of the stack, or of a pass; how many. */
static size_t matrices_of(const struct model *model, const struct op *op, const struct weights **w)
{
    const struct attn_unit *attn = &model->attn[0];
    const struct ffn_unit *ffn = &model->ffn[0];
    if (op->kind == OP_ATTENTION) {
        w[0] = &attn->q, w[1] = &attn->k, w[2] = &attn->v, w[3] = &attn->o;
        return 4;
    }
    if (op->kind == OP_SILU_MUL) {
        w[0] = &ffn->gate, w[1] = &ffn->up, w[2] = &ffn->down;
        return 3;
    }
    w[0] = &model->head;
    return 1;
}

/* What a unit (or a pass) takes beside its matrices: the median over rounds of what its matrices,
 * timed in the same round, leave of its time, so that the machine's pace is the same for both. */
static double rest_of(struct measuring *m, struct stage *stage, const struct op *op)
{
    double rest[MAX_ROUNDS];
    const struct weights *w[4];
    bool near = stack_for(m, stage, op);
    size_t n = matrices_of(stage->model, op, w);
    uint32_t n_units = op->kind == OP_EMBED ? 1 : stage->model->n_layers;
    uint32_t n_cols = op->kind == OP_EMBED ? sequences_of(op) : op->n_cols;
    forward_set_model(stage->forward, stage->model);
    forward_begin(stage->forward, sequences_of(op));
    memcpy(stage->hidden, stage->start,
           (size_t)op->n_cols * m->table->geometry.d_model * sizeof *stage->hidden);
    /* Positions before the first column: filled one by one, as decoding does. */
    for (uint32_t p = 0; p < op->context; p++)
        forward_layers(stage->forward, stage->hidden, 1, 0, stage->model->n_layers, true);
    uint32_t n_rounds = time_pass(stage, op) < QUICK_PASS_NS ? MAX_ROUNDS : m->n_rounds;
    for (uint32_t r = 0; r < n_rounds; r++) {
        stack_for(m, stage, op);
        rest[r] = time_pass(stage, op) / n_units;
        rest[r] -= time_matrices_of(m, w, n, n_cols, n_units, near);
    }
    return stats_median(rest, n_rounds);
}

static int stage_open(struct measuring *m, struct stage *stage, struct err *err)
{
    const struct geometry *g = &m->table->geometry;
    uint32_t n_ctx = 1, n_batch = 1, n_sequences = 1;
    for (size_t i = 0; i < m->table->n; i++) {
        const struct op *op = &m->table->entry[i].op;
        uint32_t positions = op->context + op->n_cols / sequences_of(op);
        n_batch = op->n_cols > n_batch ? op->n_cols : n_batch;
        n_ctx = positions > n_ctx ? positions : n_ctx;
        n_sequences = sequences_of(op) > n_sequences ? sequences_of(op) : n_sequences;
    }
    struct rng rng = rng_make(2, 0);
    stage->model = calloc(1, sizeof *stage->model);
    stage->hidden = malloc((size_t)n_batch * g->d_model * sizeof(float));
    stage->start = malloc((size_t)n_batch * g->d_model * sizeof(float));
    stage->norm = malloc(g->d_model * sizeof(float));
    stage->tokens = calloc(n_batch, sizeof *stage->tokens);
    if (stage->model == NULL || stage->hidden == NULL || stage->start == NULL ||
        stage->norm == NULL || stage->tokens == NULL) {
        err_set(err, ERR_MEMORY, "op table: out of memory");
        return -1;
    }
    for (size_t i = 0; i < (size_t)n_batch * g->d_model; i++)
        stage->start[i] = (float)rng_normal(&rng);
    for (uint32_t i = 0; i < g->d_model; i++)
        stage->norm[i] = 1;
    stage->model->geometry = *g;
    stage->model->kv = FORMAT_F16;
    stage->model->n_layers = g->n_layers < MAX_STACK ? g->n_layers : MAX_STACK;
    stage->model->out_norm = stage->norm;
    stage->model->embd = stage->model->head =
        stack_weights(m, any_format(m), g->n_vocab, g->d_model);
    struct forward_options options = {
        .n_ctx = n_ctx, .n_batch = n_batch, .n_sequences = n_sequences};
    stage->forward = forward_create(stage->model, m->kernels, m->team, &options, err);
    return stage->forward != NULL ? 0 : -1;
}

static void stage_close(struct stage *stage)
{
    forward_destroy(stage->forward);
    free(stage->tokens);
    free(stage->norm);
    free(stage->start);
    free(stage->hidden);
    free(stage->model);
}

/* Rests of FFNs by their width: a straight line through the widths of n_cols (Theil and Sen), for
 * what stands between the matmuls grows with the width, and noise does not. */
static void straighten(struct op_table *table, uint32_t n_cols)
{
    double x[SPACE_MAX_LEVELS + 1], y[SPACE_MAX_LEVELS + 1];
    double slope[SPACE_MAX_LEVELS * (SPACE_MAX_LEVELS + 1) / 2];
    size_t n = 0, n_slopes = 0;
    for (size_t i = 0; i < table->n && n <= SPACE_MAX_LEVELS; i++) {
        if (table->entry[i].op.kind != OP_SILU_MUL || table->entry[i].op.n_cols != n_cols)
            continue;
        x[n] = table->entry[i].op.n_out;
        y[n++] = table->entry[i].ns;
    }
    if (n < 3)
        return;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < i; k++)
            slope[n_slopes++] = (y[i] - y[k]) / (x[i] - x[k]);
    double steep = stats_median(slope, n_slopes);
    for (size_t i = 0; i < n; i++)
        y[i] -= steep * x[i];
    double foot = stats_median(y, n);
    for (size_t i = 0; i < table->n; i++)
        if (table->entry[i].op.kind == OP_SILU_MUL && table->entry[i].op.n_cols == n_cols)
            table->entry[i].ns = foot + steep * table->entry[i].op.n_out;
}

static bool has_rest(const struct op *op)
{
    return op->kind == OP_ATTENTION || op->kind == OP_SILU_MUL || op->kind == OP_EMBED;
}

static int measure_rests(struct measuring *m, struct err *err)
{
    struct stage stage = {0};
    struct op_table *table = m->table;
    int status = stage_open(m, &stage, err);
    for (size_t i = 0; i < table->n && status == 0; i++)
        if (has_rest(&table->entry[i].op))
            table->entry[i].ns = rest_of(m, &stage, &table->entry[i].op);
    stage_close(&stage);
    for (size_t i = 0; i < table->n && status == 0; i++) {
        bool first = true;
        for (size_t k = 0; k < i; k++)
            first = first && table->entry[k].op.n_cols != table->entry[i].op.n_cols;
        if (first)
            straighten(table, table->entry[i].op.n_cols);
    }
    for (size_t i = 0; i < table->n && status == 0; i++) {
        struct op_entry *entry = &table->entry[i];
        if (entry->op.kind == OP_MATMUL)
            continue;
        /* A difference of two measured times may fall below nothing by noise. */
        entry->ns = entry->median_ns = entry->near_ns = entry->ns > 0 ? entry->ns : 0;
        entry->n_samples = m->n_rounds;
    }
    return status;
}

struct op_table *op_table_measure(const struct space *space, const struct workload *workloads,
                                  size_t n_workloads, const struct kernels *kernels,
                                  struct team *team, const struct device_class *device,
                                  uint32_t n_rounds, struct err *err)
{
    struct measuring m = {.space = space,
                          .workloads = workloads,
                          .n_workloads = n_workloads,
                          .kernels = kernels,
                          .team = team};
    m.n_rounds = n_rounds < 3 ? 3 : n_rounds > MAX_ROUNDS ? MAX_ROUNDS : n_rounds;
    m.table = op_table_new(&space->geometry, device, err);
    int status = m.table == NULL ? -1 : list_ops(m.table, space, workloads, n_workloads, err);
    if (status == 0)
        status = prepare(&m, err);
    if (status == 0)
        status = measure_matmuls(&m, err);
    if (status == 0)
        status = measure_rests(&m, err);
    for (int f = 0; f < N_FORMATS; f++)
        free(m.weights[f]);
    free(m.acts);
    free(m.out);
    if (status == 0)
        return m.table;
    op_table_destroy(m.table);
    return NULL;
}

struct op_table *op_table_ensure(const char *path, const struct space *space,
                                 const struct workload *workloads, size_t n_workloads,
                                 const struct kernels *kernels, struct team *team,
                                 struct quiet *quiet, const struct device_class *device,
                                 struct err *err)
{
    struct op_table *table = op_table_load(path, device, NULL);
    if (table != NULL && op_table_covers(table, space, workloads, n_workloads))
        return table;
    op_table_destroy(table);
    if (quiet_probe_begin(quiet, err) != 0)
        return NULL;
    table =
        op_table_measure(space, workloads, n_workloads, kernels, team, device, USUAL_ROUNDS, err);
    quiet_probe_end(quiet);
    if (table == NULL || op_table_save(table, path, err) != 0) {
        op_table_destroy(table);
        return NULL;
    }
    log_info("op-table", "measured ops=%zu", op_table_n(table));
    return table;
}
