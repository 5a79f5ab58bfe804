/* archive_guard.c - whether the pages of an archive can be followed at all.
 *
 * LMDB trusts its file: a page that lies beyond the end, or a page number that was damaged, ends
 * the process that follows it (SIGBUS, SIGSEGV, or an assertion).  So a child process goes first:
 * it opens the environment by itself and touches every byte that can be reached. */
#include "results/archive_parts.h"
#include "space/base/err.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static int touch_db(MDB_txn *txn, MDB_dbi db, volatile unsigned *sum)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    int rc = mdb_cursor_open(txn, db, &cursor);
    if (rc != 0)
        return rc;
    for (rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST); rc == 0;
         rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        for (size_t i = 0; i < key.mv_size; i++)
            *sum += ((const uint8_t *)key.mv_data)[i];
        for (size_t i = 0; i < value.mv_size; i++)
            *sum += ((const uint8_t *)value.mv_data)[i];
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* The unnamed database lists the named ones; LMDB's own database 0 lists the free pages. */
static int touch_all(MDB_env *env)
{
    volatile unsigned sum = 0;
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_dbi main_db, db;
    MDB_val key, value;
    int rc = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);
    if (rc != 0)
        return rc;
    rc = mdb_dbi_open(txn, NULL, 0, &main_db);
    if (rc == 0)
        rc = touch_db(txn, 0, &sum);
    if (rc == 0 && (rc = mdb_cursor_open(txn, main_db, &cursor)) == 0) {
        for (rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST); rc == 0;
             rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
            char name[64];
            if (key.mv_size >= sizeof name)
                continue;
            memcpy(name, key.mv_data, key.mv_size);
            name[key.mv_size] = '\0';
            if ((rc = mdb_dbi_open(txn, name, 0, &db)) != 0 || (rc = touch_db(txn, db, &sum)) != 0)
                break;
        }
        if (rc == MDB_NOTFOUND)
            rc = 0;
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    return rc;
}

/* In the child: exit status 0 sound, 1 LMDB says no. */
static void guard_child(const char *dir)
{
    static const int fatal[] = {SIGBUS, SIGSEGV, SIGABRT, SIGILL, SIGFPE};
    struct rlimit no_core = {0, 0};
    MDB_env *env;
    setrlimit(RLIMIT_CORE, &no_core);
    for (size_t i = 0; i < sizeof fatal / sizeof fatal[0]; i++)
        signal(fatal[i], SIG_DFL);
    /* What dies here is told by the parent; LMDB's own last words are not. */
    int null = open("/dev/null", O_WRONLY);
    if (null >= 0)
        dup2(null, STDERR_FILENO);
    int rc = mdb_env_create(&env);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(env, 2 * N_ARCHIVE_DBS);
    if (rc == 0)
        rc = mdb_env_open(env, dir, MDB_RDONLY | MDB_NOTLS, 0644);
    if (rc == EACCES || rc == EROFS) {
        mdb_env_close(env);
        rc = mdb_env_create(&env);
        if (rc == 0)
            rc = mdb_env_set_maxdbs(env, 2 * N_ARCHIVE_DBS);
        if (rc == 0)
            rc = mdb_env_open(env, dir, MDB_RDONLY | MDB_NOTLS | MDB_NOLOCK, 0644);
    }
    _exit(rc == 0 && touch_all(env) == 0 ? 0 : 1);
}

int archive_guard(const char *dir, struct err *err)
{
    pid_t child = fork();
    if (child == 0)
        guard_child(dir);
    if (child < 0) {
        err_set_errno(err, errno, "%s: cannot start a process to read it", dir);
        return -1;
    }
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) {
            err_set_errno(err, errno, "%s: lost the process that read it", dir);
            return -1;
        }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    err_set(err, ERR_DATA,
            "%s: the archive is damaged: its pages cannot be read to the end (a truncated file?); "
            "put a copy of it back",
            dir);
    return -1;
}
