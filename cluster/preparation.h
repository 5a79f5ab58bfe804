/* preparation.h - what a study needs of its parent before anything is compressed or judged: the
 * calibration, the order in which parts are kept (of each basis), and the parent's states on the
 * held-out tokens. Each is a file in tables/, found there by its content or made. */
#ifndef KERF_PREPARATION_H
#define KERF_PREPARATION_H

#include "cluster/workbench.h"

struct err;

struct preparation {
    enum calibration_origin calibration;
    bool is_diagonal;               /* the calibration is of an importance matrix */
    bool order_made, states_made;   /* else they were there */
    uint32_t n_tokens, n_sequences; /* of the calibration */
    double calibration_s, order_s, states_s;
};

/* Where the order of this study is. */
const char *preparation_order_path(const struct study *study, char path[STUDY_PATH_MAX]);

/* A calibration file whose name says so (study_has_matrix) is an importance matrix, no text.
 * Calibration, order (and the parent in its other bases), then the states; the node is held for
 * work meanwhile.  Errors of calibration_ensure, keep_order_open and parent_states_make; what is
 * done stays. */
int preparation_make(struct workbench *bench, const struct calibration_options *options,
                     struct preparation *done, struct err *err);

#endif
