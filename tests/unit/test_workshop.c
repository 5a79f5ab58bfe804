/* A workshop opened twice cuts alike, by the order that lies beside its calibration. */
#include "evaluator/compression/workshop.h"
#include "space/base/file.h"
#include "space/base/log.h"
#include "tests/compression_fixture.h"
#include "tests/tap.h"

static char model[512], calibration[512], order[512], store[512];

/* Open, build one narrow variant, close: its name and a sum of its bytes. */
static bool build_one(const struct hash256 *hash, struct id128 *id, struct hash256 *bytes,
                      struct err *err)
{
    const struct variant_key key = {PART_DOWN, 1, 96, 0, FORMAT_Q8_0};
    struct workshop shop;
    struct variant v;

    if (workshop_open(&shop, model, hash, calibration, store, false, err) != 0)
        return false;
    bool built = store_get(shop.store, &shop.source, &key, &v, err) == 0;
    *id = variant_id(&shop.source, &key);
    *bytes = built ? sha256_of(v.data, v.n_bytes) : (struct hash256){0};
    workshop_close(&shop);
    return built;
}

int main(void)
{
    struct hash256 first, again;
    struct id128 id, same;
    struct bench b;
    struct err err;
    size_t n_bytes;

    log_setup(LOG_ERROR, -1);
    bench_open(&b, &bench_small, FORMAT_F32, 31);
    struct hash256 hash = parent_hash(b.parent);
    folder_path(b.folder, "parent.gguf", model);
    folder_path(b.folder, "calibration", calibration);
    folder_path(b.folder, "keep-order.bin", order);
    folder_path(b.folder, "store", store);
    bench_demand(calibration_save(b.calibration, calibration, &err) == 0, &err);

    ok(build_one(&hash, &id, &first, &err) && file_exists(order),
       "a workshop makes the order that is missing and leaves it beside the calibration");
    ok(build_one(&hash, &same, &again, &err) && id128_equal(id, same) &&
           memcmp(&first, &again, sizeof first) == 0,
       "the next one builds the same variant under the same name");
    char *data = file_read(order, 1 << 20, &n_bytes, &err);
    data[n_bytes / 2] ^= 1;
    file_replace(order, data, n_bytes, &err);
    ok(build_one(&hash, &same, &again, &err) && id128_equal(id, same),
       "a damaged order is made anew");
    free(data);

    struct keep_order plain = {0};
    keep_order_init_plain(&plain, b.parent, b.calibration, &err);
    keep_order_save(&plain, b.calibration, order, &err);
    keep_order_fini(&plain);
    ok(build_one(&hash, &same, &again, &err) && !id128_equal(id, same),
       "another order gives other variants, under other names");

    unlink(order);
    ok(workshop_prepare(b.parent, &hash, calibration, false, &err) == 0 && file_exists(order),
       "preparing leaves the order there");
    data = file_read(calibration, 1 << 22, &n_bytes, &err);
    data[n_bytes - 9] ^= 1;
    file_replace(calibration, data, n_bytes, &err);
    ok(workshop_prepare(b.parent, &hash, calibration, false, &err) != 0 && err.code == ERR_DATA &&
           strstr(err.text, "layer 1") != NULL,
       "and reads the calibration to its last byte");
    free(data);
    hash.bytes[0] ^= 1;
    ok(workshop_prepare(b.parent, &hash, calibration, false, &err) != 0 && err.code == ERR_DATA,
       "a calibration of another parent is refused");
    bench_close(&b);
    return tap_done();
}
