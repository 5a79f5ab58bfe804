# lib.sh - searches under mpirun with something broken; on top of the command-line harness.
#
#   begin EVALS              start the search of $study in the background: $first, its talk in $talk
#   rank N, evaluators       pids
#   ended STATUS SECONDS TITLE
#                            the search ends by itself in time, with this status
#   left_nothing TITLE       no process, folder or segment of it is left, the archive is sound
all_cores=yes
. "$KERF_TESTS/cli/lib.sh"

command -v mpirun >/dev/null || skip_all "no mpirun here"
talk=$folder/talk
# Shared segments that no process has mapped: a run that lives has its own.
segments() {
    find /dev/shm -maxdepth 1 -name 'vader_segment.*' 2>/dev/null | sort | while read -r path; do
        grep -qsF "$path" /proc/[0-9]*/maps || echo "$path"
    done
}
segments >"$folder/segments"

begin() {
    : >"$talk" # before anybody looks for words of this run
    "$KERF" search -C "$study" --ranks "${ranks:-3}" --evals "$1" >"$talk" 2>&1 </dev/null &
    first=$!
}

rank() { pids_with "OMPI_COMM_WORLD_RANK=$1"; }
evaluators() { pids_like 'kerf evaluator *'; }

# Wait until N candidates of this run are measured.
measured() { # N SECONDS
    ticks=$(($2 * 10))
    while [ "$ticks" -gt 0 ] && [ "$(grep -c ' done=' "$talk")" -lt "$1" ]; do
        sleep 0.1
        ticks=$((ticks - 1))
    done
    [ "$ticks" -gt 0 ]
}

# An evaluator that lives right now; it may take a moment until one does.
any_evaluator() {
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        found=$(evaluators | head -n 1)
        [ -z "$found" ] || break
        sleep 0.05
    done
    echo "$found"
}

ended() {
    ticks=$(($2 * 10))
    while [ "$ticks" -gt 0 ] && kill -0 "$first" 2>/dev/null; do
        sleep 0.1
        ticks=$((ticks - 1))
    done
    if [ "$ticks" = 0 ]; then
        check 1 "$3 (still running after $2 s)"
        end_all
    fi
    wait "$first"
    status=$?
    [ "$ticks" = 0 ] || is "$status" "$1" "$3"
    [ "$status" = "$1" ] || note "$(tail -n 15 "$talk")"
}

left_nothing() {
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        left=$(pids_like '*kerf *' && pids_like 'mpirun *' && pids_like 'orted*')
        [ -z "$left" ] && break
        sleep 0.1
    done
    is "$left" "" "$1: no process is left"
    is "$(segments | comm -13 "$folder/segments" -)" "" "$1: no shared segment is left"
    is "$(find "$study" -name 'status-*')" "" "$1: the status has its place"
    study_is_sound "$study" "$1"
}

# What the last run says of itself: said NAME
word() { json "$1" <"$study/status.json"; }
