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
#define OUT_MANY     128
/* The residuals that are looked at, and the constants of screen.h. */
#define NEAR_MOST    512
#define NEAR_LEVELS  0.05
#define NEAR_LOSS    0.3
#define PRIOR_WEIGHT 0.1
#define STEP_ONE     65535

/* --- prediction --- */

static void predict_prior(const struct search *search, const uint8_t *levels, double *point)
{
    const struct problem *problem = search->problem;
    double objective[PROBLEM_MAX_OBJ];
    objective[0] = additive_loss(search->additive, levels);
    additive_costs(search->additive, levels, objective + 1);
    if (problem->whole_cost != NULL)
        problem->whole_cost(problem->arg, levels, objective + 1);
    search_log(search, objective, point);
}

/* The first of them. */
static double prior_loss(const struct search *search, const uint8_t *levels)
{
    return log(additive_loss(search->additive, levels) + search->options.loss_floor);
}

/* Sums are in whole numbers: they come out the same in any order, and quickly. */
static uint32_t distance(const struct screen *screen, const uint8_t *a, const uint8_t *b)
{
    uint32_t n = screen->search->problem->n_genes, sum = 0;
    for (uint32_t g = 0; g < n; g++)
        sum += (uint32_t)abs((int)a[g] - (int)b[g]) * screen->gene_step[g];
    return sum;
}

static double nearby_residual(const struct screen *screen, const uint8_t *levels, double prior)
{
    const struct search *search = screen->search;
    double n_genes = search->problem->n_genes, weights = PRIOR_WEIGHT, sum = 0;
    for (size_t i = 0; i < screen->n_near; i++) {
        size_t vector = search->told_vector[screen->first_near + i];
        double far = distance(screen, levels, vector_set_at(&search->known, vector)) /
                     (n_genes * STEP_ONE * NEAR_LEVELS);
        double off = (prior - screen->prior[i]) / NEAR_LOSS;
        double weight = exp(-far - 0.5 * off * off);
        weights += weight;
        sum += weight * screen->residual[i];
    }
    return sum / weights;
}

void screen_predict(const struct screen *screen, const uint8_t *levels, double *point)
{
    predict_prior(screen->search, levels, point);
    point[0] += nearby_residual(screen, levels, point[0]);
}

static int init_residuals(struct screen *screen)
{
    const struct search *search = screen->search;
    const struct problem *problem = search->problem;
    screen->n_near = search->n_told < NEAR_MOST ? search->n_told : NEAR_MOST;
    screen->first_near = search->n_told - screen->n_near;
    screen->residual = malloc((screen->n_near + 1) * sizeof *screen->residual);
    screen->prior = malloc((screen->n_near + 1) * sizeof *screen->prior);
    screen->gene_step = malloc(problem->n_genes * sizeof *screen->gene_step);
    if (screen->residual == NULL || screen->prior == NULL || screen->gene_step == NULL)
        return -1;
    for (uint32_t g = 0; g < problem->n_genes; g++)
        screen->gene_step[g] =
            (uint16_t)(STEP_ONE / (problem->n_levels[g] > 1 ? problem->n_levels[g] - 1 : 1));
    for (size_t i = 0; i < screen->n_near; i++) {
        size_t told = screen->first_near + i;
        double prior = prior_loss(search, vector_set_at(&search->known, search->told_vector[told]));
        screen->prior[i] = (float)prior;
        screen->residual[i] = (float)(search->told[told * problem->n_obj] - prior);
    }
    return 0;
}

/* --- what is aimed at --- */

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

/* Where hundreds are out (or have failed for good) their prior has to do. */
static void predict_out(const struct screen *screen, const uint8_t *levels, double *point)
{
    if (screen->search->n_out <= OUT_MANY)
        screen_predict(screen, levels, point);
    else
        predict_prior(screen->search, levels, point);
}

int screen_init(struct screen *screen, const struct search *search, struct err *err)
{
    size_t n_obj = search->problem->n_obj, n_counted = 0;
    *screen = (struct screen){.search = search};
    frontier_init(&screen->aims, n_obj);
    set_range(screen, &search->frontier);
    int status = init_residuals(screen);
    if (status == 0)
        status = frontier_assign(&screen->aims, &search->frontier);
    for (size_t i = 0; i < search->n_out && status == 0; i++, n_counted++) {
        double point[PROBLEM_MAX_OBJ];
        predict_out(screen, vector_set_at(&search->known, search->out[i]), point);
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
    free(screen->residual);
    free(screen->prior);
    free(screen->gene_step);
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
    screen_predict(screen, levels, point);
    *is_crowded = screen->count[niche_of(screen, point)] >= screen->quota;
    double gain = hypervolume_gain(screen->aims.points, screen->aims.n, screen->aims.n_obj,
                                   screen->reference, point);
    return gain > 0 ? gain : shortfall(&screen->aims, point);
}
