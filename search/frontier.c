/* frontier.c - a flat array, scanned. */
#include "search/frontier.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

void frontier_init(struct frontier *frontier, size_t n_obj)
{
    *frontier = (struct frontier){.n_obj = n_obj};
}

void frontier_fini(struct frontier *frontier)
{
    free(frontier->points);
    *frontier = (struct frontier){0};
}

static int reserve(struct frontier *frontier, size_t n)
{
    if (n <= frontier->capacity)
        return 0;
    size_t capacity = n > 2 * frontier->capacity ? n + 16 : 2 * frontier->capacity;
    double *points =
        realloc(frontier->points, capacity * frontier->n_obj * sizeof *frontier->points);
    if (points == NULL)
        return -1;
    frontier->points = points;
    frontier->capacity = capacity;
    return 0;
}

static bool covers(const double *a, const double *b, size_t n_obj)
{
    for (size_t j = 0; j < n_obj; j++)
        if (a[j] > b[j])
            return false;
    return true;
}

int frontier_add(struct frontier *frontier, const double *point)
{
    size_t n_obj = frontier->n_obj, kept = 0;
    double *points = frontier->points;
    for (size_t i = 0; i < frontier->n; i++)
        if (covers(points + i * n_obj, point, n_obj))
            return 0;
    if (reserve(frontier, frontier->n + 1) != 0)
        return -1;
    points = frontier->points;
    for (size_t i = 0; i < frontier->n; i++) {
        if (covers(point, points + i * n_obj, n_obj))
            continue;
        memmove(points + kept++ * n_obj, points + i * n_obj, n_obj * sizeof *points);
    }
    memcpy(points + kept * n_obj, point, n_obj * sizeof *points);
    frontier->n = kept + 1;
    return 1;
}

int frontier_assign(struct frontier *frontier, const struct frontier *other)
{
    if (reserve(frontier, other->n) != 0)
        return -1;
    if (other->n > 0)
        memcpy(frontier->points, other->points, other->n * other->n_obj * sizeof *other->points);
    frontier->n = other->n;
    return 0;
}
