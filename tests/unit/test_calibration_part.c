/* A calibration in a file: made, found again, gone on with after a stop; and inputs that are bad. */
#include "evaluator/compression/calibration_part.h"
#include "evaluator/compression/keep_order.h"
#include "evaluator/quality/token_set.h"
#include "tests/parent_file.h"
#include "tests/tap.h"

#include <fcntl.h>
#include <sys/file.h>

static struct geometry small;

enum { N_TOKENS = 300, SEQUENCE = 100 };

static char folder[256], target[512], part_path[512], state_path[512];
static int32_t tokens[N_TOKENS];
static struct team *team;

/* What a run is stopped by: its n-th tile of moments. */
static struct kernels counting;
static long n_tiles, stop_at;
static volatile sig_atomic_t stop;

static void count_moments(const double *a, const double *b, size_t n_rows, double *c,
                          size_t c_stride)
{
    if (++n_tiles == stop_at)
        stop = 1;
    kernels_reference()->moments(a, b, n_rows, c, c_stride);
}

static int ensure(struct parent *parent, const struct token_set *set, long stop_after,
                  enum calibration_origin *origin, struct err *err)
{
    struct calibration_options options = {0, &stop};
    struct hash256 hash = parent_hash(parent);

    stop = 0;
    n_tiles = 0;
    stop_at = stop_after;
    return calibration_ensure(target, parent, &hash, &counting, team, set, &options, origin, err);
}

static void clean(void)
{
    unlink(target);
    unlink(part_path);
    unlink(state_path);
}

/* The bytes of a file; NULL when there is none. */
static char *bytes_of(const char *path, size_t *n)
{
    return file_read(path, 1 << 22, n, NULL);
}

static bool same_bytes(const char *path, const char *want, size_t n_want)
{
    size_t n = 0;
    char *data = bytes_of(path, &n);
    bool same = data != NULL && n == n_want && memcmp(data, want, n) == 0;

    free(data);
    return same;
}

static void flip(const char *path, size_t at)
{
    size_t n;
    char *data = bytes_of(path, &n);

    data[at < n ? at : n - 1] ^= 1;
    file_replace(path, data, n, NULL);
    free(data);
}

/* Stopped everywhere, each time the same file comes out in the end. */
static void check_stops(struct parent *parent, const struct token_set *set, long n_all,
                        const char *want, size_t n_want)
{
    enum calibration_origin origin;
    int n_stopped = 0, n_resumed = 0, n_same = 0, n_left = 0;
    struct err err;

    for (int k = 1; k <= 9; k++) {
        clean();
        n_stopped += ensure(parent, set, n_all * k / 10, &origin, &err) != 0 &&
                     err.code == ERR_STOPPED && !file_exists(target);
        if (ensure(parent, set, 0, &origin, &err) != 0)
            continue;
        n_resumed += origin == CALIBRATION_RESUMED && n_tiles < n_all;
        n_same += same_bytes(target, want, n_want);
        n_left += file_exists(part_path) || file_exists(state_path);
    }
    ok(n_stopped == 9, "a run stops where it is asked to, and nothing has the file's name");
    ok(n_resumed >= 6, "once a layer is done the next run goes on behind it");
    ok(n_same == 9, "and ends with the same bytes");
    ok(n_left == 0, "leaving nothing beside them");

    /* In steps: each run adds a little more than a layer. */
    int n_runs = 1;
    clean();
    while (n_runs < 20 && ensure(parent, set, n_all * 3 / 10, &origin, &err) != 0)
        n_runs++;
    ok(n_runs > 2 && n_runs < 20 && same_bytes(target, want, n_want),
       "many stops one after another end there too");
}

/* Leave a part of two or three layers behind. */
static void stop_midway(struct parent *parent, const struct token_set *set, long n_all)
{
    enum calibration_origin origin;

    clean();
    ensure(parent, set, n_all * 7 / 10, &origin, NULL);
}

static void check_strangers(struct parent *parent, const struct token_set *set, long n_all,
                            const char *want, size_t n_want)
{
    enum calibration_origin origin;
    struct token_set other;
    char torn[512];
    struct err err;

    token_set_of(&other, tokens, N_TOKENS - 7, SEQUENCE, NULL);
    stop_midway(parent, &other, n_all);
    ok(file_exists(part_path) && file_exists(state_path) &&
           ensure(parent, set, 0, &origin, &err) == 0 && origin == CALIBRATION_MADE &&
           same_bytes(target, want, n_want),
       "a part of another text is not used");

    stop_midway(parent, set, n_all);
    counting.name = "another";
    ok(ensure(parent, set, 0, &origin, &err) == 0 && origin == CALIBRATION_MADE,
       "nor one of other kernels");
    counting.name = kernels_reference()->name;

    stop_midway(parent, set, n_all);
    flip(state_path, 4000);
    ok(ensure(parent, set, 0, &origin, &err) == 0 && origin == CALIBRATION_MADE &&
           same_bytes(target, want, n_want),
       "nor one whose state is damaged");
    stop_midway(parent, set, n_all);
    flip(part_path, calibration_triangle_begin(&small) + 100);
    ok(ensure(parent, set, 0, &origin, &err) == 0 && origin == CALIBRATION_MADE &&
           same_bytes(target, want, n_want),
       "nor one whose layers are");

    ok(ensure(parent, &other, 0, &origin, &err) == 0 && origin == CALIBRATION_MADE &&
           !same_bytes(target, want, n_want) && ensure(parent, set, 0, &origin, &err) == 0 &&
           origin == CALIBRATION_MADE && same_bytes(target, want, n_want),
       "a calibration of another text is not taken for this one's");
    token_set_fini(&other);

    clean();
    int fd = open(part_path, O_RDWR | O_CREAT, 0600);
    flock(fd, LOCK_EX);
    ok(ensure(parent, set, 0, &origin, &err) != 0 && err.code == ERR_RESOURCE &&
           strstr(err.text, "another process") != NULL,
       "two processes do not make the same file");
    close(fd);
    folder_path(folder, "calibration.bin.part.state.tmp.77.0", torn);
    file_replace(torn, "torn", 4, NULL);
    ok(ensure(parent, set, 0, &origin, &err) == 0 && same_bytes(target, want, n_want),
       "when the first is gone the second may");
    ok(!file_exists(torn), "and takes away what was torn in the middle of writing");
}

static void check_text(struct parent *parent)
{
    enum calibration_origin origin;
    struct calibration_summary s;
    struct token_set set = {0};
    struct err err;

    clean();
    token_set_of(&set, tokens, SEQUENCE - 1, SEQUENCE, NULL);
    ok(ensure(parent, &set, 0, &origin, &err) != 0 && err.code == ERR_DATA &&
           strstr(err.text, "99 tokens, one sequence has 100") != NULL && !file_exists(part_path),
       "a text of less than one sequence is refused");
    token_set_fini(&set);

    token_set_of(&set, tokens, 30, 30, NULL);
    ok(ensure(parent, &set, 0, &origin, &err) == 0, "one of fewer tokens than inputs is taken");
    token_set_fini(&set);
    struct hash256 hash = parent_hash(parent);
    struct calibration *c = calibration_load(target, &small, &hash, &err);
    calibration_summarise(c, &s);
    ok(s.n_tokens == 30 && s.widest == 48 && s.is_short && s.damping > 0.5 && s.n_dead == 0 &&
           s.n_inputs == 4 * (24 + 48 + 24 + 40) && !s.is_diagonal,
       "its summary says so, and how much more it is damped");
    calibration_destroy(c);
}

/* A channel that nothing ever comes out of: its Hessian is singular, and it goes first. */
static void check_dead(struct fixture *fixture)
{
    float *up = (float *)(uintptr_t)fixture->model.ffn[2].up.data, kept[24];
    struct calibration_summary s;
    struct token_set set;
    struct keep_order *order = calloc(1, sizeof *order);
    char path[512];
    struct err err = {0};

    memcpy(kept, up + 7 * 24, sizeof kept);
    memset(up + 7 * 24, 0, sizeof kept);
    parent_file_write(folder_path(folder, "dead.gguf", path), &fixture->model);
    memcpy(up + 7 * 24, kept, sizeof kept);
    struct parent *parent = parent_open(path, &err);
    token_set_of(&set, tokens, 30, 30, NULL);
    struct calibration *c = calibration_of_parent(parent, kernels_reference(), team, &set, &err);
    calibration_summarise(c, &s);
    ok(s.n_dead == 1, "a dead channel is counted");
    ok(keep_order_init(order, parent, c, &err) == 0 && order->channel[2][39] == 7 &&
           isfinite(order->damping[5]),
       "and is the first to go, with 30 tokens for 40 channels");
    keep_order_fini(order);
    calibration_destroy(c);
    token_set_fini(&set);
    parent_close(parent);
    free(order);
}

/* ensure() with a weight that is not finite: `where` is in the message. */
static void check_bad_weight(struct fixture *fixture, const struct token_set *set, float *weight,
                             float value, const char *where)
{
    enum calibration_origin origin;
    char path[512];
    struct err err = {0};
    float kept = *weight;

    clean();
    *weight = value;
    parent_file_write(folder_path(folder, "bad.gguf", path), &fixture->model);
    *weight = kept;
    struct parent *parent = parent_open(path, &err);
    ok(parent != NULL && ensure(parent, set, 0, &origin, &err) != 0 && err.code == ERR_DATA &&
           strstr(err.text, where) != NULL && !file_exists(part_path) && !file_exists(target),
       "a weight that is %g is named: %s", (double)value, where);
    parent_close(parent);
}

int main(void)
{
    enum calibration_origin origin;
    struct rng rng = rng_make(9, 0);
    struct token_set set;
    char path[512];
    struct err err;

    small = fixture_odd_geometry(4);
    struct fixture *fixture = fixture_dense(&small, FORMAT_F32, 5);
    counting = *kernels_reference();
    counting.moments = count_moments;
    folder_make(folder);
    folder_path(folder, "calibration.bin", target);
    folder_path(folder, "calibration.bin.part", part_path);
    folder_path(folder, "calibration.bin.part.state", state_path);
    parent_file_write(folder_path(folder, "parent.gguf", path), &fixture->model);
    struct parent *parent = parent_open(path, &err);
    team = team_create(1, NULL, NULL, NULL);
    for (int t = 0; t < N_TOKENS; t++)
        tokens[t] = (int32_t)rng_below(&rng, small.n_vocab);
    token_set_of(&set, tokens, N_TOKENS, SEQUENCE, &err);

    struct calibration *c = calibration_of_parent(parent, kernels_reference(), team, &set, &err);
    calibration_save(c, target, NULL);
    calibration_destroy(c);
    size_t n_want;
    char *want = bytes_of(target, &n_want);
    ok(ensure(parent, &set, 0, &origin, &err) == 0 && origin == CALIBRATION_FOUND && n_tiles == 0,
       "what is there is found, and nothing is run");
    unlink(target);
    ok(ensure(parent, &set, 0, &origin, &err) == 0 && origin == CALIBRATION_MADE &&
           same_bytes(target, want, n_want),
       "layer by layer into the file makes the bytes of one made in memory");
    long n_all = n_tiles;
    check_stops(parent, &set, n_all, want, n_want);
    check_strangers(parent, &set, n_all, want, n_want);
    check_text(parent);
    check_dead(fixture);
    check_bad_weight(fixture, &set, (float *)(uintptr_t)fixture->model.attn[1].v.data + 29, NAN,
                     "blk.1.attn_v.weight: row 1, column 5");
    check_bad_weight(fixture, &set, (float *)(uintptr_t)fixture->model.ffn[3].gate.data, INFINITY,
                     "blk.3.ffn_gate.weight: row 0, column 0");
    check_bad_weight(fixture, &set, (float *)(uintptr_t)fixture->model.ffn[0].norm + 2, -INFINITY,
                     "blk.0.ffn_norm.weight: row 0, column 2");
    check_bad_weight(fixture, &set, (float *)(uintptr_t)fixture->model.ffn[3].down.data + 41, NAN,
                     "blk.3.ffn_down.weight: row 1, column 1");

    free(want);
    token_set_fini(&set);
    team_destroy(team);
    parent_close(parent);
    fixture_destroy(fixture);
    folder_remove(folder);
    return tap_done();
}
