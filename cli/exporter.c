#include "cli/exporter.h"
#include "cluster/scratch.h"
#include "cluster/workbench.h"
#include "evaluator/export.h"
#include "space/base/err.h"
#include <stdlib.h>
#include <string.h>

static int check_parent(const struct study *study, struct err *err)
{
    struct parent *parent = parent_open(study->model, err);
    if (parent == NULL)
        return -1;
    struct hash256 hash = parent_hash(parent);
    parent_close(parent);
    if (memcmp(&hash, &study->parent, sizeof hash) == 0)
        return 0;
    err_set(err, ERR_DATA, "%s: not the model this study was searched with; put that file back",
            study->model);
    return -1;
}

int exporter_open(struct exporter *exporter, const struct reading *reading, struct err *err)
{
    const struct study *study = &reading->study;
    char calibration[STUDY_PATH_MAX], store[STUDY_PATH_MAX];
    memset(exporter, 0, sizeof *exporter);
    exporter->reading = reading;
    if (check_parent(study, err) != 0)
        return -1;
    if (workshop_open(&exporter->shop, study->model, &study->parent,
                      study_path(study, TABLE_CALIBRATION, calibration),
                      scratch_path(study, "store", store), profile_has_bias(study->limits.profile),
                      err) != 0)
        return -1;
    exporter->shop.source.compress_order = study->compress_order;
    store_claim(store, &study->parent);
    if (store_bound(exporter->shop.store, study->max_disk, err) == 0)
        return 0;
    exporter_close(exporter);
    return -1;
}

int exporter_limit(struct reading *reading, const struct options *options, struct err *err)
{
    uint64_t max_disk;
    if (option_size(options, "max-disk", &max_disk, err) != 0)
        return -1;
    if (max_disk > 0)
        reading->study.max_disk = max_disk;
    return 0;
}

void exporter_close(struct exporter *exporter)
{
    workshop_close(&exporter->shop);
    memset(exporter, 0, sizeof *exporter);
}

/* With candidate and study named in the note. */
static int write_model(struct exporter *exporter, const struct front_member *member,
                       const struct model *model, struct export_note note, const char *path,
                       struct err *err)
{
    const struct study *study = &exporter->reading->study;
    char candidate[ID128_HEX], owner[HASH256_HEX];
    id128_hex(member->candidate.id, candidate);
    hash256_hex(study_hash(study), owner);
    note.candidate = candidate;
    note.study = owner;
    return export_gguf(exporter->shop.parent, model, &member->genome, study->limits.profile, &note,
                       path, err);
}

int exporter_write_polished(struct exporter *exporter, const struct front_member *member,
                            const struct model *model, const char *polish, const char *path,
                            struct err *err)
{
    return write_model(exporter, member, model, (struct export_note){.polish = polish}, path, err);
}

static int stitch_and_write(struct exporter *exporter, const struct front_member *member,
                            const char *details, const char *path, uint64_t *weight_bytes,
                            struct err *err)
{
    struct model *model = workshop_model(&exporter->shop, &member->genome, err);
    if (model == NULL)
        return -1;
    int status =
        write_model(exporter, member, model, (struct export_note){.metrics = details}, path, err);
    if (status == 0 && weight_bytes != NULL)
        *weight_bytes = model_weight_bytes(model);
    model_destroy(model);
    if (exporter->reading->study.max_disk > 0)
        store_forget(exporter->shop.store); /* what nobody uses may be evicted */
    return status;
}

int exporter_write(struct exporter *exporter, const struct front_member *member, const char *path,
                   uint64_t *weight_bytes, struct err *err)
{
    struct evaluation newest;
    char *details = NULL;
    if (archive_get_evaluation(exporter->reading->archive, &member->candidate.id, &newest, &details,
                               err) != 0)
        return -1;
    int status = stitch_and_write(exporter, member, details, path, weight_bytes, err);
    free(details);
    return status;
}
