/* show_table.c - front, list and answer as tables for people.  Not a stable format: programs read
 * the JSON. */
#include "results/peer_record.h"
#include "results/show_parts.h"
#include "space/base/units.h"
#include <stdio.h>
#include <string.h>

static const char *const titles[] = {"  ID",   "tpot p50 ms", "kld mean",   "size", "avg bits",
                                     "layers", "ffn",         "prefill ms", "acc",  "note"};
#define N_COLUMNS (sizeof titles / sizeof titles[0])

static void put_titles(struct show_cells *cells)
{
    cells->n_columns = N_COLUMNS;
    for (size_t c = 0; c < N_COLUMNS; c++)
        show_cell(cells, titles[c]);
}

static void add_word(char *note, size_t size, const char *word)
{
    size_t used = strlen(note);
    if (word[0] != '\0')
        snprintf(note + used, size - used, "%s%s", used > 0 ? ", " : "", word);
}

/* "joint, *, unverified": explained below the table. */
static void put_note(struct show_cells *cells, const struct front_member *member,
                     const struct show_facts *facts, const char *word)
{
    char note[64] = "";
    add_word(note, sizeof note, word);
    add_word(note, sizeof note, show_is_joint(facts) ? "joint" : "");
    add_word(note, sizeof note, member->evaluation.kernel_bound != 0 ? "*" : "");
    add_word(note, sizeof note, facts->verified ? "" : "unverified");
    add_word(note, sizeof note, member->evaluation.flags != 0 ? "noisy" : "");
    show_cell(cells, note);
}

/* One row; `mark` stands before the id ("> ", "  "), `name` in its place where it is not NULL. */
static void put_row(struct show_cells *cells, const struct study *study, const struct front *front,
                    const struct front_member *member, const char *mark, const char *name,
                    const char *word)
{
    const struct evaluation *e = &member->evaluation;
    struct show_facts facts;
    char text[160], hex[ID128_HEX];
    show_facts(member, &study->geometry, front, &facts);
    snprintf(text, sizeof text, "%s%s", mark, name != NULL ? name : show_id(&e->candidate, hex));
    show_cell(cells, text);
    show_cell(cells, show_latency(&e->decode, text));
    show_cell(cells, name != NULL && e->kld == 0
                         ? "0"
                         : show_interval(e->kld, show_half(e->kld_se), text));
    show_cell(cells, units_format_size((double)e->weight_bytes, text));
    snprintf(text, sizeof text, "%.2f", facts.bits);
    show_cell(cells, text);
    snprintf(text, sizeof text, "%u/%u", facts.layers, study->geometry.n_layers);
    show_cell(cells, text);
    show_cell(cells, show_ffn(&facts, text));
    show_cell(cells, show_latency(&e->prefill, text));
    show_cell(cells, show_interval(e->accuracy, show_half(e->accuracy_se), text));
    put_note(cells, member, &facts, word);
}

static void put_parent(struct show_cells *cells, const struct study *study,
                       const struct front *front)
{
    if (front->has_parent)
        put_row(cells, study, front, &front->parent, "  ", "parent", "");
}

/* What the marks of the rows mean, where any has them. */
static void explain(FILE *out, uint32_t bound, bool unverified)
{
    char formats[128];
    if (bound != 0)
        fprintf(out,
                "* kernel-bound: our decode kernel of %s does not reach the memory bandwidth, so "
                "the time is the kernel's, not the format's\n",
                show_formats(bound, formats));
    if (unverified)
        fprintf(out, "unverified: measured at the search rung only (fewer tokens and rounds)\n");
}

static void explain_rows(FILE *out, const struct front_member *const *rows, size_t n)
{
    uint32_t bound = 0;
    bool unverified = false;
    for (size_t i = 0; i < n; i++) {
        bound |= rows[i]->evaluation.kernel_bound;
        unverified |= rows[i]->evaluation.rung != RUNG_FINAL;
    }
    explain(out, bound, unverified);
}

/* --- front and list --- */

static void put_members(FILE *out, const struct study *study, const struct front *front,
                        const struct front_member *member, size_t n, bool mark_front)
{
    struct show_cells cells = {0};
    uint32_t bound = front->has_parent ? front->parent.evaluation.kernel_bound : 0;
    bool unverified = false;
    put_titles(&cells);
    for (size_t i = 0; i < n; i++) {
        bool on_front = mark_front && show_is_on_front(front, &member[i]);
        put_row(&cells, study, front, &member[i], on_front ? "> " : "  ", NULL, "");
        bound |= member[i].evaluation.kernel_bound;
        unverified |= member[i].evaluation.rung != RUNG_FINAL;
    }
    put_parent(&cells, study, front);
    show_cells_print(out, &cells);
    explain(out, bound, unverified);
}

/* Whether another engine ranks the front alike, where one was asked. */
static void print_peer(FILE *out, const struct study *study, const struct front *front)
{
    struct peer_record peer;
    char rho[2][32];
    if (!peer_record_load(study, front, &peer))
        return;
    fprintf(out,
            "llama-bench, build %s, when asked: rank correlation of %zu members (%zu of them are "
            "still here): decode %s, prefill %s\n",
            peer.build, peer.n, peer.n_on_front, show_rank(peer.rho[0], rho[0]),
            show_rank(peer.rho[1], rho[1]));
}

void show_front_table(FILE *out, const struct study *study, const struct front *front)
{
    show_head(out, study, front);
    if (front->n == 0) {
        fprintf(out, "no candidate has been measured yet\n");
        return;
    }
    put_members(out, study, front, front->member, front->n, false);
    fprintf(out, "%zu of %zu measured candidates are beaten by nobody\n", front->n, front->n_all);
    print_peer(out, study, front);
}

void show_all_table(FILE *out, const struct study *study, const struct front *front)
{
    show_head(out, study, front);
    if (front->n_all == 0 && !front->has_parent) {
        fprintf(out, "no candidate has been measured yet\n");
        return;
    }
    put_members(out, study, front, front->all, front->n_all, true);
    fprintf(out, "%zu measured, %zu of them on the front (>)\n", front->n_all, front->n);
}

/* --- answers --- */

static void print_yes(FILE *out, const struct study *study, const struct front *front,
                      const struct query_answer *answer)
{
    struct show_cells cells = {0};
    char option[STUDY_PATH_MAX + 8], hex[ID128_HEX];
    put_titles(&cells);
    for (uint32_t i = 0; i < answer->n_hits; i++)
        put_row(&cells, study, front, answer->hit[i], i == 0 ? "> " : "  ", NULL,
                i == 0 ? "feasible, best quality" : "feasible");
    put_parent(&cells, study, front);
    show_cells_print(out, &cells);
    explain_rows(out, answer->hit, answer->n_hits);
    if (answer->parent_meets)
        fprintf(out, "the parent itself meets this too\n");
    fprintf(out, "next: kerf export%s %s model.gguf\n", show_study_option(study, option),
            show_id(&answer->hit[0]->candidate.id, hex));
}

static void print_no(FILE *out, const struct study *study, const struct front *front,
                     const struct query *query, const char *question,
                     const struct query_answer *answer)
{
    struct show_cells cells = {0};
    char words[200], latency[SHOW_NUMBER], hex[ID128_HEX];
    show_question(query, question, words);
    if (answer->n_nearest == 0) {
        fprintf(out, "no measured candidate meets %s on this device: none has been measured yet\n",
                words);
        return;
    }
    const struct front_member *best = answer->nearest[0];
    show_id(&best->candidate.id, hex);
    fprintf(out, "no measured candidate meets %s on this device ", words);
    if (query->max_loss < 0 && query->max_bytes == 0)
        fprintf(out, "(best %s ms: %s)\n",
                show_latency(query_measured(best, query->metric), latency), hex);
    else
        fprintf(out, "(nearest: %s)\n", hex);
    put_titles(&cells);
    for (uint32_t i = 0; i < answer->n_nearest; i++)
        put_row(&cells, study, front, answer->nearest[i], "  ", NULL, i == 0 ? "nearest" : "");
    put_parent(&cells, study, front);
    show_cells_print(out, &cells);
    explain_rows(out, answer->nearest, answer->n_nearest);
    fprintf(out, "%u measured", answer->n_measured);
    if (query->budget_ns > 0)
        fprintf(out, ", %u of them over the budget", answer->n_over_budget);
    if (answer->n_flagged > 0)
        fprintf(out, ", %u flagged as noisy (--allow-flagged lets them answer)", answer->n_flagged);
    fprintf(out, "%s\n", answer->parent_meets ? "; the parent itself meets this" : "");
}

void show_answer_table(FILE *out, const struct study *study, const struct front *front,
                       const struct query *query, const char *question,
                       const struct query_answer *answer)
{
    char workload[32];
    const struct workload *asked =
        query->metric == METRIC_PREFILL ? &study->prefill : &study->decode;
    show_head(out, study, front);
    fprintf(out, "metric    %s of %s, compared by its upper 95 %% bound\n",
            show_metric(query->metric), workload_format(asked, workload));
    if (answer->n_hits > 0)
        print_yes(out, study, front, answer);
    else
        print_no(out, study, front, query, question, answer);
}
