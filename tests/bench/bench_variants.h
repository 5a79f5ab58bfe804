/* bench_variants.h - what a bench makes models from: a parent's order, the source of variants that
 * goes by it, and a store.  Several may share a folder: a variant's name tells sources apart. */
#ifndef BENCH_VARIANTS_H
#define BENCH_VARIANTS_H

#include "evaluator/compression/keep_order.h"
#include "evaluator/compression/store.h"
#include "evaluator/compression/variant.h"

/* Zeroed before it is opened. */
struct bench_variants {
    struct keep_order order;
    struct variant_source source;
    struct store *store;
};

/* By the order of keep_order.h.  0, or -1 with `err`; bench_variants_close in both cases.  Parent
 * and calibration are borrowed. */
int bench_variants_open(struct bench_variants *variants, const struct parent *parent,
                        const struct calibration *calibration, const char *folder, struct err *err);
/* The same by the order that stands in `variants` already. */
int bench_variants_open_ordered(struct bench_variants *variants, const struct parent *parent,
                                const struct calibration *calibration, const char *folder,
                                struct err *err);
/* The files stay. */
void bench_variants_close(struct bench_variants *variants);

#endif
