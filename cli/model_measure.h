/* model_measure.h - kerf model measure: a latency study without a search.  Of a study, a GGUF or a
 * geometry alone it times the operations of the space, then candidates that look like a front's, with
 * stand-ins for their weights, and fits the latency model to most of them; the others judge it, among
 * them the front where the study has been searched. */
#ifndef KERF_MODEL_MEASURE_H
#define KERF_MODEL_MEASURE_H

#include "cli/option.h"
#include "results/show.h"

/* Rows of the command that only this action has. */
#define MODEL_MEASURE_ROWS                                                                         \
    {"model", 'm', OPTION_TEXT, "FILE", "measure: a GGUF in place of a study", NULL},              \
        {"geometry", 0, OPTION_TEXT, "TEXT", "measure: a shape in place of a study", NULL},        \
        {"profile", 0, OPTION_TEXT, "NAME", "measure: of a GGUF or shape: what must be loadable",  \
         "gguf-hetero"},                                                                           \
        {"workloads", 'w', OPTION_TEXT, "LIST", "measure: of a GGUF or shape: decode,prefill",     \
         "tg32@b1,pp128@b1"},                                                                      \
        {"to", 0, OPTION_TEXT, "DIR", "measure: of a GGUF or shape: where the tables go", NULL},   \
        {"threads", 't', OPTION_TEXT, "COUNT", "measure: else those of the study, or every core",  \
         NULL},                                                                                    \
        {"held-out", 0, OPTION_TEXT, "COUNT", "measure: further candidates that judge the fit",    \
         "20"},                                                                                    \
        {"rounds", 0, OPTION_TEXT, "COUNT", "measure: times that each candidate runs, at most",    \
         "40"},                                                                                    \
        {"time", 0, OPTION_TEXT, "TIME", "measure: after so long no further round begins", "8min"}, \
    {                                                                                              \
        "seed", 0, OPTION_TEXT, "COUNT", "measure: which candidates are drawn", "1"                \
    }

/* The whole action, printing included; n_points candidates are for the fit.  Exit status. */
int model_measure(const struct options *options, uint64_t n_points, enum show_format format);

#endif
