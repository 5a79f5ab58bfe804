#include "cluster/supervisor.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/log.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BEAT_NS          1000000000ll  /* a beat a second */
#define MASTER_SILENT_NS 30000000000ll /* longer than this and the master is gone */
#define GREETING_NS      5000000000ll  /* READY is repeated while nobody gives work */

struct supervisor {
    struct link *link;
    struct child_options options;
    struct child *child;
    struct work work; /* of the child */
    int64_t heard_ns; /* last word of the master */
    int64_t beat_ns;  /* last beat of ours */
    int64_t greeted_ns;
    struct message incoming, outgoing; /* too large for the stack of a deep loop */
};

struct supervisor *supervisor_create(struct link *link, const struct child_options *options,
                                     struct err *err)
{
    struct supervisor *supervisor = calloc(1, sizeof *supervisor);
    if (supervisor == NULL) {
        err_set(err, ERR_MEMORY, "supervisor: out of memory");
        return NULL;
    }
    supervisor->link = link;
    supervisor->options = *options;
    supervisor->heard_ns = clock_now_ns();
    return supervisor;
}

void supervisor_destroy(struct supervisor *supervisor)
{
    if (supervisor == NULL)
        return;
    child_destroy(supervisor->child);
    free(supervisor);
}

bool supervisor_is_busy(const struct supervisor *supervisor)
{
    return supervisor->child != NULL;
}

static int greet(struct supervisor *supervisor, struct err *err)
{
    struct message *message = &supervisor->outgoing;
    memset(message, 0, sizeof *message);
    message->kind = MESSAGE_READY;
    message->n_cores = supervisor->options.n_threads;
    gethostname(message->host, sizeof message->host - 1);
    supervisor->greeted_ns = supervisor->beat_ns = clock_now_ns();
    return supervisor->link->send(supervisor->link, 0, message, err);
}

static int beat(struct supervisor *supervisor, uint64_t lease, struct err *err)
{
    struct message *message = &supervisor->outgoing;
    memset(message, 0, sizeof *message);
    message->kind = MESSAGE_BEAT;
    message->lease = lease;
    supervisor->beat_ns = clock_now_ns();
    return supervisor->link->send(supervisor->link, 0, message, err);
}

/* Messages stay small (mpi.md rule 5): a long answer goes through a file that the verdict names. */
static int spool(struct supervisor *supervisor, const char *result, struct message *message,
                 struct err *err)
{
    char path[4096];
    snprintf(message->spool, sizeof message->spool, "%u-%llu.json", supervisor->link->self,
             (unsigned long long)supervisor->work.lease);
    snprintf(path, sizeof path, "%s/spool", supervisor->options.study_dir);
    if (file_make_dirs(path, err) != 0)
        return -1;
    snprintf(path, sizeof path, "%s/spool/%s", supervisor->options.study_dir, message->spool);
    return file_replace(path, result, strlen(result), err);
}

static int answer(struct supervisor *supervisor, enum verdict verdict, const char *reason,
                  const char *result, struct err *err)
{
    /* Quoting may nearly double a JSON line inside a JSON message. */
    const size_t inline_max = MESSAGE_MAX / 2 - 600;
    struct message *message = &supervisor->outgoing;
    struct err trouble = {0};
    memset(message, 0, sizeof *message);
    message->kind = MESSAGE_VERDICT;
    message->lease = supervisor->work.lease;
    message->verdict = verdict;
    snprintf(message->reason, sizeof message->reason, "%.255s", reason);
    if (result != NULL && strlen(result) < inline_max) {
        strcpy(message->result, result);
    } else if (result != NULL && spool(supervisor, result, message, &trouble) != 0) {
        message->verdict = trouble.code == ERR_IO ? VERDICT_DISK : VERDICT_UNABLE;
        message->spool[0] = '\0';
        snprintf(message->reason, sizeof message->reason, "%.255s", trouble.text);
    }
    return supervisor->link->send(supervisor->link, 0, message, err);
}

static int begin(struct supervisor *supervisor, struct err *err)
{
    struct err trouble = {0};
    if (supervisor->child != NULL) {
        /* A second task while one runs: the master gave the first up as lost. */
        child_destroy(supervisor->child);
        supervisor->child = NULL;
    }
    supervisor->work = supervisor->incoming.work;
    /* First the word that it has begun: should the work take this process down, it is known. */
    if (beat(supervisor, supervisor->work.lease, err) != 0)
        return -1;
    supervisor->child = child_start(&supervisor->options, &supervisor->work, &trouble);
    if (supervisor->child != NULL)
        return 0;
    return answer(supervisor, VERDICT_UNABLE, trouble.text, NULL, err);
}

/* 1: go on; 0: STOP. */
static int listen(struct supervisor *supervisor, struct err *err)
{
    int got;
    while ((got = supervisor->link->receive(supervisor->link, &supervisor->incoming, err)) > 0) {
        supervisor->heard_ns = clock_now_ns();
        if (supervisor->incoming.kind == MESSAGE_STOP)
            return 0;
        if (supervisor->incoming.kind == MESSAGE_TASK && begin(supervisor, err) != 0)
            return -1;
    }
    return got < 0 ? -1 : 1;
}

static int watch_child(struct supervisor *supervisor, int nap_ms, struct err *err)
{
    enum verdict verdict;
    char reason[256], *result;
    if (child_poll(supervisor->child, nap_ms, &verdict, reason, &result) == 0)
        return 0;
    child_destroy(supervisor->child);
    supervisor->child = NULL;
    int status = answer(supervisor, verdict, reason, result, err);
    free(result);
    return status;
}

int supervisor_step(struct supervisor *supervisor, int nap_ms, struct err *err)
{
    int go = listen(supervisor, err);
    if (go <= 0)
        return go;
    int64_t now = clock_now_ns();
    if (now - supervisor->heard_ns > MASTER_SILENT_NS) {
        err_set(err, ERR_STOPPED,
                "the master has been silent for %lld s; run the same command "
                "again",
                MASTER_SILENT_NS / 1000000000ll);
        return -1;
    }
    if (supervisor->child == NULL) {
        if (now - supervisor->greeted_ns > GREETING_NS && greet(supervisor, err) != 0)
            return -1;
        clock_nap_ns((int64_t)nap_ms * 1000000);
    } else if (watch_child(supervisor, nap_ms, err) != 0) {
        return -1;
    }
    uint64_t lease = supervisor->child != NULL ? supervisor->work.lease : 0;
    if (clock_now_ns() - supervisor->beat_ns > BEAT_NS && beat(supervisor, lease, err) != 0)
        return -1;
    return 1;
}
