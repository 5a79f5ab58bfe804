/* The front against its definition, spelled out point by point, and the names of its members. */
#include "results/front.h"
#include "space/base/dominance.h"
#include "space/base/rng.h"
#include "tests/tap.h"
#include "tests/unit/results_fixture.h"

#define N_POINTS 120

struct point {
    double value[4], se[4]; /* kld, decode, prefill, bytes */
    struct id128 id;
};

/* --- the definition --- */

static bool beats_noisily(const struct point *a, const struct point *b)
{
    bool better = false;
    for (int i = 0; i < 4; i++) {
        double noise = sqrt(a->se[i] * a->se[i] + b->se[i] * b->se[i]);
        if (a->value[i] > b->value[i] + noise)
            return false;
        better |= a->value[i] < b->value[i] - noise;
    }
    return better;
}

static bool beats_plainly(const struct point *a, const struct point *b)
{
    bool better = false;
    for (int i = 0; i < 4; i++) {
        if (a->value[i] > b->value[i])
            return false;
        better |= a->value[i] < b->value[i];
    }
    return better;
}

/* In: all who beat it are out.  Out: somebody who is in beats it. */
static size_t define_front(const struct point *point, size_t n, bool *in)
{
    enum { OPEN, IN, OUT } label[N_POINTS] = {OPEN};
    size_t n_in = 0;
    for (size_t round = 0; round < n; round++)
        for (size_t i = 0; i < n; i++) {
            bool all_out = true, any_in = false;
            for (size_t j = 0; j < n; j++) {
                bool beaten = j != i && beats_noisily(&point[j], &point[i]);
                all_out &= !beaten || label[j] == OUT;
                any_in |= beaten && label[j] == IN;
            }
            label[i] = all_out ? IN : any_in ? OUT : OPEN;
        }
    for (size_t i = 0; i < n; i++) {
        in[i] = label[i] != OUT;
        for (size_t j = 0; j < n; j++)
            in[i] &= j == i || label[j] == OUT || !beats_plainly(&point[j], &point[i]);
        n_in += in[i];
    }
    return n_in;
}

/* --- random points --- */

static struct point random_point(struct rng *rng, double noise)
{
    struct point point;
    /* Better in one is often worse in another, as on a real front. */
    double t = rng_double(rng);
    point.value[0] = 0.01 + 0.5 * exp(-3 * t) * (0.7 + 0.6 * rng_double(rng));
    point.value[1] = 1e5 * (1 + t + 0.4 * rng_double(rng));
    point.value[2] = 1e6 * (1 + 0.5 * t + 0.6 * rng_double(rng));
    point.value[3] = floor(1e6 * (1 + t + 0.5 * rng_double(rng)));
    for (int i = 0; i < 3; i++)
        point.se[i] = noise * point.value[i] * rng_double(rng);
    point.se[3] = 0;
    return point;
}

static void enter_point(struct archive *archive, uint32_t number, struct point *point)
{
    struct err err = {0};
    fixture_propose(archive, number, &point->id);
    struct evaluation e = fixture_evaluation(&point->id, point->value[0], point->value[1],
                                             point->value[2], (uint64_t)point->value[3]);
    e.kld_se = point->se[0];
    e.decode.lo_ns = point->value[1] - 1.96 * point->se[1];
    e.decode.hi_ns = point->value[1] + 1.96 * point->se[1];
    e.prefill.lo_ns = point->value[2] - 1.96 * point->se[2];
    e.prefill.hi_ns = point->value[2] + 1.96 * point->se[2];
    if (archive_put_evaluation(archive, &e, "{}", &err) != 0)
        printf("# enter: %s\n", err.text);
}

static bool holds(const struct front *front, const struct id128 *id)
{
    for (size_t i = 0; i < front->n; i++)
        if (id128_equal(front->member[i].candidate.id, *id))
            return true;
    return false;
}

static bool is_sorted(const struct front *front)
{
    for (size_t i = 1; i < front->n_all; i++)
        if (front->all[i - 1].evaluation.decode.median_ns >
            front->all[i].evaluation.decode.median_ns)
            return false;
    return true;
}

static void check_definition(uint64_t seed, double noise)
{
    char dir[128];
    struct err err = {0};
    struct point point[N_POINTS];
    bool in[N_POINTS];
    struct front front;
    struct geometry geometry = fixture_wide();
    struct rng rng = rng_make(seed, 1);
    fixture_folder(dir);
    struct archive *archive = fixture_archive(dir);
    archive_begin(archive, &err);
    for (uint32_t i = 0; i < N_POINTS; i++) {
        point[i] = random_point(&rng, noise);
        enter_point(archive, i, &point[i]);
    }
    archive_commit(archive, &err);
    ok(front_load(&front, archive, &geometry, &err) == 0 && front.n_all == N_POINTS,
       "seed %d: all points are loaded %s", (int)seed, err.text);
    size_t n_want = define_front(point, N_POINTS, in), n_wrong = 0, n_beaten = 0;
    for (size_t i = 0; i < N_POINTS; i++)
        n_wrong += holds(&front, &point[i].id) != in[i];
    ok(n_wrong == 0 && front.n == n_want && n_want > 3,
       "seed %d, noise %g: the %zu members are those of the definition", (int)seed, noise, n_want);
    for (size_t i = 0; i < N_POINTS; i++)
        for (size_t j = 0; j < N_POINTS; j++)
            n_beaten += in[i] && in[j] && beats_plainly(&point[i], &point[j]);
    ok(n_beaten == 0 && is_sorted(&front), "none beats another, and they come by latency");
    front_fini(&front);
    archive_close(archive);
    fixture_remove(dir);
}

/* --- who counts --- */

static void put_meta_device(struct archive *archive, const char *name)
{
    char hex[ID128_HEX];
    id128_hex(id128_of(fixture_hash(name)), hex);
    archive_put_meta(archive, ARCHIVE_META_DEVICE_ID, hex, NULL);
}

static void check_who_counts(void)
{
    char dir[128];
    struct err err = {0};
    struct front front;
    struct geometry geometry = fixture_wide();
    struct id128 pending, failed, other;
    fixture_folder(dir);
    struct archive *archive = fixture_archive(dir);
    ok(front_load(&front, archive, &geometry, &err) == 0 && front.n == 0 && front.n_all == 0,
       "an empty archive has an empty front");
    ok(front_resolve(&front, archive, "@best", &err) == NULL && err.code == ERR_MISSING,
       "which has no best");
    front_fini(&front);

    struct id128 best = fixture_enter(archive, 0, 0.01, 4e5, 4e6, 4000000, RUNG_FINAL);
    struct id128 fast = fixture_enter(archive, 1, 0.50, 1e5, 2e6, 1500000, RUNG_FINAL);
    struct id128 middle = fixture_enter(archive, 2, 0.06, 2e5, 3e6, 1000000, RUNG_SEARCH);
    struct id128 beaten = fixture_enter(archive, 3, 0.60, 5e5, 5e6, 5000000, RUNG_FINAL);
    fixture_propose(archive, 4, &pending);
    failed = fixture_enter(archive, 5, 0.001, 1e4, 1e5, 1000, RUNG_FINAL);
    archive_put_failure(archive, &failed, "signal 11", true, &err);
    fixture_propose(archive, 6, &other);
    struct evaluation e = fixture_evaluation(&other, 0.001, 1e4, 1e5, 1000);
    e.device = id128_of(fixture_hash("another device"));
    archive_put_evaluation(archive, &e, "{}", &err);

    ok(front_load(&front, archive, &geometry, &err) == 0 && front.n == 3 && front.n_all == 4,
       "pending and quarantined ones and those of another class do not count");
    ok(holds(&front, &best) && holds(&front, &fast) && holds(&front, &middle) &&
           !holds(&front, &beaten),
       "the beaten one is in the list but not on the front");
    is_text(front.device, "cpu:test/2c", "the class is named");
    ok(front.private_cache_bytes == 2097152 && !front.has_parent, "and its cache");

    const struct front_member *found = front_resolve(&front, archive, "@best", &err);
    ok(found != NULL && id128_equal(found->candidate.id, best), "@best has the lowest KLD");
    found = front_resolve(&front, archive, "@fastest", &err);
    ok(found != NULL && id128_equal(found->candidate.id, fast), "@fastest the lowest latency");
    found = front_resolve(&front, archive, "@smallest", &err);
    ok(found != NULL && id128_equal(found->candidate.id, middle), "@smallest the fewest bytes");
    found = front_resolve(&front, archive, "@knee", &err);
    ok(found != NULL && id128_equal(found->candidate.id, middle), "@knee lies below the chord");
    found = front_resolve(&front, archive, "@250us", &err);
    ok(found != NULL && id128_equal(found->candidate.id, middle), "@250us is the best within it");
    ok(front_resolve(&front, archive, "@10us", &err) == NULL && err.code == ERR_MISSING,
       "nothing within 10 us");
    ok(front_resolve(&front, archive, "@250", &err) == NULL && err.code == ERR_USAGE,
       "a budget without a unit is a question misput");
    ok(front_resolve(&front, archive, "@worst", &err) == NULL && err.code == ERR_USAGE,
       "an unknown name too");
    ok(front_resolve(&front, archive, "@parent", &err) == NULL && err.code == ERR_MISSING,
       "the parent has not been measured");

    char hex[ID128_HEX];
    id128_hex(beaten, hex);
    hex[9] = '\0';
    found = front_resolve(&front, archive, hex, &err);
    ok(found != NULL && id128_equal(found->candidate.id, beaten),
       "a prefix finds any measured one");
    id128_hex(failed, hex);
    ok(front_resolve(&front, archive, hex, &err) == NULL && err.code == ERR_MISSING &&
           strstr(err.text, "signal 11") != NULL,
       "a quarantined one is told with its reason");
    id128_hex(pending, hex);
    ok(front_resolve(&front, archive, hex, &err) == NULL && err.code == ERR_MISSING,
       "a pending one has nothing to show");
    front_fini(&front);

    put_meta_device(archive, "another device");
    ok(front_load(&front, archive, &geometry, &err) == 0 && front.n == 1 && front.n_all == 1,
       "with the other class named, only its candidate counts");
    front_fini(&front);
    archive_close(archive);
    fixture_remove(dir);
}

static void check_parent(void)
{
    char dir[128], text[GENOME_TEXT_MAX];
    struct err err = {0};
    struct front front;
    struct geometry geometry = fixture_wide();
    struct genome genome;
    struct hash256 hash = fixture_hash("parent");
    fixture_folder(dir);
    struct archive *archive = fixture_archive(dir);
    genome_uniform(&genome, &geometry, FORMAT_BF16);
    genome_format(&genome, text);
    struct candidate parent = {.id = genome_id(&genome, &hash), .origin = FIXTURE_ORIGIN_PARENT};
    struct evaluation e = fixture_evaluation(&parent.id, 0, 3e5, 3e6, 18000000);
    e.rung = RUNG_FINAL;
    archive_put_candidate(archive, &parent, text, &err);
    archive_put_evaluation(archive, &e, "{}", &err);
    struct id128 good = fixture_enter(archive, 3, 0.1, 2e5, 2e6, 5000000, RUNG_FINAL);
    struct id128 vain = fixture_enter(archive, 4, 0.2, 4e5, 4e6, 19000000, RUNG_FINAL);
    ok(front_load(&front, archive, &geometry, &err) == 0 && front.has_parent && front.n_all == 2,
       "the parent stands by itself");
    ok(front.n == 1 && holds(&front, &good) && !holds(&front, &vain),
       "and beats whoever is slower, larger and worse than it");
    const struct front_member *found = front_resolve(&front, archive, "@parent", &err);
    ok(found != NULL && id128_equal(found->candidate.id, parent.id), "@parent is found");
    front_fini(&front);

    struct geometry fewer = geometry;
    fewer.n_layers = 4;
    ok(front_load(&front, archive, &fewer, &err) == -1 && err.code == ERR_DATA && front.all == NULL,
       "a genome of another geometry is refused: %s", err.text);
    archive_close(archive);
    fixture_remove(dir);
}

/* Three points, each of which beats the next within the noise of the others. */
static void check_circle(void)
{
    char dir[128];
    struct err err = {0};
    struct front front;
    struct geometry geometry = fixture_wide();
    /* Noise 1 in each (standard error of a difference); a value of 1.2 is beyond it, 0.6 within. */
    static const double offset[3][3] = {{0, 0.6, 1.2}, {1.2, 0, 0.6}, {0.6, 1.2, 0}};
    fixture_folder(dir);
    struct archive *archive = fixture_archive(dir);
    for (uint32_t i = 0; i < 3; i++) {
        struct point point = {.value = {0.1 * (10 + offset[i][0]), 1e4 * (10 + offset[i][1]),
                                        1e5 * (10 + offset[i][2]), 1e6},
                              .se = {0.1 / sqrt(2), 1e4 / sqrt(2), 1e5 / sqrt(2), 0}};
        enter_point(archive, i, &point);
    }
    ok(front_load(&front, archive, &geometry, &err) == 0 && front.n == 3,
       "where beating runs in a circle, the plain numbers decide (%zu left)", front.n);
    front_fini(&front);
    archive_close(archive);
    fixture_remove(dir);
}

/* A vague one that cannot be told from a good one, is faster, and is beaten itself. */
static void check_vague(void)
{
    char dir[128];
    struct err err = {0};
    struct front front;
    struct geometry geometry = fixture_wide();
    struct point best = {.value = {0.0018, 7.3e4, 2.5e6, 3.6e6}, .se = {2.5e-4, 3e2, 1e4, 0}};
    struct point vague = {.value = {0.0015, 7.7e4, 2.7e6, 4.2e6}, .se = {1e-3, 3e2, 1e4, 0}};
    struct point good = {.value = {0.0006, 8.1e4, 2.8e6, 4.6e6}, .se = {1.5e-4, 3e2, 1e4, 0}};
    fixture_folder(dir);
    struct archive *archive = fixture_archive(dir);
    enter_point(archive, 0, &best);
    enter_point(archive, 1, &vague);
    enter_point(archive, 2, &good);
    ok(beats_noisily(&vague, &good) && beats_noisily(&best, &vague) && !beats_noisily(&best, &good),
       "one that is beaten beats a good one");
    ok(front_load(&front, archive, &geometry, &err) == 0 && front.n == 2 &&
           holds(&front, &best.id) && holds(&front, &good.id),
       "which stays all the same");
    front_fini(&front);
    archive_close(archive);
    fixture_remove(dir);
}

int main(void)
{
    check_definition(1, 0);
    check_definition(2, 0.02);
    check_definition(3, 0.1);
    check_who_counts();
    check_parent();
    check_circle();
    check_vague();
    return tap_done();
}
