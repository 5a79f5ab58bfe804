/* The archive: what goes in comes out, what may not go in does not, and what was committed is there
 * after a kill -9, beside a reader, on a full disk. */
#include "results/archive_parts.h"
#include "tests/tap.h"
#include "tests/unit/results_fixture.h"

static void check_round_trip(void)
{
    char dir[128];
    struct err err = {0};
    struct id128 id;
    fixture_folder(dir);
    struct archive *archive = fixture_archive(dir);
    if (!ok(archive != NULL, "an archive is created"))
        return;
    ok(archive_begin(archive, &err) == 0, "a transaction begins");
    ok(fixture_propose(archive, 7, &id) == 0, "a candidate goes in");
    struct evaluation in = fixture_evaluation(&id, 0.02, 3e5, 4e6, 1000000), out;
    ok(archive_put_evaluation(archive, &in, "{\"a\":1}", &err) == 0, "its evaluation too");
    ok(archive_commit(archive, &err) == 0, "commit");
    char *details = NULL;
    ok(archive_get_evaluation(archive, &id, &out, &details, &err) == 0 && out.kld == 0.02,
       "it comes out");
    is_text(details, "{\"a\":1}", "with its details");
    free(details);
    ok(archive_fsck(archive, NULL, NULL, &err) == 0, "fsck is clean: %s", err.text);
    archive_close(archive);
    fixture_remove(dir);
}

int main(void)
{
    check_round_trip();
    return tap_done();
}
