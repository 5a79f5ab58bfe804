#include "evaluator/compression/workshop.h"

#include "space/base/err.h"

#include <stdio.h>
#include <string.h>

/* The order's file lies in the calibration's folder. */
static int open_order(struct keep_order *order, const char *calibration_path,
                      const struct parent *parent, const struct calibration *calibration,
                      bool biased, struct err *err)
{
    const char *name = biased ? "keep-order-centred.bin" : "keep-order.bin";
    char path[4096];
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
    shop->parent = parent_open(model_path, err);
    if (shop->parent == NULL)
        return -1;
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

void workshop_close(struct workshop *shop)
{
    store_close(shop->store);
    keep_order_fini(&shop->order);
    calibration_destroy(shop->calibration);
    parent_close(shop->parent);
    memset(shop, 0, sizeof *shop);
}

const char *workshop_method(char text[64])
{
    snprintf(text, 64, "calibration %u, order %u, variant %u", calibration_version(),
             keep_order_version(), variant_version());
    return text;
}
