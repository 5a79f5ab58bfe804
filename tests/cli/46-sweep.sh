# A nightly sweep: a baseline is kept, the same build passes, a slower one and other weights do not.
. "$KERF_TESTS/cli/lib.sh"
make_data
study=$folder/study
study_write "$study" 12
run "$KERF" search -C "$study"
is "$status" 0 "a search to compare with" || said

fails 66 'no baseline yet; run kerf sweep --save first' "a sweep without a baseline" \
    "$KERF" sweep -C "$study"
fails 2 '--min-effect: a share' "an effect that is none" "$KERF" sweep -C "$study" --min-effect x
run "$KERF" sweep -C "$study" --save --members 2
is "$status" 0 "the baseline is kept" || said
fails 73 'exists already; --force' "and not replaced unasked" "$KERF" sweep -C "$study" --save
[ -x "$study/baseline/kerf" ] && [ "$(find "$study/baseline" -name '*.gguf' | wc -l)" = 2 ]
check $? "with its program and its models"

# An op table of an older kerf is none of its business.
sed -i 's/"schema":[[:space:]]*2/"schema": 1/' "$study/tables/op-table.json"
is "$(json schema <"$study/tables/op-table.json")" 1 "the op table is of another version"

# The same build: equal to the last bit, and no slower (half as slow again would matter here, where
# other tests may run beside this one).
run "$KERF" sweep -C "$study" --min-effect 0.5 --junit "$folder/sweep.xml" -o json
is "$status" 0 "the same build passes" || said
is "$(printf '%s\n' "$out" | json 'points.#')" 4 "two candidates on two workloads"
is "$(printf '%s\n' "$out" | json 'exact[].kld' | sort -u)" same "with the same KLD to the last bit"
is "$(printf '%s\n' "$out" | json 'exact[].weights' | sort -u)" same "and the same weights"
like "$(cat "$folder/sweep.xml")" '<testsuite .* tests="6" failures="0"' "JUnit says so too"
is "$(grep -c '<testcase ' "$folder/sweep.xml")" 6 "in six cases"

# A build that takes 2.5 times as long: the baseline's own program does not.
mv "$study/baseline/kerf" "$study/baseline/kerf.real"
cat >"$study/baseline/kerf" <<'END'
#!/bin/sh
unset KERF_TEST_SLOWDOWN
exec "$0.real" "$@"
END
chmod +x "$study/baseline/kerf"
run env KERF_TEST_SLOWDOWN=1.5 "$KERF" sweep -C "$study" --min-effect 0.5 --junit "$folder/sweep.xml"
is "$status" 1 "a slower build does not pass" || said
like "$out" 'SLOWER' "it is named"
like "$(cat "$folder/sweep.xml")" '<failure type="slower"' "in JUnit too"

# Another KLD, another program, a damaged baseline.
sed -i 's/"kld":[^,}]*/"kld": 0.125/' "$study/baseline/baseline.json"
run "$KERF" sweep -C "$study" --min-effect 0.5
is "$status" 1 "another divergence does not pass"
like "$out" 'DIFFERS .*KLD differs \(was 0.125' "it is named with what it was"
printf '#!/bin/sh\necho hello\n' >"$study/baseline/kerf"
fails 69 'does not answer as a stopwatch' "a program that is no kerf" "$KERF" sweep -C "$study"
echo '{' >"$study/baseline/baseline.json"
fails 65 'no sound baseline; kerf sweep --save --force' "a damaged baseline" "$KERF" sweep -C "$study"
[ -z "$(pids_like '*stopwatch*')" ] && [ ! -e "$study/sweep.tmp" ]
check $? "nothing is left of all that"
finish
