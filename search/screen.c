/* screen.c - which of many children to ask: the one that is predicted to add most hypervolume to
 * what was told and to what is out, among those whose region of the first cost (decode latency) is
 * not crowded already.  Without the regions small models would be asked again and again: they are
 * quick to evaluate, so their results come back first (Scott and De Jong 2015). */
#include "search/screen.h"

#include "search/hypervolume.h"
#include "space/base/err.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Told last, of which each region may hold 1.5 times its share. */
#define N_RECENT     64
#define NICHE_EXCESS 1.5
#define NICHE_LEAST  3

void screen_predict(const struct search *search, const uint8_t *levels, double *point)
{
    double objective[PROBLEM_MAX_OBJ];
    objective[0] = additive_loss(search->additive, levels);
    additive_costs(search->additive, levels, objective + 1);
    search_log(search, objective, point);
}

static size_t niche_of(const struct screen *screen, const double *point)
{
    double part = (point[1] - screen->least) / (screen->most - screen->least) * SCREEN_N_NICHES;
    return part > 0 ? (size_t)fmin(part, SCREEN_N_NICHES - 1) : 0;
}

/* The range of the first cost over the front. */
static void set_range(struct screen *screen, const struct frontier *frontier)
{
    screen->least = INFINITY;
    screen->most = -INFINITY;
    for (size_t i = 0; i < frontier->n; i++) {
        screen->least = fmin(screen->least, frontier->points[i * frontier->n_obj + 1]);
        screen->most = fmax(screen->most, frontier->points[i * frontier->n_obj + 1]);
    }
}

/* The bound on the hypervolume: the fixed one, or the worst known so far. */
static void set_reference(struct screen *screen)
{
    const struct search *search = screen->search;
    memcpy(screen->reference, search->reference, sizeof screen->reference);
    for (size_t i = 0; i < screen->aims.n && !search->has_reference; i++)
        for (size_t j = 0; j < screen->aims.n_obj; j++)
            screen->reference[j] =
                fmax(screen->reference[j], screen->aims.points[i * screen->aims.n_obj + j]);
}

int screen_init(struct screen *screen, const struct search *search, struct err *err)
{
    size_t n_obj = search->problem->n_obj, n_counted = 0;
    *screen = (struct screen){.search = search};
    frontier_init(&screen->aims, n_obj);
    set_range(screen, &search->frontier);
    int status = frontier_assign(&screen->aims, &search->frontier);
    for (size_t i = 0; i < search->n_out && status == 0; i++, n_counted++) {
        double point[PROBLEM_MAX_OBJ];
        screen_predict(search, vector_set_at(&search->known, search->out[i]), point);
        status = frontier_add(&screen->aims, point) < 0 ? -1 : 0;
        screen->count[niche_of(screen, point)]++;
    }
    if (status != 0) {
        err_set(err, ERR_MEMORY, "search: out of memory");
        return -1;
    }
    size_t first = search->n_told > N_RECENT ? search->n_told - N_RECENT : 0;
    for (size_t i = first; i < search->n_told; i++, n_counted++)
        screen->count[niche_of(screen, search->told + i * n_obj)]++;
    screen->quota = fmax(NICHE_LEAST, NICHE_EXCESS * (double)n_counted / SCREEN_N_NICHES);
    set_reference(screen);
    return 0;
}

void screen_fini(struct screen *screen)
{
    frontier_fini(&screen->aims);
}

/* How far a point that adds nothing is behind the front: what it would have to gain in every log
 * objective.  Negative, so that any gain is better. */
static double shortfall(const struct frontier *front, const double *point)
{
    double worst = 0;
    for (size_t i = 0; i < front->n; i++) {
        double ahead = INFINITY;
        for (size_t j = 0; j < front->n_obj; j++)
            ahead = fmin(ahead, point[j] - front->points[i * front->n_obj + j]);
        worst = fmax(worst, ahead);
    }
    return -worst;
}

double screen_score(const struct screen *screen, const uint8_t *levels, bool *is_crowded)
{
    double point[PROBLEM_MAX_OBJ];
    screen_predict(screen->search, levels, point);
    *is_crowded = screen->count[niche_of(screen, point)] >= screen->quota;
    double gain = hypervolume_gain(screen->aims.points, screen->aims.n, screen->aims.n_obj,
                                   screen->reference, point);
    return gain > 0 ? gain : shortfall(&screen->aims, point);
}
