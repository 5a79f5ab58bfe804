/* train_backend.c - which backend runs here. */
#include "evaluator/reference/train_backend.h"

const struct train_backend *train_backend_best(const struct train_heads *heads, const char **why)
{
    const struct train_backend *amx = train_backend_amx(why);
    if (amx == NULL)
        return &train_backend_f32;
    if (!amx->attention_fits(heads)) {
        *why = "tiles need a context and a head size that are multiples of 32";
        return &train_backend_f32;
    }
    return amx;
}
