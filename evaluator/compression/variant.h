/* variant.h - a part of a unit compressed to one choice: packed weights and their layer error.
 * A unit has two parts that are compressed apart: attention {qkv, o}, FFN {gate_up, down}; the
 * embedding and the head are parts of their own.  A variant is named by content: parent,
 * calibration, algorithm version, layer, part, kept count and format; its bytes are deterministic. */
#ifndef KERF_VARIANT_H
#define KERF_VARIANT_H

#include "evaluator/compression/calibration.h"
#include "evaluator/compression/keep_order.h"
#include "evaluator/parent.h"

enum part { PART_QKV, PART_O, PART_GATE_UP, PART_DOWN, PART_EMBD, PART_HEAD, N_PARTS };

struct variant_key {
    enum part part;
    uint32_t layer;       /* 0 for embedding and head */
    uint32_t kept;        /* KV groups or FFN channels; 0 for embedding and head */
    uint32_t heads_per_group; /* attention parts, else 0 */
    enum format format;   /* fits every row of the part */
};

/* Where packed bytes live: up to three matrices one after another, each 64-byte aligned. */
struct variant {
    const uint8_t *data;    /* borrowed from the store */
    size_t n_bytes;
    struct { size_t offset, n_bytes; uint32_t n_out, n_in; } matrix[3]; /* q,k,v or gate,up or one */
    uint32_t n_matrices;
    double error;           /* sum of squared weight errors times mean squared input, over the same
                               of the weights themselves: relative layer error, [0, ...) */
};

/* What every build needs; borrowed. */
struct variant_source {
    const struct parent *parent;
    const struct calibration *calibration;
    const struct keep_order *order;
    struct hash256 identity; /* parent, calibration and algorithm version */
};

/* Layout only: offsets, shapes and n_bytes for a key (data NULL, error NAN). */
void variant_layout(const struct geometry *geometry, const struct variant_key *key,
                    struct variant *layout);

/* Compress into `out` (layout->n_bytes bytes): select rows and columns, quantize with importance.
 * A format equal to the parent's own copies its bytes unchanged.  Sets layout->error.  ERR_DATA
 * names tensor and position of a NaN or an infinity. */
int variant_build(const struct variant_source *source, const struct variant_key *key,
                  struct variant *layout, uint8_t *out, struct err *err);

/* 128-bit name under which the bytes are kept. */
struct id128 variant_id(const struct variant_source *source, const struct variant_key *key);

#endif
