# Workers and evaluators that die, hang or come back: the search completes and counts the losses.
. "$KERF_TESTS/mpi/lib.sh"
make_data
study=$folder/study
study_write "$study" 300

# Evaluators die, each of another candidate: retried, no rank lost.
begin 14
measured 3 60
killed=0
for _ in 1 2 3; do
    pid=$(any_evaluator)
    [ -n "$pid" ] && kill -KILL "$pid" 2>/dev/null && killed=$((killed + 1))
    sleep 1.2
done
ended 0 90 "with evaluators killed the search completes"
at_least "$killed" 1 "some were"
at_least "$(grep -c 'verdict=crash' "$talk")" 1 "and told as crashes"
is "$(word workers_lost)" 0 "no rank was lost over them"
left_nothing "evaluators killed"

# A worker dies, and another stops: it lives, but nobody hears of it.  Both are waited for at once.
remember "$study"
ranks=4
begin 34
measured 2 60
kill -KILL "$(rank 2)"
kill -STOP "$(rank 1)"
ended 0 120 "with a worker killed and one stopped the search completes"
like "$(cat "$talk")" '^[0-9]+ evaluations in .* 2 workers lost' "and counts both"
is "$(word workers_lost)" 2 "as the status file does"
is "$(grep -c 'PMIX ERROR' "$talk")" 0 "Open MPI's own words about it are not passed on"
still_there "$study" "workers lost"
left_nothing "workers lost"
is "$(n_candidates "$study")" 34 "no candidate is missing"
finish
