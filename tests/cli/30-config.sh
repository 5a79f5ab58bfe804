# A config that cannot be meant: file, line, column, place, what was expected; nothing begins.
. "$KERF_TESTS/cli/lib.sh"
make_data

edit() { # SED-EXPRESSION: a fresh study.json, changed
    rm -rf "$folder/s"
    study_write "$folder/s" 10
    sed -i "$1" "$folder/s/study.json"
}
refuses() { # SED PATTERN TITLE [STATUS]
    edit "$1"
    fails "${4:-78}" "$2" "$3" "$KERF" search -C "$folder/s"
    is "$(ls "$folder/s")" study.json "$3: nothing has begun"
}

refuses 's/"types"/"typos"/' "s/study.json:5:13: /space/typos: unknown key; did you mean 'types'" \
    "an unknown key, with the nearest"
refuses 's/"search": {"seed"/"serch": {"seed"/' "/serch.*search" "an unknown section"
refuses 's/"evals": 10/"evals": 10,,/' 'study.json:19:[0-9]+: unexpected' "a comma too many"
refuses '$d' 'study.json:[0-9]+:[0-9]+: ' "a bracket that is missing"
refuses 's/"10min"/10/' '/search/time: expected a time with its unit.*found 10' "a time without unit"
refuses 's/"10min"/"10 parsecs"/' '/search/time: .*parsecs' "a time in another unit"
refuses 's/"evals": 10/"evals": -1/' '/search/evals: ' "fewer than no evaluations"
refuses 's/"Q3_K"/"Q3_X"/' '/space/types.*Q3_' "an unknown format"
refuses 's/"gguf-hetero"/"gguf-heteroo"/' '/target/profile' "an unknown profile"
refuses 's/"tg4@b1"/"pp4@b1"/' '/latency/workloads' "two prefills"
refuses 's/"pp32@b1"/"pp3200@b1"/' '/latency/workloads' "a prompt beyond the context"
refuses 's/"sequence": 64/"sequence": 6400/' '/quality/sequence' "a sequence beyond the context"
refuses 's/"threads": 1/"threads": 1000/' '/latency/threads' "more threads than cores"
refuses 's/"min": 8, "max": 10/"min": 80, "max": 10/' '/latency/rounds/max.*80.*10' \
    "rounds that contradict each other"
refuses 's/"min": 8, "max": 10/"min": 8, "max": 1000/' '/latency/rounds/max' \
    "more rounds than a probe has"
refuses 's/"tokens": 256/"tokens": 2560/' '/quality/(search|final)/tokens' \
    "more tokens for the search than for the final measurement"
refuses 's/"min": 0.5/"min": 1, "grid": 1000/' '/space/ffn/grid: .*1000.*512' "an impossible grid"
refuses 's/"drop":/"kv_groups": [3], "drop":/' '/space/kv_groups' "a count of groups that cannot be"
refuses 's/"drop":/"kv": ["Q5_0"], "drop":/' '/space/kv/0' "a KV cache in no cache format"
refuses 's/"drop":/"act": ["a16"], "drop":/' '/space/act/0.*native' "float activations under gguf"
refuses 's/"types": \[[^]]*\]/"types": ["Q8_0"]/; s/"embedding": \[[^]]*\]/"embedding": ["Q8_0"]/
    s/"min": 0.5/"min": 1/; s/"drop": \[[^]]*\]/"drop": [], "kv_groups": [4], "kv": ["F16"]/' \
    '/space: .*nothing to choose' "a space of one candidate"
refuses 's/"min": 0.5}/"min": 0.5}, "depth": {"min": 9}/' '/space/depth/min' "more layers than there are"
refuses 's|tiny.gguf|none.gguf|' 'none.gguf' "a model that is gone" 66
refuses 's|first.jsonl|none.jsonl|' 'none.jsonl' "a task that is gone" 66
finish
