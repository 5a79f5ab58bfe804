/* Times of many things measured in turn on a machine that changes its pace. */
#include "latency_model/pace.h"
#include "space/base/rng.h"
#include "tests/tap.h"

#define N_ITEMS  30
#define N_ROUNDS 15

static double truth(uint32_t item)
{
    return 1000.0 * (item + 3);
}

/* Every item once a round, shuffled; two samples of a hundred take much longer, and for a third of
 * the time the machine is slower by `slow`. */
static size_t measure(struct rng *rng, double noise, double slow, struct pace_sample *samples)
{
    size_t n = 0;

    for (int round = 0; round < N_ROUNDS; round++) {
        uint32_t order[N_ITEMS];
        for (uint32_t i = 0; i < N_ITEMS; i++)
            order[i] = i;
        rng_shuffle(rng, order, N_ITEMS, sizeof order[0]);
        for (uint32_t i = 0; i < N_ITEMS; i++, n++) {
            double ns = truth(order[i]) * exp(noise * rng_normal(rng));
            if (n / 50 % 3 == 1)
                ns *= slow;
            if (rng_below(rng, 50) == 0)
                ns *= 5;
            samples[n] = (struct pace_sample){order[i], ns};
        }
    }
    return n;
}

/* The largest error of a time, a common factor aside. */
static double worst(const struct pace_time *time)
{
    double most = 0, sum = 0;

    for (uint32_t i = 0; i < N_ITEMS; i++)
        sum += log(time[i].ns / truth(i)) / N_ITEMS;
    for (uint32_t i = 0; i < N_ITEMS; i++)
        most = fmax(most, fabs(log(time[i].ns / truth(i)) - sum));
    return most;
}

int main(void)
{
    static struct pace_sample samples[N_ITEMS * N_ROUNDS];
    struct pace_time time[N_ITEMS];
    struct rng rng = rng_make(1, 0);
    size_t n = measure(&rng, 0, 1, samples);

    ok(pace_settle(samples, n, N_ITEMS, time, NULL) == 0, "an even machine is settled");
    near(worst(time), 0, 1e-9, "without noise the times are exact, outliers or not");
    ok(time[3].n == N_ROUNDS && time[3].error < 1e-9, "from %u samples, known to %g", time[3].n,
       time[3].error);

    n = measure(&rng, 0, 1.4, samples);
    pace_settle(samples, n, N_ITEMS, time, NULL);
    ok(worst(time) < 0.01, "slow stretches are told from slow items: off by %.2f %%",
       100 * worst(time));
    near(time[7].ns / truth(7), 1, 0.01, "and times are those of the usual pace");

    n = measure(&rng, 0.03, 1.4, samples);
    pace_settle(samples, n, N_ITEMS, time, NULL);
    ok(worst(time) < 0.05, "with noise of 3 %% the worst of %d is off by %.1f %%", N_ITEMS,
       100 * worst(time));
    double error = 0;
    for (size_t i = 0; i < N_ITEMS; i++)
        error += time[i].error / N_ITEMS;
    ok(error > 0.004 && error < 0.02, "which it knows: standard error %.1f %%", 100 * error);

    samples[0] = (struct pace_sample){2, 70};
    ok(pace_settle(samples, 1, 4, time, NULL) == 0 && time[2].n == 1, "one sample is its time");
    near(time[2].ns, 70, 1e-9, "exactly");
    ok(time[0].n == 0 && isnan(time[0].ns), "what was not measured has none");
    ok(pace_settle(samples, 0, 2, time, NULL) == 0 && isnan(time[1].ns), "nor has anything else");
    return tap_done();
}
