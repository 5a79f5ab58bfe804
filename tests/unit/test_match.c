/* The closed form of match.h against brute force: least squares over the tokens themselves, by
 * elimination in long double, and the loss by its definition. */
#include "evaluator/compression/match.h"
#include "evaluator/kernels/kernels.h"
#include "space/base/rng.h"
#include "tests/tap.h"

#include <stdlib.h>

enum { N_X = 9, N_Z = 6, N_OUT = 4, N_TOKENS = 50 };

/* Weights are small, so that a float of theirs is good to 1e-9. */
static const double size = 0.01;

struct problem {
    float x[N_TOKENS * N_X], z[N_TOKENS * N_Z], y[N_TOKENS * N_OUT];
    float w[N_OUT * N_X], stand_in[N_OUT * N_Z];
};

/* z is some of x, moved a little, so that it tells something of x. */
static struct problem *make_problem(uint64_t seed)
{
    struct rng rng = rng_make(seed, 3);
    struct problem *p = malloc(sizeof *p);

    for (size_t t = 0; t < N_TOKENS; t++) {
        double common = rng_normal(&rng);
        for (size_t i = 0; i < N_X; i++)
            p->x[t * N_X + i] = (float)(rng_normal(&rng) + common);
        for (size_t i = 0; i < N_Z; i++)
            p->z[t * N_Z + i] = (float)((double)p->x[t * N_X + i] + 0.3 * rng_normal(&rng));
        for (size_t i = 0; i < N_OUT; i++)
            p->y[t * N_OUT + i] = (float)(size * (rng_normal(&rng) + (double)p->z[t * N_Z + i]));
    }
    for (size_t i = 0; i < N_OUT * N_X; i++)
        p->w[i] = (float)(size * rng_normal(&rng));
    for (size_t r = 0; r < N_OUT; r++)
        for (size_t i = 0; i < N_Z; i++)
            p->stand_in[r * N_Z + i] = p->w[r * N_X + i];
    return p;
}

/* Tokens [begin, end), in three parts. */
static void add(struct match *m, const struct problem *p, size_t begin, size_t end)
{
    size_t n = end - begin;
    double *x = malloc(hessian_wide_size(n, N_X) * sizeof *x);
    double *z = malloc(hessian_wide_size(n, N_Z) * sizeof *z);
    double *y = malloc(hessian_wide_size(n, N_OUT) * sizeof *y);

    hessian_widen(p->x + begin * N_X, n, N_X, x);
    hessian_widen(p->z + begin * N_Z, n, N_Z, z);
    hessian_widen(p->y + begin * N_OUT, n, N_OUT, y);
    for (unsigned part = 0; part < 3; part++)
        match_add(m, kernels_reference(), x, z, y, n, part, 3);
    free(x);
    free(z);
    free(y);
}

static void sum_up(struct match *m, const struct problem *p, bool with_y)
{
    enum { HALF = 17 };

    if (match_init(m, N_X, N_Z, with_y ? N_OUT : 0, NULL) != 0)
        abort();
    add(m, p, 0, HALF);
    add(m, p, HALF, N_TOKENS);
    match_close(m);
}

/* What row `r` should give for token `t`. */
static double wanted(const struct problem *p, size_t r, size_t t, bool with_y)
{
    double sum = with_y ? (double)p->y[t * N_OUT + r] : 0;

    for (size_t i = 0; i < N_X; i++)
        sum += (double)p->w[r * N_X + i] * (double)p->x[t * N_X + i];
    return sum;
}

/* q[N_Z] of least sum over t of (wanted - q z)^2 + N ridge |q - stand_in|^2. */
static void brute_force(const struct problem *p, size_t r, bool with_y, double ridge, double *q)
{
    long double a[N_Z][N_Z + 1] = {{0}};

    for (size_t t = 0; t < N_TOKENS; t++) {
        const float *z = p->z + t * N_Z;
        for (size_t i = 0; i < N_Z; i++) {
            for (size_t j = 0; j < N_Z; j++)
                a[i][j] += (long double)z[i] * (long double)z[j];
            a[i][N_Z] += (long double)z[i] * wanted(p, r, t, with_y);
        }
    }
    for (size_t i = 0; i < N_Z; i++) {
        a[i][i] += N_TOKENS * (long double)ridge;
        a[i][N_Z] += N_TOKENS * (long double)ridge * (long double)p->stand_in[r * N_Z + i];
    }
    for (size_t c = 0; c < N_Z; c++)
        for (size_t i = 0; i < N_Z; i++) {
            long double f = a[i][c] / a[c][c];
            for (size_t j = c; i != c && j <= N_Z; j++)
                a[i][j] -= f * a[c][j];
        }
    for (size_t i = 0; i < N_Z; i++)
        q[i] = (double)(a[i][N_Z] / a[i][i]);
}

static double mean_diagonal(const struct problem *p)
{
    double sum = 0;

    for (size_t i = 0; i < N_TOKENS * N_Z; i++)
        sum += (double)p->z[i] * (double)p->z[i];
    return sum / (N_TOKENS * N_Z);
}

static double largest_error(const struct problem *p, bool with_y, double share)
{
    struct match m;
    float target[N_OUT * N_Z];
    double damping = share, q[N_Z], largest = 0;

    sum_up(&m, p, with_y);
    if (match_solve(&m, p->w, p->stand_in, N_OUT, 1, &damping, target, NULL) != 0 ||
        damping != share)
        return INFINITY;
    for (size_t r = 0; r < N_OUT; r++) {
        brute_force(p, r, with_y, share * mean_diagonal(p), q);
        for (size_t i = 0; i < N_Z; i++)
            largest = fmax(largest, fabs(q[i] - (double)target[r * N_Z + i]));
    }
    match_fini(&m);
    return largest;
}

static void check_brute_force(void)
{
    double plain = 0, ridged = 0, drifted = 0;

    for (uint64_t seed = 0; seed < 5; seed++) {
        struct problem *p = make_problem(seed);
        plain = fmax(plain, largest_error(p, false, 0));
        ridged = fmax(ridged, largest_error(p, false, 0.3));
        drifted = fmax(drifted, largest_error(p, true, 0.05));
        free(p);
    }
    near(plain, 0, 1e-8, "without a ridge the target is the least squares solution");
    near(ridged, 0, 1e-8, "a ridge pulls it towards the weights that stand in");
    near(drifted, 0, 1e-8, "what is asked for besides is in it");
}

static void check_alpha(void)
{
    struct problem *p = make_problem(9);
    float none[N_OUT * N_Z], half[N_OUT * N_Z], all[N_OUT * N_Z];
    double damping = 0.01, far = 0;
    struct match m;

    sum_up(&m, p, true);
    match_solve(&m, p->w, p->stand_in, N_OUT, 0, &damping, none, NULL);
    match_solve(&m, p->w, p->stand_in, N_OUT, 0.5, &damping, half, NULL);
    match_solve(&m, p->w, p->stand_in, N_OUT, 1, &damping, all, NULL);
    ok(memcmp(none, p->stand_in, sizeof none) == 0, "alpha 0 leaves the weights that stand in");
    for (size_t i = 0; i < N_OUT * N_Z; i++)
        far = fmax(far, fabs((double)half[i] - ((double)none[i] + (double)all[i]) / 2));
    near(far, 0, 1e-8, "alpha 1/2 is halfway");
    match_fini(&m);
    free(p);
}

/* The same inputs on both sides: nothing is left to make up for. */
static void check_identity(void)
{
    struct problem *p = make_problem(4);
    struct match m;
    float target[N_OUT * N_X];
    double damping = 0.01;

    if (match_init(&m, N_X, N_X, 0, NULL) != 0)
        abort();
    double *x = malloc(hessian_wide_size(N_TOKENS, N_X) * sizeof *x);
    hessian_widen(p->x, N_TOKENS, N_X, x);
    match_add(&m, kernels_reference(), x, x, NULL, N_TOKENS, 0, 1);
    free(x);
    match_close(&m);
    match_solve(&m, p->w, p->w, N_OUT, 1, &damping, target, NULL);
    ok(memcmp(target, p->w, sizeof target) == 0,
       "the parent's inputs ask for the parent's weights, bit for bit");
    match_fini(&m);
    free(p);
}

/* Fewer tokens than inputs, and none that were ever anything but zero. */
static void check_poor_moments(void)
{
    struct problem *p = make_problem(5);
    struct match m;
    float target[N_OUT * N_Z];
    double damping = 0;

    if (match_init(&m, N_X, N_Z, 0, NULL) != 0)
        abort();
    add(&m, p, 0, 2);
    match_close(&m);
    ok(match_solve(&m, p->w, p->stand_in, N_OUT, 1, &damping, target, NULL) == 0 && damping > 0 &&
           damping <= 1,
       "too few tokens raise the damping");
    match_fini(&m);

    memset(p->z, 0, sizeof p->z);
    sum_up(&m, p, false);
    damping = 0.01;
    ok(match_solve(&m, p->w, p->stand_in, N_OUT, 1, &damping, target, NULL) == 0 &&
           isinf(damping) && memcmp(target, p->stand_in, sizeof target) == 0,
       "inputs that were never seen leave the weights that stand in");
    match_fini(&m);

    free(p);
}

int main(void)
{
    check_brute_force();
    check_alpha();
    check_identity();
    check_poor_moments();
    return tap_done();
}
