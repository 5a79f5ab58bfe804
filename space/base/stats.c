/* stats.c - means, order statistics, distribution-free intervals and rank correlations. */
#include "space/base/stats.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Both tails together of every interval here. */
#define STATS_ALPHA 0.05
/* Two-sided 95 % point of the normal distribution. */
#define STATS_Z 1.959963984540054
/* Up to here the signed rank distribution is counted out. */
#define STATS_EXACT_MAX 60

double stats_mean(const double *x, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += x[i];
    return n > 0 ? sum / (double)n : NAN;
}

double stats_sd(const double *x, size_t n)
{
    double mean = stats_mean(x, n), squares = 0;

    if (n < 2)
        return 0;
    for (size_t i = 0; i < n; i++)
        squares += (x[i] - mean) * (x[i] - mean);
    return sqrt(squares / (double)(n - 1));
}

double stats_cluster_se(const double *cluster_mean, const double *size, size_t n_clusters)
{
    double total = 0, sum = 0, squares = 0;

    if (n_clusters < 2)
        return NAN;
    for (size_t c = 0; c < n_clusters; c++) {
        total += size[c];
        sum += size[c] * cluster_mean[c];
    }
    /* The mean is a ratio of two cluster totals; linearised, its error is the sum of the clusters'
     * residual totals over the total size (Cochran, Sampling Techniques, section 9A). */
    for (size_t c = 0; c < n_clusters; c++) {
        double residual = size[c] * (cluster_mean[c] - sum / total);
        squares += residual * residual;
    }
    return sqrt(squares * (double)n_clusters / (double)(n_clusters - 1)) / total;
}

/* NaN sorts last, so that the order is total. */
static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    if (isnan(x) || isnan(y))
        return isnan(x) - isnan(y);
    return (x > y) - (x < y);
}

void stats_sort(double *x, size_t n)
{
    if (n > 1)
        qsort(x, n, sizeof *x, compare_doubles);
}

/* A sorted copy, yours to free; NULL without memory. */
static double *sorted_copy(const double *x, size_t n)
{
    double *copy = malloc((n > 0 ? n : 1) * sizeof *copy);

    if (copy == NULL)
        return NULL;
    if (n > 0)
        memcpy(copy, x, n * sizeof *copy);
    stats_sort(copy, n);
    return copy;
}

double stats_quantile(const double *sorted, size_t n, double q)
{
    if (n == 0)
        return NAN;
    double place = q * (double)(n - 1);
    if (!(place > 0))
        return sorted[0];
    if (place >= (double)(n - 1))
        return sorted[n - 1];
    size_t below = (size_t)place;
    double part = place - (double)below;
    /* Equal neighbours are returned as they are: infinite ones have no difference. */
    if (part == 0 || sorted[below] == sorted[below + 1])
        return sorted[below];
    return sorted[below] + part * (sorted[below + 1] - sorted[below]);
}

double stats_median(const double *x, size_t n)
{
    double *sorted = sorted_copy(x, n);
    double median = sorted != NULL ? stats_quantile(sorted, n, 0.5) : NAN;

    free(sorted);
    return median;
}

/* The largest k >= 1 with 2 P(B <= k - 1) <= alpha for B ~ binomial(n, 1/2); 0 when there is none.
 * The k-th smallest and the k-th largest value then enclose the median. */
static size_t sign_test_rank(size_t n)
{
    double log_p = -(double)n * log(2.0); /* of B = 0 */
    double tail = 0;
    size_t k = 0;

    /* In logarithms, since 2^-n is no double beyond n = 1074. */
    for (; k < n; k++) {
        tail += exp(log_p);
        if (2 * tail > STATS_ALPHA)
            break;
        log_p += log((double)(n - k) / (double)(k + 1));
    }
    return k;
}

void stats_median_interval(const double *sorted, size_t n, double *lo, double *hi)
{
    if (n == 0) {
        *lo = *hi = NAN;
        return;
    }
    size_t k = sign_test_rank(n);
    if (k == 0)
        k = 1;
    *lo = sorted[k - 1];
    *hi = sorted[n - k];
}

/* As sign_test_rank for the signed rank statistic W of n values, 0..n(n+1)/2.
 * p[w] = P(W = w) grows rank by rank: rank r joins the sum or not, each with 1/2. */
static size_t signed_rank_exact(size_t n)
{
    double p[STATS_EXACT_MAX * (STATS_EXACT_MAX + 1) / 2 + 1] = {1};
    size_t most = 0, k = 0;
    double tail = 0;

    for (size_t r = 1; r <= n; r++) {
        most += r;
        for (size_t w = most + 1; w-- > 0;)
            p[w] = 0.5 * p[w] + (w >= r ? 0.5 * p[w - r] : 0);
    }
    for (; k <= most; k++) {
        tail += p[k];
        if (2 * tail > STATS_ALPHA)
            break;
    }
    return k;
}

static size_t signed_rank_k(size_t n)
{
    if (n <= STATS_EXACT_MAX)
        return signed_rank_exact(n);
    /* Mean n(n+1)/4, variance n(n+1)(2n+1)/24, half a step of continuity. */
    double pairs = (double)n * (double)(n + 1);
    double k = floor(pairs / 4 - 0.5 - STATS_Z * sqrt(pairs * (double)(2 * n + 1) / 24)) + 1;
    return (size_t)k;
}

/* Doubles in an order-preserving 64-bit integer, and back: the sign bit is turned for positive
 * numbers, every bit for negative ones. */
static uint64_t ordered_of(double x)
{
    uint64_t bits;

    x += 0.0; /* -0 becomes 0 */
    memcpy(&bits, &x, sizeof bits);
    return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
}

static double ordered_back(uint64_t ordered)
{
    uint64_t bits = ordered >> 63 ? ordered & ~(UINT64_C(1) << 63) : ~ordered;
    double x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

static double walsh(const double *sorted, size_t i, size_t j)
{
    return 0.5 * sorted[i] + 0.5 * sorted[j];
}

/* How many of the pairwise means (i <= j) are at most t.  As i falls, the last j that fits only
 * rises, so two fingers run over the sorted values once. */
static uint64_t walsh_count(const double *sorted, size_t n, double t)
{
    uint64_t count = 0;
    size_t end = 0; /* j < end fits */

    for (size_t i = n; i-- > 0;) {
        while (end < n && walsh(sorted, i, end) <= t)
            end++;
        if (end > i)
            count += end - i;
    }
    return count;
}

/* The k-th smallest pairwise mean, k from 1: bisection over all doubles between the extremes, at
 * most 64 counts, exact, and without the n^2 / 2 means in memory. */
static double walsh_kth(const double *sorted, size_t n, uint64_t k)
{
    uint64_t low = ordered_of(sorted[0]), high = ordered_of(sorted[n - 1]);

    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (walsh_count(sorted, n, ordered_back(middle)) >= k)
            high = middle;
        else
            low = middle + 1;
    }
    return ordered_back(low);
}

double stats_hodges_lehmann(const double *x, size_t n, double *lo, double *hi)
{
    double estimate = NAN, low = NAN, high = NAN;
    double *sorted = n > 0 ? sorted_copy(x, n) : NULL;

    /* One NaN (they sort last) makes every answer NaN. */
    if (sorted != NULL && !isnan(sorted[n - 1])) {
        uint64_t n_means = (uint64_t)n * (n + 1) / 2;
        double a = walsh_kth(sorted, n, (n_means + 1) / 2);
        double b = walsh_kth(sorted, n, n_means / 2 + 1);
        estimate = a == b ? a : 0.5 * a + 0.5 * b;

        size_t k = signed_rank_k(n);
        if (k == 0) /* n < 6: no such interval, the extremes */
            k = 1;
        low = walsh_kth(sorted, n, k);
        high = walsh_kth(sorted, n, n_means + 1 - k);
    }
    free(sorted);
    if (lo != NULL)
        *lo = low;
    if (hi != NULL)
        *hi = high;
    return estimate;
}

/* One pair of the two inputs, and where it stood. */
struct stats_pair {
    double x, y;
    size_t place;
};

static int compare_pairs(const void *a, const void *b)
{
    const struct stats_pair *p = a, *q = b;

    if (p->x != q->x)
        return p->x > q->x ? 1 : -1;
    return (p->y > q->y) - (p->y < q->y);
}

/* rank[i] from 1, ties share their mean rank.  `pairs` is room for n. */
static void average_ranks(const double *x, size_t n, struct stats_pair *pairs, double *rank)
{
    for (size_t i = 0; i < n; i++)
        pairs[i] = (struct stats_pair){.x = x[i], .y = (double)i, .place = i};
    qsort(pairs, n, sizeof *pairs, compare_pairs);
    for (size_t begin = 0, end; begin < n; begin = end) {
        for (end = begin + 1; end < n && pairs[end].x == pairs[begin].x;)
            end++;
        for (size_t i = begin; i < end; i++)
            rank[pairs[i].place] = 0.5 * (double)(begin + 1 + end);
    }
}

static int has_nan(const double *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (isnan(x[i]))
            return 1;
    return 0;
}

/* P(W >= w) where each rank joins the sum or not, each with 1/2.  Ranks are doubled, so that mean
 * ranks are whole. */
static double signed_rank_tail(const double *rank, size_t n, double w)
{
    double p[STATS_EXACT_MAX * (STATS_EXACT_MAX + 1) + 1] = {1}, tail = 0;
    size_t most = 0, from = (size_t)lround(2 * w);

    for (size_t i = 0; i < n; i++) {
        size_t r = (size_t)lround(2 * rank[i]);
        most += r;
        for (size_t s = most + 1; s-- > 0;)
            p[s] = 0.5 * p[s] + (s >= r ? 0.5 * p[s - r] : 0);
    }
    for (size_t s = from; s <= most; s++)
        tail += p[s];
    return fmin(1, tail);
}

/* Normal, with the variance of the ranks that there are and half a step of continuity. */
static double signed_rank_tail_normal(const double *rank, size_t n, double w)
{
    double mean = 0, variance = 0;

    for (size_t i = 0; i < n; i++) {
        mean += rank[i] / 2;
        variance += rank[i] * rank[i] / 4;
    }
    return 0.5 * erfc((w - 0.5 - mean) / sqrt(2 * variance));
}

double stats_signed_rank_p(const double *x, size_t n)
{
    struct stats_pair *pairs = malloc((n + 1) * sizeof *pairs);
    double *size = calloc(2 * n + 1, sizeof *size), *rank = size + n;
    double w = 0, p = NAN;
    size_t m = 0;

    if (pairs != NULL && size != NULL && !has_nan(x, n)) {
        for (size_t i = 0; i < n; i++)
            if (x[i] != 0)
                size[m++] = fabs(x[i]);
        average_ranks(size, m, pairs, rank);
        for (size_t i = 0, k = 0; i < n; i++) {
            if (x[i] != 0)
                w += x[i] > 0 ? rank[k] : 0;
            k += x[i] != 0;
        }
        p = m == 0                 ? 1
            : m <= STATS_EXACT_MAX ? signed_rank_tail(rank, m, w)
                                   : signed_rank_tail_normal(rank, m, w);
    }
    free(size);
    free(pairs);
    return p;
}

double stats_discovery_limit(const double *p, size_t n, double q)
{
    double *sorted = n > 0 ? sorted_copy(p, n) : NULL, limit = 0;

    for (size_t i = 0; sorted != NULL && i < n; i++)
        if (sorted[i] <= q * (double)(i + 1) / (double)n)
            limit = sorted[i];
    free(sorted);
    return limit;
}

/* Product-moment correlation of ranks, whose mean is (n + 1) / 2. */
static double rank_correlation(const double *rx, const double *ry, size_t n)
{
    double mean = 0.5 * (double)(n + 1), xx = 0, yy = 0, xy = 0;

    for (size_t i = 0; i < n; i++) {
        xx += (rx[i] - mean) * (rx[i] - mean);
        yy += (ry[i] - mean) * (ry[i] - mean);
        xy += (rx[i] - mean) * (ry[i] - mean);
    }
    return xx > 0 && yy > 0 ? fmax(-1, fmin(1, xy / sqrt(xx * yy))) : NAN;
}

double stats_spearman(const double *x, const double *y, size_t n)
{
    double result = NAN;

    if (n < 2 || has_nan(x, n) || has_nan(y, n))
        return NAN;
    struct stats_pair *pairs = malloc(n * sizeof *pairs);
    double *ranks = malloc(2 * n * sizeof *ranks);
    if (pairs != NULL && ranks != NULL) {
        average_ranks(x, n, pairs, ranks);
        average_ranks(y, n, pairs, ranks + n);
        result = rank_correlation(ranks, ranks + n, n);
    }
    free(ranks);
    free(pairs);
    return result;
}

/* Sort `pairs` by y, counting the pairs of places that change sides (merge sort, stable). */
static uint64_t count_exchanges(struct stats_pair *pairs, struct stats_pair *room, size_t n)
{
    if (n < 2)
        return 0;
    size_t half = n / 2;
    uint64_t count =
        count_exchanges(pairs, room, half) + count_exchanges(pairs + half, room, n - half);
    for (size_t i = 0, j = half, k = 0; k < n; k++) {
        if (j == n || (i < half && pairs[i].y <= pairs[j].y)) {
            room[k] = pairs[i++];
        } else {
            count += half - i;
            room[k] = pairs[j++];
        }
    }
    memcpy(pairs, room, n * sizeof *pairs);
    return count;
}

/* Sum of t(t - 1)/2 over runs of t equal neighbours: in x, in y, or in both. */
static uint64_t count_ties(const struct stats_pair *pairs, size_t n, int by_x, int by_y)
{
    uint64_t count = 0, run = 0;

    for (size_t i = 1; i < n; i++) {
        int same =
            (!by_x || pairs[i].x == pairs[i - 1].x) && (!by_y || pairs[i].y == pairs[i - 1].y);
        run = same ? run + 1 : 0;
        count += run;
    }
    return count;
}

/* Knight (1966): with the pairs sorted by x then y, the discordant ones are the exchanges that a
 * sort by y makes; ties are counted in runs. */
static double kendall_of(struct stats_pair *pairs, struct stats_pair *room, size_t n)
{
    uint64_t all = (uint64_t)n * (n - 1) / 2;

    qsort(pairs, n, sizeof *pairs, compare_pairs);
    uint64_t ties_x = count_ties(pairs, n, 1, 0);
    uint64_t ties_both = count_ties(pairs, n, 1, 1);
    uint64_t discordant = count_exchanges(pairs, room, n);
    uint64_t ties_y = count_ties(pairs, n, 0, 1);

    if (ties_x == all || ties_y == all)
        return NAN;
    uint64_t concordant = all - ties_x - ties_y + ties_both - discordant;
    double difference = (double)concordant - (double)discordant;
    double tau = difference / sqrt((double)(all - ties_x)) / sqrt((double)(all - ties_y));
    return fmax(-1, fmin(1, tau));
}

double stats_kendall(const double *x, const double *y, size_t n)
{
    double result = NAN;

    if (n < 2 || has_nan(x, n) || has_nan(y, n))
        return NAN;
    struct stats_pair *pairs = malloc(2 * n * sizeof *pairs);
    if (pairs != NULL) {
        for (size_t i = 0; i < n; i++)
            pairs[i] = (struct stats_pair){.x = x[i], .y = y[i], .place = i};
        result = kendall_of(pairs, pairs + n, n);
    }
    free(pairs);
    return result;
}
