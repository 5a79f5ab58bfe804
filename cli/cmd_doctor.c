/* cmd_doctor.c - what this machine offers and what would spoil a measurement, before an hour is
 * spent.  One line a check: ok, warn or FAIL, and the remedy. */
#include "cli/commands.h"
#include "cli/isa_option.h"
#include "cli/reading.h"
#include "evaluator/kernels/kernels.h"
#include "latency_model/machine.h"
#include "latency_model/peer_bench.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/units.h"
#include <cjson/cJSON.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

static const struct option_row rows[] = {
    {"study", 'C', OPTION_TEXT, "DIR", "study directory whose disk is checked", "."},
    {"output", 'o', OPTION_TEXT, "FORMAT", "table, json or tsv", "table"},
    ISA_ROW,
    {0}};

enum finding_level { FINDING_OK, FINDING_WARN, FINDING_FAIL };

struct findings {
    enum show_format format;
    cJSON *list;
    uint32_t n_failed;
};

__attribute__((format(printf, 4, 5))) static void
find(struct findings *findings, enum finding_level level, const char *what, const char *fmt, ...)
{
    static const char *const word[] = {"ok", "warn", "FAIL"};
    char text[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    findings->n_failed += level == FINDING_FAIL;
    if (findings->format == SHOW_JSON) {
        cJSON *row = cJSON_CreateObject();
        cJSON_AddItemToArray(findings->list, row);
        cJSON_AddStringToObject(row, "check", what);
        cJSON_AddStringToObject(row, "level", word[level]);
        cJSON_AddStringToObject(row, "text", text);
    } else if (findings->format == SHOW_TSV) {
        printf("%s\t%s\t%s\n", word[level], what, text);
    } else {
        printf("%-5s %-12s %s\n", word[level], what, text);
    }
}

static void check_machine(struct findings *findings)
{
    struct err err = {0};
    struct machine *machine = machine_load(&err);
    if (machine == NULL) {
        find(findings, FINDING_FAIL, "topology", "%s", err.text);
        return;
    }
    char private_size[32], last_size[32];
    struct device_class device;
    uint32_t n_cores = machine_n_cores(machine);
    machine_device_class(machine, n_cores, kernels_select()->name, &device);
    units_format_size((double)machine_private_cache(machine), private_size);
    units_format_size((double)machine_last_cache(machine), last_size);
    find(findings, FINDING_OK, "device", "%s", device.name);
    find(findings, n_cores >= 2 ? FINDING_OK : FINDING_WARN, "cores",
         "%u whole cores may be used%s", n_cores,
         n_cores >= 2 ? "" : "; the master will disturb its only worker's probes");
    find(findings, FINDING_OK, "caches", "%s a core alone, %s last level", private_size, last_size);
    int cpu;
    if (machine_plan(machine, 0, 1, 1, &cpu, &err) != 0 ||
        machine_bind_thread(machine, cpu, &err) != 0)
        find(findings, FINDING_FAIL, "pinning", "%s", err.text);
    else
        find(findings, FINDING_OK, "pinning", "threads can be bound, read back on PU %d", cpu);
    machine_destroy(machine);
}

static void check_state(struct findings *findings)
{
    struct machine_state state;
    machine_state_read(&state);
    bool steady =
        strcmp(state.governor, "performance") == 0 || strcmp(state.governor, "unknown") == 0;
    find(findings, FINDING_OK, "cpu", "%s, SMT %s, turbo %s, huge pages %s", state.cpu_model,
         state.smt, state.turbo, state.huge_pages);
    find(findings, steady ? FINDING_OK : FINDING_WARN, "governor", "%s%s", state.governor,
         steady ? "" : "; cpupower frequency-set -g performance steadies latencies");
    if (state.load1 >= 0)
        find(findings, state.load1 < 1 ? FINDING_OK : FINDING_WARN, "load", "load average %.2f%s",
             state.load1,
             state.load1 < 1 ? "" : "; somebody else is working, probes will reject samples");
}

static void check_kernels(struct findings *findings)
{
    find(findings, FINDING_OK, "kernels", "%s chosen", kernels_select()->name);
    for (int isa = 0; isa < N_ISAS; isa++) {
        struct err err = {0};
        if (kernels_for((enum isa)isa, &err) == NULL)
            find(findings, err.code == ERR_INTERNAL ? FINDING_FAIL : FINDING_OK, "kernels", "%s",
                 err.text);
    }
}

static void check_disk(struct findings *findings, const char *dir)
{
    char kind[32] = "", free_size[32];
    struct err err = {0};
    struct statvfs disk;
    int network = file_is_on_network(dir, kind, &err);
    if (network == 1)
        find(findings, FINDING_FAIL, "archive",
             "%s is on %s, where LMDB cannot lock; "
             "kerf search --scratch LOCAL_DIR puts the archive elsewhere",
             dir, kind);
    else
        find(findings, network == 0 ? FINDING_OK : FINDING_WARN, "archive", "%s %s", dir,
             network == 0 ? "is on a local file system" : err.text);
    if (statvfs(dir, &disk) == 0) {
        double n_free = (double)disk.f_bavail * (double)disk.f_frsize;
        units_format_size(n_free, free_size);
        find(findings, n_free > 2e9 ? FINDING_OK : FINDING_WARN, "disk", "%s free in %s", free_size,
             dir);
    }
}

static void check_program(struct findings *findings, const char *name, const char *remedy)
{
    const char *path = getenv("PATH");
    char copy[8192], file[8192];
    snprintf(copy, sizeof copy, "%s", path != NULL ? path : "");
    char *rest = copy;
    for (const char *dir = strsep(&rest, ":"); dir != NULL; dir = strsep(&rest, ":"))
        if (snprintf(file, sizeof file, "%s/%s", dir, name) < (int)sizeof file &&
            access(file, X_OK) == 0) {
            find(findings, FINDING_OK, name, "%s", file);
            return;
        }
    find(findings, FINDING_WARN, name, "not on PATH; %s", remedy);
}

/* The one that kerf peer would take. */
static void check_peer(struct findings *findings)
{
    char program[PROGRAM_PATH_MAX];
    struct err err = {0};
    if (peer_bench_find(NULL, program, &err) == 0)
        find(findings, FINDING_OK, PEER_BENCH_NAME, "%s", program);
    else
        find(findings, FINDING_WARN, PEER_BENCH_NAME, "%s", err.text);
}

static int run(const struct command *command, int argc, char **argv)
{
    struct err err = {0};
    struct options options;
    struct findings findings = {0};
    int go = option_parse(command, argc, argv, &options, &err);
    if (go == 0)
        return 0;
    if (go < 0 || reading_format(&options, &findings.format, &err) != 0 ||
        isa_option_apply(&options, &err) != 0)
        return command_fail(&err);
    findings.list = cJSON_CreateArray();
    check_machine(&findings);
    check_state(&findings);
    check_kernels(&findings);
    check_disk(&findings, option_text(&options, "study"));
    check_program(&findings, "mpirun", "only kerf search on one machine works without it");
    check_peer(&findings);
    if (findings.format == SHOW_JSON) {
        char *text = cJSON_Print(findings.list);
        if (text != NULL)
            puts(text);
        free(text);
    }
    cJSON_Delete(findings.list);
    return findings.n_failed == 0 ? 0 : err_exit_status(ERR_RESOURCE);
}

const struct command cmd_doctor = {
    .name = "doctor",
    .summary = "what this machine offers and what would spoil a measurement",
    .usage = "kerf doctor [-C DIR] [-o table|json|tsv]",
    .example = "kerf doctor",
    .rows = rows,
    .run = run,
};
