#include "cli/draft_folder.h"
#include "space/base/err.h"
#include "space/base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
    (void)info;
    (void)kind;
    /* The folder itself goes last, by its holder. */
    if (walk->level > 0 && remove(path) != 0)
        log_warn("draft", "cannot remove %s: %s", path, strerror(errno));
    return 0;
}

static void empty(const char *path)
{
    nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* Whether `fd` is still what `path` names: the holder before us may have removed it meanwhile. */
static bool is_same(int fd, const char *path)
{
    struct stat held, named;
    return fstat(fd, &held) == 0 && lstat(path, &named) == 0 && held.st_ino == named.st_ino &&
           held.st_dev == named.st_dev;
}

/* The folder, made if need be; -1 with `err`. */
static int make(const char *path, struct err *err)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        err_set_errno(err, errno, "cannot make the folder %s", path);
        return -1;
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        err_set(err, ERR_CREATE, "%s: in the way, it is not a folder of ours: %s", path,
                strerror(errno));
    return fd;
}

int draft_folder_open(struct draft_folder *folder, const char *path, struct err *err)
{
    if (snprintf(folder->path, sizeof folder->path, "%s", path) >= (int)sizeof folder->path) {
        err_set(err, ERR_CREATE, "%.64s...: the path is too long", path);
        return -1;
    }
    do {
        folder->fd = make(path, err);
        if (folder->fd < 0)
            return -1;
        if (flock(folder->fd, LOCK_EX | LOCK_NB) != 0) {
            err_set(err, ERR_RESOURCE, "%s: another process is at work in it; wait for its end",
                    path);
            close(folder->fd);
            return -1;
        }
        if (is_same(folder->fd, path))
            break;
        close(folder->fd);
    } while (true);
    empty(path);
    return 0;
}

void draft_folder_close(struct draft_folder *folder)
{
    empty(folder->path);
    if (rmdir(folder->path) != 0)
        log_warn("draft", "cannot remove %s: %s", folder->path, strerror(errno));
    close(folder->fd);
}
