#include "cluster/run_status.h"
#include "space/base/clock.h"
#include "space/base/file.h"
#include "space/base/units.h"
#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

bool run_is_watched(void)
{
    const char *run = getenv(RUN_MARK);
    return run != NULL && run[0] != '\0' && strspn(run, LETTERS) == strlen(run) &&
           strlen(run) <= 32;
}

static void name_host(char host[65])
{
    host[0] = host[64] = '\0';
    gethostname(host, 64);
}

static bool is_gone(long pid)
{
    return pid >= 1 && kill((pid_t)pid, 0) != 0 && errno == ESRCH;
}

void run_watchdog_tell(void)
{
    char host[65], text[128];
    name_host(host);
    snprintf(text, sizeof text, "%ld@%s", (long)getpid(), host);
    setenv(RUN_WATCHDOG, text, 1);
}

bool run_watchdog_is_dead(void)
{
    char host[65], *end = NULL;
    const char *text = getenv(RUN_WATCHDOG);
    long pid = text != NULL ? strtol(text, &end, 10) : 0;
    name_host(host);
    return run_is_watched() && text != NULL && *end == '@' && strcmp(end + 1, host) == 0 &&
           is_gone(pid);
}

static const char *status_path(const struct study *study, char path[STUDY_PATH_MAX])
{
    char name[64];
    if (!run_is_watched())
        return study_path(study, "status.json", path);
    snprintf(name, sizeof name, "status-%s.json", getenv(RUN_MARK));
    return study_path(study, name, path);
}

/* JSON has no NAN: such a number is left out and read back as NAN. */
static void put(cJSON *node, const char *name, double value)
{
    if (isfinite(value))
        cJSON_AddNumberToObject(node, name, value);
}

static double get(const cJSON *node, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(node, name);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

static uint32_t get_count(const cJSON *node, const char *name)
{
    double value = get(node, name);
    return value >= 0 && value < 4e9 ? (uint32_t)value : 0;
}

int run_status_write(const struct study *study, const struct run_status *status, struct err *err)
{
    char path[STUDY_PATH_MAX];
    const struct master_summary *s = &status->summary;
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "code", err_name(status->code));
    cJSON_AddNumberToObject(root, "exit", err_exit_status(status->code));
    cJSON_AddStringToObject(root, "reason", status->reason);
    put(root, "evaluated", (double)s->n_evaluated);
    put(root, "failed", (double)s->n_failed);
    put(root, "quarantined", (double)s->n_quarantined);
    put(root, "sensitivities", s->n_sensitivities);
    put(root, "evicted", (double)s->n_evicted);
    put(root, "evicted_bytes", s->evicted_bytes);
    put(root, "workers_lost", s->n_workers_lost);
    put(root, "seconds", s->seconds);
    put(root, "hypervolume", s->hypervolume);
    put(root, "predicted", s->n_predicted);
    put(root, "decode_mape", s->decode_mape);
    put(root, "decode_rho", s->decode_rho);
    put(root, "prefill_mape", s->prefill_mape);
    put(root, "prefill_rho", s->prefill_rho);
    char *text = cJSON_Print(root);
    cJSON_Delete(root);
    int written =
        text != NULL ? file_replace(status_path(study, path), text, strlen(text), err) : -1;
    free(text);
    return written;
}

bool run_status_is_there(const struct study *study)
{
    char path[STUDY_PATH_MAX];
    return file_exists(status_path(study, path));
}

int run_status_read(const struct study *study, struct run_status *status, struct err *err)
{
    char path[STUDY_PATH_MAX];
    memset(status, 0, sizeof *status);
    char *text = file_read(status_path(study, path), 1 << 20, NULL, err);
    if (text == NULL)
        return -1;
    cJSON *root = cJSON_Parse(text);
    free(text);
    const cJSON *code = cJSON_GetObjectItemCaseSensitive(root, "code");
    const cJSON *reason = cJSON_GetObjectItemCaseSensitive(root, "reason");
    status->code = ERR_STOPPED;
#define MATCH(name, phrase, exit)                                                                  \
    if (cJSON_IsString(code) && strcmp(code->valuestring, #name) == 0)                             \
        status->code = name;
    ERR_CODES(MATCH)
#undef MATCH
    snprintf(status->reason, sizeof status->reason, "%s",
             cJSON_IsString(reason) ? reason->valuestring : "");
    status->summary = (struct master_summary){
        .n_evaluated = get_count(root, "evaluated"),
        .n_failed = get_count(root, "failed"),
        .n_quarantined = get_count(root, "quarantined"),
        .n_sensitivities = get_count(root, "sensitivities"),
        .n_evicted = get_count(root, "evicted"),
        .evicted_bytes = get(root, "evicted_bytes"),
        .n_workers_lost = get_count(root, "workers_lost"),
        .seconds = get(root, "seconds"),
        .n_predicted = get_count(root, "predicted"),
        .decode_mape = get(root, "decode_mape"),
        .decode_rho = get(root, "decode_rho"),
        .prefill_mape = get(root, "prefill_mape"),
        .prefill_rho = get(root, "prefill_rho"),
        .hypervolume = get(root, "hypervolume"),
    };
    cJSON_Delete(root);
    return 0;
}

void run_status_remove(const struct study *study)
{
    char path[STUDY_PATH_MAX];
    unlink(study_path(study, "status.json", path));
}

void run_status_settle(const struct study *study)
{
    char from[STUDY_PATH_MAX], to[STUDY_PATH_MAX];
    rename(status_path(study, from), study_path(study, "status.json", to));
}

void run_progress_touch(const struct study *study, pid_t pid)
{
    char path[STUDY_PATH_MAX], host[65], text[192];
    name_host(host);
    int n = snprintf(text, sizeof text, "{\"time\":%lld,\"pid\":%ld,\"host\":\"%s\"}\n",
                     (long long)clock_wall_s(), (long)pid, host);
    file_replace(study_path(study, "progress.json", path), text, (size_t)n, NULL);
}

/* The master that touched last, 0 when none has; *here: on this host. */
static long read_master(const struct study *study, bool *here)
{
    char path[STUDY_PATH_MAX], host[65];
    char *text = file_read(study_path(study, "progress.json", path), 4096, NULL, NULL);
    cJSON *root = text != NULL ? cJSON_Parse(text) : NULL;
    const cJSON *where = cJSON_GetObjectItemCaseSensitive(root, "host");
    double pid = get(root, "pid");
    name_host(host);
    *here = cJSON_IsString(where) && strcmp(where->valuestring, host) == 0;
    cJSON_Delete(root);
    free(text);
    return pid >= 1 && pid < 1e9 ? (long)pid : 0;
}

bool run_progress_has_begun(const struct study *study)
{
    bool here;
    return read_master(study, &here) != 0;
}

bool run_progress_is_dead(const struct study *study)
{
    bool here;
    long pid = read_master(study, &here);
    return here && is_gone(pid);
}

double run_progress_age(const struct study *study)
{
    char path[STUDY_PATH_MAX];
    struct stat info;
    if (stat(study_path(study, "progress.json", path), &info) != 0)
        return 1e9;
    return (double)(clock_wall_s() - info.st_mtime);
}

void run_status_print(const struct study *study, const struct run_status *status)
{
    const struct master_summary *s = &status->summary;
    char took[32], size[32];
    printf("%llu evaluations in %s; %llu attempts failed, %llu candidates quarantined, "
           "%u workers lost\n",
           (unsigned long long)s->n_evaluated, units_format_duration(s->seconds, took),
           (unsigned long long)s->n_failed, (unsigned long long)s->n_quarantined,
           s->n_workers_lost);
    if (s->n_evicted > 0)
        printf("%llu compressed parts (%s) were evicted to stay within the bound on the disk\n",
               (unsigned long long)s->n_evicted, units_format_size(s->evicted_bytes, size));
    if (s->n_predicted >= 2)
        printf("foretold against measured, %u evaluations: decode off by %.1f %% (rank "
               "correlation %.3f), prefill by %.1f %% (%.3f)\n",
               s->n_predicted, 100 * s->decode_mape, s->decode_rho, 100 * s->prefill_mape,
               s->prefill_rho);
    printf("next: kerf front -C %s   kerf query -C %s --latency-budget 1ms\n", study->dir,
           study->dir);
    fflush(stdout); /* before what follows on stderr */
}
