#include "cli/reading.h"
#include "cluster/scratch.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include <stdio.h>
#include <string.h>

int reading_open(struct reading *reading, const char *dir, struct err *err)
{
    memset(reading, 0, sizeof *reading);
    if (study_read_resolved(&reading->study, dir, err) != 0)
        return -1;
    char path[STUDY_PATH_MAX], data[STUDY_PATH_MAX];
    if (!file_exists(scratch_path(&reading->study, "archive/data.mdb", data))) {
        err_set(err, ERR_MISSING, "%s: no archive yet; run kerf search -C %s first", data, dir);
        return -1;
    }
    scratch_path(&reading->study, "archive", path);
    struct hash256 owner = study_hash(&reading->study);
    reading->archive = archive_open(path, ARCHIVE_READ, &owner, err);
    if (reading->archive == NULL)
        return -1;
    if (front_load(&reading->front, reading->archive, &reading->study.geometry, err) != 0) {
        archive_close(reading->archive);
        reading->archive = NULL;
        return -1;
    }
    return 0;
}

void reading_close(struct reading *reading)
{
    front_fini(&reading->front);
    archive_close(reading->archive);
    memset(reading, 0, sizeof *reading);
}

int reading_format(const struct options *options, enum show_format *format, struct err *err)
{
    const char *name = option_text(options, "output");
    *format = show_format_parse(name);
    if (*format == N_SHOW_FORMATS) {
        err_set(err, ERR_USAGE, "-o %s: unknown format; table, json or tsv", name);
        return -1;
    }
    return 0;
}

int reading_begin(struct reading *reading, struct options *options, enum show_format *format,
                  const struct command *command, int argc, char **argv, struct err *err)
{
    int go = option_parse(command, argc, argv, options, err);
    if (go > 0 && (reading_format(options, format, err) != 0 ||
                   reading_open(reading, option_text(options, "study"), err) != 0))
        return -1;
    return go;
}

int command_fail(const struct err *err)
{
    const char *text = err->text[0] != '\0' ? err->text : err_phrase(err->code);
    /* "kerf init: ..." names itself. */
    fprintf(stderr, "%s%s\n", strncmp(text, "kerf ", 5) == 0 ? "" : "kerf: ", text);
    return err_exit_status(err->code);
}
