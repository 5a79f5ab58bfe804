# Stopped by a key, killed by force, at any moment: the same command goes on, nothing that was
# committed is lost, changed or measured again.
. "$KERF_TESTS/cli/lib.sh"
make_data
study=$folder/study
study_write "$study" 300

begin() {
    : >"$folder/run"
    "$KERF" search -C "$study" >"$folder/run" 2>&1 </dev/null &
    first=$!
}
# A key.
begin
wait_for "$folder/run" 'sensitivity: unit=1 ' 60
check $? "a search gets to its sensitivities"
kill -INT "$first"
wait "$first"
is $? 75 "Ctrl-C saves and leaves with 75"
like "$(cat "$folder/run")" 'kerf: stopped as asked.*same command' "and says how to go on"
study_is_sound "$study" "stopped early"
begin
wait_for "$folder/run" 'done=3/' 60
kill -TERM "$first"
wait "$first"
is $? 75 "so does TERM, later on"
remember "$study"
at_least "$(wc -l <"$folder/before")" 3 "what was measured is committed"
is "$(dump "$study/archive" | awk '$4 == 0' | wc -l)" 1 "the parent was measured once"

# An evaluator that dies is tried again.
begin
wait_for "$folder/run" 'done=6/' 60
killed=
for _ in 1 2 3 4 5 6 7 8 9 10; do
    for pid in $(pids_like 'kerf evaluator *'); do
        kill -KILL "$pid" 2>/dev/null && killed=$pid
    done
    [ -z "$killed" ] || break
    sleep 0.1
done
wait_for "$folder/run" 'verdict=crash.*signal 9' 20
check $? "an evaluator that was killed is a crash"
wait_for "$folder/run" 'done=9/' 60
check $? "and the search goes on"
kill -INT "$first"
wait "$first"
is $? 75 "until it is stopped"
remember "$study"
study_is_sound "$study" "after a dead evaluator"

# Force, at moments that differ from run to run.
kills=0
for moment in 3 17 8 26 12 21 5; do
    begin
    sleep "$(awk -v m="$moment" -v p="$first" 'BEGIN { print m / 10 + p % 7 / 20 }')"
    kill -KILL "$first" 2>/dev/null && kills=$((kills + 1))
    wait "$first" 2>/dev/null
    sleep 0.2
    is "$(pids_like 'kerf evaluator *')" "" "kill $kills: the evaluator died with its parent"
    still_there "$study" "kill $kills, after $moment tenths"
    study_is_sound "$study" "kill $kills, after $moment tenths"
    remember "$study"
done
at_least "$kills" 5 "the kills hit a running search"

# Three keys leave at once.
study_write "$folder/again" 20
"$KERF" search -C "$folder/again" >"$folder/run" 2>&1 </dev/null &
first=$!
wait_for "$folder/run" 'sensitivity: unit=1 ' 60
kill -INT "$first"
kill -INT "$first" 2>/dev/null
kill -INT "$first" 2>/dev/null
wait "$first"
is $? 75 "three keys leave at once, with 75"

plan=$(($(n_candidates "$study") + 5))
run "$KERF" search -C "$study" --evals "$plan"
is "$status" 0 "after all that the same command completes" || said
still_there "$study" "at the end"
study_is_sound "$study" "at the end"
is "$(n_candidates "$study")" "$plan" "as many candidates as were planned"
is "$(dump "$study/archive" candidates | awk '{ print $1 }' | sort | uniq -d)" "" "none proposed twice"
run "$KERF" status -C "$study" -o json
is "$(printf '%s\n' "$out" | json pending)" 0 "and nothing is left pending"
finish
