/* What a search is told of latencies before they are measured: the table's sum, a model that is
 * there, a model of its own; and that a replay comes to the same. */
#include "cluster/forecast.h"
#include "space/base/err.h"
#include "tests/tap.h"
#include "tests/unit/op_table_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define N_GENOMES 60

static struct study study = {.decode = {WORKLOAD_DECODE, 32, 0, 1},
                             .prefill = {WORKLOAD_PREFILL, 128, 0, 1}};
static struct genome genomes[N_GENOMES];
static struct op_table *table;

/* A machine on which Q4_K takes a fifth longer than in the table, and each layer something; decode
 * only. */
static void measure(size_t i, double ns[FORECAST_WORKLOADS])
{
    struct predictor_point point;

    predictor_terms(table, &genomes[i], &study.geometry, &study.prefill, &point);
    ns[FORECAST_PREFILL] = point.table_ns;
    predictor_terms(table, &genomes[i], &study.geometry, &study.decode, &point);
    ns[FORECAST_DECODE] =
        point.table_ns + 0.2 * point.term[FORMAT_Q4_K] + 4000 * point.term[PREDICTOR_LAYER];
}

static void learn(struct forecast *forecast, size_t first, size_t last, bool refit)
{
    double ns[FORECAST_WORKLOADS];

    for (size_t i = first; i < last; i++) {
        measure(i, ns);
        forecast_learn(forecast, &genomes[i], ns, NULL);
        if (refit)
            forecast_refit(forecast, NULL);
    }
}

/* Mean relative error over genomes that were not learnt. */
static double error_of(const struct forecast *forecast, int workload)
{
    double sum = 0, ns[FORECAST_WORKLOADS];

    for (size_t i = 50; i < N_GENOMES; i++) {
        measure(i, ns);
        sum += fabs(forecast_ns(forecast, &genomes[i], workload) / ns[workload] - 1) / 10;
    }
    return sum;
}

static void test_table(void)
{
    struct forecast forecast;
    char text[FORECAST_TEXT];

    forecast_init(&forecast, &study, table);
    near(forecast_ns(&forecast, &genomes[3], FORECAST_DECODE),
         op_table_predict(table, &genomes[3], &study.geometry, &study.decode), 1e-6,
         "to begin with the table speaks");
    ok(!forecast_is_modelled(&forecast, FORECAST_DECODE), "which is no model");
    ok(strcmp(forecast_describe(&forecast, text), "tg32@b1 op table; pp128@b1 op table") == 0,
       "and says so: %s", text);
    struct genome other = genomes[3];
    double ns[FORECAST_WORKLOADS] = {1, 1};
    other.attn[0].qkv = FORMAT_Q5_0;
    ok(isnan(forecast_ns(&forecast, &other, FORECAST_DECODE)), "what was never timed has no time");
    ok(forecast_learn(&forecast, &other, ns, NULL) == 0 && forecast.n == 0, "and teaches nothing");
    forecast_fini(&forecast);
}

static void test_own(void)
{
    struct forecast live, again;
    char text[FORECAST_TEXT];

    forecast_init(&live, &study, table);
    learn(&live, 0, FORECAST_LEAST - 1, false);
    ok(forecast_refit(&live, NULL) == 0, "too few candidates are no model");
    double before = error_of(&live, FORECAST_DECODE);
    double unit = forecast_unit_ns(&live, &genomes[3], FORECAST_DECODE, 2);
    learn(&live, FORECAST_LEAST - 1, FORECAST_LEAST, false);
    ok(forecast_refit(&live, NULL) == 1 && forecast_is_modelled(&live, FORECAST_DECODE),
       "%d are: %s", FORECAST_LEAST, forecast_describe(&live, text));
    ok(error_of(&live, FORECAST_DECODE) < 0.1 * before,
       "which foretells others to %.2f %% instead of %.2f %%",
       100 * error_of(&live, FORECAST_DECODE), 100 * before);
    ok(!forecast_is_modelled(&live, FORECAST_PREFILL), "where the table was right it goes on");
    near(forecast_unit_ns(&live, &genomes[3], FORECAST_DECODE, 2), unit, 0,
         "units cost what they did at the start");
    ok(forecast_refit(&live, NULL) == 0, "nothing new, no new model");

    learn(&live, FORECAST_LEAST, 50, true);
    ok(live.n_fitted == 46, "the last fit is to 46 of 50 candidates");
    forecast_init(&again, &study, table);
    learn(&again, 0, 50, false);
    forecast_refit(&again, NULL);
    double apart = 0;
    for (size_t i = 0; i < N_GENOMES; i++)
        apart += fabs(forecast_ns(&again, &genomes[i], FORECAST_DECODE) -
                      forecast_ns(&live, &genomes[i], FORECAST_DECODE));
    near(apart, 0, 0, "a replay in one go foretells the same");
    forecast_fini(&again);
    forecast_fini(&live);
}

/* Saves what another search of that machine has fitted: `factor` times too slow. */
static void save_model(const char *path, const struct predictor_origin *origin, double factor)
{
    struct predictor predictor[2];

    for (int w = 0; w < FORECAST_WORKLOADS; w++) {
        const struct workload *workload = w == FORECAST_DECODE ? &study.decode : &study.prefill;
        struct predictor_point points[FORECAST_LEAST] = {0};
        for (size_t i = 0; i < FORECAST_LEAST; i++) {
            double ns[FORECAST_WORKLOADS];
            measure(i, ns);
            predictor_terms(table, &genomes[i], &study.geometry, workload, &points[i]);
            points[i].ns = ns[w] * factor;
        }
        predictor_fit(&predictor[w], workload, points, FORECAST_LEAST, NULL);
    }
    predictor_save(predictor, origin, path, NULL);
    predictor_fini(&predictor[0]);
    predictor_fini(&predictor[1]);
}

static void test_given(void)
{
    char path[] = "/tmp/test_forecast.XXXXXX", text[FORECAST_TEXT];
    struct predictor_origin origin = {"nobody's machine", "plain", study.geometry}, other = origin;
    struct study another = study;
    struct forecast forecast;
    struct err err = {0};
    int fd = mkstemp(path);

    save_model(path, &origin, 1);
    forecast_init(&forecast, &study, table);
    ok(forecast_open_model(&forecast, &origin, "/nowhere", &err) == 0, "no model, no harm");
    ok(forecast_open_model(&forecast, &origin, path, &err) == 1 &&
           error_of(&forecast, FORECAST_DECODE) < 0.001,
       "a model that is there speaks from the start: %s", forecast_describe(&forecast, text));
    double sum = 0, whole = forecast_ns(&forecast, &genomes[3], FORECAST_DECODE);
    for (uint32_t unit = 0; unit <= 2 * study.geometry.n_layers; unit++)
        sum += forecast_unit_ns(&forecast, &genomes[3], FORECAST_DECODE, unit);
    near(sum / whole, 1, 1e-9, "its units add up to the whole");
    forecast_fini(&forecast);

    save_model(path, &origin, 1.1);
    forecast_init(&forecast, &study, table);
    forecast_open_model(&forecast, &origin, path, &err);
    near(error_of(&forecast, FORECAST_DECODE), 0.1, 0.01, "one from another day is off");
    learn(&forecast, 0, FORECAST_LEAST, true);
    ok(error_of(&forecast, FORECAST_DECODE) < 0.01, "and gives way: %s",
       forecast_describe(&forecast, text));
    forecast_fini(&forecast);

    another.prefill.n_tokens *= 2;
    forecast_init(&forecast, &another, table);
    ok(forecast_open_model(&forecast, &origin, path, &err) == 0 &&
           !forecast_is_modelled(&forecast, FORECAST_DECODE),
       "one of other workloads is of no use");
    snprintf(other.device, sizeof other.device, "another");
    ok(forecast_open_model(&forecast, &other, path, &err) == -1 && err.code == ERR_RESOURCE, "%s",
       err.text);
    forecast_fini(&forecast);
    close(fd);
    unlink(path);
}

int main(void)
{
    study.geometry = fixture_wide();
    fixture_genomes(&study.geometry, genomes, N_GENOMES);
    table = fixture_op_table(&study.geometry, genomes, N_GENOMES, &study.decode, &study.prefill);
    test_table();
    test_own();
    test_given();
    op_table_destroy(table);
    return tap_done();
}
