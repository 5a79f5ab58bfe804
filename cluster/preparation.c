#include "cluster/preparation.h"

#include "evaluator/compression/calibration_imatrix.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/log.h"

#include <stdio.h>
#include <sys/stat.h>

const char *preparation_order_path(const struct study *study, char path[STUDY_PATH_MAX])
{
    char name[64];

    snprintf(name, sizeof name, "tables/%s",
             workshop_order_name(profile_has_bias(study->limits.profile)));
    return study_path(study, name, path);
}

/* A file that is replaced is another one. */
static uint64_t file_number(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 ? status.st_ino : 0;
}

static double seconds_since(int64_t start_ns)
{
    return (double)(clock_now_ns() - start_ns) * 1e-9;
}

static int make_calibration(struct workbench *bench, const char *path,
                            const struct calibration_options *options, struct preparation *done,
                            struct err *err)
{
    const struct study *study = bench->study;
    struct token_set set;

    done->is_diagonal = study_has_matrix(study);
    if (done->is_diagonal)
        return calibration_ensure_imatrix(path, study->calibration, bench->parent, &study->parent,
                                          &done->calibration, err);
    if (token_set_read(&set, bench->tokenizer, study->calibration, study->separator,
                       study->sequence, study->calibration_tokens, 2, err) != 0)
        return -1;
    int status = calibration_ensure(path, bench->parent, &study->parent, bench->stand.kernels,
                                    bench->stand.team, &set, options, &done->calibration, err);
    if (status == 0 && done->calibration != CALIBRATION_FOUND)
        log_info("prepare", "calibration tokens=%u", set.n_tokens);
    done->n_tokens = set.n_tokens;
    done->n_sequences = set.n_sequences;
    token_set_fini(&set);
    return status;
}

/* The parent in every basis that the space has beside its own. */
static int make_bases(struct workbench *bench, const char *calibration, bool biased,
                        struct err *err)
{
    const struct space *space = bench->space;
    int32_t index = space_gene_of(space, GENE_BASIS, -1);
    const struct gene *gene = &space->gene[index < 0 ? 0 : index];
    for (uint32_t i = 0; index >= 0 && i + 1 < gene->n_levels; i++) {
        enum rotation rotation;
        uint32_t hidden;
        space_basis_of(gene->value[i], &hidden, &rotation);
        if (hidden == space->geometry.d_model)
            hidden = 0;
        if (workshop_prepare_basis(bench->parent, &bench->study->parent, calibration, hidden,
                                   rotation, biased, err) != 0)
            return -1;
    }
    return 0;
}

static int make_order(struct workbench *bench, const char *calibration, struct preparation *done,
                      struct err *err)
{
    const struct study *study = bench->study;
    bool biased = profile_has_bias(study->limits.profile);
    char path[STUDY_PATH_MAX];
    uint64_t before = file_number(preparation_order_path(study, path));

    if (workshop_prepare(bench->parent, &study->parent, calibration, biased, err) != 0)
        return -1;
    done->order_made = file_number(path) != before;
    return make_bases(bench, calibration, biased, err);
}

static int make_states(struct workbench *bench, struct preparation *done, struct err *err)
{
    char path[STUDY_PATH_MAX];
    study_path(bench->study, TABLE_STATES, path);
    struct parent_states *there =
        parent_states_open(path, &bench->study->parent, &bench->heldout, NULL);
    if (there != NULL) {
        parent_states_close(there);
        return 0;
    }
    struct err why = {0};
    log_info("prepare", "parent states tokens=%u", bench->heldout.n_tokens);
    done->states_made = true;
    if (parent_states_make(path, &bench->study->parent, bench->parent_model, bench->stand.kernels,
                           bench->stand.team, &bench->heldout, &why) == 0)
        return 0;
    /* A weight that is to blame is named. */
    if (why.code != ERR_DATA || parent_check_weights(bench->parent, err) == 0)
        err_set(err, why.code, "%s", why.text);
    return -1;
}

int preparation_make(struct workbench *bench, const struct calibration_options *options,
                     struct preparation *done, struct err *err)
{
    char path[STUDY_PATH_MAX];
    int64_t start_ns = clock_now_ns();

    *done = (struct preparation){.calibration = CALIBRATION_FOUND};
    if (file_make_dirs(study_path(bench->study, "tables", path), err) != 0 ||
        quiet_work_begin(bench->stand.quiet, err) != 0)
        return -1;
    study_path(bench->study, TABLE_CALIBRATION, path);
    int status = make_calibration(bench, path, options, done, err);
    done->calibration_s = seconds_since(start_ns);
    start_ns = clock_now_ns();
    if (status == 0)
        status = make_order(bench, path, done, err);
    done->order_s = seconds_since(start_ns);
    start_ns = clock_now_ns();
    if (status == 0)
        status = make_states(bench, done, err);
    done->states_s = seconds_since(start_ns);
    quiet_work_end(bench->stand.quiet);
    return status;
}
