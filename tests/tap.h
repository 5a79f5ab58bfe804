/* tap.h - the whole unit test harness: titled checks in TAP, run by ctest.
 *
 *     int main(void)
 *     {
 *         ok(1 + 1 == 2, "two ones make two");
 *         near(mean, 2.0, 1e-12, "the mean of 1, 2, 3 is 2");
 *         return tap_done();
 *     }
 *
 * tap_done prints the plan and returns 0 when every check held (and at least one was made).
 * tap_skip_all says why nothing can be tested here and is returned from main; where the
 * environment variable CI is "true" a skip of something required is the caller's failure to make. */
#ifndef KERF_TAP_H
#define KERF_TAP_H

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int tap_n_checks, tap_n_failed;

__attribute__((format(printf, 4, 5), unused)) static bool
tap_check(bool held, const char *file, int line, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    printf("%s %d - ", held ? "ok" : "not ok", ++tap_n_checks);
    vprintf(fmt, args);
    printf("\n");
    va_end(args);
    if (!held) {
        tap_n_failed++;
        printf("# failed at %s:%d\n", file, line);
    }
    return held;
}

#define ok(condition, ...) tap_check((condition), __FILE__, __LINE__, __VA_ARGS__)

/* |got - want| <= tolerance; NAN never passes. */
#define near(got, want, tolerance, ...) tap_near((got), (want), (tolerance), __FILE__, __LINE__, __VA_ARGS__)
#define tap_near(got, want, tolerance, file, line, ...)                                            \
    do {                                                                                           \
        double tap_got = (got), tap_want = (want);                                                 \
        if (!tap_check(fabs(tap_got - tap_want) <= (tolerance), file, line, __VA_ARGS__))          \
            printf("# got %.17g, want %.17g\n", tap_got, tap_want);                                \
    } while (0)

#define is_text(got, want, ...) tap_text((got), (want), __FILE__, __LINE__, __VA_ARGS__)
#define tap_text(got, want, file, line, ...)                                                       \
    do {                                                                                           \
        const char *tap_got = (got), *tap_want = (want);                                           \
        if (!tap_check(tap_got != NULL && strcmp(tap_got, tap_want) == 0, file, line, __VA_ARGS__)) \
            printf("# got '%s'\n# want '%s'\n", tap_got ? tap_got : "(null)", tap_want);           \
    } while (0)

__attribute__((unused)) static int tap_done(void)
{
    printf("1..%d\n", tap_n_checks);
    return tap_n_failed == 0 && tap_n_checks > 0 ? 0 : 1;
}

/* ctest reads exit code 77 as "skipped" (SKIP_RETURN_CODE). */
__attribute__((unused)) static int tap_skip_all(const char *reason)
{
    printf("1..0 # SKIP %s\n", reason);
    return 77;
}

#endif
