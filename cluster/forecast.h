/* forecast.h - how long a candidate will take, as far as a search can tell before it is measured.
 *
 * To begin with that is what a latency model of this machine and geometry says (predictor.h), where
 * the study has one, and the sum of the op table else.  From 24 quiet measurements on, and again
 * whenever there are a quarter more, a model is fitted to the newest of the search's own; it speaks
 * for a workload while it misses those points by less, each left out in turn, than what was there
 * to begin with.
 *
 * The state is a function of what was learnt in its order, so that a replay brings it back. */
#ifndef KERF_FORECAST_H
#define KERF_FORECAST_H

#include "latency_model/predictor.h"
#include "space/study.h"

struct err;

#define FORECAST_LEAST 24  /* points of the first fit */
#define FORECAST_MOST  128 /* points of any */

enum { FORECAST_DECODE, FORECAST_PREFILL, FORECAST_WORKLOADS };

/* Of one workload. */
struct forecast_model {
    struct predictor given, own;
    bool is_given, is_own;         /* whether there is one; is_own: and it speaks */
    double given_error, own_error; /* root mean square over own's points; given's or the table's */
    struct predictor_point *point; /* [room], in the order learnt */
};

struct forecast {
    const struct study *study;  /* borrowed: workloads and geometry */
    const struct op_table *ops; /* borrowed */
    struct forecast_model model[FORECAST_WORKLOADS];
    size_t n, room;  /* points learnt */
    size_t n_fitted; /* of them when a model was fitted last; 0: never */
};

void forecast_init(struct forecast *forecast, const struct study *study,
                   const struct op_table *ops);
/* Begin with the latency model at `path`.  1; 0 where there is none, or it is of other workloads;
 * -1: it cannot be read, errors of predictor_load. */
int forecast_open_model(struct forecast *forecast, const struct predictor_origin *origin,
                        const char *path, struct err *err);
void forecast_fini(struct forecast *forecast); /* a zeroed struct is fine */

/* ns of a genome; NAN where the op table lacks an operation of it. */
double forecast_ns(const struct forecast *forecast, const struct genome *genome, int workload);
/* The share that one unit causes, as what was there to begin with has it: what is made of it at the
 * start of a search stays true. */
double forecast_unit_ns(const struct forecast *forecast, const struct genome *genome, int workload,
                        uint32_t unit);
/* Whether forecast_ns comes from a model and not from the table's sum. */
bool forecast_is_modelled(const struct forecast *forecast, int workload);

/* What a candidate measured, in quiet.  ERR_MEMORY. */
int forecast_learn(struct forecast *forecast, const struct genome *genome,
                   const double ns[FORECAST_WORKLOADS], struct err *err);
/* Fit to what was learnt, where it is time to.  1: models were fitted; 0; -1 on errors of
 * predictor_fit: what spoke before goes on until the next time. */
int forecast_refit(struct forecast *forecast, struct err *err);

/* "tg32@b1 fitted to 30 candidates (1.3 % instead of 4.1 %), pp128@b1 op table". */
#define FORECAST_TEXT 256
const char *forecast_describe(const struct forecast *forecast, char text[FORECAST_TEXT]);

#endif
