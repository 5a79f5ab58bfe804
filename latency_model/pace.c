#include "latency_model/pace.h"

#include "space/base/err.h"
#include "space/base/stats.h"

#include <math.h>
#include <stdlib.h>

/* Neighbours on either side that tell the pace of a sample. */
#define REACH    8
#define N_SWEEPS 10

struct settling {
    const struct pace_sample *samples;
    size_t n, n_items;
    double *pace;  /* [n] */
    double *level; /* [n_items], log ns */
    size_t *first; /* [n_items + 1]: where an item's samples begin in `of` */
    size_t *of;    /* [n]: indexes of samples, item by item */
    double *some;  /* [n]: room for a median */
};

static void group(struct settling *s)
{
    size_t *next = s->of + s->n; /* [n_items] */

    for (size_t k = 0; k < s->n; k++)
        s->first[s->samples[k].item + 1]++;
    for (size_t i = 0; i < s->n_items; i++) {
        s->first[i + 1] += s->first[i];
        next[i] = s->first[i];
    }
    for (size_t k = 0; k < s->n; k++)
        s->of[next[s->samples[k].item]++] = k;
}

static void settle_levels(struct settling *s)
{
    for (size_t i = 0; i < s->n_items; i++) {
        size_t n = 0;
        for (size_t k = s->first[i]; k < s->first[i + 1]; k++)
            s->some[n++] = log(s->samples[s->of[k]].ns) - s->pace[s->of[k]];
        s->level[i] = stats_median(s->some, n);
    }
}

static double missed(const struct settling *s, size_t k)
{
    return log(s->samples[k].ns) - s->level[s->samples[k].item];
}

/* What samples of other items missed, from k on in one direction, at most REACH of them. */
static size_t look(const struct settling *s, size_t k, int step, double *near)
{
    size_t n = 0;

    for (size_t at = k + (size_t)step; at < s->n && n < REACH; at += (size_t)step)
        if (s->samples[at].item != s->samples[k].item)
            near[n++] = missed(s, at);
    return n;
}

/* A sample does not speak for its own pace, or it would explain itself; nor do others of its item.
 */
static void settle_pace(struct settling *s)
{
    double middle;

    for (size_t k = 0; k < s->n; k++) {
        double near[2 * REACH];
        size_t n = look(s, k, -1, near); /* runs out below 0, too: far beyond n */
        n += look(s, k, 1, near + n);
        s->some[k] = n > 0 ? stats_median(near, n) : 0;
    }
    for (size_t k = 0; k < s->n; k++)
        s->pace[k] = s->some[k];
    middle = stats_median(s->some, s->n);
    for (size_t k = 0; k < s->n; k++)
        s->pace[k] -= middle;
}

static void tell(struct settling *s, struct pace_time *time)
{
    for (size_t i = 0; i < s->n_items; i++) {
        size_t n = 0;
        for (size_t k = s->first[i]; k < s->first[i + 1]; k++, n++)
            s->some[n] = fabs(missed(s, s->of[k]) - s->pace[s->of[k]]);
        /* Of a normal spread 1.4826 median deviations are one standard deviation, and a median of
         * n has 1.2533 / sqrt(n) of it. */
        double spread = n > 1 ? 1.4826 * stats_median(s->some, n) : 0;
        time[i] = (struct pace_time){.n = (uint32_t)n,
                                     .ns = exp(s->level[i]),
                                     .error = n > 0 ? 1.2533 * spread / sqrt((double)n) : NAN};
    }
}

int pace_settle(const struct pace_sample *samples, size_t n, size_t n_items, struct pace_time *time,
                struct err *err)
{
    struct settling s = {.samples = samples, .n = n, .n_items = n_items};
    double *values = calloc(2 * n + n_items + 1, sizeof *values);
    size_t *indexes = calloc(n + 2 * n_items + 1, sizeof *indexes);
    int status = values != NULL && indexes != NULL ? 0 : -1;

    if (status != 0) {
        err_set(err, ERR_MEMORY, "latency study: out of memory");
    } else {
        s.pace = values;
        s.some = values + n;
        s.level = values + 2 * n;
        s.first = indexes;
        s.of = indexes + n_items + 1;
        group(&s);
        settle_levels(&s);
        for (int sweep = 0; sweep < N_SWEEPS; sweep++) {
            settle_pace(&s);
            settle_levels(&s);
        }
        tell(&s, time);
    }
    free(indexes);
    free(values);
    return status;
}
