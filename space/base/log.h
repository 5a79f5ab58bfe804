/* log.h - talk on stderr: "kerf[rank] level module: message key=value".
 * stdout belongs to results; everything said about the work goes through here.  The level and the
 * rank are the only global state.  Lines are written with one write(2), so ranks do not mix them;
 * they are cut at 2 KiB and control characters become spaces.  errno is left alone. */
#ifndef KERF_LOG_H
#define KERF_LOG_H

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Show messages up to `level`; `rank` < 0 leaves the rank out. */
void log_setup(enum log_level level, int rank);
enum log_level log_level(void);

void log_line(enum log_level level, const char *module, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#define log_error(module, ...) log_line(LOG_ERROR, module, __VA_ARGS__)
#define log_warn(module, ...) log_line(LOG_WARN, module, __VA_ARGS__)
#define log_info(module, ...) log_line(LOG_INFO, module, __VA_ARGS__)
#define log_debug(module, ...) log_line(LOG_DEBUG, module, __VA_ARGS__)

#endif
