/* Answers to budgets, at their edges. */
#include "results/query.h"
#include "tests/tap.h"
#include "tests/unit/results_fixture.h"

static struct front_member a_member(char name, double kld, double decode_ns, double half_ns,
                                    uint64_t bytes, enum rung rung)
{
    struct front_member member;
    memset(&member, 0, sizeof member);
    member.candidate.id.bytes[0] = (uint8_t)name;
    member.evaluation =
        fixture_evaluation(&member.candidate.id, kld, decode_ns, 20 * decode_ns, bytes);
    member.evaluation.decode = fixture_measured(decode_ns, half_ns);
    member.evaluation.rung = rung;
    return member;
}

static char name_of(const struct front_member *member)
{
    return member == NULL ? '-' : (char)member->candidate.id.bytes[0];
}

/* The hits (or, in brackets, the nearest) by name. */
static const char *ask(const struct front *front, const struct query *query, char text[32])
{
    struct query_answer answer;
    size_t n = 0;
    query_run(front, query, &answer);
    for (uint32_t i = 0; i < answer.n_hits; i++)
        text[n++] = name_of(answer.hit[i]);
    if (answer.n_hits == 0) {
        text[n++] = '[';
        for (uint32_t i = 0; i < answer.n_nearest; i++)
            text[n++] = name_of(answer.nearest[i]);
        text[n++] = ']';
    }
    text[n] = '\0';
    return text;
}

static void check_budgets(const struct front *front)
{
    char text[32];
    struct query q = {.max_loss = -1, .n = 1};
    is_text(ask(front, &q, text), "a", "without a limit the best quality wins");
    q.budget_ns = 1020;
    is_text(ask(front, &q, text), "a", "a budget that is met exactly is met");
    q.budget_ns = 1019.99;
    is_text(ask(front, &q, text), "b", "the upper bound counts, not the median");
    q.budget_ns = 705;
    is_text(ask(front, &q, text), "d", "a noisy one may not slip under the budget");
    q.budget_ns = 403;
    is_text(ask(front, &q, text), "d", "down to the fastest");
    q.budget_ns = 402;
    is_text(ask(front, &q, text), "[dcb]", "below it: no, and the nearest by their upper bounds");
    q.budget_ns = 9000;
    q.metric = METRIC_PREFILL;
    is_text(ask(front, &q, text), "d", "the prompt has a budget of its own");
}

static void check_other_limits(const struct front *front)
{
    char text[32];
    struct query q = {.max_loss = 0.10, .n = 4};
    is_text(ask(front, &q, text), "ab", "a limit on the loss, best first");
    q.max_loss = 0;
    is_text(ask(front, &q, text), "[abc]", "no loss at all: the least loss is nearest");
    q = (struct query){.max_loss = -1, .max_bytes = 300, .n = 4};
    is_text(ask(front, &q, text), "cd", "a limit on the size includes it");
    q.max_bytes = 99;
    is_text(ask(front, &q, text), "[dcb]", "too small a size: the smallest are nearest");
    q = (struct query){.max_loss = 0.10, .budget_ns = 500, .n = 4};
    is_text(ask(front, &q, text), "[bca]",
            "conditions that exclude each other: who misses both by the least in sum");
}

static void check_counts(const struct front *front)
{
    struct query q = {.budget_ns = 700, .max_loss = -1, .n = 99};
    struct query_answer answer;
    query_run(front, &q, &answer);
    ok(answer.n_measured == 4 && answer.n_over_budget == 3, "3 of 4 are over 700 ns");
    ok(answer.n_hits == 1 && answer.n_nearest == 0, "a yes has no nearest");
    ok(!answer.parent_meets, "the parent is slower");
    q.budget_ns = 5000;
    query_run(front, &q, &answer);
    ok(answer.parent_meets && answer.n_hits == 4 && name_of(answer.hit[0]) == 'a',
       "with time enough the parent is said to do, but it is no hit");
}

static void check_verified(void)
{
    char text[32];
    struct front_member all[] = {a_member('u', 0.100, 500, 5, 100, RUNG_SEARCH),
                                 a_member('v', 0.102, 500, 5, 100, RUNG_FINAL),
                                 a_member('w', 0.150, 500, 5, 100, RUNG_FINAL)};
    struct front front = {.all = all, .n_all = 3};
    struct query q = {.max_loss = -1, .n = 3};
    is_text(ask(&front, &q, text), "vuw", "within the noise the verified one comes first");
    all[1].evaluation.kld = 0.110;
    is_text(ask(&front, &q, text), "uvw", "beyond it the better one does");
    all[0].evaluation.kld = all[1].evaluation.kld = all[2].evaluation.kld = 0.1;
    all[1].evaluation.kld_se = all[2].evaluation.kld_se = 0;
    is_text(ask(&front, &q, text), "vwu", "equals: verified, then faster, then by id");
}

static void check_empty(void)
{
    struct front front = {0};
    struct query q = {.budget_ns = 1, .max_loss = -1, .n = 1};
    struct query_answer answer;
    query_run(&front, &q, &answer);
    ok(answer.n_hits == 0 && answer.n_nearest == 0 && answer.n_measured == 0,
       "nothing measured, nothing answered");
}

int main(void)
{
    /* Decode half-widths 20, 20, 60, 3; losses 5, 9, 35, 171 %. */
    struct front_member all[] = {a_member('a', 0.05, 1000, 20, 900, RUNG_FINAL),
                                 a_member('b', 0.09, 800, 20, 600, RUNG_FINAL),
                                 a_member('c', 0.30, 690, 60, 300, RUNG_FINAL),
                                 a_member('d', 1.00, 400, 3, 100, RUNG_FINAL)};
    struct front front = {.all = all, .n_all = 4, .has_parent = true};
    front.parent = a_member('p', 0, 2000, 20, 4000, RUNG_FINAL);
    check_budgets(&front);
    check_other_limits(&front);
    check_counts(&front);
    check_verified();
    check_empty();
    return tap_done();
}
