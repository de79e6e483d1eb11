#!/bin/bash
# Train with PyTorch on all GPUs of this machine, one process each; without a
# GPU in as many processes as PROCESSES says. The same command continues a run
# that was interrupted.
#
#     docs/clusters/torchrun.sh runs/photos --data photos/ --steps 100000
set -euo pipefail
run=$1
shift
export KERAS_BACKEND=torch

if [ -e "$run/config.json" ]; then
  set -- --resume "$run"
else
  set -- --output "$run" --distribution "${DISTRIBUTION:-data}" "$@"
fi
exec torchrun --standalone --nproc-per-node "${PROCESSES:-gpu}" \
  -m keras_simple_diffusion train "$@"
