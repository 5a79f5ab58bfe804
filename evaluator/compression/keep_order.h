/* keep_order.h - which parts of a unit stay when it gets narrower: nested orders, best first, so
 * that the kept set of a width is named by the width alone.
 *   FFN channels   the greedy order of obs.h over the columns of W_down
 *   KV groups      the same over the columns of W_o that the query heads of a group feed
 *   query heads    the same over the columns of one head, in rounds in which every group loses one
 * Each with the Hessian of that matrix's input, or where o and down will have a bias with its
 * covariances (`centred`): what never varies is then the first to go, a bias stands for it.  Heads
 * are ordered with all groups there and groups with all heads there; a kept set that is smaller in
 * both takes the first of both orders.
 *
 * The columns that stay are to be solved anew (obs_repair) with the damping that the unit's order
 * was made with; where that was OBS_PLAIN they stay as they are, as they do everywhere with a
 * diagonal calibration.  Which it was is part of the order
 * and of its hash, and said in the log.
 *
 * Measured on the reference model, every layer narrowed alike, BF16 (tests/bench/bench_compress:
 * 16,384 calibration tokens, KLD in nats per token on 8,192 held-out ones, +- standard error):
 *
 *                          as it is here      order, no repair   importance, no repair
 *     FFN 768 of 1024     0.0069 +- 0.0007    0.0106 +- 0.0011      0.0142 +- 0.0026
 *     FFN 512 of 1024     0.054  +- 0.009     0.114  +- 0.015       0.145  +- 0.022
 *     KV groups 2 of 4    0.192  +- 0.013     0.276  +- 0.015       0.317  +- 0.024
 *     query heads 2 of 4  0.088  +- 0.013     0.344  +- 0.030       0.330  +- 0.017
 *
 * An order is made once and kept in a file beside the calibration, since a process comes and goes
 * with every evaluation, and since nodes whose processors round differently must cut alike:
 *   "KERFKEEP" | u32 version, n_layers | identity[32] of calibration, version and centring |
 *   per layer: u32 n_channels, n_groups, n_heads, 0 | f64 damping of attention, FFN |
 *              u32 channel[n_channels], group[n_groups], head[n_heads] |
 *   SHA-256 of all of it */
#ifndef KERF_KEEP_ORDER_H
#define KERF_KEEP_ORDER_H

#include "evaluator/compression/calibration.h"
#include "evaluator/parent.h"

struct keep_order {
    bool centred; /* made with covariances, for weights beside a bias; part of the hash */
    uint32_t n_layers;
    uint32_t n_channels[GEOMETRY_MAX_LAYERS], n_groups[GEOMETRY_MAX_LAYERS];
    uint32_t n_heads[GEOMETRY_MAX_LAYERS];   /* 0 without the unit, as are those above */
    uint32_t *channel[GEOMETRY_MAX_LAYERS];  /* [n_channels], best first; NULL without an FFN */
    uint32_t *group[GEOMETRY_MAX_LAYERS];    /* [n_groups], best first; NULL without attention */
    uint32_t *head[GEOMETRY_MAX_LAYERS];     /* [n_groups][heads per group]: for each group, in the
                                                parent's order, its query heads as numbers inside
                                                the group, best first */
    double damping[2 * GEOMETRY_MAX_LAYERS]; /* by unit, 2 * layer (+ 1 for the FFN): share of the
                                                mean of diag H for obs_repair, or OBS_PLAIN */
};

/* ERR_DATA naming tensor and column when a weight is not finite.  Where the parent's own unit is
 * narrower than its geometry the arrays are as short as that unit. */
int keep_order_init(struct keep_order *order, const struct parent *parent,
                    const struct calibration *calibration, struct err *err);
/* The same with covariances. */
int keep_order_init_centred(struct keep_order *order, const struct parent *parent,
                            const struct calibration *calibration, struct err *err);
/* By importance alone, mean(x_j^2) * |W[:, j]|^2 of the same columns, nothing repaired: what the
 * other one is compared with. */
int keep_order_init_plain(struct keep_order *order, const struct parent *parent,
                          const struct calibration *calibration, struct err *err);
void keep_order_fini(struct keep_order *order); /* a zeroed struct is fine */

/* The order in the file at `path` when it belongs to this calibration, is centred or not as asked
 * for and is sound; else it is made and left there (atomically; a file that cannot be written costs
 * a line in the log). */
int keep_order_open(struct keep_order *order, const char *path, const struct parent *parent,
                    const struct calibration *calibration, bool centred, struct err *err);
int keep_order_save(const struct keep_order *order, const struct calibration *calibration,
                    const char *path, struct err *err);
/* ERR_DATA when the file is damaged, of another version, of another calibration or parent, or
 * centred where it should not be (or the other way round). */
int keep_order_load(struct keep_order *order, const char *path, const struct parent *parent,
                    const struct calibration *calibration, bool centred, struct err *err);

/* Over everything that the order says. */
struct hash256 keep_order_hash(const struct keep_order *order);
/* Of the way in which orders are made. */
uint32_t keep_order_version(void);

/* The first `n` of `order[]` in ascending position, so that the model keeps the parent's layout. */
void keep_order_take(const uint32_t *order, uint32_t n, uint32_t *kept);

#endif
