/* stopwatch.c - the side that asks. */
#include "latency_model/stopwatch.h"

#include "space/base/clock.h"
#include "space/base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS    600000
#define LINE_MAX_BYTES 400

extern char **environ;

struct stopwatch {
    pid_t pid;
    int ask, answer;
    char device[128], kernels[64];
    char line[LINE_MAX_BYTES + 1]; /* the last answer */
};

/* --- starting --- */

static int spawn(struct stopwatch *watch, const struct stopwatch_job *job, int ask, int answer)
{
    char pid[24], threads[24], name[STOPWATCH_MAX_WORKLOADS][32];
    const char *argv[6 + STOPWATCH_MAX_WORKLOADS] = {job->program, "stopwatch", pid, threads,
                                                     job->model};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;

    snprintf(pid, sizeof pid, "%ld", (long)getpid());
    snprintf(threads, sizeof threads, "%u", job->n_threads);
    for (size_t w = 0; w < job->n_workloads; w++)
        argv[5 + w] = workload_format(&job->workload[w], name[w]);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ask, 0);
    posix_spawn_file_actions_adddup2(&actions, answer, 1);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    /* It inherits where the caller is bound, which may be one core of a team. */
    cpu_set_t before, wanted;
    bool lend = job->cpu != NULL && sched_getaffinity(0, sizeof before, &before) == 0;
    CPU_ZERO(&wanted);
    for (uint32_t i = 0; lend && i < job->n_threads; i++)
        CPU_SET((unsigned)job->cpu[i], &wanted);
    if (lend)
        sched_setaffinity(0, sizeof wanted, &wanted);
    int why =
        posix_spawn(&watch->pid, job->program, &actions, &attributes, (char *const *)argv, environ);
    if (lend)
        sched_setaffinity(0, sizeof before, &before);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return why;
}

static void close_pair(int ends[2])
{
    for (int i = 0; i < 2; i++)
        if (ends[i] >= 0)
            close(ends[i]);
}

static int open_pipes(struct stopwatch *watch, const struct stopwatch_job *job, struct err *err)
{
    int ask[2] = {-1, -1}, answer[2] = {-1, -1};

    if (pipe2(ask, O_CLOEXEC) != 0 || pipe2(answer, O_CLOEXEC) != 0) {
        err_set_errno(err, errno, "stopwatch: no pipe");
        close_pair(ask);
        close_pair(answer);
        return -1;
    }
    int why = spawn(watch, job, ask[0], answer[1]);
    close(ask[0]);
    close(answer[1]);
    watch->ask = ask[1];
    watch->answer = answer[0];
    if (why == 0)
        return 0;
    watch->pid = 0;
    err_set(err, ERR_RESOURCE, "%.200s: cannot be started: %s", job->program, strerror(why));
    return -1;
}

/* --- talking --- */

/* The next line, without its end, in watch->line. */
static int read_line(struct stopwatch *watch, struct err *err)
{
    int64_t deadline = clock_now_ns() + (int64_t)PATIENCE_MS * 1000000;
    size_t n = 0;

    for (;;) {
        int64_t left_ms = (deadline - clock_now_ns()) / 1000000;
        struct pollfd news = {.fd = watch->answer, .events = POLLIN};
        if (left_ms <= 0 || n == LINE_MAX_BYTES)
            break;
        if (poll(&news, 1, (int)left_ms) < 0 && errno != EINTR)
            break;
        if (news.revents == 0)
            continue;
        ssize_t got = read(watch->answer, watch->line + n, 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        if (watch->line[n] == '\n') {
            watch->line[n] = '\0';
            return 0;
        }
        n++;
    }
    watch->line[n] = '\0';
    err_set(err, ERR_RESOURCE, "stopwatch: it died or fell silent");
    return -1;
}

/* "error TEXT" becomes an error here. */
static int listen_for(struct stopwatch *watch, struct err *err)
{
    if (read_line(watch, err) != 0)
        return -1;
    if (strncmp(watch->line, "error ", 6) != 0)
        return 0;
    err_set(err, ERR_RESOURCE, "stopwatch: %.300s", watch->line + 6);
    return -1;
}

struct stopwatch *stopwatch_start(const struct stopwatch_job *job, struct err *err)
{
    struct stopwatch *watch = calloc(1, sizeof *watch);
    struct err why = {0};

    if (watch == NULL) {
        err_set(err, ERR_MEMORY, "stopwatch: out of memory");
        return NULL;
    }
    watch->ask = watch->answer = -1;
    if (open_pipes(watch, job, err) != 0) {
        stopwatch_stop(watch);
        return NULL;
    }
    if (listen_for(watch, &why) == 0 &&
        sscanf(watch->line, "kerf-stopwatch 1 %127s %63s", watch->device, watch->kernels) == 2)
        return watch;
    if (strncmp(watch->line, "error ", 6) == 0)
        err_set(err, why.code, "%.200s: %.200s", job->program, watch->line + 6);
    else
        err_set(err, ERR_RESOURCE,
                "%.200s: it does not answer as a stopwatch; is it a kerf of this "
                "or a later version?",
                job->program);
    stopwatch_stop(watch);
    return NULL;
}

void stopwatch_stop(struct stopwatch *watch)
{
    if (watch == NULL)
        return;
    if (watch->ask >= 0)
        close(watch->ask);
    if (watch->answer >= 0)
        close(watch->answer);
    if (watch->pid > 0) {
        kill(-watch->pid, SIGKILL);
        while (waitpid(watch->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    free(watch);
}

const char *stopwatch_device(const struct stopwatch *watch)
{
    return watch->device;
}

const char *stopwatch_kernels(const struct stopwatch *watch)
{
    return watch->kernels;
}

int stopwatch_take(struct stopwatch *watch, size_t index, struct sample *sample, struct err *err)
{
    char text[24];
    int n = snprintf(text, sizeof text, "%zu\n", index), rejection;

    *sample = (struct sample){0};
    if (write(watch->ask, text, (size_t)n) != n) {
        err_set(err, ERR_RESOURCE, "stopwatch: it died");
        return -1;
    }
    if (listen_for(watch, err) != 0)
        return -1;
    if (sscanf(watch->line, "%lf %d", &sample->ns, &rejection) != 2 || !(sample->ns > 0) ||
        !(sample->ns < 1e15) || rejection < 0 || rejection >= N_REJECTIONS) {
        err_set(err, ERR_RESOURCE, "stopwatch: \"%.100s\" is no sample", watch->line);
        return -1;
    }
    sample->rejection = (enum rejection)rejection;
    return 0;
}
