/* master_forecast.c - what is known of latencies before they are measured. */
#include "cluster/master_parts.h"
#include "cluster/workbench.h"
#include "space/base/err.h"
#include "space/base/log.h"
#include <stdlib.h>

/* For the log, and for those who ask while it runs. */
static int note(struct master *master, struct err *err)
{
    const struct forecast *forecast = &master->forecast;
    char text[FORECAST_TEXT];
    forecast_describe(forecast, text);
    if (forecast_is_modelled(forecast, FORECAST_DECODE) ||
        forecast_is_modelled(forecast, FORECAST_PREFILL))
        log_info("forecast", "%s", text);
    return master_begin(master, err) == 0
               ? archive_put_meta(master->archive, ARCHIVE_META_FORECAST, text, err)
               : -1;
}

/* A model that cannot be used is no reason not to search. */
int master_open_forecast(struct master *master, struct err *err)
{
    struct predictor_origin origin = {.geometry = master->study->geometry};
    struct err why = {0};
    char path[STUDY_PATH_MAX];
    forecast_init(&master->forecast, master->study, master->ops);
    if (archive_get_meta(master->archive, ARCHIVE_META_DEVICE, origin.device, sizeof origin.device,
                         err) < 0 ||
        archive_get_meta(master->archive, ARCHIVE_META_KERNELS, origin.kernels,
                         sizeof origin.kernels, err) < 0)
        return -1;
    study_path(master->study, TABLE_LATENCY, path);
    if (forecast_open_model(&master->forecast, &origin, path, &why) < 0)
        log_warn("forecast", "the latency model is left aside: %s", why.text);
    return note(master, err);
}

int master_learn_latency(struct master *master, const uint8_t *levels,
                         const struct evaluation *evaluation, struct err *err)
{
    double ns[FORECAST_WORKLOADS] = {evaluation->decode.median_ns, evaluation->prefill.median_ns};
    if (evaluation->flags != 0)
        return 0;
    struct genome *genome = malloc(sizeof *genome);
    if (genome == NULL) {
        err_set(err, ERR_MEMORY, "master: out of memory");
        return -1;
    }
    space_genome(&master->space, levels, genome);
    int status = forecast_learn(&master->forecast, genome, ns, err);
    free(genome);
    return status;
}

/* Nor is one that cannot be fitted. */
int master_refit_forecast(struct master *master, struct err *err)
{
    struct err why = {0};
    int fitted = forecast_refit(&master->forecast, &why);
    if (fitted < 0)
        log_warn("forecast", "not fitted: %s", why.text);
    return fitted > 0 ? note(master, err) : 0;
}

/* What was said first was said without knowing. */
void master_foretell(struct master *master, const struct job *job, struct evaluation *evaluation)
{
    struct evaluation before;
    struct genome *genome = NULL;
    if (job->work.n_levels == 0)
        return;
    if (archive_get_evaluation(master->archive, &job->id, &before, NULL, NULL) == 0) {
        evaluation->predicted_decode_ns = before.predicted_decode_ns;
        evaluation->predicted_prefill_ns = before.predicted_prefill_ns;
    } else if (master->search != NULL && (genome = malloc(sizeof *genome)) != NULL) {
        space_genome(&master->space, job->work.levels, genome);
        evaluation->predicted_decode_ns = forecast_ns(&master->forecast, genome, FORECAST_DECODE);
        evaluation->predicted_prefill_ns = forecast_ns(&master->forecast, genome, FORECAST_PREFILL);
    }
    free(genome);
}
