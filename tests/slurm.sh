#!/usr/bin/env bash
# What the docs say of Slurm: a job array of shares of a sweep, and ranks started by mpirun and by srun in an allocation, which
# leave the bytes of one process. It starts a Slurm of one node, this machine, and stops it in the end. It takes root, installs
# slurm-wlm, munge and Open MPI with apt-get where they are missing, and ends with 77 where it cannot.
#
#   tests/slurm.sh
#
# WGRAD_LENET names a build with the feature `mpi` to test in place of making one.
set -euo pipefail
cd "$(dirname "$0")/.."
skip() {
    echo "Slurm was not tested: $*" >&2
    exit 77
}
fail() {
    echo "FAILED: $*" >&2
    exit 1
}
[ "$(id -u)" = 0 ] || skip "it takes root"
for program in slurmctld slurmd munged mpirun; do
    command -v "$program" >/dev/null && continue
    command -v apt-get >/dev/null || skip "there is no $program, and no apt-get to install it"
    echo "Installing Slurm, munge and Open MPI."
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        slurm-wlm munge libopenmpi-dev openmpi-bin libclang-dev; } >/dev/null || skip "apt-get could not install it"
done
lenet="${WGRAD_LENET:-}"
if [ -z "$lenet" ]; then
    cargo build --quiet --features mpi --bin lenet
    lenet="$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/debug/lenet"
fi

place="$(mktemp -d)"
daemons=()
cleanup() {
    [ ${#daemons[@]} -eq 0 ] || kill "${daemons[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$place"
}
trap cleanup EXIT
mkdir "$place/bin" "$place/munge" "$place/state" "$place/spool" "$place/work"
cp "$lenet" "$place/bin/lenet"
# Those who ask for a credential reach its socket.
chmod 755 "$place" "$place/munge"
node="$(hostname -s)"
dd if=/dev/urandom of="$place/munge/key" bs=128 count=1 status=none
chmod 400 "$place/munge/key"
munged --foreground --force --key-file="$place/munge/key" --socket="$place/munge/socket" --pid-file="$place/munge/pid" \
    --log-file="$place/munge/log" --seed-file="$place/munge/seed" >"$place/munged.log" 2>&1 &
daemons+=($!)
cat >"$place/slurm.conf" <<CONF
ClusterName=wgrad
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$place/munge/socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmctldPidFile=$place/slurmctld.pid
SlurmdPidFile=$place/slurmd.pid
StateSaveLocation=$place/state
SlurmdSpoolDir=$place/spool
SlurmctldLogFile=$place/slurmctld.log
SlurmdLogFile=$place/slurmd.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
NodeName=$node NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
CONF
export SLURM_CONF="$place/slurm.conf" PATH="$place/bin:$PATH" WGRAD_THREADS=1
# mpirun does not run as root otherwise.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
slurmctld -D -f "$SLURM_CONF" >"$place/slurmctld.out" 2>&1 &
daemons+=($!)
slurmd -D -f "$SLURM_CONF" >"$place/slurmd.out" 2>&1 &
daemons+=($!)
for _ in $(seq 100); do
    [ "$(sinfo --noheader --format=%T 2>/dev/null)" != idle ] || break
    sleep 0.2
done
[ "$(sinfo --noheader --format=%T 2>&1)" = idle ] || { cat "$place"/*.log "$place"/*.out; fail "Slurm has no node"; }
echo "$(slurmctld -V) on $node"

data="$PWD/data/fashion-mnist"
cd "$place/work"
cat >space.toml <<TOML
[search]
num_trials = 6
[base]
data = "$data"
device = "cpu"
train_limit = 192
val_limit = 100
test_limit = 100
batch_size = 32
epochs = 2
[space]
lr = { choices = [0.02, 0.05, 0.1] }
optimizer.momentum = { min = 0.0, max = 0.99 }
TOML
# submitted ARGUMENTS…: submits a job, waits for it, and prints what its tasks printed where it failed.
submitted() {
    timeout 120 sbatch --wait --output="$place/job.log" "$@" >"$place/out" 2>&1 || { cat "$place/out" "$place/job.log"; fail "$*"; }
}
ledger() { cat "$1"/*/trials.jsonl; }

lenet sweep space.toml --jobs 1 --quiet --out one >/dev/null
submitted --array=1-3 --wrap 'lenet sweep space.toml --only $SLURM_ARRAY_TASK_ID/3 --quiet'
lenet sweep --merge sweeps/*-space-*-of-3 --out merged >/dev/null
diff <(ledger one) <(ledger merged) || fail "the shares of an array are not the sweep"
echo "  a job array of 3 shares, merged: the ledger of one process"

train="train --data $data --device cpu --train-limit 256 --val-limit 100 --test-limit 100 --batch-size 8 --accumulate 8 --epochs 2 --no-report --quiet"
weights() { sha256sum <"$(echo "$1"/*/model.safetensors)"; }
# shellcheck disable=SC2086
lenet $train --out alone >/dev/null
for launcher in 'mpirun --bind-to none' 'srun --mpi=pmix'; do
    name="${launcher%% *}"
    submitted --ntasks=2 --wrap "$launcher lenet $train --out $name"
    [ "$(find "$name" -mindepth 1 -maxdepth 1 | wc -l)" = 1 ] || fail "$launcher: every task has trained by itself"
    diff <(weights alone) <(weights "$name") || fail "$launcher: two ranks differ from one process"
    echo "  two tasks started by $launcher: the bytes of one process"
done
submitted --ntasks=3 --overcommit --wrap "mpirun --oversubscribe -n 3 lenet sweep space.toml --quiet --out ranks"
diff <(ledger one) <(ledger ranks) || fail "a sweep on ranks is another"
echo "  a sweep on three ranks: the ledger of one process"
code=0
# shellcheck disable=SC2086
timeout 60 srun --mpi=none --ntasks=2 lenet $train --out lone >"$place/out" 2>&1 || code=$?
[ "$code" != 0 ] && [ "$code" != 124 ] && [ ! -e lone ] || { cat "$place/out"; fail "lone tasks trained"; }
# Open MPI says so itself.
grep -q 'direct launched using "srun"\|each of them is alone' "$place/out" || { cat "$place/out"; fail "nothing says why"; }
echo "  tasks started by srun --mpi=none: an error"
echo "Slurm: all passed."
