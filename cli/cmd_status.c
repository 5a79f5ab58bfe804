/* cmd_status.c - how far a study is, read from its archive while a search may be running. */
#include "cli/commands.h"
#include "cli/reading.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "space/base/units.h"
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct option_row rows[] = {READING_ROWS, {0}};

struct progress {
    struct archive_counts counts;
    size_t n_front;
    int64_t last_wall_s; /* of the newest evaluation, 0: none */
    char device[128];
    char forecast[256]; /* what foretells latencies, "" before a search has begun */
};

static int note_time(void *arg, const struct evaluation *evaluation)
{
    struct progress *progress = arg;
    if (evaluation->wall_s > progress->last_wall_s)
        progress->last_wall_s = evaluation->wall_s;
    return 0;
}

static void print_table(const struct study *study, const struct progress *p)
{
    char size[32];
    printf("study       %s\n", study->dir);
    printf("device      %s\n", p->device[0] != '\0' ? p->device : "not measured yet");
    printf("candidates  %llu of %llu: %llu measured, %llu in flight, %llu quarantined\n",
           (unsigned long long)p->counts.n_candidates, (unsigned long long)study->evals,
           (unsigned long long)p->counts.n_done, (unsigned long long)p->counts.n_pending,
           (unsigned long long)p->counts.n_quarantined);
    printf("evaluations %llu, failures %llu\n", (unsigned long long)p->counts.n_evaluations,
           (unsigned long long)p->counts.n_failures);
    printf("front       %zu members\n", p->n_front);
    if (p->forecast[0] != '\0')
        printf("forecast    %s\n", p->forecast);
    printf("archive     %s\n", units_format_size((double)p->counts.n_bytes, size));
    if (p->last_wall_s > 0)
        printf("last result %lld s ago\n", (long long)(clock_wall_s() - p->last_wall_s));
}

static void print_json(const struct study *study, const struct progress *p)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddNumberToObject(root, "schema", 1);
    cJSON_AddStringToObject(root, "study", study->dir);
    cJSON_AddStringToObject(root, "device", p->device);
    cJSON_AddNumberToObject(root, "evals", (double)study->evals);
    cJSON_AddNumberToObject(root, "candidates", (double)p->counts.n_candidates);
    cJSON_AddNumberToObject(root, "done", (double)p->counts.n_done);
    cJSON_AddNumberToObject(root, "pending", (double)p->counts.n_pending);
    cJSON_AddNumberToObject(root, "quarantined", (double)p->counts.n_quarantined);
    cJSON_AddNumberToObject(root, "evaluations", (double)p->counts.n_evaluations);
    cJSON_AddNumberToObject(root, "failures", (double)p->counts.n_failures);
    cJSON_AddNumberToObject(root, "front", (double)p->n_front);
    if (p->forecast[0] != '\0')
        cJSON_AddStringToObject(root, "forecast", p->forecast);
    cJSON_AddNumberToObject(root, "archive_bytes", (double)p->counts.n_bytes);
    if (p->last_wall_s > 0)
        cJSON_AddNumberToObject(root, "last_result_s", (double)p->last_wall_s);
    char *text = cJSON_Print(root);
    if (text != NULL)
        puts(text);
    free(text);
    cJSON_Delete(root);
}

static void print_tsv(const struct progress *p)
{
    puts("candidates\tdone\tpending\tquarantined\tevaluations\tfailures\tfront");
    printf("%llu\t%llu\t%llu\t%llu\t%llu\t%llu\t%zu\n", (unsigned long long)p->counts.n_candidates,
           (unsigned long long)p->counts.n_done, (unsigned long long)p->counts.n_pending,
           (unsigned long long)p->counts.n_quarantined, (unsigned long long)p->counts.n_evaluations,
           (unsigned long long)p->counts.n_failures, p->n_front);
}

static int run(const struct command *command, int argc, char **argv)
{
    struct err err = {0};
    struct options options;
    struct reading reading;
    enum show_format format;
    int go = reading_begin(&reading, &options, &format, command, argc, argv, &err);
    if (go <= 0)
        return go == 0 ? 0 : command_fail(&err);

    struct progress progress = {.n_front = reading.front.n};
    snprintf(progress.device, sizeof progress.device, "%s", reading.front.device);
    int status = 0;
    if (archive_counts(reading.archive, &progress.counts, &err) != 0 ||
        archive_each_evaluation(reading.archive, note_time, &progress, &err) != 0 ||
        archive_get_meta(reading.archive, ARCHIVE_META_FORECAST, progress.forecast,
                         sizeof progress.forecast, &err) < 0)
        status = command_fail(&err);
    else if (format == SHOW_JSON)
        print_json(&reading.study, &progress);
    else if (format == SHOW_TSV)
        print_tsv(&progress);
    else
        print_table(&reading.study, &progress);
    reading_close(&reading);
    return status;
}

const struct command cmd_status = {
    .name = "status",
    .summary = "how far a study is; works while it runs",
    .usage = "kerf status [-C DIR] [-o table|json|tsv]",
    .example = "kerf status -C demo",
    .rows = rows,
    .run = run,
};
