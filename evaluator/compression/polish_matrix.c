/* polish_matrix.c - the new weights of one matrix. */
#include "evaluator/compression/obs.h"
#include "evaluator/compression/polish_parts.h"
#include "space/base/err.h"
#include "space/base/log.h"

#include <math.h>
#include <stdlib.h>

/* Rows that are judged at once. */
enum { JUDGE_ROWS = 64, ALIGN = 64 };

/* One matrix at work. */
struct making {
    const struct polish_plan *plan;
    struct team *team;
    const struct match *match;
    const struct feedback *feedback;
    const struct weights *old;
    size_t row_bytes;
    float *target;   /* [n_out][n_in] */
    uint8_t *packed; /* [n_out][row_bytes] */
    struct err *err; /* [team_size] */
};

static void pack_share(void *arg, unsigned member, unsigned n_members)
{
    enum { GRAIN = 32 };
    const struct making *m = arg;
    size_t begin, end;

    team_share(m->old->n_out, GRAIN, member, n_members, &begin, &end);
    if (begin < end)
        feedback_quantize(m->feedback, m->old->format, m->target + begin * m->old->n_in,
                          end - begin, m->packed + begin * m->row_bytes, NULL, &m->err[member]);
}

static int pack(struct making *m, struct err *err)
{
    m->err = calloc(team_size(m->team), sizeof *m->err);
    if (m->err == NULL) {
        err_set(err, ERR_MEMORY, "polish: out of memory");
        return -1;
    }
    team_run(m->team, pack_share, m);
    int status = 0;
    for (unsigned i = 0; i < team_size(m->team) && status == 0; i++)
        if (m->err[i].code != ERR_NONE) {
            *err = m->err[i];
            status = -1;
        }
    free(m->err);
    return status;
}

/* tr(E H E') of E = target - packed rows. */
static int distance(const struct making *m, const void *packed, double *sum, struct err *err)
{
    size_t n = m->old->n_in;
    float *row = malloc(n * sizeof *row);
    double *lost = malloc(2 * JUDGE_ROWS * n * sizeof *lost);
    int status = -1;

    if (row == NULL || lost == NULL) {
        err_set(err, ERR_MEMORY, "polish: out of memory");
        goto done;
    }
    *sum = 0;
    for (size_t begin = 0; begin < m->old->n_out; begin += JUDGE_ROWS) {
        size_t n_rows = m->old->n_out - begin < JUDGE_ROWS ? m->old->n_out - begin : JUDGE_ROWS;
        for (size_t r = 0; r < n_rows; r++) {
            kernels_reference()->unpack[m->old->format](
                (const char *)packed + (begin + r) * m->row_bytes, n, row);
            for (size_t i = 0; i < n; i++)
                lost[r * n + i] = (double)m->target[(begin + r) * n + i] - (double)row[i];
        }
        *sum += hessian_loss(n, m->match->h, n_rows, lost, lost + JUDGE_ROWS * n);
    }
    status = 0;
done:
    free(lost);
    free(row);
    return status;
}

/* m->target = what the matrix of `cut` should be.  Rows are either all kept or the columns are. */
static int find_target(const struct making *m, const struct cut *cut, struct err *err)
{
    size_t n_out = m->old->n_out, n_x = cut->tensor->dims[0];
    float *stand_in = malloc(n_out * m->old->n_in * sizeof *stand_in), *full = NULL;
    double asked = fmax(m->plan->ridge, obs_damping(m->old->n_in, m->match->zz.n_tokens));
    double damping = asked;
    int status = -1;

    if (cut->cols.at != NULL)
        full = malloc(n_out * n_x * sizeof *full);
    if (stand_in == NULL || (cut->cols.at != NULL && full == NULL)) {
        err_set(err, ERR_MEMORY, "polish: out of memory");
        goto done;
    }
    if (full != NULL)
        parent_unpack(cut->tensor, 0, n_out, full);
    if (cut_target(cut, stand_in, err) == 0)
        status = match_solve(m->match, full != NULL ? full : stand_in, stand_in, n_out,
                             m->plan->alpha, &damping, m->target, err);
    if (status == 0 && damping != asked)
        log_warn("polish", "tensor %.*s: damping raised from %g to %g",
                 (int)cut->tensor->name.length, cut->tensor->name.data, asked, damping);
done:
    free(full);
    free(stand_in);
    return status;
}

/* The new rows take the old ones' place in the model if they are nearer to the target. */
static int settle(struct making *m, struct polished *polished, struct weights *w, struct err *err)
{
    double before, after;

    if (distance(m, w->data, &before, err) != 0 || distance(m, m->packed, &after, err) != 0)
        return -1;
    polished->n_matrices++;
    if (!(after < before))
        return 0;
    polished->block[polished->n_changed++] = m->packed;
    w->data = m->packed;
    m->packed = NULL;
    return 0;
}

int polish_matrix(const struct polish_plan *plan, const struct match *match,
                  const struct feedback *feedback, const struct cut *cut, struct team *team,
                  struct polished *polished, struct weights *w, struct err *err)
{
    struct making m = {.plan = plan, .team = team, .match = match, .feedback = feedback, .old = w};
    size_t n_bytes;
    int status = -1;

    m.row_bytes = format_row_bytes(w->format, w->n_in);
    n_bytes = (w->n_out * m.row_bytes + ALIGN - 1) / ALIGN * ALIGN;
    m.target = malloc((size_t)w->n_out * w->n_in * sizeof *m.target);
    m.packed = aligned_alloc(ALIGN, n_bytes);
    if (m.target == NULL || m.packed == NULL)
        err_set(err, ERR_MEMORY, "polish: out of memory");
    else if (find_target(&m, cut, err) == 0 && pack(&m, err) == 0)
        status = settle(&m, polished, w, err);
    if (status != 0)
        err_prefix(err, "tensor %.*s", (int)cut->tensor->name.length, cut->tensor->name.data);
    free(m.target);
    free(m.packed);
    return status;
}
