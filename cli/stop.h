/* stop.h - being asked to stop, by SIGINT or SIGTERM.  One request ends a command in good order,
 * three leave at once with exit code 75. */
#ifndef KERF_STOP_H
#define KERF_STOP_H

#include <signal.h>

/* From here on requests are counted rather than fatal. */
void stop_catch(void);
/* Requests so far; the same address for as long as the process lives. */
const volatile sig_atomic_t *stop_requests(void);

#endif
