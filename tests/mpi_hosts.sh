# A part of tests/mpi.sh, which has the functions and settings: two hosts, which are network namespaces that reach each other
# by TCP alone, the second with a disk of its own. It takes root and iproute2.
# shellcheck shell=bash disable=SC2154
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
if [ "$(id -u)" = 0 ] && command -v ip >/dev/null && is_open_mpi && hosts_up 2>/dev/null; then
    # What mpirun starts its daemons with, in place of ssh.
    cat >"$place/agent" <<'AGENT'
#!/bin/sh
host="$1"
shift
# A namespace for the network comes with one for mounts.
exec ip netns exec "wgrad-${host##*.}" sh -c "mount -t tmpfs wgrad '$APART' && $*"
AGENT
    mkdir "$place/apart"
    export APART="$place/apart"
    chmod +x "$place/agent"
    network=(--mca btl tcp,self --mca btl_tcp_if_include 10.77.0.0/24 --mca oob_tcp_if_include 10.77.0.0/24)
    hosts=(ip netns exec wgrad-1 "${mpirun[@]}" --mca plm_rsh_agent "$place/agent" "${network[@]}" --host 10.77.0.1:2,10.77.0.2:2)
    timeout 120 "${hosts[@]}" -n 4 -x WGRAD_THREADS "$lenet" train "${data[@]}" "${tiny[@]}" --device cpu --out "$place/hosts" \
        >"$place/out" 2>&1 || { cat "$place/out"; fail "training on two hosts"; }
    digest "$(run_in "$place/hosts")" | diff "$place/cpu-short-last-batch" - || fail "two hosts of two ranks differ from one process"
    echo "  two hosts of two ranks: the bytes of one process"
    # The first host's folder is on its own disk, which the second does not see.
    for out in "$place/apart/runs" "$place/one"; do
        ranks 0 train "${data[@]}" "${base[@]}" "${images[@]}" --lr 0.05 --epochs 1 --device cpu --out "$out" >/dev/null
    done
    timeout 120 "${hosts[@]}" -n 4 -x WGRAD_THREADS "$lenet" train --resume "$(run_in "$place/apart/runs")" --epochs 2 --no-report --quiet >"$place/out" 2>&1 || { cat "$place/out"; fail "resuming on two hosts"; }
    ranks 0 train --resume "$(run_in "$place/one")" --epochs 2 --no-report --quiet >"$place/out" 2>&1 || { cat "$place/out"; fail "resuming"; }
    digest "$(run_in "$place/one")" | diff - <(digest "$(run_in "$place/apart/runs")") || fail "resumed on two hosts with other bytes"
    rm -rf "$place/apart/runs"
    echo "  resumed from a folder that only the first sees: the bytes of one process"
    apart=("${hosts[@]}" -n 4 -x WGRAD_THREADS "$lenet" sweep)
    # weights FOLDER: the best weights and the checkpoint of each trial.
    weights() { (cd "$1"/*/ && sha256sum trial-*/model.safetensors trial-*/checkpoint); }
    timeout 120 "${apart[@]}" "$place/space.toml" --device cpu --out "$place/apart" >"$place/out" 2>&1 || { cat "$place/out"; fail "a sweep on two hosts"; }
    [ "$(grep -c 'does not see the sweep' "$place/out")" = 2 ] || { cat "$place/out"; fail "the second host sees the folder of the first"; }
    diff <(ledger "$place/sweep-0") <(ledger "$place/apart") || fail "a sweep on two hosts is another"
    diff <(weights "$place/sweep-0") <(weights "$place/apart") || fail "other weights have been collected"
    rm -rf "$place/apart"/*
    "${apart[@]}" "$place/space.toml" --device cpu --quiet --out "$place/apart" >/dev/null 2>&1 &
    job=$!
    until [ -e "$(run_in "$place/apart")trial-002" ]; do sleep 0.05; done
    kill -9 "$(pgrep -f "^$lenet sweep .*--out $place/apart" | tail -1)"
    wait "$job" || true
    timeout 120 "${apart[@]}" --resume "$(run_in "$place/apart")" --quiet >"$place/out" 2>&1 || { cat "$place/out"; fail "resuming a sweep on two hosts"; }
    diff <(ledger "$place/sweep-0") <(ledger "$place/apart") || fail "killed on two hosts, a sweep comes to another end"
    diff <(weights "$place/sweep-0") <(weights "$place/apart") || fail "killed on two hosts, a sweep has other weights"
    hosts_down
    echo "  a sweep with a folder on each host, and killed and resumed: the ledger and the weights of one process"
else
    hosts_down 2>/dev/null || true
    echo "  not tested: it takes root, iproute2 and Open MPI"
fi
