# What a begun study refuses: another config, another model, another master, another place.
. "$KERF_TESTS/cli/lib.sh"
make_data
study=$folder/study
study_write "$study" 3
run "$KERF" search -C "$study"
is "$status" 0 "a short search" || said

refuses() { # SED PATTERN TITLE
    cp "$study/study.json" "$folder/kept"
    sed -i "$1" "$study/study.json"
    remember "$study"
    fails 78 "$2" "$3 is refused by name" "$KERF" search -C "$study"
    still_there "$study" "$3"
    cp "$folder/kept" "$study/study.json"
}
refuses 's/"seed": 1/"seed": 2/' '/search/seed.*1.*2' "another seed"
refuses 's/"Q4_0"/"Q5_0"/' '/space/types.*Q4_0.*Q5_0' "another format"
refuses 's/"tokens": 256/"tokens": 128/' '/quality/search/tokens.*256.*128' "another number of tokens"
refuses 's/"gguf-hetero"/"native"/' '/target/profile.*gguf-hetero.*native' "another profile"
echo "one more sentence" >>"$data/heldout.txt"
fails 78 '/quality/heldout' "another held-out text is refused" "$KERF" search -C "$study"
sed -i '$d' "$data/heldout.txt"
ok "the old one is taken again" "$KERF" search -C "$study"

cp "$data/tiny.gguf" "$folder/kept.gguf"
size=$(wc -c <"$data/tiny.gguf")
printf '\001\002\003' | dd of="$data/tiny.gguf" bs=1 seek=$((size - 4096)) conv=notrunc 2>/dev/null
fails 78 '/model' "another model is refused" "$KERF" search -C "$study"
fails 65 'not the model' "and nothing is exported from it" \
    "$KERF" export -C "$study" @fastest "$folder/out.gguf"
cp "$folder/kept.gguf" "$data/tiny.gguf"
[ ! -e "$folder/out.gguf" ]
check $? "no file was made"

# Two masters.
"$KERF" search -C "$study" --evals 400 >"$folder/first" 2>&1 </dev/null &
first=$!
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    grep -q 'search: begin' "$folder/first" && break
    sleep 0.25
done
fails 69 'another|lock|master' "a second master is refused" "$KERF" search -C "$study" --evals 400
run "$KERF" search -C "$study" --evals 400 --ranks 2
is "$status" 69 "also under mpirun" || said
ok "readers are not" "$KERF" status -C "$study"
kill -INT "$first"
wait "$first"
is $? 75 "the first one goes on all the while, and stops when asked"
study_is_sound "$study" "after two masters"
[ ! -e "$study/status.json.tmp" ] && [ -z "$(find "$study" -name 'status-*')" ]
check $? "and no word of the refused ones is left"

# An archive that is somebody else's.
study_write "$folder/other" 3
sed -i 's/"seed": 1/"seed": 7/' "$folder/other/study.json"
cp -r "$study/archive" "$folder/other/archive"
fails 65 'archive' "an archive of another study" "$KERF" search -C "$folder/other"

# A study that is damaged.
cp -r "$study" "$folder/broken"
head -c 5000 "$study/archive/data.mdb" >"$folder/broken/archive/data.mdb"
fails 65 'data.mdb|archive' "an archive cut short" "$KERF" front -C "$folder/broken"
rm -rf "$folder/broken"
cp -r "$study" "$folder/broken"
head -c 100 "$study/study.resolved.json" >"$folder/broken/study.resolved.json"
fails 65 'study.resolved.json' "a frozen config cut short" "$KERF" front -C "$folder/broken"

# LMDB cannot lock on a network file system.
network=$(awk '$3 ~ /^(nfs|nfs4|cifs|9p|lustre|fuse\..*)$/ { print $2 }' /proc/mounts | while read -r dir; do
    [ -w "$dir" ] && mktemp -d "$dir/kerf-test-XXXXXX" 2>/dev/null && break
done)
if [ -n "$network" ]; then
    study_write "$network/s" 3
    fails 78 'LMDB|network|--scratch' "an archive on a network file system" "$KERF" search -C "$network/s"
    ok "--scratch puts it elsewhere" "$KERF" search -C "$network/s" --scratch "$folder/scratch"
    ok "where later commands find it" "$KERF" status -C "$network/s"
    rm -rf "$network"
else
    skip "an archive on a network file system" "none is mounted here that may be written"
fi
study_write "$folder/far" 3
ok "--scratch keeps the archive apart" "$KERF" search -C "$folder/far" --scratch "$folder/near"
[ -e "$folder/near/archive/data.mdb" ] && [ ! -e "$folder/far/archive" ]
check $? "in the folder that was named"
ok "and the study finds it again" "$KERF" front -C "$folder/far" -o tsv
fails 78 'already in' "it is not moved by a slip" "$KERF" search -C "$folder/far" --scratch "$folder/third"
finish
