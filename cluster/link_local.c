#include "cluster/link.h"
#include "space/base/err.h"
#include <stdlib.h>
#include <string.h>

/* Two queues of encoded messages, one a direction: the local link goes through the same encoding
 * as MPI does, so that one kind of run tests the other. */
struct item {
    struct item *next;
    size_t length;
    char text[];
};

struct queue {
    struct item *first, **last;
};

struct pair {
    struct queue queue[2]; /* by receiver: master, worker */
    struct link link[2];
    unsigned n_open;
};

static void queue_clear(struct queue *queue)
{
    while (queue->first != NULL) {
        struct item *item = queue->first;
        queue->first = item->next;
        free(item);
    }
    queue->last = &queue->first;
}

static int local_send(struct link *link, uint32_t to, const struct message *message,
                      struct err *err)
{
    struct pair *pair = link->impl;
    struct queue *queue = &pair->queue[to == 0 ? 0 : 1];
    char text[MESSAGE_MAX];
    int length = message_encode(message, text, sizeof text, err);
    if (length < 0)
        return -1;
    struct item *item = malloc(sizeof *item + (size_t)length);
    if (item == NULL) {
        err_set(err, ERR_MEMORY, "link: out of memory");
        return -1;
    }
    item->next = NULL;
    item->length = (size_t)length;
    memcpy(item->text, text, (size_t)length);
    *queue->last = item;
    queue->last = &item->next;
    return 0;
}

static int local_receive(struct link *link, struct message *message, struct err *err)
{
    struct pair *pair = link->impl;
    struct queue *queue = &pair->queue[link->self];
    struct item *item = queue->first;
    if (item == NULL)
        return 0;
    queue->first = item->next;
    if (queue->first == NULL)
        queue->last = &queue->first;
    int status = message_decode(item->text, item->length, message, err);
    message->from = 1 - link->self;
    free(item);
    return status == 0 ? 1 : -1;
}

static void local_retire(struct link *link, uint32_t worker)
{
    (void)worker;
    struct pair *pair = link->impl;
    queue_clear(&pair->queue[1]);
}

static void local_close(struct link *link, bool clean)
{
    (void)clean;
    struct pair *pair = link->impl;
    if (--pair->n_open > 0)
        return;
    queue_clear(&pair->queue[0]);
    queue_clear(&pair->queue[1]);
    free(pair);
}

int link_local_open(struct link **master, struct link **worker, struct err *err)
{
    struct pair *pair = calloc(1, sizeof *pair);
    if (pair == NULL) {
        err_set(err, ERR_MEMORY, "link: out of memory");
        return -1;
    }
    for (uint32_t i = 0; i < 2; i++) {
        pair->queue[i].last = &pair->queue[i].first;
        pair->link[i] = (struct link){.n_workers = 1,
                                      .n_local_workers = 1,
                                      .self = i,
                                      .send = local_send,
                                      .receive = local_receive,
                                      .retire = local_retire,
                                      .close = local_close,
                                      .impl = pair};
    }
    pair->n_open = 2;
    *master = &pair->link[0];
    *worker = &pair->link[1];
    return 0;
}
