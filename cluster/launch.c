/* launch.c - the watchdog of mpi.md section 6: start mpirun by the recipe, end it when it does not
 * end by itself, clean up what it leaves, and report what the master's status file says. */
#include "cluster/leftover.h"
#include "cluster/mpi_folder.h"
#include "cluster/mpi_talk.h"
#include "cluster/run.h"
#include "cluster/run_status.h"
#include "evaluator/kernels/kernels.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SLACK_S  10ll  /* mpirun may outlive the status file by so much */
#define SILENT_S 120ll /* the master touches progress.json every 10 s */
#define START_S  45ll  /* a rank that dies in MPI_Init leaves the others waiting in it */
#define TERM_S   6

extern char **environ;

static volatile sig_atomic_t n_stops, forward_stop;

static void on_stop(int signal)
{
    (void)signal;
    n_stops++;
    forward_stop = 1;
}

#define MAX_ARGS 48

struct command_line {
    char *arg[MAX_ARGS];
    int n;
    char ranks[16], evals[32], time[32], threads[16], max_disk[32];
};

static void add(struct command_line *line, const char *arg)
{
    if (line->n + 1 < MAX_ARGS)
        line->arg[line->n++] = (char *)arg;
    line->arg[line->n] = NULL;
}

/* Every flag is explained in mpi.md section 2. */
static void compose(struct command_line *line, const struct study *study,
                    const struct run_options *options, uint32_t n_ranks,
                    const struct mpi_folder *folder, const char *self)
{
    static const char *const recipe[] = {"mpirun",
                                         "--enable-recovery",
                                         "--mca",
                                         "async_mpi_finalize",
                                         "1",
                                         "--mca",
                                         "pml",
                                         "ob1",
                                         "--mca",
                                         "mpi_yield_when_idle",
                                         "1",
                                         "--bind-to",
                                         "none",
                                         "--mca",
                                         "odls_base_sigkill_timeout",
                                         "4",
                                         "--mca",
                                         "orte_tmpdir_base",
                                         NULL};
    for (int i = 0; recipe[i] != NULL; i++)
        add(line, recipe[i]);
    add(line, folder->path);
    add(line, "-x");
    add(line, RUN_MARK);
    add(line, "-x");
    add(line, RUN_WATCHDOG);
    if (getenv(KERNELS_VARIABLE) != NULL) {
        add(line, "-x");
        add(line, KERNELS_VARIABLE);
    }
    snprintf(line->ranks, sizeof line->ranks, "%u", n_ranks);
    add(line, "-n");
    add(line, line->ranks);
    add(line, self);
    add(line, "search");
    add(line, "-C");
    add(line, study->dir);
    if (options->evals > 0) {
        snprintf(line->evals, sizeof line->evals, "%llu", (unsigned long long)options->evals);
        add(line, "--evals");
        add(line, line->evals);
    }
    if (options->time_s > 0) {
        snprintf(line->time, sizeof line->time, "%.3fs", options->time_s);
        add(line, "--time");
        add(line, line->time);
    }
    if (options->threads > 0) {
        snprintf(line->threads, sizeof line->threads, "%u", options->threads);
        add(line, "--threads");
        add(line, line->threads);
    }
    if (options->max_disk > 0) {
        snprintf(line->max_disk, sizeof line->max_disk, "%lluB",
                 (unsigned long long)options->max_disk);
        add(line, "--max-disk");
        add(line, line->max_disk);
    }
    if (options->scratch != NULL) {
        add(line, "--scratch");
        add(line, options->scratch);
    }
    if (options->sensitivity != NULL) {
        add(line, "--sensitivity");
        add(line, options->sensitivity);
    }
    if (log_level() != LOG_INFO)
        add(line, log_level() > LOG_INFO ? "-v" : "-q");
}

/* mpirun refuses root and more ranks than cores unless told twice; both are for containers and
 * small machines, and a batch system's own slot count stays untouched. */
static void prepare_environment(void)
{
    if (geteuid() == 0) {
        setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
        setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    }
    if (getenv("SLURM_JOB_ID") == NULL)
        setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 0);
}

/* mpirun with its stderr at `talk_end`.  0, or an errno. */
static int start(const struct command_line *line, int talk_end, pid_t *pid)
{
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t actions;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                              POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, talk_end, 2);
    int failed = posix_spawnp(pid, "mpirun", &actions, &attributes, line->arg, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return failed;
}

static bool has_ended(pid_t pid)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid;
}

static bool wait_end(pid_t pid, double seconds, struct mpi_talk *talk)
{
    int64_t end = clock_now_ns() + (int64_t)(seconds * 1e9);
    while (!has_ended(pid) && clock_now_ns() < end)
        mpi_talk_pass(talk, 20);
    return has_ended(pid);
}

/* TERM, a while, KILL. */
static void end_hard(pid_t pid, struct mpi_talk *talk)
{
    kill(pid, SIGTERM);
    if (!wait_end(pid, TERM_S, talk))
        kill(-pid, SIGKILL);
}

/* Why the run must be ended from outside, or NULL while all is well. */
static const char *find_fault(const struct study *study, int64_t begun_ns, int64_t *ended_ns)
{
    int64_t now = clock_now_ns();
    if (*ended_ns == 0 && run_status_is_there(study))
        *ended_ns = now;
    if (*ended_ns != 0)
        return now - *ended_ns > SLACK_S * 1000000000ll ? "mpirun does not end by itself" : NULL;
    if (run_progress_is_dead(study) && !run_status_is_there(study))
        return "the master is dead";
    if (now - begun_ns > START_S * 1000000000ll && !run_progress_has_begun(study))
        return "the ranks do not come together";
    if (now - begun_ns > SILENT_S * 1000000000ll && run_progress_age(study) > SILENT_S)
        return "the master has been silent for too long";
    return NULL;
}

static void watch(pid_t pid, const struct study *study, struct mpi_talk *talk)
{
    int64_t ended_ns = 0, begun_ns = clock_now_ns();
    for (unsigned tick = 0; !has_ended(pid); tick++) {
        mpi_talk_pass(talk, 50);
        if (forward_stop) {
            forward_stop = 0;
            kill(pid, n_stops < 3 ? SIGUSR1 : SIGTERM);
        }
        const char *fault = tick % 10 == 0 ? find_fault(study, begun_ns, &ended_ns) : NULL;
        if (fault != NULL) {
            log_warn("launch", "ending the run reason=\"%s\"", fault);
            end_hard(pid, talk);
        }
    }
}

/* From its start to its end, whichever way that comes.  0, or an errno when it cannot be started.
 */
static int run_mpirun(const struct command_line *line, const struct study *study)
{
    struct mpi_talk talk;
    pid_t pid;
    int talk_end;
    if (mpi_talk_open(&talk, STDERR_FILENO, &talk_end) != 0)
        return errno;
    int failed = start(line, talk_end, &pid);
    close(talk_end);
    if (failed == 0) {
        watch(pid, study, &talk);
        kill(-pid, SIGKILL); /* whatever of its group is left */
        waitpid(pid, NULL, 0);
    }
    mpi_talk_close(&talk);
    return failed;
}

int run_launch(const struct study *study, const struct run_options *options, uint32_t n_ranks)
{
    struct command_line line = {0};
    struct mpi_folder folder;
    struct sigaction action = {.sa_handler = on_stop};
    char self[STUDY_PATH_MAX];
    int64_t begun = clock_wall_s();
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[length > 0 ? length : 0] = '\0';
    mpi_folder_sweep();
    if (length <= 0 || mpi_folder_make(&folder) != 0) {
        fprintf(stderr, "kerf: no temporary folder for mpirun: %s\n", strerror(errno));
        return err_exit_status(ERR_CREATE);
    }
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    setenv(RUN_MARK, mpi_folder_mark(&folder), 1);
    run_watchdog_tell();
    run_progress_touch(study, 0);
    prepare_environment();
    compose(&line, study, options, n_ranks, &folder, self);
    int failed = run_mpirun(&line, study);
    if (failed != 0) {
        fprintf(stderr,
                "kerf: mpirun cannot be started: %s; install openmpi-bin, or leave --ranks "
                "out to search on this machine alone\n",
                strerror(failed));
        mpi_folder_remove(&folder);
        return err_exit_status(ERR_RESOURCE);
    }
    unsigned n_left = leftover_kill(RUN_MARK, getenv(RUN_MARK));
    if (n_left > 0)
        log_debug("launch", "ended what mpirun left processes=%u", n_left);
    mpi_folder_remove(&folder);
    leftover_remove_segments(begun);

    struct run_status status;
    struct err err = {0};
    if (run_status_read(study, &status, &err) != 0) {
        fprintf(stderr, "kerf: the run died without a word; everything committed is saved, run the "
                        "same command again\n");
        return err_exit_status(ERR_STOPPED);
    }
    run_status_settle(study);
    run_status_print(study, &status);
    if (status.code != ERR_NONE)
        fprintf(stderr, "kerf: %s\n", status.reason);
    return err_exit_status(status.code);
}
