/* clock.h - the monotonic clock, in nanoseconds, and naps. */
#ifndef KERF_CLOCK_H
#define KERF_CLOCK_H

#include <stdint.h>

/* Nanoseconds of CLOCK_MONOTONIC. */
int64_t clock_now_ns(void);
/* Seconds since 1970, for records that people read. */
int64_t clock_wall_s(void);
/* Sleep at least `ns`; returns early on a signal. */
void clock_nap_ns(int64_t ns);

#endif
