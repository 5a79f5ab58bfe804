/* The judgement of a sweep on simulated machines: how often it cries without a cause, and how often
 * it finds one.  The whole procedure of sweep.h: looks, fresh rounds, discoveries among points. */
#include "results/sweep.h"
#include "space/base/rng.h"
#include "tests/tap.h"

/* A round's log ratio on a machine that drifts and has bursts, with what ABBA leaves of both. */
struct machine {
    struct rng rng;
    double drift, noise,
        burst; /* sd of a step, sd of a sample, share of samples that last longer */
    double level;
};

static double sample(struct machine *m)
{
    m->level += m->drift * rng_normal(&m->rng);
    double slow = rng_double(&m->rng) < m->burst ? 0.3 * rng_double(&m->rng) : 0;
    return m->level + m->noise * rng_normal(&m->rng) + slow;
}

static double log_ratio(struct machine *m, double slower)
{
    double a = sample(m), b = sample(m) + slower, c = sample(m) + slower, d = sample(m);
    return (b + c - a - d) / 2;
}

static void measure(struct machine *m, double slower, struct sweep_point *point)
{
    double ratio[SWEEP_ROUNDS_AGAIN];
    enum sweep_step step = SWEEP_MORE;
    uint32_t n = 0;
    *point = (struct sweep_point){0};
    while (step == SWEEP_MORE && n < SWEEP_ROUNDS) {
        ratio[n++] = log_ratio(m, slower);
        if (!sweep_is_look(n))
            continue;
        sweep_judge(ratio, n, &point->first);
        step = sweep_look(&point->first, SWEEP_MIN_EFFECT);
    }
    if (step != SWEEP_SUSPECT)
        return;
    for (n = 0; n < SWEEP_ROUNDS_AGAIN; n++)
        ratio[n] = log_ratio(m, slower);
    sweep_judge(ratio, n, &point->again);
}

/* Share of points that are called slower in sweeps of 16 points, of which one is slower. */
static void simulate(const char *name, struct machine m, double slower, double *of_even,
                     double *of_slow)
{
    enum { N_POINTS = 16, N_SWEEPS = 150 };
    size_t n_even = 0, n_slow = 0;
    for (int sweep = 0; sweep < N_SWEEPS; sweep++) {
        struct sweep_point points[N_POINTS];
        for (int i = 0; i < N_POINTS; i++)
            measure(&m, i == 3 ? slower : 0, &points[i]);
        sweep_conclude(points, N_POINTS, SWEEP_MIN_EFFECT);
        for (int i = 0; i < N_POINTS; i++) {
            n_slow += i == 3 && points[i].slower;
            n_even += i != 3 && points[i].slower;
        }
    }
    *of_even = (double)n_even / (N_SWEEPS * (N_POINTS - 1));
    *of_slow = (double)n_slow / N_SWEEPS;
    printf("# %s: %.2f %% of even points called slower, %.1f %% of those slower by %.0f %%\n", name,
           100 * *of_even, 100 * *of_slow, 100 * slower);
}

static void test_machines(void)
{
    struct machine quiet = {rng_make(1, 0), 0.0005, 0.004, 0, 0};
    struct machine drifting = {rng_make(2, 0), 0.01, 0.02, 0.02, 0};
    struct machine noisy = {rng_make(3, 0), 0.01, 0.05, 0.1, 0};
    double even, slow;
    simulate("quiet machine", quiet, 0.03, &even, &slow);
    ok(even <= 0.001 && slow >= 0.99, "a quiet machine: no false alarm, 3 %% are found");
    simulate("drifting machine", drifting, 0.05, &even, &slow);
    ok(even <= 0.001 && slow >= 0.97, "a drifting one: 5 %% are found");
    simulate("noisy machine", noisy, 0.05, &even, &slow);
    ok(even <= 0.001 && slow >= 0.6, "a noisy one: no false alarm, 5 %% mostly found");
}

static void test_looks(void)
{
    double up[10], down[10];
    struct sweep_judgement judgement;
    for (int i = 0; i < 10; i++) {
        up[i] = 0.02 + 0.001 * i;
        down[i] = -up[i];
    }
    sweep_judge(up, 10, &judgement);
    near(judgement.p, 1.0 / 1024, 1e-12, "ten rounds that agree: p = 1/1024");
    ok(sweep_look(&judgement, 0.01) == SWEEP_SUSPECT, "suspect at the first look");
    ok(sweep_look(&judgement, 0.05) == SWEEP_MORE, "not when only 5 %% matter");
    sweep_judge(up, 9, &judgement);
    ok(sweep_look(&judgement, 0.01) == SWEEP_MORE, "nine rounds are no look");
    sweep_judge(down, 10, &judgement);
    ok(sweep_look(&judgement, 0.01) == SWEEP_EVEN && judgement.effect < 0, "faster is let go");
}

static void test_exact(void)
{
    struct sweep_exact exact = {.kld = SWEEP_NOT_COMPARED};
    ok(sweep_exact_holds(&exact), "what is equal or was not compared holds");
    exact.weights = SWEEP_DIFFERS;
    ok(!sweep_exact_holds(&exact), "other weights do not");
}

int main(void)
{
    test_looks();
    test_exact();
    test_machines();
    return tap_done();
}
