# shellcheck shell=bash
# What a canary job does after the host side's functions (slurm/hostside.sh) and its settings: it tries things and
# notes what happened as lines "NAME<tab>VALUE". One writer a file, so any shared file system will do.

fc_note() { printf '%s\t%s\n' "$1" "${2//[$'\n\t']/ }" >>"$FC_FOLDER/$FC_ROLE.facts"; }
fc_now() { date +%s.%N; }

fc_arrive() {
  unset "${!SBATCH_@}" "${!SQUEUE_@}" "${!SACCT_@}" "${!SCANCEL_@}" "${!SCONTROL_@}" SLURM_CLUSTERS SLURM_TIME_FORMAT
  : "${USER:=$(id -un)}"
  if ((${SLURM_RESTART_COUNT:-0} > 0)); then exit 0; fi # requeued, as it asked for, and not cancelled yet
  [[ -d $FC_FOLDER ]] || exit 0                         # the doctor has gone
  fc_note job "$SLURM_JOB_ID"
  fc_note node "${SLURMD_NODENAME:-$HOSTNAME}"
  fc_note started "$(fc_now)"
  trap 'fc_note ended $?' EXIT
}

fc_scratch() {
  local base=${FS_SCRATCH_BASE:-${TMPDIR:-/tmp}} said
  fc_note scratch-base "$base"
  if ! said=$(mkdir -p "$base" 2>&1 && FS_SCRATCH=$(mktemp -d "$base/foreshock-$USER-$SLURM_JOB_ID.$$.XXXXXX" 2>&1) && echo "$FS_SCRATCH"); then
    fc_note scratch-refused "$said"
    FS_SCRATCH=$(mktemp -d)
  else
    FS_SCRATCH=${said##*$'\n'}
    fc_note scratch-free-kb "$(df -Pk "$FS_SCRATCH" | awk 'NR == 2 {print $4}')"
    fc_note scratch-type "$(stat -f -c %T "$FS_SCRATCH")"
    printf '#!/bin/sh\nexit 0\n' >"$FS_SCRATCH/runs" && chmod 755 "$FS_SCRATCH/runs"
    fc_note scratch-executes "$("$FS_SCRATCH/runs" 2>/dev/null && echo yes || echo no)"
  fi
  echo "$HOSTNAME" >"$FS_SCRATCH/host"
  mkdir -p "$FS_SCRATCH/tmp"
  fs_canary=""
  trap 'fc_note ended $?; [[ -n $fs_canary ]] && kill -KILL "$fs_canary" 2>/dev/null; rm -rf "$FS_SCRATCH"' EXIT
}

fc_probe() { # the same way as a worker starts, in the image if there is one
  local said
  fs_prepare
  timeout 240 "${FC_PROBE[@]}" </dev/null >"$FC_FOLDER/$FC_ROLE.said" 2>&1
  fc_note probe-exit $?
}

fc_try_step() { # the canary step of workers (fs_start_canary) hears SIGTERM, as at the start of a preemption's grace
  local _
  fc_heard=""
  command -v srun >/dev/null || { fc_note step "no srun on the node"; return; }
  trap 'fc_heard=1' USR1
  FS_CANARY=1 fs_start_canary
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    sleep 1
    [[ -n $fc_heard ]] && break
    kill -0 "$fs_canary" 2>/dev/null || { [[ -n $fc_heard ]] || fc_note step "srun --overlap ended at once"; return; }
    scancel --signal=TERM "$SLURM_JOB_ID" 2>/dev/null # reaches steps, not this shell
  done
  fc_note step "${fc_heard:+heard}"
  trap - USR1
}

fc_node_main() { # a worker's canary: everything but the time limit; in the end it requeues itself
  local said
  fc_scratch
  fc_note gpus-of-host "$(nvidia-smi -L 2>/dev/null | grep -c .)"
  fc_note cuda-visible "${CUDA_VISIBLE_DEVICES-unset}"
  [[ ${FC_STEP:-1} == 1 ]] && fc_try_step
  fc_probe
  fc_note asks-requeue "$(fc_now)"
  if said=$(scontrol requeue "$SLURM_JOB_ID" 2>&1); then
    sleep 60 # Slurm ends this job now
  else
    fc_note requeue-refused "${said:-scontrol said nothing}"
  fi
}

fc_limit_main() { # waits for the time limit's notice and for the end
  trap 'fc_note notice "$(fc_now)"' USR1
  trap 'fc_note term "$(fc_now)"' TERM
  while [[ -d $FC_FOLDER ]]; do
    fc_now >"$FC_FOLDER/$FC_ROLE.alive"
    sleep 0.5 &
    wait $!
  done
}

fc_final_main() { # the last job's canary: it has to submit further jobs, and to read what workers wrote
  local said
  fc_scratch
  local nested=(sbatch --hold --parsable --job-name="$SLURM_JOB_NAME-nested" --output=/dev/null --time=1)
  if said=$("${nested[@]}" "$FC_FOLDER/nested.sbatch" 2>&1); then fc_note nested "$said"; else fc_note nested-refused "$said"; fi
  scancel --name="$SLURM_JOB_NAME-nested" --user="$(id -u)" 2>/dev/null
  fc_probe
}
