#include "cluster/study_problem.h"
#include <math.h>

static void repair(void *arg, uint8_t *levels)
{
    struct study_problem *self = arg;
    space_repair(self->space, levels);
}

/* Bytes of what `unit` adds to the file. */
static double unit_bytes(struct study_problem *self, uint32_t unit)
{
    const struct geometry *geometry = &self->space->geometry;
    bool both = account_unit_pair(&self->genome, unit, &self->with, &self->without);
    double bytes = (double)account_weight_bytes(&self->with, geometry);
    return both ? bytes - (double)account_weight_bytes(&self->without, geometry) : bytes;
}

static void unit_cost(void *arg, const uint8_t *levels, uint32_t unit, double *cost)
{
    struct study_problem *self = arg;
    space_genome(self->space, levels, &self->genome);
    cost[OBJECTIVE_DECODE - 1] =
        forecast_unit_ns(self->forecast, &self->genome, FORECAST_DECODE, unit);
    cost[OBJECTIVE_PREFILL - 1] =
        forecast_unit_ns(self->forecast, &self->genome, FORECAST_PREFILL, unit);
    cost[OBJECTIVE_BYTES - 1] = unit_bytes(self, unit);
}

/* Where there is no model the units' sum, fitted as a line, is nearer than the table's. */
static void whole_cost(void *arg, const uint8_t *levels, double *cost)
{
    static const int objective[FORECAST_WORKLOADS] = {OBJECTIVE_DECODE, OBJECTIVE_PREFILL};
    struct study_problem *self = arg;

    for (int w = 0; w < FORECAST_WORKLOADS; w++) {
        if (!forecast_is_modelled(self->forecast, w))
            continue;
        space_genome(self->space, levels, &self->genome);
        double ns = forecast_ns(self->forecast, &self->genome, w);
        if (ns > 0)
            cost[objective[w] - 1] = ns;
    }
}

void study_problem_init(struct study_problem *self, const struct study *study,
                        const struct space *space, const struct forecast *forecast)
{
    self->space = space;
    self->study = study;
    self->forecast = forecast;
    for (uint32_t g = 0; g < space->n_genes; g++) {
        self->n_levels[g] = space->gene[g].n_levels;
        self->unit[g] = space->gene[g].unit;
    }
    self->problem = (struct problem){.n_genes = space->n_genes,
                                     .n_units = space->n_units,
                                     .n_obj = N_OBJECTIVES,
                                     .n_levels = self->n_levels,
                                     .unit = self->unit,
                                     .arg = self,
                                     .repair = repair,
                                     .unit_cost = unit_cost,
                                     .whole_cost = whole_cost};
}

void study_losses(const struct sensitivity *table, double (*loss)[SPACE_MAX_LEVELS])
{
    const struct space *space = sensitivity_space(table);
    for (uint32_t g = 0; g < space->n_genes; g++) {
        uint32_t last = space->gene[g].n_levels - 1;
        loss[g][last] = 0;
        for (uint32_t l = 0; l < last; l++)
            loss[g][l] = fmax(sensitivity_at(table, g, l)->kld, SMALLEST_LOSS);
    }
}
