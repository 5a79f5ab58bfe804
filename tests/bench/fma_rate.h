/* fma_rate.h - what a core can do with floats at best. */
#ifndef KERF_FMA_RATE_H
#define KERF_FMA_RATE_H

#include "evaluator/kernels/kernels.h"

/* Multiply and add in registers alone, with the widest vectors of `isa`, in sums that are more than
 * hide the latency.  Returns the operations done, a multiplication and an addition counting two, at
 * least n of them; 0 where `isa` names no vectors. */
double fma_burst(enum isa isa, double n);

#endif
