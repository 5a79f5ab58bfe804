/* Which folders of mpirun are swept away, and which are left alone. */
#include "cluster/leftover.h"
#include "cluster/mpi_folder.h"
#include "cluster/run_status.h"
#include "space/base/clock.h"
#include "tests/tap.h"
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char base[] = "/tmp/kerf-mf-XXXXXX";

static const char *below(const char *name, char path[128])
{
    snprintf(path, 128, "%s/%s", base, name);
    return path;
}

static bool is_there(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

static void put_file(const char *folder, const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
}

/* A folder as a killed watchdog leaves it: with a session inside and nobody to hold the lock. */
static void make_orphan(struct mpi_folder *folder)
{
    char path[160];
    mpi_folder_make(folder);
    close(folder->lock);
    snprintf(path, sizeof path, "%s/session", folder->path);
    mkdir(path, 0700);
    put_file(path, "socket");
}

/* A process that carries the mark of a folder, as mpirun and its ranks do. */
static pid_t start_marked(const char *mark)
{
    char text[64], program[] = "sleep", seconds[] = "60";
    char *const argv[] = {program, seconds, NULL}, *const envp[] = {text, NULL};
    pid_t pid = -1;
    snprintf(text, sizeof text, "%s=%s", RUN_MARK, mark);
    if (posix_spawnp(&pid, "sleep", NULL, NULL, argv, envp) != 0)
        return -1;
    /* The spawn returns a moment before the new environment can be read. */
    for (int i = 0; i < 200 && !leftover_is_alive(RUN_MARK, mark); i++)
        clock_nap_ns(10000000);
    return pid;
}

static void test_own(void)
{
    struct mpi_folder folder;
    struct stat info;
    ok(mpi_folder_make(&folder) == 0 && strncmp(folder.path, base, strlen(base)) == 0 &&
           stat(folder.path, &info) == 0 && (info.st_mode & 0777) == 0700,
       "a folder is made below TMPDIR, for this user alone");
    ok(strlen(mpi_folder_mark(&folder)) == 6, "its mark has six letters");
    ok(mpi_folder_sweep() == 0 && is_there(folder.path), "a living watchdog keeps its folder");
    put_file(folder.path, "session");
    mpi_folder_remove(&folder);
    ok(!is_there(folder.path), "and removes it with what is in it");
}

static void test_orphan(void)
{
    struct mpi_folder folder;
    char keep[128], file[128], link[160];
    make_orphan(&folder);
    mkdir(below("keep", keep), 0700);
    put_file(keep, "file");
    snprintf(link, sizeof link, "%s/session/link", folder.path);
    ok(symlink(keep, link) == 0 && mpi_folder_sweep() == 1 && !is_there(folder.path),
       "the folder of a dead watchdog is swept away");
    ok(is_there(below("keep/file", file)), "what a link in it led to stays");

    make_orphan(&folder);
    pid_t pid = start_marked(mpi_folder_mark(&folder));
    ok(pid > 0 && mpi_folder_sweep() == 0 && is_there(folder.path),
       "it stays while a process of its run lives");
    if (pid > 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    ok(mpi_folder_sweep() == 1 && !is_there(folder.path), "and goes when that is dead");
}

static void test_foreign(void)
{
    struct mpi_folder folder;
    char path[128], target[128];
    mkdir(below("kerf-mpi.abcdef", path), 0700);
    put_file(path, "file");
    ok(mpi_folder_sweep() == 0 && is_there(path), "a folder without a lock is not ours to remove");

    make_orphan(&folder);
    rename(folder.path, below("elsewhere", target));
    ok(symlink(target, below("kerf-mpi.ghijkl", path)) == 0 && mpi_folder_sweep() == 0 &&
           is_there(path) && is_there(target),
       "a link with such a name is neither followed nor removed");

    make_orphan(&folder);
    snprintf(target, sizeof target, "%s/watchdog.lock", folder.path);
    unlink(target);
    ok(symlink(below("elsewhere/watchdog.lock", path), target) == 0 && mpi_folder_sweep() == 0 &&
           is_there(folder.path),
       "nor is a lock that is a link taken for one");

    if (geteuid() == 0) {
        make_orphan(&folder);
        ok(chown(folder.path, 12345, 12345) == 0 && mpi_folder_sweep() == 0 &&
               is_there(folder.path),
           "the folder of another user stays");
    }
}

static void test_places(void)
{
    struct mpi_folder folder;
    setenv("TMPDIR", "relative", 1);
    ok(mpi_folder_make(&folder) == 0 && strncmp(folder.path, "/tmp/kerf-mpi.", 14) == 0,
       "a TMPDIR that is no absolute path is not used");
    mpi_folder_remove(&folder);
    ok(!is_there(folder.path), "nothing is left there");
}

int main(void)
{
    char command[64];
    if (mkdtemp(base) == NULL)
        return tap_skip_all("no temporary folder");
    setenv("TMPDIR", base, 1);
    test_own();
    test_orphan();
    test_foreign();
    test_places();
    snprintf(command, sizeof command, "rm -rf %s", base);
    if (system(command) != 0)
        return 1;
    return tap_done();
}
