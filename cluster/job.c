#include "cluster/job.h"
#include "space/base/err.h"
#include <stdlib.h>
#include <string.h>

int jobs_add(struct jobs *jobs, const struct job *job, struct err *err)
{
    if (jobs->n == jobs->room) {
        size_t room = jobs->room > 0 ? 2 * jobs->room : 16;
        struct job *more = realloc(jobs->job, room * sizeof *more);
        if (more == NULL) {
            err_set(err, ERR_MEMORY, "jobs: out of memory");
            return -1;
        }
        jobs->job = more;
        jobs->room = room;
    }
    jobs->job[jobs->n++] = *job;
    return 0;
}

struct job *jobs_next(struct jobs *jobs, double now_s)
{
    for (size_t i = 0; i < jobs->n; i++)
        if (!jobs->job[i].out && jobs->job[i].not_before_s <= now_s)
            return &jobs->job[i];
    return NULL;
}

struct job *jobs_find(struct jobs *jobs, uint64_t lease)
{
    for (size_t i = 0; i < jobs->n; i++)
        if (jobs->job[i].out && jobs->job[i].work.lease == lease)
            return &jobs->job[i];
    return NULL;
}

void jobs_remove(struct jobs *jobs, struct job *job)
{
    size_t index = (size_t)(job - jobs->job);
    memmove(job, job + 1, (jobs->n - index - 1) * sizeof *job);
    jobs->n--;
}

void jobs_fini(struct jobs *jobs)
{
    free(jobs->job);
    memset(jobs, 0, sizeof *jobs);
}
