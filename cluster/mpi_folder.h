/* mpi_folder.h - the private folder that mpirun keeps its session in (orte_tmpdir_base), below
 * TMPDIR, and what becomes of those that killed watchdogs leave.
 *
 * A folder holds a file that its watchdog keeps locked; the kernel lets go of the lock when the
 * watchdog dies, whatever kills it, and also speaks for watchdogs in other containers.  The six
 * letters at the end of its name mark every process of the run (RUN_MARK).  A folder whose lock is
 * free and whose mark no process carries belongs to nobody any more. */
#ifndef KERF_MPI_FOLDER_H
#define KERF_MPI_FOLDER_H

struct mpi_folder {
    char path[64]; /* a path of a socket, and mpirun makes some in there, has about 100 bytes */
    int lock;      /* -1: could not be locked, then nobody else will ever remove the folder */
};

/* Make one, owned until mpi_folder_remove.  -1 with errno. */
int mpi_folder_make(struct mpi_folder *folder);
const char *mpi_folder_mark(const struct mpi_folder *folder);
/* With all that is in it; links are removed, never followed. */
void mpi_folder_remove(struct mpi_folder *folder);

/* Remove this user's folders that belong to nobody; returns how many.  What is not a folder made by
 * mpi_folder_make stays. */
unsigned mpi_folder_sweep(void);

#endif
