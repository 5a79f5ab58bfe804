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

# A worker dies.
remember "$study"
begin 34
measured 2 60
kill -KILL "$(rank 2)"
ended 0 120 "with a worker killed the search completes"
like "$(cat "$talk")" '^[0-9]+ evaluations in .* 1 workers lost' "and counts the loss"
is "$(word workers_lost)" 1 "as the status file does"
is "$(grep -c 'PMIX ERROR' "$talk")" 0 "Open MPI's own words about it are not passed on"
still_there "$study" "worker killed"
left_nothing "worker killed"
is "$(n_candidates "$study")" 34 "no candidate is missing"

# A worker stops: it lives, but nobody hears of it.
remember "$study"
begin 54
measured 2 60
kill -STOP "$(rank 1)"
ended 0 120 "with a worker stopped the search completes"
is "$(word workers_lost)" 1 "and counts the loss"
still_there "$study" "worker stopped"
left_nothing "worker stopped"
finish
