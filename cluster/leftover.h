/* leftover.h - what a run that died badly leaves on its node: processes that nobody waits for any
 * more, and shared segments of killed ranks (mpi.md section 2). */
#ifndef KERF_LEFTOVER_H
#define KERF_LEFTOVER_H

#include <stdbool.h>
#include <stdint.h>

/* Kill every process, this one excepted, whose environment holds the text NAME=VALUE, and wait a
 * moment until they are gone.  Returns how many were found. */
unsigned leftover_kill(const char *name, const char *value);

/* Whether a process was started with NAME=VALUE in its environment. */
bool leftover_is_alive(const char *name, const char *value);

/* Remove this user's segments of Open MPI's shared-memory transport that came into being since
 * `begun_wall_s` and are mapped by no living process: another run may be alive. */
void leftover_remove_segments(int64_t begun_wall_s);

#endif
