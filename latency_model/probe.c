#include "latency_model/probe.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "space/base/rng.h"
#include "space/base/stats.h"
#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* The spin loop beside a sample may be off by this share of its median. */
#define MAX_CLOCK_DRIFT 0.05
/* Warm-up ends when three successive medians agree this well. */
#define STATIONARY 0.01
/* One round in this many must survive, or the machine was not quiet. */
#define MIN_ACCEPTED_SHARE 4
/* Fewer ratios than this have no 95 % interval at all. */
#define MIN_ACCEPTED 6
/* An interval so many times as wide as wanted says little. */
#define VAGUE 5.0

struct session {
    const struct probe_item *items;
    size_t n_items;
    const struct probe_plan *plan;
    int cpu;
    struct rng *rng;
    struct sample *sample; /* [rounds_max][n_items] */
    uint32_t n_rounds;
    bool noisy;     /* disturbed samples count too */
    int64_t end_ns; /* 0: no limit */
};

/* Every item once, in shuffled order. */
static int run_round(struct session *session, struct sample *row, struct err *err)
{
    size_t order[PROBE_MAX_ITEMS];
    for (size_t i = 0; i < session->n_items; i++)
        order[i] = i;
    rng_shuffle(session->rng, order, session->n_items, sizeof order[0]);
    for (size_t i = 0; i < session->n_items; i++)
        if (sample_take(&session->items[order[i]], session->cpu, &row[order[i]], err) != 0)
            return -1;
    return 0;
}

static bool out_of_time(const struct session *session)
{
    return session->end_ns != 0 && clock_now_ns() > session->end_ns;
}

/* Rounds whose samples are thrown away, until three successive times of every item agree. */
static int warm_up(struct session *session, uint32_t *n_warmup, struct err *err)
{
    struct sample row[PROBE_MAX_ITEMS];
    double last[PROBE_MAX_ITEMS][3];
    for (*n_warmup = 0; *n_warmup < session->plan->warmup_max && !out_of_time(session);) {
        if (run_round(session, row, err) != 0)
            return -1;
        bool stationary = *n_warmup >= 2;
        for (size_t i = 0; i < session->n_items; i++) {
            last[i][*n_warmup % 3] = row[i].ns;
            if (stationary) {
                double low = fmin(last[i][0], fmin(last[i][1], last[i][2]));
                double high = fmax(last[i][0], fmax(last[i][1], last[i][2]));
                stationary = high <= low * (1 + STATIONARY);
            }
        }
        (*n_warmup)++;
        if (stationary)
            break;
    }
    return 0;
}

/* Clock rejections need the median spin of all samples so far; the others are known at once.  Each
 * item has its own: after wide vector work the clock is another one than after narrow. */
static void reject_item_by_clock(struct session *session, size_t item)
{
    double spin[PROBE_MAX_ROUNDS];
    for (uint32_t r = 0; r < session->n_rounds; r++)
        spin[r] = session->sample[(size_t)r * session->n_items + item].spin_ns;
    double median = stats_median(spin, session->n_rounds);
    for (uint32_t r = 0; r < session->n_rounds; r++) {
        struct sample *sample = &session->sample[(size_t)r * session->n_items + item];
        bool off = fabs(sample->spin_ns - median) > MAX_CLOCK_DRIFT * median;
        if (sample->rejection == CLOCK && !off)
            sample->rejection = ACCEPTED;
        else if (sample->rejection == ACCEPTED && off)
            sample->rejection = CLOCK;
    }
}

static void reject_by_clock(struct session *session)
{
    for (size_t item = 0; item < session->n_items; item++)
        reject_item_by_clock(session, item);
}

static void count_rejection(struct probe_rejects *rejects, enum rejection rejection)
{
    rejects->migrated += rejection == MIGRATED;
    rejects->stolen += rejection == STOLEN;
    rejects->switched += rejection == SWITCHED;
    rejects->clock += rejection == CLOCK;
}

/* On a machine that was not quiet only a sample of another core is worthless. */
static bool counts(const struct session *session, const struct sample *sample)
{
    return sample->rejection == ACCEPTED || (session->noisy && sample->rejection != MIGRATED);
}

/* Rounds in which both the item and the reference count. */
static void collect(const struct session *session, size_t item, struct probe_result *result)
{
    uint32_t n_warmup = result->n_warmup;
    memset(result, 0, sizeof *result);
    result->n_warmup = n_warmup;
    result->noisy = session->noisy;
    for (uint32_t r = 0; r < session->n_rounds; r++) {
        const struct sample *row = &session->sample[(size_t)r * session->n_items];
        count_rejection(&result->rejected, row[item].rejection);
        if (!counts(session, &row[item]) || !counts(session, &row[0]))
            continue;
        result->sample_ns[result->n_accepted] = row[item].ns;
        result->ratio[result->n_accepted] = row[item].ns / row[0].ns;
        result->n_accepted++;
    }
}

static void summarize(struct probe_result *result)
{
    double sorted[PROBE_MAX_ROUNDS], log_ratio[PROBE_MAX_ROUNDS];
    size_t n = result->n_accepted;
    if (n == 0)
        return;
    for (size_t i = 0; i < n; i++) {
        sorted[i] = result->sample_ns[i];
        log_ratio[i] = log(result->ratio[i]);
    }
    stats_sort(sorted, n);
    result->min_ns = sorted[0];
    result->p10_ns = stats_quantile(sorted, n, 0.1);
    result->median_ns = stats_quantile(sorted, n, 0.5);
    result->p90_ns = stats_quantile(sorted, n, 0.9);
    result->mean_ns = stats_mean(sorted, n);
    stats_median_interval(sorted, n, &result->median_lo_ns, &result->median_hi_ns);
    double lo, hi;
    result->ratio_mid = exp(stats_hodges_lehmann(log_ratio, n, &lo, &hi));
    result->ratio_lo = exp(lo);
    result->ratio_hi = exp(hi);
}

/* Whether every item but the reference is known well enough. */
static bool precise_enough(const struct session *session, struct probe_result *results)
{
    for (size_t i = 0; i < session->n_items; i++) {
        collect(session, i, &results[i]);
        if (results[i].n_accepted < session->plan->rounds_min)
            return false;
        summarize(&results[i]);
        if (i > 0 && (results[i].ratio_hi - results[i].ratio_lo) / 2 >
                         session->plan->ci * results[i].ratio_mid)
            return false;
    }
    return true;
}

static int run_rounds(struct session *session, struct probe_result *results, struct err *err)
{
    while (session->n_rounds < session->plan->rounds_max) {
        struct sample *row = &session->sample[(size_t)session->n_rounds * session->n_items];
        if (run_round(session, row, err) != 0)
            return -1;
        session->n_rounds++;
        if (session->n_rounds < session->plan->rounds_min)
            continue;
        reject_by_clock(session);
        /* A look at every round would bias the interval; every fourth costs little. */
        bool look = (session->n_rounds - session->plan->rounds_min) % 4 == 0;
        if ((look && precise_enough(session, results)) || out_of_time(session))
            break;
    }
    reject_by_clock(session);
    return 0;
}

/* 0, or -1 where an item has too few rounds. */
static int finish(const struct session *session, uint32_t n_warmup, struct probe_result *results,
                  struct err *err)
{
    for (size_t i = 0; i < session->n_items; i++) {
        struct probe_result *result = &results[i];
        collect(session, i, result);
        summarize(result);
        result->n_warmup = n_warmup;
        if (result->n_accepted >= MIN_ACCEPTED &&
            result->n_accepted * MIN_ACCEPTED_SHARE >= session->n_rounds)
            continue;
        err_set(err, ERR_RESOURCE,
                "too noisy to measure: of %u rounds %u count (item %zu: %u migrated, %u stolen, "
                "%u switched out, %u off the clock); quieten the machine",
                session->n_rounds, result->n_accepted, i, result->rejected.migrated,
                result->rejected.stolen, result->rejected.switched, result->rejected.clock);
        return -1;
    }
    return 0;
}

/* Warm-up, rounds, summary; the samples are forgotten. */
static int attempt(struct session *session, struct probe_result *results, struct err *err)
{
    uint32_t n_warmup = 0;
    session->n_rounds = 0;
    session->noisy = false;
    if (warm_up(session, &n_warmup, err) != 0 || run_rounds(session, results, err) != 0)
        return -1;
    if (finish(session, n_warmup, results, NULL) == 0)
        return 0;
    session->noisy = true;
    return finish(session, n_warmup, results, err);
}

/* The widest interval of the items against the reference, as a multiple of what was wanted. */
static double excess(const struct session *session, const struct probe_result *results)
{
    double widest = 0;
    for (size_t i = 1; i < session->n_items; i++) {
        double half = (results[i].ratio_hi - results[i].ratio_lo) / 2;
        widest = fmax(widest, half / (session->plan->ci * results[i].ratio_mid));
    }
    return widest;
}

/* A machine that changes its pace in mid-probe rejects no sample and still tells little. */
static bool is_vague(const struct session *session, const struct probe_result *results)
{
    return session->noisy || excess(session, results) > VAGUE;
}

/* A vague result is measured once more, and the better of the two kept. */
static int attempt_again(struct session *session, struct probe_result *results, struct err *err)
{
    struct probe_result *first = malloc(session->n_items * sizeof *first);
    bool noisy = session->noisy;
    double width = excess(session, results);
    if (first == NULL) {
        err_set(err, ERR_MEMORY, "probe: out of memory");
        return -1;
    }
    memcpy(first, results, session->n_items * sizeof *first);
    int status = attempt(session, results, NULL);
    bool better =
        status == 0 && (session->noisy == noisy ? excess(session, results) < width : noisy);
    if (!better) {
        memcpy(results, first, session->n_items * sizeof *first);
        session->noisy = noisy;
    }
    free(first);
    return 0;
}

int probe_run(const struct probe_item *items, size_t n_items, const struct probe_plan *wanted,
              int cpu, struct rng *rng, struct probe_result *results, struct err *err)
{
    assert(n_items >= 1 && n_items <= PROBE_MAX_ITEMS);
    assert(wanted->rounds_min >= 1 && wanted->rounds_max <= PROBE_MAX_ROUNDS);
    struct probe_plan plan = *wanted;
    if (plan.rounds_max < MIN_ACCEPTED)
        plan.rounds_max = MIN_ACCEPTED;
    struct session session = {
        .items = items, .n_items = n_items, .plan = &plan, .cpu = cpu, .rng = rng};
    if (plan.max_seconds > 0)
        session.end_ns = clock_now_ns() + (int64_t)(plan.max_seconds * 1e9);
    session.sample = calloc((size_t)plan.rounds_max * n_items, sizeof *session.sample);
    if (session.sample == NULL) {
        err_set(err, ERR_MEMORY, "probe: out of memory");
        return -1;
    }
    int status = attempt(&session, results, err);
    if (status == 0 && is_vague(&session, results))
        status = attempt_again(&session, results, err);
    for (size_t i = 0; status == 0 && i < n_items; i++)
        results[i].noisy = is_vague(&session, results);
    free(session.sample);
    return status;
}
