/* space_genome.c - level vectors become genomes. */
#include "space/space_parts.h"

#include <assert.h>
#include <string.h>

static uint32_t value_of(const struct space *space, const uint8_t *levels, enum gene_kind kind,
                         int32_t layer)
{
    int32_t gene = space_gene_of(space, kind, layer);

    return gene < 0 ? space->fixed[kind] : space->gene[gene].value[levels[gene]];
}

/* KV groups (or FFN width) of a layer; 0 when the unit or the layer is dropped. */
static uint32_t unit_size(const struct space *space, const uint8_t *levels, enum gene_kind kind,
                          int32_t layer)
{
    return value_of(space, levels, GENE_LAYER, layer) ? value_of(space, levels, kind, layer) : 0;
}

static bool layer_kept(const struct space *space, const uint8_t *levels, int32_t layer)
{
    return unit_size(space, levels, GENE_KV_GROUPS, layer) > 0 ||
           unit_size(space, levels, GENE_FFN_WIDTH, layer) > 0;
}

/* Width of the residual stream, and how it is turned. */
static uint32_t hidden_of(const struct space *space, const uint8_t *levels, enum rotation *rotation)
{
    uint32_t width;

    space_basis_of(value_of(space, levels, GENE_BASIS, -1), &width, rotation);
    return width;
}

/* The lowest level with the same effect on rows of `row` weights; 0 for a unit that is gone. */
static void settle_format(const struct space *space, uint8_t *levels, enum gene_kind kind,
                          int32_t layer, uint32_t row)
{
    int32_t index = space->gene_of[layer < 0 ? GLOBAL_ROW : layer][kind];
    const struct gene *gene = &space->gene[index < 0 ? 0 : index];
    uint8_t level = 0;

    if (index < 0)
        return;
    if (row > 0) {
        enum profile profile = space->limits.profile;
        enum format effect = profile_format(profile, (enum format)gene->value[levels[index]], row);

        while (profile_format(profile, (enum format)gene->value[level], row) != effect)
            level++;
    }
    levels[index] = level;
}

/* What rows of `row` weights are kept in; any format for a unit that is gone (`row` 0). */
static enum format format_of(const struct space *space, const uint8_t *levels, enum gene_kind kind,
                             int32_t layer, uint32_t row)
{
    enum format format = (enum format)value_of(space, levels, kind, layer);

    return row > 0 ? profile_format(space->limits.profile, format, row) : format;
}

/* Activations say nothing where no matrix of the unit is quantized, or the unit is gone. */
static void settle_act(const struct space *space, uint8_t *levels, enum gene_kind kind,
                       int32_t layer, bool is_quantized)
{
    int32_t index = space->gene_of[layer][kind];

    if (index >= 0 && !is_quantized)
        levels[index] = 0;
}

/* Whether the matrices that `kind` decides are kept and quantized, with rows of `row` weights. */
static bool is_quantized(const struct space *space, const uint8_t *levels, enum gene_kind kind,
                         int32_t layer, uint32_t row)
{
    return row > 0 && format_is_quantized(format_of(space, levels, kind, layer, row));
}

void space_repair(const struct space *space, uint8_t *levels)
{
    const struct geometry *g = &space->geometry;
    const uint32_t head_columns = g->n_heads / g->n_kv_heads * g->head_dim;
    const int32_t n_layers = (int32_t)g->n_layers;
    enum rotation rotation;
    uint32_t kept = 0, hidden;
    bool has_attn = false;

    for (uint32_t i = 0; i < space->n_genes; i++)
        if (levels[i] >= space->gene[i].n_levels)
            levels[i] = (uint8_t)(space->gene[i].n_levels - 1);

    /* A dropped layer can come back by its keep gene, or by its FFN, whose level 0 is "dropped". */
    for (int32_t l = 0; l < n_layers; l++)
        kept += layer_kept(space, levels, l);
    for (int32_t l = 0; l < n_layers && kept < space->limits.min_layers; l++) {
        if (!layer_kept(space, levels, l)) {
            int32_t keep = space->gene_of[l][GENE_LAYER];

            levels[keep >= 0 ? keep : space->gene_of[l][GENE_FFN_WIDTH]] = 1;
            kept++;
        }
    }

    hidden = hidden_of(space, levels, &rotation);
    for (int32_t l = 0; l < n_layers; l++) {
        uint32_t groups = unit_size(space, levels, GENE_KV_GROUPS, l);
        uint32_t width = unit_size(space, levels, GENE_FFN_WIDTH, l);

        has_attn = has_attn || groups > 0;
        settle_format(space, levels, GENE_QKV, l, groups > 0 ? hidden : 0);
        settle_format(space, levels, GENE_O, l, groups * head_columns);
        settle_format(space, levels, GENE_GATE_UP, l, width > 0 ? hidden : 0);
        settle_format(space, levels, GENE_DOWN, l, width);
        settle_act(space, levels, GENE_ATTN_ACT, l,
                   is_quantized(space, levels, GENE_QKV, l, groups > 0 ? hidden : 0) ||
                       is_quantized(space, levels, GENE_O, l, groups * head_columns));
        settle_act(space, levels, GENE_FFN_ACT, l,
                   is_quantized(space, levels, GENE_GATE_UP, l, width > 0 ? hidden : 0) ||
                       is_quantized(space, levels, GENE_DOWN, l, width));
    }
    settle_format(space, levels, GENE_EMBD, -1, hidden);
    if (space->gene_of[GLOBAL_ROW][GENE_KV] >= 0 && !has_attn)
        levels[space->gene_of[GLOBAL_ROW][GENE_KV]] = 0;
}

void space_genome(const struct space *space, const uint8_t *levels, struct genome *genome)
{
    const struct geometry *g = &space->geometry;
    const uint32_t heads = g->n_heads / g->n_kv_heads;
    uint8_t repaired[SPACE_MAX_GENES];
    uint32_t hidden;
    int status;

    memcpy(repaired, levels, space->n_genes);
    space_repair(space, repaired);

    memset(genome, 0, sizeof *genome);
    genome->n_layers = g->n_layers;
    genome->kv = (enum format)value_of(space, repaired, GENE_KV, -1);
    genome->hidden = hidden = hidden_of(space, repaired, &genome->rotation);
    genome->embd = genome->head = format_of(space, repaired, GENE_EMBD, -1, hidden);
    genome->zero_ffn = profile_zero_ffn(space->limits.profile, g);
    genome->bias = profile_has_bias(space->limits.profile);
    for (uint32_t l = 0; l < g->n_layers; l++) {
        int32_t layer = (int32_t)l;
        uint32_t groups = unit_size(space, repaired, GENE_KV_GROUPS, layer);
        uint32_t width = unit_size(space, repaired, GENE_FFN_WIDTH, layer);

        /* Where nothing is quantized the canonical form sees to the activations. */
        genome->attn[l] = (struct attn_choice){
            groups, heads, format_of(space, repaired, GENE_QKV, layer, hidden),
            format_of(space, repaired, GENE_O, layer, groups * heads * g->head_dim),
            (enum act_format)value_of(space, repaired, GENE_ATTN_ACT, layer)};
        genome->ffn[l] =
            (struct ffn_choice){width, format_of(space, repaired, GENE_GATE_UP, layer, hidden),
                                format_of(space, repaired, GENE_DOWN, layer, width),
                                (enum act_format)value_of(space, repaired, GENE_FFN_ACT, layer)};
    }
    status = genome_canonicalize(genome, g, NULL);
    assert(status == 0);
    (void)status;
}
