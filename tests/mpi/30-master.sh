# Master, launcher and watchdog die, or are asked to stop: 75, everything committed is there, the
# same command goes on.
. "$KERF_TESTS/mpi/lib.sh"
make_data
study=$folder/study
study_write "$study" 300

again() { # TITLE: what was committed is there, and the next run goes on from it
    still_there "$study" "$1"
    left_nothing "$1"
    remember "$study"
}
remember "$study"

begin 300
wait_for "$talk" 'sensitivity: unit=1 ' 60
kill -USR1 "$first"
ended 75 30 "USR1 to the watchdog, early on"
like "$(tail -n 1 "$talk")" 'stopped as asked.*same command' "says how to go on"
again "stopped early"

begin 300
measured 3 60
kill -TERM "$first"
ended 75 60 "TERM to the watchdog"
is "$(word code)" ERR_STOPPED "the status file says that it was stopped"
again "stopped"

begin 300
measured 2 60
kill -KILL "$(rank 0)"
ended 75 60 "the master killed"
like "$(tail -n 1 "$talk")" 'died.*same command' "the watchdog says how to go on"
again "master killed"

begin 300
measured 2 60
kill -KILL "$(pids_like 'mpirun *')"
ended 75 60 "mpirun killed"
again "mpirun killed"

begin 300
measured 2 60
kill -KILL $(rank 1) $(rank 2)
sleep 0.3
kill -INT "$first"
ended 75 90 "all workers killed, then stopped"
again "workers killed"

# Everything, at moments that differ from run to run.
for moment in 4 11 19 27 34; do
    begin 300
    sleep "$(awk -v m="$moment" -v p="$first" 'BEGIN { print m / 10 + p % 7 / 20 }')"
    kill -KILL $(pids_like 'mpirun *') $(pids_like '*kerf *') 2>/dev/null
    wait "$first" 2>/dev/null
    sleep 0.3
    segments | comm -13 "$folder/segments" - | xargs -r rm -f
    again "everything killed after $moment tenths"
done

# The watchdog alone.
begin 300
measured 2 60
kill -KILL "$first"
wait "$first" 2>/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    [ -n "$(pids_like '*kerf *')" ] || break
    sleep 0.5
done
is "$(pids_like '*kerf *')" "" "without its watchdog a run ends"
segments | comm -13 "$folder/segments" - | xargs -r rm -f
again "watchdog killed"

# A search, with mpirun or without, sweeps away what killed watchdogs left.
[ -n "$(find "$TMPDIR" -maxdepth 1 -name 'kerf-mpi.*')" ]
check $? "the killed watchdog left mpirun's folder"
plan=$(($(n_candidates "$study") + 4))
begin "$plan"
ended 0 90 "after all that the same command completes"
is "$(find "$TMPDIR" -maxdepth 1 -name 'kerf-mpi.*')" "" "no folder of mpirun is left of all the runs"
is "$(n_candidates "$study")" "$plan" "as many candidates as were planned"
is "$(dump "$study/archive" candidates | awk '{ print $1 }' | sort | uniq -d)" "" "none twice"
again "at the end"
finish
