/* permit_amx.c - whether this process may use matrix tiles.  Linux hands them out on request, since
 * each thread that uses them costs it 8 KiB more to save (Documentation/arch/x86/xstate.rst). */
#include "evaluator/kernels/kernel_sets.h"
#include "space/base/err.h"

#include <cpuid.h>
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };

bool amx_is_there(void)
{
    enum { BF16 = 1 << 22, TILE = 1 << 24, INT8 = 1 << 25, ALL = BF16 | TILE | INT8 };
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & ALL) == ALL;
}

int amx_permit(struct err *err)
{
    if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0)
        return 0;
    err_set(err, ERR_RESOURCE, "kernels amx: the system does not permit matrix tiles: %s",
            strerror(errno));
    return -1;
}
