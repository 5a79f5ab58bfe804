/* cmd_evaluator.c - the evaluator child: kerf evaluator STUDY STORE CPUS PARENT_PID WORK MAX_DISK
 * CPUS is a comma list of PUs, one a thread; WORK is what work_encode wrote; MAX_DISK is a number
 * of bytes, 0 for no bound.  The answer is one line on descriptor 3; stderr is the supervisor's.
 * Exit status 0 with an answer; else err.h's with
 * {"error": text} as the line, where ERR_DATA says that the candidate, not the machine, is at
 * fault. */
#include "cli/commands.h"
#include "cli/reading.h"
#include "cluster/child.h"
#include "cluster/evaluation.h"
#include "space/base/err.h"
#include "space/base/log.h"
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RESULT_FD   3
#define MAX_THREADS 1024

static int parse_cpus(const char *text, int *cpu, uint32_t *n, struct err *err)
{
    *n = 0;
    while (*text != '\0') {
        char *end;
        errno = 0;
        long value = strtol(text, &end, 10);
        if (end == text || errno != 0 || value < 0 || value > 65535 || *n == MAX_THREADS ||
            (*end != ',' && *end != '\0')) {
            err_set(err, ERR_USAGE, "kerf evaluator: bad list of cores");
            return -1;
        }
        cpu[(*n)++] = (int)value;
        text = *end == ',' ? end + 1 : end;
    }
    if (*n == 0)
        err_set(err, ERR_USAGE, "kerf evaluator: no cores");
    return *n > 0 ? 0 : -1;
}

static int write_line(const char *line, struct err *err)
{
    size_t left = strlen(line);
    char end = '\n';
    while (left > 0) {
        ssize_t n = write(RESULT_FD, line, left);
        if (n < 0 && errno != EINTR) {
            err_set_errno(err, errno, "kerf evaluator: cannot answer");
            return -1;
        }
        if (n > 0) {
            line += n;
            left -= (size_t)n;
        }
    }
    return write(RESULT_FD, &end, 1) == 1 ? 0 : -1;
}

static int evaluate(char **argv, struct err *err)
{
    static int cpu[MAX_THREADS];
    struct evaluation_place place = {
        .cpu = cpu, .store = argv[2], .max_disk = strtoull(argv[6], NULL, 10)};
    struct study *study = malloc(sizeof *study);
    struct work *work = malloc(sizeof *work);
    char *line = NULL;
    if (study == NULL || work == NULL)
        err_set(err, ERR_MEMORY, "kerf evaluator: out of memory");
    else if (parse_cpus(argv[3], cpu, &place.n_threads, err) == 0 &&
             study_read_resolved(study, argv[1], err) == 0 && work_decode(argv[5], work, err) == 0)
        line = evaluation_run(study, &place, work, err);
    int status = line != NULL ? write_line(line, err) : -1;
    free(line);
    free(work);
    free(study);
    return status;
}

static void tell_error(const struct err *err)
{
    cJSON *node = cJSON_CreateObject();
    cJSON_AddStringToObject(node, "error", err->text);
    char *line = cJSON_PrintUnformatted(node);
    if (line != NULL)
        write_line(line, NULL);
    free(line);
    cJSON_Delete(node);
}

int cmd_evaluator(int argc, char **argv)
{
    struct err err = {0};
    if (argc != 7) {
        err_set(&err, ERR_USAGE, "kerf evaluator is started by kerf search, not by hand");
        return command_fail(&err);
    }
    log_setup(LOG_WARN, -1);
    if (child_tie_to_parent(strtol(argv[4], NULL, 10), &err) == 0 && evaluate(argv, &err) == 0)
        return 0;
    tell_error(&err);
    return err_exit_status(err.code);
}
