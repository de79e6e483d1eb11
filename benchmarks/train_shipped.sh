#!/bin/sh
# Train a shipped model from random weights, first at 32 pixels, where an image
# costs a quarter, then at 64, where each part STEPS:COOLDOWN_STEPS goes on from
# the one before. `photos_128` goes on from `photos_64`, behind one level of the
# wavelet:
#
#   sh benchmarks/train_shipped.sh photos_64 ../shared/data/caltech101_128.zip OUTPUT
#   sh benchmarks/train_shipped.sh photos_128 ../shared/data/caltech101_128.zip OUTPUT
#   sh benchmarks/train_shipped.sh emoji ../shared/data/noto_emoji_128.zip OUTPUT
#
# On one core of a CPU, `photos_64` takes 160 minutes, `photos_128` 60 and `emoji`
# two hours.
# SMALL=1 tries the same commands with few steps.
set -eu
name=$1 source=$2 output=$3
here=$(dirname "$0")
mkdir -p "$output"
case $name in
  photos_64)
    configuration=uvit_photos_64 data=$output/photos_64.zip flip=--flip
    steps=2931 parts="3400:2400 5600:2800" guidance=3
    description="Photographs of 64 px of 16 classes, trained on Caltech-101."
    python "$here/shipped_photographs.py" --source "$source" --output "$data"
    ;;
  photos_128)
    configuration=uvit_photos_128 data=$output/photos_128.zip flip=--flip
    steps=0 parts=3159:947 guidance=2
    description="Photographs of 128 px of 16 classes, trained on Caltech-101."
    python "$here/shipped_photographs.py" --source "$source" --output "$data" \
      --size 128
    ;;
  emoji)
    configuration=uvit_emoji_64 data=$output/data flip=--no-flip
    steps=5600 parts=4000:2800 guidance=3
    description="Emoji of 64 px by their names, trained on Noto Emoji."
    python "$here/hold_out.py" --images "$source" --output "$data" --compositions
    ;;
  *)
    echo "$name is not a shipped model: choose photos_64, photos_128 or emoji" >&2
    exit 2
    ;;
esac
if [ "${SMALL:-}" ]; then
  steps=$((steps ? 20 : 0)) parts=20:10
fi
train() {
  keras-simple-diffusion train --data "$data" $flip --dtype mixed_bfloat16 "$@"
}
start=photos_64
if [ $steps != 0 ]; then
python - "$configuration" "$output/start_32" <<'END'
import sys
import keras_simple_diffusion as ksd

name, target = sys.argv[1:]
schedule = ksd.schedules.ShiftedCosineSchedule(
    32, noise_size=32, log_snr_max=4.0
)
model = ksd.models.Preset.open(name).load(
    load_weights=False, image_shape=(32, 32, 3), schedule=schedule
)
model.save_to_preset(target)
END
  train --preset "$output/start_32" --from-scratch --steps $steps \
    --batch-size 32 --learning-rate 1e-3 --warmup-steps 200 --ema-decay 0.998 \
    --output "$output/run_32"
  start=$output/run_32
fi
for part in $parts; do
  run=$output/run_${part%:*}
  train --preset "$configuration" --initialize-from "$start" \
    --steps "${part%:*}" --cooldown-steps "${part#*:}" --output "$run"
  start=$run
done
python "$here/../tools/ship_preset.py" --run "$run" \
  --name "$name" --output "$output/preset" --guidance "$guidance" \
  --description "$description"
