# A study for kerf itself: biases of o and down, and what dropped units leave behind, from the config
# to the file.
. "$KERF_TESTS/cli/lib.sh"
make_data
study=$folder/study
study_write "$study" 10 native
run "$KERF" search -C "$study"
is "$status" 0 "a native search completes" || said
study_is_sound "$study" "native"
[ -e "$study/tables/keep-order-centred.bin" ] && [ ! -e "$study/tables/keep-order.bin" ]
check $? "its order is the one beside a bias"

run "$KERF" show -C "$study" @smallest
like "$out" 'o and down with bias' "a candidate has biases, and show says so"
run "$KERF" export -C "$study" @smallest "$folder/small.gguf"
is "$status" 0 "it is exported" || said
like "$out" "next: kerf probe $folder/small.gguf" "for kerf"
ok "which times it" "$KERF" probe "$folder/small.gguf" -C "$study" --workloads tg4@b1

# Dropped units leave a bias without a weight.  Which candidate has one is the search's business.
left=
for id in $(dump "$study/archive" candidates | awk '$4 > 0 { print $1 }'); do
    "$KERF" show -C "$study" "$id" 2>/dev/null | grep -q 'dropped (mean output)' || continue
    left=$id
    break
done
[ -n "$left" ]
check $? "a candidate with a dropped unit was measured"
ok "it is exported too" "$KERF" export -C "$study" "$left" "$folder/left.gguf"
fails 1 'for kerf alone: layer [0-9]+ has a mean output' "verify says for whom it is" \
    "$KERF" verify "$folder/left.gguf"

# Biases are refused where there is no room for them.
texts="--calibration $data/calibration.txt --heldout $data/heldout.txt"
# shellcheck disable=SC2086  # $texts is a list of words
fails 78 'biases.*profile gguf-hetero has no room; native has' "a stock profile refuses such a parent" \
    "$KERF" init "$folder/stock" --model "$folder/left.gguf" $texts --profile gguf-hetero
study_write "$folder/stock" 2 gguf-hetero
sed -i "s|$data/tiny.gguf|$folder/left.gguf|" "$folder/stock/study.json"
fails 78 'profile gguf-hetero has no room' "also when the config asks for it" \
    "$KERF" search -C "$folder/stock"
finish
