#include "tests/bench/bench_variants.h"

int bench_variants_open(struct bench_variants *v, const struct parent *parent,
                        const struct calibration *calibration, const char *folder, struct err *err)
{
    if (keep_order_init(&v->order, parent, calibration, err) != 0)
        return -1;
    return bench_variants_open_ordered(v, parent, calibration, folder, err);
}

int bench_variants_open_ordered(struct bench_variants *v, const struct parent *parent,
                                const struct calibration *calibration, const char *folder,
                                struct err *err)
{
    variant_source_init(&v->source, parent, calibration, &v->order);
    v->store = store_open(folder, err);
    return v->store != NULL ? 0 : -1;
}

void bench_variants_close(struct bench_variants *v)
{
    store_close(v->store);
    keep_order_fini(&v->order);
}
