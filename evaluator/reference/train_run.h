/* train_run.h - one training from options to the finished model: the loop that joins windows,
 * gradients, optimizer, judgement and checkpoints. */
#ifndef TRAIN_RUN_H
#define TRAIN_RUN_H

#include <signal.h>

struct err;
struct train_options;

/* Train until the schedule ends (0) or *stop becomes non-zero (-1, ERR_STOPPED, saved).  Other
 * failures: files, memory, and ERR_DATA when the loss is not finite (the last checkpoint stays).
 *
 * Threads take sequences as they become free, so the order in which gradients are added, and with
 * it the last bits of a run, vary from run to run; on a busy machine that is worth a lot of time.
 */
int train_run(const struct train_options *options, const volatile sig_atomic_t *stop,
              struct err *err);

#endif
