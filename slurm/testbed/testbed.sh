#!/usr/bin/env bash
# A real Slurm cluster with accounting on one Debian machine, for tests and for trying foreshock out.
#
# All of it (keys, database, configuration, spool, logs, the submitting user's home) lives in one state folder;
# only the Debian packages and, while the cluster is up, one ordinary user exist outside it. `down` removes both
# the folder and the user. Daemons listen on the loopback interface alone.
#
# The nodes are several slurmd on this machine, each with one fake GPU (a harmless device file), so jobs get
# CUDA_VISIBLE_DEVICES like on a GPU node but must not use it.
set -euo pipefail
umask 022 # the ordinary user reads what root writes

usage() {
  cat <<'TEXT'
usage: testbed.sh install | up [options] | down | env | restart DAEMON   (as root)

  install               the Debian packages (a few minutes, once)
  up                    start; does nothing when it is up already
  down                  stop, remove the user and the state folder
  env                   print what a shell needs to talk to the cluster
  restart slurmctld | n1 | n2 ...   stop that daemon (a node at once) and start it again

options and their defaults
  --state DIR           /tmp/foreshock-testbed
  --nodes N             2         1 to 4
  --cpus N              4         CPUs a node claims to have
  --user NAME           fstest    created by up, removed by down
  --preempt MODE        REQUEUE   or CANCEL: what happens to jobs of partition low
  --grace SECONDS       5         between the notice of a preemption and the kill
  --user-signal         off       preempt_send_user_signal: preempted jobs get their --signal first
  --max-array N         101       MaxArraySize
  --max-submit N        1000      jobs one user may queue in the QOS `normal`
  --port-base N         16800     first of about 30 loopback ports
Environment: SLURM_PREFIX=DIR takes Slurm's programs from DIR/sbin and DIR/bin (a newer version, for instance).
TEXT
}

state=/tmp/foreshock-testbed nodes=2 cpus=4 user=fstest preempt=REQUEUE grace=5 user_signal=0
max_array=101 max_submit=1000 port_base=16800
devices=(/dev/null /dev/zero /dev/full /dev/urandom)
export PATH="${SLURM_PREFIX:+$SLURM_PREFIX/sbin:$SLURM_PREFIX/bin:}/usr/sbin:/usr/bin:/sbin:/bin"

die() { echo "testbed: $*" >&2; exit 1; }

wait_for() { # SECONDS WHAT COMMAND...: until COMMAND succeeds
  local seconds=$1 what=$2 end
  shift 2
  end=$((SECONDS + seconds))
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || die "$what did not come up in $seconds s; see the logs in $state/log"
    sleep 0.2
  done
}

running() { # NAME: is the daemon of this pid file alive, and not another program with a recycled id?
  local pid
  pid=$(cat "$state/run/$1.pid" 2>/dev/null) || return 1
  [[ -n $pid && -e /proc/$pid/exe ]] &&
    cat "/proc/$pid/cmdline" "/proc/$pid/environ" 2>/dev/null | tr '\0' '\n' | grep -qF "$state/"
}

stop() { # NAME [SIGNAL]
  running "$1" || return 0
  local pid
  pid=$(cat "$state/run/$1.pid")
  kill "-${2:-TERM}" "$pid" 2>/dev/null || true
  for _ in {1..75}; do
    [[ -e /proc/$pid/exe ]] || return 0 # a zombie has none
    sleep 0.2
  done
  kill -KILL "$pid" 2>/dev/null || true
}

missing_programs() {
  local program
  for program in slurmctld slurmd slurmdbd sbatch munged mariadbd setpriv; do
    type -P "$program" >/dev/null || echo "$program"
  done
}

install_packages() {
  [[ -n $(missing_programs) ]] || { echo "testbed: everything is installed"; return 0; }
  local policy=/usr/sbin/policy-rc.d apt=(apt-get -o DPkg::Lock::Timeout=300)
  local packages=(slurm-wlm slurm-client slurmdbd munge mariadb-server python3-venv)
  export DEBIAN_FRONTEND=noninteractive
  if [[ ! -e $policy ]]; then # the packages' own services must not start: testbeds bring their own
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  "${apt[@]}" install -y -q --no-install-recommends "${packages[@]}" ||
    { "${apt[@]}" update -q && "${apt[@]}" install -y -q --no-install-recommends "${packages[@]}"; }
  [[ -z $(missing_programs) ]] || die "still missing after installation: $(missing_programs | xargs)"
}

write_configuration() {
  local host i send=""
  host=$(hostname -s)
  ((user_signal)) && send="SlurmctldParameters=preempt_send_user_signal"
  cat >"$state/etc/slurm.conf" <<CONF
ClusterName=testbed
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$((port_base + 17))
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$state/run/munge.socket
CryptoType=crypto/munge
StateSaveLocation=$state/spool/ctld
SlurmdSpoolDir=$state/spool/%n
SlurmctldPidFile=$state/run/slurmctld.pid
SlurmdPidFile=$state/run/%n.pid
SlurmctldLogFile=$state/log/slurmctld.log
SlurmdLogFile=$state/log/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
MailProg=/bin/true
SwitchType=switch/none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=5,bf_interval=5,sched_min_interval=200000
$send
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=$preempt
JobRequeue=1
KillWait=5
SlurmdTimeout=60
MessageTimeout=20
MaxArraySize=$max_array
GresTypes=gpu
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((port_base + 19))
AccountingStoragePass=$state/run/munge.socket
AccountingStorageEnforce=associations,limits,qos
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=5
CONF
  : >"$state/etc/gres.conf"
  for ((i = 1; i <= nodes; i++)); do
    echo "NodeName=n$i NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port_base + 20 + i)) CPUs=$cpus" \
      "RealMemory=8000 Gres=gpu:1 State=UNKNOWN" >>"$state/etc/slurm.conf"
    echo "NodeName=n$i Name=gpu File=${devices[i - 1]}" >>"$state/etc/gres.conf"
  done
  cat >>"$state/etc/slurm.conf" <<CONF
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 GraceTime=$grace MaxTime=1-0 DefaultTime=10 State=UP
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF MaxTime=1-0 DefaultTime=10 State=UP
PartitionName=cpu Nodes=ALL PriorityTier=1 PreemptMode=OFF MaxTime=1-0 DefaultTime=10 State=UP
CONF
  cat >"$state/etc/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$state/run/munge.socket
DbdHost=$(hostname -s)
DbdAddr=127.0.0.1
DbdPort=$((port_base + 19))
SlurmUser=root
PidFile=$state/run/slurmdbd.pid
LogFile=$state/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((port_base + 6))
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
CONF
  chmod 600 "$state/etc/slurmdbd.conf"
  cat >"$state/env.sh" <<CONF
export SLURM_CONF=$state/etc/slurm.conf
export PATH="${SLURM_PREFIX:+$SLURM_PREFIX/sbin:$SLURM_PREFIX/bin:}\$PATH"
export TESTBED_STATE=$state TESTBED_USER=$user
CONF
}

start_munge() {
  running munged && return 0
  install -d -o munge -g munge -m 700 "$state/munge"
  [[ -s $state/munge/key ]] || head -c 1024 /dev/urandom >"$state/munge/key"
  chown munge:munge "$state/munge/key" "$state/run"
  chmod 400 "$state/munge/key"
  setpriv --reuid munge --regid munge --clear-groups munged --force --key-file "$state/munge/key" \
    --socket "$state/run/munge.socket" --pid-file "$state/run/munged.pid" \
    --log-file "$state/munge/log" --seed-file "$state/munge/seed"
  wait_for 10 munged test -S "$state/run/munge.socket"
}

sql() { mariadb --no-defaults --socket "$state/run/mysql.socket" -u root -e "$1"; }

start_database() {
  running mariadbd && return 0
  # A server that starts clears temporary tables out of its tmpdir: in a shared one, another testbed's too.
  local tmp=$state/mysql-tmp
  if [[ ! -d $state/mysql/mysql ]]; then
    install -d -o mysql -g mysql -m 700 "$state/mysql" "$tmp"
    mariadb-install-db --no-defaults --user=mysql --datadir="$state/mysql" --tmpdir="$tmp" --skip-test-db \
      --auth-root-authentication-method=socket >"$state/log/mariadb-install.log" 2>&1 ||
      die "mariadb-install-db failed; see $state/log/mariadb-install.log"
  fi
  mariadbd --no-defaults --user=mysql --datadir="$state/mysql" --tmpdir="$tmp" --socket="$state/mysql/socket" \
    --bind-address=127.0.0.1 --port=$((port_base + 6)) --pid-file="$state/mysql/pid" \
    --innodb-buffer-pool-size=128M --innodb-log-file-size=64M --innodb-lock-wait-timeout=900 \
    --innodb-flush-log-at-trx-commit=2 --loose-innodb-snapshot-isolation=OFF >"$state/log/mariadb.log" 2>&1 </dev/null &
  echo $! >"$state/run/mariadbd.pid"
  disown
  ln -sf "$state/mysql/socket" "$state/run/mysql.socket"
  wait_for 40 mariadbd sql "select 1"
  sql "create user if not exists slurm@'127.0.0.1' identified by 'slurm';
       create user if not exists slurm@localhost identified by 'slurm';
       grant all on slurm_acct_db.* to slurm@'127.0.0.1'; grant all on slurm_acct_db.* to slurm@localhost;"
}

start_accounting() {
  running slurmdbd && return 0
  slurmdbd -D >"$state/log/slurmdbd.out" 2>&1 </dev/null &
  echo $! >"$state/run/slurmdbd.pid"
  disown
  wait_for 40 slurmdbd tres_known
  sacctmgr -in add cluster testbed >/dev/null 2>&1 || true # "already exists" is an error to sacctmgr
}

tres_known() { [[ $(sacctmgr -nP show tres format=type) == *cpu* ]]; }

start_controller() {
  running slurmctld && return 0
  local end=$((SECONDS + 60))
  until scontrol ping 2>/dev/null | grep -q "is UP"; do
    ((SECONDS < end)) || die "slurmctld did not come up; see $state/log/slurmctld.log"
    running slurmctld || { # it gives up when the database is not quite there
      rm -f "$state/run/slurmctld.pid"
      slurmctld -f "$state/etc/slurm.conf"
    }
    sleep 0.5
  done
}

start_node() {
  running "$1" && return 0
  rm -f "$state/run/$1.pid"
  mkdir -p "$state/spool/$1"
  slurmd -N "$1" -f "$state/etc/slurm.conf"
  wait_for 20 "$1" running "$1"
}

create_user() {
  id "$user" >/dev/null 2>&1 && [[ ! -e $state/created-user ]] && die "user $user exists already; take --user NAME"
  if ! id "$user" >/dev/null 2>&1; then
    useradd --home-dir "$state/home" --create-home --shell /bin/bash "$user"
    rm -rf "/tmp/foreshock-$user-"* # scratch of an earlier testbed that was killed
    echo "$user" >"$state/created-user"
  fi
  sacctmgr -in add account test >/dev/null || true # "already exists" is an error to sacctmgr
  sacctmgr -in add qos normal >/dev/null || true
  sacctmgr -in modify qos normal set MaxSubmitJobsPerUser="$max_submit" >/dev/null || true
  sacctmgr -in add user "$user" account=test >/dev/null || true
  sacctmgr -in add user root account=test >/dev/null || true
  [[ -n $(sacctmgr -n show assoc user="$user") ]] || die "the accounting association of $user is missing"
}

nodes_idle() { [[ $(sinfo -h -N -p low -t idle -o %N | sort -u | wc -l) -ge $nodes ]]; }

up() {
  [[ -z $(missing_programs) ]] || die "missing: $(missing_programs | xargs); run: $0 install"
  ((nodes >= 1 && nodes <= ${#devices[@]})) || die "--nodes is $nodes; valid: 1 to ${#devices[@]}"
  [[ $preempt == REQUEUE || $preempt == CANCEL ]] || die "--preempt is $preempt; valid: REQUEUE, CANCEL"
  install -d -m 755 "$state" "$state"/{etc,run,log,spool,spool/ctld}
  [[ -e $state/env.sh ]] || write_configuration
  start_munge
  start_database
  start_accounting
  start_controller
  create_user
  local i
  for ((i = 1; i <= nodes; i++)); do start_node "n$i"; done
  wait_for 40 "the nodes" nodes_idle
  echo "testbed: up with $nodes nodes; in a shell: source $state/env.sh"
}

down() {
  [[ -d $state ]] || { echo "testbed: nothing at $state"; return 0; }
  [[ -e $state/env.sh || -d $state/munge || -d $state/etc ]] || die "$state is not a testbed; nothing removed"
  local name pid
  if running slurmctld; then
    scancel --full --state=RUNNING,PENDING,SUSPENDED -p low,high,cpu >/dev/null 2>&1 || true
    for _ in {1..50}; do [[ -z $(squeue -h 2>/dev/null) ]] && break; sleep 0.2; done
  fi
  for name in n1 n2 n3 n4 slurmctld slurmdbd mariadbd munged; do stop "$name"; done
  # a node that wrote its process id after the wait for it had ended; it would hold its port
  for pid in $(pgrep -f "^slurmd -N n[0-9] -f $state/etc/slurm.conf" || true); do kill -KILL "$pid" 2>/dev/null || true; done
  for pid in $(pgrep -f "slurmstepd" || true); do # steps of this cluster only: their spool is in the state folder
    [[ $(readlink "/proc/$pid/cwd" 2>/dev/null) == "$state"/* ]] && kill -KILL "$pid" 2>/dev/null
  done
  if [[ -e $state/created-user ]]; then
    name=$(cat "$state/created-user")
    for _ in {1..20}; do
      for pid in $(ps -o pid= -u "$name" || true); do kill -KILL "$pid" 2>/dev/null || true; done
      userdel "$name" 2>/dev/null && break
      id "$name" >/dev/null 2>&1 || break
      sleep 0.5
    done
    id "$name" >/dev/null 2>&1 && die "could not remove user $name"
    rm -rf "/tmp/foreshock-$name-"* # scratch of jobs that were just killed
  fi
  unmount_below "$state"
  rm -rf "$state"
  echo "testbed: down"
}

unmount_below() { # FOLDER: what a test mounted there and, killed, left behind would make `rm` fail
  local mounted
  while read -r mounted; do umount --lazy "$mounted"; done < <(findmnt -rno TARGET | grep "^$1/" | sort -r)
}

restart() {
  case $1 in
    slurmctld) stop slurmctld; start_controller ;; # killed at once it would forget the last seconds
    n[1-4]) stop "$1" KILL; start_node "$1" ;;
    *) die "cannot restart $1; valid: slurmctld, n1 .. n4" ;;
  esac
}

(($# >= 1)) || { usage; exit 2; }
action=$1
shift
target=""
[[ $action == restart ]] && { target=${1:?restart what?}; shift; }
while (($#)); do
  case $1 in
    --state) state=$(realpath -m "$2"); shift 2 ;;
    --nodes) nodes=$2; shift 2 ;;
    --cpus) cpus=$2; shift 2 ;;
    --user) user=$2; shift 2 ;;
    --preempt) preempt=$2; shift 2 ;;
    --grace) grace=$2; shift 2 ;;
    --user-signal) user_signal=1; shift ;;
    --max-array) max_array=$2; shift 2 ;;
    --max-submit) max_submit=$2; shift 2 ;;
    --port-base) port_base=$2; shift 2 ;;
    *) usage >&2; die "unknown option $1" ;;
  esac
done
export SLURM_CONF=$state/etc/slurm.conf
case $action in
  -h | --help | help) usage; exit 0 ;;
esac
[[ $(id -u) == 0 ]] || die "needs root"
case $action in
  install) install_packages ;;
  up) up ;;
  down) down ;;
  env) cat "$state/env.sh" ;;
  restart) restart "$target" ;;
  *) usage >&2; die "unknown action $action" ;;
esac
