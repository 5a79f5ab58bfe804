#include "latency_model/sample.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "space/base/stats.h"
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

const char *rejection_name(enum rejection rejection)
{
    static const char *const names[N_REJECTIONS] = {"accepted", "migrated", "stolen", "switched",
                                                    "clock",    "shared",   "apart",  "pressed"};

    return names[rejection];
}

enum rejection sample_judge(const struct footing *footing, const struct footing_best *best)
{
    enum footing_fault fault = footing_judge(footing, best);

    return fault == FOOTING_SHARED ? SHARED : fault == FOOTING_APART ? APART : ACCEPTED;
}

static void summarize_units(const struct probe_item *item, struct sample *sample)
{
    size_t n = (size_t)item->n_units;
    double *sorted = malloc((n + 1) * sizeof *sorted);

    if (sorted == NULL)
        return;
    memcpy(sorted, item->unit_ns, n * sizeof *sorted);
    stats_sort(sorted, n);
    sample->ns = stats_quantile(sorted, n, 0.5);
    sample->calm_ns = stats_quantile(sorted, n, 0.1);
    free(sorted);
}

int sample_take(const struct probe_item *item, const struct sample_place *place,
                struct sample *sample, struct err *err)
{
    struct witness before, after;
    if (item->prepare != NULL && item->prepare(item->arg, err) != 0)
        return -1;
    footing_take(place->team, &sample->footing[0]);
    witness_read(&before);
    int64_t start = clock_now_ns();
    if (item->run(item->arg, err) != 0)
        return -1;
    int64_t end = clock_now_ns();
    witness_read(&after);
    footing_take(place->team, &sample->footing[1]);
    sample->ns = sample->calm_ns = (double)(end - start) / item->n_units;
    if (item->unit_ns != NULL)
        summarize_units(item, sample);
    sample->rejection = sample_judge(&sample->footing[0], &place->best);
    if (sample->rejection == ACCEPTED)
        sample->rejection = sample_judge(&sample->footing[1], &place->best);
    if (before.cpu != place->cpu || after.cpu != place->cpu)
        sample->rejection = MIGRATED;
    else if (before.stolen >= 0 && after.stolen > before.stolen)
        sample->rejection = STOLEN;
    else if (after.n_switches - before.n_switches > 1 + (end - start) / SWITCH_NS)
        sample->rejection = SWITCHED;
    return 0;
}
