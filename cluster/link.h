/* link.h - messages between the master and its workers; two kinds of link.
 *   link_mpi.c    ranks of an mpirun (the only file that knows MPI): Isend, Irecv, Iprobe, Test
 *                 only, never blocking, sends to the dead retired (mpi.md)
 *   link_local.c  master and one worker in one process: two queues
 * The master is 0, workers are 1..n. */
#ifndef KERF_LINK_H
#define KERF_LINK_H

#include "cluster/message.h"
#include <stdbool.h>

struct err;
struct link;

struct link {
    uint32_t n_workers;
    uint32_t self;                          /* 0 for the master */
    uint32_t local_worker, n_local_workers; /* which worker of its node this one is, from 0 */
    /* Queue a message; never blocks.  -1 when it could not be encoded. */
    int (*send)(struct link *link, uint32_t to, const struct message *message, struct err *err);
    /* 1: *message is the next one; 0: none now; -1: error. */
    int (*receive)(struct link *link, struct message *message, struct err *err);
    /* Forget what is under way to a worker that is gone. */
    void (*retire)(struct link *link, uint32_t worker);
    /* End of the run.  `clean`: nobody was lost; else the run is ended hard (MPI_Abort with 0). */
    void (*close)(struct link *link, bool clean);
    void *impl;
};

/* Whether this process was started by mpirun (environment), without touching MPI. */
bool link_mpi_is_present(void);
/* MPI_Init and the rank's side.  ERR_RESOURCE when MPI is not usable or only one rank is there. */
struct link *link_mpi_open(struct err *err);
/* Both ends of a link inside one process; free each with its close. */
int link_local_open(struct link **master, struct link **worker, struct err *err);

#endif
