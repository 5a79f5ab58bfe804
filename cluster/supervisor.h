/* supervisor.h - a worker: holds one lease, runs it in a child, beats, answers.  Speaks through a
 * link, never touches a model.  One step is short and never blocks longer than `nap_ms`. */
#ifndef KERF_SUPERVISOR_H
#define KERF_SUPERVISOR_H

#include "cluster/child.h"
#include "cluster/link.h"

struct supervisor;

struct supervisor *supervisor_create(struct link *link, const struct child_options *options,
                                     struct err *err);
void supervisor_destroy(struct supervisor *supervisor); /* kills the child */

/* Whether a child is at work. */
bool supervisor_is_busy(const struct supervisor *supervisor);

/* 1: go on; 0: STOP received; -1: the master fell silent or the link broke. */
int supervisor_step(struct supervisor *supervisor, int nap_ms, struct err *err);

#endif
