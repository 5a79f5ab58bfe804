#include "cluster/link.h"
#include "space/base/err.h"
#include "space/base/log.h"
#include <mpi.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Sends under way.  A buffer must stay until Test says so, and a send to a dead rank never ends
 * (mpi.md section 3): entries of a dead rank are cancelled and given up, their memory kept until
 * the end of the run, because the library may still look at it. */
#define POOL_MAX 1024
#define TAG      1

struct flight {
    MPI_Request request;
    uint32_t to;
    bool busy;
    char text[MESSAGE_MAX];
};

struct mpi {
    struct link link;
    struct flight *flight[POOL_MAX];
    unsigned n_flights;
};

bool link_mpi_is_present(void)
{
    return getenv("OMPI_COMM_WORLD_RANK") != NULL;
}

/* A free entry of the pool; finished sends are collected on the way. */
static struct flight *flight_take(struct mpi *mpi, struct err *err)
{
    for (unsigned i = 0; i < mpi->n_flights; i++) {
        struct flight *flight = mpi->flight[i];
        int done = 1;
        if (flight->busy)
            MPI_Test(&flight->request, &done, MPI_STATUS_IGNORE);
        if (done) {
            flight->busy = false;
            return flight;
        }
    }
    struct flight *flight = mpi->n_flights < POOL_MAX ? calloc(1, sizeof *flight) : NULL;
    if (flight == NULL) {
        err_set(err, ERR_RESOURCE, "link: %u messages are under way and none arrives",
                mpi->n_flights);
        return NULL;
    }
    mpi->flight[mpi->n_flights++] = flight;
    return flight;
}

static int mpi_send(struct link *link, uint32_t to, const struct message *message, struct err *err)
{
    struct mpi *mpi = link->impl;
    struct flight *flight = flight_take(mpi, err);
    if (flight == NULL)
        return -1;
    int length = message_encode(message, flight->text, sizeof flight->text, err);
    if (length < 0)
        return -1;
    flight->to = to;
    flight->busy = true;
    MPI_Isend(flight->text, length, MPI_CHAR, (int)to, TAG, MPI_COMM_WORLD, &flight->request);
    return 0;
}

static int mpi_receive(struct link *link, struct message *message, struct err *err)
{
    (void)link;
    (void)err;
    for (;;) {
        int there = 0, length = 0;
        MPI_Status status;
        char text[MESSAGE_MAX];
        MPI_Iprobe(MPI_ANY_SOURCE, TAG, MPI_COMM_WORLD, &there, &status);
        if (!there)
            return 0;
        MPI_Get_count(&status, MPI_CHAR, &length);
        /* Probed and short (below the eager limit): this receive does not wait. */
        if (length < 0 || length > (int)sizeof text)
            length = sizeof text;
        MPI_Recv(text, length, MPI_CHAR, status.MPI_SOURCE, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        struct err trouble = {0};
        if (message_decode(text, (size_t)length, message, &trouble) == 0) {
            message->from = (uint32_t)status.MPI_SOURCE;
            return 1;
        }
        log_warn("link", "dropped a message from=%d reason=\"%s\"", status.MPI_SOURCE,
                 trouble.text);
    }
}

static void mpi_retire(struct link *link, uint32_t worker)
{
    struct mpi *mpi = link->impl;
    for (unsigned i = 0; i < mpi->n_flights; i++) {
        struct flight *flight = mpi->flight[i];
        int done = 0;
        if (!flight->busy || flight->to != worker)
            continue;
        MPI_Test(&flight->request, &done, MPI_STATUS_IGNORE);
        if (!done)
            MPI_Cancel(&flight->request); /* stays busy: its memory is never used again */
        flight->busy = !done;
    }
}

static void mpi_close(struct link *link, bool clean)
{
    struct mpi *mpi = link->impl;
    /* Last words get a moment to leave. */
    for (int wait = 0; wait < 300; wait++) {
        bool busy = false;
        for (unsigned i = 0; i < mpi->n_flights; i++) {
            int done = 1;
            if (mpi->flight[i]->busy)
                MPI_Test(&mpi->flight[i]->request, &done, MPI_STATUS_IGNORE);
            mpi->flight[i]->busy = !done;
            busy |= !done;
        }
        if (!busy)
            break;
        usleep(1000);
    }
    /* With a dead or stopped rank MPI_Finalize may hang for ever. */
    if (!clean)
        MPI_Abort(MPI_COMM_WORLD, 0);
    MPI_Finalize();
    for (unsigned i = 0; i < mpi->n_flights; i++)
        free(mpi->flight[i]);
    free(mpi);
}

/* Which of the node's workers this rank is.  Collective, so at start-up only. */
static void find_neighbours(struct link *link)
{
    MPI_Comm node;
    int rank, size, lowest = (int)link->self;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, (int)link->self, MPI_INFO_NULL,
                        &node);
    MPI_Comm_rank(node, &rank);
    MPI_Comm_size(node, &size);
    MPI_Bcast(&lowest, 1, MPI_INT, 0, node);
    /* The master, the lowest of its node, is no worker. */
    int masters = lowest == 0;
    link->local_worker = (uint32_t)(rank > masters ? rank - masters : 0);
    link->n_local_workers = (uint32_t)(size - masters);
    MPI_Comm_free(&node);
}

struct link *link_mpi_open(struct err *err)
{
    int rank, size;
    if (MPI_Init(NULL, NULL) != MPI_SUCCESS) {
        err_set(err, ERR_RESOURCE, "MPI cannot be initialised; start with kerf search --ranks N");
        return NULL;
    }
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    struct mpi *mpi = size >= 2 ? calloc(1, sizeof *mpi) : NULL;
    if (mpi == NULL) {
        err_set(err, size < 2 ? ERR_RESOURCE : ERR_MEMORY,
                size < 2 ? "mpirun started one rank; a master needs at least one worker (-n 2)"
                         : "link: out of memory");
        MPI_Finalize();
        return NULL;
    }
    mpi->link = (struct link){.n_workers = (uint32_t)size - 1,
                              .self = (uint32_t)rank,
                              .send = mpi_send,
                              .receive = mpi_receive,
                              .retire = mpi_retire,
                              .close = mpi_close,
                              .impl = mpi};
    find_neighbours(&mpi->link);
    return &mpi->link;
}
