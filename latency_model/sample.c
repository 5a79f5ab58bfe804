#include "latency_model/sample.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

/* Somebody short is always about (a timer, our own master's nap): one involuntary switch, and one
 * more for each so many nanoseconds, cost less than the noise.  A sample with more was shared. */
#define SWITCH_NS 2000000

/* What the system says around a run; differences tell what disturbed it. */
struct witness {
    int cpu;
    long n_switches; /* involuntary, of the whole process */
    int64_t stolen;  /* ticks of all cores that the hypervisor took; -1 unknown */
};

static int64_t read_stolen(void)
{
    char text[512];
    int fd = open("/proc/stat", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return -1;
    text[n] = '\0';
    long long steal = -1;
    /* cpu user nice system idle iowait irq softirq steal */
    if (sscanf(text, "cpu %*d %*d %*d %*d %*d %*d %*d %lld", &steal) != 1)
        return -1;
    return steal;
}

static void witness_read(struct witness *witness)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    witness->cpu = sched_getcpu();
    witness->n_switches = usage.ru_nivcsw;
    witness->stolen = read_stolen();
}

/* A fixed amount of dependent arithmetic, about 20 us: its time tells the core's clock where no
 * frequency can be read. */
static double spin_ns(void)
{
    int64_t start = clock_now_ns();
    uint64_t x = 88172645463325252ull;
    for (int i = 0; i < 12000; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        __asm__ volatile("" : "+r"(x));
    }
    return (double)(clock_now_ns() - start);
}

int sample_take(const struct probe_item *item, int cpu, struct sample *sample, struct err *err)
{
    struct witness before, after;
    if (item->prepare != NULL && item->prepare(item->arg, err) != 0)
        return -1;
    witness_read(&before);
    int64_t start = clock_now_ns();
    if (item->run(item->arg, err) != 0)
        return -1;
    int64_t end = clock_now_ns();
    witness_read(&after);
    sample->ns = (double)(end - start) / item->n_units;
    sample->spin_ns = spin_ns();
    sample->rejection = ACCEPTED;
    if (before.cpu != cpu || after.cpu != cpu)
        sample->rejection = MIGRATED;
    else if (before.stolen >= 0 && after.stolen > before.stolen)
        sample->rejection = STOLEN;
    else if (after.n_switches - before.n_switches > 1 + (end - start) / SWITCH_NS)
        sample->rejection = SWITCHED;
    return 0;
}
