/* Which candidates a latency study draws: sound ones, no two alike, the same for one seed; and the
 * operations that it finds in a table of the same space. */
#include "cluster/latency_pool.h"
#include "space/base/err.h"
#include "tests/tap.h"
#include "tests/unit/space_fixture.h"

#include <stdlib.h>

#define N_WANTED 60

static struct space space;
static struct study study;

static struct op_table *measure(struct team *team, struct err *err)
{
    struct workload workloads[2] = {study.decode, study.prefill};
    struct device_class device = {.name = "any", .details = "{}", .private_bytes = 1 << 20};

    return op_table_measure(&space, workloads, 2, kernels_select(), team, &device, 3, err);
}

static void test_pool(const struct op_table *ops)
{
    struct latency_pool pool = {0}, again = {0}, other = {0};
    struct err err = {0};
    size_t n_twice = 0, n_timed = 0, n_canonical = 0, n_same = 0, n_new = 0;

    ok(latency_pool_make(&pool, &study, &space, ops, N_WANTED, 1, &err) == 0, "a pool %s",
       err.text);
    ok(pool.n > N_WANTED / 2 && pool.n <= N_WANTED && pool.n_fixed >= 4 &&
           pool.n_fixed <= LATENCY_POOL_FIXED,
       "of %zu candidates, %zu of them fixed", pool.n, pool.n_fixed);
    for (size_t i = 0; i < pool.n; i++) {
        struct genome canonical = pool.genome[i];
        for (size_t k = 0; k < i; k++)
            n_twice += genome_equal(&pool.genome[i], &pool.genome[k]);
        n_canonical += genome_canonicalize(&canonical, &space.geometry, NULL) == 0 &&
                       genome_equal(&canonical, &pool.genome[i]);
        n_timed += op_table_predict(ops, &pool.genome[i], &space.geometry, &study.decode) >= 0 &&
                   op_table_predict(ops, &pool.genome[i], &space.geometry, &study.prefill) >= 0;
    }
    ok(n_twice == 0, "no two are alike");
    ok(n_canonical == pool.n, "all are canonical");
    ok(n_timed == pool.n, "and made of operations of the table");
    ok(genome_layers_kept(&pool.genome[0]) == space.geometry.n_layers &&
           pool.genome[0].ffn[0].width == space.geometry.d_ff,
       "the first is dense");
    ok(account_weight_bytes(&pool.genome[1], &space.geometry) <
           account_weight_bytes(&pool.genome[0], &space.geometry) / 2,
       "the second all low");

    latency_pool_make(&again, &study, &space, ops, N_WANTED, 1, NULL);
    latency_pool_make(&other, &study, &space, ops, N_WANTED, 2, NULL);
    for (size_t i = 0; i < pool.n && i < again.n; i++)
        n_same += genome_equal(&pool.genome[i], &again.genome[i]);
    for (size_t i = 0; i < other.n && i < pool.n; i++)
        n_new += !genome_equal(&pool.genome[i], &other.genome[i]);
    ok(n_same == pool.n && again.n == pool.n, "one seed draws the same ones");
    ok(n_new > 0, "another seed others");

    size_t n = pool.n;
    struct genome genome = pool.genome[3];
    ok(latency_pool_add(&pool, &genome, NULL) == 0 && pool.n == n, "what is there is not added");
    genome_uniform(&genome, &space.geometry, FORMAT_F32);
    ok(latency_pool_add(&pool, &genome, NULL) == 0 && pool.n == n + 1 &&
           genome_equal(&pool.genome[n], &genome),
       "what is not is");
    latency_pool_fini(&pool);
    latency_pool_fini(&again);
    latency_pool_fini(&other);
}

static void test_coverage(struct op_table *ops)
{
    struct workload workloads[2] = {study.decode, study.prefill};

    ok(op_table_covers(ops, &space, workloads, 2), "a table covers its own space");
    workloads[1].n_tokens++;
    ok(!op_table_covers(ops, &space, workloads, 2), "but not another workload");
}

int main(void)
{
    struct err err = {0};
    struct team *team = team_create(1, NULL, NULL, NULL);
    struct geometry geometry = fixture_wide();

    geometry.n_layers = 3;
    geometry.d_ff = 512;
    study.geometry = geometry;
    study.decode = (struct workload){WORKLOAD_DECODE, 2, 0, 1};
    study.prefill = (struct workload){WORKLOAD_PREFILL, 8, 0, 1};
    space_default_limits(&study.limits, &geometry, PROFILE_GGUF_HETERO);
    ok(space_init(&space, &geometry, &study.limits, &err) == 0, "a space %s", err.text);
    struct op_table *ops = measure(team, &err);
    if (ok(ops != NULL, "its operations, %zu %s", ops != NULL ? op_table_n(ops) : 0, err.text)) {
        test_pool(ops);
        test_coverage(ops);
    }
    op_table_destroy(ops);
    team_destroy(team);
    return tap_done();
}
