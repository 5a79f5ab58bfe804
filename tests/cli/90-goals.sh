# The table of goals, from programs that only say what they measured: who reaches a bound, who
# misses it, and what could not be measured.
. "$KERF_TESTS/cli/lib.sh"
build=$folder/build
mkdir -p "$build/cli" "$build/tests/bench" "$build/tests/cli" "$build/tests/unit"
ln -s "$KERF_TOOLS/json_get" "$build/tests/cli/json_get"
export GOALS="$folder/goals"
unset KERF_PUBLIC_DATA STUDY

says() { # PROGRAM: standard input becomes what it prints
    { echo '#!/bin/sh' && echo "cat <<'END'" && cat && echo END; } >"$build/$1"
    chmod +x "$build/$1"
}
goals() { run "$KERF_TESTS/bench/goals" "$build" "$@"; }
line() { # PATTERN MET TITLE
    like "$(printf '%s\n' "$out" | grep -e "$1")" "\\| $2\$" "$3"
}

says cli/kerf <<'END'
{"total_s": 840,
 "tpot_ms": {"held_out": {"n": 60, "spearman": 0.9951, "mape": 0.0312, "within_5": 0.9,
             "within_10": 1, "coverage": 0.87}},
 "ttft_ms": {"held_out": {"n": 0}}}
END
for format in Q2_K Q3_K Q4_0 Q4_K Q5_K Q6_K Q8_0; do
    printf "$format\t%s\n" "decode	16	10000000	3" "read	24	8500000	4" "prefill	4	1000000000	1" \
        "prefill_a16	4	2000000000	1"
    [ $format = Q8_0 ] ||
        printf "$format\t%s\n" "peer_decode	6	18100000	3" "peer_prefill	6	4000000000	3"
done | says tests/bench/bench_large
printf 'parent\t9\t1.2910\t0.0100\nmixed\t9\t1.3010\t0.0100\n' | says tests/bench/bench_evaluation

goals decode prefill
is "$status" 1 "missed goals leave with 1" || said
line '^decode, Q2_K of read' yes "85 % is enough of the read bandwidth for Q2_K"
line '^decode, Q4_0 of read.* 16, 85 +-' no "and too little for Q4_0"
line '^decode, Q6_K, llama.*| >=1.8x  *| 6, 1.81 +-' yes "1.81 of llama.cpp is enough for Q6_K"
line '^decode, Q3_K, llama' no "and too little for Q3_K"
line '^decode, Q8_0, llama.*>=1x.*not measured: no llama-bench' - "what cannot be measured is named"
line '^prefill, Q5_K a8.*| >=3x  *| 4, 4 ' yes "prefill with activations in 8 bits"
line '^prefill, Q5_K a16.*| >=4x  *| 4, 2 ' no "and in float"

goals scoring predictor tables study
line '^scoring, parent .* 9, 1.291' yes "a quality evaluation within its bound"
line '^scoring, mixed ' no "and beyond it"
line '^predictor, decode, mape .* 60, 3.12 %' no "an error in per cent"
line '^predictor, decode, within 5' yes "a bound that is just met"
line '^predictor, prefill.*nothing held out' - "nothing held out is said"
line '^predictor, candidates of a study.*STUDY' - "so is a study that was not named"
line '^tables, .*KERF_PUBLIC_DATA' - "and a missing folder"
line '^study, .* 14 min' yes "the time of a study in minutes"

printf '#!/bin/sh\nexit 3\n' >"$build/tests/bench/bench_large"
goals decode
is "$status" 1 "a program that fails is no success"
line '^decode .*bench_large failed' no "and named"
goals nothing
is "$status" 2 "a goal that is none"
finish
