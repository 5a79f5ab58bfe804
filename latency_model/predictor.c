/* predictor.c - terms of a genome and the fit of their factors. */
#include "latency_model/predictor.h"

#include "space/base/err.h"
#include "space/base/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(N_PREDICTOR_TERMS <= TIME_FIT_MAX_TERMS, "every term has a weight");

const char *predictor_term_name(int term)
{
    switch (term) {
    case PREDICTOR_PASS:
        return "per pass";
    case PREDICTOR_LAYER:
        return "per layer";
    case PREDICTOR_OPERATION:
        return "per operation";
    case PREDICTOR_SHARED:
        return "per shared byte";
    case PREDICTOR_MEMORY:
        return "per memory byte";
    default:
        return op_class_name(term);
    }
}

/* Of sums that may be a unit's: its weights' share of what the whole has beyond a cache. */
static void set_terms(const struct op_table *table, const struct op_sums *sums, double n_passes,
                      double n_layers, struct predictor_point *point)
{
    double near_bytes = (double)op_table_near_bytes(table), whole = sums->whole_bytes;
    double share = sums->weight_bytes / whole;

    point->table_ns = 0;
    for (int class = 0; class < N_OP_CLASSES; class ++) {
        point->term[class] = sums->ns[class];
        point->table_ns += sums->ns[class];
    }
    point->term[PREDICTOR_PASS] = n_passes;
    point->term[PREDICTOR_LAYER] = n_layers;
    point->term[PREDICTOR_OPERATION] = sums->n_matmuls;
    point->term[PREDICTOR_SHARED] =
        share * fmax(0, fmin(whole, OP_TABLE_FAR * near_bytes) - near_bytes);
    point->term[PREDICTOR_MEMORY] = share * fmax(0, whole - (double)op_table_last_bytes(table));
}

bool predictor_terms(const struct op_table *table, const struct genome *genome,
                     const struct geometry *geometry, const struct workload *workload,
                     struct predictor_point *point)
{
    struct op_sums sums;

    if (!op_table_sums(table, genome, geometry, workload, &sums))
        return false;
    set_terms(table, &sums, 1, genome_layers_kept(genome), point);
    return true;
}

/* What a unit counts of its layer: nothing where it is gone, else all of it or half. */
static double layer_share(const struct genome *genome, uint32_t unit)
{
    uint32_t layer = unit / 2;

    if (layer >= genome->n_layers)
        return 0;
    bool attn = genome->attn[layer].kv_groups > 0, ffn = genome->ffn[layer].width > 0;
    bool present = unit % 2 == 0 ? attn : ffn;
    return !present ? 0 : attn && ffn ? 0.5 : 1;
}

bool predictor_unit_terms(const struct op_table *table, const struct genome *genome,
                          const struct geometry *geometry, const struct workload *workload,
                          uint32_t unit, struct predictor_point *point)
{
    struct op_sums sums;

    if (!op_table_unit_sums(table, genome, geometry, workload, unit, &sums))
        return false;
    set_terms(table, &sums, unit == 2 * genome->n_layers, layer_share(genome, unit), point);
    return true;
}

int predictor_fit(struct predictor *p, const struct workload *workload,
                  const struct predictor_point *points, size_t n, struct err *err)
{
    double prior[N_PREDICTOR_TERMS] = {0};
    double *terms = calloc(n + 1, sizeof points->term), *ns = calloc(n + 1, sizeof *ns);
    int status = -1;

    *p = (struct predictor){.workload = *workload, .n = n};
    p->point = calloc(n + 1, sizeof *p->point);
    for (int class = 0; class < N_OP_CLASSES; class ++)
        prior[class] = 1;
    if (terms == NULL || ns == NULL || p->point == NULL) {
        err_set(err, ERR_MEMORY, "latency model: out of memory");
    } else {
        for (size_t i = 0; i < n; i++) {
            p->point[i] = points[i];
            ns[i] = points[i].ns;
            memcpy(terms + i * N_PREDICTOR_TERMS, points[i].term, sizeof points[i].term);
        }
        status = time_fit_make(&p->fit, n, N_PREDICTOR_TERMS, terms, ns, prior, err);
    }
    free(ns);
    free(terms);
    if (status != 0)
        predictor_fini(p);
    return status;
}

void predictor_fini(struct predictor *p)
{
    time_fit_fini(&p->fit);
    free(p->point);
    free(p->held_out);
    *p = (struct predictor){0};
}

double predictor_ns(const struct predictor *p, const double term[N_PREDICTOR_TERMS])
{
    return time_fit_predict(&p->fit, term);
}

void predictor_interval(const struct predictor *p, const double term[N_PREDICTOR_TERMS],
                        double share, double *lo_ns, double *hi_ns)
{
    time_fit_interval(&p->fit, term, share, lo_ns, hi_ns);
}

int predictor_hold_out(struct predictor *p, const struct predictor_point *points, size_t n,
                       struct err *err)
{
    struct predictor_point *copy = calloc(n + 1, sizeof *copy);

    if (copy == NULL) {
        err_set(err, ERR_MEMORY, "latency model: out of memory");
        return -1;
    }
    memcpy(copy, points, n * sizeof *copy);
    free(p->held_out);
    p->held_out = copy;
    p->n_held_out = n;
    return 0;
}

/* --- choice --- */

int predictor_choose(const struct predictor_point *const points[2], size_t n, size_t n_given,
                     size_t n_wanted, size_t *chosen, size_t *n_chosen, struct err *err)
{
    double *terms = calloc(n + 1, sizeof points[0]->term), *about = calloc(n + 1, sizeof *about);
    size_t half = n_wanted > n_given ? n_given + (n_wanted - n_given) / 2 : n_wanted;
    bool there = terms != NULL && about != NULL;

    *n_chosen = n_given;
    for (int w = 0; w < 2 && there && *n_chosen > 0; w++) {
        for (size_t i = 0; i < n; i++) {
            memcpy(terms + i * N_PREDICTOR_TERMS, points[w][i].term, sizeof points[w][i].term);
            /* The sum of the op table: what is known before anything is measured. */
            about[i] = 1 + points[w][i].table_ns;
        }
        *n_chosen = time_fit_choose(n, N_PREDICTOR_TERMS, terms, about, *n_chosen,
                                    w == 0 ? half : n_wanted, chosen);
    }
    free(about);
    free(terms);
    if (there && *n_chosen > 0)
        return 0;
    err_set(err, ERR_MEMORY, "latency model: out of memory");
    return -1;
}

/* --- accuracy --- */

void predictor_judge(const struct predictor *p, const struct predictor_point *points, size_t n,
                     struct predictor_accuracy *accuracy)
{
    double *column = calloc(3 * n + 1, sizeof *column), share = 1 / (double)n;
    double *got = column, *table = column + n, *want = column + 2 * n;

    *accuracy = (struct predictor_accuracy){
        .n = n, .mape = NAN, .spearman = NAN, .table_mape = NAN, .table_spearman = NAN};
    if (n == 0 || column == NULL) {
        free(column);
        return;
    }
    accuracy->mape = accuracy->table_mape = 0;
    for (size_t i = 0; i < n; i++) {
        double lo, hi, miss;
        got[i] = predictor_ns(p, points[i].term);
        table[i] = points[i].table_ns;
        want[i] = points[i].ns;
        miss = fabs(got[i] / want[i] - 1);
        predictor_interval(p, points[i].term, 0.9, &lo, &hi);
        accuracy->mape += miss * share;
        accuracy->table_mape += fabs(table[i] / want[i] - 1) * share;
        accuracy->within_5 += (miss <= 0.05) * share;
        accuracy->within_10 += (miss <= 0.10) * share;
        accuracy->coverage += (want[i] >= lo && want[i] <= hi) * share;
    }
    accuracy->spearman = stats_spearman(got, want, n);
    accuracy->table_spearman = stats_spearman(table, want, n);
    free(column);
}
