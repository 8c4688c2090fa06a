#!/usr/bin/env bash
# The program as several processes on MPI: that any number of ranks gives the bytes of one process, that a killed rank
# ends all and the run resumes, that ranks which do not go together say so, and sweeps over ranks. It installs Open MPI
# and libclang with apt-get where they are missing, and ends with 77 where it cannot.
#
#   tests/mpi.sh [quick]     quick leaves out the GPU and most kills
#
# WGRAD_LENET names a build with the feature `mpi` to test in place of making one.
set -euo pipefail
cd "$(dirname "$0")/.."
quick="${1:-}"

has_libclang() { [ -n "${LIBCLANG_PATH:-}" ] || compgen -G '/usr/lib/llvm*/lib/libclang*.so*' >/dev/null || ldconfig -p | grep -q libclang; }
has_mpi() { command -v mpicc >/dev/null && command -v mpirun >/dev/null && has_libclang; }

if ! has_mpi; then
    if ! command -v apt-get >/dev/null; then
        echo "MPI was not tested: there is no mpicc, mpirun or libclang, and no apt-get to install them." >&2
        exit 77
    fi
    root=""
    [ "$(id -u)" = 0 ] || root=sudo
    echo "Installing Open MPI and libclang."
    { $root apt-get update -qq && DEBIAN_FRONTEND=noninteractive $root apt-get install -y -qq --no-install-recommends \
        libopenmpi-dev openmpi-bin libclang-dev; } >/dev/null || { echo "MPI was not tested: apt-get could not install Open MPI." >&2; exit 77; }
fi

mpirun=(mpirun)
if mpirun --version 2>/dev/null | grep -q 'Open MPI'; then
    mpirun+=(--oversubscribe --bind-to none)
    [ "$(id -u)" != 0 ] || mpirun+=(--allow-run-as-root)
fi
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-${TMPDIR:-/tmp}}" WGRAD_THREADS=1

lenet="${WGRAD_LENET:-}"
if [ -z "$lenet" ]; then
    cargo build --quiet --features mpi --bin lenet
    lenet="$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/debug/lenet"
fi
place="$(mktemp -d)"
trap 'rm -rf "$place"' EXIT
# A copy, so that a build in between changes nothing.
cp "$lenet" "$place/lenet"
lenet="$place/lenet"
data=(--data "$PWD/data/fashion-mnist")
# 300 images: four steps of 8 batches of 8, and one of 6 of which the last is short.
base=(--val-limit 120 --test-limit 90 --batch-size 8 --accumulate 8 --seed 3 --no-report --quiet)
images=(--train-limit 300)
tiny=("${base[@]}" "${images[@]}" --epochs 2 --lr 0.05)

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# ranks N ARGUMENTS…: the program on N ranks; on none, as a plain process.
ranks() {
    local number="$1"
    shift
    if [ "$number" = 0 ]; then "$lenet" "$@"; else timeout 120 "${mpirun[@]}" -n "$number" "$lenet" "$@"; fi
}

# The one run folder below a folder.
run_in() { echo "$1"/*/; }

# What a run left that must not depend on the number of ranks.
digest() {
    local run="$1"
    (cd "$run" && sha256sum model.safetensors checkpoint && sed 's/"images_per_second":[^,]*,//' metrics.jsonl && { cat diagnostics.jsonl health.jsonl 2>/dev/null || true; } | sha256sum)
}

# same NAME COUNTS ARGUMENTS…: all these numbers of ranks leave the bytes of a plain process.
same() {
    local name="$1" counts="$2" number
    shift 2
    ranks 0 train "${data[@]}" "${base[@]}" "$@" --out "$place/$name-0" >/dev/null
    digest "$(run_in "$place/$name-0")" >"$place/$name"
    for number in $counts; do
        ranks "$number" train "${data[@]}" "${base[@]}" "$@" --out "$place/$name-$number" >"$place/out" 2>&1 || { cat "$place/out"; fail "$name on $number ranks"; }
        digest "$(run_in "$place/$name-$number")" | diff "$place/$name" - || fail "$name: $number ranks differ from one process"
    done
    [ -z "$counts" ] || echo "  $name: $counts ranks, the bytes of one process"
}

echo "The same bytes on any number of ranks:"
short=("${images[@]}" --epochs 2 --lr 0.05)
same plain "1 2 3 4 8" --device cpu "${short[@]}"
same everything "2 3 8" --device cpu "${short[@]}" --batch-norm --dropout 0.3 --shift 2 --clip-norm 0.5 --clip-value 0.05 --l1 1e-4 --l2 1e-3
same plateau "2 4" --device cpu "${images[@]}" --epochs 3 --lr 0.002 --scheduler plateau --patience 0 --threshold 0.5 --optimizer adam
same resnet "3" --device cpu --network resnet --train-limit 48 --epochs 1
if [ "$quick" != quick ]; then
    same gpu "2 3" --device gpu "${short[@]}" --batch-norm --dropout 0.3 --clip-norm 0.5
fi

echo "A killed rank ends all, and the run resumes with another number of ranks:"
long=(--device cpu "${images[@]}" --lr 0.05 --batch-norm --dropout 0.3 --epochs 14 --no-early-stopping)
same long "" "${long[@]}"
kills=$([ "$quick" = quick ] && echo 2 || echo 5)
RANDOM=11
for kill in $(seq "$kills"); do
    out="$place/kill-$kill"
    "${mpirun[@]}" -n 3 "$lenet" train "${data[@]}" "${base[@]}" "${long[@]}" --out "$out" >"$place/out" 2>&1 &
    job=$!
    sleep "$((RANDOM % 3)).$((RANDOM % 10))"
    mapfile -t processes < <(pgrep -f "^$lenet train .*--out $out" || true)
    [ ${#processes[@]} -eq 0 ] || kill -9 "${processes[$((RANDOM % ${#processes[@]}))]}" 2>/dev/null || true
    started=$(date +%s%N)
    code=0
    wait "$job" || code=$?
    took=$((($(date +%s%N) - started) / 1000000))
    [ "$took" -lt 20000 ] || fail "the job took $took ms to end"
    sleep 0.2
    ! pgrep -f "^$lenet train .*--out $out" >/dev/null || fail "ranks were left running"
    if [ -e "$(run_in "$out")checkpoint" ]; then
        ranks $((kill % 4 + 1)) train --resume "$(run_in "$out")" --no-report --quiet >"$place/out" 2>&1 || { cat "$place/out"; fail "resuming"; }
        digest "$(run_in "$out")" | diff "$place/long" - || fail "resumed with other bytes"
        echo "  exit code $code, all ended after $took ms; resumed on $((kill % 4 + 1)) ranks: the same bytes"
    else
        echo "  exit code $code, all ended after $took ms; nothing had been saved yet"
    fi
done

echo "A stopped run is saved, and a slow rank only waited for:"
out="$place/stopped"
"${mpirun[@]}" -n 2 "$lenet" train "${data[@]}" "${base[@]}" "${long[@]}" --out "$out" >"$place/out" 2>&1 &
job=$!
until [ -e "$(run_in "$out")checkpoint" ]; do sleep 0.05; done
kill -TERM "$(pgrep -f "^$lenet train .*--out $out" | head -1)" 2>/dev/null || true
wait "$job" || true
ranks 3 train --resume "$(run_in "$out")" --no-report --quiet >"$place/out" 2>&1 &
job=$!
sleep 1
slow="$(pgrep -f "^$lenet train --resume $(run_in "$out")" | tail -1 || true)"
[ -z "$slow" ] || { kill -STOP "$slow"; sleep 1.5; kill -CONT "$slow"; }
wait "$job" || { cat "$place/out"; fail "resuming a stopped run"; }
digest "$(run_in "$out")" | diff "$place/long" - || fail "stopped and resumed with other bytes"
echo "  the same bytes"

echo "Ranks that do not go together:"
# refused PART COMMAND…: it fails within seconds with this part in its message, and leaves no run folder.
refused() {
    local part="$1" code=0
    shift
    timeout 60 "$@" --out "$place/refused" >"$place/out" 2>&1 || code=$?
    [ "$code" != 0 ] && [ "$code" != 124 ] || { cat "$place/out"; fail "not refused: $part"; }
    grep -q -- "$part" "$place/out" || { cat "$place/out"; fail "no \"$part\" in this"; }
    [ ! -e "$place/refused" ] || fail "a folder was left: $part"
    echo "  $(grep -m1 -- "$part" "$place/out" | cut -c1-140)"
}
train=(train "${data[@]}" "${tiny[@]}" --device cpu)
two=("${mpirun[@]}" -n 1 "$lenet" "${train[@]}" --out "$place/refused")
refused "other settings than rank 0" "${two[@]}" : -n 1 "$lenet" "${train[@]}" --momentum 0.5
mkdir "$place/data"
cp data/fashion-mnist/*.gz "$place/data"
gunzip "$place/data/train-labels-idx1-ubyte.gz"
printf '\x03' | dd of="$place/data/train-labels-idx1-ubyte" bs=1 seek=20 conv=notrunc status=none
gzip "$place/data/train-labels-idx1-ubyte"
refused "other images than rank 0" "${two[@]}" : -n 1 "$lenet" train --data "$place/data" "${tiny[@]}" --device cpu
refused "rank 1: no GPU adapter matches" "${two[@]}" : -n 1 "$lenet" train "${data[@]}" "${tiny[@]}" --device nosuch
cp "$lenet" "$place/other"
printf x >>"$place/other"
refused "other build than rank 0" "${two[@]}" : -n 1 "$place/other" "${train[@]}"
refused "at least 9 batches a step" "${mpirun[@]}" -n 9 "$lenet" "${train[@]}"
refused "each of them is alone" env PMI_SIZE=3 "$lenet" "${train[@]}"

# Two hosts: network namespaces that reach each other by TCP alone. It takes root and iproute2.
hosts_down() {
    local number
    for number in 1 2; do ip netns del "wgrad-$number" 2>/dev/null || true; done
    ip link del wgrad-bridge 2>/dev/null || true
}
hosts_up() {
    local number
    ip link add wgrad-bridge type bridge && ip link set wgrad-bridge up || return 1
    for number in 1 2; do
        ip netns add "wgrad-$number" &&
            ip link add "wgrad-veth$number" type veth peer name eth0 netns "wgrad-$number" &&
            ip link set "wgrad-veth$number" master wgrad-bridge up &&
            ip -n "wgrad-$number" addr add "10.77.0.$number/24" dev eth0 &&
            ip -n "wgrad-$number" link set eth0 up && ip -n "wgrad-$number" link set lo up || return 1
    done
}
echo "Two hosts that reach each other by TCP:"
if [ "$(id -u)" = 0 ] && command -v ip >/dev/null && mpirun --version 2>/dev/null | grep -q 'Open MPI' && hosts_up 2>/dev/null; then
    trap 'hosts_down; rm -rf "$place"' EXIT
    # What mpirun starts its daemons with, in place of ssh.
    cat >"$place/agent" <<'AGENT'
#!/bin/sh
host="$1"
shift
exec ip netns exec "wgrad-${host##*.}" sh -c "$*"
AGENT
    chmod +x "$place/agent"
    network=(--mca btl tcp,self --mca btl_tcp_if_include 10.77.0.0/24 --mca oob_tcp_if_include 10.77.0.0/24)
    hosts=(ip netns exec wgrad-1 "${mpirun[@]}" --mca plm_rsh_agent "$place/agent" "${network[@]}" --host 10.77.0.1:2,10.77.0.2:2)
    timeout 120 "${hosts[@]}" -n 4 -x WGRAD_THREADS "$lenet" train "${data[@]}" "${tiny[@]}" --device cpu --out "$place/hosts" \
        >"$place/out" 2>&1 || { cat "$place/out"; fail "training on two hosts"; }
    digest "$(run_in "$place/hosts")" | diff "$place/plain" - || fail "two hosts of two ranks differ from one process"
    hosts_down
    echo "  two hosts of two ranks: the bytes of one process"
else
    hosts_down 2>/dev/null || true
    echo "  not tested: it takes root, iproute2 and Open MPI"
fi

echo "Sweeps over ranks:"
cat >"$place/space.toml" <<TOML
[search]
num_trials = 5
[base]
data = "$PWD/data/fashion-mnist"
train_limit = 192
val_limit = 100
test_limit = 100
batch_size = 32
epochs = 3
[space]
lr = { choices = [0.02, 0.05, 1e30] }
optimizer.momentum = { min = 0.0, max = 0.99 }
TOML
sweep=(sweep "$place/space.toml" --device cpu --quiet)
ledger() { cat "$1"/*/trials.jsonl; }
"$lenet" "${sweep[@]}" --jobs 1 --out "$place/sweep-0" >"$place/table"
for number in 2 4; do
    ranks "$number" "${sweep[@]}" --out "$place/sweep-$number" 2>/dev/null | diff "$place/table" - >"$place/out" || true
    diff <(ledger "$place/sweep-0") <(ledger "$place/sweep-$number") || fail "a sweep on $number ranks is another"
done
"${mpirun[@]}" -n 3 "$lenet" "${sweep[@]}" --out "$place/sweep-kill" >/dev/null 2>&1 &
job=$!
sleep 1.2
victim="$(pgrep -f "^$lenet sweep .*--out $place/sweep-kill" | tail -1 || true)"
[ -z "$victim" ] || kill -9 "$victim"
wait "$job" || true
! pgrep -f "^$lenet sweep .*--out $place/sweep-kill" >/dev/null || fail "ranks of a sweep were left running"
ranks 2 sweep --resume "$(run_in "$place/sweep-kill")" --quiet >/dev/null 2>&1
diff <(ledger "$place/sweep-0") <(ledger "$place/sweep-kill") || fail "a killed sweep comes to another end"
echo "  2 and 4 ranks, and killed and resumed: the ledger of one process"
echo "MPI: all passed."
