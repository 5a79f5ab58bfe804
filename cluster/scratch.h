/* scratch.h - where a study's archive/ and store/ live: inside the study, or in a folder on
 * node-local disk that `kerf search --scratch DIR` named (a study may lie on NFS, LMDB never).
 * The choice is kept in the study's file `scratch` (one line, an absolute path), so that every
 * later command finds the archive without being told again. */
#ifndef KERF_SCRATCH_H
#define KERF_SCRATCH_H

#include "space/study.h"

struct err;

/* Use DIR from now on.  ERR_CONFIG when the study already has an archive somewhere else: moving it
 * is `kerf archive` business, not a side effect. */
int scratch_choose(const struct study *study, const char *dir, struct err *err);

/* Path of "archive" or "store" under the chosen folder. */
const char *scratch_path(const struct study *study, const char *name, char path[STUDY_PATH_MAX]);

#endif
