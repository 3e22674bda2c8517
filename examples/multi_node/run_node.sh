#!/usr/bin/env bash
# One node of several that train together by torchrun; start it on each of them with its number.
set -euo pipefail
[ $# -gt 0 ] || { echo "usage: $0 NODE_RANK [OPTION OF deblurkit train ...]" >&2; exit 2; }
node=$1
shift
head=${HEAD:-127.0.0.1} # the host of node 0, as the other nodes reach it
if [ $# -eq 0 ]; then
    run=outputs/multi_node_example
    set -- --preset quickstart --output "$run" --set "DATA.ROOT=$run/data" --set TRAIN.MAX_STEPS=200
fi

if [ "$head" = 127.0.0.1 ]; then # all nodes are this machine
    export GLOO_SOCKET_IFNAME=lo NCCL_SOCKET_IFNAME=lo
fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
# Seconds from a signal to SIGKILL, for a step and a checkpoint; PyTorch before 2.12 always waits 30.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-300}

exec torchrun --nnodes "${NODES:-2}" --node-rank "$node" --nproc-per-node "${PROCESSES_PER_NODE:-1}" \
    --master-addr "$head" --master-port "${PORT:-29400}" \
    --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 \
    -m deblurkit train "$@" --resume auto
