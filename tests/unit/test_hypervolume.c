/* test_hypervolume.c - closed forms, ties and duplicates, and two independent implementations. */
#include "search/hypervolume.h"
#include "space/base/rng.h"
#include "tests/tap.h"

#include <stdlib.h>

#define MAX_OBJ 4

/* ---- independent answers -------------------------------------------------------------------- */

/* Inclusion and exclusion over all subsets of boxes; n small. */
static double by_inclusion(const double *points, size_t n, size_t n_obj, const double *reference)
{
    double volume = 0;
    for (size_t subset = 1; subset < (size_t)1 << n; subset++) {
        double box = 1;
        int n_members = 0;
        for (size_t j = 0; j < n_obj; j++) {
            double side = INFINITY;
            for (size_t i = 0; i < n; i++)
                if (subset >> i & 1)
                    side = fmin(side, fmax(0, reference[j] - points[i * n_obj + j]));
            box *= side;
        }
        for (size_t i = 0; i < n; i++)
            n_members += (int)(subset >> i & 1);
        volume += n_members % 2 ? box : -box;
    }
    return volume;
}

/* Integer points in a cube of `side`: count the unit cells that somebody dominates. */
static double by_cells(const double *points, size_t n, size_t n_obj, size_t side)
{
    size_t n_cells = 1, n_dominated = 0;
    for (size_t j = 0; j < n_obj; j++)
        n_cells *= side;
    for (size_t cell = 0; cell < n_cells; cell++) {
        bool dominated = false;
        for (size_t i = 0; i < n && !dominated; i++) {
            size_t rest = cell;
            dominated = true;
            for (size_t j = 0; j < n_obj; j++, rest /= side)
                dominated = dominated && points[i * n_obj + j] <= (double)(rest % side);
        }
        n_dominated += dominated;
    }
    return (double)n_dominated;
}

/* ---- closed forms --------------------------------------------------------------------------- */

static void test_closed_forms(void)
{
    const double ref[MAX_OBJ] = {1, 1, 1, 1};
    for (size_t n_obj = 2; n_obj <= MAX_OBJ; n_obj++) {
        double a[MAX_OBJ], three[3 * MAX_OBJ], want = 1;
        for (size_t j = 0; j < n_obj; j++) {
            a[j] = 0.1 * (double)(j + 1);
            want *= 1 - a[j];
        }
        near(hypervolume(a, 1, n_obj, ref), want, 1e-15, "one point is its box, %zu objectives",
             n_obj);
        ok(hypervolume(a, 0, n_obj, ref) == 0, "no point has no volume, %zu objectives", n_obj);

        /* Point i reaches 0 along objective i and p along the others: every pair meets in the box
         * of (1 - p)^n_obj, and so do all three. */
        double p = 0.6, box = 1, meet = pow(1 - p, (double)n_obj);
        for (size_t j = 1; j < n_obj; j++)
            box *= 1 - p;
        for (size_t i = 0; i < 3; i++)
            for (size_t j = 0; j < n_obj; j++)
                three[i * n_obj + j] = i == j ? 0 : p;
        near(hypervolume(three, 2, n_obj, ref), 2 * box - meet, 1e-15,
             "two crossing boxes, %zu objectives", n_obj);
        /* With two objectives the third point is the corner (p, p), which the others cover. */
        near(hypervolume(three, 3, n_obj, ref),
             n_obj == 2 ? 2 * box - meet : 3 * box - 3 * meet + meet, 1e-15,
             "three crossing boxes, %zu objectives", n_obj);
    }
}

static void test_outside(void)
{
    const double ref[3] = {1, 1, 1};
    const double points[5][3] = {
        {0.5, 0.5, 0.5}, {1, 0, 0}, {0, 0, 2}, {0.5, 0.5, 1}, {NAN, 0.1, 0.1}};
    near(hypervolume(points[0], 5, 3, ref), 0.125, 1e-15,
         "points on or beyond the reference, or not measured, count for nothing");
    ok(hypervolume(points[1], 4, 3, ref) == 0, "only such points: no volume");
    ok(hypervolume_gain(points[0], 1, 3, ref, points[2]) == 0, "nor does one of them add any");
}

/* ---- random sets ---------------------------------------------------------------------------- */

static void test_inclusion(void)
{
    struct rng rng = rng_make(1, 2);
    const double ref[MAX_OBJ] = {0.9, 1.0, 0.8, 0.95};
    for (size_t n_obj = 2; n_obj <= MAX_OBJ; n_obj++) {
        double worst = 0;
        for (int round = 0; round < 200; round++) {
            double points[9 * MAX_OBJ];
            size_t n = 1 + (size_t)rng_below(&rng, 9);
            for (size_t i = 0; i < n * n_obj; i++)
                points[i] = rng_double(&rng);
            double want = by_inclusion(points, n, n_obj, ref);
            double got = hypervolume(points, n, n_obj, ref);
            worst = fmax(worst, fabs(got - want) / fmax(want, 1e-3));
        }
        ok(worst <= 1e-12, "%zu objectives agree with inclusion and exclusion to 1e-12 (%.1e)",
           n_obj, worst);
    }
}

/* Few coordinates, many points: ties and duplicates everywhere, and sums that are exact. */
static void test_cells(void)
{
    struct rng rng = rng_make(3, 4);
    for (size_t n_obj = 2; n_obj <= MAX_OBJ; n_obj++) {
        const size_t side = 6;
        const double ref[MAX_OBJ] = {6, 6, 6, 6};
        int n_wrong = 0, n_moved = 0, n_twice = 0, n_parts = 0;
        for (int round = 0; round < 60; round++) {
            double points[60 * MAX_OBJ];
            size_t n = 1 + (size_t)rng_below(&rng, 30);
            for (size_t i = 0; i < n * n_obj; i++)
                points[i] = (double)rng_below(&rng, side + 1);
            double want = by_cells(points, n, n_obj, side);
            n_wrong += hypervolume(points, n, n_obj, ref) != want;
            memcpy(points + n * n_obj, points, n * n_obj * sizeof *points);
            n_twice += hypervolume(points, 2 * n, n_obj, ref) != want;
            rng_shuffle(&rng, points, n, n_obj * sizeof *points);
            n_moved += hypervolume(points, n, n_obj, ref) != want;
            double others = hypervolume(points + n_obj, n - 1, n_obj, ref);
            n_parts += hypervolume_contribution(points, n, n_obj, ref, 0) != want - others;
            n_parts += hypervolume_gain(points + n_obj, n - 1, n_obj, ref, points) != want - others;
        }
        ok(n_wrong == 0, "%zu objectives with ties agree with counting cells", n_obj);
        ok(n_twice == 0, "duplicates change nothing, %zu objectives", n_obj);
        ok(n_moved == 0, "the order changes nothing, %zu objectives", n_obj);
        ok(n_parts == 0, "a contribution is the difference that its point makes, %zu objectives",
           n_obj);
    }
}

/* A sphere's first orthant, dense: the volume approaches that of the cube less the ball's part. */
static void test_sphere(void)
{
    enum { N = 400 };
    struct rng rng = rng_make(5, 6);
    const double ref[MAX_OBJ] = {1, 1, 1, 1};
    const double ball[MAX_OBJ + 1] = {0, 0, 0.785398163397448, 0.523598775598299,
                                      0.308425137534042};
    for (size_t n_obj = 2; n_obj <= MAX_OBJ; n_obj++) {
        double points[N * MAX_OBJ], part = 0;
        for (size_t i = 0; i < N; i++) {
            double length = 0;
            for (size_t j = 0; j < n_obj; j++) {
                points[i * n_obj + j] = fabs(rng_normal(&rng));
                length += points[i * n_obj + j] * points[i * n_obj + j];
            }
            for (size_t j = 0; j < n_obj; j++)
                points[i * n_obj + j] /= sqrt(length);
        }
        double whole = hypervolume(points, N, n_obj, ref);
        ok(whole < 1 - ball[n_obj] && whole > 0.75 * (1 - ball[n_obj]),
           "%d points of a sphere stay under its volume and come near (%zu objectives, %.4f)", N,
           n_obj, whole);
        /* Added one after another, the gains sum to the whole. */
        for (size_t i = 0; i < N; i++)
            part += hypervolume_gain(points, i, n_obj, ref, points + i * n_obj);
        near(part, whole, 1e-12, "gains one after another sum to it, %zu objectives", n_obj);
    }
}

/* ---- real points ---------------------------------------------------------------------------- */

enum { MAX_ROWS = 2100, N_COLUMNS = 3 };

/* The first three of the last five columns: loss, parameters, bytes.  Returns the number of rows.
 */
static size_t read_table(FILE *file, double *points)
{
    static char line[1 << 16];
    size_t n = 0;
    while (n < MAX_ROWS && fgets(line, sizeof line, file) != NULL) {
        char *at = line + strlen(line);
        for (int commas = 0; at > line && commas < 5; at--)
            commas += at[-1] == ',';
        double *p = points + n * N_COLUMNS;
        n += sscanf(at + 1, "%lf,%lf,%lf", &p[0], &p[1], &p[2]) == 3;
    }
    return n;
}

/* Three objectives as slabs between the sorted third coordinates, each a sum of two-dimensional
 * strips: quadratic and dull. */
static double by_slabs(const double *points, size_t n, const double *ref)
{
    double volume = 0;
    for (size_t k = 0; k < n; k++) {
        double z = points[k * 3 + 2], next = ref[2];
        bool first = true;
        for (size_t i = 0; i < n; i++) {
            double other = points[i * 3 + 2];
            if (other > z && other < next)
                next = other;
            first = first && !(i < k && other == z);
        }
        if (!first || z >= ref[2])
            continue;
        double plane[2 * MAX_ROWS];
        size_t m = 0;
        for (size_t i = 0; i < n; i++)
            if (points[i * 3 + 2] <= z && points[i * 3] < ref[0] && points[i * 3 + 1] < ref[1]) {
                plane[2 * m] = points[i * 3];
                plane[2 * m++ + 1] = points[i * 3 + 1];
            }
        double area = 0, x = -INFINITY, lowest = ref[1];
        /* Strips from left to right: the lowest y so far reaches from here to the next x. */
        for (size_t strip = 0; strip < m; strip++) {
            double here = INFINITY, right = ref[0];
            for (size_t i = 0; i < m; i++)
                here = plane[2 * i] > x ? fmin(here, plane[2 * i]) : here;
            if (isinf(here))
                break;
            for (size_t i = 0; i < m; i++) {
                if (plane[2 * i] == here)
                    lowest = fmin(lowest, plane[2 * i + 1]);
                if (plane[2 * i] > here)
                    right = fmin(right, plane[2 * i]);
            }
            area += (right - here) * (ref[1] - lowest);
            x = here;
        }
        volume += area * (next - z);
    }
    return volume;
}

static void test_table(void)
{
    static double points[MAX_ROWS * N_COLUMNS];
    char path[4096];
    const char *folder = getenv("KERF_PUBLIC_DATA");
    if (folder == NULL) {
        printf("# SKIP a table of real models: KERF_PUBLIC_DATA is not set\n");
        return;
    }
    snprintf(path, sizeof path, "%s/tables/llmforge_200M.csv", folder);
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        printf("# SKIP a table of real models: %s is not there\n", path);
        return;
    }
    size_t n = read_table(file, points);
    fclose(file);
    ok(n == 2057, "the table of small models has 2,057 rows (%zu)", n);
    /* Some diverged in training: their infinite loss is outside any reference. */
    double ref[3] = {0, 0, 0};
    for (size_t i = 0; i < n * 3; i++)
        if (isfinite(points[i]))
            ref[i % 3] = fmax(ref[i % 3], 1.1 * points[i]);
    n = n < 300 ? n : 300; /* the oracle is slow */
    double want = by_slabs(points, n, ref);
    near(hypervolume(points, n, 3, ref) / want, 1, 1e-12, "300 real models agree with slabs");
}

int main(void)
{
    test_closed_forms();
    test_outside();
    test_inclusion();
    test_cells();
    test_sphere();
    test_table();
    return tap_done();
}
