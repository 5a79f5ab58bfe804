# A disk that fills up: one clear line, everything committed is whole, and with room the same
# command goes on.
. "$KERF_TESTS/cli/lib.sh"
[ "$(id -u)" = 0 ] || skip_all "only root can mount a small file system"
mkdir "$folder/disk"
mount -t tmpfs -o size=24m kerf-test "$folder/disk" 2>/dev/null || skip_all "no tmpfs can be mounted here"
mounted=$folder/disk
make_data
study=$folder/disk/study
study_write "$study" 24

run "$KERF" search -C "$study" --evals 4
is "$status" 0 "a search on a small disk" || said
remember "$study"

# Leave less room than anything needs.
room=$(df --output=avail -k "$folder/disk" | tail -n 1)
head -c $(((room - 64) * 1024)) /dev/zero >"$folder/disk/ballast"
run "$KERF" search -C "$study"
case $status in 74 | 75) true ;; *) false ;; esac
check $? "into a full disk ends with 74 or 75" || said
like "$err" '^kerf: .*([Nn]o space|full|saved)' "and says why"
study_is_sound "$study" "on the full disk"
still_there "$study" "on the full disk"
[ -z "$(pids_like '*kerf*')" ]
check $? "nothing runs on"

rm "$folder/disk/ballast"
run "$KERF" search -C "$study"
is "$status" 0 "with room the same command completes" || said
still_there "$study" "after making room"
study_is_sound "$study" "after making room"
is "$(find "$study" -name '*.tmp*' -o -name '.*.draft*')" "" "no half-written file is left"

# An export that does not fit leaves nothing.
room=$(df --output=avail -k "$folder/disk" | tail -n 1)
head -c $(((room - 64) * 1024)) /dev/zero >"$folder/disk/ballast"
fails 74 'out.gguf.*disk is full' "an export into a full disk" \
    "$KERF" export -C "$study" @best "$folder/disk/out.gguf"
is "$(find "$folder/disk" -maxdepth 1 -name '*out.gguf*')" "" "leaves nothing behind"
finish
