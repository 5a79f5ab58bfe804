/* master_sensitivity.c - the phase of the sensitivities: what is known already, from this study or
 * another, and a job for each unit of which something is missing. */
#include "cluster/evaluation.h"
#include "cluster/master_parts.h"
#include "evaluator/compression/workshop.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/log.h"

#define DEADLINE_S 3600

static int save(const struct master *master, struct err *err)
{
    char path[STUDY_PATH_MAX];
    if (file_make_dirs(study_path(master->study, "tables", path), err) != 0)
        return -1;
    return sensitivity_save(master->sensitivity, study_path(master->study, TABLE_SENSITIVITY, path),
                            err);
}

/* The study's own table; of another kerf's weights it says nothing. */
static int take_own(struct master *master, struct err *err)
{
    char path[STUDY_PATH_MAX];
    struct sensitivity_taken taken;
    if (!file_exists(study_path(master->study, TABLE_SENSITIVITY, path)))
        return 0;
    if (sensitivity_take(master->sensitivity, path, &taken, err) != 0) {
        if (err != NULL && err->code == ERR_DATA)
            err_prefix(err, "remove it to measure again");
        return -1;
    }
    if (taken.why[0] != '\0')
        log_info("sensitivity", "measuring again, for of the table that is there %s", taken.why);
    return 0;
}

/* Another study's, by the user's wish: of no use is no answer. */
static int take_given(struct master *master, struct err *err)
{
    const char *path = master->options.sensitivity;
    struct sensitivity_taken taken;
    size_t n_rows, n_known = sensitivity_count(master->sensitivity, &n_rows);
    if (sensitivity_take(master->sensitivity, path, &taken, err) != 0)
        return -1;
    if (taken.n_taken == 0 && n_known < n_rows) {
        err_set(err, ERR_DATA, "%s: nothing in it fits this study: %s", path,
                taken.why[0] != '\0' ? taken.why : "its rows are of another space");
        return -1;
    }
    log_info("sensitivity", "taken rows=%zu of=%zu from=%s", taken.n_taken, n_rows, path);
    return taken.n_taken > 0 ? save(master, err) : 0;
}

int master_open_sensitivity(struct master *master, struct err *err)
{
    char method[64];
    master->sensitivity =
        sensitivity_create(master->study, &master->space, workshop_method(method), err);
    if (master->sensitivity == NULL || take_own(master, err) != 0)
        return -1;
    return master->options.sensitivity != NULL ? take_given(master, err) : 0;
}

int master_add_sensitivities(struct master *master, struct err *err)
{
    for (uint32_t unit = 0; unit < master->space.n_units; unit++) {
        struct job job = {
            .work = {.kind = WORK_SENSITIVITY, .unit = unit, .deadline_s = DEADLINE_S}};
        if (!sensitivity_has_unit(master->sensitivity, unit) &&
            jobs_add(&master->jobs, &job, err) != 0)
            return -1;
    }
    return 0;
}

int master_enter_sensitivity(struct master *master, const struct job *job, const char *result,
                             struct err *err)
{
    if (evaluation_parse_sensitivity(result, job->work.unit, master->sensitivity, err) != 0)
        return -1;
    master->n_sensitivities++;
    log_info("sensitivity", "unit=%u of=%u", job->work.unit, master->space.n_units);
    return save(master, err);
}
