#include "cli/beginning.h"
#include "evaluator/parent.h"
#include "latency_model/machine.h"
#include "space/base/file.h"

static int resolve(struct study *study, const char *dir, struct err *err)
{
    if (study_read(study, dir, err) != 0)
        return -1;
    struct parent *parent = parent_open(study->model, err);
    if (parent == NULL)
        return -1;
    struct machine *machine = machine_load(err);
    int status = -1;
    if (machine != NULL && parent_check_profile(parent, study->limits.profile, err) == 0) {
        struct hash256 hash = parent_hash(parent);
        status =
            study_resolve(study, parent_geometry(parent), &hash, machine_n_cores(machine), err);
    }
    machine_destroy(machine);
    parent_close(parent);
    return status;
}

int beginning_open(struct study *study, const char *dir, struct err *err)
{
    return resolve(study, dir, err) == 0 ? study_freeze(study, err) : -1;
}

int beginning_look(struct study *study, const char *dir, struct err *err)
{
    char path[STUDY_PATH_MAX];

    if (resolve(study, dir, err) != 0)
        return -1;
    bool has_begun = file_exists(study_path(study, "study.resolved.json", path));
    return has_begun ? study_freeze(study, err) : 0;
}
