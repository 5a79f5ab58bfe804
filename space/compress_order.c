#include "space/compress_order.h"

#include <string.h>

static const char *const names[N_COMPRESS_ORDERS] = {"prune-quantize", "quantize-prune"};

const char *compress_order_name(enum compress_order order)
{
    return (unsigned)order < N_COMPRESS_ORDERS ? names[order] : "unknown";
}

enum compress_order compress_order_parse(const char *name)
{
    for (int o = 0; o < N_COMPRESS_ORDERS; o++)
        if (strcmp(names[o], name) == 0)
            return (enum compress_order)o;
    return N_COMPRESS_ORDERS;
}
