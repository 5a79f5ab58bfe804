/* quiet.h - silence on a node while somebody measures.
 * Two advisory locks of the kernel on one file of the node, so that a killed process releases them:
 * whoever works holds the node shared and lets go at short steps (a chunk of tokens, a variant);
 * whoever probes holds it alone.  A probe that waits closes a gate first, so that workers cannot
 * starve it: they stop at their next step, nobody has to be signalled. */
#ifndef KERF_QUIET_H
#define KERF_QUIET_H

struct err;
struct quiet;

/* Files of one user and node live in $XDG_RUNTIME_DIR or /tmp (or KERF_QUIET_DIR). */
const char *quiet_folder(void);
struct quiet *quiet_open(struct err *err);
void quiet_close(struct quiet *quiet); /* NULL is fine; releases */

/* Work: waits while somebody probes.  Step = release and take again if somebody waits. */
int quiet_work_begin(struct quiet *quiet, struct err *err);
int quiet_work_step(struct quiet *quiet, struct err *err);
void quiet_work_end(struct quiet *quiet);

/* Probe: waits until every worker of the node has stepped aside. */
int quiet_probe_begin(struct quiet *quiet, struct err *err);
void quiet_probe_end(struct quiet *quiet);

#endif
