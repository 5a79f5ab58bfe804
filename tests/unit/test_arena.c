/* test_arena.c - sizes, alignment, and the stop at the end. */
#include "space/base/arena.h"
#include "space/base/err.h"
#include "tests/tap.h"

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

/* Whether taking `n_bytes` stops the process. */
static bool take_aborts(struct arena *arena, size_t n_bytes)
{
    int status;

    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        int quiet = open("/dev/null", O_WRONLY);
        dup2(quiet, STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        arena_take(arena, n_bytes);
        _exit(0);
    }
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

int main(void)
{
    struct arena arena = {0};
    struct err err = {0};

    arena_fini(&arena);
    ok(arena.base == NULL, "a zeroed arena can be finished");
    ok(arena_rounded(0) == 0 && arena_rounded(1) == 64 && arena_rounded(64) == 64 &&
           arena_rounded(65) == 128,
       "sizes are rounded up to 64");
    ok(arena_rounded(SIZE_MAX) % 64 == 0 && arena_rounded(SIZE_MAX) > SIZE_MAX / 2,
       "an absurd size does not wrap to a small one");

    ok(arena_init(&arena, 1000, &err) == 0, "1000 bytes are reserved");
    ok(arena.size == 1024 && arena.used == 0, "rounded up");
    unsigned char *a = arena_take(&arena, 100), *b = arena_take(&arena, 1);
    unsigned char *c = arena_take(&arena, 832);
    ok((uintptr_t)a % 64 == 0 && (uintptr_t)b % 64 == 0 && (uintptr_t)c % 64 == 0,
       "pieces are aligned");
    ok(b == a + 128 && c == b + 64 && arena.used == 1024, "and follow each other");
    bool zeroed = true;
    for (size_t i = 0; i < 100; i++)
        zeroed = zeroed && a[i] == 0;
    ok(zeroed, "fresh memory is zeroed");
    memset(c, 0xee, 832);
    ok(take_aborts(&arena, 1), "one byte too many stops the program, in release builds as well");
    arena_take(&arena, 0);
    ok(arena.used == 1024, "a piece of nothing fits a full arena");

    arena_reset(&arena);
    ok(arena_take(&arena, 10) == (void *)a, "after a reset the first piece is back");
    ok(take_aborts(&arena, SIZE_MAX), "a piece of absurd size stops the program");
    arena_fini(&arena);
    ok(arena.base == NULL && arena.size == 0, "a finished arena is empty");

    struct arena kept = {.size = 7};
    ok(arena_init(&kept, SIZE_MAX / 2, &err) == -1 && err.code == ERR_MEMORY,
       "what the machine does not have is refused");
    ok(kept.size == 7, "and the struct is left alone");
    ok(arena_init(&arena, 0, &err) == 0 && arena.size == 0, "an empty arena is fine");
    arena_fini(&arena);
    return tap_done();
}
