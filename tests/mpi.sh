#!/usr/bin/env bash
# The program as several processes on MPI: that any number of ranks gives the bytes of one process, that a killed rank or
# a full disk ends all and the run resumes, that ranks which do not go together say so, and sweeps over ranks. It installs
# Open MPI and libclang with apt-get where they are missing, and ends with 77 where it cannot.
#
#   tests/mpi.sh [quick|thorough]     quick leaves out the GPU and most kills; thorough has every cell of the matrix on the
#                                     GPU as well, and twenty kills
#   MPICC=mpicc.mpich MPIRUN=mpirun.mpich tests/mpi.sh quick     the same with another MPI library
#
# WGRAD_LENET names a build with the feature `mpi` to test in place of making one.
set -euo pipefail
cd "$(dirname "$0")/.."
extent="${1:-}"
case "$extent" in '' | quick | thorough) ;; *)
    echo "usage: tests/mpi.sh [quick|thorough]" >&2
    exit 2
    ;;
esac
mpirun=("${MPIRUN:-mpirun}")

has_libclang() { [ -n "${LIBCLANG_PATH:-}" ] || compgen -G '/usr/lib/llvm*/lib/libclang*.so*' >/dev/null || ldconfig -p | grep -q libclang; }
has_mpi() { command -v "${MPICC:-mpicc}" >/dev/null && command -v "${mpirun[0]}" >/dev/null && has_libclang; }

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

is_open_mpi() { "${mpirun[0]}" --version 2>/dev/null | grep -q 'Open MPI'; }
if is_open_mpi; then
    mpirun+=(--oversubscribe --bind-to none)
    [ "$(id -u)" != 0 ] || mpirun+=(--allow-run-as-root)
fi
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-${TMPDIR:-/tmp}}" WGRAD_THREADS=1

lenet="${WGRAD_LENET:-}"
if [ -z "$lenet" ]; then
    # Cargo would not notice that another library is meant.
    [ -z "${MPICC:-}" ] || export CARGO_TARGET_DIR="$PWD/target/$MPICC"
    cargo build --quiet --features mpi --bin lenet
    lenet="$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/debug/lenet"
fi
place="$(mktemp -d)"
cleanup() {
    hosts_down 2>/dev/null || true
    umount "$place/disk" 2>/dev/null || true
    rm -rf "$place"
}
trap cleanup EXIT
# A copy, so that a build in between changes nothing.
cp "$lenet" "$place/lenet"
lenet="$place/lenet"
data=(--data "$PWD/data/fashion-mnist")
base=(--val-limit 120 --test-limit 90 --batch-size 8 --accumulate 8 --seed 3 --no-report)
loud=("${base[@]}")
base+=(--quiet)
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
}

# Steps of 8 batches of 8. 256 images are four whole steps; 300 leave one of 6 batches, of which the last is short.
settings=(plain 'batch norm' dropout clipping plateau 'short last batch')
declare -A settings_of=(
    [plain]='--train-limit 256 --epochs 2 --lr 0.05'
    ['batch norm']='--train-limit 256 --epochs 2 --lr 0.05 --batch-norm'
    [dropout]='--train-limit 256 --epochs 2 --lr 0.05 --dropout 0.3'
    [clipping]='--train-limit 256 --epochs 2 --lr 0.05 --clip-norm 0.5 --clip-value 0.05'
    [plateau]='--train-limit 256 --epochs 3 --lr 0.002 --scheduler plateau --patience 0 --threshold 0.5 --optimizer adam'
    ['short last batch']='--train-limit 300 --epochs 2 --lr 0.05'
)
all_counts='1 2 3 4 8'
# Which numbers of ranks a setting is tried on with a GPU, whose software takes a core and seconds to start for each rank.
gpu_counts() {
    case "$extent $1" in
    thorough*) echo "$all_counts" ;;
    quick*) ;;
    *' plain' | *dropout) echo 2 ;;
    *' batch norm' | *plateau) echo 3 ;;
    *) echo 4 ;;
    esac
}

# matrix DEVICE: a table of settings and numbers of ranks, with "same" where the bytes are those of one process.
matrix() {
    local device="$1" setting counts count arguments row
    printf '  %-18s' "on $device"
    printf ' %8s' $all_counts
    echo ' ranks'
    for setting in "${settings[@]}"; do
        counts="$all_counts"
        [ "$device" = cpu ] || counts="$(gpu_counts "$setting")"
        [ -n "$counts" ] || continue
        read -ra arguments <<<"--device $device ${settings_of[$setting]}"
        same "$device-${setting// /-}" "$counts" "${arguments[@]}"
        printf -v row '  %-18s' "$setting"
        for count in $all_counts; do
            case " $counts " in *" $count "*) printf -v row '%s %8s' "$row" same ;; *) printf -v row '%s %8s' "$row" - ;; esac
        done
        echo "$row"
    done
}

echo "The same bytes as from one process:"
matrix cpu
[ "$extent" = quick ] || matrix gpu
short=(--train-limit 300 --epochs 2 --lr 0.05)
# All at once, with what the table leaves out, and a network with residuals.
same everything "3" --device cpu "${short[@]}" --batch-norm --dropout 0.3 --shift 2 --clip-norm 0.5 --clip-value 0.05 --l1 1e-4 --l2 1e-3
same resnet "3" --device cpu --network resnet --train-limit 48 --epochs 1
echo "  everything at once, and a ResNet, on 3 ranks: the same"

if [ "$extent" != quick ]; then
    # loss RUN: the training loss of its last epoch.
    loss() { sed -n 's/.*"train_loss":\([^,]*\),.*/\1/p' "$1metrics.jsonl" | tail -1; }
    echo "CPU and GPU together:"
    arguments=("${data[@]}" "${base[@]}" "${short[@]}" --out "$place/mixed")
    timeout 120 "${mpirun[@]}" -n 2 "$lenet" train --device cpu "${arguments[@]}" : -n 1 "$lenet" train --device gpu "${arguments[@]}" \
        >"$place/out" 2>&1 || { cat "$place/out"; fail "training on a CPU and a GPU"; }
    grep -q 'different devices.*rounding' "$place/out" || { cat "$place/out"; fail "nothing says that results agree up to rounding only"; }
    # Losses are sums of f32 that round by 6e-8 each; ten steps carry that on. One wrong gradient is off by far more.
    mixed="$(loss "$(run_in "$place/mixed")")" alone="$(loss "$(run_in "$place/cpu-short-last-batch-0")")"
    awk -v a="$mixed" -v b="$alone" 'BEGIN { exit !(a != "" && (a - b) ^ 2 < (1e-4 * b) ^ 2) }' || fail "the loss is $mixed, on a CPU $alone"
    echo "  training loss $mixed; on a CPU alone $alone"
fi

echo "A killed rank ends all, and the run resumes with another number of ranks:"
long=(--device cpu "${images[@]}" --lr 0.05 --batch-norm --dropout 0.3 --epochs 150 --no-early-stopping)
same long "" "${long[@]}"
case "$extent" in quick) kills=2 ;; thorough) kills=20 ;; *) kills=6 ;; esac
RANDOM=11
since() { echo "$((($(date +%s%N) - $1) / 1000000))"; }
for kill in $(seq "$kills"); do
    out="$place/kill-$kill" count=$((kill % 4 + 1))
    began=$(date +%s%N)
    "${mpirun[@]}" -n 3 "$lenet" train "${data[@]}" "${base[@]}" "${long[@]}" --out "$out" >"$place/out" 2>&1 &
    job=$!
    tenths=$((RANDOM % 28 + 2))
    sleep "$((tenths / 10)).$((tenths % 10))"
    mapfile -t processes < <(pgrep -f "^$lenet train .*--out $out" || true)
    [ ${#processes[@]} -eq 0 ] || kill -9 "${processes[$((RANDOM % ${#processes[@]}))]}" 2>/dev/null || true
    killed=$(date +%s%N) at=$(since "$began")
    code=0
    wait "$job" || code=$?
    took=$(since "$killed")
    [ "$took" -lt 20000 ] || fail "the job took $took ms to end"
    sleep 0.2
    ! pgrep -f "^$lenet train .*--out $out" >/dev/null || fail "ranks were left running"
    line="killed at $at ms; all ended $took ms later, with code $code"
    if [ -e "$(run_in "$out")checkpoint" ]; then
        epochs="$(grep -c '"epoch"' "$(run_in "$out")metrics.jsonl")" began=$(date +%s%N)
        ranks "$count" train --resume "$(run_in "$out")" --no-report --quiet >"$place/out" 2>&1 || { cat "$place/out"; fail "resuming"; }
        digest "$(run_in "$out")" | diff "$place/long" - || fail "resumed with other bytes"
        echo "  $line; resumed after epoch $epochs of 150 on $count ranks and ended in $(since "$began") ms: the same bytes"
    else
        echo "  $line; nothing had been saved yet"
    fi
    rm -rf "$out"
done

echo "A stopped run is saved, and a slow rank only waited for:"
out="$place/stopped"
"${mpirun[@]}" -n 2 "$lenet" train "${data[@]}" "${base[@]}" "${long[@]}" --out "$out" >"$place/out" 2>&1 &
job=$!
until [ -e "$(run_in "$out")checkpoint" ]; do sleep 0.05; done
kill -TERM "$(pgrep -f "^$lenet train .*--out $out" | head -1)" 2>/dev/null || true
code=0
wait "$job" || code=$?
[ "$code" != 0 ] || fail "the run ended before it was stopped"
ranks 3 train --resume "$(run_in "$out")" --no-report --quiet >"$place/out" 2>&1 || { cat "$place/out"; fail "resuming a stopped run"; }
digest "$(run_in "$out")" | diff "$place/long" - || fail "stopped and resumed with other bytes"
# Long epochs, so that a rank is stopped within steps, where waiting is counted.
slow=(--device cpu --train-limit 6000 --lr 0.05 --epochs 4 --no-early-stopping)
out="$place/slow-0"
ranks 0 train "${data[@]}" "${base[@]}" "${slow[@]}" --out "$out" >"$place/out" 2>&1 || { cat "$place/out"; fail "a run of long epochs"; }
digest "$(run_in "$out")" >"$place/slow"
out="$place/slow-3"
"${mpirun[@]}" -n 3 "$lenet" train "${data[@]}" "${loud[@]}" "${slow[@]}" --out "$out" >"$place/out" 2>&1 &
job=$!
until [ -e "$(run_in "$out")checkpoint" ]; do sleep 0.02; done
stopped="$(pgrep -f "^$lenet train .*--out $out" | tail -1)"
kill -STOP "$stopped"
sleep 1.5
kill -CONT "$stopped"
wait "$job" || { cat "$place/out"; fail "a run with a slow rank"; }
digest "$(run_in "$out")" | diff "$place/slow" - || fail "with a slow rank the bytes are others"
times="$(grep -o 'training time: .*' "$place/out")" || { cat "$place/out"; fail "no times of ranks"; }
# The two others have waited for the slow one, which may have been stopped while it waited for them.
waits="$(grep -oE '[0-9.]+ s of it waiting' <<<"$times" | awk '$1 >= 1.2' | wc -l)"
[ "$waits" -ge 2 ] || fail "$waits ranks have waited for the slow one, not 2: $times"
echo "  the same bytes; $times"

echo "A full disk under rank 0:"
mkdir "$place/disk"
checkpoint_kib=$(($(stat -c %s "$(run_in "$place/long-0")checkpoint") / 1024))
# One checkpoint fits, and the next beside it does not.
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o "size=$((checkpoint_kib * 16 / 10))k" wgrad "$place/disk" 2>/dev/null; then
    # full COMMAND…: it fails within seconds for want of space.
    full() {
        local code=0 began
        began=$(date +%s%N)
        timeout 60 "$@" >"$place/out" 2>&1 || code=$?
        [ "$code" != 0 ] && [ "$code" != 124 ] || { cat "$place/out"; fail "it ended with $code on a full disk"; }
        grep -q 'No space left on device' "$place/out" || { cat "$place/out"; fail "nothing says that the disk is full"; }
        ! pgrep -f "^$lenet train .*$place/disk" >/dev/null || fail "ranks were left running"
        [ -z "$(find "$place/disk" -name '.tmp*')" ] || fail "half a file was left"
        echo "  after $(since "$began") ms: $(grep -m1 'No space left' "$place/out" | sed "s|$place/||")"
    }
    full "${mpirun[@]}" -n 3 "$lenet" train "${data[@]}" "${base[@]}" "${long[@]}" --out "$place/disk/runs"
    grep -q 'resume with' "$place/out" || fail "nothing says how to resume"
    dd if=/dev/zero of="$place/disk/ballast" bs=4k status=none 2>/dev/null || true
    full "${mpirun[@]}" -n 3 "$lenet" train "${data[@]}" "${base[@]}" "${long[@]}" --out "$place/disk/more"
    [ -z "$(find "$place/disk/more" -mindepth 1)" ] || fail "half a folder was left"
    mount -o remount,size=64m "$place/disk"
    ranks 2 train --resume "$(run_in "$place/disk/runs")" --no-report --quiet >"$place/out" 2>&1 || { cat "$place/out"; fail "resuming"; }
    digest "$(run_in "$place/disk/runs")" | diff "$place/long" - || fail "resumed with other bytes"
    umount "$place/disk"
    echo "  resumed with more space: the same bytes"
else
    echo "  not tested: it takes root, to mount a small disk"
fi

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
refused "other floating-point numbers than rank 0: f64 instead of f32" "${two[@]}" : -n 1 "$lenet" train "${data[@]}" "${tiny[@]}" --device cpu-f64
refused "other start than rank 0" "${mpirun[@]}" -n 1 "$lenet" train --resume "$(run_in "$place/long-0")" : -n 1 "$lenet" "${train[@]}"
cp "$lenet" "$place/other"
printf x >>"$place/other"
refused "other build than rank 0" "${two[@]}" : -n 1 "$place/other" "${train[@]}"
sweep=(sweep "$place/space.toml" --device cpu --quiet)
refused "other build than rank 0" "${mpirun[@]}" -n 1 "$lenet" "${sweep[@]}" --out "$place/refused" : -n 1 "$place/other" "${sweep[@]}"
refused "at least 9 batches a step" "${mpirun[@]}" -n 9 "$lenet" "${train[@]}"
refused "a GPU, where trials run in the same dispatches" "${mpirun[@]}" -n 2 "$lenet" "${sweep[@]}" --side-by-side 2
# The launcher of another library: what it leaves in the environment, and where there is one, itself.
refused "each of them is alone" env PMI_SIZE=3 OMPI_COMM_WORLD_SIZE=3 "$lenet" "${train[@]}"
# What Slurm's srun leaves, without a protocol that the library knows.
refused "each of them is alone" env SLURM_STEP_NUM_TASKS=3 "$lenet" "${train[@]}"
other=mpirun.openmpi
is_open_mpi && other=mpirun.mpich
if command -v "$other" >/dev/null; then
    as_root=()
    [ "$other" != mpirun.openmpi ] || as_root=(--oversubscribe --allow-run-as-root)
    refused "each of them is alone" "$other" "${as_root[@]}" -n 2 "$lenet" "${train[@]}"
fi

echo "Sweeps over ranks:"
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
if [ "$extent" != quick ]; then
    beside=(sweep "$place/space.toml" --device gpu --quiet)
    "$lenet" "${beside[@]}" --side-by-side 1 --out "$place/beside-0" >/dev/null
    ranks 3 "${beside[@]}" --side-by-side 2 --out "$place/beside-3" >"$place/out" 2>&1 || { cat "$place/out"; fail "trials side by side on ranks"; }
    diff <(ledger "$place/beside-0") <(ledger "$place/beside-3") || fail "side by side on ranks, trials come out otherwise"
    echo "  two side by side on the GPU of each of two ranks: the ledger of one at a time"
fi
. tests/mpi_hosts.sh
echo "MPI: all passed."
