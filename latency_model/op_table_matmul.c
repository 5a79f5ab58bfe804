/* op_table_matmul.c - every matmul alone: the team runs it over and over on the successive matrices
 * of a working set, so that its weights come from where they come from in decoding; and the rate at
 * which the same bytes can merely be read. */
#include "evaluator/compression/quantize.h"
#include "latency_model/op_table_measuring.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "space/base/rng.h"
#include "space/base/stats.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WORKING_SET_MAX (512u << 20) /* a larger one comes from memory all the same */
#define SAMPLE_NS       150000.0     /* wanted length of a sample */
#define QUICK_NS        10000000000  /* rounds that take less are made three times as often */

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

int measuring_prepare(struct measuring *m, struct err *err)
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

void measuring_fini(struct measuring *m)
{
    for (int f = 0; f < N_FORMATS; f++)
        free(m->weights[f]);
    free(m->acts);
    free(m->out);
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

double measuring_far(struct measuring *m, const struct op *op, size_t n_reps)
{
    size_t bytes = matrix_bytes(op), n = m->table->working_set[op->format] / bytes;
    size_t *cursor = &m->cursor[op->format], first = (*cursor + bytes - 1) / bytes;
    *cursor = (first + n_reps) * bytes % m->table->working_set[op->format];
    return time_matrices(m, op, first, n_reps, n);
}

/* Matrices that fit the cores' own caches together, as far as there are so many, each once before
 * the clock starts. */
double measuring_near(struct measuring *m, const struct op *op, size_t n_reps)
{
    size_t most = m->table->working_set[op->format], near = op_table_near_bytes(m->table);
    size_t n = (near < most ? near : most) / matrix_bytes(op);
    time_matrices(m, op, 0, n > 0 ? n : 1, n);
    return time_matrices(m, op, 0, n_reps, n);
}

bool measuring_is_decode(const struct measuring *m, const struct op *op)
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
    return measuring_is_decode(m, op) && matrix_bytes(op) <= op_table_near_bytes(m->table);
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
    double ns =
        fmin(measuring_far(m, op, 1), fmin(measuring_far(m, op, 2), measuring_far(m, op, 2)));
    double reps = ceil(SAMPLE_NS / (ns > 1 ? ns : 1));
    return reps > 512 ? 512 : (size_t)reps;
}

/* p10 of the samples, which are sorted. */
static double fastest(double *sample, uint32_t n)
{
    stats_sort(sample, n);
    return stats_quantile(sample, n, 0.1);
}

/* Times of the rounds, [n][MEASURING_MAX_ROUNDS] each. */
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
        s->far[i * MEASURING_MAX_ROUNDS + r] = measuring_far(m, op, s->reps[i]);
        if (has_near(m, op))
            s->near[i * MEASURING_MAX_ROUNDS + r] = measuring_near(m, op, s->reps[i]);
    }
    for (int f = 0; f < N_FORMATS; f++)
        if (m->weights[f] != NULL)
            s->read[f * MEASURING_MAX_ROUNDS + r] = time_read(m, (enum format)f);
}

static void enter_samples(struct measuring *m, struct samples *s)
{
    struct op_table *table = m->table;
    for (size_t i = 0; i < table->n; i++) {
        struct op_entry *entry = &table->entry[i];
        if (entry->op.kind != OP_MATMUL)
            continue;
        entry->n_samples = s->n_rounds;
        entry->ns = fastest(&s->far[i * MEASURING_MAX_ROUNDS], s->n_rounds);
        entry->median_ns = stats_quantile(&s->far[i * MEASURING_MAX_ROUNDS], s->n_rounds, 0.5);
        entry->near_ns = entry->ns;
        if (has_near(m, &entry->op))
            entry->near_ns =
                fmin(entry->ns, fastest(&s->near[i * MEASURING_MAX_ROUNDS], s->n_rounds));
        if (measuring_is_decode(m, &entry->op))
            entry->bandwidth = (double)account_op_bytes(&entry->op, &table->geometry) / entry->ns;
    }
    for (int f = 0; f < N_FORMATS; f++)
        if (m->weights[f] != NULL)
            table->read_bandwidth[f] =
                stats_median(&s->read[f * MEASURING_MAX_ROUNDS], s->n_rounds);
}

/* Rounds over all matmuls and read bandwidths, so that a slow moment of the machine hits each of
 * them once and not one of them always. */
int measuring_matmuls(struct measuring *m, struct err *err)
{
    struct samples s = {.far = calloc(m->table->n * MEASURING_MAX_ROUNDS, sizeof *s.far),
                        .near = calloc(m->table->n * MEASURING_MAX_ROUNDS, sizeof *s.near),
                        .read = calloc((size_t)N_FORMATS * MEASURING_MAX_ROUNDS, sizeof *s.read),
                        .reps = calloc(m->table->n, sizeof *s.reps)};
    int status = s.far != NULL && s.near != NULL && s.read != NULL && s.reps != NULL ? 0 : -1;
    int64_t start = clock_now_ns();
    if (status != 0) {
        err_set(err, ERR_MEMORY, "op table: out of memory");
    } else {
        while (s.n_rounds < m->n_rounds)
            run_round(m, &s);
        bool quick = clock_now_ns() - start < QUICK_NS;
        while (quick && s.n_rounds < 3 * m->n_rounds && s.n_rounds < MEASURING_MAX_ROUNDS)
            run_round(m, &s);
        enter_samples(m, &s);
    }
    free(s.reps);
    free(s.read);
    free(s.near);
    free(s.far);
    return status;
}
