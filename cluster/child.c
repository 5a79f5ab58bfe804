#include "cluster/child.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include <assert.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

struct child {
    pid_t pid;
    int pidfd;
    int pipe; /* read end of its descriptor 3, non-blocking */
    int64_t deadline_ns;
    bool timed_out;
    char *answer; /* what came so far, NUL-terminated */
    size_t n_answer;
};

int child_tie_to_parent(long parent_pid, struct err *err)
{
    struct rlimit none = {0, 0};
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) {
        err_set_errno(err, errno, "evaluator: cannot tie to its supervisor");
        return -1;
    }
    /* The parent may have died before the line above: then nobody would ever signal. */
    if (getppid() != (pid_t)parent_pid) {
        err_set(err, ERR_STOPPED, "evaluator: its supervisor is gone");
        return -1;
    }
    setrlimit(RLIMIT_CORE, &none);
    return 0;
}

/* --- start --- */

/* The environment without what mpirun put there: a child that looks like a rank would confuse
 * anything in it that speaks MPI.  The array is yours to free, the texts are environ's. */
static char **clean_environment(void)
{
    size_t n = 0, kept = 0;
    while (environ[n] != NULL)
        n++;
    char **env = malloc((n + 1) * sizeof *env);
    if (env == NULL)
        return NULL;
    for (size_t i = 0; i < n; i++)
        if (strncmp(environ[i], "OMPI_", 5) != 0 && strncmp(environ[i], "PMIX_", 5) != 0 &&
            strncmp(environ[i], "ORTE_", 5) != 0)
            env[kept++] = environ[i];
    env[kept] = NULL;
    return env;
}

static void format_cpus(const struct child_options *options, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < options->n_threads && used < size; i++)
        used +=
            (size_t)snprintf(text + used, size - used, "%s%d", i > 0 ? "," : "", options->cpu[i]);
}

/* Descriptor 3 is the answer, 0 is empty, 1 goes where 2 goes: stdout belongs to results.  All
 * others are closed, LMDB's among them (mpi.md section 7). */
static int spawn(const struct child_options *options, const char *work, int write_end, pid_t *pid)
{
    char cpus[8192], parent[32], max_disk[32], name[] = "kerf", command[] = "evaluator";
    format_cpus(options, cpus, sizeof cpus);
    snprintf(parent, sizeof parent, "%ld", (long)getpid());
    snprintf(max_disk, sizeof max_disk, "%llu", (unsigned long long)options->max_disk);
    char *argv[] = {name,
                    command,
                    (char *)options->study_dir,
                    (char *)options->store_dir,
                    cpus,
                    parent,
                    (char *)work,
                    max_disk,
                    NULL};
    char **env = clean_environment();
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    int failed = env == NULL ? ENOMEM : posix_spawn_file_actions_init(&actions);
    if (failed != 0) {
        free(env);
        return failed;
    }
    failed = posix_spawnattr_init(&attributes);
    if (failed == 0) {
        posix_spawn_file_actions_adddup2(&actions, write_end, 3);
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_adddup2(&actions, 2, 1);
        posix_spawn_file_actions_addclosefrom_np(&actions, 4);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                                  POSIX_SPAWN_SETSIGDEF);
        posix_spawnattr_setpgroup(&attributes, 0);
        posix_spawnattr_setsigmask(&attributes, &none);
        posix_spawnattr_setsigdefault(&attributes, &all);
        failed = posix_spawn(pid, "/proc/self/exe", &actions, &attributes, argv, env);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    free(env);
    return failed;
}

struct child *child_start(const struct child_options *options, const struct work *work,
                          struct err *err)
{
    char text[MESSAGE_MAX];
    int ends[2];
    if (work_encode(work, text, sizeof text, err) < 0)
        return NULL;
    struct child *child = calloc(1, sizeof *child);
    if (child != NULL)
        child->answer = malloc(MESSAGE_RESULT_MAX + 1);
    if (child == NULL || child->answer == NULL) {
        err_set(err, ERR_MEMORY, "evaluator: out of memory");
        free(child);
        return NULL;
    }
    if (pipe2(ends, O_CLOEXEC) != 0) {
        err_set_errno(err, errno, "evaluator: no pipe");
        goto undo_alloc;
    }
    int failed = spawn(options, text, ends[1], &child->pid);
    close(ends[1]);
    if (failed != 0) {
        err_set_errno(err, failed, "evaluator: cannot start");
        goto undo_pipe;
    }
    child->pipe = ends[0];
    fcntl(child->pipe, F_SETFL, O_NONBLOCK);
    child->pidfd = (int)syscall(SYS_pidfd_open, child->pid, 0);
    child->deadline_ns = clock_now_ns() + (int64_t)(work->deadline_s * 1e9);
    return child;

undo_pipe:
    close(ends[0]);
undo_alloc:
    free(child->answer);
    free(child);
    return NULL;
}

/* --- watch --- */

/* Take what is in the pipe; true when its end was seen. */
static bool drain(struct child *child)
{
    for (;;) {
        char spare[4096];
        size_t room = MESSAGE_RESULT_MAX - child->n_answer;
        /* A child that talks too much is read on and judged by its length. */
        ssize_t n = room > 0 ? read(child->pipe, child->answer + child->n_answer, room)
                             : read(child->pipe, spare, sizeof spare);
        if (n == 0)
            return true;
        if (n < 0)
            return errno != EAGAIN && errno != EINTR;
        if (room > 0)
            child->n_answer += (size_t)n;
    }
}

static bool has_died(const struct child *child)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == child->pid;
}

/* Kill the group while the zombie still owns the number, then reap. */
static int reap(struct child *child)
{
    int status = 0;
    kill(-child->pid, SIGKILL);
    kill(child->pid, SIGKILL);
    drain(child);
    while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR)
        ;
    child->pid = 0;
    return status;
}

/* The child's own word for its failure: {"error": "..."}. */
static bool told_error(const struct child *child, char reason[256])
{
    cJSON *node = cJSON_Parse(child->answer);
    const cJSON *text = cJSON_GetObjectItemCaseSensitive(node, "error");
    bool told = cJSON_IsString(text);
    if (told)
        snprintf(reason, 256, "%s", text->valuestring);
    cJSON_Delete(node);
    return told;
}

static enum verdict judge(struct child *child, int status, char reason[256])
{
    child->answer[child->n_answer] = '\0';
    char *end = memchr(child->answer, '\n', child->n_answer);
    reason[0] = '\0';
    if (child->timed_out) {
        snprintf(reason, 256, "ran past its deadline");
        return VERDICT_TIMEOUT;
    }
    if (WIFSIGNALED(status)) {
        snprintf(reason, 256, "killed by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
        return VERDICT_CRASH;
    }
    if (end != NULL)
        *end = '\0';
    int code = WEXITSTATUS(status);
    if (code == 0 && end != NULL && child->answer[0] == '{')
        return VERDICT_DONE;
    if (end == NULL || !told_error(child, reason))
        snprintf(reason, 256, code == 0 ? "answered nonsense" : "left with status %d", code);
    if (code == 0 || code == err_exit_status(ERR_DATA))
        return VERDICT_BAD;
    if (code == err_exit_status(ERR_IO))
        return VERDICT_DISK;
    return code == err_exit_status(ERR_INTERNAL) ? VERDICT_CRASH : VERDICT_UNABLE;
}

int child_poll(struct child *child, int timeout_ms, enum verdict *verdict, char reason[256],
               char **result)
{
    struct pollfd news[2] = {{.fd = child->pipe, .events = POLLIN},
                             {.fd = child->pidfd, .events = POLLIN}};
    *result = NULL;
    assert(child->pid != 0); /* one verdict a child */
    /* At the end of the pipe only the death is left to wait for. */
    poll(news, child->pidfd >= 0 ? 2 : 1, timeout_ms);
    if (drain(child))
        poll(news + 1, child->pidfd >= 0 ? 1 : 0, timeout_ms < 20 ? timeout_ms : 20);
    if (!has_died(child)) {
        child->timed_out = clock_now_ns() > child->deadline_ns;
        if (!child->timed_out)
            return 0;
    }
    *verdict = judge(child, reap(child), reason);
    if (*verdict == VERDICT_DONE) {
        *result = strdup(child->answer);
        if (*result == NULL) {
            *verdict = VERDICT_UNABLE;
            snprintf(reason, 256, "out of memory");
        }
    }
    return 1;
}

void child_destroy(struct child *child)
{
    if (child == NULL)
        return;
    if (child->pid != 0)
        reap(child);
    if (child->pidfd >= 0)
        close(child->pidfd);
    close(child->pipe);
    free(child->answer);
    free(child);
}
