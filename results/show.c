/* show.c - which format does what, and the words and numbers that all of them share. */
#include "results/show_parts.h"
#include "space/account.h"
#include "space/base/units.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum show_format show_format_parse(const char *name)
{
    static const char *const names[] = {"table", "json", "tsv"};
    for (int i = 0; i < N_SHOW_FORMATS; i++)
        if (strcmp(name, names[i]) == 0)
            return (enum show_format)i;
    return N_SHOW_FORMATS;
}

/* --- dispatch --- */

void show_front(FILE *out, enum show_format format, const struct study *study,
                const struct front *front)
{
    if (format == SHOW_JSON)
        show_front_json(out, study, front);
    else if (format == SHOW_TSV)
        show_front_tsv(out, study, front);
    else
        show_front_table(out, study, front);
}

void show_all(FILE *out, enum show_format format, const struct study *study,
              const struct front *front)
{
    if (format == SHOW_JSON)
        show_all_json(out, study, front);
    else if (format == SHOW_TSV)
        show_all_tsv(out, study, front);
    else
        show_all_table(out, study, front);
}

void show_answer(FILE *out, enum show_format format, const struct study *study,
                 const struct front *front, const struct query *query, const char *question,
                 const struct query_answer *answer)
{
    if (format == SHOW_JSON)
        show_answer_json(out, study, front, query, question, answer);
    else if (format == SHOW_TSV)
        show_answer_tsv(out, study, front, query, question, answer);
    else
        show_answer_table(out, study, front, query, question, answer);
}

void show_candidate(FILE *out, enum show_format format, const struct study *study,
                    const struct front_member *member, const char *details)
{
    if (format == SHOW_JSON)
        show_candidate_json(out, study, member, details);
    else if (format == SHOW_TSV)
        show_candidate_tsv(out, study, member, details);
    else
        show_candidate_table(out, study, member, details);
}

/* --- facts --- */

static bool is_coarser(enum format format, enum format parents)
{
    return format != FORMAT_NONE && parents != FORMAT_NONE &&
           format_bits(format) < format_bits(parents);
}

static void look_at_layer(const struct genome *genome, const struct genome *parent, uint32_t layer,
                          const struct geometry *geometry, struct show_facts *facts)
{
    const struct attn_choice *attn = &genome->attn[layer];
    const struct ffn_choice *ffn = &genome->ffn[layer];
    facts->thinner |= attn->kv_groups * attn->heads_per_group < geometry->n_heads ||
                      attn->kv_groups < geometry->n_kv_heads || ffn->width < geometry->d_ff;
    if (attn->kv_groups > 0)
        facts->coarser |= is_coarser(attn->qkv, parent->attn[layer].qkv) ||
                          is_coarser(attn->o, parent->attn[layer].o);
    if (ffn->width == 0)
        return;
    facts->coarser |= is_coarser(ffn->gate_up, parent->ffn[layer].gate_up) ||
                      is_coarser(ffn->down, parent->ffn[layer].down);
    if (facts->ffn_min == 0 || ffn->width < facts->ffn_min)
        facts->ffn_min = ffn->width;
    if (ffn->width > facts->ffn_max)
        facts->ffn_max = ffn->width;
}

void show_facts(const struct front_member *member, const struct geometry *geometry,
                const struct front *front, struct show_facts *facts)
{
    const struct genome *genome = &member->genome, *parent;
    struct genome plain;
    if (front != NULL && front->has_parent) {
        parent = &front->parent.genome;
    } else {
        genome_uniform(&plain, geometry, FORMAT_BF16);
        parent = &plain;
    }
    memset(facts, 0, sizeof *facts);
    facts->layers = genome_layers_kept(genome);
    facts->bits = account_bits(genome, geometry);
    facts->thinner = genome->hidden > 0;
    facts->verified = member->evaluation.rung == RUNG_FINAL;
    facts->exceeds_cache = front != NULL && front->private_cache_bytes > 0 &&
                           member->evaluation.weight_bytes > front->private_cache_bytes;
    facts->coarser =
        is_coarser(genome->embd, parent->embd) || is_coarser(genome->head, parent->head);
    for (uint32_t l = 0; l < genome->n_layers; l++)
        look_at_layer(genome, parent, l, geometry, facts);
}

bool show_is_on_front(const struct front *front, const struct front_member *member)
{
    for (size_t i = 0; i < front->n; i++)
        if (id128_equal(front->member[i].candidate.id, member->candidate.id))
            return true;
    return false;
}

const char *show_origin(uint32_t origin)
{
    /* By the numbers that records hold. */
    static const char *const names[] = {"corner", "uniform", "seed", "child", "random", "parent"};
    return origin < sizeof names / sizeof names[0] ? names[origin] : "?";
}

/* --- words and numbers --- */

const char *show_id(const struct id128 *id, char text[ID128_HEX])
{
    id128_hex(*id, text);
    text[SHOW_ID_DIGITS] = '\0';
    return text;
}

double show_half(double se)
{
    return 1.96 * se;
}

#define SMALLEST_SHOWN 1e-9 /* what the last decimal that is ever printed stands for */

const char *show_interval(double value, double half, char text[SHOW_NUMBER])
{
    if (isnan(value))
        return strcpy(text, "-");
    if (!(half > 0) || !isfinite(half)) {
        snprintf(text, SHOW_NUMBER, "%.4g", value);
        return text;
    }
    /* Rounding alone, as of the parent beside itself. */
    if (fabs(value) < SMALLEST_SHOWN / 2 && half < SMALLEST_SHOWN / 2)
        return strcpy(text, "0");
    /* One digit of the half-width, two where it begins with 1. */
    int exponent = (int)floor(log10(half));
    int decimals = -exponent + (half / pow(10, exponent) < 2 ? 1 : 0);
    decimals = decimals < 0 ? 0 : decimals > 9 ? 9 : decimals;
    snprintf(text, SHOW_NUMBER, "%.*f +-%.*f", decimals, value, decimals, half);
    return text;
}

const char *show_latency(const struct measured *measured, char text[SHOW_NUMBER])
{
    return show_interval(measured->median_ns * 1e-6, (measured->hi_ns - measured->lo_ns) / 2 * 1e-6,
                         text);
}

const char *show_formats(uint32_t set, char text[128])
{
    size_t used = 0;
    text[0] = '\0';
    for (int f = 0; f < N_FORMATS; f++)
        if (set >> f & 1)
            used += (size_t)snprintf(text + used, 128 - used, "%s%s", used > 0 ? " " : "",
                                     format_name((enum format)f));
    return text;
}

const char *show_ffn(const struct show_facts *facts, char text[32])
{
    if (facts->ffn_max == 0)
        snprintf(text, 32, "-");
    else if (facts->ffn_min == facts->ffn_max)
        snprintf(text, 32, "%u", facts->ffn_max);
    else
        snprintf(text, 32, "%u-%u", facts->ffn_min, facts->ffn_max);
    return text;
}

const char *show_study_option(const struct study *study, char text[STUDY_PATH_MAX + 8])
{
    char here[STUDY_PATH_MAX];
    const char *dir = study->dir;
    if (getcwd(here, sizeof here) != NULL) {
        size_t n = strlen(here);
        if (strcmp(dir, here) == 0)
            return strcpy(text, "");
        if (n > 1 && strncmp(dir, here, n) == 0 && dir[n] == '/')
            dir += n + 1;
    }
    snprintf(text, STUDY_PATH_MAX + 8, " -C %s", dir);
    return text;
}

const char *show_metric(enum query_metric metric)
{
    return metric == METRIC_PREFILL ? "ttft_ms.p50" : "tpot_ms.p50";
}

const char *show_question(const struct query *query, const char *budget, char text[200])
{
    char size[32];
    size_t used = 0;
    text[0] = '\0';
    if (query->budget_ns > 0)
        used += (size_t)snprintf(text, 200, "%s <= %.60s", show_metric(query->metric), budget);
    if (query->max_loss >= 0)
        used += (size_t)snprintf(text + used, 200 - used, "%sppl loss <= %g %%",
                                 used > 0 ? ", " : "", query->max_loss * 100);
    if (query->max_bytes > 0)
        snprintf(text + used, 200 - used, "%ssize <= %s", used > 0 ? ", " : "",
                 units_format_size((double)query->max_bytes, size));
    return text;
}

/* --- head lines --- */

const char *show_cache_note(const struct study *study, const struct front *front, char text[160])
{
    struct genome plain;
    char weights[32], cache[32];
    genome_uniform(&plain, &study->geometry, FORMAT_BF16);
    uint64_t bytes = front->has_parent ? front->parent.evaluation.weight_bytes
                                       : account_weight_bytes(&plain, &study->geometry);
    if (front->private_cache_bytes == 0)
        return strcpy(text, "");
    snprintf(text, 160, "its %s of weights %s the %s of cache that a core owns",
             units_format_size((double)bytes, weights),
             bytes > front->private_cache_bytes ? "exceed" : "fit into",
             units_format_size((double)front->private_cache_bytes, cache));
    return text;
}

void show_head(FILE *out, const struct study *study, const struct front *front)
{
    char decode[32], prefill[32], shape[160], note[160];
    show_cache_note(study, front, note);
    fprintf(out, "device    %s%s%s, %u thread%s\n",
            front->device[0] != '\0' ? front->device : "not measured yet",
            front->kernels[0] != '\0' ? ", kernels " : "", front->kernels, study->threads,
            study->threads == 1 ? "" : "s");
    fprintf(out, "workload  decode %s (tpot_ms), prefill %s (ttft_ms); median +- 95 %% interval\n",
            workload_format(&study->decode, decode), workload_format(&study->prefill, prefill));
    fprintf(out, "parent    %s%s%s\n", geometry_describe(&study->geometry, shape),
            note[0] != '\0' ? "; " : "", note);
    if (front->is_diagonal)
        fputs("compressed with an importance matrix: rounded by importance, nothing solved anew\n",
              out);
}

/* --- cells --- */

void show_cell(struct show_cells *cells, const char *text)
{
    if (cells->n == cells->room) {
        size_t room = cells->room > 0 ? 2 * cells->room : 256;
        void *more = realloc(cells->text, room * sizeof *cells->text);
        if (more == NULL) {
            cells->failed = true;
            return;
        }
        cells->text = more;
        cells->room = room;
    }
    snprintf(cells->text[cells->n++], sizeof *cells->text, "%s", text);
}

void show_cells_print(FILE *out, struct show_cells *cells)
{
    size_t width[32] = {0};
    for (size_t i = 0; i < cells->n; i++) {
        size_t n = strlen(cells->text[i]), c = i % cells->n_columns;
        width[c] = n > width[c] ? n : width[c];
    }
    for (size_t i = 0; i < cells->n; i += cells->n_columns) {
        size_t last = cells->n_columns;
        while (last > 0 && cells->text[i + last - 1][0] == '\0')
            last--;
        for (size_t c = 0; c < last; c++)
            fprintf(out, "%-*s%s", c + 1 < last ? (int)width[c] : 0, cells->text[i + c],
                    c + 1 < last ? "  " : "");
        fputc('\n', out);
    }
    if (cells->failed)
        fprintf(out, "(cut: out of memory)\n");
    free(cells->text);
    memset(cells, 0, sizeof *cells);
}

/* --- axes --- */

double show_kld_drawn(const struct front_member *member)
{
    return fmax(member->evaluation.kld, SHOW_KLD_MIN);
}

static void widen(double *low, double *high, double value)
{
    *low = fmin(*low, value);
    *high = fmax(*high, value);
}

bool show_range(const struct front *front, struct show_range *range)
{
    *range = (struct show_range){INFINITY, -INFINITY, INFINITY, -INFINITY};
    if (front->n == 0)
        return false;
    for (size_t i = 0; i < front->n; i++) {
        const struct evaluation *e = &front->member[i].evaluation;
        widen(&range->x0, &range->x1, e->decode.median_ns * 1e-6);
        widen(&range->y0, &range->y1, show_kld_drawn(&front->member[i]));
    }
    if (front->has_parent)
        widen(&range->x0, &range->x1, front->parent.evaluation.decode.median_ns * 1e-6);
    /* A tenth of the span on either side, and some span where all values are equal. */
    double dx = fmax(log(range->x1 / range->x0) * 0.08, 0.05);
    double dy = fmax(log(range->y1 / range->y0) * 0.08, 0.05);
    range->x0 *= exp(-dx);
    range->x1 *= exp(dx);
    range->y0 *= exp(-dy);
    range->y1 *= exp(dy);
    return true;
}

size_t show_ticks(double low, double high, size_t room, double ticks[32])
{
    /* From many steps a decade to one in so many decades: the densest that has room. */
    static const double steps[][10] = {{1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8},
                                       {1, 1.5, 2, 3, 4, 6, 8},
                                       {1, 2, 3, 5, 7},
                                       {1, 2, 5},
                                       {1, 3},
                                       {1}};
    const int n_steps = (int)(sizeof steps / sizeof steps[0]);
    size_t n = 0;
    for (int density = 0; density < n_steps + 6; density++) {
        const double *step = steps[density < n_steps ? density : n_steps - 1];
        int every = density < n_steps ? 1 : density - n_steps + 2;
        n = 0;
        for (int k = (int)floor(log10(low)); k <= (int)ceil(log10(high)); k++)
            for (int s = 0; s < 10 && step[s] > 0; s++) {
                double tick = step[s] * pow(10, k);
                if (k % every == 0 && tick >= low && tick <= high && n < 32)
                    ticks[n++] = tick;
            }
        if (n <= room)
            break;
    }
    return n;
}
