/* Feedback: codes against plain loops, errors against the quadratic form, never worse than without,
 * bad moments and weights. */
#include "evaluator/compression/block_write.h"
#include "evaluator/compression/feedback_parts.h"
#include "evaluator/compression/quantize.h"
#include "evaluator/team.h"
#include "space/base/err.h"
#include "space/base/linalg.h"
#include "space/base/log.h"
#include "space/base/rng.h"
#include "tests/tap.h"

#include <stdlib.h>

/* More rows than a tile has; where loops are slow, some that leave lanes empty. */
enum { N = 512, ROWS = TILE_ROWS + 3, SOME_ROWS = 2 * LANES + 5, N_TOKENS = 1500 };

static float w[ROWS][N];
static double white[N * N], correlated[N * N], diagonal[N * N], form[N * N];
static double v[N][N], d[N]; /* of form = V D V' */
static char packed[ROWS * N * sizeof(float)], again[sizeof packed];

static void make_rows(void)
{
    struct rng rng = rng_make(21, 1);
    for (size_t r = 0; r < ROWS; r++)
        for (size_t i = 0; i < N; i++)
            w[r][i] = (float)(0.02 * rng_normal(&rng)) * (rng_below(&rng, 100) == 0 ? 4 : 1);
}

/* Second moments of inputs whose neighbours resemble each other by `part` and that share `common`
 * of one direction; of uneven size. */
static void make_moments(double part, double common, double *h)
{
    struct rng rng = rng_make(22, 1);
    static double x[N_TOKENS][N], size[N];

    for (size_t i = 0; i < N; i++)
        size[i] = exp(0.5 * rng_normal(&rng));
    for (size_t t = 0; t < N_TOKENS; t++) {
        double all = common * rng_normal(&rng), last = rng_normal(&rng);
        for (size_t i = 0; i < N; i++) {
            last = part * last + sqrt(1 - part * part) * rng_normal(&rng);
            x[t][i] = size[i] * (last + all);
        }
    }
    memset(h, 0, sizeof white);
    linalg_syrk_add(N, N_TOKENS, x[0], h);
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j <= i; j++)
            h[i * N + j] = h[j * N + i] = h[i * N + j] / N_TOKENS;
}

static struct feedback *create(const double *h)
{
    struct err err = {0};
    struct feedback *f = feedback_create("a test", h, N, FEEDBACK_DAMPING, &err);
    if (f == NULL)
        printf("# %s\n", err.text);
    return f;
}

/* (w - q) H (w - q)' in plain loops. */
static double form_of(const double *h, const float *row, const float *q)
{
    double sum = 0;
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < N; j++)
            sum += ((double)row[i] - (double)q[i]) * h[i * N + j] * ((double)row[j] - (double)q[j]);
    return sum;
}

static double packed_form(enum format format, const double *h, const float *row, const char *bytes)
{
    float q[N];
    kernels_reference()->unpack[format](bytes, N, q);
    return form_of(h, row, q);
}

/* form = h damped as feedback.h says, and its factor by elimination from the last column. */
static void factor_plainly(const double *h)
{
    double mean = 0;
    for (size_t i = 0; i < N; i++)
        mean += h[i * N + i] / N;
    memcpy(form, h, sizeof form);
    for (size_t i = 0; i < N; i++)
        form[i * N + i] += FEEDBACK_DAMPING * mean;
    static double left[N][N];
    memcpy(left, form, sizeof left);
    for (size_t j = N; j-- > 0;) {
        d[j] = left[j][j];
        for (size_t k = 0; k <= j; k++)
            v[k][j] = left[k][j] / d[j];
        for (size_t k = 0; k < j; k++)
            for (size_t l = 0; l < j; l++)
                left[k][l] -= v[k][j] * d[j] * v[l][j];
    }
}

/* ---- rounding ---- */

/* The code in [code_lo, code_hi] (or among the levels) whose value is nearest to x. */
static int nearest(const struct grid *grid, double x, double s, double m)
{
    int best = grid->code_lo;
    for (int c = grid->code_lo; c <= grid->code_hi; c++) {
        bool is_level = !grid->non_linear;
        for (int l = 0; l < 16; l++)
            is_level = is_level || c == iq4_nl_values[l];
        if (is_level && fabs(s * c - m - x) < fabs(s * best - m - x))
            best = c;
    }
    return best;
}

/* Round a row with the scales that `bytes` holds; how many codes differ from those in there.  *sum
 * becomes the sum of D (x - q)^2. */
static size_t ldlq_differences(const struct grid *grid, const float *row, const char *bytes,
                               double *sum)
{
    static double e[N];
    size_t n_different = 0;

    *sum = 0;
    for (size_t begin = 0; begin < N; begin += (size_t)grid->block) {
        struct exploded b;
        block_explode(grid->format,
                      bytes + begin / (size_t)grid->block * format_block_bytes(grid->format), &b);
        for (size_t i = 0; i < (size_t)grid->block; i++) {
            size_t j = begin + i;
            double x = (double)row[j], s = (double)(b.d * (float)b.scale[i / GROUP]),
                   m = (double)(b.dmin * (float)b.min[i / GROUP]);
            for (size_t k = 0; k < j; k++)
                x += e[k] * v[k][j];
            int code = nearest(grid, x, s, m);
            n_different += code != b.code[i] && s != 0;
            double q = s * b.code[i] - m;
            e[j] = (double)row[j] - q;
            *sum += d[j] * (x - q) * (x - q);
        }
    }
    return n_different;
}

static void test_against_plain_loops(const char *what, const double *h)
{
    struct feedback *f = create(h);
    factor_plainly(h);
    double worst = 0;
    for (size_t j = 0; j < N; j++) {
        worst = fmax(worst, fabs(f->factor[j * N + j] / d[j] - 1));
        for (size_t k = 0; k < j; k++)
            worst = fmax(worst, fabs(f->factor[j * N + k] - v[k][j]));
    }
    near(worst, 0, 1e-9, "%s: the factor is that of plain elimination", what);
    for (int k = 0; k < N_FORMATS; k++) {
        if (!format_is_quantized((enum format)k))
            continue;
        const struct grid *grid = grid_of((enum format)k);
        struct tile tile;
        size_t n_different = 0;
        double off = 0;
        tile_init(&tile, f, grid, NULL);
        tile_load(&tile, w[0], SOME_ROWS);
        tile_round(&tile);
        for (size_t r = 0; r < SOME_ROWS; r++) {
            const char *bytes = tile.packed + r * tile.row_bytes;
            double sum, direct = packed_form(grid->format, form, w[r], bytes);
            n_different += ldlq_differences(grid, w[r], bytes, &sum);
            /* Unpacked values are floats: 1e-7 of a weight, which is up to 300 steps. */
            off = fmax(off, fabs(sum / direct - 1));
        }
        tile_fini(&tile);
        ok(n_different == 0, "%s, %s: every code is that of LDLQ in plain loops", what,
           format_name(grid->format));
        near(off, 0, 1e-4, "%s, %s: sum of D (x - q)^2 is e H e'", what, format_name(grid->format));
    }
    feedback_destroy(f);
}

/* Without correlations there is nothing to make up for. */
static void test_diagonal(void)
{
    struct feedback *f = create(diagonal);
    for (int k = 0; k < N_FORMATS; k++) {
        if (!format_is_quantized((enum format)k))
            continue;
        const struct grid *grid = grid_of((enum format)k);
        struct feedback_tally tally = {0};
        size_t n_different = 0, row_bytes = format_row_bytes(grid->format, N);
        size_t block = (size_t)grid->block, block_bytes = format_block_bytes(grid->format);
        feedback_quantize(f, grid->format, w[0], ROWS, packed, &tally, NULL);
        for (size_t r = 0; r < ROWS; r++) {
            for (size_t j = 0; j < N; j++) {
                struct exploded b;
                size_t i = j % block;
                block_explode(grid->format, packed + r * row_bytes + j / block * block_bytes, &b);
                double s = (double)(b.d * (float)b.scale[i / GROUP]),
                       m = (double)(b.dmin * (float)b.min[i / GROUP]), x = (double)w[r][j];
                double taken = fabs(s * b.code[i] - m - x),
                       best = fabs(s * nearest(grid, x, s, m) - m - x);
                n_different += taken > best * (1 + 1e-5); /* two levels may be equally near */
            }
        }
        ok(n_different == 0 && tally.error <= tally.plain,
           "%s: with diagonal moments each weight takes the level nearest to it",
           format_name(grid->format));
    }
    feedback_destroy(f);
}

/* ---- polish ---- */

/* By how much one code of a row could still lower e form e', over e form e'. */
static double gain_left(const struct grid *grid, const float *row, const char *bytes)
{
    static double e[N], g[N];
    double total = 0, best = 0;
    float q[N];

    kernels_reference()->unpack[grid->format](bytes, N, q);
    for (size_t i = 0; i < N; i++)
        e[i] = (double)row[i] - (double)q[i];
    for (size_t i = 0; i < N; i++) {
        g[i] = 0;
        for (size_t j = 0; j < N; j++)
            g[i] += form[i * N + j] * e[j];
        total += e[i] * g[i];
    }
    for (size_t j = 0; j < N; j++) {
        struct exploded b;
        size_t i = j % (size_t)grid->block;
        block_explode(grid->format,
                      bytes + j / (size_t)grid->block * format_block_bytes(grid->format), &b);
        double s = (double)(b.d * (float)b.scale[i / GROUP]);
        for (int c = grid->code_lo; c <= grid->code_hi; c++) {
            if (grid->non_linear && nearest(grid, c, 1, 0) != c)
                continue;
            double p = s * (c - b.code[i]);
            best = fmin(best, p * p * form[j * N + j] - 2 * p * g[j]);
        }
    }
    return -best / total;
}

static void test_polish(void)
{
    struct feedback *f = create(correlated);
    factor_plainly(correlated);
    for (int k = 0; k < N_FORMATS; k++) {
        if (!format_is_quantized((enum format)k))
            continue;
        const struct grid *grid = grid_of((enum format)k);
        const char *name = format_name(grid->format);
        struct tile tile;
        double before[ROWS], after[ROWS], left = 0, drift = 0;
        bool falls = true;

        tile_init(&tile, f, grid, NULL);
        tile_load(&tile, w[0], 8);
        tile_round(&tile);
        for (size_t r = 0; r < 8; r++)
            before[r] = packed_form(grid->format, form, w[r], tile.packed + r * tile.row_bytes);
        for (int sweep = 0; sweep < 3; sweep++) {
            tile_polish(&tile, 1);
            for (size_t r = 0; r < 8; r++) {
                after[r] = packed_form(grid->format, form, w[r], tile.packed + r * tile.row_bytes);
                falls = falls && after[r] < before[r] * (1 + 1e-6);
                before[r] = after[r];
            }
        }
        ok(falls, "%s: no sweep raises the error of a row", name);
        tile_polish(&tile, 60);
        for (size_t r = 0; r < 8; r++) {
            const char *bytes = tile.packed + r * tile.row_bytes;
            float q[N];
            kernels_reference()->unpack[grid->format](bytes, N, q);
            left = fmax(left, gain_left(grid, w[r], bytes));
            for (size_t i = 0; i < N; i++)
                drift = fmax(drift, fabs((double)w[r][i] - (double)q[i] - tile.e[i][r]));
        }
        near(left, 0, 1e-4, "%s: in the end no single code can be bettered", name);
        near(drift, 0, 1e-7, "%s: the errors carried along are those of the bytes", name);
        tile_fini(&tile);
    }
    feedback_destroy(f);
}

/* ---- the outcome ---- */

static void test_never_worse(const char *what, const double *h, bool correlations)
{
    struct feedback *f = create(h);
    float importance[N];
    double mean = 0;

    for (size_t i = 0; i < N; i++)
        mean += h[i * N + i] / N;
    for (size_t i = 0; i < N; i++)
        importance[i] = (float)(h[i * N + i] / mean + FEEDBACK_DAMPING);
    for (int k = 0; k < N_FORMATS; k++) {
        enum format format = (enum format)k;
        size_t row_bytes = format_row_bytes(format, N);
        struct feedback_tally tally = {0};
        double error = 0, plain = 0;
        bool never_worse = true;

        int status = feedback_quantize(f, format, w[0], ROWS, packed, &tally, NULL);
        quantize_rows(format, w[0], ROWS, N, importance, again, NULL);
        for (size_t r = 0; r < ROWS; r++) {
            double ours = packed_form(format, h, w[r], packed + r * row_bytes);
            double theirs = packed_form(format, h, w[r], again + r * row_bytes);
            never_worse = never_worse && ours <= theirs * (1 + 1e-12);
            error += ours;
            plain += theirs;
        }
        ok(status == 0 && never_worse, "%s, %s: no row is worse than without feedback", what,
           format_name(format));
        ok(fabs(tally.error - error) <= 1e-9 * error && fabs(tally.plain - plain) <= 1e-9 * plain &&
               tally.n_rows == ROWS,
           "%s, %s: the tally is that of the bytes", what, format_name(format));
        if (!format_is_quantized(format)) {
            ok(memcmp(packed, again, ROWS * row_bytes) == 0 && tally.n_fed == 0,
               "%s stays as it is", format_name(format));
            continue;
        }
        printf("# %s, %s: error %.4g, without feedback %.4g, ratio %.3f\n", what,
               format_name(format), error, plain, error / plain);
        if (correlations)
            ok(error < 0.5 * plain && tally.n_fed == ROWS,
               "%s, %s: feedback halves the error at least", what, format_name(format));
    }
    feedback_destroy(f);
}

struct share {
    const struct feedback *feedback; /* NULL: each member makes its own */
    enum format format;
    char *out;
};

static void work(void *arg, unsigned member, unsigned n_members)
{
    const struct share *s = arg;
    size_t begin, end;
    team_share(ROWS, 1, member, n_members, &begin, &end);
    struct feedback *own = s->feedback == NULL ? create(correlated) : NULL;
    feedback_quantize(own != NULL ? own : s->feedback, s->format, w[begin], end - begin,
                      s->out + begin * format_row_bytes(s->format, N), NULL, NULL);
    feedback_destroy(own);
}

static void test_repeats(void)
{
    struct feedback *f = create(correlated);
    struct team *team = team_create(3, NULL, NULL, NULL);
    bool apart = true, threads = true, alone = true;

    for (int k = 0; k < N_FORMATS; k++) {
        enum format format = (enum format)k;
        size_t row_bytes = format_row_bytes(format, N);
        struct share share = {f, format, again};
        feedback_quantize(f, format, w[0], ROWS, packed, NULL, NULL);
        for (size_t r = 0; r < ROWS; r += 7) {
            feedback_quantize(f, format, w[r], 1, again, NULL, NULL);
            apart = apart && memcmp(packed + r * row_bytes, again, row_bytes) == 0;
        }
        team_run(team, work, &share);
        threads = threads && memcmp(packed, again, ROWS * row_bytes) == 0;
        share.feedback = NULL;
        memset(again, 0, sizeof again);
        team_run(team, work, &share);
        alone = alone && memcmp(packed, again, ROWS * row_bytes) == 0;
    }
    ok(apart, "a row does not depend on its neighbours");
    ok(threads, "three threads share a feedback and give the bytes of one");
    ok(alone, "so do three threads that make one each at the same time");
    team_destroy(team);
    feedback_destroy(f);
}

/* ---- what may come in ---- */

static void test_special_rows(void)
{
    static const float specials[] = {0.0f, 1.0f, -1.0f, 1e-6f, 1e-20f, 1e-41f, 60000.0f, -65504.0f};
    struct feedback *f = create(correlated);
    static float x[sizeof specials / sizeof *specials + 2][N];
    size_t n_rows = sizeof x / sizeof x[0];

    for (size_t r = 0; r < n_rows - 2; r++)
        for (size_t i = 0; i < N; i++)
            x[r][i] = specials[r] * (i % 3 == 0 ? -1 : 1);
    x[n_rows - 2][77] = -3.0f;
    for (size_t i = 0; i < N; i++)
        x[n_rows - 1][i] = i % 2 ? 65504.0f : 1e-8f;
    for (int k = 0; k < N_FORMATS; k++) {
        enum format format = (enum format)k;
        struct feedback_tally tally = {0};
        float q[N];
        bool fine = feedback_quantize(f, format, x[0], n_rows, packed, &tally, NULL) == 0;
        for (size_t r = 0; r < n_rows; r++) {
            kernels_reference()->unpack[format](packed + r * format_row_bytes(format, N), N, q);
            for (size_t i = 0; i < N; i++)
                fine = fine && isfinite(q[i]);
        }
        ok(fine && tally.error <= tally.plain,
           "%s: zero, tiny, huge and lonely weights come out finite", format_name(format));
    }
    feedback_destroy(f);
}

static void test_refused(void)
{
    static double h[N * N];
    struct feedback *f = create(correlated);
    struct feedback_tally tally = {.error = 5};
    struct err err = {0};

    w[1][9] = NAN;
    for (int k = 0; k < N_FORMATS; k++)
        ok(feedback_quantize(f, (enum format)k, w[0], 2, packed, &tally, &err) == -1 &&
               err.code == ERR_DATA && strstr(err.text, "row 1 column 9") != NULL &&
               tally.error == 5 && tally.n_rows == 0,
           "%s: a weight that is not a number is refused with its place",
           format_name((enum format)k));
    feedback_destroy(f);
    make_rows();

    memcpy(h, correlated, sizeof h);
    h[3 * N + 7] = h[7 * N + 3] = INFINITY;
    ok(feedback_create("down", h, N, 0.01, &err) == NULL && err.code == ERR_DATA &&
           strstr(err.text, "down: the second moment of inputs 3 and 7") != NULL,
       "an infinite moment is refused: %s", err.text);
    h[3 * N + 7] = h[7 * N + 3] = NAN;
    ok(feedback_create("down", h, N, 0.01, &err) == NULL && err.code == ERR_DATA, "so is a NaN");
    h[3 * N + 7] = 0.5;
    h[7 * N + 3] = 0.25;
    ok(feedback_create("down", h, N, 0.01, &err) == NULL && err.code == ERR_DATA &&
           strstr(err.text, "0.25 and 0.5") != NULL,
       "and one that is not symmetric: %s", err.text);
    memcpy(h, correlated, sizeof h);
    h[5 * N + 5] = -1;
    ok(feedback_create("down", h, N, 0.01, &err) == NULL && err.code == ERR_DATA &&
           strstr(err.text, "input 5 is -1") != NULL,
       "a negative mean square is refused: %s", err.text);
}

/* Every format works with these moments; where there is no feedback, the plain way. */
static bool all_work(const struct feedback *f)
{
    bool fine = f != NULL;
    for (int k = 0; fine && k < N_FORMATS; k++) {
        struct feedback_tally tally = {0};
        fine = feedback_quantize(f, (enum format)k, w[0], ROWS, packed, &tally, NULL) == 0 &&
               isfinite(tally.error);
        if (feedback_damping(f) == FEEDBACK_PLAIN) {
            quantize_rows((enum format)k, w[0], ROWS, N, f->importance, again, NULL);
            fine = fine && tally.n_fed == 0 &&
                   memcmp(packed, again, ROWS * format_row_bytes((enum format)k, N)) == 0;
        }
    }
    return fine;
}

static void test_fallbacks(void)
{
    static double h[N * N];
    struct feedback *f;

    for (size_t i = 0; i < N * N; i++)
        h[i] = 1; /* all inputs are one */
    f = create(h);
    ok(all_work(f) && feedback_damping(f) == FEEDBACK_DAMPING, "moments of rank 1 are damped");
    feedback_destroy(f);
    f = feedback_create("rank 1", h, N, 0, NULL);
    ok(all_work(f) && feedback_damping(f) > 0 && feedback_damping(f) < 1e-3,
       "they get a little damping where none was asked for");
    feedback_destroy(f);

    memcpy(h, correlated, sizeof h);
    for (size_t i = 0; i < N; i += 3)
        for (size_t j = 0; j < N; j++)
            h[i * N + j] = h[j * N + i] = 0;
    f = create(h);
    ok(all_work(f) && feedback_damping(f) == FEEDBACK_DAMPING, "dead inputs are no trouble");
    float q[N];
    double worst = 0;
    feedback_quantize(f, FORMAT_Q8_0, w[0], 1, packed, NULL, NULL);
    kernels_reference()->unpack[FORMAT_Q8_0](packed, N, q);
    for (size_t i = 0; i < N; i += 3)
        worst = fmax(worst, fabs((double)q[i] - (double)w[0][i]));
    ok(worst < 0.002, "their weights are kept");
    feedback_destroy(f);

    memcpy(h, correlated, sizeof h);
    h[1] = h[N] = sqrt(h[0] * h[N + 1]) * 1.2; /* more than any two inputs can have in common */
    f = create(h);
    ok(all_work(f) && feedback_damping(f) > FEEDBACK_DAMPING && feedback_damping(f) <= 1,
       "moments that cannot be are damped more");
    feedback_destroy(f);
    h[1] = h[N] = 1e6;
    f = create(h);
    ok(all_work(f) && feedback_damping(f) == FEEDBACK_PLAIN,
       "and left alone where that does not help");
    feedback_destroy(f);
    f = feedback_create("as asked", correlated, N, FEEDBACK_PLAIN, NULL);
    ok(all_work(f) && feedback_damping(f) == FEEDBACK_PLAIN, "feedback can be left out");
    feedback_destroy(f);
    memset(h, 0, sizeof h);
    f = create(h);
    ok(all_work(f) && feedback_damping(f) == FEEDBACK_PLAIN,
       "inputs that were never seen say nothing");
    feedback_destroy(f);
}

int main(void)
{
    log_setup(LOG_ERROR, -1);
    make_rows();
    make_moments(0, 0, white);
    make_moments(0.9, 1, correlated);
    for (size_t i = 0; i < N; i++)
        diagonal[i * N + i] = correlated[i * N + i];
    test_against_plain_loops("white", white);
    test_against_plain_loops("correlated", correlated);
    test_diagonal();
    test_polish();
    test_never_worse("white", white, false);
    test_never_worse("correlated", correlated, true);
    test_repeats();
    test_special_rows();
    test_refused();
    test_fallbacks();
    return tap_done();
}
