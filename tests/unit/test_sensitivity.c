/* The table of sensitivities: written and read back, reused by other spaces of the same parent,
 * refused where it belongs to somebody else. */
#include "results/sensitivity.h"
#include "tests/tap.h"
#include "tests/unit/results_fixture.h"
#include "tests/unit/sensitivity_fixture.h"

/* A study, its space and a table of it, empty. */
struct scene {
    struct study study;
    struct space space;
    struct sensitivity *table;
};

static struct scene *scene_of(const struct study *study, const char *method)
{
    struct scene *s = calloc(1, sizeof *s);
    struct err err = {0};
    s->study = *study;
    if (space_init(&s->space, &study->geometry, &study->limits, &err) == 0)
        s->table = sensitivity_create(&s->study, &s->space, method, &err);
    if (s->table == NULL) {
        printf("# fixture: %s\n", err.text);
        exit(1);
    }
    return s;
}

static struct scene *plain_scene(void)
{
    struct geometry wide = fixture_wide();
    struct study study;
    fixture_study(&study, &wide);
    return scene_of(&study, FIXTURE_METHOD);
}

static void scene_free(struct scene *s)
{
    sensitivity_destroy(s->table);
    free(s);
}

static int parse(struct scene *s, const char *text, struct sensitivity_taken *taken,
                 struct err *err)
{
    return sensitivity_parse(s->table, "table", text, strlen(text), taken, err);
}

static void test_rows(void)
{
    struct scene *s = plain_scene();
    size_t n_rows;
    uint32_t n = 0;
    for (uint32_t g = 0; g < s->space.n_genes; g++)
        n += s->space.gene[g].n_levels - 1;
    ok(sensitivity_count(s->table, &n_rows) == 0 && n_rows == n && n == 8 * 7 + 7 + 1,
       "a row for every level but the last of each gene (%zu)", n_rows);
    ok(!sensitivity_has_unit(s->table, 3), "nothing is known of a unit");
    fixture_fill(s->table, 3);
    ok(sensitivity_has_unit(s->table, 3) && !sensitivity_has_unit(s->table, 2) &&
           sensitivity_count(s->table, NULL) == 4,
       "until it is measured, and of the others still nothing");
    const struct sensitivity_row again = {7, 7, 7};
    int32_t down = space_gene_of(&s->space, GENE_DOWN, 1);
    sensitivity_put(s->table, (uint32_t)down, 0, &again);
    near(sensitivity_at(s->table, (uint32_t)down, 0)->kld,
         fixture_row(&s->space, (uint32_t)down, 0).kld, 0, "what is known stays");

    double weights, kv;
    sensitivity_saved(s->table, (uint32_t)down, 0, &weights, &kv);
    near(weights, 256 * (1024 / 32 * (34 - 18)), 0, "bytes saved: Q4_0 for Q8_0 in one matrix");
    near(kv, 0, 0, "which the KV cache does not feel");
    int32_t groups = space_gene_of(&s->space, GENE_KV_GROUPS, 2);
    sensitivity_saved(s->table, (uint32_t)groups, 0, &weights, &kv);
    near(kv, 2 * 4 * 32 * 2, 0, "but a dropped attention: K and V of 4 groups of 32, 16 bits");
    scene_free(s);
}

/* A level that falls back to the finest is that one. */
static void test_fallback(void)
{
    struct geometry stories = fixture_stories();
    struct study study;
    fixture_study(&study, &stories);
    study.limits.profile = PROFILE_NATIVE;
    study.limits.ffn_grid = 32;
    struct scene *s = scene_of(&study, FIXTURE_METHOD);
    int32_t down = space_gene_of(&s->space, GENE_DOWN, 0);
    const struct sensitivity_row *row = sensitivity_at(s->table, (uint32_t)down, 0);
    ok(s->space.gene[down].value[0] == FORMAT_Q4_0 && row->kld == 0 && row->kld_se == 0 &&
           isnan(row->layer_error),
       "rows of 172 weights take no blocks: that costs nothing, and is known unmeasured");
    scene_free(s);
}

static void test_round_trip(const char *dir)
{
    struct scene *a = plain_scene(), *b = plain_scene();
    struct sensitivity_taken taken;
    struct err err = {0};
    char path[160];
    bool equal = true;
    fixture_fill(a->table, -1);
    snprintf(path, sizeof path, "%s/table.json", dir);
    ok(sensitivity_save(a->table, path, &err) == 0, "a table is saved %s", err.text);
    ok(sensitivity_take(b->table, path, &taken, &err) == 0 && taken.n_given == taken.n_taken &&
           taken.n_taken == sensitivity_count(a->table, NULL) && taken.why[0] == '\0',
       "and taken whole %s", err.text);
    for (uint32_t g = 0; g < a->space.n_genes; g++)
        for (uint32_t l = 0; l + 1 < a->space.gene[g].n_levels; l++)
            equal = equal && memcmp(sensitivity_at(a->table, g, l), sensitivity_at(b->table, g, l),
                                    sizeof(struct sensitivity_row)) == 0;
    ok(equal, "with the same bits in every row");
    double kld, se;
    const char *kernels;
    sensitivity_base(b->table, &kld, &se, &kernels);
    ok(kld == 0.00125 && se == 0.0001 && strcmp(kernels, "reference") == 0, "and in the base");
    char *first = fixture_text(a->table), *second = fixture_text(b->table);
    is_text(second, first, "and it is written as the same text");
    ok(strstr(first, "{\"gene\":\"blk.3.ffn_down\",\"value\":\"Q4_0\",\"unit\":7,") != NULL &&
           strstr(first, "{\"gene\":\"blk.2.ffn_width\",\"value\":\"512\",") != NULL &&
           strstr(first, "\"blk.5.attn_kv_groups\",\"value\":\"drop\"") != NULL,
       "a line a row, in words");
    ok(strstr(first, "blk.0.attn_kv_groups\",\"value\":\"drop\"") == NULL,
       "the first layer has no attention to drop");
    ok(sensitivity_take(b->table, path, &taken, &err) == 0 && taken.n_taken == 0,
       "a second time there is nothing to take");
    snprintf(path, sizeof path, "%s/none.json", dir);
    ok(sensitivity_take(b->table, path, &taken, &err) == -1 && err.code == ERR_MISSING,
       "no file is ERR_MISSING");
    free(first);
    free(second);
    scene_free(a);
    scene_free(b);
}

/* Rows of (gene, value) that two spaces have both. */
static size_t n_common(const struct space *a, const struct space *b)
{
    size_t n = 0;
    char name[48], other[48], value[16], other_value[16];
    for (uint32_t g = 0; g < a->n_genes; g++)
        for (uint32_t l = 0; l + 1 < a->gene[g].n_levels; l++)
            for (uint32_t h = 0; h < b->n_genes; h++)
                for (uint32_t m = 0; m + 1 < b->gene[h].n_levels; m++)
                    n += strcmp(space_gene_name(a, g, name), space_gene_name(b, h, other)) == 0 &&
                         strcmp(space_level_name(a, g, l, value),
                                space_level_name(b, h, m, other_value)) == 0;
    return n;
}

static void check_reuse(const char *text, const struct space *from, const struct study *study,
                        const char *what)
{
    struct scene *s = scene_of(study, FIXTURE_METHOD);
    struct sensitivity_taken taken;
    struct err err = {0};
    size_t n_rows, common = n_common(from, &s->space);
    bool right = true;
    ok(parse(s, text, &taken, &err) == 0 && taken.n_taken == common, "%s: %zu rows fit %s", what,
       common, err.text);
    size_t n_known = sensitivity_count(s->table, &n_rows);
    ok(n_known == common && n_known > 0 && n_known < n_rows, "%s: and %zu are to be measured", what,
       n_rows - n_known);
    for (uint32_t g = 0; g < s->space.n_genes; g++)
        for (uint32_t l = 0; l + 1 < s->space.gene[g].n_levels; l++) {
            double kld = sensitivity_at(s->table, g, l)->kld;
            char name[48], other[48], value[16], other_value[16];
            for (uint32_t h = 0; h < from->n_genes && !isnan(kld); h++)
                for (uint32_t m = 0; m + 1 < from->gene[h].n_levels; m++)
                    if (strcmp(space_gene_name(&s->space, g, name),
                               space_gene_name(from, h, other)) == 0 &&
                        strcmp(space_level_name(&s->space, g, l, value),
                               space_level_name(from, h, m, other_value)) == 0)
                        right = right && kld == fixture_row(from, h, m).kld;
        }
    ok(right, "%s: each is the row of that name", what);
    scene_free(s);
}

static void test_reuse(void)
{
    struct scene *s = plain_scene();
    struct study other = s->study;
    fixture_fill(s->table, -1);
    char *text = fixture_text(s->table);

    other.limits.types[other.limits.n_types++] = FORMAT_Q3_K;
    check_reuse(text, &s->space, &other, "a coarser format more");
    other = s->study;
    other.limits.ffn_grid = 256;
    check_reuse(text, &s->space, &other, "finer steps of width");
    other = s->study;
    other.limits.kv_groups[0] = 1;
    other.limits.kv_groups[1] = 4;
    other.limits.n_kv_groups = 2;
    other.limits.drop_ffn = false;
    check_reuse(text, &s->space, &other, "other group counts, and no dropped FFN");
    other = s->study;
    other.limits.profile = PROFILE_GGUF;
    check_reuse(text, &s->space, &other, "equal layers");

    struct sensitivity_taken taken;
    struct err err = {0};
    other = s->study;
    other.limits.types[1] = FORMAT_Q6_K;
    struct scene *base = scene_of(&other, FIXTURE_METHOD);
    ok(parse(base, text, &taken, &err) == 0 && taken.n_taken == 0 &&
           sensitivity_count(base->table, NULL) == 0 && strstr(taken.why, "base") != NULL,
       "another finest format is another base, above which nothing was measured: %s", taken.why);
    scene_free(base);
    base = scene_of(&s->study, "calibration 1, order 1, variant 2");
    ok(parse(base, text, &taken, &err) == 0 && taken.n_taken == 0 &&
           strstr(taken.why, "variant 1; this kerf: calibration 1, order 1, variant 2") != NULL,
       "weights made in another way: %s", taken.why);
    ok(parse(base, "{\"schema\": 1, \"genes\": [{\"gene\": 0, \"loss\": [1, 0]}]}", &taken, &err) ==
               0 &&
           taken.n_taken == 0 && taken.why[0] != '\0',
       "an earlier schema: %s", taken.why);
    scene_free(base);
    free(text);
    scene_free(s);
}

static void refuse(struct scene *s, const char *text, const char *says, const char *what)
{
    struct sensitivity_taken taken;
    struct err err = {0};
    ok(parse(s, text, &taken, &err) == -1 && err.code == ERR_DATA &&
           strstr(err.text, says) != NULL && strchr(err.text, '\n') == NULL,
       "%s: %s", what, err.text);
}

/* `text` with the first `from` replaced. */
static char *changed(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    char *copy = malloc(strlen(text) + strlen(to) + 1);
    if (at == NULL || copy == NULL)
        exit(1);
    sprintf(copy, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return copy;
}

static void refuse_changed(struct scene *s, const char *text, const char *from, const char *to,
                           const char *says)
{
    char *bad = changed(text, from, to), what[80];
    snprintf(what, sizeof what, "%.30s -> %.30s", from, to);
    refuse(s, bad, says, what);
    free(bad);
}

static void test_refusals(void)
{
    struct scene *s = plain_scene(), *empty = plain_scene();
    struct study other = s->study;
    fixture_fill(s->table, -1);
    char *text = fixture_text(s->table);

    other.parent = sha256_of("stranger", 8);
    struct scene *stranger = scene_of(&other, FIXTURE_METHOD);
    refuse(stranger, text, "/model/sha256 is \"", "another parent");
    scene_free(stranger);
    other = s->study;
    other.calibration_hash = sha256_of("stranger", 8);
    stranger = scene_of(&other, FIXTURE_METHOD);
    refuse(stranger, text, "/quality/calibration/sha256", "another calibration text");
    scene_free(stranger);
    other = s->study;
    other.sensitivity_tokens = 2048;
    stranger = scene_of(&other, FIXTURE_METHOD);
    refuse(stranger, text, "/quality/sensitivity/tokens is 1024 there, 2048 here",
           "another number of tokens");
    scene_free(stranger);
    other = s->study;
    strcpy(other.separator, "\n");
    stranger = scene_of(&other, FIXTURE_METHOD);
    refuse(stranger, text, "/quality/separator", "another cut");
    scene_free(stranger);

    refuse(empty, "", "no JSON", "nothing");
    refuse(empty, "[1, 2]", "no JSON", "a list");
    refuse(empty, "{\"schema\": 3}", "newer", "a newer schema");
    refuse(empty, "{\"schema\": 2, \"method\": \"x\"}", "/model/sha256 is absent", "no grounds");
    refuse_changed(empty, text, "\"rows\": [", "\"rows\": {}, \"old\": [", "no list of rows");
    refuse_changed(empty, text, "\"mean\":0.3,", "\"mean\":1e999,", "row 1");
    refuse_changed(empty, text, "\"mean\":0.3,", "", "row 1");
    refuse_changed(empty, text, "\"layer_error\":0.", "\"layer_error\":-0.", "row 1");
    refuse_changed(empty, text, "\"layer_error\":0.", "\"layer_error\":\"no\",\"x\":0.", "row 1");
    refuse_changed(empty, text, "\"kernels\": \"", "\"kernels\": 3, \"x\": \"", "the base");
    refuse_changed(empty, text, "\"kld\":{\"mean\":0.00125", "\"kld\":{\"mean\":\"\"", "the base");
    ok(sensitivity_count(empty->table, NULL) == 0, "after all that the table is as it was");
    char *bad = changed(text, "\"se\":0.01875", "\"se\":-1");
    struct sensitivity_taken taken;
    ok(parse(empty, bad, &taken, NULL) == -1 && sensitivity_count(empty->table, NULL) == 0,
       "of a table with one bad row none is taken");
    free(bad);
    free(text);
    scene_free(empty);
    scene_free(s);
}

int main(void)
{
    char dir[128];
    fixture_folder(dir);
    test_rows();
    test_fallback();
    test_round_trip(dir);
    test_reuse();
    test_refusals();
    fixture_remove(dir);
    return tap_done();
}
