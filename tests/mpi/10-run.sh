# A search as it is meant to be: a master, two workers, nothing broken.
. "$KERF_TESTS/mpi/lib.sh"
make_data
study=$folder/study
study_write "$study" 16

run "$KERF" search -C "$study" --ranks 3
is "$status" 0 "a search of three ranks completes" || said
like "$out" '^[0-9]+ evaluations in .* 0 workers lost' "and says what it did"
is "$(word code)" ERR_NONE "the status file says the same"
is "$(word workers_lost)" 0 "nobody was lost"
left_nothing "a whole run"
is "$(n_candidates "$study")" 16 "as many candidates as were planned"
case $err in *PMIX* | *MPI_ABORT* | *mpirun*) false ;; *) true ;; esac
check $? "mpirun says nothing of its own" || said

run "$KERF" search -C "$study" --ranks 3
is "$status" 0 "the same command again"
like "$out" '^0 evaluations in ' "has nothing to do"
run "$KERF" search -C "$study" --evals 18
is "$status" 0 "alone, it goes on where the ranks stopped"
run "$KERF" search -C "$study" --evals 20 --ranks 2
is "$status" 0 "and back under mpirun"
is "$(n_candidates "$study")" 20 "with the candidates of all of them"

# Without the watchdog.
mpi="mpirun --enable-recovery --mca async_mpi_finalize 1 --mca pml ob1 --mca mpi_yield_when_idle 1
    --bind-to none --mca orte_tmpdir_base $folder/tmp"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1
run $mpi -n 3 "$KERF" search -C "$study" --evals 24
is "$status" 0 "a bare mpirun works as well" || said
is "$(n_candidates "$study")" 24 "and counts on"
is "$(word code)" ERR_NONE "with a status file"
sed -i 's/"seed": 1/"seed": 2/' "$study/study.json"
run $mpi -n 2 "$KERF" search -C "$study"
like "$err" '/search/seed' "a changed config is refused there too"
fails 78 '/search/seed' "and by the watchdog" "$KERF" search -C "$study" --ranks 2
sed -i 's/"seed": 2/"seed": 1/' "$study/study.json"
run $mpi -n 1 "$KERF" search -C "$study"
like "$err" 'one rank.*-n 2' "one rank is told that it needs a worker"
left_nothing "a bare mpirun"
fails 69 'mpirun cannot be started.*openmpi-bin' "without mpirun" \
    env PATH="$folder/empty" "$KERF" search -C "$study" --ranks 2
finish
