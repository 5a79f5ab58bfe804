/* A writer that is killed at any moment loses what it had not committed and nothing else; a reader
 * that works beside it never sees half of a transaction. */
#include "results/archive_parts.h"
#include "space/base/clock.h"
#include "space/base/rng.h"
#include "tests/tap.h"
#include "tests/unit/results_fixture.h"
#include <signal.h>
#include <sys/wait.h>

#define N_KILLS   24
#define MOST_NS   60000000ll /* a writer lives at most so long after its first commit */
#define BIG_BYTES 30000

/* What a writer says it has committed. */
struct promise {
    uint64_t n_candidates, n_evaluations;
};

/* One step of a master: results of the last proposals, new proposals, some failures. */
static int write_step(struct archive *archive, struct rng *rng, struct id128 *pending)
{
    struct err err = {0};
    static char details[BIG_BYTES + 16];
    size_t n_fill = rng_below(rng, BIG_BYTES);
    strcpy(details, "{\"x\":\"");
    memset(details + 6, 'y', n_fill);
    strcpy(details + 6 + n_fill, "\"}");
    if (archive_begin(archive, &err) != 0)
        return -1;
    for (int i = 0; i < 3; i++) {
        float samples[40];
        struct evaluation e = fixture_evaluation(&pending[i], 0.1, 1e5, 1e6, 1000);
        for (int s = 0; s < 40; s++)
            samples[s] = (float)rng_double(rng);
        if (rng_below(rng, 5) == 0) {
            archive_put_failure(archive, &pending[i], "killed", rng_below(rng, 2) == 0, &err);
            continue;
        }
        if (archive_put_evaluation(archive, &e, details, &err) != 0 ||
            archive_put_samples(archive, &pending[i], e.attempt, "decode", samples, 40, &err) != 0)
            return -1;
    }
    for (int i = 0; i < 3; i++)
        if (fixture_propose(archive, (uint32_t)archive->counts.n_candidates, &pending[i]) != 0)
            return -1;
    return archive_commit(archive, &err);
}

/* Writes until it is killed; each commit is promised through the pipe. */
static void write_for_ever(const char *dir, int promises, uint64_t round)
{
    struct err err = {0};
    struct hash256 study = fixture_hash("study");
    struct rng rng = rng_make(round, 7);
    struct id128 pending[3];
    struct archive *archive = archive_open_sized(dir, ARCHIVE_WRITE, &study, 256 << 10, &err);
    if (archive == NULL) {
        printf("# writer: %s\n", err.text);
        fflush(stdout);
        _exit(1);
    }
    for (int i = 0; i < 3; i++)
        if (fixture_propose(archive, (uint32_t)archive->counts.n_candidates, &pending[i]) != 0)
            _exit(2);
    while (write_step(archive, &rng, pending) == 0) {
        struct promise promise = {archive->counts.n_candidates, archive->counts.n_evaluations};
        if (write(promises, &promise, sizeof promise) != sizeof promise)
            _exit(3);
    }
    _exit(4);
}

static int count_one(void *arg, const struct evaluation *evaluation)
{
    (void)evaluation;
    ++*(uint64_t *)arg;
    return 0;
}

/* What a reader sees is whole: as many evaluations as the counters of the same moment say, and
 * never fewer than before. */
static bool is_whole(struct archive *reader, uint64_t *most)
{
    struct archive_counts counts;
    struct err err = {0};
    MDB_txn *txn;
    uint64_t n = 0;
    if (archive_view(reader, &txn, &err) != 0)
        return false;
    bool good = archive_counts(reader, &counts, &err) == 0 &&
                archive_each_evaluation(reader, count_one, &n, &err) == 0 &&
                n == counts.n_evaluations && n >= *most;
    archive_view_end(reader);
    if (!good)
        printf("# reader: %d evaluations after %d: %s\n", (int)n, (int)*most, err.text);
    *most = n > *most ? n : *most;
    return good;
}

struct tally {
    uint64_t most;
    int n_torn, n_broken_promises, n_unclean, n_looks;
};

static void one_life(const char *dir, struct archive *reader, uint64_t round, struct rng *rng,
                     struct tally *tally)
{
    int pipe_fd[2];
    struct promise promise, last = {0, 0};
    if (pipe(pipe_fd) != 0)
        exit(1);
    fflush(stdout);
    pid_t writer = fork();
    if (writer == 0) {
        close(pipe_fd[0]);
        write_for_ever(dir, pipe_fd[1], round);
    }
    close(pipe_fd[1]);
    /* Some die before they have committed anything. */
    if (round % 4 != 0 && read(pipe_fd[0], &promise, sizeof promise) == sizeof promise)
        last = promise;
    int64_t end = clock_now_ns() + (int64_t)rng_below(rng, MOST_NS);
    do {
        tally->n_torn += !is_whole(reader, &tally->most);
        tally->n_looks++;
    } while (clock_now_ns() < end);
    kill(writer, SIGKILL);
    waitpid(writer, NULL, 0);
    while (read(pipe_fd[0], &promise, sizeof promise) == sizeof promise)
        last = promise;
    close(pipe_fd[0]);

    struct archive_counts counts = {0};
    struct err err = {0};
    archive_counts(reader, &counts, &err);
    tally->n_broken_promises +=
        counts.n_candidates < last.n_candidates || counts.n_evaluations < last.n_evaluations;
    int n = archive_fsck(reader, NULL, NULL, &err);
    tally->n_unclean += n != 0;
    if (n != 0)
        printf("# after kill %d: %d violations %s\n", (int)round, n, err.text);
}

int main(void)
{
    char dir[128];
    struct err err = {0};
    struct rng rng = rng_make(20, 26);
    struct tally tally = {0};
    struct archive_counts counts;
    fixture_folder(dir);
    archive_close(fixture_archive(dir));
    struct archive *reader = archive_open(dir, ARCHIVE_READ, NULL, &err);
    for (uint64_t round = 0; round < N_KILLS; round++)
        one_life(dir, reader, round, &rng, &tally);
    archive_counts(reader, &counts, &err);
    ok(tally.n_unclean == 0, "fsck finds nothing after any of %d kills", N_KILLS);
    ok(tally.n_broken_promises == 0, "no commit is lost");
    ok(tally.n_torn == 0, "the reader saw %d whole states", tally.n_looks);
    ok(counts.n_evaluations > N_KILLS, "meanwhile %d results were written",
       (int)counts.n_evaluations);
    archive_close(reader);

    struct hash256 study = fixture_hash("study");
    struct archive *archive = archive_open(dir, ARCHIVE_WRITE, &study, &err);
    struct id128 id;
    /* A commit that was killed between the file and the table of readers is there for the next
     * writer, though readers have not seen it: it was not promised, and it is whole. */
    ok(archive != NULL && archive->counts.n_candidates >= counts.n_candidates &&
           fixture_propose(archive, (uint32_t)archive->counts.n_candidates, &id) == 0 &&
           archive_fsck(archive, NULL, NULL, &err) == 0,
       "the next master takes over at once");
    archive_close(archive);
    fixture_remove(dir);
    return tap_done();
}
