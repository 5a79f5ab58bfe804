# What kerf says of itself, and how it answers a slip of the keyboard.
. "$KERF_TESTS/cli/lib.sh"

run "$KERF"
is "$status" 0 "kerf alone ends well"
is "$(printf '%s\n' "$out" | grep -c '^  kerf ')" 5 "and prints five examples"
run "$KERF" help
is "$status" 0 "kerf help ends well"
overview=$out
run "$KERF" --help
is "$out" "$overview" "--help says the same"
run "$KERF" --version
like "$out" '^kerf [0-9]+\.[0-9]+\.[0-9]+$' "--version names the build"

for command in $(printf '%s\n' "$overview" | sed -n '/^commands:/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
    run "$KERF" "$command" --help
    [ "$status" = 0 ] && [ -z "$err" ] &&
        printf '%s\n' "$out" | grep -q "usage: kerf $command" &&
        printf '%s\n' "$out" | grep -q '^example:'
    check $? "kerf $command --help has a usage and an example" || said
    run "$KERF" help "$command"
    is "$status" 0 "kerf help $command works too"
    fails 2 "unknown option --no-such-option.*kerf $command --help" \
        "kerf $command refuses an unknown option" "$KERF" "$command" --no-such-option
done

fails 2 "'serach'.*'search'" "an unknown command names the nearest" "$KERF" serach
fails 2 "'qery'.*'query'" "so does kerf help" "$KERF" help qery
fails 2 'unknown option --evalls.*--evals' "so does an option" "$KERF" search --evalls 3
fails 2 '--evals.*needs a value' "an option without its value" "$KERF" search --evals
fails 2 '--evals' "a count that is none" "$KERF" search --evals many
fails 2 '--ranks: 2 to' "one rank is no cluster" "$KERF" search --ranks 1
fails 2 '--time.*unit' "a time without a unit" "$KERF" search --time 10
fails 2 '--quiet takes no value' "a flag with a value" "$KERF" search --quiet=yes
fails 2 'unexpected argument' "an argument too many" "$KERF" search here
fails 2 'yaml.*table, json or tsv' "an unknown format" "$KERF" front -o yaml
fails 2 'scrub.*ls or fsck' "an unknown kind of archive command" "$KERF" archive scrub
fails 2 'nothing asked.*--latency-budget' "a query that asks nothing" "$KERF" query
fails 2 "'30' has no unit.*30ms" "a budget without a unit" "$KERF" query --latency-budget 30
fails 2 '30 miles' "a budget of another kind" "$KERF" query --latency-budget '30 miles'
fails 2 'tpot_ms' "an unknown metric" "$KERF" query --latency-budget 30ms --metric speed
fails 2 '--max-loss 3:.*0.5%' "a loss without its sign" "$KERF" query --max-loss 3
fails 2 'started by kerf search' "the evaluator is not for people" "$KERF" evaluator
fails 66 "$folder/none.*kerf init" "a folder that is not there" "$KERF" search -C "$folder/none"
fails 66 'no search has begun' "a folder that is no study" "$KERF" front -C "$folder"

run "$KERF" doctor
is "$status" 0 "doctor finds this machine fit"
like "$out" '^ok +device ' "and names its device class"
like "$out" 'kernels +[a-z0-9-]+ chosen' "and the kernels chosen"
run "$KERF" doctor -o json
printf '%s\n' "$out" | json . && printf '%s\n' "$out" | json '[].level' | grep -qx ok
check $? "doctor -o json is JSON" || said
run "$KERF" doctor -o tsv
is "$(printf '%s\n' "$out" | awk -F '\t' 'NF != 3')" "" "doctor -o tsv has three columns"
finish
