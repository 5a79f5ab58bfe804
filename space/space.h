/* space.h - the searched set: genes, their levels, and the genome that a level vector stands for.
 *
 * Search sees nothing but this: `n_genes` genes with `n_levels[g]` levels each, level 0 the
 * cheapest, the last the parent's own (for formats: the finest that is allowed).  What has only one
 * level is no gene, so n_levels >= 2 everywhere.  Genes belong to units: attention of layer l is
 * unit 2l, its FFN unit 2l + 1, and unit 2 * n_layers holds the global ones.  Under `gguf-hetero`
 * and `native` each unit has its own width gene; under `gguf` width genes are global and each layer
 * has one keep/drop gene (in the unit of its attention), because that profile wants equal layers.
 * Under `gguf-hetero` layer 0 never drops its attention.  Activations are a choice under `native`
 * alone, where each unit has a gene for them: 8 bits or float (none of 4 bits, for no kernel
 * computes with such).  Every level vector stands for a genome that is valid under the profile, so
 * nothing that cannot be exported is ever proposed. */
#ifndef KERF_SPACE_H
#define KERF_SPACE_H

#include "space/account.h"
#include "space/genome.h"
#include "space/profile.h"

enum gene_kind {
    GENE_KV_GROUPS, /* attention: groups kept, 0 drops it (where allowed) */
    GENE_QKV,       /* format of q, k, v */
    GENE_O,
    GENE_FFN_WIDTH, /* 0 drops it */
    GENE_GATE_UP,
    GENE_DOWN,
    GENE_LAYER, /* gguf: 0 drops the layer */
    GENE_EMBD,  /* format of embedding and head */
    GENE_BASIS, /* width and rotation of the residual stream, space_basis_value */
    GENE_KV,    /* format of the KV cache */
    GENE_ATTN_ACT, /* native: what the attention's quantized matrices are multiplied with */
    GENE_FFN_ACT,
    N_GENE_KINDS
};

#define SPACE_MAX_LEVELS 16
#define SPACE_MAX_GENES  (GEOMETRY_MAX_LAYERS * 8 + 8)

struct gene {
    enum gene_kind kind;
    int32_t layer; /* -1: global */
    uint32_t unit;
    uint32_t n_levels; /* 2..SPACE_MAX_LEVELS */
    /* Groups, width, keep flag or enum format, ascending; enum act_format, the cheaper a8 first. */
    uint32_t value[SPACE_MAX_LEVELS];
};

/* What the user allows (study.json, "space"). */
struct space_limits {
    enum profile profile;
    enum format types[N_FORMATS]; /* for layer matrices, any order, at least one */
    uint32_t n_types;
    enum format embd_types[N_FORMATS];
    uint32_t n_embd_types;
    uint32_t min_layers;      /* layers that keep at least one unit, 1..n_layers */
    bool drop_attn, drop_ffn; /* whether whole units may go; under gguf both or neither */
    double min_ffn;           /* smallest FFN width as a share of d_ff, (0, 1] */
    uint32_t ffn_grid;        /* step between widths; 0: geometry_grid */
    uint32_t kv_groups[8];    /* allowed counts, the parent's own among them */
    uint32_t n_kv_groups;     /* 0: the parent's and its half */
    double hidden[8];         /* widths of the residual stream as shares of d_model, 1 among them */
    uint32_t n_hidden;        /* 0: space_default_limits' */
    enum rotation rotation;   /* of the full stream, beside the plain one; narrower ones are turned */
    enum format kv[N_FORMATS]; /* of the KV cache: F16, Q8_0, Q4_0 */
    uint32_t n_kv;             /* 0: F16 alone */
    /* Of units with something quantized; under the gguf profiles a8 alone. */
    enum act_format act[N_ACT_FORMATS];
    uint32_t n_act;           /* 0: a8 alone */
};

struct space {
    struct geometry geometry;
    struct space_limits limits; /* nothing left out, lists ascending */
    uint32_t n_genes;
    uint32_t n_units; /* 2 * n_layers + 1; a unit without genes has one choice */
    struct gene gene[SPACE_MAX_GENES];
    /* Where a choice is made: the gene of (layer, kind), the last row for the global ones, -1 where
     * there is none; then the global gene speaks, and without one `fixed`. */
    int32_t gene_of[GEOMETRY_MAX_LAYERS + 1][N_GENE_KINDS];
    uint32_t fixed[N_GENE_KINDS];
};

/* Step between widths of the residual stream: 256 where at least 8 such steps make d_model, so that
 * the K-quants stay, else 32, else 4, else 1 (in the same way). */
uint32_t space_hidden_grid(const struct geometry *geometry);
/* The width that a share stands for: the nearest on that grid, d_model for 1. */
uint32_t space_hidden_width(const struct geometry *geometry, double share);
/* What a level of GENE_BASIS says: width and rotation, and back.  Ascending with the width; at one
 * width the turned one comes first, for it has an output matrix more. */
uint32_t space_basis_value(uint32_t width, enum rotation rotation);
void space_basis_of(uint32_t value, uint32_t *width, enum rotation *rotation);

/* Build the gene list.  ERR_CONFIG when the limits contradict the geometry or leave nothing to
 * choose; the text begins with the pointer into study.json ("/space/ffn/min: ...") and ends with
 * the remedy, and the space is then without genes.  Where more widths lie on the grid than a gene
 * has levels, the step is a multiple of the grid; d_ff is always one of them.  `space` is large
 * (150 KB): keep it off small stacks. */
int space_init(struct space *space, const struct geometry *geometry,
               const struct space_limits *limits, struct err *err);

/* Sensible limits for a geometry: types Q2_K..Q8_0 (or the 32-blocks where rows do not fit), widths
 * down to 1/4, half the KV groups, half the layers; a residual stream of 7/8 where that lies on the
 * grid of 256; every KV cache that the heads fit; under native both kinds of activations. */
void space_default_limits(struct space_limits *limits, const struct geometry *geometry,
                          enum profile profile);

/* Bring `levels` to a vector whose genome is valid and canonical: raises what breaks a limit (too
 * few layers left: the first dropped ones come back at their smallest width), and puts genes
 * without effect at level 0 (formats of a dropped unit) or at the lowest level with the same effect
 * (formats with the same fallback), so that equal models have equal vectors.  A level that does
 * not exist becomes the highest.  Deterministic, and a second repair changes nothing. */
void space_repair(const struct space *space, uint8_t *levels);

/* The canonical genome of a level vector (repaired inside; `levels` is not changed). */
void space_genome(const struct space *space, const uint8_t *levels, struct genome *genome);

/* The gene that decides `kind` in `layer` (-1: global), or -1 where nothing is to be decided. */
int32_t space_gene_of(const struct space *space, enum gene_kind kind, int32_t layer);

/* log10 of the number of level vectors, for people. */
double space_log10_size(const struct space *space);

/* "blk.3.ffn_down" style name of a gene, for tables; and of its kind alone: "ffn_down". */
const char *space_gene_name(const struct space *space, uint32_t gene, char text[48]);
const char *space_kind_name(enum gene_kind kind);
/* What one of its levels means, in a word: "Q3_K", "512", "drop" for a unit that is gone, "448r" for
 * a hidden width in a rotated basis. */
const char *space_level_name(const struct space *space, uint32_t gene, uint32_t level,
                             char text[16]);

#endif
