/* show_heat.c - sensitivities as a heat map of characters. */
#include "results/show_heat.h"
#include "results/show_parts.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LABEL     5 /* columns left of the first group */
#define GAP       2 /* between groups */
#define CELL      2
#define N_STEPS   12
#define FIRST_LOG (-5.0) /* log10 of where step 1 begins */

static const char glyphs[N_STEPS + 1] = ".0123456789#";

/* From dark to bright, in the order of the glyphs: even in brightness, and without red and green to
 * be told apart.  Backgrounds of the 256-colour cube. */
static const int backgrounds[N_STEPS] = {234, 53, 54, 60, 24, 30, 36, 72, 77, 148, 220, 231};
#define FIRST_BRIGHT 7 /* dark writing from here on */

/* --- cells --- */

static int step_of(double kld)
{
    if (!(kld > 0))
        return 0;
    int step = 1 + (int)floor(2 * (log10(kld) - FIRST_LOG) + 1e-9);
    return step < 0 ? 0 : step >= N_STEPS ? N_STEPS - 1 : step;
}

char show_heat_glyph(double kld)
{
    return isnan(kld) ? '?' : glyphs[step_of(kld)];
}

/* Returns the blanks that are owed to a cell: none at the end of a line. */
static int put_cell(FILE *out, double kld, bool colour)
{
    int step = isnan(kld) ? -1 : step_of(kld);
    if (colour && step >= 0) {
        fprintf(out, "\033[48;5;%d;38;5;%dm%c \033[0m", backgrounds[step],
                step < FIRST_BRIGHT ? 231 : 16, glyphs[step]);
        return 0;
    }
    fputc(show_heat_glyph(kld), out);
    return CELL - 1;
}

/* --- columns --- */

/* The levels of one kind of gene, in the layers or shared by all of them. */
struct group {
    enum gene_kind kind;
    bool shared;
    uint32_t n;                           /* columns */
    uint32_t value[2 * SPACE_MAX_LEVELS]; /* ascending */
    char word[2 * SPACE_MAX_LEVELS][16];
    int width;
};

static int gene_at(const struct space *space, const struct group *group, uint32_t layer)
{
    return group->shared ? space_gene_of(space, group->kind, -1)
                         : space->gene_of[layer][group->kind];
}

/* The level of `gene` that stands in a column, -1 where it has none such. */
static int level_at(const struct gene *gene, uint32_t value)
{
    for (uint32_t l = 0; l + 1 < gene->n_levels; l++)
        if (gene->value[l] == value)
            return (int)l;
    return -1;
}

static void add_column(struct group *group, const struct space *space, uint32_t gene,
                       uint32_t level)
{
    uint32_t value = space->gene[gene].value[level], at = 0;
    while (at < group->n && group->value[at] < value)
        at++;
    if ((at < group->n && group->value[at] == value) || group->n == 2 * SPACE_MAX_LEVELS)
        return;
    memmove(&group->value[at + 1], &group->value[at], (group->n - at) * sizeof group->value[0]);
    memmove(&group->word[at + 1], &group->word[at], (group->n - at) * sizeof group->word[0]);
    group->value[at] = value;
    space_level_name(space, gene, level, group->word[at]);
    group->n++;
}

/* Groups of the layers first, then the shared ones; each in the order of the kinds. */
static size_t make_groups(const struct space *space, struct group groups[2 * N_GENE_KINDS])
{
    size_t n = 0;
    for (int shared = 0; shared < 2; shared++)
        for (int kind = 0; kind < N_GENE_KINDS; kind++) {
            struct group *group = &groups[n];
            memset(group, 0, sizeof *group);
            group->kind = (enum gene_kind)kind;
            group->shared = shared == 1;
            for (uint32_t g = 0; g < space->n_genes; g++)
                if (space->gene[g].kind == group->kind &&
                    (space->gene[g].layer < 0) == group->shared)
                    for (uint32_t l = 0; l + 1 < space->gene[g].n_levels; l++)
                        add_column(group, space, g, l);
            int name = (int)strlen(space_kind_name(group->kind)), cells = CELL * (int)group->n;
            group->width = name > cells ? name : cells;
            n += group->n > 0;
        }
    return n;
}

/* --- lines --- */

/* Words downwards, ending just above their columns. */
static void print_words(FILE *out, const struct group *groups, size_t n)
{
    size_t height = 0;
    for (size_t i = 0; i < n; i++)
        for (uint32_t c = 0; c < groups[i].n; c++)
            height = strlen(groups[i].word[c]) > height ? strlen(groups[i].word[c]) : height;
    for (size_t line = 0; line < height; line++) {
        int blanks = LABEL;
        for (size_t i = 0; i < n; i++) {
            for (uint32_t c = 0; c < groups[i].n; c++) {
                size_t length = strlen(groups[i].word[c]), above = height - length;
                if (line >= above) {
                    fprintf(out, "%*s%c", blanks, "", groups[i].word[c][line - above]);
                    blanks = 0;
                } else {
                    blanks++;
                }
                blanks++;
            }
            blanks += groups[i].width - CELL * (int)groups[i].n + GAP;
        }
        fputc('\n', out);
    }
}

static void print_layer(FILE *out, const struct sensitivity *table, const struct group *groups,
                        size_t n, uint32_t layer, const char *label, bool colour)
{
    const struct space *space = sensitivity_space(table);
    fprintf(out, "%*s", LABEL - 1, label);
    int blanks = 1;
    for (size_t i = 0; i < n; i++) {
        int gene = gene_at(space, &groups[i], layer);
        for (uint32_t c = 0; c < groups[i].n; c++) {
            int level = gene < 0 ? -1 : level_at(&space->gene[gene], groups[i].value[c]);
            if (level < 0) {
                blanks += CELL;
                continue;
            }
            fprintf(out, "%*s", blanks, "");
            blanks =
                put_cell(out, sensitivity_at(table, (uint32_t)gene, (uint32_t)level)->kld, colour);
        }
        blanks += groups[i].width - CELL * (int)groups[i].n + GAP;
    }
    fputc('\n', out);
}

static void print_band(FILE *out, const struct sensitivity *table, const struct group *groups,
                       size_t n, bool colour)
{
    char label[16];
    fprintf(out, "%*s", LABEL, "");
    for (size_t i = 0; i < n; i++)
        fprintf(out, "%-*s", i + 1 < n ? groups[i].width + GAP : 0,
                space_kind_name(groups[i].kind));
    fputc('\n', out);
    print_words(out, groups, n);
    if (groups[0].shared) {
        print_layer(out, table, groups, n, 0, "all", colour);
        return;
    }
    for (uint32_t layer = 0; layer < sensitivity_space(table)->geometry.n_layers; layer++) {
        snprintf(label, sizeof label, "%u", layer);
        print_layer(out, table, groups, n, layer, label, colour);
    }
}

static void print_legend(FILE *out, int width, bool colour)
{
    static const char *const from[N_STEPS] = {"below 1e-5", "1e-5", "3.2e-5", "1e-4",
                                              "3.2e-4",     "1e-3", "3.2e-3", "0.01",
                                              "0.032",      "0.1",  "0.32",   "1 and more"};
    const int indent = fprintf(out, "nats per token: ");
    int used = indent, blanks = 0;
    for (int step = 0; step < N_STEPS; step++) {
        int length = CELL + (int)strlen(from[step]);
        if (used + blanks + length > width) {
            fprintf(out, "\n%*s", indent, "");
            used = indent;
            blanks = 0;
        }
        fprintf(out, "%*s", blanks, "");
        /* The middle of the step stands for it. */
        double kld = step == 0 ? 0 : pow(10, FIRST_LOG + (step - 0.5) / 2);
        fprintf(out, "%*s%s", put_cell(out, kld, colour), "", from[step]);
        used += blanks + length;
        blanks = GAP;
    }
    fputc('\n', out);
}

void show_heat(FILE *out, const struct sensitivity *table, int width, bool colour)
{
    struct group *groups = malloc(2 * N_GENE_KINDS * sizeof *groups);
    if (groups == NULL) {
        fprintf(out, "out of memory\n");
        return;
    }
    size_t n = make_groups(sensitivity_space(table), groups);
    for (size_t begin = 0, end; begin < n; begin = end) {
        int used = LABEL + groups[begin].width;
        for (end = begin + 1; end < n && groups[end].shared == groups[begin].shared &&
                              used + GAP + groups[end].width <= width;
             end++)
            used += GAP + groups[end].width;
        print_band(out, table, groups + begin, end - begin, colour);
        fputc('\n', out);
    }
    free(groups);
    print_legend(out, width, colour);
}
