#include "cli/isa_option.h"
#include "evaluator/kernels/kernels.h"
#include "space/base/err.h"
#include <stdlib.h>

int isa_option_apply(const struct options *options, struct err *err)
{
    const char *name = option_text(options, "isa");
    if (name != NULL && setenv(KERNELS_VARIABLE, name, 1) != 0) {
        err_set(err, ERR_MEMORY, "--isa: out of memory");
        return -1;
    }
    if (kernels_check_variable(err) == 0)
        return 0;
    err_prefix(err, name != NULL ? "--isa" : KERNELS_VARIABLE);
    return -1;
}
