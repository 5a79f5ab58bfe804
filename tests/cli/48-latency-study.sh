#!/bin/sh
# A latency study without a search: of a study, of a file, of a shape; what it leaves, and what it
# refuses.  How good its predictions are is not judged here.
. "$KERF_TESTS/cli/lib.sh"
make_data

few="--points 10 --held-out 4 --rounds 6"
shape="dim 256, 2 layers, 8/4 heads of 32, FFN 512, vocabulary 300"

# --- of a shape alone ---

run "$KERF" model measure --geometry "$shape" --to "$folder/shape" -w tg2@c8@b1,pp8@b1 -t 1 $few
is "$status" 0 "a study of a shape" || said
like "$out" "^geometry  $shape" "says of what"
like "$out" '^tg2@c8@b1 +10 points, each left out in turn' "fits the model to what it measured"
like "$out" '^  tg2@c8@b1 +4 ' "and holds it against others"
is "$(json schema <"$folder/shape/latency-model.json")" 2 "the model is a file"
is "$(json 'workloads[0].points.#' <"$folder/shape/latency-model.json")" 10 "with the points of the fit"
is "$(json 'workloads[1].held_out.#' <"$folder/shape/latency-model.json")" 4 "and those that judge it"
cp "$folder/shape/op-table.json" "$folder/op-table.json"

run "$KERF" model measure --geometry "$shape" --to "$folder/shape" -w tg2@c8@b1,pp8@b1 -t 1 $few -o json
is "$status" 0 "once more, as JSON" || said
is "$(printf '%s\n' "$out" | json rounds)" 6 "with its rounds"
at_least "$(printf '%s\n' "$out" | json samples)" 168 "and samples"
is "$(printf '%s\n' "$out" | json tpot_ms.held_out.n)" 4 "and its accuracy"
like "$(printf '%s\n' "$out" | json tpot_ms.standard_error)" '^[0-9.e-]+$' "and what times are known to"
cmp -s "$folder/op-table.json" "$folder/shape/op-table.json"
check $? "operations that are timed are not timed again"

run "$KERF" model measure --geometry "$shape" --to "$folder/shape" -w tg2@b1,pp16@b1 -t 1 $few
is "$status" 0 "other workloads" || said
! cmp -s "$folder/op-table.json" "$folder/shape/op-table.json"
check $? "have other operations, which are timed"

# --- of a file ---

run "$KERF" model measure --model "$data/tiny.gguf" --to "$folder/file" -w tg2@b1,pp8@b1 -t 1 $few \
    --profile gguf
is "$status" 0 "a study of a file" || said
like "$out" 'dim 256, 3 layers, 8/4 heads of 32, FFN 512, vocabulary 400' "takes its shape"

# --- of a study that has not begun, and what a search makes of it ---

study=$folder/study
study_write "$study" 10
run "$KERF" model measure -C "$study" $few
is "$status" 0 "a study of a study" || said
like "$out" "saved +$study/tables/latency-model.json" "leaves its tables there"
cp "$study/tables/op-table.json" "$folder/op-table.json"
run "$KERF" search -C "$study"
is "$status" 0 "a search finds them" || said
cmp -s "$folder/op-table.json" "$study/tables/op-table.json"
check $? "and takes the op table as it is"
like "$err" 'forecast: tg4@b1 latency model of 10 candidates; pp' "and proposes by the model"
like "$("$KERF" status -C "$study")" '^forecast +tg4@b1 latency model of 10 candidates' \
    "which status tells"
run "$KERF" model check -C "$study" --allow-flagged
is "$status" 0 "the model is held against what the search measured" || said
like "$out" 'tg4@b1, stand-ins +4 ' "and against what was held out"
run "$KERF" model check -C "$study" --allow-flagged -o json
is "$(printf '%s\n' "$out" | json ttft_ms.held_out_stand_ins.n)" 4 "in JSON too"
run "$KERF" model show -C "$study"
like "$out" '^  Q8_0 ' "model show has its terms"

run "$KERF" model measure -C "$study" $few -o json
is "$status" 0 "of a study that was searched" || said
is "$(printf '%s\n' "$out" | json tpot_ms.held_out.n)" 4 "members of its front judge"

# --- what is refused ---

none=$folder/none
fails 2 'one of them' "a study and a file" \
    "$KERF" model measure -C "$study" --model "$data/tiny.gguf" --to "$none"
fails 2 'one of them' "a file and a shape" \
    "$KERF" model measure --geometry "$shape" --model "$data/tiny.gguf" --to "$none"
fails 2 '--to is missing' "no place for the tables" "$KERF" model measure --geometry "$shape"
fails 2 'a study has its own' "workloads of a study" \
    "$KERF" model measure -C "$study" -w tg2@b1,pp8@b1
fails 2 "geometry: 'dim 256', expected" "a shape that is none" \
    "$KERF" model measure --geometry "dim 256" --to "$none"
fails 65 'heads' "a shape that cannot be" \
    "$KERF" model measure --geometry "dim 256, 2 layers, 8/3 heads of 32, FFN 512, vocabulary 300" \
    --to "$none"
fails 2 'decode first' "prefill before decode" \
    "$KERF" model measure --geometry "$shape" --to "$none" -w pp8@b1,tg2@b1
fails 2 'two of them' "one workload" "$KERF" model measure --geometry "$shape" --to "$none" -w pp8@b1
fails 2 '--profile none: unknown' "a profile that is none" \
    "$KERF" model measure --geometry "$shape" --to "$none" --profile none
fails 2 '--rounds: 6 to' "too few rounds" \
    "$KERF" model measure --geometry "$shape" --to "$none" --rounds 2
fails 2 '--held-out: at most' "too many to judge" \
    "$KERF" model measure --geometry "$shape" --to "$none" --held-out 5000
fails 2 '--time' "a time without its unit" \
    "$KERF" model measure --geometry "$shape" --to "$none" --time 5
fails 66 'none.gguf' "a file that is not there" \
    "$KERF" model measure --model "$folder/none.gguf" --to "$none"
fails 2 '--workloads: 9999 positions' "a prompt beyond the context" \
    "$KERF" model measure --geometry "$shape" --to "$none" -w tg2@b1,pp9999@b1
fails 66 'kerf init' "no study" "$KERF" model measure -C "$none"
finish
