/* workshop.h - everything that turns a genome into a model that runs, opened together: the parent,
 * its calibration, the order in which parts are kept, and the store of compressed variants; and the
 * same of the parent in the other bases of the residual stream that a study allows
 * (basis_parent.h), which lie beside the calibration in a folder for each: "basis-224",
 * "basis-224-hadamard", "basis-hadamard". */
#ifndef KERF_WORKSHOP_H
#define KERF_WORKSHOP_H

#include "evaluator/compression/stitch.h"

struct workshop_basis; /* a parent in another basis, with what belongs to it */

struct workshop {
    struct parent *parent;
    struct calibration *calibration;
    struct keep_order order;
    struct variant_source source;
    struct store *store;
    bool biased;
    char *calibration_path;
    struct workshop_basis *bases; /* those that were asked for */
};

/* `hash` is the parent's as the study froze it: the calibration must belong to it (ERR_DATA).  That
 * the file still has this hash is checked once, where a search or an export begins.  The order is
 * that of the file "keep-order.bin" beside the calibration; where there is none (or it is of no
 * use) it is made, which takes seconds, and left there.
 *   biased  genomes have biases (profile_has_bias): weights are solved beside them, and the order's
 *           file is "keep-order-centred.bin" */
int workshop_open(struct workshop *shop, const char *model_path, const struct hash256 *hash,
                  const char *calibration_path, const char *store_dir, bool biased,
                  struct err *err);
/* Check the calibration to its last byte and leave the order beside it: once a study, so that every
 * workshop opens quickly and every node cuts alike. */
int workshop_prepare(const struct parent *parent, const struct hash256 *hash,
                     const char *calibration_path, bool biased, struct err *err);
/* How weights are made here, "calibration 2, order 2, variant 3, basis 1": figures of models that
 * were made in another way say nothing of those that are made now. */
const char *workshop_method(char text[64]);

/* The same for the parent in another basis: derived from parent and calibration where its files are
 * not there or not of these; takes minutes for a large parent.  ERR_CONFIG for a diagonal
 * calibration. */
int workshop_prepare_basis(const struct parent *parent, const struct hash256 *hash,
                           const char *calibration_path, uint32_t hidden, enum rotation rotation,
                           bool biased, struct err *err);

/* Where the variants of a genome come from: shop->source, or that of its basis, which is opened
 * when it is first asked for (ERR_MISSING when it was not prepared).  Borrowed until close; one
 * thread at a time. */
const struct variant_source *workshop_source(struct workshop *shop, const struct genome *genome,
                                             struct err *err);
/* The model of a genome, as stitch_model makes it of that source. */
struct model *workshop_model(struct workshop *shop, const struct genome *genome, struct err *err);

/* Name of the order's file, beside the calibration. */
const char *workshop_order_name(bool biased);
void workshop_close(struct workshop *shop); /* a zeroed struct is fine */

#endif
