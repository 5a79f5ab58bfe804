/* genome.h - one choice per unit plus the global genes: everything that makes a candidate.
 *
 * A genome is canonical when equal models have equal genomes: the fields of a dropped unit are
 * FORMAT_NONE / 0, every format went through its fallback for the row it is used with, and a tied
 * head repeats the embedding's format.  The canonical text is one line, fit for people and `diff`:
 *
 *   k1 embd=Q8_0 head=Q8_0 kv=F16 | 4x4 Q4_K Q6_K a8 / 1024 Q4_K Q5_K a8 | - / 512 Q3_K Q4_K a8 | ...
 *      global genes                 attention        /  FFN     of layer 0 | layer 1 ...
 *
 * where 4x4 means 4 KV groups of 4 query heads each, formats are those of qkv and o (gate/up and
 * down), and "-" is a dropped unit. */
#ifndef KERF_GENOME_H
#define KERF_GENOME_H

#include "space/base/hash.h"
#include "space/format.h"
#include "space/geometry.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

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
    enum format embd, head, kv;
    struct attn_choice attn[GEOMETRY_MAX_LAYERS];
    struct ffn_choice ffn[GEOMETRY_MAX_LAYERS];
};

/* The dense parent with every matrix in `format` (fallbacks applied), 16-bit KV cache. */
void genome_uniform(struct genome *genome, const struct geometry *geometry, enum format format);

/* Bring to canonical form in place.  -1 with ERR_CONFIG when a choice lies outside the geometry
 * (more groups than the parent has, width above d_ff or off the grid...). */
int genome_canonicalize(struct genome *genome, const struct geometry *geometry, struct err *err);

#define GENOME_TEXT_MAX (GEOMETRY_MAX_LAYERS * 64 + 64)

/* Canonical text; returns its length.  `text` has room for GENOME_TEXT_MAX bytes. */
size_t genome_format(const struct genome *genome, char *text);
/* Untrusted text (archive, GGUF key, message): ERR_DATA with the position of the first flaw. */
int genome_parse(const char *text, struct genome *genome, struct err *err);
bool genome_equal(const struct genome *a, const struct genome *b);

/* The candidate's id: SHA-256 over canonical text and parent hash, first 128 bits. */
struct id128 genome_id(const struct genome *genome, const struct hash256 *parent);

/* What is left, for people: layers with at least one unit, mean width, mean weight bits. */
uint32_t genome_layers_kept(const struct genome *genome);

#endif
