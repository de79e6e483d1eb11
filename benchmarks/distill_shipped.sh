#!/bin/sh
# Distill a model of texts, such as the shipped `emoji`, into a student that
# draws in 4 steps without guidance:
#
#   sh benchmarks/distill_shipped.sh TEACHER DATA OUTPUT [OPTION...]
#
# TEACHER is a run or a preset, DATA the images with captions. MINUTES is the
# training time (38, for 40 with start and end), METHOD that of `distill`
# (consistency). SMALL=1 tries the same command with few updates.
set -eu
teacher=$1 data=$2 output=$3
shift 3
length="--minutes ${MINUTES:-38}"
if [ "${SMALL:-}" ]; then
  length="--updates 8 --samples-every 8"
fi
keras-simple-diffusion distill --teacher "$teacher" --data "$data" --steps 4 \
  --method "${METHOD:-consistency}" $length --batch-size 16 --no-flip \
  --dtype mixed_bfloat16 --output "$output" "$@"
