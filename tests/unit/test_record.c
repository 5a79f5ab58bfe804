/* Records: what is written reads back the same, and no other bytes are taken. */
#include "results/record.h"
#include "tests/tap.h"
#include "tests/unit/results_fixture.h"

static struct evaluation an_evaluation(void)
{
    struct id128 id = id128_of(fixture_hash("someone"));
    struct evaluation evaluation = fixture_evaluation(&id, 0.0213, 287000, 4.1e6, 3100000);
    evaluation.attempt = 7;
    evaluation.rung = RUNG_FINAL;
    evaluation.accuracy = 0.83;
    evaluation.accuracy_se = 0.004;
    evaluation.n_tasks = 7;
    evaluation.kernel_bound = 1U << FORMAT_Q3_K | 1U << FORMAT_F32;
    evaluation.wall_s = -5; /* a clock that is wrong */
    evaluation.peak_rss_bytes = 1ULL << 33;
    evaluation.prefill_joules = 1.5;
    return evaluation;
}

static bool same_measured(const struct measured *a, const struct measured *b)
{
    return a->median_ns == b->median_ns && a->lo_ns == b->lo_ns && a->hi_ns == b->hi_ns &&
           a->p10_ns == b->p10_ns && a->p90_ns == b->p90_ns && a->min_ns == b->min_ns &&
           a->ratio == b->ratio && a->ratio_lo == b->ratio_lo && a->ratio_hi == b->ratio_hi &&
           a->n_accepted == b->n_accepted && a->n_rejected == b->n_rejected;
}

static void check_round_trip(void)
{
    struct evaluation in = an_evaluation(), out;
    uint8_t bytes[RECORD_EVALUATION_BYTES];
    struct err err = {0};
    size_t n = record_put_evaluation(&in, bytes);
    ok(n == RECORD_EVALUATION_BYTES, "an evaluation takes its fixed number of bytes");
    ok(record_get_evaluation(bytes, n, &out, &err) == 0, "it reads back: %s", err.text);
    ok(id128_equal(in.candidate, out.candidate) && id128_equal(in.device, out.device) &&
           in.attempt == out.attempt && in.rung == out.rung && in.n_tokens == out.n_tokens &&
           in.n_tasks == out.n_tasks && in.kernel_bound == out.kernel_bound,
       "ids and counts are the same");
    ok(in.kld == out.kld && in.kld_se == out.kld_se && in.kld_p99 == out.kld_p99 &&
           in.ppl == out.ppl && in.parent_ppl == out.parent_ppl && in.ppl_ratio == out.ppl_ratio &&
           in.ppl_ratio_se == out.ppl_ratio_se && in.top1 == out.top1 &&
           in.top1_se == out.top1_se && in.accuracy == out.accuracy &&
           in.accuracy_se == out.accuracy_se,
       "quality is the same, bit for bit");
    ok(same_measured(&in.decode, &out.decode) && same_measured(&in.prefill, &out.prefill),
       "latencies are the same");
    ok(in.predicted_decode_ns == out.predicted_decode_ns && isnan(out.predicted_prefill_ns) &&
           in.weight_bytes == out.weight_bytes && in.kv_bytes_per_token == out.kv_bytes_per_token &&
           in.seconds == out.seconds && in.wall_s == out.wall_s,
       "so is the rest, and what was not predicted stays NAN");
    ok(in.peak_rss_bytes == out.peak_rss_bytes && isnan(out.decode_joules) &&
           out.prefill_joules == 1.5,
       "memory and energy too, where they are known");
}

static void check_layout(void)
{
    struct evaluation in = an_evaluation();
    uint8_t bytes[RECORD_EVALUATION_BYTES];
    uint64_t kld = 0;
    double value;
    record_put_evaluation(&in, bytes);
    ok(bytes[0] == 2 && bytes[1] == RUNG_FINAL && bytes[4] == 7 && bytes[5] == 0,
       "version, rung and attempt stand where the format says, little-endian");
    for (int i = 7; i >= 0; i--)
        kld = kld << 8 | bytes[56 + i];
    memcpy(&value, &kld, sizeof value);
    ok(value == in.kld, "the KLD stands at byte 56");
}

static void check_damage(void)
{
    struct evaluation in = an_evaluation(), out;
    uint8_t bytes[RECORD_EVALUATION_BYTES + 1] = {0};
    uint32_t n_taken = 0;
    record_put_evaluation(&in, bytes);
    for (uint32_t bit = 0; bit < RECORD_EVALUATION_BYTES * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
        n_taken += record_get_evaluation(bytes, RECORD_EVALUATION_BYTES, &out, NULL) == 0;
        bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    ok(n_taken == 0, "no flipped bit of an evaluation goes unseen");
    n_taken = 0;
    for (size_t n = 0; n <= sizeof bytes; n++)
        n_taken += record_get_evaluation(bytes, n, &out, NULL) == 0;
    ok(n_taken == 1, "only the full length is taken");
}

static bool refused(const struct evaluation *evaluation, const char *word)
{
    uint8_t bytes[RECORD_EVALUATION_BYTES];
    struct evaluation out;
    struct err err = {0};
    record_put_evaluation(evaluation, bytes);
    return record_get_evaluation(bytes, sizeof bytes, &out, &err) == -1 && err.code == ERR_DATA &&
           strstr(err.text, word) != NULL;
}

static void check_numbers(void)
{
    struct evaluation bad = an_evaluation();
    bad.kld = NAN;
    ok(refused(&bad, "kld"), "a NAN where none may be is refused by name");
    bad = an_evaluation();
    bad.decode.hi_ns = INFINITY;
    ok(refused(&bad, "decode.hi_ns"), "an infinite bound too");
    bad = an_evaluation();
    bad.accuracy = -INFINITY;
    ok(refused(&bad, "accuracy"), "infinity is not the same as not scored");
    bad = an_evaluation();
    bad.decode.median_ns = 0;
    ok(refused(&bad, "not positive"), "a latency of zero is refused");
    bad = an_evaluation();
    bad.rung = (enum rung)9;
    ok(refused(&bad, "rung"), "a rung that does not exist is refused");
}

/* The checksum that belongs to these bytes. */
static void seal(uint8_t bytes[RECORD_EVALUATION_BYTES])
{
    struct hash256 hash = sha256_of(bytes, RECORD_EVALUATION_BYTES - 4);
    memcpy(bytes + RECORD_EVALUATION_BYTES - 4, hash.bytes, 4);
}

static void check_version(void)
{
    struct evaluation in = an_evaluation(), out;
    uint8_t bytes[RECORD_EVALUATION_BYTES];
    struct err err = {0};
    record_put_evaluation(&in, bytes);
    bytes[0] = 3;
    ok(record_get_evaluation(bytes, sizeof bytes, &out, &err) == -1 &&
           strstr(err.text, "newer version") != NULL,
       "a newer version is told as such");

    /* As it was written before version 2: those bytes were zero, which is no joules. */
    record_put_evaluation(&in, bytes);
    bytes[0] = 1;
    memset(bytes + 352, 0, 24);
    seal(bytes);
    ok(record_get_evaluation(bytes, sizeof bytes, &out, &err) == 0 && out.kld == in.kld &&
           out.peak_rss_bytes == 0 && isnan(out.decode_joules) && isnan(out.prefill_joules),
       "an older record is read, without what it does not have");
    bytes[352] = 1;
    seal(bytes);
    ok(record_get_evaluation(bytes, sizeof bytes, &out, &err) == -1 &&
           strstr(err.text, "no meaning") != NULL,
       "and has no right to it");
    bytes[352] = bytes[0] = 0;
    seal(bytes);
    ok(record_get_evaluation(bytes, sizeof bytes, &out, &err) == -1, "there is no version 0");
}

static void check_candidate(void)
{
    struct candidate in = {.id = id128_of(fixture_hash("x")),
                           .sequence = 1ULL << 40,
                           .origin = 3,
                           .status = STATUS_QUARANTINED,
                           .n_failures = 2,
                           .n_levels = SPACE_MAX_GENES};
    struct candidate out;
    uint8_t bytes[RECORD_CANDIDATE_BYTES];
    struct err err = {0};
    for (uint32_t i = 0; i < in.n_levels; i++)
        in.levels[i] = (uint8_t)(i % SPACE_MAX_LEVELS);
    size_t n = record_put_candidate(&in, bytes);
    ok(n == RECORD_CANDIDATE_BYTES, "the longest level vector fills the record");
    ok(record_get_candidate(bytes, n, &out, &err) == 0 && out.sequence == in.sequence &&
           out.origin == 3 && out.status == STATUS_QUARANTINED && out.n_failures == 2 &&
           out.n_levels == in.n_levels && memcmp(out.levels, in.levels, in.n_levels) == 0 &&
           id128_equal(out.id, in.id),
       "a candidate reads back the same");
    ok(record_get_candidate(bytes, n - 1, &out, NULL) == -1, "a level short is refused");
    bytes[n - 1] ^= 1;
    ok(record_get_candidate(bytes, n, &out, NULL) == -1, "a changed level is seen");
    in.n_levels = 2;
    in.levels[1] = SPACE_MAX_LEVELS;
    n = record_put_candidate(&in, bytes);
    ok(record_get_candidate(bytes, n, &out, &err) == -1 && strstr(err.text, "level") != NULL,
       "a level that no gene has is refused");
    in.n_levels = 0;
    n = record_put_candidate(&in, bytes);
    ok(n == 64 && record_get_candidate(bytes, n, &out, NULL) == 0 && out.n_levels == 0,
       "the parent has no levels");
}

int main(void)
{
    check_round_trip();
    check_layout();
    check_damage();
    check_numbers();
    check_version();
    check_candidate();
    return tap_done();
}
