/* genome.h - one choice per unit plus the global genes: everything that makes a candidate.
 *
 * A genome is canonical when equal models have equal genomes: the fields of a dropped unit are
 * FORMAT_NONE / 0 / ACT_FLOAT, every format went through its fallback for the row it is used with,
 * a tied head repeats the embedding's format, a unit without quantized matrices has ACT_FLOAT, and
 * a model without attention has a KV cache in F16.
 *
 * Activations: a unit's `act` speaks for its quantized matrices.  Where one of the two is quantized
 * and the other is float, ACT_Q8 stands for the former; a float matrix always takes float
 * activations (genome_matrix_act).  The head follows its weights (act_format_of).
 *
 * The canonical text is one line, fit for people and `diff`:
 *
 *   k1 embd=Q8_0 head=Q8_0 kv=F16 | 4x4 Q4_K Q6_K a8 / 1024 Q4_K Q5_K a8 | - / 512 Q3_K Q4_K a8 |
 * ... global genes                 attention        /  FFN     of layer 0 | layer 1 ...
 *
 * where 4x4 means 4 KV groups of 4 query heads each, formats are those of qkv and o (gate/up and
 * down), and "-" is a dropped unit.  "zero=32" follows kv where a dropped FFN is carried as a zero
 * one of 32 columns, "bias" where the two writers of each layer have one; "hidden=224" and
 * "rotation=hadamard" stand after k1 where the residual stream is in another basis than the
 * parent's. */
#ifndef KERF_GENOME_H
#define KERF_GENOME_H

#include "space/base/hash.h"
#include "space/format.h"
#include "space/geometry.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

/* What the residual stream is turned by, once for the whole model (evaluator/compression/basis.h):
 * nothing, or a randomized Hadamard matrix, which spreads outliers over all channels. */
enum rotation { ROTATION_NONE, ROTATION_HADAMARD, N_ROTATIONS };

const char *rotation_name(enum rotation rotation); /* "none", "hadamard" */
enum rotation rotation_parse(const char *name);    /* N_ROTATIONS when unknown */

struct attn_choice {
    uint32_t kv_groups;       /* kept, 0 = dropped */
    uint32_t heads_per_group; /* query heads kept in each */
    enum format qkv, o;
    enum act_format act;
};

struct ffn_choice {
    uint32_t width; /* kept channels, 0 = dropped */
    enum format gate_up, down;
    enum act_format act;
};

struct genome {
    uint32_t n_layers; /* of the parent; a layer with both units dropped is gone from the model */
    /* The basis of the residual stream.  `hidden` principal directions of it are kept, then turned
     * by `rotation`; 0: it keeps its width.  In another basis than the parent's own the output
     * matrix is one of its own, for the gains of the final norm are folded into it. */
    uint32_t hidden;
    enum rotation rotation;
    enum format embd, head, kv;
    /* Columns of the all-zero FFN (GENOME_ZERO_FORMAT weights) that stands in each layer that
     * keeps its attention but not its FFN; 0 where the model simply leaves it out.  Adds nothing to
     * the residual stream, but its bytes and its time are real.  Canonical: 0 without such layers.
     */
    uint32_t zero_ffn;
    /* The outputs of o and down have a bias of d_model values each, and a dropped unit leaves one
     * behind (its mean output).  The profile says where there is room for it (profile_has_bias). */
    bool bias;
    struct attn_choice attn[GEOMETRY_MAX_LAYERS];
    struct ffn_choice ffn[GEOMETRY_MAX_LAYERS];
};

/* The weights of a zero FFN: float, so that every width and row fits. */
#define GENOME_ZERO_FORMAT FORMAT_F16

/* The dense parent with every matrix in `format` (fallbacks applied), 16-bit KV cache, activations
 * as act_format_of says. */
void genome_uniform(struct genome *genome, const struct geometry *geometry, enum format format);

/* Bring to canonical form in place.  -1 with ERR_CONFIG, and the genome unchanged, when a choice
 * lies outside the geometry (more groups than the parent has, a width above d_ff, a dropped head).
 * Any width up to d_ff is allowed: the fallbacks make each one fit, and which grid is searched
 * is the space's business; so is any `hidden` up to d_model, which itself becomes 0.  Rows: qkv,
 * gate/up, embedding and head d_model of genome_geometry; o kv_groups * heads_per_group *
 * head_dim; down the width; KV cache head_dim.  `geometry` is the parent's, here and below. */
int genome_canonicalize(struct genome *genome, const struct geometry *geometry, struct err *err);

/* Whether the residual stream is in another basis than the parent's. */
bool genome_is_turned(const struct genome *genome);
/* The geometry of the model that a genome makes of a parent, units at their widest: d_model is
 * `hidden`, and a turned model is not tied.  The parent's own for a genome that is not turned. */
struct geometry genome_geometry(const struct genome *genome, const struct geometry *parent);

#define GENOME_TEXT_MAX (GEOMETRY_MAX_LAYERS * 80 + 144)

/* Canonical text; returns its length.  `text` has room for GENOME_TEXT_MAX bytes. */
size_t genome_format(const struct genome *genome, char *text);
/* Untrusted text (archive, GGUF key, message): ERR_DATA with the position of the first flaw.
 * Strict: what is read formats to the same bytes.  It says nothing about a geometry; call
 * genome_canonicalize before use. */
int genome_parse(const char *text, struct genome *genome, struct err *err);
bool genome_equal(const struct genome *a, const struct genome *b);

/* The candidate's id: SHA-256 over canonical text and parent hash, first 128 bits. */
struct id128 genome_id(const struct genome *genome, const struct hash256 *parent);

/* How many layers have at least one unit. */
uint32_t genome_layers_kept(const struct genome *genome);

/* The activation format that a matrix of `weights` takes in a unit that says `act`. */
enum act_format genome_matrix_act(enum act_format act, enum format weights);

/* Whether layer `layer` carries the zero FFN. */
bool genome_has_zero_ffn(const struct genome *genome, uint32_t layer);

#endif
