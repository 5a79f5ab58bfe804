/* keep_order.h - which parts of a unit stay when it gets narrower: nested orders, best first, so
 * that the kept set of a width is named by the width alone.
 *   FFN channel j:  score = mean(x_j^2) * |W_down[:, j]|^2      (its share of the output's energy)
 *   KV group g:     the same summed over the columns of W_o that its query heads feed
 *   query head:     the same over its own columns, ordered inside its group
 * The closed-form compensation of the columns that stay (methods.md A1) has its place behind
 * keep_order_init: it will make an order from greedy OBS and repaired columns. */
#ifndef KERF_KEEP_ORDER_H
#define KERF_KEEP_ORDER_H

#include "evaluator/compression/calibration.h"
#include "evaluator/parent.h"

struct keep_order {
    uint32_t *channel[GEOMETRY_MAX_LAYERS]; /* [d_ff], best first; NULL without an FFN */
    uint32_t *group[GEOMETRY_MAX_LAYERS];   /* [n_kv_heads], best first; NULL without attention */
    uint32_t *head[GEOMETRY_MAX_LAYERS];    /* [n_kv_heads][heads per group]: for each group, in
                                               the parent's order, its query heads as numbers
                                               inside the group, best first */
};

/* ERR_DATA naming tensor and column when a score is not finite.  Where the parent's own unit is
 * narrower than its geometry the arrays are as short as that unit. */
int keep_order_init(struct keep_order *order, const struct parent *parent,
                    const struct calibration *calibration, struct err *err);
void keep_order_fini(struct keep_order *order); /* a zeroed struct is fine */

/* The first `n` of `order[]` in ascending position, so that the model keeps the parent's layout. */
void keep_order_take(const uint32_t *order, uint32_t n, uint32_t *kept);

#endif
