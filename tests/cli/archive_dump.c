/* archive_dump.c - every committed evaluation of an archive, one line each in the order of commit:
 *
 *     archive_dump DIR [evaluations | candidates]
 *
 *     ID ATTEMPT RUNG LEVELS KLD DECODE_NS PREFILL_NS BYTES WALL     (RUNG: search or final)
 *     ID SEQUENCE ORIGIN LEVELS                                      (candidates)
 *
 * LEVELS is the number of genes, 0 for the parent.  Numbers are printed exactly, so that two dumps
 * tell whether anything that was committed has changed. */
#include "results/archive.h"
#include "space/base/err.h"

#include <stdio.h>
#include <string.h>

static struct archive *archive;

static int print_evaluation(void *arg, const struct evaluation *e)
{
    static struct candidate candidate;
    char id[ID128_HEX];

    (void)arg;
    id128_hex(e->candidate, id);
    if (archive_get_candidate(archive, &e->candidate, &candidate, NULL) != 0)
        return -1;
    printf("%s %u %s %u %a %a %a %llu %lld\n", id, e->attempt,
           e->rung == RUNG_FINAL ? "final" : "search", candidate.n_levels, e->kld,
           e->decode.median_ns, e->prefill.median_ns, (unsigned long long)e->weight_bytes,
           (long long)e->wall_s);
    return 0;
}

static int print_candidate(void *arg, const struct candidate *candidate)
{
    char id[ID128_HEX];

    (void)arg;
    id128_hex(candidate->id, id);
    printf("%s %llu %u %u\n", id, (unsigned long long)candidate->sequence, candidate->origin,
           candidate->n_levels);
    return 0;
}

int main(int argc, char **argv)
{
    struct err err = {0};
    bool candidates = argc == 3 && strcmp(argv[2], "candidates") == 0;

    archive = argc >= 2 ? archive_open(argv[1], ARCHIVE_READ, NULL, &err) : NULL;
    if (archive == NULL ||
        (candidates ? archive_each_candidate(archive, print_candidate, NULL, &err)
                    : archive_each_evaluation(archive, print_evaluation, NULL, &err)) != 0) {
        fprintf(stderr, "archive_dump: %s\n", err.text);
        return 1;
    }
    archive_close(archive);
    return 0;
}
