/* variant.h - a part of a unit compressed to one choice: packed weights and their layer error.
 * A unit has two parts that are compressed apart: attention {qkv, o}, FFN {gate_up, down}; the
 * embedding and the head are parts of their own.  A variant is named by content: parent,
 * calibration, order, algorithm version, layer, part, kept count and format; its bytes are
 * deterministic.
 *
 * What stays is named by keep_order.h and keeps the parent's layout; how a matrix is cut is told in
 * cut.h.  In short, where pruning comes before quantizing (compress_order.h): where a unit gets
 * narrower, qkv and gate/up lose rows, and those that stay are the parent's; o and down lose
 * columns, and those that stay are solved anew for what went, so they are other weights than the
 * parent's even in its own format.  A matrix that keeps its shape and its format is the parent's
 * byte for byte.
 *
 * Where quantizing comes first, rows and columns stand in the keep order itself, best first, at
 * full width too: groups as wholes, in each its query heads, then the positions of a head as they
 * were. q, k, v and o agree about it, and so do gate, up and down, so that the unit computes what
 * it did (RoPE turns inside heads).  o and down are quantized once, with error feedback from the
 * best column to the worst, as wide as their format fits; a narrower one is the beginning of those
 * rows. Rows of the other parts are quantized each for itself: theirs are the same bytes at every
 * width. Blocks may span query heads, so those of a group that go are left out before o is
 * quantized; even then nothing is solved anew. */
#ifndef KERF_VARIANT_H
#define KERF_VARIANT_H

#include "evaluator/compression/calibration.h"
#include "evaluator/compression/cut.h"
#include "evaluator/compression/keep_order.h"
#include "evaluator/parent.h"
#include "space/compress_order.h"

enum part { PART_QKV, PART_O, PART_GATE_UP, PART_DOWN, PART_EMBD, PART_HEAD, N_PARTS };

struct variant_key {
    enum part part;
    uint32_t layer;           /* 0 for embedding and head */
    uint32_t kept;            /* KV groups or FFN channels; 0 for embedding and head */
    uint32_t heads_per_group; /* attention parts, else 0 */
    enum format format;       /* fits every row of the part */
};

/* Where packed bytes live: up to three matrices one after another, each 64-byte aligned; behind
 * that of o or down its bias where the source is centred, float[d_model], likewise aligned.  A
 * centred source has a variant of o and of down with nothing kept, too: no matrix, the bias alone,
 * which is the unit's mean output. */
struct variant {
    const uint8_t *data; /* borrowed from the store */
    size_t n_bytes;
    struct {
        size_t offset, n_bytes;
        uint32_t n_out, n_in;
    } matrix[3]; /* q,k,v or gate,up or one */
    uint32_t n_matrices;
    bool biased;
    size_t bias_offset;
    /* Relative layer error tr(D H D') / tr(W H W'): the mean squared change of the part's output on
     * the calibration text over the mean square of the output itself, D = W - W', H the second
     * moments of the input (hessian.h; not damped; the head's for a tied embedding, the identity
     * for one that is only looked up).  Columns that were taken away (o, down) are in it, with 0 in
     * W'; rows that were taken away (qkv, gate/up) are not, for their loss is that of the columns
     * they feed.  Beside a bias H in the numerator is the covariance: what the bias makes up for is
     * no loss. */
    double error;
    double fallback;        /* as cut_loss has it: 0 where the method never had to fall back */
    struct hash256 payload; /* SHA-256 of the bytes; set by the store */
};

/* What every build needs; borrowed. */
struct variant_source {
    const struct parent *parent;
    const struct calibration *calibration;
    const struct keep_order *order; /* centred: variants of o and down have a bias */
    struct hash256 identity;        /* parent, calibration and order */
    enum compress_order compress_order;
};

/* Fills the identity too, from the order and the calibration, which knows whose it is.  Prunes,
 * then quantizes, until told otherwise. */
void variant_source_init(struct variant_source *source, const struct parent *parent,
                         const struct calibration *calibration, const struct keep_order *order);

/* "qkv", "o", "gate_up", "down", "embd", "head". */
const char *part_name(enum part part);
/* Of the way in which parts are compressed. */
uint32_t variant_version(void);

/* Layout only: offsets, shapes and n_bytes for a key (data NULL, error NAN). */
void variant_layout(const struct variant_source *source, const struct variant_key *key,
                    struct variant *layout);

/* The bias of a variant; NULL where it has none. */
const float *variant_bias(const struct variant *variant);

/* How each matrix of a part is cut, in the order of the variant's matrices. */
struct variant_cuts {
    struct cut cut[3];
    uint32_t n;
    struct kept list[2]; /* what the cuts' lists point into */
};
/* ERR_MISSING as below. */
int variant_cuts_init(struct variant_cuts *cuts, const struct variant_source *source,
                      const struct variant_key *key, struct err *err);
void variant_cuts_fini(struct variant_cuts *cuts); /* a zeroed struct is fine */

/* Compress into `out` (layout->n_bytes bytes, aligned as malloc does): select rows, repair columns,
 * quantize with error feedback. Sets layout->error and fallback; gaps between matrices are zeros.  ERR_DATA
 * names tensor and position of a NaN, an infinity or a value that the format cannot hold;
 * ERR_MISSING when the parent does not have that much of the unit.  One thread; different builds
 * may run at the same time. */
int variant_build(const struct variant_source *source, const struct variant_key *key,
                  struct variant *layout, uint8_t *out, struct err *err);

/* Whether the key's bytes are the beginnings of the rows of another variant, which is then *whole:
 * o and down, where quantizing comes first and a wider one fits the format. */
bool variant_is_shortened(const struct variant_source *source, const struct variant_key *key,
                          struct variant_key *whole);
/* As variant_build, the same bytes, from that variant: nothing is quantized. */
int variant_shorten(const struct variant_source *source, const struct variant_key *key,
                    const struct variant *whole, struct variant *layout, uint8_t *out,
                    struct err *err);

/* 128-bit name under which the bytes are kept. */
struct id128 variant_id(const struct variant_source *source, const struct variant_key *key);

#endif
