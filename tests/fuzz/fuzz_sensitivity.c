/* fuzz_sensitivity.c - a table of sensitivities from a stranger: taken into an empty one and
 * written again.  A refusal has to be ERR_DATA in one line and leave the table as it was; what is
 * taken has to be sound enough to be taken back from what is written; the sanitizers judge the
 * rest. */
#include "results/sensitivity.h"
#include "space/base/err.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/sensitivity_fixture.h"

static struct study study;
static struct space space;

static void must(bool held, const struct err *err, const char *what)
{
    if (held)
        return;
    fprintf(stderr, "fuzz_sensitivity: %s: %s '%s'\n", what, err_name(err->code), err->text);
    abort();
}

static struct sensitivity *empty_table(void)
{
    struct err err = {0};
    if (space.n_genes == 0) {
        struct geometry g = fixture_wide();
        g.n_layers = 2;
        fixture_study(&study, &g);
        must(space_init(&space, &g, &study.limits, &err) == 0, &err, "space");
    }
    struct sensitivity *table = sensitivity_create(&study, &space, FIXTURE_METHOD, &err);
    must(table != NULL, &err, "table");
    return table;
}

uint8_t *fuzz_sample(size_t *n_bytes)
{
    struct sensitivity *table = empty_table();
    fixture_fill(table, -1);
    char *text = fixture_text(table);
    *n_bytes = strlen(text);
    sensitivity_destroy(table);
    return (uint8_t *)text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    struct sensitivity *table = empty_table(), *again;
    struct sensitivity_taken taken;
    struct err err = {0};
    /* An exact copy, so that a read behind the end is seen. */
    char *copy = malloc(n_bytes > 0 ? n_bytes : 1);

    if (copy == NULL)
        return 0;
    memcpy(copy, data, n_bytes);
    size_t n_known = sensitivity_count(table, NULL);
    if (sensitivity_parse(table, "fuzz", copy, n_bytes, &taken, &err) != 0) {
        must(err.code == ERR_DATA && err.text[0] != '\0' && strchr(err.text, '\n') == NULL, &err,
             "refusal");
        must(sensitivity_count(table, NULL) == n_known, &err, "rows of a refused table");
    } else {
        must(strchr(taken.why, '\n') == NULL, &err, "reason");
        char *text = fixture_text(table);
        again = empty_table();
        size_t n = sensitivity_count(table, NULL);
        must(n - n_known == taken.n_taken, &err, "count");
        must(sensitivity_parse(again, "again", text, strlen(text), &taken, &err) == 0 &&
                 sensitivity_count(again, NULL) == n,
             &err, "what was written");
        sensitivity_destroy(again);
        free(text);
    }
    sensitivity_destroy(table);
    free(copy);
    return 0;
}
