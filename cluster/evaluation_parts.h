/* evaluation_parts.h - the three kinds of work behind evaluation_run, one file each. */
#ifndef KERF_EVALUATION_PARTS_H
#define KERF_EVALUATION_PARTS_H

#include "cluster/workbench.h"
#include <cjson/cJSON.h>

/* Each fills `result` (an object) and returns 0, or -1 with `err`. */
int evaluation_prepare(struct workbench *bench, cJSON *result, struct err *err);
int evaluation_sensitivity(struct workbench *bench, uint32_t unit, cJSON *result, struct err *err);
int evaluation_candidate(struct workbench *bench, const struct work *work, cJSON *result,
                         struct err *err);

/* {"median_ns":..,"lo_ns":..,...}: what a probe says of one workload, scaled to `reference_ns` by
 * the ratio (methods.md C3: rank by ratio, rescale by the reference). */
void evaluation_put_probe(cJSON *result, const char *name, const struct probe_result *probe,
                          double reference_ns);

#endif
