#include "evaluator/compression/calibration_imatrix.h"

#include "evaluator/compression/calibration_parts.h"
#include "evaluator/parent.h"
#include "space/base/err.h"
#include "space/base/log.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sums of one input over other batches, or merged files, differ by this much at most. */
#define AGREE 0.01

/* Which weights have a site's input, in the order they are looked for. */
static const enum tensor_role readers[N_LINEAR_SITES][3] = {
    [SITE_QKV] = {TENSOR_Q, TENSOR_K, TENSOR_V},
    [SITE_O] = {TENSOR_O, TENSOR_O, TENSOR_O},
    [SITE_GATE_UP] = {TENSOR_GATE, TENSOR_UP, TENSOR_UP},
    [SITE_DOWN] = {TENSOR_DOWN, TENSOR_DOWN, TENSOR_DOWN},
};
static const int n_readers[N_LINEAR_SITES] = {3, 1, 2, 1};

static void name_of(const struct gguf_tensor *tensor, char name[IMATRIX_NAME])
{
    snprintf(name, IMATRIX_NAME, "%.*s", (int)tensor->name.length, tensor->name.data);
}

static int check_agreement(const struct imatrix_entry *a, const struct imatrix_entry *b,
                           struct err *err)
{
    for (size_t i = 0; i < a->n; i++) {
        double x = (double)a->mean_square[i], y = (double)b->mean_square[i];
        if (fabs(x - y) <= AGREE * fmax(x, y))
            continue;
        err_set(err, ERR_DATA,
                "importance matrix: %s and %s have one input, but value %zu is %g in one and %g in "
                "the other",
                a->name, b->name, i, x, y);
        return -1;
    }
    return 0;
}

/* The entry of a site in *entry, NULL where the parent has no such unit; counted in *n_used. */
static int find_site(const struct imatrix *m, const struct parent *parent, uint32_t layer, int site,
                     const struct imatrix_entry **entry, size_t *n_used, struct err *err)
{
    char name[IMATRIX_NAME] = "";

    *entry = NULL;
    for (int r = 0; r < n_readers[site]; r++) {
        const struct gguf_tensor *tensor = parent_tensor(parent, layer, readers[site][r]);
        if (tensor == NULL)
            return 0;
        name_of(tensor, name);
        const struct imatrix_entry *found = imatrix_find(m, name);
        if (found == NULL)
            continue;
        (*n_used)++;
        if (found->n != tensor->dims[0]) {
            err_set(err, ERR_DATA,
                    "importance matrix: %s has %zu values, the parent's has %zu inputs: it is of "
                    "another model",
                    name, found->n, (size_t)tensor->dims[0]);
            return -1;
        }
        if (*entry != NULL && check_agreement(*entry, found, err) != 0)
            return -1;
        if (*entry == NULL)
            *entry = found;
    }
    if (*entry != NULL)
        return 0;
    err_set(err, ERR_DATA,
            "importance matrix: no entry %s: it is of another model, or of a run that was stopped",
            name);
    return -1;
}

/* Entries of layers that nobody asked for are of a larger model. */
static int refuse_foreign(const struct imatrix *m, size_t n_used, struct err *err)
{
    size_t n_layered = 0;

    for (size_t i = 0; i < m->n_entries; i++)
        n_layered += strncmp(m->entry[i].name, "blk.", 4) == 0;
    if (n_layered == n_used)
        return 0;
    err_set(err, ERR_DATA,
            "importance matrix: %zu entries of layers, the parent has a place for %zu of them: it "
            "is of another model",
            n_layered, n_used);
    return -1;
}

static int fill(struct calibration *c, const struct imatrix *m, const struct parent *parent,
                struct err *err)
{
    const struct geometry *g = &c->geometry;
    const struct imatrix_entry *entry = imatrix_find(m, "output.weight");
    size_t n_used = 0;

    c->n_tokens = UINT64_MAX;
    if (entry != NULL && entry->n == g->d_model)
        memcpy(c->mean_square + calibration_site_offset(g, g->n_layers, 0), entry->mean_square,
               entry->n * sizeof *entry->mean_square);
    for (uint32_t l = 0; l < g->n_layers; l++)
        for (int s = 0; s < N_LINEAR_SITES; s++) {
            if (find_site(m, parent, l, s, &entry, &n_used, err) != 0)
                return -1;
            if (entry == NULL)
                continue;
            memcpy(c->mean_square + calibration_site_offset(g, l, s), entry->mean_square,
                   entry->n * sizeof *entry->mean_square);
            c->n_tokens = entry->n_tokens < c->n_tokens ? entry->n_tokens : c->n_tokens;
        }
    return refuse_foreign(m, n_used, err);
}

struct calibration *calibration_of_imatrix(const struct imatrix *m, const struct parent *parent,
                                           const struct hash256 *hash, struct err *err)
{
    struct calibration *c = calibration_alloc(parent_geometry(parent), err);

    if (c == NULL)
        return NULL;
    c->is_diagonal = true;
    c->text = m->hash;
    calibration_name_parent(c, hash);
    if (fill(c, m, parent, err) != 0) {
        calibration_destroy(c);
        return NULL;
    }
    return c;
}

int calibration_ensure_imatrix(const char *path, const char *matrix_path,
                               const struct parent *parent, const struct hash256 *hash,
                               enum calibration_origin *origin, struct err *err)
{
    struct imatrix matrix = {0};
    int status = 0;

    if (imatrix_read(&matrix, matrix_path, err) != 0)
        return -1;
    struct calibration *c = calibration_load(path, parent_geometry(parent), hash, NULL);
    if (c != NULL && c->is_diagonal && memcmp(&c->text, &matrix.hash, sizeof c->text) == 0) {
        *origin = CALIBRATION_FOUND;
    } else {
        *origin = CALIBRATION_MADE;
        calibration_destroy(c);
        c = calibration_of_imatrix(&matrix, parent, hash, err);
        if (c == NULL)
            err_prefix(err, "%s", matrix_path);
        status = c != NULL ? calibration_save(c, path, err) : -1;
    }
    if (status == 0)
        log_warn("calibration",
                 "of an importance matrix, diagonals only: weights are rounded by importance, "
                 "nothing is solved anew");
    calibration_destroy(c);
    imatrix_fini(&matrix);
    return status;
}

static int add_site(const struct calibration *c, const struct parent *parent, uint32_t layer,
                    int site, struct imatrix *m, struct err *err)
{
    const float *diagonal = calibration_mean_square(c, layer, (enum linear_site)site);

    for (int r = 0; r < n_readers[site]; r++) {
        const struct gguf_tensor *tensor = parent_tensor(parent, layer, readers[site][r]);
        char name[IMATRIX_NAME];
        if (tensor == NULL)
            continue;
        name_of(tensor, name);
        struct imatrix_entry *entry = imatrix_add(m, name, (size_t)tensor->dims[0], err);
        if (entry == NULL)
            return -1;
        entry->n_tokens = c->n_tokens;
        memcpy(entry->mean_square, diagonal, entry->n * sizeof *diagonal);
    }
    return 0;
}

int calibration_to_imatrix(const struct calibration *c, const struct parent *parent, uint32_t chunk,
                           const char *dataset, struct imatrix *matrix, struct err *err)
{
    struct imatrix m = {.chunk = chunk};

    snprintf(m.dataset, sizeof m.dataset, "%s", dataset);
    for (uint32_t l = 0; l < c->geometry.n_layers; l++)
        for (int s = 0; s < N_LINEAR_SITES; s++)
            if (add_site(c, parent, l, s, &m, err) != 0) {
                imatrix_fini(&m);
                return -1;
            }
    imatrix_sort(&m);
    *matrix = m;
    return 0;
}
