#include "tests/bench/call_log.h"

#include "space/base/clock.h"
#include "space/base/err.h"

#include <stdlib.h>
#include <string.h>

/* One call.  Which of the fields mean something hangs on the function. */
enum function {
    CALL_MATMUL,
    CALL_PACK,
    CALL_STORE,
    CALL_ATTEND,
    CALL_UNPACK,
    CALL_NORM,
    CALL_GATE,
    CALL_SOFTMAX,
    CALL_ROPE,
    CALL_ADD
};

struct call {
    uint8_t function, format, act;
    float number;
    const void *in[3];
    void *out, *room;
    float *log_sums;
    size_t n[6];
};

/* What a member called, by kind. */
struct list {
    struct call *call;
    size_t n, room;
};

struct call_log {
    const struct kernels *kernels;
    struct kernels noting;
    struct team *team;
    bool on, failed;
    struct list (*member)[N_CALL_KINDS];
};

/* The functions of a set take no context. */
static struct call_log *current;
static _Thread_local struct list *own;

const char *call_kind_name(enum call_kind kind)
{
    static const char *const names[N_CALL_KINDS] = {"products", "attention", "packing",
                                                    "norms",    "gates",     "small"};
    return names[kind];
}

static void note(enum call_kind kind, const struct call *call)
{
    if (!current->on || own == NULL)
        return;
    struct list *list = &own[kind];
    if (list->n == list->room) {
        size_t room = list->room > 0 ? 2 * list->room : 1024;
        struct call *more = realloc(list->call, room * sizeof *more);
        if (more == NULL) {
            current->failed = true;
            return;
        }
        list->call = more;
        list->room = room;
    }
    list->call[list->n++] = *call;
}

/* ---- the set -------------------------------------------------------------------------------- */

static void matmul(enum format format, enum act_format act, const void *w, size_t row_bytes,
                   size_t n_rows, size_t n_in, const void *x, size_t act_bytes, size_t n_cols,
                   float *out, size_t out_stride)
{
    note(CALLS_PRODUCT,
         &(struct call){.function = CALL_MATMUL,
                        .format = (uint8_t)format,
                        .act = (uint8_t)act,
                        .in = {w, x},
                        .out = out,
                        .n = {row_bytes, n_rows, n_in, act_bytes, n_cols, out_stride}});
    current->kernels->matmul[format][act](w, row_bytes, n_rows, n_in, x, act_bytes, n_cols, out,
                                          out_stride);
}

static void pack(enum format format, enum act_format act, const float *x, size_t n_in, void *packed)
{
    note(CALLS_PACK, &(struct call){.function = CALL_PACK,
                                    .format = (uint8_t)format,
                                    .act = (uint8_t)act,
                                    .in = {x},
                                    .out = packed,
                                    .n = {n_in}});
    current->kernels->pack[format][act](x, n_in, packed);
}

static void store(enum format format, const float *x, size_t n, void *row)
{
    note(CALLS_SMALL,
         &(struct call){
             .function = CALL_STORE, .format = (uint8_t)format, .in = {x}, .out = row, .n = {n}});
    current->kernels->store[format](x, n, row);
}

static void attend(enum format format, const struct attention *a, void *room)
{
    note(CALLS_ATTEND, &(struct call){.function = CALL_ATTEND,
                                      .format = (uint8_t)format,
                                      .in = {a->keys, a->values, a->queries},
                                      .out = a->out,
                                      .log_sums = a->log_sums,
                                      .room = room,
                                      .n = {a->head_dim, a->n_heads, a->n_positions, a->see,
                                            a->queries_stride, a->out_stride}});
    current->kernels->attend[format](a, room);
}

static void unpack(enum format format, const void *w, size_t n, float *y)
{
    note(CALLS_SMALL,
         &(struct call){
             .function = CALL_UNPACK, .format = (uint8_t)format, .in = {w}, .out = y, .n = {n}});
    current->kernels->unpack[format](w, n, y);
}

/* What is above, for one format: the entries of a set know theirs without being told. */
#define ENTRY(name, of, takes, ...)                                                                \
    static void name takes                                                                         \
    {                                                                                              \
        of(__VA_ARGS__);                                                                           \
    }
#define MATMUL_TAKES                                                                               \
    (const void *w, size_t row_bytes, size_t n_rows, size_t n_in, const void *x, size_t act_bytes, \
     size_t n_cols, float *out, size_t out_stride)
#define MATMUL_PASSES w, row_bytes, n_rows, n_in, x, act_bytes, n_cols, out, out_stride
#define PACK_TAKES    (const float *x, size_t n_in, void *packed)
#define PACK_PASSES   x, n_in, packed
#define OF_FORMAT(name, ggml_type, block, bytes)                                                   \
    ENTRY(matmul_float_##name, matmul, MATMUL_TAKES, FORMAT_##name, ACT_FLOAT, MATMUL_PASSES)      \
    ENTRY(matmul_q8_##name, matmul, MATMUL_TAKES, FORMAT_##name, ACT_Q8, MATMUL_PASSES)            \
    ENTRY(pack_float_##name, pack, PACK_TAKES, FORMAT_##name, ACT_FLOAT, PACK_PASSES)              \
    ENTRY(pack_q8_##name, pack, PACK_TAKES, FORMAT_##name, ACT_Q8, PACK_PASSES)                    \
    ENTRY(store_##name, store, (const float *x, size_t n, void *row), FORMAT_##name, x, n, row)    \
    ENTRY(attend_##name, attend, (const struct attention *a, void *room), FORMAT_##name, a, room)  \
    ENTRY(unpack_##name, unpack, (const void *w, size_t n, float *y), FORMAT_##name, w, n, y)
FORMATS(OF_FORMAT)

static void rms_norm(float *y, const float *x, const float *gain, size_t n, float eps)
{
    note(CALLS_NORM,
         &(struct call){.function = CALL_NORM, .number = eps, .in = {x, gain}, .out = y, .n = {n}});
    current->kernels->rms_norm(y, x, gain, n, eps);
}

static void silu_mul(float *y, const float *gate, const float *up, size_t n)
{
    note(CALLS_GATE, &(struct call){.function = CALL_GATE, .in = {gate, up}, .out = y, .n = {n}});
    current->kernels->silu_mul(y, gate, up, n);
}

static float softmax(float *x, size_t n)
{
    note(CALLS_ATTEND, &(struct call){.function = CALL_SOFTMAX, .out = x, .n = {n}});
    return current->kernels->softmax(x, n);
}

static void rope(float *x, const float *cos_sin, size_t n_pairs)
{
    note(CALLS_SMALL,
         &(struct call){.function = CALL_ROPE, .in = {cos_sin}, .out = x, .n = {n_pairs}});
    current->kernels->rope(x, cos_sin, n_pairs);
}

static void add_scaled(float *y, const float *x, float scale, size_t n)
{
    note(CALLS_SMALL,
         &(struct call){.function = CALL_ADD, .number = scale, .in = {x}, .out = y, .n = {n}});
    current->kernels->add_scaled(y, x, scale, n);
}

/* In the place of every entry that the set has. */
static void fill_noting(struct kernels *set)
{
#define REPLACE(entry, noting)                                                                     \
    if (set->entry != NULL)                                                                        \
        set->entry = noting;
#define ENTRIES(name, ggml_type, block, bytes)                                                     \
    REPLACE(matmul[FORMAT_##name][ACT_FLOAT], matmul_float_##name)                                 \
    REPLACE(matmul[FORMAT_##name][ACT_Q8], matmul_q8_##name)                                       \
    REPLACE(pack[FORMAT_##name][ACT_FLOAT], pack_float_##name)                                     \
    REPLACE(pack[FORMAT_##name][ACT_Q8], pack_q8_##name)                                           \
    REPLACE(store[FORMAT_##name], store_##name)                                                    \
    REPLACE(attend[FORMAT_##name], attend_##name)                                                  \
    REPLACE(unpack[FORMAT_##name], unpack_##name)
    FORMATS(ENTRIES)
    set->rms_norm = rms_norm;
    set->silu_mul = silu_mul;
    set->softmax = softmax;
    set->rope = rope;
    set->add_scaled = add_scaled;
}

/* ---- the log -------------------------------------------------------------------------------- */

static void take_list(void *arg, unsigned member, unsigned n_members)
{
    struct call_log *log = arg;

    (void)n_members;
    own = log->member != NULL ? log->member[member] : NULL;
}

struct call_log *call_log_create(const struct kernels *kernels, struct team *team, struct err *err)
{
    struct call_log *log = calloc(1, sizeof *log);

    if (log == NULL || (log->member = calloc(team_size(team), sizeof *log->member)) == NULL) {
        err_set(err, ERR_MEMORY, "call log: out of memory");
        free(log);
        return NULL;
    }
    log->kernels = kernels;
    log->noting = *kernels;
    log->team = team;
    fill_noting(&log->noting);
    current = log;
    team_run(team, take_list, log);
    return log;
}

void call_log_destroy(struct call_log *log)
{
    if (log == NULL)
        return;
    for (unsigned m = 0; m < team_size(log->team); m++)
        for (int kind = 0; kind < N_CALL_KINDS; kind++)
            free(log->member[m][kind].call);
    free(log->member);
    log->member = NULL;
    team_run(log->team, take_list, log);
    free(log);
}

const struct kernels *call_log_kernels(const struct call_log *log)
{
    return &log->noting;
}

void call_log_note(struct call_log *log, bool on)
{
    log->on = on;
    if (!on)
        return;
    log->failed = false;
    for (unsigned m = 0; m < team_size(log->team); m++)
        for (int kind = 0; kind < N_CALL_KINDS; kind++)
            log->member[m][kind].n = 0;
}

size_t call_log_n(const struct call_log *log, enum call_kind kind)
{
    size_t n = 0;

    for (unsigned m = 0; m < team_size(log->team); m++)
        n += log->member[m][kind].n;
    return log->failed ? 0 : n;
}

static void do_call(const struct kernels *set, const struct call *c)
{
    switch ((enum function)c->function) {
    case CALL_MATMUL:
        set->matmul[c->format][c->act](c->in[0], c->n[0], c->n[1], c->n[2], c->in[1], c->n[3],
                                       c->n[4], c->out, c->n[5]);
        break;
    case CALL_PACK:
        set->pack[c->format][c->act](c->in[0], c->n[0], c->out);
        break;
    case CALL_STORE:
        set->store[c->format](c->in[0], c->n[0], c->out);
        break;
    case CALL_ATTEND:
        set->attend[c->format](&(struct attention){.keys = c->in[0],
                                                   .values = c->in[1],
                                                   .queries = c->in[2],
                                                   .out = c->out,
                                                   .log_sums = c->log_sums,
                                                   .head_dim = c->n[0],
                                                   .n_heads = c->n[1],
                                                   .n_positions = c->n[2],
                                                   .see = c->n[3],
                                                   .queries_stride = c->n[4],
                                                   .out_stride = c->n[5]},
                               c->room);
        break;
    case CALL_UNPACK:
        set->unpack[c->format](c->in[0], c->n[0], c->out);
        break;
    case CALL_NORM:
        set->rms_norm(c->out, c->in[0], c->in[1], c->n[0], c->number);
        break;
    case CALL_GATE:
        set->silu_mul(c->out, c->in[0], c->in[1], c->n[0]);
        break;
    case CALL_SOFTMAX:
        set->softmax(c->out, c->n[0]);
        break;
    case CALL_ROPE:
        set->rope(c->out, c->in[0], c->n[0]);
        break;
    case CALL_ADD:
        set->add_scaled(c->out, c->in[0], c->number, c->n[0]);
        break;
    }
}

struct run {
    struct call_log *log;
    enum call_kind kind;
    uint32_t times;
};

static void run_member(void *arg, unsigned member, unsigned n_members)
{
    const struct run *run = arg;
    const struct list *list = &run->log->member[member][run->kind];

    (void)n_members;
    for (uint32_t k = 0; k < run->times; k++)
        for (size_t i = 0; i < list->n; i++)
            do_call(run->log->kernels, &list->call[i]);
}

double call_log_run(struct call_log *log, enum call_kind kind, uint32_t times)
{
    struct run run = {log, kind, times};
    int64_t begin = clock_now_ns();

    team_run(log->team, run_member, &run);
    return (double)(clock_now_ns() - begin);
}
