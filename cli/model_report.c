#include "cli/model_report.h"
#include "results/show_parts.h"
#include <cjson/cJSON.h>
#include <math.h>
#include <string.h>

/* --- factors --- */

/* Of a candidate's time what a term explains, on average over the points. */
static double share_of(const struct predictor *p, int term)
{
    double share = 0;
    for (size_t i = 0; i < p->n; i++)
        share += p->fit.weight[term] * p->point[i].term[term] / p->point[i].ns / (double)p->n;
    return share;
}

static void print_table(const struct predictor predictor[2])
{
    struct show_cells cells = {.n_columns = 5};
    char text[SHOW_NUMBER];
    show_cell(&cells, "  term");
    for (int w = 0; w < 2; w++) {
        show_cell(&cells, workload_format(&predictor[w].workload, text));
        show_cell(&cells, "share");
    }
    for (int t = 0; t < N_PREDICTOR_TERMS; t++) {
        double share[2] = {share_of(&predictor[0], t), share_of(&predictor[1], t)};
        if (share[0] == 0 && share[1] == 0)
            continue;
        snprintf(text, sizeof text, "  %s", predictor_term_name(t));
        show_cell(&cells, text);
        for (int w = 0; w < 2; w++) {
            snprintf(text, sizeof text, t < N_OP_CLASSES ? "%.3f" : "%.3g ns",
                     predictor[w].fit.weight[t]);
            show_cell(&cells, text);
            snprintf(text, sizeof text, "%.1f %%", 100 * share[w]);
            show_cell(&cells, text);
        }
    }
    show_cells_print(stdout, &cells);
}

void model_report_factors(const struct predictor predictor[2])
{
    char name[32];
    for (int w = 0; w < 2; w++)
        printf(
            "%-9s %zu points, each left out in turn: %.1f %% (root mean square), prior weight %g\n",
            workload_format(&predictor[w].workload, name), predictor[w].n,
            100 * time_fit_error(&predictor[w].fit), predictor[w].fit.lambda);
    printf("factors on the op table's times, and their share of a candidate's:\n");
    print_table(predictor);
}

/* --- accuracies --- */

static void add_cells(struct show_cells *cells, const struct model_report_row *row)
{
    const struct predictor_accuracy *a = &row->accuracy;
    const double percent[] = {a->mape, a->table_mape, a->within_5, a->within_10, a->coverage};
    const double rho[] = {a->spearman, a->table_spearman};
    char text[SHOW_NUMBER];
    snprintf(text, sizeof text, "  %s", row->what);
    show_cell(cells, text);
    snprintf(text, sizeof text, "%zu", a->n);
    show_cell(cells, text);
    for (int i = 0; i < 5; i++) {
        snprintf(text, sizeof text, a->n > 0 ? "%.1f %%" : "-", 100 * percent[i]);
        show_cell(cells, text);
    }
    for (int i = 0; i < 2; i++) {
        snprintf(text, sizeof text, isnan(rho[i]) ? "-" : "%.4f", rho[i]);
        show_cell(cells, text);
    }
}

void model_report_accuracies(const struct model_report_row *rows, size_t n)
{
    static const char *const titles[] = {"  held out",  "n",          "error",
                                         "op table's",  "within 5 %", "10 %",
                                         "in interval", "rank corr.", "op table's"};
    struct show_cells cells = {.n_columns = sizeof titles / sizeof titles[0]};
    for (size_t c = 0; c < cells.n_columns; c++)
        show_cell(&cells, titles[c]);
    for (size_t i = 0; i < n; i++)
        add_cells(&cells, &rows[i]);
    show_cells_print(stdout, &cells);
}

void model_report_put(cJSON *root, const char *name, const struct predictor_accuracy *a)
{
    cJSON *node = cJSON_AddObjectToObject(root, name);
    put_number(node, "n", (double)a->n);
    put_number(node, "mape", a->mape);
    put_number(node, "spearman", a->spearman);
    put_number(node, "table_mape", a->table_mape);
    put_number(node, "table_spearman", a->table_spearman);
    if (a->n == 0)
        return;
    put_number(node, "within_5", a->within_5);
    put_number(node, "within_10", a->within_10);
    put_number(node, "coverage", a->coverage);
}
