/* draft_folder.h - a folder of large files that live only as long as a command: held by one process
 * at a time, removed at the end; what a killed one left is removed by the next. */
#ifndef KERF_DRAFT_FOLDER_H
#define KERF_DRAFT_FOLDER_H

struct err;

#define DRAFT_PATH_MAX 1024

struct draft_folder {
    char path[DRAFT_PATH_MAX];
    int fd; /* holds the lock */
};

/* Make `path` (its parents must be there), empty it, hold it.  ERR_RESOURCE when another process
 * does, ERR_CREATE when there is something that is no folder. */
int draft_folder_open(struct draft_folder *folder, const char *path, struct err *err);
/* Remove it with all that is in it. */
void draft_folder_close(struct draft_folder *folder);

#endif
