# Statistics without a search: of a study, of any model and text, from and to importance matrices.
. "$KERF_TESTS/cli/lib.sh"
make_data
model=$data/tiny.gguf
text=$data/calibration.txt
out_file=$folder/c.bin
# shellcheck disable=SC2086  # lists of words below
calibrate="$KERF calibrate --model $model --text $text --sequence 64 -o $out_file"
from="$KERF calibrate --model $model -o $folder/e.bin --imatrix"

# Slips.
fails 2 'a study or a model' "a study and a model" "$KERF" calibrate -C x --model "$model" -o "$out_file"
fails 2 '--output is missing' "a model without a place" "$KERF" calibrate --model "$model" --text "$text"
fails 2 '--text or --imatrix' "neither text nor matrix" "$KERF" calibrate --model "$model" -o "$out_file"
fails 2 '--tokens goes with --model' "a study with tokens" "$KERF" calibrate -C x --tokens 100
fails 2 'ends in .gguf or' "a matrix of no form" $calibrate --imatrix-out "$folder/m.bin"
fails 2 '--checkpoint.*unit' "a time without a unit" $calibrate --checkpoint 3
cp "$model" "$folder/keep.gguf"
fails 73 'is no calibration' "a model in the calibration's place" \
    "$KERF" calibrate --model "$model" --text "$text" -o "$folder/keep.gguf"
fails 73 'is no importance matrix' "and in the matrix's" $calibrate --imatrix-out "$folder/keep.gguf"
cmp -s "$model" "$folder/keep.gguf"
check $? "neither was touched"

# A model and a text.
ok "a model is calibrated" $calibrate --imatrix-out "$folder/m.gguf"
like "$out" 'c.bin: made, [0-9.]+ MB, [0-9.]+ m?s' "what was made, its bytes and seconds"
like "$out" 'tokens [0-9]+ in [0-9]+ sequences of 64 at most, inputs 3840, dead 0' "its tokens and inputs"
like "$out" 'm.gguf: made, .*entries 21' "an importance matrix beside it"
like "$out" 'peak memory [0-9.]+ MB' "and the memory"
is "$(ls "$folder"/c.bin*)" "$out_file" "nothing lies beside the file"
cp "$out_file" "$folder/want.bin"
ok "the same again" $calibrate --imatrix-out "$folder/m.dat"
like "$out" 'c.bin: found' "is found"
ok "another number of tokens" $calibrate --tokens 600
like "$out" 'c.bin: made' "is another calibration"
like "$err" 'is of another text: it is made anew' "which is said"

# Killed in the middle.
rm -f "$out_file"
killed=1
for _ in 1 2 3 4 5 6 7 8 9 10; do
    $calibrate --checkpoint 0s >/dev/null 2>&1 &
    pid=$!
    while [ ! -e "$out_file.part.state" ] && kill -0 "$pid" 2>/dev/null; do :; done
    kill -KILL "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    [ -e "$out_file.part.state" ] && [ ! -e "$out_file" ] && killed=0 && break
    rm -f "$out_file"
done
check "$killed" "a calibration is killed behind its first layer"
run $calibrate
is "$status" 0 "the same command completes"
like "$out" 'c.bin: gone on with and made' "from where it was"
cmp -s "$out_file" "$folder/want.bin"
check $? "with the same bytes"
is "$(ls "$folder"/c.bin*)" "$out_file" "and leaves nothing beside them"

# Importance matrices.
for form in gguf dat; do
    ok "a calibration from a .$form" \
        "$KERF" calibrate --model "$model" --imatrix "$folder/m.$form" -o "$folder/d.$form.bin" \
        --imatrix-out "$folder/again.$form"
    like "$out" 'diagonal only' "says that it has diagonals only"
    like "$out" "again.$form: made, .*entries 21" "and goes out as it came in"
    is "$(wc -c <"$folder/again.$form")" "$(wc -c <"$folder/m.$form")" "to the byte as long"
done
size=$(wc -c <"$folder/m.dat")
head -c $((size / 2)) "$folder/m.dat" >"$folder/bad.dat"
fails 65 'bad.dat: at byte [0-9]+: .*cut short' "half a matrix" $from "$folder/bad.dat"
fails 65 'c.bin: at byte .*no such file' "a file that is none" $from "$out_file"
fails 65 'tiny.gguf: a GGUF, but no importance matrix' "a model in its place" $from "$model"
fails 66 'none.dat' "a file that is not there" $from "$folder/none.dat"
cp "$folder/m.dat" "$folder/bad.dat"
printf '\377\377\377\377' | dd of="$folder/bad.dat" bs=1 seek=200 conv=notrunc 2>/dev/null
fails 65 'blk.0.attn_k.weight: value [0-9]+ is -?nan' "a NaN in it" $from "$folder/bad.dat"
sed 's/blk\.2\./blk.3./g' "$folder/m.dat" >"$folder/bad.dat"
fails 65 'no entry blk.2.* another model' "a matrix of another model" $from "$folder/bad.dat"
[ ! -e "$folder/e.bin" ]
check $? "none of these made a calibration"

# Bad texts and models.
head -c 60 "$text" >"$folder/short.txt"
fails 65 'tokens, one sequence has 64' "a text of less than one sequence" \
    "$KERF" calibrate --model "$model" --text "$folder/short.txt" --sequence 64 -o "$folder/e.bin"
run "$KERF" calibrate --model "$model" --text "$text" --sequence 64 --tokens 128 -o "$folder/e.bin"
is "$status" 0 "fewer tokens than inputs are taken"
like "$err" 'tokens=128 are few for inputs=512' "with a warning"
like "$out" 'fewer tokens than the 512 inputs.*damped' "and a word in the summary"
cp "$model" "$folder/bad.gguf"
printf '\377\177' | dd of="$folder/bad.gguf" bs=1 seek=$(($(wc -c <"$model") - 2)) conv=notrunc 2>/dev/null
rm "$folder/e.bin"
fails 65 'tensor [a-z0-9_.]+: row [0-9]+, column [0-9]+ is not a finite number' "a NaN in the model" \
    "$KERF" calibrate --model "$folder/bad.gguf" --text "$text" --sequence 64 -o "$folder/e.bin"
[ ! -e "$folder/e.bin" ] && [ ! -e "$folder/e.bin.part" ]
check $? "leaves nothing"

# A study.
study=$folder/study
study_write "$study" 20
ok "a study is prepared" "$KERF" calibrate -C "$study"
for file in calibration keep-order parent-states; do
    like "$out" "tables/$file.bin: made" "its $file is made"
done
like "$out" "next: kerf search -C $study" "and the next command named"
[ ! -e "$study/study.resolved.json" ]
check $? "the study has not begun by this"
ok "again" "$KERF" calibrate -C "$study"
is "$(printf '%s\n' "$out" | grep -c ': found')" 3 "all three are found"
sed -i 's/"tokens": 512}/"tokens": 500}/' "$study/study.json"
run "$KERF" calibrate -C "$study"
like "$out" 'calibration.bin: made' "a config with another text makes another"

# A study of an importance matrix.
study=$folder/diagonal
study_write "$study" 1
sed -i "s|$text|$folder/m.dat|" "$study/study.json"
ok "a study is prepared from an importance matrix" "$KERF" calibrate -C "$study"
like "$err" 'diagonals only' "the log says what that means"
like "$out" 'calibration.bin: made' "its calibration is made of it"
ok "again" "$KERF" calibrate -C "$study"
like "$out" 'calibration.bin: found' "and found"
ok "it is searched" "$KERF" search -C "$study"
run "$KERF" front -C "$study"
like "$out" 'compressed with an importance matrix' "its front says so"
is "$("$KERF" front -C "$study" -o json | json calibration)" diagonal "in JSON too"
head -c 1000 "$folder/m.dat" >"$folder/cut.dat"
study_write "$folder/bad" 1
sed -i "s|$text|$folder/cut.dat|" "$folder/bad/study.json"
fails 65 'cut.dat: .*cut short' "one that is cut short" "$KERF" calibrate -C "$folder/bad"
fails 66 'kerf init' "a folder that is not there" "$KERF" calibrate -C "$folder/none"
finish
