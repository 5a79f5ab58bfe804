#include "cluster/leftover.h"
#include "space/base/clock.h"
#include "space/base/file.h"
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROC_MAX (4 << 20) /* of one file below /proc */
#define KILL_S   5

/* Call `visit` with every process of this machine until it returns false. */
static void each_process(bool (*visit)(void *arg, pid_t pid), void *arg)
{
    DIR *folder = opendir("/proc");
    const struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        long pid = strtol(entry->d_name, NULL, 10);
        if (pid > 0 && !visit(arg, (pid_t)pid))
            break;
    }
    if (folder != NULL)
        closedir(folder);
}

/* Whether /proc/PID/FILE holds `wanted`; a process that may not be looked at holds nothing. */
static bool proc_holds(pid_t pid, const char *file, const char *wanted, size_t length)
{
    char path[64];
    size_t n = 0;
    snprintf(path, sizeof path, "/proc/%ld/%s", (long)pid, file);
    char *text = file_read(path, PROC_MAX, &n, NULL);
    bool holds = text != NULL && memmem(text, n, wanted, length) != NULL;
    free(text);
    return holds;
}

/* --- processes --- */

struct mark {
    char text[256];
    size_t length; /* with its NUL: variables end with one */
    unsigned n_found;
};

static void mark_init(struct mark *mark, const char *name, const char *value)
{
    mark->length = (size_t)snprintf(mark->text, sizeof mark->text, "%s=%s", name, value) + 1;
    mark->n_found = 0;
}

static bool find_marked(void *arg, pid_t pid)
{
    struct mark *mark = arg;
    mark->n_found += proc_holds(pid, "environ", mark->text, mark->length);
    return mark->n_found == 0;
}

bool leftover_is_alive(const char *name, const char *value)
{
    struct mark mark;
    mark_init(&mark, name, value);
    each_process(find_marked, &mark);
    return mark.n_found > 0;
}

static bool kill_marked(void *arg, pid_t pid)
{
    struct mark *mark = arg;
    if (pid != getpid() && proc_holds(pid, "environ", mark->text, mark->length)) {
        mark->n_found++;
        kill(pid, SIGKILL);
    }
    return true;
}

unsigned leftover_kill(const char *name, const char *value)
{
    struct mark mark;
    unsigned n_first = 0;
    int64_t end = clock_now_ns() + KILL_S * 1000000000ll;
    mark_init(&mark, name, value);
    for (;;) {
        mark.n_found = 0;
        each_process(kill_marked, &mark);
        n_first = n_first > mark.n_found ? n_first : mark.n_found;
        if (mark.n_found == 0 || clock_now_ns() > end)
            return n_first;
        clock_nap_ns(20000000);
    }
}

/* --- segments --- */

struct segment {
    const char *name;
    bool mapped;
};

static bool look_for_map(void *arg, pid_t pid)
{
    struct segment *segment = arg;
    segment->mapped = proc_holds(pid, "maps", segment->name, strlen(segment->name));
    return !segment->mapped;
}

void leftover_remove_segments(int64_t begun_wall_s)
{
    DIR *folder = opendir("/dev/shm");
    const struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        struct segment segment = {.name = entry->d_name};
        struct stat info;
        if (strncmp(entry->d_name, "vader_segment.", 14) != 0 ||
            fstatat(dirfd(folder), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 ||
            info.st_uid != geteuid() || info.st_ctime < begun_wall_s)
            continue;
        each_process(look_for_map, &segment);
        if (!segment.mapped)
            unlinkat(dirfd(folder), entry->d_name, 0);
    }
    if (folder != NULL)
        closedir(folder);
}
