/* test_clock.c - time passes, forwards. */
#include "space/base/clock.h"
#include "tests/tap.h"

#include <time.h>

int main(void)
{
    int64_t before = clock_now_ns(), last = before;
    bool forwards = true;

    for (int i = 0; i < 10000; i++) {
        int64_t now = clock_now_ns();
        forwards = forwards && now >= last;
        last = now;
    }
    ok(forwards, "the clock never runs backwards");

    before = clock_now_ns();
    clock_nap_ns(20000000);
    int64_t slept = clock_now_ns() - before;
    ok(slept >= 20000000, "a nap of 20 ms lasts at least that");
    ok(slept < INT64_C(60000000000), "and the unit is nanoseconds");

    before = clock_now_ns();
    clock_nap_ns(0);
    clock_nap_ns(-5);
    ok(clock_now_ns() - before < INT64_C(10000000000), "a nap of nothing or less returns");

    struct timespec own;
    clock_gettime(CLOCK_MONOTONIC, &own);
    int64_t own_ns = (int64_t)own.tv_sec * 1000000000 + own.tv_nsec;
    ok(clock_now_ns() - own_ns >= 0 && clock_now_ns() - own_ns < INT64_C(10000000000),
       "it is CLOCK_MONOTONIC");
    int64_t wall = clock_wall_s() - (int64_t)time(NULL);
    ok(wall >= -1 && wall <= 1, "the wall clock counts seconds since 1970");
    return tap_done();
}
