#include "tests/bench/cost.h"

#include "space/base/err.h"
#include "tests/bench/variant_list.h"

#include <math.h>
#include <stdlib.h>

static const struct {
    const char *name, *formula;
    bool is_serial;
} terms[N_COST_TERMS] = {
    [COST_FORWARD] = {"forward", "N P", false},
    [COST_MOMENTS] = {"moments", "N n^2 / 2", false},
    [COST_ORDER] = {"order", "2 n^3", true},
    [COST_FACTOR] = {"factor", "n^3 / 6", true},
    [COST_REPAIR] = {"repair", "k^3 / 6 + r k n", true},
    [COST_FEEDBACK] = {"feedback", "4.5 r n^2", false},
    [COST_SEARCH] = {"search", "r n", false},
    [COST_JUDGE] = {"judge", "2 r n^2", true},
    [COST_WRITE] = {"write", "bytes", false},
};

const char *cost_name(enum cost_term term)
{
    return terms[term].name;
}

const char *cost_formula(enum cost_term term)
{
    return terms[term].formula;
}

bool cost_is_serial(enum cost_term term)
{
    return terms[term].is_serial;
}

double cost_forward(double n_tokens, double n_weights)
{
    return n_tokens * n_weights;
}

double cost_moments(double n_tokens, double n)
{
    return n_tokens * n * n / 2;
}

double cost_order(double n)
{
    return 2 * n * n * n;
}

double cost_factor(double n)
{
    return n * n * n / 6;
}

double cost_repair(double n_out, double n_kept, double n)
{
    return n_kept * n_kept * n_kept / 6 + n_out * n_kept * n;
}

double cost_feedback(double n_out, double n)
{
    return 4.5 * n_out * n * n;
}

double cost_search(double n_out, double n)
{
    return n_out * n;
}

double cost_judge(double n_out, double n)
{
    return 2 * n_out * n * n;
}

/* --- a whole space ---------------------------------------------------------------------------- */

/* Inputs that a part's matrices have in the parent. */
static double full_inputs(const struct geometry *g, enum part part)
{
    if (part == PART_O)
        return (double)g->n_heads * g->head_dim;
    return part == PART_DOWN ? g->d_ff : g->d_model;
}

struct shape {
    double n_out, n_in;
};

/* The matrices of a part, as variant.h cuts them. */
static int shapes_of(const struct geometry *g, const struct variant_key *key, struct shape shape[3])
{
    double kv = (double)key->kept * g->head_dim, q = kv * key->heads_per_group, d = g->d_model;

    switch (key->part) {
    case PART_QKV:
        shape[0] = (struct shape){q, d};
        shape[1] = shape[2] = (struct shape){kv, d};
        return 3;
    case PART_O:
        shape[0] = (struct shape){d, q};
        return 1;
    case PART_GATE_UP:
        shape[0] = shape[1] = (struct shape){key->kept, d};
        return 2;
    case PART_DOWN:
        shape[0] = (struct shape){d, key->kept};
        return 1;
    default:
        shape[0] = (struct shape){g->n_vocab, d};
        return 1;
    }
}

static void add_variant(const struct geometry *g, const struct variant_key *key, double *work,
                        double *builder_bytes)
{
    struct shape shape[3];
    int n_matrices = shapes_of(g, key, shape);
    bool heard = key->part != PART_EMBD || g->tied;
    double full = full_inputs(g, key->part);

    for (int m = 0; m < n_matrices; m++) {
        double n_out = shape[m].n_out, n_in = shape[m].n_in;
        bool narrower = n_in < full;
        work[COST_WRITE] += n_out * (double)format_row_bytes(key->format, (size_t)n_in);
        if (format_is_quantized(key->format))
            work[COST_SEARCH] += cost_search(n_out, n_in);
        if (!heard)
            continue;
        work[COST_FACTOR] += cost_factor(n_in);
        if (format_is_quantized(key->format))
            work[COST_FEEDBACK] += cost_feedback(n_out, n_in);
        if (narrower)
            work[COST_REPAIR] += cost_repair(n_out, n_in, full);
        work[COST_JUDGE] += cost_judge(n_out, full);
        /* The rows twice as floats; H whole, of what stays, and its factor, as doubles. */
        double bytes =
            4 * n_out * (full + (narrower ? n_in : 0)) + 8 * full * full + 16 * n_in * n_in;
        *builder_bytes = fmax(*builder_bytes, bytes);
    }
}

static void add_calibration(const struct geometry *g, double n_tokens, double *work)
{
    double d = g->d_model, ff = g->d_ff, o = (double)g->n_heads * g->head_dim;
    double kv = (double)g->n_kv_heads * g->head_dim;
    double weights = d * (2 * o + 2 * kv + 3 * ff);

    work[COST_FORWARD] = g->n_layers * cost_forward(n_tokens, weights);
    work[COST_MOMENTS] = g->n_layers * (2 * cost_moments(n_tokens, d) + cost_moments(n_tokens, o) +
                                        cost_moments(n_tokens, ff)) +
                         cost_moments(n_tokens, d);
    work[COST_ORDER] = g->n_layers * (2 * cost_order(o) + cost_order(ff));
}

int cost_of_space(const struct geometry *g, double n_tokens, double work[N_COST_TERMS],
                  double *n_variants, double *builder_bytes, struct err *err)
{
    struct space *space = malloc(sizeof *space);
    struct space_limits limits;
    struct variant_list list = {0};
    int status = -1;

    for (int t = 0; t < N_COST_TERMS; t++)
        work[t] = 0;
    *builder_bytes = 0;
    if (space == NULL) {
        err_set(err, ERR_MEMORY, "cost: out of memory");
        return -1;
    }
    space_default_limits(&limits, g, PROFILE_GGUF_HETERO);
    if (space_init(space, g, &limits, err) == 0 && variant_list_of_space(&list, space, err) == 0) {
        add_calibration(g, n_tokens, work);
        for (size_t i = 0; i < list.n; i++)
            add_variant(g, &list.key[i], work, builder_bytes);
        *n_variants = (double)list.n;
        status = 0;
    }
    variant_list_fini(&list);
    free(space);
    return status;
}
