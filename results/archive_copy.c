/* archive_copy.c - a compact copy, made while the writer works, in place of the one before. */
#include "results/archive_parts.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The copy must never replace the database that it is made from. */
static int refuse_self(const struct archive *archive, const char *dir, struct err *err)
{
    struct stat a, b;
    if (stat(archive->dir, &a) != 0 || stat(dir, &b) != 0 || a.st_dev != b.st_dev ||
        a.st_ino != b.st_ino)
        return 0;
    err_set(err, ERR_USAGE, "%s: an archive cannot be copied onto itself; name another folder",
            dir);
    return -1;
}

/* A reader that is behind a grown map is told so; with nothing else open it may catch up. */
static int copy_to(struct archive *archive, int fd)
{
    int rc = mdb_env_copyfd2(archive->env, fd, MDB_CP_COMPACT);
    if (rc != MDB_MAP_RESIZED || archive->n_readers > 0)
        return rc;
    if ((rc = mdb_env_set_mapsize(archive->env, 0)) == 0 &&
        (rc = lseek(fd, 0, SEEK_SET) < 0 ? errno : 0) == 0 && (rc = ftruncate(fd, 0)) == 0)
        rc = mdb_env_copyfd2(archive->env, fd, MDB_CP_COMPACT);
    return rc;
}

/* Some network file systems cannot sync a folder; the copy is there all the same. */
static void sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0)
        log_warn("archive", "cannot sync %s: %s", dir, strerror(errno));
    if (fd >= 0)
        close(fd);
}

int archive_copy(struct archive *archive, const char *dir, struct err *err)
{
    char path[4096 + 16], temp[4096 + 32];
    if (strlen(dir) >= 4096) {
        err_set(err, ERR_CREATE, "%.64s...: the path is too long", dir);
        return -1;
    }
    if (file_make_dirs(dir, err) != 0 || refuse_self(archive, dir, err) != 0)
        return -1;
    snprintf(path, sizeof path, "%s/data.mdb", dir);
    /* Always the same name: what a killed copy left behind is written over by the next. */
    snprintf(temp, sizeof temp, "%s.new", path);
    int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) {
        err_set_errno(err, errno, "%s", temp);
        return -1;
    }
    int rc = copy_to(archive, fd);
    if (rc == 0 && fsync(fd) != 0)
        rc = errno;
    if (close(fd) != 0 && rc == 0)
        rc = errno;
    if (rc == 0 && rename(temp, path) != 0)
        rc = errno;
    if (rc != 0) {
        unlink(temp);
        return archive_fail(archive, rc, "copying", err);
    }
    sync_dir(dir);
    return 0;
}
