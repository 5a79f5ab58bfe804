#include "cluster/mpi_folder.h"
#include "cluster/leftover.h"
#include "cluster/run_status.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME      "kerf-mpi."
#define MARK_SIZE 6
#define LOCK      "watchdog.lock"
#define DEPTH_MAX 32 /* mpirun's session is five levels deep */

static const char *base_folder(void)
{
    const char *folder = getenv("TMPDIR");
    bool fits = folder != NULL && folder[0] == '/' && strlen(folder) <= 40;
    return fits ? folder : "/tmp";
}

const char *mpi_folder_mark(const struct mpi_folder *folder)
{
    return strrchr(folder->path, '.') + 1;
}

/* The lock gets its name when it is held: who finds it free knows that its holder is gone. */
static int take_lock(const char *folder)
{
    char draft[96], path[96];
    snprintf(draft, sizeof draft, "%s/" LOCK ".new", folder);
    snprintf(path, sizeof path, "%s/" LOCK, folder);
    int fd = open(draft, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && rename(draft, path) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

int mpi_folder_make(struct mpi_folder *folder)
{
    snprintf(folder->path, sizeof folder->path, "%s/" NAME "XXXXXX", base_folder());
    if (mkdtemp(folder->path) == NULL)
        return -1;
    folder->lock = take_lock(folder->path);
    return 0;
}

/* --- removing --- */

static int open_folder(int at, const char *name)
{
    return openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* Remove what is in the folder `fd`, which is closed, but for an entry called `spared`.  What
 * resists stays. */
static void empty_folder(int fd, const char *spared, int depth)
{
    DIR *folder = fdopendir(fd);
    const struct dirent *entry;
    if (folder == NULL)
        close(fd);
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, spared) == 0 ||
            unlinkat(fd, name, 0) == 0)
            continue;
        int inner = depth > 0 ? open_folder(fd, name) : -1;
        if (inner >= 0)
            empty_folder(inner, "", depth - 1);
        unlinkat(fd, name, AT_REMOVEDIR);
    }
    if (folder != NULL)
        closedir(folder);
}

/* The lock goes last: a folder that is half removed can still be told from a foreign one. */
static void remove_folder(int at, const char *name)
{
    int fd = open_folder(at, name), inside = fd >= 0 ? dup(fd) : -1;
    if (inside >= 0)
        empty_folder(inside, LOCK, DEPTH_MAX);
    if (fd >= 0) {
        unlinkat(fd, LOCK, 0);
        unlinkat(at, name, AT_REMOVEDIR);
        close(fd);
    }
}

void mpi_folder_remove(struct mpi_folder *folder)
{
    remove_folder(AT_FDCWD, folder->path);
    if (folder->lock >= 0)
        close(folder->lock);
    folder->lock = -1;
}

/* --- sweeping --- */

/* Descriptor of the lock of a folder that belongs to nobody, now ours; -1 otherwise. */
static int take_over(int at, const char *name)
{
    struct stat info;
    int fd = -1, folder = open_folder(at, name);
    if (folder >= 0 && fstat(folder, &info) == 0 && info.st_uid == geteuid())
        fd = openat(folder, LOCK, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (folder >= 0)
        close(folder);
    if (fd >= 0 &&
        (flock(fd, LOCK_EX | LOCK_NB) != 0 || leftover_is_alive(RUN_MARK, name + strlen(NAME)))) {
        close(fd);
        fd = -1;
    }
    return fd;
}

unsigned mpi_folder_sweep(void)
{
    DIR *base = opendir(base_folder());
    const struct dirent *entry;
    unsigned n = 0;
    while (base != NULL && (entry = readdir(base)) != NULL) {
        if (strncmp(entry->d_name, NAME, strlen(NAME)) != 0 ||
            strlen(entry->d_name) != strlen(NAME) + MARK_SIZE)
            continue;
        int lock = take_over(dirfd(base), entry->d_name);
        if (lock < 0)
            continue;
        remove_folder(dirfd(base), entry->d_name);
        close(lock);
        n++;
    }
    if (base != NULL)
        closedir(base);
    return n;
}
