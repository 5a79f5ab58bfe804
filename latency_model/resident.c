#include "latency_model/resident.h"

#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

/* Pages of files that are mapped to be read and shared: nothing is lost with them.  Private ones may be
 * another's, such as what the dynamic linker has written. */
static void let_pages_go(void)
{
    char line[512], rights[8];
    uintptr_t begin, end;
    FILE *maps = fopen("/proc/self/maps", "re");

    while (maps != NULL && fgets(line, sizeof line, maps) != NULL)
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %7s", &begin, &end, rights) == 3 &&
            rights[0] == 'r' && rights[1] == '-' && rights[2] == '-' && rights[3] == 's')
            (void)madvise((void *)begin, end - begin, MADV_DONTNEED);
    if (maps != NULL)
        fclose(maps);
}

/* "5": the peak becomes what is resident now (proc(5)). */
static bool forget_peak(void)
{
    int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    bool done = fd >= 0 && write(fd, "5", 1) == 1;

    if (fd >= 0)
        close(fd);
    return done;
}

bool resident_begin(void)
{
    (void)malloc_trim(0);
    let_pages_go();
    return forget_peak();
}

double resident_peak(void)
{
    char line[256];
    double kib = NAN;
    FILE *status = fopen("/proc/self/status", "re");

    while (status != NULL && fgets(line, sizeof line, status) != NULL)
        if (sscanf(line, "VmHWM: %lf kB", &kib) == 1)
            break;
    if (status != NULL)
        fclose(status);
    return kib * 1024;
}
