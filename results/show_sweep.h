/* show_sweep.h - a sweep for people, for programs and for JUnit.
 *
 * JSON: {"schema": 1, "study", ..., "baseline": {"version", "kernels"}, "min_effect", "n_slower",
 *  "n_differ", "points": [{"id", "workload", "baseline_ms", "current_ms", "effect", "lo", "hi",
 * "p", "rounds", "again": {"effect", "lo", "hi", "p", "rounds"}, "rejected", "slower"}], "exact":
 * [{"id", "genome_id", "weights", "kld", "kld_was", "kld_is"}]} where genome_id, weights and kld
 * are "same", "differs" or "not compared". JUnit: one test case a point and one for each
 * candidate's exact checks. */
#ifndef KERF_SHOW_SWEEP_H
#define KERF_SHOW_SWEEP_H

#include "results/show.h"
#include "results/sweep.h"

struct show_sweep {
    const char *baseline_version, *baseline_kernels;
    double min_effect, seconds;
    const struct sweep_point *point;
    size_t n_points;
    const struct sweep_exact *exact;
    size_t n_exact;
};

void show_sweep(FILE *out, enum show_format format, const struct study *study,
                const struct front *front, const struct show_sweep *sweep);
/* The text of a JUnit file, yours to free; NULL without memory. */
char *show_sweep_junit(const struct study *study, const struct show_sweep *sweep);

#endif
