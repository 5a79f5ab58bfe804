/* test_dominance.c - the order itself, and ranks and crowding against brute force. */
#include "space/base/dominance.h"
#include "space/base/rng.h"
#include "tests/tap.h"

#include <stdint.h>

static void test_beats(void)
{
    double a[] = {1, 2}, b[] = {1, 3}, c[] = {2, 1}, hole[] = {NAN, 2};

    ok(dominance_beats(a, b, 2) && !dominance_beats(b, a, 2), "better in one, equal in the other");
    ok(!dominance_beats(a, a, 2), "nobody beats itself");
    ok(!dominance_beats(a, c, 2) && !dominance_beats(c, a, 2), "a trade-off beats neither way");
    ok(dominance_beats(a, hole, 2) && !dominance_beats(hole, a, 2), "what was not measured loses");
    ok(!dominance_beats(a, b, 0), "without objectives there is no winner");
}

static void test_noisy(void)
{
    double a[] = {1, 1}, b[] = {1.5, 1.2}, se[] = {0.1, 0.1}, wide[] = {0.4, 0.4};

    ok(dominance_beats_noisy(a, se, b, se, 2, 2), "0.5 is more than 2 * 0.14, 0.2 is not: a wins");
    ok(!dominance_beats_noisy(a, wide, b, wide, 2, 2), "0.5 is within 2 * 0.57: nobody wins");
    ok(!dominance_beats_noisy(b, se, a, se, 2, 2), "b does not win");
    double c[] = {0.5, 1.5};
    ok(!dominance_beats_noisy(a, se, c, se, 2, 2), "clearly worse in one objective is no win");
    double d[] = {1.5, 0.9};
    ok(dominance_beats_noisy(a, se, d, se, 2, 2), "worse within the noise does not hinder");
    double unknown[] = {NAN, NAN};
    ok(!dominance_beats_noisy(a, unknown, b, se, 2, 2), "unknown noise decides nothing");

    struct rng rng = rng_make(1, 0);
    int n_differ = 0;
    for (int t = 0; t < 2000; t++) {
        double p[3], q[3];
        for (int m = 0; m < 3; m++) {
            p[m] = (double)rng_below(&rng, 3);
            q[m] = (double)rng_below(&rng, 3);
        }
        n_differ += dominance_beats(p, q, 3) != dominance_beats_noisy(p, NULL, q, NULL, 3, 2);
    }
    ok(n_differ == 0, "without noise it is the plain order");
}

/* Peel off, again and again, the points that no remaining point beats; written without
 * dominance_beats. */
static void ranks_brute(const double *points, int n, int n_obj, size_t *rank)
{
    int n_left = n;

    for (int i = 0; i < n; i++)
        rank[i] = SIZE_MAX;
    for (size_t front = 0; n_left > 0; front++) {
        bool taken[64] = {false};
        for (int i = 0; i < n; i++) {
            if (rank[i] != SIZE_MAX)
                continue;
            bool beaten = false;
            for (int j = 0; j < n && !beaten; j++) {
                int n_better = 0, n_worse = 0;
                for (int m = 0; m < n_obj; m++) {
                    n_better += points[j * n_obj + m] < points[i * n_obj + m];
                    n_worse += points[j * n_obj + m] > points[i * n_obj + m];
                }
                beaten = rank[j] == SIZE_MAX && n_better > 0 && n_worse == 0;
            }
            taken[i] = !beaten;
        }
        for (int i = 0; i < n; i++) {
            if (taken[i]) {
                rank[i] = front;
                n_left--;
            }
        }
    }
}

static void test_ranks(void)
{
    struct rng rng = rng_make(8, 8);
    double points[60 * 4];
    size_t got[60], want[60], deepest = 0;
    int n_wrong = 0;

    for (int t = 0; t < 300; t++) {
        int n = (int)rng_below(&rng, 61), n_obj = 1 + (int)rng_below(&rng, 4);
        uint64_t n_levels = 2 + rng_below(&rng, 30); /* few levels make ties and twins */
        for (int i = 0; i < n * n_obj; i++)
            points[i] = (double)rng_below(&rng, n_levels);
        ranks_brute(points, n, n_obj, want);
        if (dominance_ranks(points, (size_t)n, (size_t)n_obj, got) != 0)
            n_wrong += 1000;
        for (int i = 0; i < n; i++) {
            n_wrong += got[i] != want[i];
            deepest = want[i] > deepest ? want[i] : deepest;
        }
    }
    ok(n_wrong == 0, "300 random sets are ranked as by peeling");
    ok(deepest > 10, "with up to %zu fronts", deepest + 1);
    double line[] = {3, 1, 2, 1};
    ok(dominance_ranks(line, 4, 1, got) == 0 && got[0] == 2 && got[1] == 0 && got[2] == 1 &&
           got[3] == 0,
       "one objective ranks by value, twins alike");
    ok(dominance_ranks(line, 0, 1, got) == 0, "no points are fine");
}

/* Neighbours along each objective by looking at everybody; all values are distinct. */
static double crowding_brute(const double *points, const size_t *index, int n, int n_obj, int who)
{
    double sum = 0;

    for (int m = 0; m < n_obj; m++) {
        double own = points[index[who] * (size_t)n_obj + (size_t)m];
        double below = -INFINITY, above = INFINITY, least = INFINITY, most = -INFINITY;
        for (int i = 0; i < n; i++) {
            double x = points[index[i] * (size_t)n_obj + (size_t)m];
            least = fmin(least, x);
            most = fmax(most, x);
            if (x < own)
                below = fmax(below, x);
            if (x > own)
                above = fmin(above, x);
        }
        sum += (above - below) / (most - least);
    }
    return sum;
}

static void test_crowding(void)
{
    struct rng rng = rng_make(9, 9);
    double points[100 * 3], distance[50];
    size_t index[100];
    int n_wrong = 0, n_infinite = 0;

    for (int t = 0; t < 100; t++) {
        int n = 3 + (int)rng_below(&rng, 48), n_obj = 1 + (int)rng_below(&rng, 3);
        for (int i = 0; i < 100 * n_obj; i++)
            points[i] = rng_double(&rng);
        for (size_t i = 0; i < 100; i++)
            index[i] = i;
        rng_shuffle(&rng, index, 100, sizeof index[0]);
        dominance_crowding(points, index, (size_t)n, (size_t)n_obj, distance);
        for (int i = 0; i < n; i++) {
            double want = crowding_brute(points, index, n, n_obj, i);
            n_wrong += isinf(want) ? !isinf(distance[i]) : !(fabs(distance[i] - want) < 1e-12);
            n_infinite += isinf(distance[i]);
        }
    }
    ok(n_wrong == 0 && n_infinite >= 200, "crowding of 100 random fronts, the ends infinite");

    double same[] = {1, 5, 1, 4, 1, 1};
    size_t three[] = {0, 1, 2};
    dominance_crowding(same, three, 3, 2, distance);
    ok(isinf(distance[0]) && isinf(distance[2]), "the ends of the objective that varies");
    near(distance[1], 1, 1e-15, "an objective that is constant adds nothing");
    dominance_crowding(same, three, 2, 2, distance);
    ok(isinf(distance[0]) && isinf(distance[1]), "two points are both ends");
    double far[] = {0, 1, 1, 0, INFINITY, -1};
    dominance_crowding(far, three, 3, 2, distance);
    ok(!isnan(distance[0]) && !isnan(distance[1]) && !isnan(distance[2]),
       "an infinite objective does not make NaN");
}

int main(void)
{
    test_beats();
    test_noisy();
    test_ranks();
    test_crowding();
    return tap_done();
}
