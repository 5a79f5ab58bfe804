# Beginning a study, and everything that can be wrong with what it is begun on.
. "$KERF_TESTS/cli/lib.sh"
make_data
texts="--calibration $data/calibration.txt --heldout $data/heldout.txt"

# shellcheck disable=SC2086  # $texts is a list of words
init() { "$KERF" init "$folder/s" --model "$data/$1" $texts; }
refuses() { # STATUS PATTERN TITLE MODEL
    fails "$1" "$2" "$3" "$KERF" init "$folder/s" --model "$data/$4" $texts
    [ ! -e "$folder/s" ]
    check $? "$3: nothing is left behind"
}

fails 2 'init: missing argument; usage' "init without a folder" "$KERF" init
fails 2 '--model is missing; usage' "init without a model" "$KERF" init "$folder/s"
fails 2 '--heldout is missing' "init without a held-out text" \
    "$KERF" init "$folder/s" --model "$data/tiny.gguf" --calibration "$data/calibration.txt"
fails 2 'guff.*gguf-hetero' "an unknown profile" \
    "$KERF" init "$folder/s" --model "$data/tiny.gguf" $texts --profile guff
fails 66 'none.txt: no such file' "a text that is not there" \
    "$KERF" init "$folder/s" --model "$data/tiny.gguf" --calibration "$data/none.txt" \
    --heldout "$data/heldout.txt"
fails 66 'no such folder' "a folder of tasks that is not there" \
    "$KERF" init "$folder/s" --model "$data/tiny.gguf" $texts --tasks "$data/none"
fails 66 'no .jsonl file' "a folder without tasks" \
    "$KERF" init "$folder/s" --model "$data/tiny.gguf" $texts --tasks "$data"
[ ! -e "$folder/s" ]
check $? "none of these has left a folder"

# Models that are no models.
refuses 66 'none.gguf.*No such file' "a model that is not there" none.gguf
refuses 65 'no GGUF' "a text in place of a model" calibration.txt
: >"$data/empty.gguf"
refuses 65 'empty.gguf' "an empty file" empty.gguf
size=$(wc -c <"$data/tiny.gguf")
for n in 4 100 10000 $((size / 2)) $((size - 1)); do
    head -c "$n" "$data/tiny.gguf" >"$data/cut.gguf"
    refuses 65 'cut.gguf: at byte [0-9]+: .*cut short' "a model cut to $n bytes" cut.gguf
done
lie() { # OFFSET BYTES(octal escapes) TITLE
    cp "$data/tiny.gguf" "$data/lie.gguf"
    printf "$2" | dd of="$data/lie.gguf" bs=1 seek="$1" conv=notrunc 2>/dev/null
    refuses 65 'lie.gguf: ' "$3" lie.gguf
}
lie 4 '\011' "a version of the future"
lie 8 '\377\377\377\377\377\377\377\177' "more tensors than the file can hold"
lie 16 '\377\377\377\377\377\377\377\177' "more keys than the file can hold"
lie 24 '\377\377\377\377\377\377\377\177' "a key longer than the file"
"$KERF_TOOLS/tiny_model" "$folder/other" gpt2
cp "$folder/other/tiny.gguf" "$data/gpt2.gguf"
refuses 65 'gpt2 is not supported.*llama' "another architecture" gpt2.gguf

# A good one.
run "$KERF" init "$folder/s" --model "$data/tiny.gguf" $texts --tasks "$data/tasks" --quick
is "$status" 0 "init of a study"
like "$out" 'dim 256, 3 layers, 8/4 heads of 32, FFN 512, vocabulary 400' "names the parent's shape"
like "$out" "next: kerf search -C $folder/s" "and the next command"
like "$(cat "$folder/s/study.json")" '^ *//' "the config is commented"
is "$(ls "$folder/s")" study.json "and is all there is"
fails 73 'already holds a study' "a study is not begun twice" \
    "$KERF" init "$folder/s" --model "$data/tiny.gguf" $texts
fails 66 'no archive yet|kerf search' "nothing can be shown before a search" "$KERF" front -C "$folder/s"

# Without permission, as somebody who is not root.
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
    mkdir "$folder/locked" && chmod 755 "$folder" "$folder/locked" && chmod -R a+rX "$data"
    as_nobody="setpriv --reuid=65534 --regid=65534 --clear-groups"
    fails 77 'locked.*ermission' "a folder that may not be written" \
        $as_nobody "$KERF" init "$folder/locked/s" --model "$data/tiny.gguf" $texts
    chmod 600 "$data/tiny.gguf"
    mkdir "$folder/open" && chmod 777 "$folder/open"
    fails 77 'tiny.gguf.*ermission' "a model that may not be read" \
        $as_nobody "$KERF" init "$folder/open/s" --model "$data/tiny.gguf" $texts
    fails 77 'ermission' "a study that may not be written" $as_nobody "$KERF" search -C "$folder/s"
elif [ "$(id -u)" != 0 ]; then
    mkdir "$folder/locked" && chmod 555 "$folder/locked"
    fails 77 'locked.*ermission' "a folder that may not be written" \
        "$KERF" init "$folder/locked/s" --model "$data/tiny.gguf" $texts
    chmod 755 "$folder/locked"
else
    skip "permissions" "root without setpriv may do everything"
fi
finish
