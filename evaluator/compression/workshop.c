#include "evaluator/compression/workshop.h"
#include <string.h>

int workshop_open(struct workshop *shop, const char *model_path, const struct hash256 *hash,
                  const char *calibration_path, const char *store_dir, struct err *err)
{
    memset(shop, 0, sizeof *shop);
    shop->parent = parent_open(model_path, err);
    if (shop->parent == NULL)
        return -1;
    const struct geometry *geometry = parent_geometry(shop->parent);
    shop->calibration = calibration_load(calibration_path, geometry, hash, err);
    if (shop->calibration == NULL ||
        keep_order_init(&shop->order, shop->parent, shop->calibration, err) != 0)
        goto undo;
    variant_source_init(&shop->source, shop->parent, shop->calibration, &shop->order);
    shop->store = store_open(store_dir, &shop->source, err);
    if (shop->store == NULL)
        goto undo;
    return 0;

undo:
    workshop_close(shop);
    return -1;
}

void workshop_close(struct workshop *shop)
{
    store_close(shop->store);
    keep_order_fini(&shop->order);
    calibration_destroy(shop->calibration);
    parent_close(shop->parent);
    memset(shop, 0, sizeof *shop);
}
