# shellcheck shell=bash
# Host side of a foreshock job: stop requests, requeueing, node-local scratch. Runs in the batch step of the job,
# outside any container, with bash and Slurm's own commands only.
#
# The worker is one child process. A notice (time limit, preemption) reaches this shell alone and is passed on as
# a single SIGUSR2; the worker finishes its batch, leaves with 75, and this shell requeues this very array
# element. A worker that was killed (137), or died before it could listen (140, 143) or of a vanished image
# (135), is requeued too, and so is one whose exit code bash lost to a notice that came at that very moment (138).
# What limits requeues is that nothing was added, FS_NO_PROGRESS_LIMIT times in a row.
# A worker killed for memory, or killed before it added anything, is started again with half the batch.
# A node on which elements fail at once, while other nodes do work, is excluded for the elements that still wait.

fs_say() { printf '[foreshock %(%F %T)T] %s\n' -1 "$*"; }

fs_stop() { # WHY: ask the worker, once, to finish its batch and leave
  [[ -n $fs_stopping ]] && return 0
  fs_stopping=$1
  fs_say "stop requested: $1"
  [[ -n $fs_child ]] && kill -USR2 "$fs_child" 2>/dev/null
  return 0
}

fs_watch_parent() { # tell the shell when slurmstepd is gone: nobody else would stop the worker then
  local quiet
  exec {quiet}<> <(:)
  while [[ -e /proc/$1 ]]; do read -rt 5 -u "$quiet"; done
  kill -USR1 "$2" 2>/dev/null
}

fs_arrive() { # before the site's setup, which may fail: mark the attempt in the log, and at the node
  fs_id=$SLURM_JOB_ID
  [[ -n ${SLURM_ARRAY_TASK_ID:-} ]] && fs_id=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
  unset "${!SBATCH_@}" "${!SQUEUE_@}" "${!SACCT_@}" "${!SCANCEL_@}" "${!SCONTROL_@}" SLURM_CLUSTERS SLURM_TIME_FORMAT
  # of an image that the submitter was in: a worker says what it runs in itself
  unset {,APPTAINERENV_,SINGULARITYENV_}FORESHOCK_IMAGE_{FILE,ID}
  : "${USER:=$(id -un)}"
  fs_child="" fs_stopping="" fs_canary="" fs_node="" fs_stepd=$PPID fs_tasks=()
  printf -v fs_started '%(%s)T' -1
  fs_say "=== job $fs_id attempt ${SLURM_RESTART_COUNT:-0} on ${SLURMD_NODENAME:-$HOSTNAME} ==="
  if [[ -e $FS_RUN_DIR/slurm/dropped-$SLURM_JOB_NAME ]]; then
    fs_say "this submission was given up and its work planned anew; leaving"
    exit 0
  fi
  trap 'fs_end $?' EXIT
  if [[ -n ${FS_TASKS+x} ]]; then
    read -ra fs_tasks <<<"${FS_TASKS[SLURM_ARRAY_TASK_ID]}"
    fs_node_starts
  fi
}

fs_begin() { # make scratch, listen for notices
  trap 'fs_stop "notice from Slurm"' USR1 TERM
  fs_make_scratch
  if [[ -n ${FS_NEXT:-} ]]; then # before fs_prepare, which hands them into an image
    export FORESHOCK_SLURM_FACTS=$FS_SCRATCH/facts FORESHOCK_LOCK_JOB=$fs_id
  fi
  fs_prepare
  fs_watch_parent "$fs_stepd" $$ &
  fs_watcher=$!
  disown "$fs_watcher" # so that bash does not report its end
}

fs_make_scratch() { # one folder an attempt on the node's own disk; folders that killed jobs of this node left are removed
  local base=${FS_SCRATCH_BASE:-${TMPDIR:-/tmp}} old pid
  for old in "$base/foreshock-$USER-"*; do # the name ends in .PID.RANDOM: nothing that a starting job has yet to write
    pid=${old%.*}
    if [[ ! -O $old ]] || kill -0 "${pid##*.}" 2>/dev/null; then continue; fi
    if [[ -f $old/host ]]; then
      [[ $(<"$old/host") == "$HOSTNAME" ]] && fs_remove_scratch "$old"
    else # killed in the moment before it was written, or after it was removed; unless a job elsewhere is there just now
      [[ -n $(find "$old" -maxdepth 0 -mmin +10 2>/dev/null) ]] && rm -rf "$old"
    fi
  done
  FS_SCRATCH=$(mktemp -d "$base/foreshock-$USER-$SLURM_JOB_ID.$$.XXXXXX") || { fs_say "cannot make scratch in $base"; exit 1; }
  mkdir "$FS_SCRATCH/tmp"
  echo "$HOSTNAME" >"$FS_SCRATCH/host"
  fs_outer_tmpdir=${TMPDIR:-}
  export TMPDIR=$FS_SCRATCH/tmp XDG_CACHE_HOME=$FS_SCRATCH/cache VLLM_CACHE_ROOT=$FS_SCRATCH/vllm
  export TRITON_CACHE_DIR=$FS_SCRATCH/triton TORCHINDUCTOR_CACHE_DIR=$FS_SCRATCH/inductor
  export NUMBA_CACHE_DIR=$FS_SCRATCH/numba MPLCONFIGDIR=$FS_SCRATCH/matplotlib
}

fs_remove_scratch() { # FOLDER: also when Slurm's signals, which this shell has a trap for, end the rm
  local part
  for _ in 1 2 3 4 5; do
    for part in "$1"/*; do # what says whose it is goes last: the next job takes up a removal that was killed for good
      [[ $part == */host ]] || rm -rf "$part"
    done
    rm -rf "$1"
    [[ -e $1 ]] || return 0
  done
}

fs_end() { # EXIT_CODE
  local pid
  [[ -n $fs_node && -e $fs_node/running-$fs_attempt ]] && fs_node_ends "$1"
  for pid in "$fs_canary" "${fs_watcher:-}"; do
    [[ -n $pid ]] && kill -KILL "$pid" 2>/dev/null
  done
  declare -F fs_cleanup >/dev/null && fs_cleanup # a container that outlived its launcher
  [[ -n ${FORESHOCK_LOCK_JOB:-} ]] && fs_unlock
  [[ -n ${FS_SCRATCH:-} ]] && fs_remove_scratch "$FS_SCRATCH"
}

fs_start_canary() { # a step of its own gets SIGTERM when the grace time of a preemption begins; the batch step does not
  # --export=ALL: in a job that was submitted with --export=NONE, srun would not even find bash
  [[ ${FS_CANARY:-1} == 1 ]] && command -v srun >/dev/null || return 0
  # shellcheck disable=SC2016  # $1 and $! are the canary's own
  env -u SLURM_CPUS_PER_TASK -u SLURM_MEM_PER_NODE -u SLURM_MEM_PER_CPU -u SLURM_MEM_PER_GPU \
    srun --export=ALL --overlap --ntasks=1 --nodes=1 --cpus-per-task=1 --mem=0 --gres=none --quiet bash -c \
    'trap "kill -USR1 $1; exit 0" TERM; while [[ -e /proc/$1 ]]; do sleep 5 & wait $!; done' canary $$ \
    </dev/null >/dev/null 2>&1 &
  fs_canary=$!
  disown "$fs_canary"
}

fs_run() { # COMMAND...: run the worker to its end, whatever signals arrive; leaves its exit code in fs_rc
  "$@" </dev/null &
  fs_child=$!
  [[ -n $fs_stopping ]] && kill -USR2 "$fs_child" 2>/dev/null
  while :; do
    wait "$fs_child"
    fs_rc=$?
    kill -0 "$fs_child" 2>/dev/null || break
  done
  fs_child=""
}

fs_oom_kills() { # processes of this step that were killed for memory so far, where control groups count them
  local root=${FS_CGROUP_ROOT:-/sys/fs/cgroup} controllers group file kills count=0
  while IFS=: read -r _ controllers group; do
    case $controllers in
      "") file=$root$group/memory.events ;;
      memory) file=$root/memory$group/memory.oom_control ;;
      *) continue ;;
    esac
    [[ -r $file ]] && kills=$(sed -n 's/^oom_kill \([0-9]*\)$/\1/p' "$file") && count=$((count + ${kills:-0}))
  done </proc/self/cgroup
  echo "$count"
}

fs_rows_added() { # TASK...: rows that this attempt added, as the workers' progress files tell
  local task file rows resumed updated pack sum=0
  for task in "$@"; do
    printf -v file '%s/progress/task-%05d.json' "$FS_RUN_DIR" "$task"
    [[ -r $file ]] || continue
    updated=$(sed -n 's/.*"updated": *\([0-9]*\).*/\1/p' "$file")
    rows=$(sed -n 's/.*"rows_done": *\([0-9]*\).*/\1/p' "$file")
    resumed=$(sed -n 's/.*"rows_resumed": *\([0-9]*\).*/\1/p' "$file")
    pack=$(sed -n 's/.*"pack": *\([0-9]*\).*/\1/p' "$file")
    if [[ $pack != "$FS_PACK" ]]; then # a later pack writes there by now: the benefit of the doubt
      sum=$((sum + 1))
      continue
    fi
    [[ ${updated:-0} -ge $fs_started ]] && sum=$((sum + ${rows:-0} - ${resumed:-0}))
  done
  echo "$sum"
}

fs_node_starts() { # note that this element runs on this node; keep what waits away from nodes that others excluded
  fs_node=$FS_RUN_DIR/slurm/nodes/${SLURMD_NODENAME:-$HOSTNAME}
  fs_attempt=${fs_id}-${SLURM_RESTART_COUNT:-0}
  mkdir -p "$fs_node" && echo "$fs_started" >"$fs_node/running-$fs_attempt"
  fs_exclude_nodes
}

fs_node_ends() { # EXIT_CODE: what this attempt says about the node
  local rc=$1 now
  rm -f "$fs_node/running-$fs_attempt"
  printf -v now '%(%s)T' -1
  if [[ $rc == 0 ]] || (($(fs_rows_added "${fs_tasks[@]}") > 0)); then
    [[ -e $fs_node/worked ]] || : >"$fs_node/worked"
  elif [[ -z $fs_stopping ]] && ((now - fs_started <= FS_NODE_FAILURE_S)); then
    echo "$rc" >"$fs_node/failed-$fs_attempt"
    for _ in 1 2 3 4 5; do # a node that fails at once must not get through the array before anything is known of others
      fs_judge_node $((now - fs_started))
      if [[ -e $fs_node/excluded ]] || ! compgen -G "${fs_node%/*}/*/running-*" >/dev/null; then break; fi
      sleep 2
    done
  fi
}

fs_judge_node() { # SECONDS: exclude this node if two elements failed here at once and others do work elsewhere
  local other mark since failed now
  printf -v now '%(%s)T' -1
  [[ -e $fs_node/worked || -e $fs_node/excluded ]] && return 0
  failed=$(compgen -G "$fs_node/failed-*" | sed 's/-[0-9]*$//' | sort -u | wc -l)
  ((failed >= 2)) || return 0
  for other in "${fs_node%/*}"/*/; do
    [[ ${other%/} == "$fs_node" || -e ${other}excluded ]] && continue
    for mark in "$other"worked "$other"running-*; do
      [[ -e $mark ]] || continue
      since=0
      [[ $mark == */worked ]] || read -r since <"$mark"
      if ((now - ${since:-0} >= 2 * $1 + 5)); then # it has lasted longer than the failures here took
        fs_say "$failed elements failed at once on ${fs_node##*/}; excluding this node"
        : >"$fs_node/excluded"
        fs_exclude_nodes
        return 0
      fi
    done
  done
}

fs_exclude_nodes() { # for the elements of this array that wait, requeued ones included
  local list=${FS_EXCLUDED:-} node
  compgen -G "${fs_node%/*}/*/excluded" >/dev/null || return 0
  for node in "${fs_node%/*}"/*/excluded; do
    node=${node%/excluded}
    list+=${list:+,}${node##*/}
  done
  scontrol update "jobid=$SLURM_ARRAY_JOB_ID" "excnodelist=$list" >/dev/null 2>&1 # running elements refuse it
  return 0
}

fs_scontrol_requeue() { # try again: a controller that restarts or is busy answers a little later
  local pause
  for pause in 1 2 4 8 15 30; do
    scontrol requeue "$fs_id" && return 0
    sleep "$pause"
  done
  return 1
}

fs_requeue() { # EXIT_CODE TASK...: put this element, and no other, back into the queue; or say why not, and leave
  local rc=$1 added idle=0 halvings=0 why="" state
  local counter=$FS_RUN_DIR/slurm/attempts/$SLURM_JOB_NAME-${SLURM_ARRAY_TASK_ID:-0}
  shift
  [[ -n $fs_node ]] && fs_node_ends "$rc"
  [[ -e /proc/$fs_stepd ]] || { fs_say "slurmstepd is gone; leaving"; exit "$rc"; }
  if [[ -e $FS_RUN_DIR/slurm/cancelled-$FS_TOKEN ]]; then fs_say "the run is cancelled"; exit "$rc"; fi
  added=$(fs_rows_added "$@")
  [[ -r $counter ]] && read -r idle halvings <"$counter"
  if ((added > 0)); then idle=0; else idle=$((idle + 1)); fi
  if (($(fs_oom_kills) > ${fs_oom_before:-0})); then why=", out of memory"; fi
  if [[ -n $why || ($rc == 137 && $idle -gt 0) ]]; then halvings=$((halvings + 1)); fi
  ((halvings > 0)) && why+=", batch halved $halvings times"
  if ((idle >= FS_NO_PROGRESS_LIMIT)); then
    fs_say "giving up: $idle attempts in a row added nothing (last exit code $rc$why)"
    rm -f "$counter"
    exit "$rc"
  fi
  # A cancelled job must stay cancelled: it is COMPLETING by now, a preempted one is still RUNNING in its grace time.
  state=$(scontrol -o show job "$fs_id" 2>/dev/null | sed -n 's/.*JobState=\([A-Z_]*\) Reason=\([A-Za-z_]*\).*/\1 \2/p')
  case $state in
    RUNNING* | PREEMPTED* | TIMEOUT* | *" TimeLimit" | "") ;;
    *) fs_say "not requeued: Slurm says $state"; rm -f "$counter"; exit "$rc" ;;
  esac
  mkdir -p "${counter%/*}" && echo "$idle $halvings" >"$counter"
  fs_say "exit code $rc after $added new rows$why; requeueing $fs_id"
  fs_scontrol_requeue || fs_say "Slurm refused the requeue; the last job of the run will report it"
  exit "$rc"
}

fs_array_main() { # work off this element's tasks
  local task failed=0 halvings=0 counter=$FS_RUN_DIR/slurm/attempts/$SLURM_JOB_NAME-$SLURM_ARRAY_TASK_ID
  [[ -r $counter ]] && read -r _ halvings <"$counter"
  export FORESHOCK_BATCH_HALVINGS=${halvings:-0}
  fs_begin
  fs_oom_before=$(fs_oom_kills)
  fs_start_canary
  for task in "${fs_tasks[@]}"; do
    [[ -n $fs_stopping ]] && fs_requeue 75 "${fs_tasks[@]}"
    fs_say "task $task"
    fs_run "${FS_WORKER[@]}" --task "$task"
    fs_say "task $task ended with exit code $fs_rc"
    case $fs_rc in
      0) ;;
      75 | 135 | 137 | 138 | 140 | 143) fs_requeue "$fs_rc" "${fs_tasks[@]}" ;;
      *) failed=$fs_rc ;;
    esac
  done
  fs_node_ends "$failed"
  rm -f "$counter"
  exit "$failed"
}

fs_ask_slurm() { # what a program inside an image cannot ask: the user's jobs, and limits
  local facts=$FORESHOCK_SLURM_FACTS qos
  mkdir -p "$facts"
  squeue --noheader --array --user "$(id -u)" --format '%i|%j|%T|%M|%N|%r' >"$facts/queue.new" 2>/dev/null &&
    mv "$facts/queue.new" "$facts/queue"
  {
    scontrol show config 2>/dev/null | sed -nE 's/^MaxArraySize *= *([0-9]+).*/array \1/p'
    [[ -e $facts/queue ]] && echo "queued $(wc -l <"$facts/queue")"
    sacctmgr --noheader --parsable2 show assoc "user=$(id -un)" format=MaxSubmit,DefaultQOS 2>/dev/null >"$facts/assoc"
    sed -nE 's/^([0-9]+)[|].*/submit \1/p' "$facts/assoc"
    qos=${FS_QOS:-$(sed -nE 's/^[^|]*[|](.+)$/\1/p' "$facts/assoc" | head -n 1)}
    sacctmgr --noheader --parsable2 show qos "${qos:-normal}" format=MaxSubmitPU 2>/dev/null |
      sed -nE 's/^([0-9]+)$/submit \1/p'
  } >"$facts/limits"
}

fs_unlock() { # give the launcher's lock back, which the finishing program takes in this job's name
  local lock=$FS_RUN_DIR/slurm/launcher
  grep -qsF "\"job\": \"$fs_id\"" "$lock" && rm -f "$lock"
  return 0
}

fs_submit_next() { # without this job's scratch in the environment that new jobs inherit
  (
    unset TMPDIR XDG_CACHE_HOME VLLM_CACHE_ROOT TRITON_CACHE_DIR TORCHINDUCTOR_CACHE_DIR NUMBA_CACHE_DIR MPLCONFIGDIR
    unset FORESHOCK_LOCK_JOB FORESHOCK_SLURM_FACTS
    [[ -n $fs_outer_tmpdir ]] && export TMPDIR=$fs_outer_tmpdir
    trap - EXIT
    bash "$FS_NEXT/submit.sh" 2>&1
  )
}

fs_wait_for_room() { # SAID: come back later, by way of the queue; fails when that was tried often enough
  local tries=0 counter=$FS_RUN_DIR/slurm/attempts/$SLURM_JOB_NAME-tries
  [[ -r $counter ]] && read -r tries <"$counter"
  ((tries < ${FS_SUBMIT_TRIES:-300})) || return 1
  mkdir -p "${counter%/*}" && echo $((tries + 1)) >"$counter"
  printf '%s\n' "$1" >"$FS_RUN_DIR/slurm/waiting-$FS_TOKEN"
  fs_say "not now: ${1##*$'\n'}; trying again later"
  fs_scontrol_requeue || return 1
  exit 75
}

fs_final_main() { # aggregate and analyse; first submit again what is missing, if rounds are left (exit code 76)
  local said rc
  fs_begin
  fs_ask_slurm
  fs_run "${FS_FINISH[@]}"
  if [[ $fs_rc == 76 ]]; then
    fs_say "work is missing; submitting it again"
    said=$(fs_submit_next)
    rc=$?
    fs_unlock
    [[ $rc == 75 ]] && fs_wait_for_room "$said"
    rm -f "$FS_RUN_DIR/slurm/attempts/$SLURM_JOB_NAME-tries" "$FS_RUN_DIR/slurm/waiting-$FS_TOKEN"
    printf '%s\n' "$said"
    if [[ $rc == 0 ]]; then
      rm -f "$FS_RUN_DIR/slurm/attempts/$SLURM_JOB_NAME-0"
      exit 0
    fi
    fs_say "submitting from this node failed; analysing what there is"
    fs_run "${FS_FINISH[@]}" --heal 0
  fi
  fs_unlock
  case $fs_rc in
    75 | 135 | 137 | 138 | 140 | 143) fs_requeue "$fs_rc" ;;
  esac
  rm -f "$FS_RUN_DIR/slurm/attempts/$SLURM_JOB_NAME-0"
  exit "$fs_rc"
}
