# lib.sh - the whole harness of the command-line tests: TAP, a folder and a core of its own for each
# script, and the kerf under test, named by $KERF.  Sourced:   . "$KERF_TESTS/cli/lib.sh"
#
#   run CMD...                     sets $status, $out, $err (no longer than $limit seconds)
#   ok TITLE CMD...                the command ends with 0
#   is GOT WANT TITLE              two texts are the same
#   like TEXT PATTERN TITLE        an extended regular expression matches
#   fails STATUS PATTERN TITLE CMD...
#                                  one line on stderr that matches, nothing on stdout, this status
#   skip TITLE REASON              a check that cannot be made here
#   skip_all REASON                nothing can be checked here
#   finish                         the plan and the exit status; the last line of a script
set -u

: "${KERF:?names the kerf binary under test}"
: "${KERF_TOOLS:?names the folder of tiny_model, json_get and archive_dump}"

n_checks=0
n_failed=0
limit=120
folder=$(mktemp -d "${TMPDIR:-/tmp}/kerf-test-XXXXXX") || exit 1
mkdir "$folder/quiet" "$folder/tmp"
# Every process that a script starts carries this mark, whatever becomes of its parent.
export KERF_TEST_MARK="$folder"
export KERF_QUIET_DIR="$folder/quiet" TMPDIR="$folder/tmp"
export OMP_NUM_THREADS=1 LC_ALL=C

# Stay on a core that no other script holds, as long as this one lives: two at once would measure
# each other.  With $all_cores set, or where all are taken, on none of its own.
take_core() {
    for core in $(awk '/^Cpus_allowed_list:/ {
        n = split($2, range, ",")
        for (i = 1; i <= n; i++) {
            parts = split(range[i], end, "-")
            for (core = end[1]; core <= end[parts]; core++) print core
        } }' /proc/self/status); do
        [ -d "/sys/devices/system/cpu/cpu$core" ] || continue
        exec 9<"/sys/devices/system/cpu/cpu$core"
        flock -n 9 && taskset -cp "$core" $$ >/dev/null && return
    done
    exec 9<&-
}
[ -n "${all_cores:-}" ] || take_core

# --- processes, by what they were started with ---

# pids of what this script started (but not of its own shell), filtered by NAME=VALUE of their
# environment
pids_with() {
    for pid in $(grep -lzxF "KERF_TEST_MARK=$folder" /proc/[0-9]*/environ 2>/dev/null); do
        pid=${pid#/proc/}
        pid=${pid%/environ}
        [ "$pid" != $$ ] || continue
        [ -z "${1:-}" ] || grep -qzxF "$1" "/proc/$pid/environ" 2>/dev/null || continue
        echo "$pid"
    done
}

# the same, filtered by a pattern of the command line (arguments joined by blanks)
pids_like() {
    for pid in $(pids_with); do
        line=$({ tr "\0" " " <"/proc/$pid/cmdline"; } 2>/dev/null)
        case $line in
        $1) echo "$pid" ;;
        esac
    done
}

end_all() {
    for pid in $(pids_like '*kerf*') $(pids_like 'mpirun*') $(pids_like 'orted*'); do
        kill -KILL "$pid" 2>/dev/null
    done
}

clean_up() {
    end_all
    [ -z "${mounted:-}" ] || umount "$mounted" 2>/dev/null
    [ -n "${KERF_TEST_KEEP:-}" ] || rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 1' INT TERM HUP

# --- checks ---

note() { printf '%s\n' "$*" | sed 's/^/# /'; }

check() { # 0|1 TITLE
    n_checks=$((n_checks + 1))
    if [ "$1" = 0 ]; then
        echo "ok $n_checks - $2"
    else
        n_failed=$((n_failed + 1))
        echo "not ok $n_checks - $2"
    fi
    return "$1"
}

run() {
    timeout -s KILL "$limit" "$@" >"$folder/out" 2>"$folder/err" </dev/null
    status=$?
    out=$(cat "$folder/out")
    err=$(cat "$folder/err")
}

said() { note "status $status"; note "stdout: $(head -c 1500 "$folder/out")"; note "stderr: $(tail -c 1500 "$folder/err")"; }

ok() {
    title=$1
    shift
    run "$@"
    check "$status" "$title" || said
}

is() {
    [ "$1" = "$2" ]
    check $? "$3" || { note "got:  $1"; note "want: $2"; }
}

like() {
    printf '%s\n' "$1" | grep -Eq -e "$2"
    check $? "$3" || { note "text: $1"; note "want: $2"; }
}

# at least: GOT >= WANT
at_least() {
    [ "$1" -ge "$2" ]
    check $? "$3" || note "got $1, want at least $2"
}

fails() {
    want=$1 pattern=$2 title=$3
    shift 3
    run "$@"
    [ "$status" = "$want" ] && [ -z "$out" ] && [ "$(wc -l <"$folder/err")" = 1 ] &&
        printf '%s\n' "$err" | grep -Eq -e "^kerf[ :].*($pattern)"
    check $? "$title" || { said; note "want status $want, one line like: $pattern"; }
}

skip() {
    n_checks=$((n_checks + 1))
    echo "ok $n_checks - $1 # SKIP $2"
}

skip_all() {
    echo "1..0 # SKIP $1"
    exit 77
}

finish() {
    echo "1..$n_checks"
    [ "$n_failed" = 0 ] && [ "$n_checks" -gt 0 ]
    exit $?
}

# --- studies ---

json() { "$KERF_TOOLS/json_get" "$1"; } # PATH < text
dump() { "$KERF_TOOLS/archive_dump" "$@"; } # ARCHIVE [evaluations|candidates]

# The tiny model and its texts, in $data.
make_data() {
    data=$folder/data
    "$KERF_TOOLS/tiny_model" "$data" || exit 1
}

# A study of a search that takes seconds: study_write DIR EVALS [PROFILE]
study_write() {
    mkdir -p "$1"
    cat >"$1/study.json" <<END
// written by a test
{
  "model": {"path": "$data/tiny.gguf"},
  "target": {"profile": "${3:-gguf-hetero}"},
  "space": {"types": ["Q3_K", "Q4_0", "Q8_0"], "embedding": ["Q4_K", "Q8_0"],
            "drop": ["attn", "ffn"], "ffn": {"min": 0.5}},
  "quality": {
    "calibration": {"file": "$data/calibration.txt", "tokens": 512},
    "heldout": {"file": "$data/heldout.txt"},
    "sequence": 64,
    "sensitivity": {"tokens": 128},
    "search": {"tokens": 256},
    "final": {"tokens": 512},
    "tasks": ["$data/tasks/first.jsonl", "$data/tasks/second.jsonl"],
    "task_items": 8
  },
  "latency": {"workloads": ["pp32@b1", "tg4@b1"], "threads": 1,
              "rounds": {"min": 8, "max": 10}, "ci": 0.3},
  "search": {"seed": 1, "population": 8, "evals": $2, "time": "10min"}
}
END
}

# What must hold of a study at any moment of rest: study_is_sound DIR TITLE
study_is_sound() {
    run "$KERF" archive fsck -C "$1"
    [ "$status" = 0 ] && case $out in *clean*) true ;; *) false ;; esac
    check $? "$2: the archive is clean" || said
    # Whatever happened, a candidate is measured once at each rung.
    twice=$(dump "$1/archive" | awk '++n[$1, $3] == 2 { print $1, $3 }')
    is "$twice" "" "$2: no result was measured again"
}

# The evaluations of DIR so far, for comparison with later ones: remember DIR
remember() { dump "$1/archive" >"$folder/before" 2>/dev/null || : >"$folder/before"; }

# Candidates proposed so far, the parent not counted: n_candidates DIR
n_candidates() { dump "$1/archive" candidates | awk '$4 > 0' | wc -l; }

# Wait until a line of FILE matches: wait_for FILE PATTERN SECONDS
wait_for() {
    ticks=$(($3 * 20))
    while [ "$ticks" -gt 0 ]; do
        grep -q -e "$2" "$1" 2>/dev/null && return 0
        sleep 0.05
        ticks=$((ticks - 1))
    done
    return 1
}

# What was committed before is there, unchanged, in the same order: still_there DIR TITLE
still_there() {
    dump "$1/archive" | head -n "$(wc -l <"$folder/before")" | cmp -s - "$folder/before"
    check $? "$2: what was committed is there, unchanged"
}
