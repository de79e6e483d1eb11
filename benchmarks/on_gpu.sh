#!/bin/sh
# The figures of docs/performance.md on a GPU, in one command:
#
#   sh benchmarks/on_gpu.sh OUTPUT [WHEELS]
#
# OUTPUT is a folder. WHEELS is a folder of wheels to install first, for a
# machine without network that has JAX and PyTorch already; TensorFlow is not
# needed. SMALL=1 tries the same commands with tiny networks, on a CPU as well.
set -eu
output=$1
mkdir -p "$output"
cd "$(dirname "$0")/.."
if [ $# -gt 1 ]; then
  python -m pip install -q --no-index --no-deps "$2"/*.whl
fi
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
network=uvit_full large=uvit_full_512 matched=uvit_small
dtype=mixed_bfloat16 scale=4 rounds=7
batches="8 16 32 64" drawn="1 16"
if [ "${SMALL:-}" ]; then
  network=uvit_tiny large=uvit_tiny matched=uvit_tiny
  dtype=float32 scale=1 rounds=2
  batches=2 drawn=1
fi
contest() {
  python benchmarks/contest.py --rounds $rounds --dtype $dtype \
    --output "$output/performance.jsonl" "$@" || echo "failed: $*" >&2
}
ours="ours jax,ours torch,ours torch compiled"
for batch in $batches; do
  contest --task train --network $network --batch-size $batch \
    --contenders "$ours"
done
contest --task forward --network $network --batch-size 1 --contenders "$ours"
for batch in $drawn; do
  contest --task sample --network $large --batch-size $batch --repeats 1 \
    --guidance 4 --contenders "$ours"
done
contest --task train --network $matched --dtype float32 --batch-size 64 \
  --contenders "$ours,twin jax,twin torch,twin torch compiled,lucidrains,\
lucidrains compiled"
KERAS_BACKEND=jax python benchmarks/growth.py --output "$output" \
  --scale $scale --dtype $dtype --rounds $rounds
