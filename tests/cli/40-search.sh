# One search, alone on this machine, from the config to the exported file; then everything that
# reads it.
. "$KERF_TESTS/cli/lib.sh"
make_data
study=$folder/study
study_write "$study" 24

run "$KERF" search -C "$study"
is "$status" 0 "a search completes" || said
like "$out" '^[0-9]+ evaluations in ' "and says how many it measured"
like "$out" 'foretold against measured, [0-9]+ evaluations: decode off by' "how far what was foretold was off"
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
peaks=$(printf '%s\n' "$front" | json 'candidates[].peak_rss_bytes')
is "$(printf '%s\n' "$peaks" | grep -Ec '^[0-9]{7,}$')" "$(printf '%s\n' "$ids" | wc -l)" \
    "and the memory that it takes"
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
like "$(printf '%s\n' "$out" | json details.weights)" '^[0-9a-f]{64}$' "the record names the weights to the byte"
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
like "$out" '^forecast +tg[^;]*(op table|fitted to)' "which says what foretells latencies"
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

# --- polishing it ---

run "$KERF" polish -C "$study" @smallest "$folder/polished.gguf" --anyway -o json
is "$status" 0 "polish" || said
printf '%s\n' "$out" | json . && at_least "$(printf '%s\n' "$out" | json changed)" 1 \
    "makes weights anew"
is "$(printf '%s\n' "$out" | json tokens)" 512 "on all tokens of the study's calibration"
like "$("$KERF" show -C "$study" @smallest -o json | json candidate.id)" "^$(printf '%s\n' "$out" | json source)" \
    "of the member that was asked for"
is "$(for name in after.kld before.kld kld_change; do printf '%s\n' "$out" | json $name; done |
    awk '{ x[NR] = $1 } END { d = x[1] - x[2] - x[3]; print (d * d < 1e-12) }')" 1 \
    "the change is that of both figures"
ok "what it wrote loads" "$KERF" verify "$folder/polished.gguf"
grep -q 'kerf.polish' "$folder/polished.gguf"
check $? "and says what it is"
run "$KERF" polish -C "$study" @parent "$folder/no.gguf"
is "$status" 1 "there is nothing to polish in the parent"
[ ! -e "$folder/no.gguf" ]
check $? "and nothing is written"
fails 73 'exists already.*--force' "polish replaces nothing unasked" \
    "$KERF" polish -C "$study" @smallest "$folder/polished.gguf"
ok "but with --force" "$KERF" polish -C "$study" @smallest "$folder/polished.gguf" --force --anyway \
    --tokens 128
like "$out" 'anew on 128 calibration tokens' "on as many tokens as were asked for"
fails 73 'no/such' "polish into a folder that is not there" \
    "$KERF" polish -C "$study" @smallest "$folder/no/such/out.gguf"
fails 66 'ffffffff' "polish of an unknown id" "$KERF" polish -C "$study" ffffffffffff "$folder/no.gguf"
fails 2 '--tokens' "on too few tokens" \
    "$KERF" polish -C "$study" @smallest "$folder/no.gguf" --tokens 1
cp "$data/calibration.txt" "$folder/kept.txt" && echo more >>"$data/calibration.txt"
fails 65 'calibration.txt: not the text' "on another text" \
    "$KERF" polish -C "$study" @smallest "$folder/no.gguf"
mv "$folder/kept.txt" "$data/calibration.txt"
rm -f "$folder/polished.gguf"

# --- timing it in another engine ---

# Speaks as llama-bench does.  A token takes twice as long as in kerf; prompts take the longer, the
# faster kerf is with them.
cat >"$folder/bench" <<'END'
#!/bin/sh
model= p=0 n=0 t=0 r=0 k=f16 v=f16
while [ $# -gt 0 ]; do
    case $1 in
    -m) model=$2 ;;
    -p) p=$2 ;;
    -n) n=$2 ;;
    -t) t=$2 ;;
    -r) r=$2 ;;
    -ctk) k=$2 ;;
    -ctv) v=$2 ;;
    -ngl | -o | -fa) ;;
    *) echo "error: invalid parameter for argument: $1" >&2 && exit 1 ;;
    esac
    shift 2
done
id=$(basename "$model" .gguf)
echo "$id $p $n $t $(head -c 4 "$model")" >>"$DIARY"
case $id in
${REFUSED:-none})
    printf 'load: wrong shape\nmain: error: failed to load model\n' >&2
    exit 3
    ;;
esac
[ -z "${SLOW:-}" ] || sleep 60
awk -F '\t' -v id="$id" -v p="$p" -v n="$n" -v t="$t" -v r="$r" -v k="$k" -v v="$v" '
    NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i }
    $1 == id { ns = n > 0 ? 2e6 * n * $column["tpot_ms_p50"] : 1e9 / $column["ttft_ms_p50"] }
    END {
        printf "[ {\"build_commit\": \"abc123\", \"build_number\": 77, \"cpu_info\": \"it\", "
        printf "\"gpu_info\": \"\", \"n_threads\": %d, \"n_prompt\": %d, \"n_gen\": %d, ", t, p, n
        printf "\"type_k\": \"%s\", \"type_v\": \"%s\", ", k, v
        for (i = 1; i <= r; i++) printf "%s%.0f", i == 1 ? "\"samples_ns\": [" : ", ", ns
        print "] } ]"
    }' "$FRONT"
END
chmod +x "$folder/bench"
export DIARY="$folder/diary" FRONT="$folder/front.tsv"
unset LLAMA_BENCH
n_front=$(printf '%s\n' "$ids" | wc -l)
n_timed=$((n_front < 4 ? n_front : 4))
# The bench, and no other program, could be found there.
mkdir "$folder/bin" && ln -s "$folder/bench" "$folder/bin/llama-bench"

run "$KERF" peer -C "$study" --bench "$folder/bench" --members 4 --repeat 3 -o json
is "$status" 0 "peer" || said
printf '%s\n' "$out" | json . && is "$(printf '%s\n' "$out" | json 'candidates.#')" "$n_timed" \
    "times as many members as were asked for"
is "$(printf '%s\n' "$out" | json n)" "$n_timed" "says how many"
is "$(printf '%s\n' "$out" | json 'candidates[].id' | sed -n '1p;$p')" \
    "$(printf '%s\n' "$ids" | sed -n '1p;$p')" "the fastest and the slowest among them"
is "$(printf '%s\n' "$out" | json spearman.tpot_ms)" 1 "the same ranks correlate"
is "$(printf '%s\n' "$out" | json spearman.ttft_ms)" -1 "and the opposite ones"
is "$(printf '%s\n' "$out" | json 'candidates[].tpot_ms.ratio' | awk '$1 < 1.999 || $1 > 2.001')" "" \
    "ratios are the peer's time over ours"
is "$(printf '%s\n' "$out" | json peer.build)" "abc123 (77)" "the build is named"
is "$(sort "$DIARY" | uniq -c | awk '{ print $1, $3 + 0, $4 + 0, $5, $6 }' | sort -u)" \
    "3 0 4 1 GGUF
3 32 0 1 GGUF" "each ran three times on each workload of the study, on a GGUF file"
[ ! -e "$study/peer.tmp" ]
check $? "none of the files is left"

run env PATH="$folder/bin:$PATH" "$KERF" peer -C "$study" --members 4 --repeat 1
is "$status" 0 "the program on PATH is found" || said
like "$out" "rank correlation \(Spearman\) of $n_timed members: decode 1\.000, prefill -1\.000" \
    "the table ends with the correlation"
run env LLAMA_BENCH="$folder/bench" "$KERF" peer -C "$study" --members 4 --repeat 1 -o tsv
is "$status" 0 "so is the one that LLAMA_BENCH names" || said
is "$(printf '%s\n' "$out" | awk -F '\t' 'NR == 1 { n = NF } NF != n || n < 10')" "" \
    "tsv has the same columns in every line"
is "$(printf '%s\n' "$out" | wc -l)" $((n_timed + 1)) "a line each"
run "$KERF" front -C "$study"
like "$out" "llama-bench, build abc123 \(77\).* of $n_timed members \($n_timed of .*decode 1\.000, prefill -1\.000" \
    "the front is shown with it"
run "$KERF" front -C "$study" -o json
is "$(printf '%s\n' "$out" | json peer.spearman.ttft_ms)" -1 "in JSON, too"
cp "$study/tables/peer.json" "$folder/peer.json" && printf '{"schema": 1,' >"$study/tables/peer.json"
run "$KERF" front -C "$study"
is "$status" 0 "a record that is cut off spoils no front"
like "$err" 'peer\.json:1.*not shown' "and is named"
cp "$folder/peer.json" "$study/tables/peer.json"
run env LLAMA_BENCH="$folder/bench" "$KERF" doctor
like "$out" "^ok +llama-bench +$folder/bench" "doctor names it"

fails 69 'llama-bench is not on PATH.*--bench.*LLAMA_BENCH' "no program" \
    env PATH="$folder/tmp" "$KERF" peer -C "$study"
fails 69 'LLAMA_BENCH: /none/bench' "a program that is not there" \
    env LLAMA_BENCH=/none/bench "$KERF" peer -C "$study"
fails 69 "--bench: $folder/diary" "a file that may not be run" \
    "$KERF" peer -C "$study" --bench "$folder/diary"
fails 69 'none of the exported.*left with status 2: ' "a program of another kind" \
    "$KERF" peer -C "$study" --bench "$(command -v sort)"
fails 2 '--members: 2 to' "one member has no rank" \
    "$KERF" peer -C "$study" --bench "$folder/bench" --members 1
fails 2 '--repeat: 1 to' "no round at all" "$KERF" peer -C "$study" --bench "$folder/bench" --repeat 0
fails 69 'none of the exported.*status 3: main: error: failed to load model' \
    "a program that refuses them all" \
    env REFUSED='*' "$KERF" peer -C "$study" --bench "$folder/bench" --members 2
run env REFUSED="$id" "$KERF" peer -C "$study" --bench "$folder/bench" --members 4 -o json
is "$status" 69 "a program that refuses one: no success"
like "$err" "^kerf: 1 of $n_timed exported members could not be timed: .*status 3" "in one line"
is "$(printf '%s\n' "$out" | json 'left_out[].id')" "$id" "the one is named"
is "$(printf '%s\n' "$out" | json n)" $((n_timed - 1)) "and the others are timed"

# Stopped in the middle; what one that was killed has left; two at once.
mkdir "$study/peer.tmp" && echo old >"$study/peer.tmp/old.gguf"
: >"$DIARY"
SLOW=1 "$KERF" peer -C "$study" --bench "$folder/bench" --members 2 >"$folder/slow" 2>&1 </dev/null &
slow=$!
wait_for "$DIARY" GGUF 20
check $? "a slow one is at work" || sed 's/^/# /' "$folder/slow"
[ ! -e "$study/peer.tmp/old.gguf" ] && [ -n "$(find "$study/peer.tmp" -name '*.gguf')" ]
check $? "its files are there, older ones are not"
fails 69 'peer.tmp: another process' "a second one is refused" \
    "$KERF" peer -C "$study" --bench "$folder/bench"
[ -n "$(find "$study/peer.tmp" -name '*.gguf')" ]
check $? "and takes nothing away from the first"
kill -INT "$slow"
wait "$slow"
is $? 75 "stopped, it leaves with 75"
[ ! -e "$study/peer.tmp" ] && [ -z "$(pids_like '*/bench *')" ]
check $? "without files and without processes"
# --- timing by hand ---

run "$KERF" probe @best -C "$study" -w tg8@b1,tg4@c16@b1,pp16@b1 --rounds 12 -o json
is "$status" 0 "probe of a member" || said
is "$(printf '%s\n' "$out" | json 'workloads[].workload' | paste -sd ' ')" "tg8@b1 tg4@c16@b1 pp16@b1" \
    "on the workloads that were asked for"
at_least "$(printf '%s\n' "$out" | json 'workloads[0].samples_ms.#')" 1 "with its raw samples"
run "$KERF" probe "$data/tiny.gguf" --rounds 8 -w tg8@b1 --threads 1
is "$status" 0 "probe of a file" || said
like "$out" 'ratio to the same model in the same rounds' "against itself"
run "$KERF" probe "$data/tiny.gguf" --rounds 8 -w tg8@b1 --isa ref -o json
is "$(printf '%s\n' "$out" | json kernels)" ref "--isa forces the kernels"
run env KERF_ISA=ref "$KERF" doctor
like "$out" 'ref chosen' "so does KERF_ISA"
fails 2 '--isa: sse: no kernels of that name' "kernels that are none" \
    "$KERF" probe "$data/tiny.gguf" --isa sse
fails 2 "--workloads: .*tg128@b1" "a workload that is none" "$KERF" probe @best -C "$study" -w tg8@9
fails 2 "--workloads: 999999 positions, the model's context has" "a prompt beyond the context" \
    "$KERF" probe @best -C "$study" -w pp999999@b1
fails 66 'none.gguf' "a file that is not there" "$KERF" probe "$folder/none.gguf"

# --- the latency model of what was measured ---

fails 66 'no latency model yet; run kerf model fit or measure first' "no latency model before the fit" \
    "$KERF" model show -C "$study"
fails 2 'expected measure, fit, show or check' "an action that is none" "$KERF" model draw -C "$study"
fails 2 '--points: 8 to' "too few points for a fit" "$KERF" model fit -C "$study" --points 3
run "$KERF" model fit -C "$study" --points 12 --allow-flagged
is "$status" 0 "model fit" || said
like "$out" '12 points, each left out in turn' "uses 12 of the candidates"
fitted=$out
run "$KERF" model show -C "$study" --allow-flagged
is "$out" "$fitted" "model show says the same from the file"
run "$KERF" model check -C "$study" --allow-flagged -o json
is "$status" 0 "model check"
at_least "$(printf '%s\n' "$out" | json tpot_ms.held_out.n)" 8 "holds the others against it"
like "$(printf '%s\n' "$out" | json tpot_ms.held_out.mape)" '^[0-9.e-]+$' "with the mean error"
echo '{' >"$study/tables/latency-model.json"
fails 65 'latency-model.json: no JSON; kerf model fit' "a damaged model is refused" \
    "$KERF" model show -C "$study"

# --- what is no weight: the KV cache and activations ---

# Whole layers at full width in two formats: there are few variants to make.
narrow_down() {
    sed -i 's/"Q3_K", "Q4_0"/"Q4_0"/; s/"drop": \["attn", "ffn"\], "ffn": {"min": 0.5}/"drop": [], "depth": {"min": 3}, "ffn": {"min": 1}, "kv_groups": [4]/' "$1"
}
study_write "$folder/native" 6 native
narrow_down "$folder/native/study.json"
sed -i 's/"space": {/&"kv": ["Q4_0", "Q8_0"], /' "$folder/native/study.json"
run "$KERF" search -C "$folder/native"
is "$status" 0 "a search under native completes" || said
"$KERF" archive ls -C "$folder/native" -o tsv >"$folder/native.tsv"
at_least "$(grep -c 'kv=Q[48]_0 .*' "$folder/native.tsv")" 1 "candidates keep their KV cache in blocks"
"$KERF" sensitivity -C "$folder/native" -o json >"$folder/native.json"
like "$(json base.genome <"$folder/native.json")" 'Q8_0 a16' "quantized units may take float activations"
at_least "$(json 'rows[].value' <"$folder/native.json" | grep -c '^a8$')" 6 "or those of 8 bits, each as it likes"
# 2 * groups * bytes of a row of 32, whose sum over the layers is in the genome.
is "$(awk -F '\t' '
    NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
    {
        bytes = $column["kv_cache"] == "Q4_0" ? 18 : $column["kv_cache"] == "Q8_0" ? 34 : 64
        groups = 0
        n = split($column["genome"], word, " ")
        for (i = 1; i <= n; i++) if (word[i] ~ /^[0-9]+x[0-9]+$/) groups += word[i] + 0
        if ($column["kv_bytes_per_token"] != 2 * groups * bytes) print $1
    }' "$folder/native.tsv")" "" "and the bytes of each cache are those of its format"
run "$KERF" archive ls -C "$folder/native" -o json
is "$(printf '%s\n' "$out" | json 'candidates[].tpot_ms.predicted' | grep -c '^[0-9]')" \
    "$(printf '%s\n' "$out" | json 'candidates.#')" "the op table foretells all of them"

# One with such a cache, exported: the engine has to be told.
study_write "$folder/cache" 4
narrow_down "$folder/cache/study.json"
sed -i 's/"space": {/&"kv": ["Q8_0"], /' "$folder/cache/study.json"
run "$KERF" search -C "$folder/cache"
is "$status" 0 "a search with a cache of 8 bits completes" || said
run "$KERF" export -C "$folder/cache" @best "$folder/cache.gguf"
like "$out" 'llama-cli -m .*cache.gguf -ctk q8_0 -ctv q8_0 -fa on' "export says what llama.cpp is to be told"
run "$KERF" show -C "$folder/cache" @best
like "$out" 'KV cache Q8_0' "show names the format"
like "$out" '-ctk q8_0 -ctv q8_0' "and the options"
finish
