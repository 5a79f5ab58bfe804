/* magnitude.h - the order that needs no calibration: parts stay by the squared norm of the columns
 * they feed (W_down for channels, W_o for heads and groups), largest first. */
#ifndef MAGNITUDE_H
#define MAGNITUDE_H

#include "evaluator/compression/keep_order.h"

/* Order `keep` anew, which is whole already; what is kept of the parent then stays as it is
 * (OBS_PLAIN). */
int magnitude_order(struct keep_order *keep, const struct parent *parent, struct err *err);

#endif
