#include "latency_model/quiet.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "tests/tap.h"
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the processes of a node see of each other. */
struct node {
    atomic_int n_working, n_probing, n_steps, n_probes, n_clashes;
};

static void work(struct node *node, int n_steps)
{
    struct quiet *quiet = quiet_open(NULL);
    quiet_work_begin(quiet, NULL);
    atomic_fetch_add(&node->n_working, 1);
    for (int i = 0; i < n_steps; i++) {
        if (atomic_load(&node->n_probing) != 0)
            atomic_fetch_add(&node->n_clashes, 1);
        clock_nap_ns(1000000);
        atomic_fetch_add(&node->n_steps, 1);
        atomic_fetch_sub(&node->n_working, 1);
        quiet_work_step(quiet, NULL);
        atomic_fetch_add(&node->n_working, 1);
    }
    atomic_fetch_sub(&node->n_working, 1);
    quiet_work_end(quiet);
    quiet_close(quiet);
    _exit(0);
}

static void probe(struct node *node, int n_probes)
{
    struct quiet *quiet = quiet_open(NULL);
    for (int i = 0; i < n_probes; i++) {
        quiet_probe_begin(quiet, NULL);
        if (atomic_fetch_add(&node->n_probing, 1) != 0 || atomic_load(&node->n_working) != 0)
            atomic_fetch_add(&node->n_clashes, 1);
        clock_nap_ns(2000000);
        atomic_fetch_sub(&node->n_probing, 1);
        atomic_fetch_add(&node->n_probes, 1);
        quiet_probe_end(quiet);
        clock_nap_ns(500000);
    }
    quiet_close(quiet);
    _exit(0);
}

int main(void)
{
    char dir[] = "/tmp/kerf-quiet.XXXXXX", command[64];
    if (mkdtemp(dir) == NULL)
        return 1;
    setenv("KERF_QUIET_DIR", dir, 1);
    struct node *node =
        mmap(NULL, sizeof *node, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset(node, 0, sizeof *node);

    pid_t child[5];
    for (int i = 0; i < 5; i++)
        if ((child[i] = fork()) == 0)
            i < 3 ? work(node, 200) : probe(node, 40);
    int64_t limit = clock_now_ns() + 60000000000ll;
    int n_left = 5;
    while (n_left > 0 && clock_now_ns() < limit)
        n_left -= waitpid(-1, NULL, WNOHANG) > 0 ? 1 : (clock_nap_ns(1000000), 0);
    ok(n_left == 0, "three workers and two probers all come to an end");
    ok(atomic_load(&node->n_probes) == 80 && atomic_load(&node->n_steps) == 600,
       "nobody starves: 80 probes, 600 steps");
    ok(atomic_load(&node->n_clashes) == 0, "nobody works or probes while somebody probes (%d)",
       atomic_load(&node->n_clashes));
    for (int i = 0; i < 5 && n_left > 0; i++)
        kill(child[i], SIGKILL);

    /* A killed prober leaves nothing locked. */
    pid_t prober = fork();
    if (prober == 0) {
        struct quiet *quiet = quiet_open(NULL);
        quiet_probe_begin(quiet, NULL);
        atomic_store(&node->n_probing, 1);
        for (;;)
            pause();
    }
    while (atomic_load(&node->n_probing) == 0)
        clock_nap_ns(1000000);
    kill(prober, SIGKILL);
    waitpid(prober, NULL, 0);
    struct quiet *quiet = quiet_open(NULL);
    ok(quiet_work_begin(quiet, NULL) == 0, "kill -9 of a prober releases the node");
    quiet_close(quiet);

    struct err err = {0};
    setenv("KERF_QUIET_DIR", "/nonexistent/kerf", 1);
    ok(quiet_open(&err) == NULL && strstr(err.text, "KERF_QUIET_DIR") != NULL,
       "a folder that is not there is named with its remedy");
    snprintf(command, sizeof command, "rm -r %s", dir);
    return system(command) != 0 ? 1 : tap_done();
}
