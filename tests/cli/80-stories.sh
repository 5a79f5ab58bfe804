# The same commands on a model that others trained: stories260K, whose rows fit no block of 256 and
# whose FFN fits none of 32.  Its perplexity on 60 stories is known from another program.
. "$KERF_TESTS/cli/lib.sh"
: "${KERF_PUBLIC_DATA:=}"
model=$KERF_PUBLIC_DATA/stories260K/stories260Ktok512.gguf
text=$KERF_PUBLIC_DATA/text/tinystories_sample.txt
[ -n "$KERF_PUBLIC_DATA" ] && [ -e "$model" ] && [ -e "$text" ] ||
    skip_all "KERF_PUBLIC_DATA names no folder with stories260K/ and text/"

# Stories 200 to 259 judge, earlier ones calibrate.
stories() { # FIRST LAST
    awk -v first="$1" -v last="$2" '$0 == "<|endoftext|>" { n++ } n > last { exit }
        n >= first && !(n == first && $0 == "<|endoftext|>")' "$text"
}
stories 200 259 >"$folder/heldout.txt"
stories 0 99 >"$folder/calibration.txt"
study=$folder/study
ok "init" "$KERF" init "$study" --model "$model" --calibration "$folder/calibration.txt" \
    --heldout "$folder/heldout.txt" --separator '<|endoftext|>' --profile gguf-hetero --quick
sed -i 's/"calibration": {\(.*\)"16Ki"/"calibration": {\1"4Ki"/; s/"final": {"tokens": "8Ki"}/"final": {"tokens": "32Ki"}/
    s/"threads": "cores"/"threads": 1/; s/"min": 11, "max": 60/"min": 8, "max": 12/
    s/"evals": [0-9]*/"evals": 8/; s|// "sequence": 512,|"sequence": 512,|' "$study/study.json"
run "$KERF" search -C "$study"
is "$status" 0 "the search completes" || said
study_is_sound "$study" "stories260K"
at_least "$(n_candidates "$study")" 8 "with all its candidates"
run "$KERF" show -C "$study" @parent -o json
ppl=$(printf '%s\n' "$out" | json candidate.ppl)
# The file names a context of 128; the model was trained with 512, and 4.641 was measured with that.
awk -v got="$ppl" 'BEGIN { exit !(got > 4.641 * 0.998 && got < 4.641 * 1.002) }'
check $? "the parent's perplexity agrees with the independent 4.641" || note "got $ppl"
is "$(printf '%s\n' "$out" | json candidate.n_tokens)" 24770 \
    "over all but the first tokens of 67 sequences of 60 stories"
ok "a candidate is exported" "$KERF" export -C "$study" @best "$folder/best.gguf"
ok "and verified" "$KERF" verify "$folder/best.gguf"
finish
