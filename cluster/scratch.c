#include "cluster/scratch.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The folder that the study's `scratch` file names, or the study itself. */
static void scratch_dir(const struct study *study, char dir[STUDY_PATH_MAX])
{
    char path[STUDY_PATH_MAX];
    size_t length = 0;
    char *line = file_read(study_path(study, "scratch", path), STUDY_PATH_MAX - 1, &length, NULL);
    if (line != NULL)
        line[strcspn(line, "\n")] = '\0';
    snprintf(dir, STUDY_PATH_MAX, "%s", line != NULL && line[0] == '/' ? line : study->dir);
    free(line);
}

const char *scratch_path(const struct study *study, const char *name, char path[STUDY_PATH_MAX])
{
    char dir[STUDY_PATH_MAX];
    scratch_dir(study, dir);
    if (snprintf(path, STUDY_PATH_MAX, "%s/%s", dir, name) >= STUDY_PATH_MAX)
        path[0] = '\0'; /* opening it fails with a clear word */
    return path;
}

int scratch_choose(const struct study *study, const char *dir, struct err *err)
{
    char wanted[4096], now[STUDY_PATH_MAX], path[STUDY_PATH_MAX], archive[STUDY_PATH_MAX];
    if (file_make_dirs(dir, err) != 0)
        return -1;
    if (realpath(dir, wanted) == NULL || strlen(wanted) + 2 > STUDY_PATH_MAX) {
        err_set(err, ERR_CREATE, "--scratch %s: not a usable folder", dir);
        return -1;
    }
    scratch_dir(study, now);
    if (strcmp(now, wanted) == 0)
        return 0;
    if (file_exists(scratch_path(study, "archive/data.mdb", archive))) {
        err_set(err, ERR_CONFIG,
                "--scratch %s: the study's archive is already in %s; leave the "
                "option out or name that folder",
                dir, now);
        return -1;
    }
    size_t length = strlen(wanted);
    wanted[length] = '\n';
    return file_replace(study_path(study, "scratch", path), wanted, length + 1, err);
}
