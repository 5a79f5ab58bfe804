# Stopped by a key, killed by force, at any moment: the same command goes on, nothing that was
# committed is lost, changed or measured again.
. "$KERF_TESTS/cli/lib.sh"
make_data
study=$folder/study
study_write "$study" 20

begin() {
    "$KERF" search -C "$study" >"$folder/run" 2>&1 </dev/null &
    first=$!
}
wait_for() { # PATTERN SECONDS
    n=$(($2 * 10))
    while [ "$n" -gt 0 ] && ! grep -q "$1" "$folder/run"; do
        sleep 0.1
        n=$((n - 1))
    done
    [ "$n" -gt 0 ]
}

# A key.
begin
wait_for 'sensitivity: unit=1 ' 60
check $? "a search gets to its sensitivities"
kill -INT "$first"
wait "$first"
is $? 75 "Ctrl-C saves and leaves with 75"
like "$(cat "$folder/run")" 'kerf: stopped as asked.*same command' "and says how to go on"
study_is_sound "$study" "stopped early"
begin
wait_for 'done=3/' 60
kill -TERM "$first"
wait "$first"
is $? 75 "so does TERM, later on"
remember "$study"
at_least "$(wc -l <"$folder/before")" 3 "what was measured is committed"
is "$(dump "$study/archive" | awk '$4 == 0' | wc -l)" 1 "the parent was measured once"

# Force, at moments that differ from run to run.
kills=0
for moment in 3 17 8 26 12 21 5; do
    begin
    sleep "$(awk -v m="$moment" -v p="$first" 'BEGIN { print m / 10 + p % 7 / 20 }')"
    kill -KILL "$first" 2>/dev/null && kills=$((kills + 1))
    wait "$first" 2>/dev/null
    sleep 0.2
    [ -z "$(pids_like '*evaluator*')" ] || check 1 "kill $kills: the evaluator died with its parent"
    still_there "$study" "kill after $moment tenths"
    study_is_sound "$study" "kill after $moment tenths"
    remember "$study"
done
at_least "$kills" 5 "most of the kills hit a running search"

# Three keys leave at once.
study_write "$folder/again" 20
"$KERF" search -C "$folder/again" >"$folder/run" 2>&1 </dev/null &
first=$!
wait_for 'sensitivity: unit=1 ' 60
kill -INT "$first"
kill -INT "$first" 2>/dev/null
kill -INT "$first" 2>/dev/null
wait "$first"
is $? 75 "three keys leave at once, with 75"

run "$KERF" search -C "$study"
is "$status" 0 "after all that the same command completes" || said
still_there "$study" "at the end"
study_is_sound "$study" "at the end"
is "$(dump "$study/archive" candidates | awk '$4 > 0' | wc -l)" 20 "as many candidates as were planned"
is "$(dump "$study/archive" candidates | awk '{ print $1 }' | sort | uniq -d)" "" "none proposed twice"
run "$KERF" status -C "$study" -o json
is "$(printf '%s\n' "$out" | json pending)" 0 "and nothing is left pending"
finish
