#include "cluster/forecast.h"

#include "space/base/err.h"
#include "space/base/file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct workload *workload_of(const struct forecast *f, int w)
{
    return w == FORECAST_DECODE ? &f->study->decode : &f->study->prefill;
}

/* --- life --- */

void forecast_init(struct forecast *f, const struct study *study, const struct op_table *ops)
{
    *f = (struct forecast){.study = study, .ops = ops};
}

int forecast_open_model(struct forecast *f, const struct predictor_origin *origin, const char *path,
                        struct err *err)
{
    struct predictor read[FORECAST_WORKLOADS];

    if (!file_exists(path))
        return 0;
    if (predictor_load(read, origin, path, err) != 0)
        return -1;
    bool fits = true;
    for (int w = 0; w < FORECAST_WORKLOADS; w++)
        fits = fits && workload_equal(&read[w].workload, workload_of(f, w));
    for (int w = 0; w < FORECAST_WORKLOADS; w++) {
        f->model[w].is_given = fits;
        if (fits)
            f->model[w].given = read[w];
        else
            predictor_fini(&read[w]);
    }
    return fits;
}

void forecast_fini(struct forecast *f)
{
    for (int w = 0; w < FORECAST_WORKLOADS; w++) {
        predictor_fini(&f->model[w].given);
        predictor_fini(&f->model[w].own);
        free(f->model[w].point);
    }
    *f = (struct forecast){0};
}

/* --- asking --- */

static double given_ns(const struct forecast_model *model, const struct predictor_point *point)
{
    return model->is_given ? predictor_ns(&model->given, point->term) : point->table_ns;
}

double forecast_ns(const struct forecast *f, const struct genome *genome, int w)
{
    const struct forecast_model *model = &f->model[w];
    struct predictor_point point;

    if (!predictor_terms(f->ops, genome, &f->study->geometry, workload_of(f, w), &point))
        return NAN;
    return model->is_own ? predictor_ns(&model->own, point.term) : given_ns(model, &point);
}

double forecast_unit_ns(const struct forecast *f, const struct genome *genome, int w, uint32_t unit)
{
    struct predictor_point point;

    if (!predictor_unit_terms(f->ops, genome, &f->study->geometry, workload_of(f, w), unit, &point))
        return NAN;
    return given_ns(&f->model[w], &point);
}

bool forecast_is_modelled(const struct forecast *f, int w)
{
    return f->model[w].is_own || f->model[w].is_given;
}

/* --- learning --- */

static int make_room(struct forecast *f, struct err *err)
{
    size_t room = f->room > 0 ? 2 * f->room : 64;

    if (f->n < f->room)
        return 0;
    for (int w = 0; w < FORECAST_WORKLOADS; w++) {
        struct predictor_point *more = realloc(f->model[w].point, room * sizeof *more);
        if (more == NULL) {
            err_set(err, ERR_MEMORY, "forecast: out of memory");
            return -1;
        }
        f->model[w].point = more;
    }
    f->room = room;
    return 0;
}

int forecast_learn(struct forecast *f, const struct genome *genome,
                   const double ns[FORECAST_WORKLOADS], struct err *err)
{
    if (make_room(f, err) != 0)
        return -1;
    for (int w = 0; w < FORECAST_WORKLOADS; w++) {
        struct predictor_point *point = &f->model[w].point[f->n];
        /* What the table does not know teaches nothing. */
        if (!predictor_terms(f->ops, genome, &f->study->geometry, workload_of(f, w), point))
            return 0;
        point->id = (struct id128){0};
        point->ns = ns[w];
    }
    f->n++;
    return 0;
}

/* How many points the newest fit should rest on: 24, 30, 37, ...; 0: none yet. */
static size_t count_due(size_t n)
{
    size_t due = 0;

    for (size_t next = FORECAST_LEAST; next <= n; next += next / 4)
        due = next;
    return due;
}

/* Root of the mean squared log error of what there was to begin with. */
static double error_of_given(const struct forecast_model *model,
                             const struct predictor_point *points, size_t n)
{
    double square = 0;

    for (size_t i = 0; i < n; i++) {
        double miss = log(given_ns(model, &points[i]) / points[i].ns);
        square += miss * miss / (double)n;
    }
    return sqrt(square);
}

static int refit_one(struct forecast *f, int w, size_t n, struct err *err)
{
    struct forecast_model *model = &f->model[w];
    size_t first = n > FORECAST_MOST ? n - FORECAST_MOST : 0;
    struct predictor fitted;

    if (predictor_fit(&fitted, workload_of(f, w), model->point + first, n - first, err) != 0)
        return -1;
    predictor_fini(&model->own);
    model->own = fitted;
    model->own_error = time_fit_error(&fitted.fit);
    model->given_error = error_of_given(model, model->point + first, n - first);
    model->is_own = model->own_error < model->given_error;
    return 0;
}

int forecast_refit(struct forecast *f, struct err *err)
{
    size_t due = count_due(f->n);

    if (due == f->n_fitted)
        return 0;
    f->n_fitted = due;
    for (int w = 0; w < FORECAST_WORKLOADS; w++)
        if (refit_one(f, w, due, err) != 0)
            return -1;
    return 1;
}

/* --- telling --- */

const char *forecast_describe(const struct forecast *f, char text[FORECAST_TEXT])
{
    size_t used = 0;

    text[0] = '\0';
    for (int w = 0; w < FORECAST_WORKLOADS; w++) {
        const struct forecast_model *model = &f->model[w];
        char name[32], what[96];
        if (model->is_own)
            snprintf(what, sizeof what, "fitted to %zu candidates, %.1f %% instead of %.1f %%",
                     model->own.n, 100 * model->own_error, 100 * model->given_error);
        else if (model->is_given)
            snprintf(what, sizeof what, "latency model of %zu candidates", model->given.n);
        else
            snprintf(what, sizeof what, "op table");
        int n = snprintf(text + used, FORECAST_TEXT - used, "%s%s %s", w > 0 ? "; " : "",
                         workload_format(workload_of(f, w), name), what);
        used += n > 0 && used + (size_t)n < FORECAST_TEXT ? (size_t)n : 0;
    }
    return text;
}
