/* space_names.c - genes and levels for people. */
#include "space/space_parts.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

double space_log10_size(const struct space *space)
{
    double log_size = 0.0;

    for (uint32_t i = 0; i < space->n_genes; i++)
        log_size += log10(space->gene[i].n_levels);
    return log_size;
}

const char *space_kind_name(enum gene_kind kind)
{
    static const char *const names[N_GENE_KINDS] = {
        [GENE_KV_GROUPS] = "attn_kv_groups",
        [GENE_QKV] = "attn_qkv",
        [GENE_O] = "attn_output",
        [GENE_FFN_WIDTH] = "ffn_width",
        [GENE_GATE_UP] = "ffn_gate_up",
        [GENE_DOWN] = "ffn_down",
        [GENE_LAYER] = "keep",
        [GENE_ATTN_ACT] = "attn_act",
        [GENE_FFN_ACT] = "ffn_act",
        [GENE_EMBD] = "token_embd",
        [GENE_KV] = "kv_cache",
        [GENE_BASIS] = "hidden",
    };

    assert((int)kind >= 0 && kind < N_GENE_KINDS);
    return names[kind];
}

const char *space_gene_name(const struct space *space, uint32_t gene, char text[48])
{
    const struct gene *g = &space->gene[gene];

    assert(gene < space->n_genes);
    if (g->layer < 0)
        snprintf(text, 48, "%s", space_kind_name(g->kind));
    else
        snprintf(text, 48, "blk.%d.%s", g->layer, space_kind_name(g->kind));
    return text;
}

const char *space_level_name(const struct space *space, uint32_t gene, uint32_t level,
                             char text[16])
{
    const struct gene *g = &space->gene[gene];
    uint32_t value = g->value[level], width;
    enum rotation rotation;

    assert(gene < space->n_genes && level < g->n_levels);
    switch (g->kind) {
    case GENE_QKV:
    case GENE_O:
    case GENE_GATE_UP:
    case GENE_DOWN:
    case GENE_EMBD:
    case GENE_KV:
        snprintf(text, 16, "%s", format_name((enum format)value));
        break;
    case GENE_ATTN_ACT:
    case GENE_FFN_ACT:
        snprintf(text, 16, "%s", act_format_name((enum act_format)value));
        break;
    case GENE_BASIS:
        space_basis_of(value, &width, &rotation);
        snprintf(text, 16, "%u%s", width, rotation == ROTATION_NONE ? "" : "r");
        break;
    case GENE_LAYER:
        snprintf(text, 16, "%s", value == 0 ? "drop" : "keep");
        break;
    default: /* a width or a count */
        if (value == 0)
            snprintf(text, 16, "drop");
        else
            snprintf(text, 16, "%u", value);
    }
    return text;
}
