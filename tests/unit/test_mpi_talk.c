/* What is passed on of mpirun's stderr, and what is not. */
#include "cluster/mpi_talk.h"
#include "space/base/clock.h"
#include "tests/tap.h"
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define NOISE                                                                                      \
    "[node1:01124] PMIX ERROR: BAD-PARAM in file ../../../src/event/pmix_event_notification.c at " \
    "line 1033\n"

struct scene {
    struct mpi_talk talk;
    int in, out; /* mpirun's end of the pipe, and a file for what is passed on */
};

static void begin(struct scene *scene)
{
    char path[] = "/tmp/kerf-talk-XXXXXX";
    scene->out = mkstemp(path);
    unlink(path);
    if (mpi_talk_open(&scene->talk, scene->out, &scene->in) != 0)
        exit(1);
}

static void say(const struct scene *scene, const char *text)
{
    if (write(scene->in, text, strlen(text)) != (ssize_t)strlen(text))
        exit(1);
}

/* What has been passed on so far. */
static const char *heard(const struct scene *scene)
{
    static char text[8192];
    ssize_t n = pread(scene->out, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void end(struct scene *scene)
{
    mpi_talk_close(&scene->talk);
    close(scene->in);
    close(scene->out);
}

static void test_noise(void)
{
    static const char *const words[] = {
        "[node1:01124] PMIX ERROR: BAD-PARAM in file ../src/server/pmix_server.c at line 7",
        "[node1:01124] PMIX ERROR: UNREACHABLE in file event/pmix_event_notification.c at line 1",
        "mpirun noticed that process rank 1 exited on signal 9 (Killed).",
        "kerf[0] warn master: verdict=lost work=evaluate reason=\"worker 1 fell silent\"", ""};
    ok(mpi_talk_is_noise(NOISE, strlen(NOISE) - 1), "a failed notification of Open MPI is noise");
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        ok(!mpi_talk_is_noise(words[i], strlen(words[i])), "\"%.50s\" is not", words[i]);
}

static void test_lines(void)
{
    struct scene scene;
    begin(&scene);
    say(&scene, "first\n" NOISE "second\n" NOISE NOISE "thi");
    mpi_talk_pass(&scene.talk, 20);
    is_text(heard(&scene), "first\nsecond\n", "lines are passed on at once, noise is not");
    say(&scene, "rd\n[node1:01124] PMIX ERROR: BAD-PARAM in file ");
    mpi_talk_pass(&scene.talk, 20);
    say(&scene, "event/pmix_event_notification.c at line 1033\nfourth");
    mpi_talk_pass(&scene.talk, 20);
    is_text(heard(&scene), "first\nsecond\nthird\n", "however they are cut into pieces");
    say(&scene, "\nlast");
    mpi_talk_close(&scene.talk);
    is_text(heard(&scene), "first\nsecond\nthird\nfourth\nlast", "the last one needs no end");
    end(&scene);
}

static void test_long_line(void)
{
    struct scene scene;
    char text[5001];
    begin(&scene);
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    say(&scene, text);
    mpi_talk_pass(&scene.talk, 20);
    ok(strlen(heard(&scene)) >= 4096, "a line longer than the buffer does not wait for its end");
    mpi_talk_close(&scene.talk);
    is_text(heard(&scene), text, "and comes out whole");
    end(&scene);
}

static void test_waiting(void)
{
    struct scene scene;
    begin(&scene);
    int64_t start = clock_now_ns();
    mpi_talk_pass(&scene.talk, 30);
    ok(clock_now_ns() - start >= 30000000, "it waits where nobody speaks");
    close(scene.in);
    start = clock_now_ns();
    mpi_talk_pass(&scene.talk, 30);
    mpi_talk_pass(&scene.talk, 30);
    ok(clock_now_ns() - start >= 60000000, "and where nobody will any more");
    scene.in = open("/dev/null", O_WRONLY | O_CLOEXEC);
    end(&scene);
}

int main(void)
{
    test_noise();
    test_lines();
    test_long_line();
    test_waiting();
    return tap_done();
}
