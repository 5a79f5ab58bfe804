# The residual stream as a dimension of the search: bases prepared once, narrower candidates
# measured, shown and exported.
. "$KERF_TESTS/cli/lib.sh"
make_data
study=$folder/study
study_write "$study" 10
sed -i 's|"drop": \["attn", "ffn"\]|"drop": [], "depth": {"min": 3}, "hidden": [0.75, 1], "rotation": "hadamard"|
        s|"Q3_K", "Q4_0", "Q8_0"|"Q4_0", "Q8_0"|' "$study/study.json"

run "$KERF" search -C "$study"
is "$status" 0 "a search over hidden widths completes" || said
for basis in basis-192-hadamard basis-hadamard; do
    is "$(cd "$study/tables/$basis" && echo *)" "calibration.bin keep-order.bin parent.gguf" \
        "$basis was prepared"
done
study_is_sound "$study" "after the search"
made=$(find "$study/tables/basis-192-hadamard" -name parent.gguf -newer "$study/study.resolved.json")
run "$KERF" search -C "$study" --evals 11
is "$status" 0 "the search goes on"
is "$made" "$(find "$study/tables/basis-192-hadamard" -name parent.gguf \
    -newer "$study/study.resolved.json")" "with the bases that are there"

run "$KERF" archive ls -C "$study" -o json
narrow=$(printf '%s\n' "$out" | json 'candidates[].hidden' | grep -n -m1 '^192$' | cut -d: -f1)
at_least "${narrow:-0}" 1 "a candidate of 192 of 256 was measured"
id=$(printf '%s\n' "$out" | json 'candidates[].id' | sed -n "${narrow}p")
run "$KERF" show -C "$study" "$id"
like "$out" 'stream  *192 wide of 256, rotation hadamard' "and is shown as that"
ok "it is exported" "$KERF" export -C "$study" "$id" "$folder/narrow.gguf"
run "$KERF" verify "$folder/narrow.gguf"
like "$out" 'dim 192' "as a model of another width"

# What a candidate is made of is gone.
rm "$study/tables/basis-192-hadamard/parent.gguf"
fails 66 'basis-192-hadamard/parent.gguf' "export without the prepared basis" \
    "$KERF" export -C "$study" "$id" "$folder/narrow.gguf" --force
finish
