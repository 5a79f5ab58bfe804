/* test_log.c - lines on stderr, read back through a pipe. */
#include "space/base/log.h"
#include "tests/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static char heard[8192];
static int pipe_ends[2], stderr_kept;

static void listen_begin(void)
{
    if (pipe(pipe_ends) != 0)
        abort();
    stderr_kept = dup(STDERR_FILENO);
    dup2(pipe_ends[1], STDERR_FILENO);
    close(pipe_ends[1]);
}

/* What was said since listen_begin; all of it fits the pipe. */
static const char *listen_end(void)
{
    size_t used = 0;
    ssize_t n;

    dup2(stderr_kept, STDERR_FILENO);
    close(stderr_kept);
    while ((n = read(pipe_ends[0], heard + used, sizeof heard - 1 - used)) > 0)
        used += (size_t)n;
    close(pipe_ends[0]);
    heard[used] = '\0';
    return heard;
}

int main(void)
{
    char long_text[5000];

    ok(log_level() == LOG_INFO, "the level starts at info");

    listen_begin();
    log_setup(LOG_INFO, -1);
    log_info("archive", "opened path=%s n=%d", "a.mdb", 3);
    is_text(listen_end(), "kerf info archive: opened path=a.mdb n=3\n",
            "a line names level and module");

    listen_begin();
    log_setup(LOG_WARN, 2);
    log_error("worker", "died");
    log_warn("worker", "slow");
    log_info("worker", "fine");
    log_debug("worker", "very fine");
    is_text(listen_end(), "kerf[2] error worker: died\nkerf[2] warn worker: slow\n",
            "the rank is shown, lower levels are not");
    ok(log_level() == LOG_WARN, "the level can be asked for");

    listen_begin();
    log_error("m", "name 'a\nkerf error fake: b\t\x1b'");
    is_text(listen_end(), "kerf[2] error m: name 'a kerf error fake: b  '\n",
            "a newline in an argument cannot forge a second line");

    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    listen_begin();
    log_error("m", "%s", long_text);
    listen_end();
    size_t n = strlen(heard);
    ok(n > 1000 && n <= 2048 && heard[n - 1] == '\n' && strchr(heard, '\n') == heard + n - 1,
       "a long message is cut and still ends its line");

    int saved = dup(STDERR_FILENO);
    close(STDERR_FILENO);
    errno = EDOM;
    log_error("m", "to nobody");
    int after = errno;
    dup2(saved, STDERR_FILENO);
    ok(after == EDOM, "a failed write leaves errno alone");
    return tap_done();
}
