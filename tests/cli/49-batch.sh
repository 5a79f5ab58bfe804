# Batches: workloads of several sequences in step, by hand and in a study.
. "$KERF_TESTS/cli/lib.sh"
make_data
tiny=$data/tiny.gguf

run "$KERF" probe "$tiny" --threads 1 --rounds 8 -w tg8@b1,tg8@b4,tg4@c16@b3,pp16@b2 -o json
is "$status" 0 "probe of batches" || said
is "$(printf '%s\n' "$out" | json 'workloads[].workload' | paste -sd ' ')" \
    "tg8@b1 tg8@b4 tg4@c16@b3 pp16@b2" "on the workloads that were asked for"
per_token=$(printf '%s\n' "$out" | json kv_bytes_per_token)
is "$(printf '%s\n' "$out" | json 'workloads[].kv_bytes' | paste -sd ' ')" \
    "$((8 * per_token)) $((32 * per_token)) $((60 * per_token)) $((32 * per_token))" \
    "each sequence has a cache of its own"
# Tokens a second are those of all sequences: 4 for each step of tg8@b4, 32 for both prompts.
of_all() { # INDEX TOKENS TITLE
    ms=$(printf '%s\n' "$out" | json "workloads[$1].p50")
    rate=$(printf '%s\n' "$out" | json "workloads[$1].tokens_per_s")
    awk -v ms="$ms" -v rate="$rate" -v n="$2" \
        'BEGIN { d = rate * ms / 1000 / n - 1; exit !(d < 1e-3 && d > -1e-3) }'
    check $? "$3" || note "$rate tokens/s of $2 in $ms ms"
}
of_all 1 4 "a step of a batch of 4 makes 4 tokens"
of_all 3 32 "two prompts of 16 are 32 tokens"
run "$KERF" probe "$tiny" --threads 1 --rounds 8 -w tg8@b4
like "$out" 'tg8@b4 .* [0-9]+ ' "the table has the workload"
like "$out" 'tokens/s of all in it' "and says whose tokens a second they are"
like "$out" 'of KV cache per token, .* in tg8@b4' "and what its caches take"

for bad in tg8@b0 tg8@b-1 tg8@b tg8@b2.5 tg8@b01; do
    fails 2 "--workloads: .*$bad.* is no workload" "$bad" "$KERF" probe "$tiny" -w "$bad"
done
fails 2 'more than 67108864 positions in all' "more positions than anything holds" \
    "$KERF" probe "$tiny" -w tg32@b16000000
fails 2 'the model.s context has' "a context beyond the model's" \
    "$KERF" probe "$tiny" -w tg8@c100000@b2
fails 70 'tg1@b16777216: ' "a batch beyond memory" "$KERF" probe "$tiny" -w tg1@b16777216

# --- a study ---

study=$folder/study
study_write "$study" 12
sed -i 's/"pp32@b1", "tg4@b1"/"pp16@b2", "tg4@c8@b4"/' "$study/study.json"
run "$KERF" search -C "$study"
is "$status" 0 "a search on workloads of batches" || said
run "$KERF" front -C "$study"
like "$out" 'decode tg4@c8@b4 \(tpot_ms\), prefill pp16@b2 \(ttft_ms\)' "its front names them"
like "$(json 'ops[].n_sequences' <"$study/tables/op-table.json" | sort -u | paste -sd ' ')" '2 4|4 2' \
    "operations were timed for as many sequences"
ok "the latency model takes them" "$KERF" model fit -C "$study" --allow-flagged
ok "the archive is sound" "$KERF" archive fsck -C "$study"
fails 69 'tg4@c8@b4: llama-bench times one sequence alone' "llama-bench has no batch" \
    "$KERF" peer -C "$study" --bench /bin/true
sed -i 's/"tg4@c8@b4"/"tg4@c8@b0"/' "$study/study.json"
fails 78 'tg4@c8@b0' "no sequence at all" "$KERF" search -C "$study"

study_write "$folder/greedy" 3
sed -i 's/"tg4@b1"/"tg4@c60@b9"/' "$folder/greedy/study.json"
fails 78 'tg4@c60@b9 takes 576 tokens of the held-out text, which has 512' \
    "a batch beyond the held-out text" \
    "$KERF" search -C "$folder/greedy"
finish
