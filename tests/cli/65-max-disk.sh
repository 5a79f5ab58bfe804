# A bound on the variant store: it holds whatever happens, costs nothing but time, and is told.
. "$KERF_TESTS/cli/lib.sh"
make_data
study=$folder/study
study_write "$study" 6
held() { find "$study/store" -path '*/??/*' -type f -printf '%s\n' | awk '{ n += $1 } END { print n + 0 }'; }

fails 2 '--max-disk.*unit' "a size without a unit" "$KERF" search -C "$study" --max-disk 300

# Less than one candidate needs.
run "$KERF" search -C "$study" --max-disk 300KB
is "$status" 0 "a search with room for a part of a candidate completes" || said
at_least 300000 "$(held)" "the store is within its bound"
at_least "$(held)" 1 "and in use"
like "$out" '^[0-9]+ compressed parts \([0-9.]+ [kMG]?B\) were evicted' "what was evicted is told"
is "$(grep -c 'raise --max-disk' "$folder/err")" 1 "that the bound is too small is said once" || said
study_is_sound "$study" "with a small store"

# The bytes of what is built again are those that were evicted.
run "$KERF" export -C "$study" @best "$folder/bounded.gguf" --max-disk 300KB
is "$status" 0 "an export within the bound" || said
at_least 300000 "$(held)" "which holds here too"
rm -r "$study/store"
ok "an export from an empty store without a bound" "$KERF" export -C "$study" @best "$folder/free.gguf"
cmp -s "$folder/bounded.gguf" "$folder/free.gguf"
check $? "gives the same file"
at_least "$(held)" 300001 "and a larger store"

# In the config; the option wins; it may change while the study runs.
sed -i 's|"search": {"seed"|"limits": {"disk": "200KB"}, &|' "$study/study.json"
run "$KERF" search -C "$study" --evals 7 --max-disk 250KB
is "$status" 0 "a bound in the config of a study that has begun" || said
at_least 250000 "$(held)" "the option wins"
run "$KERF" search -C "$study" --evals 8
at_least 200000 "$(held)" "else the config's holds"

# A store that another model left.
echo 1111111111111111111111111111111111111111111111111111111111111111 >"$study/store/parent"
run "$KERF" export -C "$study" @best "$folder/again.gguf"
is "$status" 0 "a store of another model is no hindrance"
like "$err" 'begun for another model' "and is said to be one"
finish
