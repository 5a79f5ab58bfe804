/* The latency model of genomes: terms, fit, accuracy, and its file. */
#include "latency_model/predictor.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "tests/tap.h"
#include "tests/unit/op_table_fixture.h"
#include <stdlib.h>
#include <unistd.h>

#define N_GENOMES 24

static const struct workload decode = {WORKLOAD_DECODE, 32, 0, 1};
static const struct workload prefill = {WORKLOAD_PREFILL, 128, 0, 1};
static struct geometry geometry;
static struct genome genomes[N_GENOMES];
static struct op_table *table;

/* What an honest machine would measure: Q4_K a fifth slower than the table says, and something
 * for each pass and layer. */
static double measure(const double *term)
{
    double ns = 500 + 40 * term[PREDICTOR_LAYER];
    for (int class = 0; class < N_OP_CLASSES; class ++)
        ns += term[class] * (class == FORMAT_Q4_K ? 1.2 : 1);
    return ns;
}

static void make_points(const struct workload *workload, struct predictor_point *points)
{
    for (size_t i = 0; i < N_GENOMES; i++) {
        points[i].id = (struct id128){.bytes = {(uint8_t)i, 7}};
        if (!predictor_terms(table, &genomes[i], &geometry, workload, &points[i]))
            points[i].term[0] = NAN;
        points[i].ns = measure(points[i].term);
    }
}

static void test_terms(const struct predictor_point *points)
{
    double sum = 0;
    for (int class = 0; class < N_OP_CLASSES; class ++)
        sum += points[3].term[class];
    near(op_table_predict(table, &genomes[3], &geometry, &decode) / sum, 1, 1e-12,
         "the classes add up to the table's sum");
    near(points[3].table_ns / sum, 1, 1e-12, "which is kept beside them");
    struct genome other = genomes[3];
    other.attn[0].qkv = FORMAT_Q5_0;
    struct predictor_point point;
    ok(!predictor_terms(table, &other, &geometry, &decode, &point),
       "an operation that was not timed has no time");
}

/* Out of the cores' own caches everything takes half as long. */
static void test_caches(const struct predictor_point *far)
{
    struct predictor_point near, between, unit[2];
    struct op_sums sums;
    for (size_t i = 0; i < table->n; i++)
        table->entry[i].near_ns = table->entry[i].ns / 2;
    op_table_sums(table, &genomes[5], &geometry, &decode, &sums);
    near(sums.ns[FORMAT_Q4_K], far->term[FORMAT_Q4_K], 1e-6, "without caches all comes from afar");
    near(far->term[PREDICTOR_SHARED], 0, 0, "and nothing costs by the byte");
    near(sums.weight_bytes / (double)account_weight_bytes(&genomes[5], &geometry), 1, 0.02,
         "what is read are the weights");
    table->device.private_bytes = (size_t)sums.weight_bytes / 8 + 1;
    predictor_terms(table, &genomes[5], &geometry, &decode, &near);
    near(near.term[FORMAT_Q4_K] / far->term[FORMAT_Q4_K], 0.5, 1e-9,
         "16 times what the caches keep are read at their pace");
    near(near.term[PREDICTOR_SHARED] / sums.weight_bytes, 15.0 / 16, 1e-3,
         "and by the byte where they end");
    predictor_unit_terms(table, &genomes[5], &geometry, &decode, 4, &unit[0]);
    table->device.private_bytes = (size_t)sums.weight_bytes / 16;
    predictor_terms(table, &genomes[5], &geometry, &decode, &between);
    predictor_unit_terms(table, &genomes[5], &geometry, &decode, 4, &unit[1]);
    near(between.term[FORMAT_Q4_K] / far->term[FORMAT_Q4_K], 0.75, 1e-3,
         "of a model twice as large half counts as far");
    near(between.term[PREDICTOR_SHARED] / near.term[PREDICTOR_SHARED], 0.5, 1e-3,
         "with no more bytes than that");
    near(near.term[PREDICTOR_MEMORY], sums.weight_bytes, 1e-6, "no last cache keeps anything");
    table->device.last_bytes = (size_t)sums.weight_bytes / 2;
    predictor_terms(table, &genomes[5], &geometry, &decode, &near);
    near(near.term[PREDICTOR_MEMORY] / sums.weight_bytes, 0.75, 1e-3,
         "of one half as large as the model three quarters come from memory");
    table->device.last_bytes = 0;
    near(between.term[PREDICTOR_OPERATION], sums.n_matmuls, 0, "every matmul counts once");
    near(unit[1].table_ns / unit[0].table_ns, 1.5, 1e-3, "a unit's share is that of the whole");
    table->device.private_bytes = 0;
}

/* Whatever the caches. */
static void test_units(size_t private_bytes, size_t last_bytes)
{
    for (size_t i = 0; i < table->n; i++)
        table->entry[i].near_ns = table->entry[i].ns / 3;
    table->device.private_bytes = private_bytes;
    table->device.last_bytes = last_bytes;
    double worst = 0;
    for (size_t i = 0; i < N_GENOMES; i++) {
        struct predictor_point whole, unit;
        double sum[N_PREDICTOR_TERMS] = {0};
        predictor_terms(table, &genomes[i], &geometry, &decode, &whole);
        for (uint32_t u = 0; u <= 2 * geometry.n_layers; u++) {
            predictor_unit_terms(table, &genomes[i], &geometry, &decode, u, &unit);
            for (int t = 0; t < N_PREDICTOR_TERMS; t++)
                sum[t] += unit.term[t];
        }
        for (int t = 0; t < N_PREDICTOR_TERMS; t++)
            worst = fmax(worst, fabs(sum[t] - whole.term[t]) / fmax(whole.term[t], 1));
    }
    near(worst, 0, 1e-9, "all units have the terms of the whole, caches of %zu and %zu",
         private_bytes, last_bytes);
    table->device.private_bytes = table->device.last_bytes = 0;
}

static void test_choice(const struct predictor_point *points)
{
    const struct predictor_point *both[2] = {points, points};
    size_t chosen[N_GENOMES] = {4, 9}, n = 0, n_seen = 0;
    ok(predictor_choose(both, N_GENOMES, 2, 10, chosen, &n, NULL) == 0 && n == 10, "10 are chosen");
    ok(chosen[0] == 4 && chosen[1] == 9, "the given ones first");
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < i; k++)
            n_seen += chosen[i] == chosen[k];
    ok(n_seen == 0, "none of them twice");
    ok(predictor_choose(both, 5, 1, 10, chosen, &n, NULL) == 0 && n == 5,
       "where there are fewer all are");
}

static void test_fit(struct predictor *predictor, struct predictor_point *points,
                     const struct workload *workload)
{
    struct predictor_accuracy accuracy;
    make_points(workload, points);
    ok(predictor_fit(predictor, workload, points, 16, NULL) == 0, "16 candidates are fitted");
    predictor_judge(predictor, points + 16, N_GENOMES - 16, &accuracy);
    ok(accuracy.n == N_GENOMES - 16 && accuracy.mape < 0.005 && accuracy.within_5 == 1,
       "others are foretold to %.2f %%; by the plain sum to %.1f %%", 100 * accuracy.mape,
       100 * accuracy.table_mape);
    ok(accuracy.mape < 0.2 * accuracy.table_mape, "which is much better");
}

static void test_file(struct predictor predictor[2])
{
    char path[] = "/tmp/test_predictor.XXXXXX";
    struct predictor_origin origin = {"nobody's machine", "plain", geometry}, other = origin;
    struct predictor read[2];
    struct err err = {0};
    struct predictor_point point = {.id = {{20}}, .ns = 7};
    int fd = mkstemp(path);

    predictor_terms(table, &genomes[20], &geometry, &decode, &point);
    const double *term = point.term;
    ok(predictor_hold_out(&predictor[0], &point, 1, &err) == 0, "a point is held out");
    ok(predictor_save(predictor, &origin, path, &err) == 0, "saved");
    ok(predictor_load(read, &origin, path, &err) == 0, "and read again %s", err.text);
    near(predictor_ns(&read[0], term) / predictor_ns(&predictor[0], term), 1, 1e-9,
         "with the same prediction");
    ok(workload_equal(&read[1].workload, &prefill), "and its workloads");
    ok(read[0].n_held_out == 1 && read[0].held_out[0].ns == 7 &&
           read[0].held_out[0].table_ns == point.table_ns && read[1].n_held_out == 0,
       "and what was held out");
    predictor_fini(&read[0]);
    predictor_fini(&read[1]);

    snprintf(other.device, sizeof other.device, "another");
    ok(predictor_load(read, &other, path, &err) == -1 && err.code == ERR_RESOURCE, "%s", err.text);
    other = origin;
    other.geometry.d_ff += 256;
    ok(predictor_load(read, &other, path, &err) == -1 && err.code == ERR_DATA, "%s", err.text);

    /* Any byte changed: read as something sound, or refused; never worse. */
    size_t n;
    char *text = file_read(path, 1 << 24, &n, NULL);
    int n_refused = 0, n_read = 0;
    for (size_t at = 0; at < n; at += 11) {
        char kept = text[at];
        text[at] = at % 2 == 0 ? '-' : ']';
        file_replace(path, text, n, NULL);
        text[at] = kept;
        if (predictor_load(read, &origin, path, &err) == 0) {
            n_read++;
            predictor_fini(&read[0]);
            predictor_fini(&read[1]);
        } else {
            n_refused++;
        }
    }
    ok(n_refused > n_read, "%d damaged files refused, %d still sound", n_refused, n_read);
    free(text);
    close(fd);
    unlink(path);
}

int main(void)
{
    static struct predictor_point points[N_GENOMES];
    struct predictor predictor[2] = {0};
    geometry = fixture_wide();
    fixture_genomes(&geometry, genomes, N_GENOMES);
    table = fixture_op_table(&geometry, genomes, N_GENOMES, &decode, &prefill);
    make_points(&decode, points);
    test_terms(points);
    test_caches(&points[5]);
    test_units(0, 0);
    test_units(30000, 400000);
    make_points(&decode, points);
    test_choice(points);
    test_fit(&predictor[0], points, &decode);
    test_fit(&predictor[1], points, &prefill);
    test_file(predictor);
    predictor_fini(&predictor[0]);
    predictor_fini(&predictor[1]);
    op_table_destroy(table);
    return tap_done();
}
