#include "latency_model/quiet.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Two files: `room` is held shared by those who work and alone by the one who probes; `gate` is
 * held for a moment by whoever wants to enter the room, and by a waiting prober all the while, so
 * that nobody enters before it. */
struct quiet {
    int gate, room;
};

static int open_lock(const char *dir, const char *name, struct err *err)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/kerf-%s.%ld.lock", dir, name, (long)getuid());
    /* Never follow a link that somebody planted in a shared folder. */
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        err_set_errno(err, errno,
                      "%s: cannot open the node's lock (KERF_QUIET_DIR names another "
                      "folder)",
                      path);
    return fd;
}

const char *quiet_folder(void)
{
    const char *named = getenv("KERF_QUIET_DIR"), *session = getenv("XDG_RUNTIME_DIR");
    /* A folder that was asked for is used or refused, never quietly replaced. */
    return named != NULL && named[0] != '\0'         ? named
           : session != NULL && file_exists(session) ? session
                                                     : "/tmp";
}

struct quiet *quiet_open(struct err *err)
{
    const char *dir = quiet_folder();
    struct quiet *quiet = malloc(sizeof *quiet);
    if (quiet == NULL) {
        err_set(err, ERR_MEMORY, "quiet: out of memory");
        return NULL;
    }
    quiet->gate = open_lock(dir, "gate", err);
    quiet->room = quiet->gate < 0 ? -1 : open_lock(dir, "room", err);
    if (quiet->room < 0) {
        quiet_close(quiet);
        return NULL;
    }
    return quiet;
}

void quiet_close(struct quiet *quiet)
{
    if (quiet == NULL)
        return;
    if (quiet->room >= 0)
        close(quiet->room);
    if (quiet->gate >= 0)
        close(quiet->gate);
    free(quiet);
}

static int lock(int fd, int how, struct err *err)
{
    while (flock(fd, how) != 0)
        if (errno != EINTR) {
            err_set_errno(err, errno, "cannot lock the node for a quiet measurement");
            return -1;
        }
    return 0;
}

/* Through the gate, then into the room. */
static int enter(struct quiet *quiet, int how, struct err *err)
{
    if (lock(quiet->gate, LOCK_EX, err) != 0)
        return -1;
    int status = lock(quiet->room, how, err);
    flock(quiet->gate, LOCK_UN);
    return status;
}

int quiet_work_begin(struct quiet *quiet, struct err *err)
{
    return enter(quiet, LOCK_SH, err);
}

int quiet_work_step(struct quiet *quiet, struct err *err)
{
    /* An open gate means that nobody waits: stay in the room. */
    if (flock(quiet->gate, LOCK_EX | LOCK_NB) == 0) {
        flock(quiet->gate, LOCK_UN);
        return 0;
    }
    quiet_work_end(quiet);
    return quiet_work_begin(quiet, err);
}

void quiet_work_end(struct quiet *quiet)
{
    flock(quiet->room, LOCK_UN);
}

int quiet_probe_begin(struct quiet *quiet, struct err *err)
{
    return enter(quiet, LOCK_EX, err);
}

void quiet_probe_end(struct quiet *quiet)
{
    flock(quiet->room, LOCK_UN);
}
