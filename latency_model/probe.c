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
/* Where probes differ by about what is wanted, rounds need not add more than this share of it. */
#define OWN_SHARE 0.6
/* An interval so many times as wide as wanted says little. */
#define VAGUE 5.0
/* The reference may take so much longer than at rest before its caches count as pressed by others;
 * left alone it varies by 9 %. */
#define MAX_PRESSURE 1.10
/* What it takes at rest is looked for in so many bursts of rounds, so far apart, on a node where it
 * is not known, and stays what it was then unless a probe is faster by so much: all ratios hang on
 * it, so it should rather be the same for all than the least ever seen. */
#define SURVEY_BURSTS  6
#define SURVEY_ROUNDS  30
#define SURVEY_NAP_NS  100000000
#define SURVEY_MOST_NS 4000000000
#define REST_FALL      0.08
/* So many times the rounds that are wanted are made at most, where neighbours spoil them. */
#define MAX_AGAIN 2
/* Waiting for a disturbance to pass: at most so long in all, looking so often. */
#define MAX_WAIT_NS 10000000000
#define NAP_NS      2000000

struct session {
    const struct probe_item *items;
    size_t n_items;
    const struct probe_plan *plan;
    struct sample_place *place;
    struct rng *rng;
    struct sample *sample; /* [n_rounds_most][n_items] */
    uint32_t n_rounds;
    bool pressed;   /* rounds with a pressed reference count too */
    bool noisy;     /* disturbed samples count too */
    int64_t end_ns; /* 0: no limit */
    int64_t measured_ns, waited_ns;
    uint32_t n_rounds_most; /* room in `sample` */
    double known_steps;     /* reference_steps at rest, as the node has shown; 0: not known */
    double rest_steps;      /* the same, these rounds among them */
};

static bool out_of_time(const struct session *session)
{
    return session->end_ns != 0 && clock_now_ns() > session->end_ns;
}

static double wait_budget_ns(const struct session *session)
{
    return fmin(MAX_WAIT_NS, session->plan->patience * (double)session->measured_ns);
}

/* Until the team stands firm.  Its members sleep meanwhile, which is also when a host finds a
 * better place for them. */
static void wait_for_footing(struct session *session)
{
    double most = wait_budget_ns(session);
    int64_t start = clock_now_ns(), now = start;
    struct footing footing;

    while ((double)(session->waited_ns + now - start) < most && !out_of_time(session)) {
        footing_take(session->place->team, &footing);
        if (footing_judge(&footing, &session->place->best) == FOOTING_FIRM)
            break;
        clock_nap_ns(NAP_NS);
        now = clock_now_ns();
    }
    session->waited_ns += now - start;
}

/* Every item once, in shuffled order. */
static int run_round(struct session *session, struct sample *row, struct err *err)
{
    size_t order[PROBE_MAX_ITEMS];
    wait_for_footing(session);
    int64_t start = clock_now_ns();
    for (size_t i = 0; i < session->n_items; i++)
        order[i] = i;
    rng_shuffle(session->rng, order, session->n_items, sizeof order[0]);
    for (size_t i = 0; i < session->n_items; i++)
        if (sample_take(&session->items[order[i]], session->place, &row[order[i]], err) != 0)
            return -1;
    session->measured_ns += clock_now_ns() - start;
    return 0;
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
        spin[r] = session->sample[(size_t)r * session->n_items + item].footing[1].clock_ns;
    double median = stats_median(spin, session->n_rounds);
    for (uint32_t r = 0; r < session->n_rounds; r++) {
        struct sample *sample = &session->sample[(size_t)r * session->n_items + item];
        bool off = fabs(sample->footing[1].clock_ns - median) > MAX_CLOCK_DRIFT * median;
        if (sample->rejection == CLOCK && !off)
            sample->rejection = ACCEPTED;
        else if (sample->rejection == ACCEPTED && off)
            sample->rejection = CLOCK;
    }
}

/* Learn from all samples what the cores can be, and hold every one against it. */
static void reject_by_footing(struct session *session)
{
    size_t n = (size_t)session->n_rounds * session->n_items;
    struct footing *footing = calloc(2 * n + 1, sizeof *footing);
    if (footing == NULL)
        return;
    for (size_t i = 0; i < n; i++)
        memcpy(&footing[2 * i], session->sample[i].footing, sizeof session->sample[i].footing);
    footing_learn(&session->place->best, footing, 2 * n);
    free(footing);
    for (size_t i = 0; i < n; i++)
        for (int when = 0; when < 2; when++) {
            struct sample *sample = &session->sample[i];
            if (sample->rejection == ACCEPTED)
                sample->rejection = sample_judge(&sample->footing[when], &session->place->best);
        }
}

/* A time apart from the core's clock. */
static double steps_of(const struct sample *sample)
{
    return 2 * sample->calm_ns / fmax(sample->footing[0].clock_ns + sample->footing[1].clock_ns, 1);
}

static double reference_steps(const struct session *session, uint32_t round)
{
    return steps_of(&session->sample[(size_t)round * session->n_items]);
}

/* Median of the rounds that are accepted; 0 where they are few. */
static double median_reference_steps(const struct session *session)
{
    double steps[PROBE_MAX_ROUNDS];
    uint32_t n = 0;
    for (uint32_t r = 0; r < session->n_rounds; r++)
        if (session->sample[(size_t)r * session->n_items].rejection == ACCEPTED)
            steps[n++] = reference_steps(session, r);
    return n >= FOOTING_LEARN_MIN ? stats_median(steps, n) : 0;
}

/* What the reference takes at rest, then every round beside it. */
static void reject_by_pressure(struct session *session)
{
    if (session->place->reference[0] == '\0')
        return;
    for (uint32_t r = 0; r < session->n_rounds; r++) {
        struct sample *sample = &session->sample[(size_t)r * session->n_items];
        if (sample->rejection == PRESSED)
            sample->rejection = ACCEPTED;
    }
    double median = median_reference_steps(session);
    session->rest_steps = session->known_steps;
    double fallen = session->place->rest_steps > 0 ? 0 : session->rest_steps * (1 - REST_FALL);
    if (median > 0 && (session->rest_steps <= 0 || median < fallen))
        session->rest_steps = median;
    for (uint32_t r = 0; r < session->n_rounds && session->rest_steps > 0; r++) {
        struct sample *sample = &session->sample[(size_t)r * session->n_items];
        if (sample->rejection == ACCEPTED &&
            reference_steps(session, r) > session->rest_steps * MAX_PRESSURE)
            sample->rejection = PRESSED;
    }
}

/* What is known only beside other samples. */
static void reject_by_others(struct session *session)
{
    for (size_t item = 0; item < session->n_items; item++)
        reject_item_by_clock(session, item);
    reject_by_footing(session);
    reject_by_pressure(session);
}

/* On a node that has not shown yet what the reference takes at rest: without what stands beside it,
 * which presses it too.  A machine that is too busy for that is not waited for. */
static int survey(struct session *session, struct err *err)
{
    struct session alone = *session;
    double least = 0;
    alone.n_items = 1;
    alone.waited_ns = MAX_WAIT_NS;
    alone.end_ns = clock_now_ns() + SURVEY_MOST_NS;
    for (int burst = 0; burst < SURVEY_BURSTS && !out_of_time(&alone); burst++) {
        clock_nap_ns(SURVEY_NAP_NS);
        for (alone.n_rounds = 0; alone.n_rounds < SURVEY_ROUNDS && !out_of_time(&alone);
             alone.n_rounds++)
            if (run_round(&alone, &alone.sample[alone.n_rounds], err) != 0)
                return -1;
        reject_by_others(&alone);
        if (alone.rest_steps <= 0)
            break;
        if (least <= 0 || alone.rest_steps < least)
            least = alone.rest_steps;
    }
    session->known_steps = session->rest_steps = least;
    return 0;
}

/* Rounds that neighbours spoilt are made again. */
static uint32_t count_spoilt(const struct session *session)
{
    uint32_t n = 0;
    for (uint32_t r = 0; r < session->n_rounds; r++) {
        bool spoilt = false;
        for (size_t i = 0; i < session->n_items; i++)
            spoilt =
                spoilt || session->sample[(size_t)r * session->n_items + i].rejection >= SHARED;
        n += spoilt;
    }
    return n;
}

/* On a machine that was not quiet only a sample of another core is worthless. */
static bool counts(const struct session *session, const struct sample *sample)
{
    return sample->rejection == ACCEPTED || (session->pressed && sample->rejection == PRESSED) ||
           (session->noisy && sample->rejection != MIGRATED);
}

/* The ratio of a round, put right for what pressed the reference and not the item. */
static double ratio_of(const struct session *session, uint32_t round, size_t item)
{
    const struct sample *row = &session->sample[(size_t)round * session->n_items];
    double spared = item > 0 ? session->place->spared : 0;
    if (session->rest_steps <= 0)
        return row[item].calm_ns / row[0].calm_ns;
    return steps_of(&row[item]) / steps_of(&row[0]) *
           pow(steps_of(&row[0]) / session->rest_steps, spared);
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
        result->rejected[row[item].rejection]++;
        if (!counts(session, &row[item]) || !counts(session, &row[0]))
            continue;
        result->sample_ns[result->n_accepted] = row[item].ns;
        result->ratio[result->n_accepted] = ratio_of(session, r, item);
        result->n_accepted++;
    }
}

/* The reference's time at rest, where that is known. */
static double rest_ns(const struct session *session)
{
    double ns[PROBE_MAX_ROUNDS];
    uint32_t n = 0;
    for (uint32_t r = 0; r < session->n_rounds; r++) {
        const struct sample *sample = &session->sample[(size_t)r * session->n_items];
        if (counts(session, sample))
            ns[n++] = session->rest_steps > 0 ? sample->ns * session->rest_steps / steps_of(sample)
                                              : sample->ns;
    }
    return stats_median(ns, n);
}

/* What the rounds of one probe cannot show, as half the width of a 95 % interval. */
static double between_half(const struct session *session)
{
    return 1.96 * session->plan->between;
}

static void summarize(const struct session *session, size_t item, struct probe_result *result)
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
    if (item == 0) {
        result->rest_ns = rest_ns(session);
        result->rest_steps = session->rest_steps;
    }
    stats_median_interval(sorted, n, &result->median_lo_ns, &result->median_hi_ns);
    double lo, hi, between = item > 0 ? between_half(session) : 0;
    double mid = stats_hodges_lehmann(log_ratio, n, &lo, &hi);
    result->ratio_mid = exp(mid);
    result->ratio_lo = exp(mid - hypot(mid - lo, between));
    result->ratio_hi = exp(mid + hypot(hi - mid, between));
}

/* Whether every item but the reference is known well enough. */
static bool precise_enough(const struct session *session, struct probe_result *results)
{
    /* No number of rounds makes an interval narrower than probes differ. */
    double wanted =
        fmax(session->plan->ci, hypot(between_half(session), OWN_SHARE * session->plan->ci));
    for (size_t i = 0; i < session->n_items; i++) {
        collect(session, i, &results[i]);
        if (results[i].n_accepted < session->plan->rounds_min)
            return false;
        summarize(session, i, &results[i]);
        if (i > 0 &&
            (results[i].ratio_hi - results[i].ratio_lo) / 2 > wanted * results[i].ratio_mid)
            return false;
    }
    return true;
}

static int run_rounds(struct session *session, struct probe_result *results, struct err *err)
{
    for (uint32_t n_spoilt = 0; session->n_rounds < session->n_rounds_most &&
                                session->n_rounds - n_spoilt < session->plan->rounds_max;) {
        struct sample *row = &session->sample[(size_t)session->n_rounds * session->n_items];
        if (run_round(session, row, err) != 0)
            return -1;
        session->n_rounds++;
        if (session->n_rounds < session->plan->rounds_min)
            continue;
        reject_by_others(session);
        n_spoilt = count_spoilt(session);
        /* A look at every round would bias the interval; every fourth costs little. */
        bool look = (session->n_rounds - session->plan->rounds_min) % 4 == 0;
        if ((look && precise_enough(session, results)) || out_of_time(session))
            break;
    }
    reject_by_others(session);
    return 0;
}

/* 0, or -1 where an item has too few rounds. */
static int finish(const struct session *session, uint32_t n_warmup, struct probe_result *results,
                  struct err *err)
{
    for (size_t i = 0; i < session->n_items; i++) {
        struct probe_result *result = &results[i];
        const uint32_t *rejected = result->rejected;
        collect(session, i, result);
        summarize(session, i, result);
        result->n_warmup = n_warmup;
        if (result->n_accepted >= MIN_ACCEPTED &&
            (result->n_accepted >= session->plan->rounds_min ||
             result->n_accepted * MIN_ACCEPTED_SHARE >= session->n_rounds))
            continue;
        err_set(err, ERR_RESOURCE,
                "too noisy to measure: of %u rounds %u count (item %zu: %u migrated, %u stolen, "
                "%u switched out, %u off the clock, %u on shared and %u on distant cores, %u with "
                "pressed caches); quieten the machine",
                session->n_rounds, result->n_accepted, i, rejected[MIGRATED], rejected[STOLEN],
                rejected[SWITCHED], rejected[CLOCK], rejected[SHARED], rejected[APART],
                rejected[PRESSED]);
        return -1;
    }
    return 0;
}

/* What pressed the reference, or disturbed it, may have slowed an item not at all or alike: the
 * interval takes in both, beside the share that was put right. */
static void admit_pressure(const struct session *session, struct probe_result *results)
{
    double steps[PROBE_MAX_ROUNDS];
    uint32_t n = 0;
    for (uint32_t r = 0; r < session->n_rounds; r++)
        if (counts(session, &session->sample[(size_t)r * session->n_items]))
            steps[n++] = reference_steps(session, r);
    double share = stats_median(steps, n) / session->rest_steps;
    for (size_t i = 1; i < session->n_items && share > 1; i++) {
        results[i].ratio_lo /= pow(share, session->place->spared);
        results[i].ratio_hi *= pow(share, 1 - session->place->spared);
    }
}

/* Warm-up, rounds, summary; the samples are forgotten. */
static int attempt(struct session *session, struct probe_result *results, struct err *err)
{
    uint32_t n_warmup = 0;
    session->n_rounds = 0;
    session->pressed = session->noisy = false;
    if (warm_up(session, &n_warmup, err) != 0 || run_rounds(session, results, err) != 0)
        return -1;
    if (finish(session, n_warmup, results, NULL) == 0)
        return 0;
    session->pressed = true;
    if (session->rest_steps <= 0 || finish(session, n_warmup, results, NULL) != 0) {
        session->noisy = true;
        if (finish(session, n_warmup, results, err) != 0)
            return -1;
    }
    if (session->rest_steps > 0)
        admit_pressure(session, results);
    return 0;
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

/* A machine that changes its pace in mid-probe rejects no sample and still tells little.  An
 * interval that admits pressure is wide and right. */
static bool is_vague(const struct session *session, const struct probe_result *results)
{
    return session->noisy || (!session->pressed && excess(session, results) > VAGUE);
}

/* Who has waited in vain would do so again. */
static bool has_waited_in_vain(const struct session *session)
{
    return session->noisy && session->waited_ns > 0 &&
           (double)session->waited_ns >= 0.9 * wait_budget_ns(session);
}

/* A vague result is measured once more, and the better of the two kept. */
static int attempt_again(struct session *session, struct probe_result *results, struct err *err)
{
    struct probe_result *first = malloc(session->n_items * sizeof *first);
    bool noisy = session->noisy, pressed = session->pressed;
    double rest_steps = session->rest_steps;
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
        session->pressed = pressed;
        session->rest_steps = rest_steps;
    }
    free(first);
    return 0;
}

int probe_run(const struct probe_item *items, size_t n_items, const struct probe_plan *wanted,
              struct sample_place *place, struct rng *rng, struct probe_result *results,
              struct err *err)
{
    assert(n_items >= 1 && n_items <= PROBE_MAX_ITEMS);
    assert(wanted->rounds_min >= 1 && wanted->rounds_max <= PROBE_MAX_ROUNDS);
    struct probe_plan plan = *wanted;
    if (plan.rounds_max < MIN_ACCEPTED)
        plan.rounds_max = MIN_ACCEPTED;
    struct session session = {
        .items = items, .n_items = n_items, .plan = &plan, .place = place, .rng = rng};
    if (plan.max_seconds > 0)
        session.end_ns = clock_now_ns() + (int64_t)(plan.max_seconds * 1e9);
    session.n_rounds_most = plan.rounds_max * MAX_AGAIN;
    if (session.n_rounds_most > PROBE_MAX_ROUNDS)
        session.n_rounds_most = PROBE_MAX_ROUNDS;
    bool named = place->reference[0] != '\0';
    if (named)
        session.known_steps =
            place->rest_steps > 0 ? place->rest_steps : footing_recall_least(place->reference);
    size_t n_rows = session.n_rounds_most > SURVEY_ROUNDS ? session.n_rounds_most : SURVEY_ROUNDS;
    session.sample = calloc(n_rows * n_items, sizeof *session.sample);
    if (session.sample == NULL) {
        err_set(err, ERR_MEMORY, "probe: out of memory");
        return -1;
    }
    int status = named && session.known_steps <= 0 ? survey(&session, err) : 0;
    if (status == 0)
        status = attempt(&session, results, err);
    if (status == 0 && is_vague(&session, results) && !has_waited_in_vain(&session))
        status = attempt_again(&session, results, err);
    for (size_t i = 0; status == 0 && i < n_items; i++)
        results[i].noisy = is_vague(&session, results);
    if (status == 0 && named && place->rest_steps <= 0)
        footing_keep_least(place->reference, session.rest_steps, REST_FALL);
    free(session.sample);
    return status;
}
