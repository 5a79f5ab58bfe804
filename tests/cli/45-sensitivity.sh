# What each choice costs alone: measured without a search, shown, gone on with, and reused by
# searches of the same study and of others.
. "$KERF_TESTS/cli/lib.sh"
make_data
study=$folder/study
study_write "$study" 1

# Work items of sensitivities that the last command sent: n_units
n_units() { printf '%s\n' "$err" | grep -c 'sensitivity: unit='; }

fails 66 'no search has begun' "a study that has not begun has no table" \
    "$KERF" sensitivity -C "$study"

# --- measuring ---

"$KERF" sensitivity -C "$study" --measure >"$folder/first" 2>"$folder/run" </dev/null &
first=$!
wait_for "$folder/run" 'sensitivity: unit=2 ' 60
kill -INT "$first"
wait "$first"
is $? 75 "a measurement that is stopped ends with 75"
is "$(wc -c <"$folder/first")" 0 "and shows nothing"
before=$(grep -c 'sensitivity: unit=' "$folder/run")
run "$KERF" sensitivity -C "$study" --color=never
is "$status" 0 "what is known by then can be looked at" || said
like "$out" '\?' "with the rest marked"
run "$KERF" sensitivity -C "$study" --measure
is "$status" 0 "the same command goes on" || said
is "$((before + $(n_units)))" 7 "no unit is measured again ($before before)"
like "$out" 'rows +38 of 38' "until everything is known"
is "$(printf '%s\n' "$err" | grep -c 'done=')" 0 "and no candidate was measured"
is "$(printf '%s\n' "$out" | grep -Ec '^   [0-2] [0-9.#? ]*$')" 3 "the map has a line a layer"
like "$out" 'most sensitive +blk\.[0-2]\.(attn|ffn) 0' "and names the extremes"
cp "$study/tables/sensitivity.json" "$folder/table.json"
run "$KERF" sensitivity -C "$study" --measure
is "$status $(n_units)" "0 0" "a second time nothing is measured"
cmp -s "$study/tables/sensitivity.json" "$folder/table.json"
check $? "and the table is the same"

# --- showing ---

is "$(printf '%s\n' "$out" | grep -c "$(printf '\033')")" 0 "no colours outside a terminal"
run "$KERF" sensitivity -C "$study" --color=always
like "$out" "$(printf '\033')\[48;5;[0-9]+;38;5;[0-9]+m[0-9.#] $(printf '\033')\[0m" "but when told"
fails 2 'auto, always or never' "another word than these" "$KERF" sensitivity -C "$study" --color=no
run "$KERF" sensitivity -C "$study" -o json
printf '%s\n' "$out" | cmp -s - "$folder/table.json"
check $? "JSON is the file"
is "$(printf '%s\n' "$out" | json 'rows.#')" 38 "with a row for each choice"
run "$KERF" sensitivity -C "$study" -o tsv
is "$(printf '%s\n' "$out" | awk -F '\t' 'NR == 1 { n = NF } NF != n || n < 9')" "" \
    "tsv has the same columns in every line"
# A wider unit loses less, and so does a finer format.
is "$(printf '%s\n' "$out" | awk -F '\t' '
    $1 == "" || NR == 1 { next }
    $3 == gene && $1 == layer && !($6 < kld && $8 < saved) { print }
    { layer = $1; gene = $3; kld = $6; saved = $8 }' | wc -l)" 0 \
    "coarser choices cost more and save more"
is "$(printf '%s\n' "$out" | awk -F '\t' '$4 == "drop" && $5 != 1' | wc -l)" 0 \
    "a unit that is gone is all wrong in its layer"

# --- reuse ---

run "$KERF" search -C "$study"
is "$status $(n_units)" "0 0" "the search has nothing left to measure of it" || said
study_is_sound "$study" "after that search"

other=$folder/other
study_write "$other" 1
sed -i 's/"Q3_K", "Q4_0"/"Q2_K", "Q3_K", "Q4_0"/' "$other/study.json"
run "$KERF" search -C "$other" --sensitivity "$folder/table.json"
is "$status" 0 "another study takes a table over" || said
like "$err" 'sensitivity: taken rows=38 of=50 from=' "as far as it fits"
is "$(n_units)" 6 "and measures what is missing"
run "$KERF" sensitivity -C "$other" -o tsv
is "$(printf '%s\n' "$out" | awk -F '\t' 'NR > 1 && $4 != "Q2_K"' | sort)" \
    "$("$KERF" sensitivity -C "$study" -o tsv | awk -F '\t' 'NR > 1' | sort)" \
    "what was taken is what the other study found"

# --- refusals ---

stranger=$folder/stranger
study_write "$stranger" 1
sed -i 's/"sensitivity": {"tokens": 128}/"sensitivity": {"tokens": 64}/' "$stranger/study.json"
fails 65 'table.json: .*/quality/sensitivity/tokens is 128 there, 64 here' \
    "a table of other measurements" "$KERF" search -C "$stranger" --sensitivity "$folder/table.json"
run "$KERF" search -C "$stranger" --sensitivity "$folder/table.json" --ranks 2
is "$status" 65 "also under mpirun" || said
sed 's/"\/model\/sha256":"..../"\/model\/sha256":"0000/' "$folder/table.json" >"$folder/foreign.json"
study_write "$folder/third" 1
fails 65 'foreign.json: .*/model/sha256 is "0000' "a table of another model" \
    "$KERF" search -C "$folder/third" --sensitivity "$folder/foreign.json"
fails 66 'none.json' "a table that is not there" \
    "$KERF" search -C "$folder/third" --sensitivity "$folder/none.json"
sed -i 's/"Q8_0"\],/"Q6_K"],/' "$folder/third/study.json"
rm -f "$folder/third/study.resolved.json" && rm -rf "$folder/third/archive"
fails 65 'table.json: nothing in it fits.*base' "a table above another base" \
    "$KERF" search -C "$folder/third" --sensitivity "$folder/table.json"
[ ! -e "$folder/third/tables/sensitivity.json" ]
check $? "and nothing of them is left behind"
cp "$folder/foreign.json" "$study/tables/sensitivity.json"
fails 65 'remove it to measure again: .*/model/sha256' "nor is it believed in the study's folder" \
    "$KERF" sensitivity -C "$study"
fails 65 'remove it to measure again: .*/model/sha256' "by no search" "$KERF" search -C "$study"
head -c 2000 "$folder/table.json" >"$study/tables/sensitivity.json"
fails 65 'remove it to measure again: .*no sound table' "nor one that is cut short" \
    "$KERF" sensitivity -C "$study" --measure
finish
