/* mpi_talk.h - what mpirun and its ranks say on stderr, passed on line by line without the one line
 * that means nothing: Open MPI reports a failed notification of its own for every rank that dies
 * (mpi.md section 3), although deaths are what this run is made for. */
#ifndef KERF_MPI_TALK_H
#define KERF_MPI_TALK_H

#include <stdbool.h>
#include <stddef.h>

struct mpi_talk {
    int from, to; /* from is -1 when there is no more */
    size_t n;     /* bytes of a line that has no end yet */
    char line[2048];
};

/* A pipe: `*write_end` is for mpirun, the caller's to close, like the other end close-on-exec. What
 * comes out goes to `to`, which is borrowed.  -1 with errno. */
int mpi_talk_open(struct mpi_talk *talk, int to, int *write_end);
/* Pass on what comes within `wait_ms`; a signal ends the wait. */
void mpi_talk_pass(struct mpi_talk *talk, int wait_ms);
/* Pass on what is there, an unfinished line too, without waiting for more, and close. */
void mpi_talk_close(struct mpi_talk *talk);

/* Whether the line (without its end) is dropped. */
bool mpi_talk_is_noise(const char *line, size_t length);

#endif
