# One search, alone on this machine, from the config to the exported file; then everything that
# reads it.
. "$KERF_TESTS/cli/lib.sh"
make_data
study=$folder/study
study_write "$study" 24

run "$KERF" search -C "$study"
is "$status" 0 "a search completes" || said
like "$out" '^[0-9]+ evaluations in ' "and says how many it measured"
like "$out" 'op table against measurement, [0-9]+ evaluations: decode off by' "how far the op table was off"
like "$out" "next: kerf front -C $study" "and what to do next"
study_is_sound "$study" "after the search"
[ "$(dump "$study/archive" | awk '$3 == "search"' | wc -l)" -ge 20 ]
check $? "most of the 24 candidates were measured" || dump "$study/archive" | sed 's/^/# /'
[ -z "$(pids_like '*evaluator*')" ]
check $? "no evaluator is left"

run "$KERF" search -C "$study"
is "$status" 0 "the same command again ends at once"
like "$out" '^0 evaluations in ' "and measures nothing"
run "$KERF" search -C "$study" --evals 26
is "$status" 0 "with a larger budget it goes on"
at_least "$(dump "$study/archive" candidates | awk '$4 > 0' | wc -l)" 25 "and proposes more"
study_is_sound "$study" "after going on"

# --- reading it ---

run "$KERF" front -C "$study" -o json
is "$status" 0 "front"
front=$out
printf '%s\n' "$front" | json . && at_least "$(printf '%s\n' "$front" | json 'candidates.#')" 2 \
    "has members as JSON"
ids=$(printf '%s\n' "$front" | json 'candidates[].id')
is "$(printf '%s\n' "$ids" | grep -Evc '^[0-9a-f]{32}$')" 0 "each with its whole id"
run "$KERF" front -C "$study" -o table
id=$(printf '%s\n' "$ids" | head -n 1)
like "$out" "$(printf '%.7s' "$id")" "the table has them too"
run "$KERF" front -C "$study" -o tsv
is "$(printf '%s\n' "$out" | awk -F '\t' 'NR == 1 { n = NF } NF != n || n < 5')" "" \
    "tsv has the same columns in every line"
printf '%s\n' "$out" >"$folder/front.tsv"
is "$(awk -F '\t' '$2 == "front" { print $1 }' "$folder/front.tsv")" "$ids" \
    "and the same members in the same order"
ok "front --plot draws" "$KERF" front -C "$study" --plot
run "$KERF" front -C "$study" --svg
like "$out" '^<svg |<\?xml' "front --svg is SVG"
like "$out" '</svg>' "to its end"

# No member beats another on the plain numbers.
is "$(awk -F '\t' '
    NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i }
    $2 == "front" {
        id[++n] = $1
        v[n, 1] = $column["tpot_ms_p50"]; v[n, 2] = $column["ttft_ms_p50"]
        v[n, 3] = $column["kld"]; v[n, 4] = $column["weight_bytes"]
    }
    END {
        for (a = 1; a <= n; a++) for (b = 1; b <= n; b++) {
            worse = better = 0
            for (k = 1; k <= 4; k++) {
                worse += v[a, k] > v[b, k]
                better += v[a, k] < v[b, k]
            }
            if (better && !worse) print id[a], "beats", id[b]
        }
    }' "$folder/front.tsv")" "" "no member of the front beats another"

run "$KERF" query -C "$study" --latency-budget 1h --allow-flagged -o json
is "$status" 0 "a generous budget has an answer"
printf '%s\n' "$out" | json . || check 1 "the answer is JSON"
like "$(printf '%s\n' "$out" | json feasible)" '^(true|1)$' "which says that it is one"
run "$KERF" query -C "$study" --latency-budget 1h --allow-flagged
like "$out" 'next: kerf export' "the table names the next command"
run "$KERF" query -C "$study" --latency-budget 1ns --allow-flagged
is "$status" 1 "an impossible budget is answered with 1"
like "$out" '1ns|no measured candidate' "in words"
like "$out" '[0-9a-f]{7}' "with the nearest"
run "$KERF" query -C "$study" --latency-budget 1ns --allow-flagged -o json
is "$status" 1 "the same as JSON"
like "$(printf '%s\n' "$out" | json feasible)" '^(false|0)$' "which says so"
at_least "$(printf '%s\n' "$out" | json 'nearest.#')" 1 "and has the nearest points"
run "$KERF" query -C "$study" --latency-budget 1ns --allow-flagged -o tsv
is "$status" 1 "and as tsv"
run "$KERF" query -C "$study" --latency-budget 1h --allow-flagged --metric ttft_ms.p50 --max-size 1GiB
is "$status" 0 "prefill and size can be asked for"
fails 2 'no unit' "a budget without a unit" "$KERF" query -C "$study" --latency-budget 30

run "$KERF" show -C "$study" "$id"
is "$status" 0 "show, by the whole id"
like "$out" 'blk|layer' "goes through the layers"
run "$KERF" show -C "$study" "$(printf '%.12s' "$id")" -o json
printf '%s\n' "$out" | json candidate.id | grep -qx "$id"
check $? "a prefix is enough" || said
run "$KERF" show -C "$study" @best -o json
is "$(printf '%s\n' "$out" | json candidate.verified)" true "the best one was verified"
decoded=$(printf '%s\n' "$out" | json details.decode_path.kld)
prefilled=$(printf '%s\n' "$out" | json details.decode_path.prefill_kld)
note "KLD over the same tokens: decoded $decoded, by prefill $prefilled"
is "$(awk -v a="$decoded" -v b="$prefilled" 'BEGIN {
    d = a - b; print(a > 0 && b > 0 && d * d < (0.05 * b + 2e-5) ^ 2) }')" 1 \
    "decoding and prefill come to the same KLD over the same tokens"
for name in @best @knee @fastest @smallest @parent; do
    ok "show $name" "$KERF" show -C "$study" "$name"
done
fails 66 'ffffffff' "an unknown id" "$KERF" show -C "$study" ffffffffffff
fails 2 '.' "too short a prefix" "$KERF" show -C "$study" "$(printf '%.1s' "$id")"
fails 2 '@nothing.*@best' "an unknown name" "$KERF" show -C "$study" @nothing

run "$KERF" status -C "$study" -o json
printf '%s\n' "$out" | json . && is "$(printf '%s\n' "$out" | json pending)" 0 "status: nothing is pending"
ok "status as a table" "$KERF" status -C "$study"
ok "status as tsv" "$KERF" status -C "$study" -o tsv
run "$KERF" archive ls -C "$study" -o json
printf '%s\n' "$out" | json .
check $? "archive ls is JSON" || said
ok "archive ls as a table" "$KERF" archive ls -C "$study"

# --- using it ---

ok "export" "$KERF" export -C "$study" "$id" "$folder/out.gguf"
ok "verify" "$KERF" verify "$folder/out.gguf"
fails 73 'exists already.*--force' "export replaces nothing unasked" \
    "$KERF" export -C "$study" "$id" "$folder/out.gguf"
ok "but with --force" "$KERF" export -C "$study" "$id" "$folder/out.gguf" --force
fails 66 'ffffffff' "export of an unknown id" "$KERF" export -C "$study" ffffffffffff "$folder/no.gguf"
fails 73 'no/such' "export into a folder that is not there" \
    "$KERF" export -C "$study" "$id" "$folder/no/such/out.gguf"
head -c 20000 "$folder/out.gguf" >"$folder/cut.gguf"
fails 65 'cut.gguf' "verify of a file cut short" "$KERF" verify "$folder/cut.gguf"
fails 66 'none.gguf' "verify of a file that is not there" "$KERF" verify "$folder/none.gguf"
run "$KERF" export -C "$study" @fastest "$folder/fast.gguf"
is "$status" 0 "the fastest can be exported too"
[ "$(find "$folder" -maxdepth 1 -name '*.gguf*' | wc -l)" = 3 ]
check $? "and no draft of a file lies about"
finish
