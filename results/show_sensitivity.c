#include "results/show_sensitivity.h"
#include "results/show_heat.h"
#include "results/show_parts.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LOSS_MIN 1e-7 /* below it a mean of logarithms would only tell noise */
#define N_NAMED  3    /* units at either end */

static bool is_known(const struct sensitivity *table, uint32_t gene, uint32_t level)
{
    return !isnan(sensitivity_at(table, gene, level)->kld);
}

/* --- the most and the least sensitive --- */

struct unit_loss {
    uint32_t unit;
    double log_loss; /* mean over its choices that every unit of the kind has */
    uint32_t n;
};

/* Whether every layer that has a gene of this kind can make, and has measured, this choice. */
static bool all_have(const struct sensitivity *table, enum gene_kind kind, uint32_t value)
{
    const struct space *space = sensitivity_space(table);
    for (uint32_t layer = 0; layer < space->geometry.n_layers; layer++) {
        int32_t gene = space->gene_of[layer][kind];
        bool has = false;
        for (uint32_t l = 0; gene >= 0 && l + 1 < space->gene[gene].n_levels; l++)
            has |= space->gene[gene].value[l] == value && is_known(table, (uint32_t)gene, l);
        if (!has)
            return false;
    }
    return true;
}

static int by_loss(const void *a, const void *b)
{
    const struct unit_loss *x = a, *y = b;
    if (x->log_loss != y->log_loss)
        return x->log_loss > y->log_loss ? -1 : 1;
    return (x->unit > y->unit) - (x->unit < y->unit);
}

/* Units of the layers, the most sensitive first.  A layer's keep gene is no choice of one unit. */
static size_t rank_units(const struct sensitivity *table, struct unit_loss *rank)
{
    const struct space *space = sensitivity_space(table);
    size_t n = 0;
    for (uint32_t unit = 0; unit < 2 * space->geometry.n_layers; unit++) {
        struct unit_loss loss = {.unit = unit};
        for (uint32_t g = 0; g < space->n_genes; g++) {
            const struct gene *gene = &space->gene[g];
            if (gene->unit != unit || gene->layer < 0 || gene->kind == GENE_LAYER)
                continue;
            for (uint32_t l = 0; l + 1 < gene->n_levels; l++)
                if (all_have(table, gene->kind, gene->value[l])) {
                    loss.log_loss += log(fmax(sensitivity_at(table, g, l)->kld, LOSS_MIN));
                    loss.n++;
                }
        }
        loss.log_loss /= loss.n;
        if (loss.n > 0)
            rank[n++] = loss;
    }
    qsort(rank, n, sizeof *rank, by_loss);
    return n;
}

static void print_unit(FILE *out, const struct unit_loss *loss, const char *before)
{
    fprintf(out, "%sblk.%u.%s %.2g", before, loss->unit / 2, loss->unit % 2 == 0 ? "attn" : "ffn",
            exp(loss->log_loss));
}

static void print_extremes(FILE *out, const struct sensitivity *table)
{
    const struct space *space = sensitivity_space(table);
    struct unit_loss *rank = malloc(2 * (size_t)space->geometry.n_layers * sizeof *rank);
    size_t n = rank != NULL ? rank_units(table, rank) : 0;
    size_t named = n / 2 < N_NAMED ? n / 2 : N_NAMED;
    if (named > 0) {
        fputs("most sensitive   ", out);
        for (size_t i = 0; i < named; i++)
            print_unit(out, &rank[i], i > 0 ? ", " : "");
        fputs("\nleast sensitive  ", out);
        for (size_t i = 0; i < named; i++)
            print_unit(out, &rank[n - 1 - i], i > 0 ? ", " : "");
        fputs("\n(nats: geometric mean of the choices that all layers have)\n", out);
    }
    free(rank);
}

/* --- table --- */

/* Rows that two standard errors do not tell from no loss at all. */
static size_t count_vague(const struct sensitivity *table)
{
    const struct space *space = sensitivity_space(table);
    size_t n = 0;
    for (uint32_t g = 0; g < space->n_genes; g++)
        for (uint32_t l = 0; l + 1 < space->gene[g].n_levels; l++) {
            const struct sensitivity_row *row = sensitivity_at(table, g, l);
            n += row->kld < 2 * row->kld_se; /* false for NAN */
        }
    return n;
}

static void print_head(FILE *out, const struct study *study, const struct sensitivity *table)
{
    char shape[160], interval[SHOW_NUMBER];
    const char *kernels;
    double kld, se;
    size_t n_rows, n_known = sensitivity_count(table, &n_rows);
    sensitivity_base(table, &kld, &se, &kernels);
    fprintf(out, "parent    %s\n", geometry_describe(&study->geometry, shape));
    fprintf(out, "base      the finest of profile %s: %s nats per token from the parent\n",
            profile_name(study->limits.profile), show_interval(kld, show_half(se), interval));
    fprintf(out, "rows      %zu of %zu, each on %llu held-out tokens%s%s\n", n_known, n_rows,
            (unsigned long long)study->sensitivity_tokens, kernels[0] != '\0' ? ", kernels " : "",
            kernels);
    fputs("\nWhat each choice adds to the KLD, all others left at the finest:\n\n", out);
}

static void print_table(FILE *out, const struct study *study, const struct sensitivity *table,
                        const struct show_heat *heat)
{
    size_t n_vague = count_vague(table), n_known = sensitivity_count(table, NULL);
    print_head(out, study, table);
    show_heat(out, table, heat->width, heat->colour);
    print_extremes(out, table);
    if (n_vague > 0)
        fprintf(out, "%zu of %zu rows are within two standard errors of no loss\n", n_vague,
                n_known);
}

/* --- tsv --- */

static void print_figure(FILE *out, double value)
{
    if (isfinite(value))
        fprintf(out, "\t%.9g", value);
    else
        fputs("\t", out);
}

static void print_tsv(FILE *out, const struct sensitivity *table)
{
    const struct space *space = sensitivity_space(table);
    char value[16];
    fputs("layer\tunit\tgene\tvalue\tlayer_error\tkld\tkld_se\tweight_bytes_saved\t"
          "kv_bytes_per_token_saved\n",
          out);
    for (uint32_t g = 0; g < space->n_genes; g++)
        for (uint32_t l = 0; l + 1 < space->gene[g].n_levels; l++) {
            const struct gene *gene = &space->gene[g];
            const struct sensitivity_row *row = sensitivity_at(table, g, l);
            double weights, kv;
            if (isnan(row->kld))
                continue;
            if (gene->layer >= 0)
                fprintf(out, "%d", gene->layer);
            fprintf(out, "\t%u\t%s\t%s", gene->unit, space_kind_name(gene->kind),
                    space_level_name(space, g, l, value));
            print_figure(out, row->layer_error);
            print_figure(out, row->kld);
            print_figure(out, row->kld_se);
            sensitivity_saved(table, g, l, &weights, &kv);
            fprintf(out, "\t%.0f\t%.0f\n", weights, kv);
        }
}

void show_sensitivity(FILE *out, enum show_format format, const struct study *study,
                      const struct sensitivity *table, const struct show_heat *heat)
{
    if (format == SHOW_JSON)
        sensitivity_write(out, table);
    else if (format == SHOW_TSV)
        print_tsv(out, table);
    else
        print_table(out, study, table, heat);
}
