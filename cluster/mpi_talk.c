#include "cluster/mpi_talk.h"
#include "space/base/clock.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

static bool has_text(const char *line, size_t length, const char *text)
{
    return memmem(line, length, text, strlen(text)) != NULL;
}

/* "[host:01124] PMIX ERROR: BAD-PARAM in file ../../../src/event/pmix_event_notification.c at line
 * 1033": both texts, so that another error of that file and this error of another file are seen. */
bool mpi_talk_is_noise(const char *line, size_t length)
{
    return has_text(line, length, "PMIX ERROR: BAD-PARAM in file ") &&
           has_text(line, length, "event/pmix_event_notification.c at line ");
}

int mpi_talk_open(struct mpi_talk *talk, int to, int *write_end)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    /* Only this end: mpirun's is shared with its ranks, who expect to wait. */
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    talk->from = ends[0];
    talk->to = to;
    talk->n = 0;
    *write_end = ends[1];
    return 0;
}

static void put(const struct mpi_talk *talk, const char *text, size_t n)
{
    while (n > 0) {
        ssize_t written = write(talk->to, text, n);
        if (written < 0 && errno != EINTR)
            return; /* nobody listens; the run goes on */
        text += written > 0 ? written : 0;
        n -= written > 0 ? (size_t)written : 0;
    }
}

/* Pass on the whole lines of the buffer, and all of it where no line could still grow in it. */
static void put_lines(struct mpi_talk *talk)
{
    const char *line = talk->line, *end = talk->line + talk->n, *stop;
    while ((stop = memchr(line, '\n', (size_t)(end - line))) != NULL) {
        if (!mpi_talk_is_noise(line, (size_t)(stop - line)))
            put(talk, line, (size_t)(stop + 1 - line));
        line = stop + 1;
    }
    talk->n = (size_t)(end - line);
    memmove(talk->line, line, talk->n);
    if (talk->n == sizeof talk->line) {
        put(talk, talk->line, talk->n);
        talk->n = 0;
    }
}

/* Take what is there.  False when there is nothing more for now, or for ever. */
static bool take(struct mpi_talk *talk)
{
    if (talk->from < 0)
        return false;
    ssize_t n = read(talk->from, talk->line + talk->n, sizeof talk->line - talk->n);
    if (n > 0) {
        talk->n += (size_t)n;
        put_lines(talk);
        return true;
    }
    if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        close(talk->from);
        talk->from = -1;
    }
    return false;
}

void mpi_talk_pass(struct mpi_talk *talk, int wait_ms)
{
    int64_t now = clock_now_ns(), end = now + wait_ms * 1000000ll;
    for (; now < end; now = clock_now_ns()) {
        struct pollfd wanted = {.fd = talk->from, .events = POLLIN};
        if (poll(&wanted, 1, (int)((end - now) / 1000000) + 1) < 0)
            return;
        take(talk);
    }
}

void mpi_talk_close(struct mpi_talk *talk)
{
    while (take(talk))
        continue;
    if (!mpi_talk_is_noise(talk->line, talk->n))
        put(talk, talk->line, talk->n);
    if (talk->from >= 0)
        close(talk->from);
    talk->from = -1;
    talk->n = 0;
}
