#include "latency_model/footing.h"

#include "evaluator/team.h"
#include "latency_model/quiet.h"
#include "space/base/clock.h"
#include "space/base/file.h"
#include "space/base/stats.h"

#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Each 3 to 6 us at 4 GHz. */
#define STEPS_DEPENDENT   4000
#define STEPS_INDEPENDENT 10000
#define BARRIERS          32

/* Alone, width varies by 1 % and meet by 20 %; a busy neighbour on the same core adds 10 to 130 %
 * to the first, a far core 200 % to the second. */
#define MAX_WIDTH 1.06
#define MAX_MEET  1.8

#define FILE_ROOM 16384
#define NEWS      0.002 /* what is better by less is not written down */

#define MAX_MEMBERS 256 /* those beyond are not looked at */

struct work {
    struct team *team;
    struct {
        _Alignas(64) double dependent_ns, independent_ns, meet_ns;
    } member[MAX_MEMBERS];
};

static double dependent_ns(int n)
{
    int64_t start = clock_now_ns();
    uint64_t x = 88172645463325252ull;

    for (int i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        __asm__ volatile("" : "+r"(x));
    }
    return (double)(clock_now_ns() - start);
}

/* Five chains, for all that a core can do at once.  A short loop would take one of several times,
 * as it happens to be scheduled; eight steps in a row take but one. */
#define STEP                                                                                       \
    a += 5;                                                                                        \
    b ^= a;                                                                                        \
    c += 3;                                                                                        \
    d -= c;                                                                                        \
    e += 7;                                                                                        \
    __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e))

static double independent_ns(int n)
{
    int64_t start = clock_now_ns();
    uint64_t a = 1, b = 2, c = 3, d = 4, e = 5;

    for (int i = 0; i < n; i += 8) {
        STEP;
        STEP;
        STEP;
        STEP;
        STEP;
        STEP;
        STEP;
        STEP;
    }
    return (double)(clock_now_ns() - start);
}

static void do_work(void *arg, unsigned member, unsigned n_members)
{
    struct work *work = arg;
    double meet_ns = 0;

    /* A core that slept or did other things needs a microsecond to find its step. */
    independent_ns(STEPS_INDEPENDENT / 4);
    dependent_ns(STEPS_DEPENDENT / 8);
    double independent = independent_ns(STEPS_INDEPENDENT);
    double dependent = dependent_ns(STEPS_DEPENDENT);

    if (n_members > 1) {
        /* The first one waits for who slept. */
        team_barrier(work->team, member);
        int64_t start = clock_now_ns();
        for (int i = 0; i < BARRIERS; i++)
            team_barrier(work->team, member);
        meet_ns = (double)(clock_now_ns() - start) / BARRIERS;
    }
    if (member >= MAX_MEMBERS)
        return;
    work->member[member].meet_ns = meet_ns;
    work->member[member].independent_ns = independent;
    work->member[member].dependent_ns = dependent;
}

void footing_take(struct team *team, struct footing *footing)
{
    struct work work = {.team = team};
    unsigned n = team != NULL ? team_size(team) : 1;

    if (team != NULL)
        team_run(team, do_work, &work);
    else
        do_work(&work, 0, 1);
    *footing = (struct footing){0};
    for (unsigned m = 0; m < n && m < MAX_MEMBERS; m++) {
        double width = work.member[m].independent_ns / fmax(work.member[m].dependent_ns, 1);
        footing->clock_ns = fmax(footing->clock_ns, work.member[m].dependent_ns);
        footing->width = fmax(footing->width, width);
        footing->meet_ns = fmax(footing->meet_ns, work.member[m].meet_ns);
    }
}

enum footing_fault footing_judge(const struct footing *footing, const struct footing_best *best)
{
    if (best->meet_ns > 0 && footing->meet_ns > best->meet_ns * MAX_MEET)
        return FOOTING_APART;
    if (best->width > 0 && footing->width > best->width * MAX_WIDTH)
        return FOOTING_SHARED;
    return FOOTING_FIRM;
}

static double better(double best, double seen)
{
    return seen > 0 && (best <= 0 || seen < best) ? seen : best;
}

void footing_learn(struct footing_best *best, const struct footing *footings, size_t n)
{
    double *width = n >= FOOTING_LEARN_MIN ? calloc(2 * n, sizeof *width) : NULL;

    if (width == NULL)
        return;
    for (size_t i = 0; i < n; i++) {
        width[i] = footings[i].width;
        width[n + i] = footings[i].meet_ns;
    }
    stats_sort(width, n);
    stats_sort(width + n, n);
    best->width = better(best->width, stats_quantile(width, n, 0.1));
    best->meet_ns = better(best->meet_ns, stats_quantile(width + n, n, 0.1));
    free(width);
}

/* --- what the node has shown: lines "NAME NUMBER", one a number --- */

static void file_of_node(char path[4096])
{
    snprintf(path, 4096, "%s/kerf-footing.%ld", quiet_folder(), (long)getuid());
}

/* In a shared folder: a file of somebody else, a link or a pipe is not read. */
static bool read_own(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat status;
    ssize_t n = -1;

    if (fd < 0)
        return false;
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == getuid())
        n = read(fd, text, size - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    return n > 0;
}

/* The line of a name in the text; NULL. */
static char *find_line(char *text, const char *name)
{
    size_t n = strlen(name);

    for (char *line = text; *line != '\0'; line += strcspn(line, "\n"), line += *line == '\n')
        if (strncmp(line, name, n) == 0 && line[n] == ' ')
            return line;
    return NULL;
}

double footing_recall_least(const char *name)
{
    char path[4096], text[FILE_ROOM];

    file_of_node(path);
    const char *line = read_own(path, text, sizeof text) ? find_line(text, name) : NULL;
    double least = line != NULL ? strtod(line + strlen(name), NULL) : 0;
    return least > 0 && least < 1e15 ? least : 0;
}

void footing_keep_least(const char *name, double least, double fall)
{
    char path[4096], text[FILE_ROOM], all[FILE_ROOM + 256];
    double known = footing_recall_least(name);

    if (!(least > 0) || (known > 0 && least >= known * (1 - fall)))
        return;
    file_of_node(path);
    if (!read_own(path, text, sizeof text))
        text[0] = '\0';
    char *line = find_line(text, name);
    if (line != NULL) {
        char *next = line + strcspn(line, "\n");
        memmove(line, next + (*next == '\n'), strlen(next + (*next == '\n')) + 1);
    }
    /* The new one stands first, the oldest are forgotten. */
    int n = snprintf(all, sizeof all, "%.223s %.6g\n%s", name, least, text);
    n = n < FILE_ROOM - 1 ? n : FILE_ROOM - 1;
    while (n > 0 && all[n - 1] != '\n')
        n--;
    file_replace(path, all, (size_t)n, NULL);
}

void footing_recall(const char *device, struct footing_best *best)
{
    char name[160];

    snprintf(name, sizeof name, "%s/width", device);
    best->width = footing_recall_least(name);
    snprintf(name, sizeof name, "%s/meet", device);
    best->meet_ns = footing_recall_least(name);
}

void footing_keep(const char *device, const struct footing_best *best)
{
    char name[160];

    snprintf(name, sizeof name, "%s/width", device);
    footing_keep_least(name, best->width, NEWS);
    snprintf(name, sizeof name, "%s/meet", device);
    footing_keep_least(name, best->meet_ns, NEWS);
}
