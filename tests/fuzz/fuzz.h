/* fuzz.h - what a fuzz target is, and the two ways to run one.
 *
 * A target defines the two functions below.  With fuzz_driver.c it is a program that ctest runs
 * for a few seconds: seeded mutations of the target's own sample, the same on every machine.  For
 * hours of search, build it with libFuzzer in place of the driver:
 *
 *     clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -I. tests/fuzz/fuzz_gguf.c \
 *         evaluator/formats/gguf*.c evaluator/tokenizer*.c space/format.c \
 *         space/base/{err,file,hash,log}.c -lm
 */
#ifndef KERF_FUZZ_H
#define KERF_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Use the bytes as the program would.  Returns 0; what goes wrong must stop the process. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

/* A small valid input from which mutations start; from malloc, yours to free. */
uint8_t *fuzz_sample(size_t *n_bytes);

#endif
