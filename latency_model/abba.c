#include "latency_model/abba.h"

#include "space/base/err.h"

#include <math.h>
#include <stdbool.h>

#define MAX_AGAIN 10

/* *clean: no sample was disturbed. */
static int make_round(struct abba *abba, size_t workload, double log_ns[2], bool *clean,
                      struct err *err)
{
    static const int order[4] = {0, 1, 1, 0};

    log_ns[0] = log_ns[1] = 0;
    *clean = true;
    for (int i = 0; i < 4; i++) {
        struct stopwatch *watch = order[i] == 0 ? abba->baseline : abba->current;
        struct sample sample;
        if (stopwatch_take(watch, workload, &sample, err) != 0)
            return -1;
        log_ns[order[i]] += log(sample.ns) / 2;
        *clean = *clean && sample.rejection == ACCEPTED;
    }
    return 0;
}

int abba_round(struct abba *abba, size_t workload, double *log_ratio, double ns[2], struct err *err)
{
    double log_ns[2];
    bool clean = false;

    if (quiet_probe_begin(abba->quiet, err) != 0)
        return -1;
    int status = 0;
    for (int again = 0; again <= MAX_AGAIN && !clean && status == 0; again++) {
        status = make_round(abba, workload, log_ns, &clean, err);
        abba->n_rejected += !clean;
    }
    quiet_probe_end(abba->quiet);
    for (int i = 0; i < 2 && status == 0; i++)
        ns[i] = exp(log_ns[i]);
    *log_ratio = log_ns[1] - log_ns[0];
    return status;
}
