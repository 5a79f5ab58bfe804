/* resident.h - how much memory a process takes while it does one thing (Linux).
 *
 * A process that has done other things before has more than that in memory: what it freed and the
 * allocator kept, and pages of files that it mapped and read.  Before a peak is taken both are
 * given back; whoever needs pages of a file again finds them in the page cache.  What stays in all
 * cases is the program with its libraries and whatever is still allocated. */
#ifndef KERF_RESIDENT_H
#define KERF_RESIDENT_H

#include <stdbool.h>

/* Give back what is not in use and forget the peak so far.  False where the system does not let a process
 * do so: then there is no figure. */
bool resident_begin(void);
/* The most bytes that were resident since then; NAN where the system does not tell. */
double resident_peak(void);

#endif
