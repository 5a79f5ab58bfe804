/* test_stats.c - closed forms, and everything else against a brute force that shares no code. */
#include "space/base/rng.h"
#include "space/base/stats.h"
#include "tests/tap.h"

#include <stdint.h>
#include <stdlib.h>

static void test_moments(void)
{
    double x[] = {2, 4, 4, 4, 5, 5, 7, 9};

    near(stats_mean(x, 8), 5, 1e-15, "the mean of eight numbers");
    near(stats_sd(x, 8), sqrt(32.0 / 7), 1e-15, "their deviation divides by n - 1");
    ok(stats_sd(x, 1) == 0 && stats_sd(x, 0) == 0, "one value has no deviation");
    ok(isnan(stats_mean(x, 0)), "nothing has no mean");
}

static void test_cluster_se(void)
{
    double mean[] = {1, 2, 3, 6}, size[] = {1, 1, 1, 1}, scaled[] = {8, 8, 8, 8};

    near(stats_cluster_se(mean, size, 4), stats_sd(mean, 4) / 2, 1e-15,
         "equal clusters give the deviation of their means over sqrt(n)");
    near(stats_cluster_se(mean, scaled, 4), stats_sd(mean, 4) / 2, 1e-15,
         "the unit of the sizes does not matter");
    ok(isnan(stats_cluster_se(mean, size, 1)), "one cluster tells no error");

    /* Unequal clusters: the claimed error against the spread over many made-up samples. */
    struct rng rng = rng_make(3, 3);
    const int n_trials = 4000, n = 40;
    double estimates[4000], claimed = 0;
    for (int t = 0; t < n_trials; t++) {
        double m[40], s[40], sum = 0, total = 0;
        for (int c = 0; c < n; c++) {
            s[c] = (double)(5 + rng_below(&rng, 11));
            m[c] = rng_normal(&rng); /* wholly dependent inside a cluster */
            sum += s[c] * m[c];
            total += s[c];
        }
        estimates[t] = sum / total;
        claimed += stats_cluster_se(m, s, (size_t)n) / n_trials;
    }
    double spread = stats_sd(estimates, (size_t)n_trials);
    near(claimed / spread, 1, 0.06, "the error of unequal clusters matches the spread of samples");
}

static void test_quantiles(void)
{
    double x[] = {1, 2, 4, 8}, y[] = {5, 1, 3}, bad[] = {3, NAN, 1};

    near(stats_quantile(x, 4, 0), 1, 0, "quantile 0 is the least");
    near(stats_quantile(x, 4, 1), 8, 0, "quantile 1 the greatest");
    near(stats_quantile(x, 4, 0.5), 3, 1e-15, "the middle of four lies between two");
    near(stats_quantile(x, 4, 0.25), 1.75, 1e-15, "a quarter, by type 7");
    near(stats_median(y, 3), 3, 0, "the median of an odd number");
    ok(y[0] == 5 && y[1] == 1, "the input is left as it was");
    double wide[] = {0, INFINITY, INFINITY};
    ok(stats_quantile(wide, 3, 0.75) == INFINITY, "between two infinities lies infinity");
    stats_sort(bad, 3);
    ok(bad[0] == 1 && bad[1] == 3 && isnan(bad[2]), "NaN sorts last");
    ok(isnan(stats_median(y, 0)), "nothing has no median");
}

/* P(lo <= median <= hi) of ranks k and n + 1 - k by counting all 2^n patterns of below and above.
 */
static double coverage_by_patterns(int n, int k)
{
    long n_inside = 0;

    for (long pattern = 0; pattern < 1L << n; pattern++) {
        int n_below = __builtin_popcountl((unsigned long)pattern);
        n_inside += n_below >= k && n - n_below >= k;
    }
    return (double)n_inside / (double)(1L << n);
}

static void test_median_interval(void)
{
    double x[1100], lo, hi;
    int n_wrong = 0;

    for (int i = 0; i < 1100; i++)
        x[i] = i + 1; /* a value is its own rank */
    stats_median_interval(x, 5, &lo, &hi);
    ok(lo == 1 && hi == 5, "five values have no 95 %% interval: the extremes");
    stats_median_interval(x, 6, &lo, &hi);
    ok(lo == 1 && hi == 6, "six: first to last, 1 - 2/64");
    stats_median_interval(x, 9, &lo, &hi);
    ok(lo == 2 && hi == 8, "nine: second to eighth, 1 - 20/512");
    stats_median_interval(x, 11, &lo, &hi);
    ok(lo == 2 && hi == 10, "eleven: second to tenth, 1 - 24/2048");
    for (int n = 6; n <= 18; n++) {
        stats_median_interval(x, (size_t)n, &lo, &hi);
        int k = (int)lo;
        n_wrong += hi != n + 1 - k || coverage_by_patterns(n, k) < 0.95 ||
                   coverage_by_patterns(n, k + 1) >= 0.95;
    }
    ok(n_wrong == 0, "6 to 18: the narrowest interval that covers 95 %%, by counting patterns");
    /* Binomial tables: n = 25 takes rank 8, n = 100 rank 40. */
    stats_median_interval(x, 25, &lo, &hi);
    ok(lo == 8 && hi == 18, "25: eighth to eighteenth");
    stats_median_interval(x, 100, &lo, &hi);
    ok(lo == 40 && hi == 61, "100: 40th to 61st");
    /* Beyond the smallest double 2^-1074; the normal approximation says 517.0. */
    stats_median_interval(x, 1100, &lo, &hi);
    ok(fabs(lo - 517) <= 1 && hi == 1101 - lo, "1100 values do not underflow (rank %g)", lo);
    stats_median_interval(x, 0, &lo, &hi);
    ok(isnan(lo) && isnan(hi), "nothing has no interval");
}

/* All pairwise means, sorted; the caller frees. */
static double *walsh_means(const double *x, int n, int *n_means)
{
    double *means = malloc((size_t)n * (size_t)(n + 1) / 2 * sizeof *means);

    *n_means = 0;
    for (int i = 0; i < n; i++)
        for (int j = i; j < n; j++)
            means[(*n_means)++] = 0.5 * x[i] + 0.5 * x[j];
    stats_sort(means, (size_t)*n_means);
    return means;
}

/* The rank k of the 95 % interval from all 2^n sign patterns of the ranks 1..n. */
static int signed_rank_by_patterns(int n)
{
    static long count[19 * 20 / 2 + 1];
    long tail = 0;
    int most = n * (n + 1) / 2, k = 0;

    memset(count, 0, sizeof count);
    for (long pattern = 0; pattern < 1L << n; pattern++) {
        int sum = 0;
        for (int r = 1; r <= n; r++)
            sum += (pattern >> (r - 1) & 1) * r;
        count[sum]++;
    }
    for (; k <= most; k++) {
        tail += count[k];
        if (2.0 * (double)tail / (double)(1L << n) > 0.05)
            break;
    }
    return k;
}

static void test_hodges_lehmann(void)
{
    struct rng rng = rng_make(17, 0);
    double x[200], lo, hi;
    int n_wrong = 0;

    for (int n = 1; n <= 18; n++) {
        for (int t = 0; t < 5; t++) {
            /* Coarse values, so that pairwise means tie. */
            for (int i = 0; i < n; i++)
                x[i] = t % 2 ? rng_normal(&rng) : (double)rng_below(&rng, 6) - 3;
            int n_means, k = signed_rank_by_patterns(n);
            double *means = walsh_means(x, n, &n_means);
            double middle = stats_quantile(means, (size_t)n_means, 0.5);
            double got = stats_hodges_lehmann(x, (size_t)n, &lo, &hi);
            k = k > 0 ? k : 1;
            n_wrong += fabs(got - middle) > 1e-15 * (1 + fabs(middle)) || lo != means[k - 1] ||
                       hi != means[n_means - k];
            free(means);
        }
    }
    ok(n_wrong == 0, "1 to 18 values: estimate and interval as counted over all sign patterns");
    ok(signed_rank_by_patterns(6) == 1 && signed_rank_by_patterns(10) == 9 &&
           signed_rank_by_patterns(15) == 26,
       "(the counting agrees with the printed tables: 0, 8 and 25 are critical)");

    double five[] = {3, 1, 2, 5, 4};
    near(stats_hodges_lehmann(five, 5, &lo, &hi), 3, 1e-15, "the estimate of 1 to 5");
    ok(lo == 1 && hi == 5, "fewer than six give the extremes");

    /* The printed critical value of 60 pairs at 5 % is 648 (exact), so the rank is 649. */
    for (int i = 0; i < 200; i++)
        x[i] = rng_normal(&rng);
    int n_means;
    double *means = walsh_means(x, 60, &n_means);
    stats_hodges_lehmann(x, 60, &lo, &hi);
    ok(means[648] == lo && means[n_means - 649] == hi, "60 values, by the table");
    free(means);
    /* Beyond, the normal approximation: it may not jump where it takes over. */
    double exact_width = hi - lo, next_lo, next_hi;
    stats_hodges_lehmann(x, 61, &next_lo, &next_hi);
    near((next_hi - next_lo) / exact_width, 1, 0.1, "61 values give an interval alike");
    means = walsh_means(x, 200, &n_means);
    double got = stats_hodges_lehmann(x, 200, &lo, &hi);
    near(got, stats_quantile(means, (size_t)n_means, 0.5), 1e-15, "200 values, the same median");
    free(means);

    x[3] = NAN;
    ok(isnan(stats_hodges_lehmann(x, 10, &lo, &hi)) && isnan(lo) && isnan(hi),
       "a NaN spoils the answer openly");
    ok(isnan(stats_hodges_lehmann(x, 0, NULL, NULL)), "nothing has no estimate");
}

/* How often the interval of the centre holds it: normal samples, 2000 of 11 values.  The exact
 * coverage of this interval is 0.9580; three standard errors are 0.0135. */
static void test_interval_coverage(void)
{
    struct rng rng = rng_make(23, 1);
    int n_inside = 0;

    for (int t = 0; t < 2000; t++) {
        double x[11], lo, hi;
        for (int i = 0; i < 11; i++)
            x[i] = 7 + rng_normal(&rng);
        stats_hodges_lehmann(x, 11, &lo, &hi);
        n_inside += lo <= 7 && 7 <= hi;
    }
    near(n_inside / 2000.0, 0.958, 0.0135, "the interval of 11 values covers as it says");
}

static double kendall_brute(const double *x, const double *y, int n)
{
    double concordant = 0, discordant = 0, only_x = 0, only_y = 0;

    for (int i = 0; i < n; i++) {
        for (int j = 0; j < i; j++) {
            double product = (x[i] - x[j]) * (y[i] - y[j]);
            if (product > 0)
                concordant++;
            else if (product < 0)
                discordant++;
            else if (x[i] != x[j])
                only_x++; /* a pair that x tells apart and y does not */
            else if (y[i] != y[j])
                only_y++;
        }
    }
    return (concordant - discordant) /
           sqrt((concordant + discordant + only_x) * (concordant + discordant + only_y));
}

/* Mean rank of x[i]: those below, half of those alike. */
static double rank_brute(const double *x, int n, int i)
{
    double rank = 0.5;

    for (int j = 0; j < n; j++)
        rank += x[j] < x[i] ? 1 : x[j] == x[i] ? 0.5 : 0;
    return rank;
}

static double spearman_brute(const double *x, const double *y, int n)
{
    double sx = 0, sy = 0, sxx = 0, syy = 0, sxy = 0;

    for (int i = 0; i < n; i++) {
        double a = rank_brute(x, n, i), b = rank_brute(y, n, i);
        sx += a;
        sy += b;
        sxx += a * a;
        syy += b * b;
        sxy += a * b;
    }
    return (n * sxy - sx * sy) / sqrt((n * sxx - sx * sx) * (n * syy - sy * sy));
}

static void test_correlations(void)
{
    struct rng rng = rng_make(29, 0);
    double x[60], y[60], worst_kendall = 0, worst_spearman = 0;
    int n_compared = 0;

    for (int t = 0; t < 400; t++) {
        int n = 2 + (int)rng_below(&rng, 58), n_levels = 2 + (int)rng_below(&rng, 40);
        for (int i = 0; i < n; i++) {
            x[i] = (double)rng_below(&rng, (uint64_t)n_levels) - 5;
            y[i] = t % 3 ? (double)rng_below(&rng, (uint64_t)n_levels) : x[i] + rng_normal(&rng);
        }
        double tau = kendall_brute(x, y, n), rho = spearman_brute(x, y, n);
        if (isnan(tau)) { /* one input happens to be constant */
            n_compared += isnan(stats_kendall(x, y, (size_t)n)) ? 1 : -1000;
            continue;
        }
        worst_kendall = fmax(worst_kendall, fabs(stats_kendall(x, y, (size_t)n) - tau));
        worst_spearman = fmax(worst_spearman, fabs(stats_spearman(x, y, (size_t)n) - rho));
        n_compared++;
    }
    ok(n_compared == 400, "400 samples with ties were compared");
    near(worst_kendall, 0, 1e-13, "Kendall's tau-b is that of all pairs");
    near(worst_spearman, 0, 1e-12, "Spearman's rho is that of the mean ranks");

    double up[] = {1, 2, 3, 4}, down[] = {9, 7, 5, -1}, flat[] = {2, 2, 2, 2},
           hole[] = {1, NAN, 2, 3};
    ok(stats_kendall(up, up, 4) == 1 && stats_spearman(up, up, 4) == 1, "like orders give 1");
    ok(stats_kendall(up, down, 4) == -1 && stats_spearman(up, down, 4) == -1, "opposite ones -1");
    ok(isnan(stats_kendall(up, flat, 4)) && isnan(stats_spearman(flat, up, 4)),
       "a constant has no correlation");
    ok(isnan(stats_kendall(up, hole, 4)) && isnan(stats_spearman(up, hole, 4)), "nor has a NaN");
    ok(isnan(stats_kendall(up, down, 1)) && isnan(stats_spearman(up, down, 0)), "nor one point");
}

/* --- signed rank test --- */

/* Every choice of signs, counted. */
static double signed_rank_by_hand(const double *x, size_t n)
{
    double rank[12], w = 0;
    size_t n_as_large = 0;
    for (size_t i = 0; i < n; i++) {
        size_t below = 0, equal = 0;
        for (size_t j = 0; j < n; j++) {
            below += fabs(x[j]) < fabs(x[i]);
            equal += fabs(x[j]) == fabs(x[i]);
        }
        rank[i] = (double)below + 0.5 * (double)(equal + 1);
        w += x[i] > 0 ? rank[i] : 0;
    }
    for (size_t signs = 0; signs < (size_t)1 << n; signs++) {
        double sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += (signs >> i & 1) != 0 ? rank[i] : 0;
        n_as_large += sum >= w - 1e-9;
    }
    return (double)n_as_large / (double)((size_t)1 << n);
}

static void test_signed_rank(void)
{
    struct rng rng = rng_make(8, 0);
    double worst = 0, x[12], ten[10], some[] = {0, 0.5, 0, -0.25};
    for (int trial = 0; trial < 60; trial++) {
        size_t n = 1 + (size_t)rng_below(&rng, 12);
        for (size_t i = 0; i < n; i++) /* every third trial full of ties */
            x[i] = trial % 3 == 0 ? (double)rng_below(&rng, 3) + 1 : rng_normal(&rng) + 0.3;
        for (size_t i = 0; trial % 3 == 0 && i < n; i++)
            x[i] *= rng_below(&rng, 2) == 0 ? 1 : -1;
        worst = fmax(worst, fabs(stats_signed_rank_p(x, n) - signed_rank_by_hand(x, n)));
    }
    ok(worst < 1e-12, "the signed rank test counts as all choices of signs do (%.1g)", worst);
    for (int i = 0; i < 10; i++)
        ten[i] = 0.01 * (i + 1);
    near(stats_signed_rank_p(ten, 10), 1.0 / 1024, 1e-15, "ten of one sign: 1/1024");
    near(stats_signed_rank_p(some, 4), 0.5, 1e-15, "zeros are left out");
    near(stats_signed_rank_p(some, 1), 1, 0, "nothing but zeros says nothing");
    double many[61], p60;
    for (int i = 0; i < 61; i++)
        many[i] = rng_normal(&rng) + 0.3;
    p60 = stats_signed_rank_p(many, 60);
    near(stats_signed_rank_p(many, 61) / p60, 1, 0.5, "beyond 60 it goes on smoothly");
    x[0] = NAN;
    ok(isnan(stats_signed_rank_p(x, 3)), "a NaN is passed on");
}

static void test_discoveries(void)
{
    double p[] = {0.04, 0.001, 0.6, 0.013, 0.02};
    near(stats_discovery_limit(p, 5, 0.05), 0.04, 0, "four of five, for 0.04 <= 0.05 * 4 / 5");
    p[0] = 0.2;
    near(stats_discovery_limit(p, 5, 0.05), 0.02, 0, "three of five");
    p[1] = p[3] = p[4] = 0.5;
    near(stats_discovery_limit(p, 5, 0.05), 0, 0, "none");
    near(stats_discovery_limit(p, 0, 0.05), 0, 0, "none of none");
}

int main(void)
{
    test_moments();
    test_cluster_se();
    test_quantiles();
    test_median_interval();
    test_hodges_lehmann();
    test_interval_coverage();
    test_correlations();
    test_signed_rank();
    test_discoveries();
    return tap_done();
}
