/* polisher.h - a member of a study polished on the study's calibration text, and both models
 * measured on its held-out tokens (evaluator/compression/polish.h). */
#ifndef KERF_POLISHER_H
#define KERF_POLISHER_H

#include "cli/exporter.h"
#include "evaluator/compression/polish.h"
#include "evaluator/quality/quality.h"
#include "evaluator/tokenizer.h"
#include "latency_model/quiet.h"

/* What both models have been given. */
struct polisher_score {
    struct quality quality;       /* on the study's final held-out tokens */
    double accuracy, accuracy_se; /* mean of the tasks; NAN without tasks */
};

struct polisher {
    struct exporter *exporter; /* borrowed, as is what it reads */
    const struct front_member *member;
    const struct kernels *kernels;
    struct quiet *quiet;
    struct team *team;
    struct tokenizer *tokenizer;
    struct token_set text, heldout;
    struct parent_states *states;
    struct model *parent, *candidate;

    /* Behind polisher_run. */
    struct polish_plan plan;
    struct polished polished;
    struct polisher_score before, after;
    double kld_change, kld_change_se; /* after - before, paired by sequence */
};

/* Open all that is needed for `n_tokens` of the calibration text, and see that the member can be
 * exported.  ERR_DATA when a file is not what the study was searched with; ERR_MISSING. */
int polisher_open(struct polisher *polisher, struct exporter *exporter,
                  const struct front_member *member, uint64_t n_tokens, struct err *err);
void polisher_close(struct polisher *polisher); /* a zeroed struct is fine */

/* Polish and measure: minutes.  Where no matrix was made anew (polished.n_changed is 0) nothing
 * more is measured.  Steps aside for probes on this machine (quiet.h). */
int polisher_run(struct polisher *polisher, struct err *err);

#endif
