/* baseline.h - what a sweep compares with: a folder with a kerf that ran, the models that it was
 * run on, and what it found.
 *
 *   kerf            the program, as it was
 *   <id>.gguf       members of the front
 *   baseline.json   {"schema": 1, "version", "device", "kernels", "parent", "tokens",
 *                    "items": [{"id", "genome", "weights", "kld"}]}; written last
 *
 * The program in it will be started: keep the folder as safe as the programs on PATH. */
#ifndef KERF_BASELINE_H
#define KERF_BASELINE_H

#include "space/base/hash.h"
#include "space/study.h"

struct err;

#define BASELINE_MAX_ITEMS 64

struct baseline_item {
    struct id128 id;
    char *genome;           /* canonical text */
    struct hash256 weights; /* parent_hash of the file */
    double kld;             /* over `tokens` held-out tokens */
};

struct baseline {
    char dir[STUDY_PATH_MAX];
    char version[32], device[128], kernels[64];
    struct hash256 parent;
    uint64_t tokens;
    size_t n;
    struct baseline_item item[BASELINE_MAX_ITEMS];
};

/* Write baseline.json into baseline->dir. */
int baseline_save(const struct baseline *baseline, struct err *err);
/* ERR_MISSING where DIR has none (remedy: --save), ERR_DATA where it is damaged. */
int baseline_load(struct baseline *baseline, const char *dir, struct err *err);
void baseline_fini(struct baseline *baseline); /* a zeroed struct is fine */

/* Paths of an item's model and of the program. */
const char *baseline_model(const struct baseline *baseline, size_t item,
                           char path[STUDY_PATH_MAX + 48]);
const char *baseline_program(const struct baseline *baseline, char path[STUDY_PATH_MAX + 48]);

#endif
