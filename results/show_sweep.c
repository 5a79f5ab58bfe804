#include "results/show_sweep.h"
#include "results/show_parts.h"
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static const char *equal_name(enum sweep_equal equal)
{
    return equal == SWEEP_SAME ? "same" : equal == SWEEP_DIFFERS ? "differs" : "not compared";
}

static const struct sweep_judgement *last_of(const struct sweep_point *point)
{
    return point->again.n > 0 ? &point->again : &point->first;
}

static size_t count_slower(const struct show_sweep *sweep)
{
    size_t n = 0;
    for (size_t i = 0; i < sweep->n_points; i++)
        n += sweep->point[i].slower;
    return n;
}

static size_t count_different(const struct show_sweep *sweep)
{
    size_t n = 0;
    for (size_t i = 0; i < sweep->n_exact; i++)
        n += !sweep_exact_holds(&sweep->exact[i]);
    return n;
}

/* "+1.2 % (0.4 to 2.0), p 0.003, 40 rounds" */
static const char *in_words(const struct sweep_judgement *j, char text[96])
{
    snprintf(text, 96, "%+.1f %% (%.1f to %.1f), p %.2g, %u rounds", 100 * j->effect, 100 * j->lo,
             100 * j->hi, j->p, j->n);
    return text;
}

/* --- table --- */

static void put_point(struct show_cells *cells, const struct sweep_point *point)
{
    const struct sweep_judgement *j = last_of(point);
    char text[SHOW_NUMBER + 16], hex[ID128_HEX];
    snprintf(text, sizeof text, "  %s", show_id(&point->id, hex));
    show_cell(cells, text);
    show_cell(cells, workload_format(&point->workload, text));
    snprintf(text, sizeof text, "%.4g", point->baseline_ns * 1e-6);
    show_cell(cells, text);
    snprintf(text, sizeof text, "%.4g", point->current_ns * 1e-6);
    show_cell(cells, text);
    snprintf(text, sizeof text, "%+.1f %% (%.1f to %.1f)", 100 * j->effect, 100 * j->lo,
             100 * j->hi);
    show_cell(cells, text);
    snprintf(text, sizeof text, "%.2g", j->p);
    show_cell(cells, text);
    snprintf(text, sizeof text, "%u", point->first.n + point->again.n);
    show_cell(cells, text);
    snprintf(text, sizeof text, "%u", point->n_rejected);
    show_cell(cells, text);
    show_cell(cells, point->slower ? "SLOWER" : point->again.n > 0 ? "not confirmed" : "");
}

static void show_sweep_table(FILE *out, const struct study *study, const struct front *front,
                             const struct show_sweep *sweep)
{
    static const char *const titles[] = {"  ID", "workload", "was ms",   "is ms",  "change",
                                         "p",    "rounds",   "rejected", "verdict"};
    struct show_cells cells = {.n_columns = sizeof titles / sizeof titles[0]};
    char hex[ID128_HEX];
    show_head(out, study, front);
    fprintf(out, "baseline  kerf %s, %s kernels, in turn with this build on the same cores\n",
            sweep->baseline_version, sweep->baseline_kernels);
    for (size_t c = 0; c < cells.n_columns; c++)
        show_cell(&cells, titles[c]);
    for (size_t i = 0; i < sweep->n_points; i++)
        put_point(&cells, &sweep->point[i]);
    show_cells_print(out, &cells);
    for (size_t i = 0; i < sweep->n_exact; i++) {
        const struct sweep_exact *e = &sweep->exact[i];
        if (!sweep_exact_holds(e))
            fprintf(out, "DIFFERS   %s: id %s, weights %s, KLD %s (was %.9g, is %.9g)\n",
                    show_id(&e->id, hex), equal_name(e->genome_id), equal_name(e->weights),
                    equal_name(e->kld), e->kld_was, e->kld_is);
    }
    fprintf(out,
            "%zu of %zu points slower by more than %.1f %%, %zu of %zu candidates other than "
            "they were\n",
            count_slower(sweep), sweep->n_points, 100 * sweep->min_effect, count_different(sweep),
            sweep->n_exact);
}

/* --- JSON --- */

static void put_judgement(cJSON *node, const struct sweep_judgement *j)
{
    put_number(node, "effect", j->effect);
    put_number(node, "lo", j->lo);
    put_number(node, "hi", j->hi);
    put_number(node, "p", j->p);
    put_number(node, "rounds", j->n);
}

static void put_points(cJSON *root, const struct show_sweep *sweep)
{
    cJSON *list = cJSON_AddArrayToObject(root, "points");
    for (size_t i = 0; i < sweep->n_points; i++) {
        const struct sweep_point *point = &sweep->point[i];
        char hex[ID128_HEX], name[32];
        cJSON *node = cJSON_CreateObject();
        cJSON_AddItemToArray(list, node);
        id128_hex(point->id, hex);
        cJSON_AddStringToObject(node, "id", hex);
        cJSON_AddStringToObject(node, "workload", workload_format(&point->workload, name));
        put_number(node, "baseline_ms", point->baseline_ns * 1e-6);
        put_number(node, "current_ms", point->current_ns * 1e-6);
        put_judgement(node, &point->first);
        if (point->again.n > 0)
            put_judgement(cJSON_AddObjectToObject(node, "again"), &point->again);
        put_number(node, "rejected", point->n_rejected);
        cJSON_AddBoolToObject(node, "slower", point->slower);
    }
}

static void show_sweep_json(FILE *out, const struct study *study, const struct front *front,
                            const struct show_sweep *sweep)
{
    cJSON *root = cJSON_CreateObject();
    show_json_head(root, study, front);
    cJSON *baseline = cJSON_AddObjectToObject(root, "baseline");
    cJSON_AddStringToObject(baseline, "version", sweep->baseline_version);
    cJSON_AddStringToObject(baseline, "kernels", sweep->baseline_kernels);
    put_number(root, "min_effect", sweep->min_effect);
    put_number(root, "n_slower", (double)count_slower(sweep));
    put_number(root, "n_differ", (double)count_different(sweep));
    put_points(root, sweep);
    cJSON *exact = cJSON_AddArrayToObject(root, "exact");
    for (size_t i = 0; i < sweep->n_exact; i++) {
        const struct sweep_exact *e = &sweep->exact[i];
        char hex[ID128_HEX];
        cJSON *node = cJSON_CreateObject();
        cJSON_AddItemToArray(exact, node);
        id128_hex(e->id, hex);
        cJSON_AddStringToObject(node, "id", hex);
        cJSON_AddStringToObject(node, "genome_id", equal_name(e->genome_id));
        cJSON_AddStringToObject(node, "weights", equal_name(e->weights));
        cJSON_AddStringToObject(node, "kld", equal_name(e->kld));
        put_number(node, "kld_was", e->kld_was);
        put_number(node, "kld_is", e->kld_is);
    }
    char *text = cJSON_Print(root);
    if (text != NULL)
        fprintf(out, "%s\n", text);
    free(text);
    cJSON_Delete(root);
}

void show_sweep(FILE *out, enum show_format format, const struct study *study,
                const struct front *front, const struct show_sweep *sweep)
{
    if (format == SHOW_JSON)
        show_sweep_json(out, study, front, sweep);
    else
        show_sweep_table(out, study, front, sweep);
}

/* --- JUnit --- */

/* Text between tags or quotes. */
static void print_escaped(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '&':
            fputs("&amp;", out);
            break;
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        case '"':
            fputs("&quot;", out);
            break;
        default:
            fputc((unsigned char)*text < ' ' ? ' ' : *text, out);
        }
    }
}

static void print_point_case(FILE *out, const struct sweep_point *point)
{
    char hex[ID128_HEX], name[32], words[96];
    fprintf(out, "    <testcase classname=\"kerf.sweep.latency\" name=\"%s %s\"",
            show_id(&point->id, hex), workload_format(&point->workload, name));
    if (point->slower)
        fprintf(out, "><failure type=\"slower\" message=\"%s\"/></testcase>\n",
                in_words(last_of(point), words));
    else
        fprintf(out, "><system-out>%s</system-out></testcase>\n", in_words(last_of(point), words));
}

static void print_exact_case(FILE *out, const struct sweep_exact *e)
{
    char hex[ID128_HEX];
    fprintf(out, "    <testcase classname=\"kerf.sweep.exact\" name=\"%s\"", show_id(&e->id, hex));
    if (sweep_exact_holds(e))
        fputs("/>\n", out);
    else
        fprintf(out,
                "><failure type=\"differs\" message=\"id %s, weights %s, KLD %s (was %.9g, is "
                "%.9g)\"/></testcase>\n",
                equal_name(e->genome_id), equal_name(e->weights), equal_name(e->kld), e->kld_was,
                e->kld_is);
}

char *show_sweep_junit(const struct study *study, const struct show_sweep *sweep)
{
    char *text = NULL, host[64] = "", when[32];
    size_t size, n = sweep->n_points + sweep->n_exact;
    size_t n_failed = count_slower(sweep) + count_different(sweep);
    time_t now = time(NULL);
    struct tm utc;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL)
        return NULL;
    gethostname(host, sizeof host - 1);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", gmtime_r(&now, &utc));
    fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"", out);
    print_escaped(out, study->dir);
    fprintf(out,
            "\" tests=\"%zu\" failures=\"%zu\" errors=\"0\" skipped=\"0\" time=\"%.1f\" "
            "timestamp=\"%s\" hostname=\"",
            n, n_failed, sweep->seconds, when);
    print_escaped(out, host);
    fputs("\">\n", out);
    for (size_t i = 0; i < sweep->n_points; i++)
        print_point_case(out, &sweep->point[i]);
    for (size_t i = 0; i < sweep->n_exact; i++)
        print_exact_case(out, &sweep->exact[i]);
    fputs("  </testsuite>\n</testsuites>\n", out);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
