/* The test program is its own evaluator: child_start runs /proc/self/exe, and the unit of the work
 * item says how it is to behave. */
#include "cluster/child.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "tests/tap.h"
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum behaviour {
    GOOD,
    SEGV,
    HANG,
    GARBAGE,
    STATUS_7,
    STATUS_65,
    STATUS_74,
    PARTIAL,
    HUGE_ANSWER,
    SILENT,
    STOPPED,
    GRANDCHILD,
    ENVIRONMENT
};

static void say(const char *text)
{
    if (write(3, text, strlen(text)) < 0)
        _exit(9);
}

static int behave(enum behaviour behaviour)
{
    switch (behaviour) {
    case GOOD:
        say("{\"answer\":42}\n");
        return 0;
    case SEGV: {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGSEGV, SIG_DFL); /* a sanitizer's handler would turn it into an exit */
        raise(SIGSEGV);
        return 0;
    }
    case HANG:
        for (;;)
            pause();
    case GARBAGE:
        say("this is no answer\n");
        return 0;
    case STATUS_7:
        return 7;
    case STATUS_65:
        say("{\"error\":\"tensor blk.0 holds a NaN\"}\n");
        return 65;
    case STATUS_74:
        say("{\"error\":\"disk full\"}\n");
        return 74;
    case PARTIAL:
        say("{\"answer\":4");
        return 0;
    case HUGE_ANSWER:
        say("{\"x\":\"");
        for (int i = 0; i < MESSAGE_RESULT_MAX / 1024 + 8; i++) {
            char block[1024];
            memset(block, 'x', sizeof block);
            if (write(3, block, sizeof block) < 0)
                return 9;
        }
        say("\"}\n");
        return 0;
    case SILENT:
        return 0;
    case STOPPED:
        raise(SIGSTOP);
        return 0;
    case GRANDCHILD:
        if (fork() == 0)
            for (;;)
                pause(); /* keeps the pipe open after its parent is gone */
        say("{\"answer\":1}\n");
        return 0;
    case ENVIRONMENT:
        say(getenv("OMPI_TEST_LEAK") == NULL && getenv("KERF_TEST_KEPT") != NULL &&
                    fcntl(9, F_GETFD) < 0 && read(0, &(char){0}, 1) == 0
                ? "{\"clean\":1}\n"
                : "{\"clean\":0}\n");
        return 0;
    }
    return 1;
}

static struct child *start(enum behaviour behaviour, double deadline_s)
{
    static const int cpu[2] = {0, 1};
    struct child_options options = {
        .study_dir = "/study", .store_dir = "/store", .cpu = cpu, .n_threads = 2};
    struct work work = {.kind = WORK_SENSITIVITY,
                        .unit = (uint32_t)behaviour,
                        .lease = 1,
                        .deadline_s = deadline_s};
    struct err err = {0};
    struct child *child = child_start(&options, &work, &err);
    ok(child != NULL, "a child starts%s", err.text);
    return child;
}

/* Run to the end; returns the verdict. */
static enum verdict run(enum behaviour behaviour, double deadline_s, char reason[256],
                        char **result)
{
    enum verdict verdict = VERDICT_LOST;
    struct child *child = start(behaviour, deadline_s);
    int64_t limit = clock_now_ns() + 20000000000ll;
    *result = NULL;
    while (child != NULL && clock_now_ns() < limit &&
           child_poll(child, 50, &verdict, reason, result) == 0)
        ;
    child_destroy(child);
    return verdict;
}

static void expect(enum behaviour behaviour, double deadline_s, enum verdict wanted,
                   const char *reason_part, const char *title)
{
    char reason[256] = "", *result;
    enum verdict verdict = run(behaviour, deadline_s, reason, &result);
    ok(verdict == wanted && strstr(reason, reason_part) != NULL, "%s (%s: %s)", title,
       verdict_name(verdict), reason);
    ok(waitpid(-1, NULL, WNOHANG) <= 0, "and no zombie is left");
    free(result);
}

static void test_answers(void)
{
    char reason[256], *result;
    ok(run(GOOD, 10, reason, &result) == VERDICT_DONE && result != NULL &&
           strcmp(result, "{\"answer\":42}") == 0,
       "an answer arrives whole");
    free(result);
    setenv("OMPI_TEST_LEAK", "1", 1);
    setenv("KERF_TEST_KEPT", "1", 1);
    if (dup2(1, 9) < 0)
        return;
    ok(run(ENVIRONMENT, 10, reason, &result) == VERDICT_DONE && result != NULL &&
           strcmp(result, "{\"clean\":1}") == 0,
       "a child sees no MPI variables, no descriptors of ours and an empty stdin");
    close(9);
    free(result);
}

/* Nothing that the child holds tells of its end, so processes are asked for by their command line.
 */
static void test_dies_with_parent(void)
{
    int ends[2];
    if (pipe(ends) != 0)
        return;
    pid_t supervisor = fork();
    if (supervisor == 0) {
        struct child *child = start(HANG, 100);
        (void)child;
        clock_nap_ns(300000000);
        close(ends[0]);
        if (write(ends[1], "x", 1) != 1)
            _exit(1);
        raise(SIGKILL);
    }
    char c;
    close(ends[1]);
    ok(read(ends[0], &c, 1) == 1, "a supervisor has a hanging child");
    waitpid(supervisor, NULL, 0);
    /* The hanging child holds no end of our pipe, so ask for processes of this binary instead. */
    bool gone = false;
    for (int i = 0; i < 40 && !gone; i++) {
        clock_nap_ns(50000000);
        char command[128];
        snprintf(command, sizeof command, "pgrep -f '[k]erf evaluator .* %ld ' >/dev/null",
                 (long)supervisor);
        gone = system(command) != 0;
    }
    ok(gone, "kill -9 of a supervisor takes its child along");
    close(ends[0]);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "evaluator") == 0) {
        struct work work;
        struct err err = {0};
        if (child_tie_to_parent(atol(argv[5]), &err) != 0 || work_decode(argv[6], &work, &err) != 0)
            return 70;
        return behave((enum behaviour)work.unit);
    }
    test_answers();
    expect(SEGV, 10, VERDICT_CRASH, "signal 11", "a crash is a crash");
    expect(HANG, 0.5, VERDICT_TIMEOUT, "deadline", "a hanging child is ended at its deadline");
    expect(STOPPED, 0.5, VERDICT_TIMEOUT, "deadline", "so is a stopped one");
    expect(GARBAGE, 10, VERDICT_BAD, "nonsense", "garbage is no answer");
    expect(PARTIAL, 10, VERDICT_BAD, "nonsense", "neither is half a line");
    expect(SILENT, 10, VERDICT_BAD, "nonsense", "nor silence");
    expect(HUGE_ANSWER, 10, VERDICT_BAD, "nonsense", "nor more than fits");
    expect(STATUS_7, 10, VERDICT_UNABLE, "status 7", "an unknown status is the machine's");
    expect(STATUS_65, 10, VERDICT_BAD, "holds a NaN", "bad data is the candidate's, in its words");
    expect(STATUS_74, 10, VERDICT_DISK, "disk full", "a full disk is told apart");
    expect(GRANDCHILD, 10, VERDICT_DONE, "", "what the child started does not hold us up");
    test_dies_with_parent();
    return tap_done();
}
