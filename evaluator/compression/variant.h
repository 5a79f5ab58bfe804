/* variant.h - a part of a unit compressed to one choice: packed weights and their layer error.
 * A unit has two parts that are compressed apart: attention {qkv, o}, FFN {gate_up, down}; the
 * embedding and the head are parts of their own.  A variant is named by content: parent,
 * calibration, algorithm version, layer, part, kept count and format; its bytes are deterministic.
 *
 * What stays is named by keep_order.h and keeps the parent's layout.  Where a matrix already has
 * the format asked for and what stays of its rows is whole blocks, the parent's bytes are copied
 * unchanged; so a float parent narrowed in its own format is an exact selection.  Everything else
 * is unpacked, selected and quantized anew, weighted by the mean squared input of each column plus
 * 1 % of their mean (the damping of methods.md A0: a column that the calibration text left silent
 * still has a little weight). */
#ifndef KERF_VARIANT_H
#define KERF_VARIANT_H

#include "evaluator/compression/calibration.h"
#include "evaluator/compression/keep_order.h"
#include "evaluator/parent.h"

enum part { PART_QKV, PART_O, PART_GATE_UP, PART_DOWN, PART_EMBD, PART_HEAD, N_PARTS };

struct variant_key {
    enum part part;
    uint32_t layer;           /* 0 for embedding and head */
    uint32_t kept;            /* KV groups or FFN channels; 0 for embedding and head */
    uint32_t heads_per_group; /* attention parts, else 0 */
    enum format format;       /* fits every row of the part */
};

/* Where packed bytes live: up to three matrices one after another, each 64-byte aligned. */
struct variant {
    const uint8_t *data; /* borrowed from the store */
    size_t n_bytes;
    struct {
        size_t offset, n_bytes;
        uint32_t n_out, n_in;
    } matrix[3]; /* q,k,v or gate,up or one */
    uint32_t n_matrices;
    /* Relative layer error, sum of x_c^2 (w - w')^2 over sum of x_c^2 w^2, with x_c^2 the mean
     * squared input of column c (1 for embedding and head).  Columns that were taken away (o, down)
     * count with their whole weight; rows that were taken away (qkv, gate/up) do not count, for
     * their loss is that of the columns they feed. */
    double error;
};

/* What every build needs; borrowed. */
struct variant_source {
    const struct parent *parent;
    const struct calibration *calibration;
    const struct keep_order *order;
    struct hash256 identity; /* parent, calibration and algorithm version */
};

/* Fills the identity too, from the calibration, which knows whose it is. */
void variant_source_init(struct variant_source *source, const struct parent *parent,
                         const struct calibration *calibration, const struct keep_order *order);

/* "qkv", "o", "gate_up", "down", "embd", "head". */
const char *part_name(enum part part);

/* Layout only: offsets, shapes and n_bytes for a key (data NULL, error NAN). */
void variant_layout(const struct geometry *geometry, const struct variant_key *key,
                    struct variant *layout);

/* Compress into `out` (layout->n_bytes bytes): select rows and columns, quantize with importance.
 * Sets layout->error; gaps between matrices are zeros.  ERR_DATA names tensor and position of a
 * NaN, an infinity or a value that the format cannot hold; ERR_MISSING when the parent does not
 * have that much of the unit.  One thread; different builds may run at the same time. */
int variant_build(const struct variant_source *source, const struct variant_key *key,
                  struct variant *layout, uint8_t *out, struct err *err);

/* 128-bit name under which the bytes are kept. */
struct id128 variant_id(const struct variant_source *source, const struct variant_key *key);

#endif
