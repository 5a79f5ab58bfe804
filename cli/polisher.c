#include "cli/polisher.h"
#include "cluster/workbench.h"
#include "evaluator/export.h"
#include "evaluator/quality/task.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct study *study_of(const struct polisher *p)
{
    return &p->exporter->reading->study;
}

/* --- opening --- */

/* The words that the calibration was made from are not in any table: the file must still be it. */
static int read_text(struct polisher *p, uint64_t n_tokens, struct err *err)
{
    const struct study *study = study_of(p);
    struct hash256 hash;
    if (file_hash(study->calibration, &hash, err) != 0)
        return -1;
    if (memcmp(&hash, &study->calibration_hash, sizeof hash) != 0) {
        err_set(err, ERR_DATA,
                "%s: not the text this study was calibrated with; put that file back",
                study->calibration);
        return -1;
    }
    return token_set_read(&p->text, p->tokenizer, study->calibration, study->separator,
                          study->sequence, n_tokens, 2, err);
}

static int open_heldout(struct polisher *p, struct err *err)
{
    const struct study *study = study_of(p);
    char path[STUDY_PATH_MAX];
    if (token_set_read(&p->heldout, p->tokenizer, study->heldout, study->separator, study->sequence,
                       study->final_tokens, 2, err) != 0)
        return -1;
    p->states =
        parent_states_open(study_path(study, TABLE_STATES, path), &study->parent, &p->heldout, err);
    return p->states != NULL ? 0 : -1;
}

/* As many threads as the study, if there are so many cores: where they run does not matter here. */
static struct team *open_team(const struct study *study, struct err *err)
{
    long n_cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned n = study->threads > 0 ? study->threads : 1;
    return team_create(n_cores >= 1 && n > (unsigned)n_cores ? (unsigned)n_cores : n, NULL, NULL,
                       err);
}

static int open_all(struct polisher *p, uint64_t n_tokens, struct err *err)
{
    struct workshop *shop = &p->exporter->shop;
    p->parent = model_of_parent(shop->parent, err);
    p->tokenizer = p->parent != NULL ? tokenizer_create(parent_gguf(shop->parent), err) : NULL;
    if (p->tokenizer == NULL || read_text(p, n_tokens, err) != 0 || open_heldout(p, err) != 0)
        return -1;
    p->candidate = workshop_model(shop, &p->member->genome, err);
    if (p->candidate == NULL ||
        export_check(p->candidate, &p->member->genome, study_of(p)->limits.profile, err) != 0)
        return -1;
    p->team = open_team(study_of(p), err);
    p->quiet = p->team != NULL ? quiet_open(err) : NULL;
    return p->quiet != NULL ? 0 : -1;
}

int polisher_open(struct polisher *p, struct exporter *exporter, const struct front_member *member,
                  uint64_t n_tokens, struct err *err)
{
    *p = (struct polisher){.exporter = exporter, .member = member, .kernels = kernels_select()};
    if (open_all(p, n_tokens, err) == 0)
        return 0;
    polisher_close(p);
    return -1;
}

void polisher_close(struct polisher *p)
{
    polished_fini(&p->polished);
    quiet_close(p->quiet);
    team_destroy(p->team);
    model_destroy(p->candidate);
    parent_states_close(p->states);
    token_set_fini(&p->heldout);
    token_set_fini(&p->text);
    tokenizer_destroy(p->tokenizer);
    model_destroy(p->parent);
    memset(p, 0, sizeof *p);
}

/* --- measuring --- */

/* Mean of the length-normalised accuracies, as the archive has it of the candidate. */
static int score_tasks(struct polisher *p, struct forward *forward, struct polisher_score *score,
                       struct err *err)
{
    const struct study *study = study_of(p);
    double sum = 0, variance = 0, n = study->n_tasks;
    for (uint32_t i = 0; i < study->n_tasks; i++) {
        struct task_score own;
        struct task *task = task_read(study->task[i], p->tokenizer, study->task_items, err);
        int status = task != NULL ? task_score(forward, task, &own, err) : -1;
        task_destroy(task);
        if (status != 0 || quiet_work_step(p->quiet, err) != 0)
            return -1;
        sum += own.acc_norm;
        variance += own.acc_norm_se * own.acc_norm_se;
    }
    score->accuracy = n > 0 ? sum / n : NAN;
    score->accuracy_se = n > 0 ? sqrt(variance) / n : NAN;
    return 0;
}

/* `kld` [n_sequences] by sequence. */
static int measure(struct polisher *p, const struct model *model, struct polisher_score *score,
                   double *kld, struct err *err)
{
    const struct study *study = study_of(p);
    /* A task's items may be as long as the model's context. */
    uint32_t n_ctx = study->n_tasks > 0 && study->geometry.n_ctx > study->sequence
                         ? study->geometry.n_ctx
                         : study->sequence;
    struct forward_options options = {.n_ctx = n_ctx, .n_batch = n_ctx < 512 ? n_ctx : 512};
    struct forward *forward = forward_create(model, p->kernels, p->team, &options, err);
    if (forward == NULL)
        return -1;
    int status = quality_measure_sequences(forward, p->parent, p->states, &p->heldout,
                                           p->heldout.n_tokens, &score->quality, kld, err);
    if (status == 0)
        status = score_tasks(p, forward, score, err);
    forward_destroy(forward);
    return status;
}

static int measure_both(struct polisher *p, struct err *err)
{
    uint32_t n = p->heldout.n_sequences;
    double *kld = malloc(2 * (size_t)n * sizeof *kld);
    int status = -1;
    if (kld == NULL)
        err_set(err, ERR_MEMORY, "polish: out of memory");
    else if (measure(p, p->candidate, &p->before, kld, err) == 0 &&
             measure(p, p->polished.model, &p->after, kld + n, err) == 0)
        status = 0;
    if (status == 0)
        p->kld_change =
            quality_difference(&p->heldout, p->heldout.n_tokens, kld + n, kld, &p->kld_change_se);
    free(kld);
    return status;
}

static int step(void *arg, struct err *err)
{
    return quiet_work_step(arg, err);
}

int polisher_run(struct polisher *p, struct err *err)
{
    struct workshop *shop = &p->exporter->shop;
    p->plan = (struct polish_plan){.alpha = POLISH_ALPHA,
                                   .drift = POLISH_DRIFT,
                                   .ridge = POLISH_RIDGE,
                                   .step = step,
                                   .step_arg = p->quiet};
    if (quiet_work_begin(p->quiet, err) != 0)
        return -1;
    const struct variant_source *source = workshop_source(shop, &p->member->genome, err);
    int status = source != NULL
                     ? polish_model(&p->polished, source, &p->member->genome, p->candidate,
                                    p->kernels, p->team, &p->text, &p->plan, err)
                     : -1;
    if (status == 0 && p->polished.n_changed > 0)
        status = measure_both(p, err);
    quiet_work_end(p->quiet);
    return status;
}
