/* hypervolume.c - exact hypervolume by dimension sweep.
 *
 * All three dimensions rest on one picture: a staircase of points in (x, y) that do not dominate
 * each other, x ascending and therefore y descending, and the area above it up to the reference.
 *
 *      ref_y  +---------+----------.
 *             |         | covered  |
 *        y0   | x0,y0 o-+..........|     Inserting (x, y) takes the covered steps out of the
 *             |       |            |     middle and returns the area that is new.
 *        y1   |       +----o x1,y1 |
 *             +-------+----+-------+ ref_x
 */
#include "search/hypervolume.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define HV_MAX_OBJ 4

struct hv_point {
    double at[HV_MAX_OBJ];
};

struct staircase {
    double *x, *y; /* x ascending, y descending */
    size_t n;
    double ref_x, ref_y;
};

/* The area that (x, y) covers and nobody before it; the steps under it are replaced. */
static double staircase_insert(struct staircase *stairs, double x, double y)
{
    size_t low = 0, high = stairs->n;
    /* First step to the right of x. */
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (stairs->x[middle] > x)
            high = middle;
        else
            low = middle + 1;
    }
    if (low > 0 && stairs->y[low - 1] <= y)
        return 0;
    if (low > 0 && stairs->x[low - 1] == x)
        low--;
    /* Steps low .. high - 1 are dominated: sum what lay above y over each of them. */
    double left = x, top = low > 0 ? stairs->y[low - 1] : stairs->ref_y, area = 0;
    for (high = low; high < stairs->n && stairs->y[high] >= y; high++) {
        area += (stairs->x[high] - left) * (top - y);
        left = stairs->x[high];
        top = stairs->y[high];
    }
    area += ((high < stairs->n ? stairs->x[high] : stairs->ref_x) - left) * (top - y);
    if (high != low + 1) {
        memmove(stairs->x + low + 1, stairs->x + high, (stairs->n - high) * sizeof *stairs->x);
        memmove(stairs->y + low + 1, stairs->y + high, (stairs->n - high) * sizeof *stairs->y);
        stairs->n = stairs->n + 1 - (high - low);
    }
    stairs->x[low] = x;
    stairs->y[low] = y;
    return area;
}

/* --- two and three objectives --- */

static double volume_2d(const struct hv_point *points, size_t n, const double *reference,
                        struct staircase *stairs)
{
    double area = 0;
    *stairs = (struct staircase){stairs->x, stairs->y, 0, reference[0], reference[1]};
    for (size_t i = 0; i < n; i++)
        area += staircase_insert(stairs, points[i].at[0], points[i].at[1]);
    return area;
}

/* `points` come with z ascending; no coordinate is taken below that of `floor` (NULL: as it is).
 * The floor keeps the order along z, so a limit set needs no sort of its own. */
static double volume_3d(const struct hv_point *points, size_t n, const double *reference,
                        const double *floor, struct staircase *stairs)
{
    double volume = 0, area = 0, z = 0;
    *stairs = (struct staircase){stairs->x, stairs->y, 0, reference[0], reference[1]};
    for (size_t i = 0; i < n; i++) {
        const double *p = points[i].at;
        double next_z = floor != NULL ? fmax(p[2], floor[2]) : p[2];
        volume += area * (next_z - z);
        z = next_z;
        area += floor != NULL ? staircase_insert(stairs, fmax(p[0], floor[0]), fmax(p[1], floor[1]))
                              : staircase_insert(stairs, p[0], p[1]);
    }
    return volume + area * (reference[2] - z);
}

/* --- four objectives --- */

static bool covers_3d(const struct hv_point *a, const struct hv_point *b)
{
    return a->at[0] <= b->at[0] && a->at[1] <= b->at[1] && a->at[2] <= b->at[2];
}

/* Take those that `p` covers out of active[n] and put it where its z belongs. */
static size_t active_insert(struct hv_point *active, size_t n, const struct hv_point *p)
{
    size_t kept = 0, place = 0;
    for (size_t i = 0; i < n; i++)
        if (!covers_3d(p, &active[i]))
            active[kept++] = active[i];
    while (place < kept && active[place].at[2] <= p->at[2])
        place++;
    memmove(active + place + 1, active + place, (kept - place) * sizeof *active);
    active[place] = *p;
    return kept + 1;
}

/* `points` come with w ascending. */
static double volume_4d(const struct hv_point *points, size_t n, const double *reference,
                        struct hv_point *active, struct staircase *stairs)
{
    double volume = 0, slice = 0, w = 0;
    size_t n_active = 0;
    for (size_t i = 0; i < n; i++) {
        const struct hv_point *p = &points[i];
        bool covered = false;
        for (size_t k = 0; k < n_active && !covered; k++)
            covered = covers_3d(&active[k], p);
        if (covered)
            continue;
        volume += slice * (p->at[3] - w);
        w = p->at[3];
        /* New is p's own box less what the others cover of it. */
        double box = 1;
        for (size_t j = 0; j < 3; j++)
            box *= reference[j] - p->at[j];
        slice += box - volume_3d(active, n_active, reference, p->at, stairs);
        n_active = active_insert(active, n_active, p);
    }
    return n_active > 0 ? volume + slice * (reference[3] - w) : 0;
}

/* --- any number --- */

static int compare_last(const struct hv_point *a, const struct hv_point *b, size_t n_obj)
{
    for (size_t j = n_obj; j-- > 0;)
        if (a->at[j] != b->at[j])
            return a->at[j] < b->at[j] ? -1 : 1;
    return 0;
}

static int compare_2d(const void *a, const void *b)
{
    return compare_last(a, b, 2);
}

static int compare_3d(const void *a, const void *b)
{
    return compare_last(a, b, 3);
}

static int compare_4d(const void *a, const void *b)
{
    return compare_last(a, b, 4);
}

static bool is_inside(const double *point, size_t n_obj, const double *reference)
{
    for (size_t j = 0; j < n_obj; j++)
        if (!(point[j] < reference[j]))
            return false;
    return true;
}

/* Volume of inside[n], which is sorted here.  NAN without memory. */
static double volume_of(struct hv_point *inside, size_t n, size_t n_obj, const double *reference)
{
    if (n == 0)
        return 0;
    double volume = NAN;
    struct staircase stairs = {.x = malloc((n + 1) * sizeof *stairs.x),
                               .y = malloc((n + 1) * sizeof *stairs.y)};
    struct hv_point *active = malloc((n + 1) * sizeof *active);
    if (stairs.x != NULL && stairs.y != NULL && active != NULL) {
        qsort(inside, n, sizeof *inside,
              n_obj == 2 ? compare_2d : (n_obj == 3 ? compare_3d : compare_4d));
        if (n_obj == 2)
            volume = volume_2d(inside, n, reference, &stairs);
        else if (n_obj == 3)
            volume = volume_3d(inside, n, reference, NULL, &stairs);
        else
            volume = volume_4d(inside, n, reference, active, &stairs);
    }
    free(active);
    free(stairs.y);
    free(stairs.x);
    return volume;
}

double hypervolume(const double *points, size_t n, size_t n_obj, const double *reference)
{
    assert(n_obj >= 2 && n_obj <= HV_MAX_OBJ);
    struct hv_point *inside = malloc((n + 1) * sizeof *inside);
    if (inside == NULL)
        return NAN;
    size_t n_inside = 0;
    for (size_t i = 0; i < n; i++)
        if (is_inside(points + i * n_obj, n_obj, reference))
            memcpy(inside[n_inside++].at, points + i * n_obj, n_obj * sizeof *points);
    double volume = volume_of(inside, n_inside, n_obj, reference);
    free(inside);
    return volume;
}

/* As hypervolume_gain, with the point `skip` of `points` left out. */
static double gain_without(const double *points, size_t n, size_t n_obj, const double *reference,
                           const double *candidate, size_t skip)
{
    assert(n_obj >= 2 && n_obj <= HV_MAX_OBJ);
    if (!is_inside(candidate, n_obj, reference))
        return 0;
    struct hv_point *limits = malloc((n + 1) * sizeof *limits);
    if (limits == NULL)
        return NAN;
    double box = 1;
    for (size_t j = 0; j < n_obj; j++)
        box *= reference[j] - candidate[j];
    size_t n_limits = 0;
    bool covered = false;
    for (size_t i = 0; i < n && !covered; i++) {
        const double *p = points + i * n_obj;
        if (i == skip || !is_inside(p, n_obj, reference))
            continue;
        covered = true;
        for (size_t j = 0; j < n_obj; j++) {
            covered = covered && p[j] <= candidate[j];
            limits[n_limits].at[j] = fmax(p[j], candidate[j]);
        }
        n_limits++;
    }
    double gain = covered ? 0 : box - volume_of(limits, n_limits, n_obj, reference);
    free(limits);
    /* Rounding may leave a trace below zero where the others cover all. */
    return gain < 0 ? 0 : gain;
}

double hypervolume_gain(const double *points, size_t n, size_t n_obj, const double *reference,
                        const double *candidate)
{
    return gain_without(points, n, n_obj, reference, candidate, n);
}

double hypervolume_contribution(const double *points, size_t n, size_t n_obj,
                                const double *reference, size_t index)
{
    assert(index < n);
    return gain_without(points, n, n_obj, reference, points + index * n_obj, index);
}
