/* What a worker says of a unit, entered into the table with no trust in it. */
#include "cluster/evaluation.h"
#include "tests/tap.h"
#include "tests/unit/sensitivity_fixture.h"

static struct study study;
static struct space space;

static struct sensitivity *empty(void)
{
    struct err err = {0};
    struct sensitivity *table = sensitivity_create(&study, &space, FIXTURE_METHOD, &err);
    if (table == NULL)
        exit(1);
    return table;
}

#define HEAD "{\"kernels\": \"reference\", \"base\": {\"kld\": 0.5, \"kld_se\": 0.25}, \"rows\": ["
/* The embedding is the last gene, alone in its unit, with two levels. */
#define ROW "{\"gene\": 40, \"level\": 0, \"kld\": -0.125, \"kld_se\": 0.5, \"layer_error\": 2}"

static void refuse(uint32_t unit, const char *json, const char *says, const char *what)
{
    struct sensitivity *table = empty();
    struct err err = {0};
    ok(evaluation_parse_sensitivity(json, unit, table, &err) == -1 && err.code == ERR_DATA &&
           strstr(err.text, says) != NULL,
       "%s: %s", what, err.text);
    ok(sensitivity_count(table, NULL) == 0, "  and nothing is entered");
    sensitivity_destroy(table);
}

int main(void)
{
    struct geometry g = fixture_wide();
    struct err err = {0};
    g.n_layers = 5;
    fixture_study(&study, &g);
    study.limits.drop_attn = false;
    study.limits.drop_ffn = false;
    if (space_init(&space, &g, &study.limits, &err) != 0 ||
        !ok(space.n_genes == 31 && space.n_units == 11, "genes of the fixture"))
        printf("# %s, %u genes\n", err.text, space.n_genes);

    struct sensitivity *table = empty();
    ok(evaluation_parse_sensitivity(
           HEAD "{\"gene\": 30, \"level\": 0, \"kld\": -0.125, \"kld_se\": 0.5, "
                "\"layer_error\": 2}]}",
           10, table, &err) == 0,
       "a unit is entered %s", err.text);
    const struct sensitivity_row *row = sensitivity_at(table, 30, 0);
    ok(row->kld == -0.125 && row->kld_se == 0.5 && row->layer_error == 2, "figure by figure");
    double kld, se;
    const char *kernels;
    sensitivity_base(table, &kld, &se, &kernels);
    ok(kld == 0.5 && se == 0.25 && strcmp(kernels, "reference") == 0, "with the base");
    sensitivity_destroy(table);

    refuse(10, "{", "kernels", "no JSON");
    refuse(10, "{\"kernels\": \"x\"}", "'kld'", "no base");
    refuse(10, HEAD "]}", "'rows'", "a row that is missing");
    refuse(10, HEAD ROW "]}", "'gene'", "a gene that is not there");
    refuse(10, HEAD "{\"gene\": 29, \"level\": 0, \"kld\": 1}]}", "'gene'", "another unit's gene");
    refuse(10, HEAD "{\"gene\": 30, \"level\": 1, \"kld\": 1}]}", "'level'", "the finest level");
    refuse(10, HEAD "{\"gene\": 30, \"level\": 0, \"kld\": 1e999}]}", "'kld'", "no number");
    refuse(10, HEAD "{\"gene\": 30, \"level\": 0, \"kld\": 1, \"kld_se\": -1}]}", "'kld_se'",
           "an error below 0");
    refuse(10, HEAD "{\"gene\": 30, \"level\": 0, \"kld\": 1, \"layer_error\": \"\"}]}",
           "'layer_error'", "a word for a number");
    return tap_done();
}
