#include "latency_model/program.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define TAIL_BYTES 1024 /* of stderr are kept */
#define TICK_MS    200  /* between looks at *stop, should its signal come just before the wait */
#define MAX_PIECES                                                                                 \
    64 /* taken from a pipe in one go: more than it holds, so none is forgotten at                 \
        * the end, and no program that never stops talking keeps us from the clock */

/* --- find --- */

static bool may_be_run(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode) && access(path, X_OK) == 0;
}

int program_find(const char *name, char path[PROGRAM_PATH_MAX], struct err *err)
{
    const char *dirs = strchr(name, '/') == NULL ? getenv("PATH") : NULL;
    if (strchr(name, '/') != NULL && strlen(name) < PROGRAM_PATH_MAX && may_be_run(name)) {
        strcpy(path, name);
        return 0;
    }
    while (dirs != NULL && name[0] != '\0') {
        size_t length = strcspn(dirs, ":");
        /* An empty entry is the working folder. */
        int n = snprintf(path, PROGRAM_PATH_MAX, "%.*s/%s", length > 0 ? (int)length : 1,
                         length > 0 ? dirs : ".", name);
        if (n < PROGRAM_PATH_MAX && may_be_run(path))
            return 0;
        dirs = dirs[length] == ':' ? dirs + length + 1 : NULL;
    }
    err_set(err, ERR_RESOURCE, "%.200s: %s", name,
            strchr(name, '/') != NULL ? "no program that may be run" : "not on PATH");
    return -1;
}

/* --- start --- */

struct captive {
    const struct program_run *run;
    pid_t pid;
    int pidfd;                 /* -1 where the kernel has none */
    int out, talk;             /* read ends of its stdout and stderr, non-blocking */
    char *text;                /* stdout so far */
    size_t n_text;             /* bytes it wrote; more than PROGRAM_OUTPUT_MAX are not kept */
    char tail[TAIL_BYTES + 1]; /* end of stderr */
    size_t n_tail;
};

static void confine(const struct program_run *run)
{
    cpu_set_t *set = NULL;
    size_t size = 0;
    int highest = -1;
    for (uint32_t i = 0; i < run->n_cpu; i++)
        highest = run->cpu[i] > highest ? run->cpu[i] : highest;
    if (highest >= 0)
        set = CPU_ALLOC((size_t)highest + 1);
    if (set == NULL)
        return;
    size = CPU_ALLOC_SIZE((size_t)highest + 1);
    CPU_ZERO_S(size, set);
    for (uint32_t i = 0; i < run->n_cpu; i++)
        CPU_SET_S((size_t)run->cpu[i], size, set);
    sched_setaffinity(0, size, set);
    CPU_FREE(set);
}

/* In the new process: never returns.  What keeps it from starting goes to `fault` as an errno. */
static void become(const struct program_run *run, pid_t parent, int out, int talk, int fault)
{
    struct rlimit none = {0, 0};
    sigset_t nothing;
    int empty = open("/dev/null", O_RDONLY);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127);
    setrlimit(RLIMIT_CORE, &none);
    signal(SIGPIPE, SIG_DFL);
    sigemptyset(&nothing);
    sigprocmask(SIG_SETMASK, &nothing, NULL);
    confine(run);
    if (empty >= 0 && dup2(empty, 0) == 0 && dup2(out, 1) == 1 && dup2(talk, 2) == 2)
        execv(run->path, run->argv);
    int why = errno;
    if (write(fault, &why, sizeof why) < 0)
        _exit(126);
    _exit(127);
}

static void close_pair(int ends[2])
{
    close(ends[0]);
    close(ends[1]);
}

/* Pipes above the standard descriptors, so that dup2 onto those cannot run over one another. */
static int open_pair(int ends[2])
{
    int low[2];
    if (pipe2(low, O_CLOEXEC) != 0)
        return -1;
    ends[0] = fcntl(low[0], F_DUPFD_CLOEXEC, 3);
    ends[1] = fcntl(low[1], F_DUPFD_CLOEXEC, 3);
    close_pair(low);
    return ends[0] >= 0 && ends[1] >= 0 ? 0 : -1;
}

/* 0 and captive->pid set, or an errno. */
static int spawn(struct captive *captive, int out, int talk)
{
    int fault[2], why = 0;
    pid_t self = getpid();
    if (open_pair(fault) != 0)
        return errno;
    captive->pid = fork();
    if (captive->pid == 0)
        become(captive->run, self, out, talk, fault[1]);
    if (captive->pid < 0)
        why = errno;
    close(fault[1]);
    /* Ends without a word when the program has begun. */
    while (captive->pid > 0 && read(fault[0], &why, sizeof why) < 0 && errno == EINTR)
        ;
    close(fault[0]);
    if (why != 0 && captive->pid > 0)
        waitpid(captive->pid, NULL, 0);
    return why;
}

static int start(struct captive *captive, struct err *err)
{
    int out[2] = {-1, -1}, talk[2] = {-1, -1};
    if (open_pair(out) != 0 || open_pair(talk) != 0) {
        err_set_errno(err, errno, "%.200s: no pipe", captive->run->path);
        close_pair(out);
        close_pair(talk);
        return -1;
    }
    int why = spawn(captive, out[1], talk[1]);
    close(out[1]);
    close(talk[1]);
    if (why != 0) {
        close(out[0]);
        close(talk[0]);
        err_set(err, ERR_RESOURCE, "%.200s: cannot be started: %s", captive->run->path,
                strerror(why));
        return -1;
    }
    captive->out = out[0];
    captive->talk = talk[0];
    fcntl(captive->out, F_SETFL, O_NONBLOCK);
    fcntl(captive->talk, F_SETFL, O_NONBLOCK);
    captive->pidfd = (int)syscall(SYS_pidfd_open, captive->pid, 0);
    return 0;
}

/* --- watch --- */

/* Next piece of a pipe: its bytes, 0 when there is nothing now, -1 at the end. */
static ssize_t take(int fd, char *piece, size_t size)
{
    ssize_t n = read(fd, piece, size);
    if (n > 0)
        return n;
    return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

/* True at the end of the pipe. */
static bool drain_out(struct captive *captive)
{
    char piece[4096];
    ssize_t n = 1;
    for (int i = 0; i < MAX_PIECES && (n = take(captive->out, piece, sizeof piece)) > 0; i++) {
        if (captive->n_text + (size_t)n <= PROGRAM_OUTPUT_MAX)
            memcpy(captive->text + captive->n_text, piece, (size_t)n);
        captive->n_text += (size_t)n;
    }
    return n < 0;
}

static bool drain_talk(struct captive *captive)
{
    char piece[TAIL_BYTES];
    ssize_t n = 1;
    for (int i = 0; i < MAX_PIECES && (n = take(captive->talk, piece, sizeof piece)) > 0; i++) {
        size_t new = (size_t)n;
        size_t kept = captive->n_tail + new <= TAIL_BYTES ? captive->n_tail : TAIL_BYTES - new;
        memmove(captive->tail, captive->tail + captive->n_tail - kept, kept);
        memcpy(captive->tail + kept, piece, new);
        captive->n_tail = kept + new;
    }
    return n < 0;
}

static bool has_died(const struct captive *captive)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)captive->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == captive->pid;
}

enum ending { ENDED, TOO_LATE, TOO_MUCH, STOPPED };

/* Until it dies, or must. */
static enum ending watch(struct captive *captive)
{
    int64_t deadline = clock_now_ns() + (int64_t)(captive->run->limit_s * 1e9);
    struct pollfd news[3] = {{.fd = captive->out, .events = POLLIN},
                             {.fd = captive->talk, .events = POLLIN},
                             {.fd = captive->pidfd, .events = POLLIN}};
    while (!has_died(captive)) {
        int64_t left = deadline - clock_now_ns();
        if (captive->run->stop != NULL && *captive->run->stop != 0)
            return STOPPED;
        if (left <= 0)
            return TOO_LATE;
        if (captive->n_text > PROGRAM_OUTPUT_MAX)
            return TOO_MUCH;
        int64_t tick = captive->pidfd < 0 ? 10 : TICK_MS;
        poll(news, 3, (int)(left / 1000000 + 1 < tick ? left / 1000000 + 1 : tick));
        /* A pipe at its end would be news for ever. */
        if (news[0].fd >= 0 && drain_out(captive))
            news[0].fd = -1;
        if (news[1].fd >= 0 && drain_talk(captive))
            news[1].fd = -1;
    }
    drain_out(captive);
    drain_talk(captive);
    return captive->n_text > PROGRAM_OUTPUT_MAX ? TOO_MUCH : ENDED;
}

/* End what is left of its group, then its wait status. */
static int reap(struct captive *captive)
{
    int status = 0;
    kill(-captive->pid, SIGKILL);
    kill(captive->pid, SIGKILL);
    while (waitpid(captive->pid, &status, 0) < 0 && errno == EINTR)
        ;
    close(captive->out);
    close(captive->talk);
    if (captive->pidfd >= 0)
        close(captive->pidfd);
    return status;
}

/* --- judge --- */

/* The last line of stderr with something on it, in place. */
static const char *last_line(struct captive *captive)
{
    char *tail = captive->tail;
    size_t n = captive->n_tail;
    for (size_t i = 0; i < n; i++)
        if (tail[i] == '\0')
            tail[i] = ' ';
    while (n > 0 && strchr(" \t\r\n", tail[n - 1]) != NULL)
        n--;
    tail[n] = '\0';
    const char *newline = strrchr(tail, '\n');
    return newline != NULL ? newline + 1 : tail;
}

/* 0 when it did what it was asked. */
static int judge(struct captive *captive, enum ending ending, int status, struct err *err)
{
    const char *path = captive->run->path, *last = last_line(captive);
    const char *link = last[0] != '\0' ? ": " : ", without a word";
    if (ending == STOPPED)
        err_set(err, ERR_STOPPED, "stopped as asked");
    else if (ending == TOO_LATE)
        err_set(err, ERR_RESOURCE, "%.160s: not done after %.3g s, killed%s%.160s", path,
                captive->run->limit_s, link, last);
    else if (ending == TOO_MUCH)
        err_set(err, ERR_DATA, "%.160s: answered more than %u bytes", path, PROGRAM_OUTPUT_MAX);
    else if (WIFSIGNALED(status))
        err_set(err, ERR_DATA, "%.160s: ended by signal %d (%s)%s%.160s", path, WTERMSIG(status),
                strsignal(WTERMSIG(status)), link, last);
    else if (WEXITSTATUS(status) != 0)
        err_set(err, ERR_DATA, "%.160s: left with status %d%s%.160s", path, WEXITSTATUS(status),
                link, last);
    else
        return 0;
    return -1;
}

char *program_run(const struct program_run *run, size_t *n_bytes, struct err *err)
{
    struct captive captive = {.run = run};
    captive.text = malloc(PROGRAM_OUTPUT_MAX + 1);
    if (captive.text == NULL) {
        err_set(err, ERR_MEMORY, "%.200s: out of memory", run->path);
        return NULL;
    }
    int failed = start(&captive, err);
    if (failed == 0) {
        enum ending ending = watch(&captive);
        failed = judge(&captive, ending, reap(&captive), err);
    }
    if (failed != 0) {
        free(captive.text);
        return NULL;
    }
    captive.text[captive.n_text] = '\0';
    *n_bytes = captive.n_text;
    return captive.text;
}
