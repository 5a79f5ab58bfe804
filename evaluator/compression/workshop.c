#include "evaluator/compression/workshop.h"

#include "evaluator/compression/basis_parent.h"
#include "space/base/err.h"
#include "space/base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_SIZE 4096

struct workshop_basis {
    struct workshop_basis *next;
    uint32_t hidden; /* 0: the parent's own */
    enum rotation rotation;
    struct parent *parent;
    struct calibration *calibration;
    struct keep_order order;
    struct variant_source source;
};

const char *workshop_order_name(bool biased)
{
    return biased ? "keep-order-centred.bin" : "keep-order.bin";
}

/* The order's file lies in the calibration's folder. */
static int open_order(struct keep_order *order, const char *calibration_path,
                      const struct parent *parent, const struct calibration *calibration,
                      bool biased, struct err *err)
{
    const char *name = workshop_order_name(biased);
    char path[PATH_SIZE];
    const char *slash = strrchr(calibration_path, '/');
    int folder = slash != NULL ? (int)(slash - calibration_path) + 1 : 0;

    if (snprintf(path, sizeof path, "%.*s%s", folder, calibration_path, name) >= (int)sizeof path) {
        err_set(err, ERR_CREATE, "%.64s...: the path is too long", calibration_path);
        return -1;
    }
    return keep_order_open(order, path, parent, calibration, biased, err);
}

int workshop_open(struct workshop *shop, const char *model_path, const struct hash256 *hash,
                  const char *calibration_path, const char *store_dir, bool biased, struct err *err)
{
    memset(shop, 0, sizeof *shop);
    shop->biased = biased;
    shop->calibration_path = strdup(calibration_path);
    if (shop->calibration_path == NULL) {
        err_set(err, ERR_MEMORY, "workshop: out of memory");
        return -1;
    }
    shop->parent = parent_open(model_path, err);
    if (shop->parent == NULL)
        goto undo;
    const struct geometry *geometry = parent_geometry(shop->parent);
    shop->calibration = calibration_load(calibration_path, geometry, hash, err);
    if (shop->calibration == NULL || open_order(&shop->order, calibration_path, shop->parent,
                                                shop->calibration, biased, err) != 0)
        goto undo;
    variant_source_init(&shop->source, shop->parent, shop->calibration, &shop->order);
    shop->store = store_open(store_dir, err);
    if (shop->store == NULL)
        goto undo;
    return 0;

undo:
    workshop_close(shop);
    return -1;
}

int workshop_prepare(const struct parent *parent, const struct hash256 *hash,
                     const char *calibration_path, bool biased, struct err *err)
{
    struct keep_order order = {0};

    struct calibration *calibration =
        calibration_load(calibration_path, parent_geometry(parent), hash, err);
    if (calibration == NULL)
        return -1;
    int status = calibration_verify(calibration, err);
    if (status == 0)
        status = open_order(&order, calibration_path, parent, calibration, biased, err);
    keep_order_fini(&order);
    calibration_destroy(calibration);
    return status;
}

/* ---- other bases ---------------------------------------------------------------------------- */

/* The folder of a basis, beside the calibration. */
static int basis_folder(const char *calibration_path, uint32_t hidden, enum rotation rotation,
                        char folder[PATH_SIZE], struct err *err)
{
    const char *slash = strrchr(calibration_path, '/');
    int beside = slash != NULL ? (int)(slash - calibration_path) + 1 : 0;
    char width[16] = "";

    if (hidden > 0)
        snprintf(width, sizeof width, "-%u", hidden);
    int n = snprintf(folder, PATH_SIZE, "%.*sbasis%s%s%s", beside, calibration_path, width,
                     rotation != ROTATION_NONE ? "-" : "",
                     rotation != ROTATION_NONE ? rotation_name(rotation) : "");
    if (n + 32 < PATH_SIZE)
        return 0;
    err_set(err, ERR_CREATE, "%.64s...: the path is too long", calibration_path);
    return -1;
}

static void basis_close(struct workshop_basis *basis)
{
    if (basis == NULL)
        return;
    keep_order_fini(&basis->order);
    calibration_destroy(basis->calibration);
    parent_close(basis->parent);
    free(basis);
}

/* The files of a basis as they lie there: of this calibration, and sound as far as is looked at. */
static struct workshop_basis *basis_open(const struct calibration *calibration,
                                         const struct geometry *geometry,
                                         const char *calibration_path, uint32_t hidden,
                                         enum rotation rotation, bool biased, struct err *err)
{
    uint32_t width = hidden > 0 ? hidden : geometry->d_model;
    struct hash256 identity = basis_parent_identity(calibration, width, rotation);
    char folder[PATH_SIZE], path[PATH_SIZE + 32];

    if (basis_folder(calibration_path, hidden, rotation, folder, err) != 0)
        return NULL;
    struct workshop_basis *basis = calloc(1, sizeof *basis);
    if (basis == NULL) {
        err_set(err, ERR_MEMORY, "workshop: out of memory");
        return NULL;
    }
    basis->hidden = hidden;
    basis->rotation = rotation;
    snprintf(path, sizeof path, "%s/" BASIS_PARENT_NAME, folder);
    basis->parent = parent_open(path, err);
    if (basis->parent == NULL)
        goto undo;
    if (!basis_parent_is(basis->parent, &identity) ||
        parent_geometry(basis->parent)->d_model != width) {
        err_set(err, ERR_DATA, "%s was made from another parent or calibration; remove it", path);
        goto undo;
    }
    snprintf(path, sizeof path, "%s/" BASIS_CALIBRATION_NAME, folder);
    basis->calibration = calibration_load(path, parent_geometry(basis->parent), &identity, err);
    if (basis->calibration == NULL ||
        open_order(&basis->order, path, basis->parent, basis->calibration, biased, err) != 0)
        goto undo;
    variant_source_init(&basis->source, basis->parent, basis->calibration, &basis->order);
    return basis;

undo:
    basis_close(basis);
    return NULL;
}

static int basis_make(const struct parent *parent, const struct calibration *calibration,
                      const char *calibration_path, uint32_t hidden, enum rotation rotation,
                      struct err *err)
{
    uint32_t width = hidden > 0 ? hidden : parent_geometry(parent)->d_model;
    char folder[PATH_SIZE];
    struct basis basis;

    log_info("workshop", "basis hidden=%u rotation=%s", width, rotation_name(rotation));
    if (basis_folder(calibration_path, hidden, rotation, folder, err) != 0 ||
        basis_init(&basis, parent, calibration, width, rotation, err) != 0)
        return -1;
    int status = basis_parent_make(parent, calibration, &basis, FORMAT_F16, folder, err);
    basis_fini(&basis);
    return status;
}

int workshop_prepare_basis(const struct parent *parent, const struct hash256 *hash,
                           const char *calibration_path, uint32_t hidden, enum rotation rotation,
                           bool biased, struct err *err)
{
    const struct geometry *geometry = parent_geometry(parent);
    struct calibration *calibration = calibration_load(calibration_path, geometry, hash, err);
    int status = 0;

    if (calibration == NULL)
        return -1;
    if (calibration_is_diagonal(calibration)) {
        calibration_destroy(calibration);
        err_set(err, ERR_CONFIG,
                "%s knows mean squares only, and another basis of the residual stream needs whole "
                "second moments; leave out /space/hidden and /space/rotation, or calibrate on a "
                "text",
                calibration_path);
        return -1;
    }
    struct workshop_basis *basis =
        basis_open(calibration, geometry, calibration_path, hidden, rotation, biased, NULL);
    if (basis == NULL || calibration_verify(basis->calibration, NULL) != 0) {
        basis_close(basis);
        status = basis_make(parent, calibration, calibration_path, hidden, rotation, err);
        /* Opening it leaves its order beside it. */
        basis = status == 0 ? basis_open(calibration, geometry, calibration_path, hidden, rotation,
                                         biased, err)
                            : NULL;
        status = basis != NULL ? 0 : -1;
    }
    basis_close(basis);
    calibration_destroy(calibration);
    return status;
}

const struct variant_source *workshop_source(struct workshop *shop, const struct genome *genome,
                                             struct err *err)
{
    if (!genome_is_turned(genome))
        return &shop->source;
    for (struct workshop_basis *basis = shop->bases; basis != NULL; basis = basis->next)
        if (basis->hidden == genome->hidden && basis->rotation == genome->rotation)
            return &basis->source;
    struct workshop_basis *basis =
        basis_open(shop->calibration, parent_geometry(shop->parent), shop->calibration_path,
                   genome->hidden, genome->rotation, shop->biased, err);
    if (basis == NULL)
        return NULL;
    basis->source.compress_order = shop->source.compress_order;
    basis->next = shop->bases;
    shop->bases = basis;
    return &basis->source;
}

struct model *workshop_model(struct workshop *shop, const struct genome *genome, struct err *err)
{
    const struct variant_source *source = workshop_source(shop, genome, err);

    return source != NULL ? stitch_model(source, shop->store, genome, err) : NULL;
}

void workshop_close(struct workshop *shop)
{
    store_close(shop->store);
    for (struct workshop_basis *basis = shop->bases, *next; basis != NULL; basis = next) {
        next = basis->next;
        basis_close(basis);
    }
    free(shop->calibration_path);
    keep_order_fini(&shop->order);
    calibration_destroy(shop->calibration);
    parent_close(shop->parent);
    memset(shop, 0, sizeof *shop);
}

const char *workshop_method(char text[64])
{
    snprintf(text, 64, "calibration %u, order %u, variant %u, basis %u", calibration_version(),
             keep_order_version(), variant_version(), basis_parent_version());
    return text;
}
