/* model_report.h - what kerf model shows of a latency model: the factors of its terms, and how well
 * it foretells candidates that its fit has not seen. */
#ifndef KERF_MODEL_REPORT_H
#define KERF_MODEL_REPORT_H

#include "latency_model/predictor.h"

struct cJSON;

/* Decode and prefill side by side: errors of the points left out, factors, shares of the time. */
void model_report_factors(const struct predictor predictor[2]);

/* One line of a table of accuracies. */
struct model_report_row {
    const char *what; /* "tg32@b1, front" */
    struct predictor_accuracy accuracy;
};
void model_report_accuracies(const struct model_report_row *rows, size_t n);

/* The same as an object `name` in `root`. */
void model_report_put(struct cJSON *root, const char *name,
                      const struct predictor_accuracy *accuracy);

#endif
