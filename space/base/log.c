/* log.c - one line, one write. */
#include "space/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

/* Longer messages are cut; below PIPE_BUF, so that a pipe takes a line whole. */
#define LOG_LINE_MAX 2048

static enum log_level log_threshold = LOG_INFO;
static int log_rank = -1;

static const char *const log_names[] = {"error", "warn", "info", "debug"};

void log_setup(enum log_level level, int rank)
{
    log_threshold = level;
    log_rank = rank;
}

enum log_level log_level(void)
{
    return log_threshold;
}

/* Append to line[*used] and keep one byte free for the newline. */
__attribute__((format(printf, 3, 0))) static void log_append(char *line, size_t *used,
                                                             const char *fmt, va_list args)
{
    size_t room = LOG_LINE_MAX - 1 - *used;
    int n = vsnprintf(line + *used, room, fmt, args);

    if (n > 0)
        *used += (size_t)n < room ? (size_t)n : room - 1;
}

__attribute__((format(printf, 3, 4))) static void log_appendf(char *line, size_t *used,
                                                              const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    log_append(line, used, fmt, args);
    va_end(args);
}

void log_line(enum log_level level, const char *module, const char *fmt, ...)
{
    char line[LOG_LINE_MAX];
    size_t used = 0;
    int saved_errno = errno;
    va_list args;

    if (level > log_threshold)
        return;
    if (log_rank >= 0)
        log_appendf(line, &used, "kerf[%d] %s %s: ", log_rank, log_names[level], module);
    else
        log_appendf(line, &used, "kerf %s %s: ", log_names[level], module);

    size_t message = used;
    va_start(args, fmt);
    log_append(line, &used, fmt, args);
    va_end(args);

    /* A file name with a newline must not start a second, forged line. */
    for (size_t i = message; i < used; i++)
        if ((unsigned char)line[i] < 0x20)
            line[i] = ' ';
    line[used++] = '\n';

    ssize_t n;
    do
        n = write(STDERR_FILENO, line, used);
    while (n < 0 && errno == EINTR);
    errno = saved_errno;
}
