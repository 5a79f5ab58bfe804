#include "tests/bench/bench_program.h"

#include "space/base/err.h"

#include <stdio.h>
#include <stdlib.h>

int bench_program_run(const struct bench_program *program, int argc, char **argv)
{
    struct err err = {0};

    if (argc < 4) {
        fprintf(stderr, "usage: %s MODEL.gguf CALIBRATION HELDOUT %s\n", program->name,
                program->more);
        return 2;
    }
    struct bench *bench = calloc(1, program->size);
    if (bench == NULL) {
        fprintf(stderr, "%s: out of memory\n", program->name);
        return 1;
    }
    int status =
        program->open(bench, argc, argv, &err) == 0 && program->run(bench, &err) == 0 ? 0 : 1;
    if (status != 0)
        fprintf(stderr, "%s: %s\n", program->name, err.text);
    program->close(bench);
    free(bench);
    return status;
}
