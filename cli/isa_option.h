/* isa_option.h - the option of every command that computes: which kernels. */
#ifndef KERF_ISA_OPTION_H
#define KERF_ISA_OPTION_H

#include "cli/option.h"

#define ISA_ROW                                                                                    \
    {                                                                                              \
        "isa", 0, OPTION_TEXT, "NAME", "kernels: ref, avx2, avx512-vnni, amx; else the fastest",   \
            NULL                                                                                   \
    }

/* Make the choice, for this process and its children.  ERR_USAGE for a name that is none,
 * ERR_RESOURCE where this machine lacks it. */
int isa_option_apply(const struct options *options, struct err *err);

#endif
