#include "cluster/journal.h"
#include "space/base/clock.h"
#include "space/base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void append(const char *path, const char *line)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    size_t length = strlen(line);
    /* One write a line: readers never see half of one unless the disk is full. */
    if (fd < 0 || write(fd, line, length) != (ssize_t)length || fdatasync(fd) != 0)
        log_warn("journal", "%s: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
}

void journal_write(const struct study *study, const char *event, cJSON *fields)
{
    char path[STUDY_PATH_MAX];
    cJSON *node = fields != NULL ? fields : cJSON_CreateObject();
    cJSON_AddNumberToObject(node, "time", (double)clock_wall_s());
    cJSON_AddStringToObject(node, "event", event);
    char *text = cJSON_PrintUnformatted(node);
    cJSON_Delete(node);
    if (text == NULL)
        return;
    size_t length = strlen(text);
    char *line = realloc(text, length + 2);
    if (line != NULL) {
        strcpy(line + length, "\n");
        append(study_path(study, "journal.jsonl", path), line);
    }
    free(line != NULL ? line : text);
}
