/* attend_ref.c - attention in plain C: one query after the other, each key read twice, once for the
 * largest score and once for its weight; sums in double. */
#include "evaluator/kernels/act_pack.h"
#include "evaluator/kernels/kernel_sets.h"

#include <math.h>

/* What a query becomes where the cache is in blocks, and the places that the work needs. */
struct places {
    double *sum;
    float *query, *row, *packed;
};

static double score(const struct places *p, size_t head_dim)
{
    double sum = 0;
    for (size_t i = 0; i < head_dim; i++)
        sum += (double)p->query[i] * (double)p->row[i];
    return sum;
}

static void round_query(enum format format, const float *x, size_t n, const struct places *p)
{
    if (!format_is_quantized(format)) {
        memcpy(p->query, x, n * sizeof *x);
        return;
    }
    kernels_reference()->pack[format][ACT_Q8](x, n, p->packed);
    struct act_view v = act_view(p->packed, n, act_group(format));
    for (size_t i = 0; i < n; i++)
        p->query[i] = v.d[i / act_group(format)] * (float)v.q[i];
}

static void attend_query(enum format format, const struct attention *a, size_t n_keys,
                         const struct places *p, float *out, float *log_sum)
{
    kernel_unpack_fn *unpack = kernels_reference()->unpack[format];
    size_t n = a->head_dim, row_bytes = format_row_bytes(format, n);
    double most = -INFINITY, total = 0;

    for (size_t k = 0; k < n_keys; k++) {
        unpack((const char *)a->keys + k * row_bytes, n, p->row);
        most = fmax(most, score(p, n));
    }
    for (size_t i = 0; i < n; i++)
        p->sum[i] = 0;
    for (size_t k = 0; k < n_keys; k++) {
        unpack((const char *)a->keys + k * row_bytes, n, p->row);
        double weight = exp(score(p, n) - most);
        total += weight;
        unpack((const char *)a->values + k * row_bytes, n, p->row);
        for (size_t i = 0; i < n; i++)
            p->sum[i] += weight * (double)p->row[i];
    }
    for (size_t i = 0; i < n; i++)
        out[i] = (float)(p->sum[i] / total);
    if (log_sum != NULL)
        *log_sum = (float)(most + log(total));
}

static void attend(enum format format, const struct attention *a, void *room)
{
    double *sum = room;
    float *rest = (float *)(void *)(sum + a->head_dim);
    struct places p = {sum, rest, rest + a->head_dim, rest + 2 * a->head_dim};

    for (size_t t = 0; t < a->n_positions; t++) {
        for (size_t h = 0; h < a->n_heads; h++) {
            round_query(format, a->queries + t * a->queries_stride + h * a->head_dim, a->head_dim,
                        &p);
            attend_query(format, a, a->see + t, &p, a->out + t * a->out_stride + h * a->head_dim,
                         a->log_sums != NULL ? a->log_sums + h : NULL);
        }
    }
}

#define ATTEND(name)                                                                               \
    static void attend_##name##_ref(const struct attention *a, void *room)                         \
    {                                                                                              \
        attend(FORMAT_##name, a, room);                                                            \
    }
ATTEND(Q4_0)
ATTEND(Q8_0)
ATTEND(F16)
ATTEND(F32)

void attend_ref_fill(struct kernels *set)
{
    set->attend[FORMAT_Q4_0] = attend_Q4_0_ref;
    set->attend[FORMAT_Q8_0] = attend_Q8_0_ref;
    set->attend[FORMAT_F16] = attend_F16_ref;
    set->attend[FORMAT_F32] = attend_F32_ref;
}
