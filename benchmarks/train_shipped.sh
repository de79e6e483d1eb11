#!/bin/sh
# Train the shipped model of photographs, `photos_64`, from random weights:
#
#   sh benchmarks/train_shipped.sh ../shared/data/caltech101_128.zip OUTPUT
#
# First at 32 pixels, where an image costs a quarter, then at 64. On one core of
# a CPU this takes 75 minutes. SMALL=1 tries the same commands with few steps.
set -eu
source=$1 output=$2
steps=2931 more_steps=3400 cooldown=2400
if [ "${SMALL:-}" ]; then
  steps=20 more_steps=20 cooldown=10
fi
mkdir -p "$output"
python "$(dirname "$0")/shipped_photographs.py" --source "$source" \
  --output "$output/photos_64.zip"
python - "$output/start_32" <<'END'
import sys
import keras_simple_diffusion as ksd

name, size = "uvit_photos_64", 32
backbone = ksd.models.UViTBackbone.from_preset(
    name, load_weights=False, image_shape=(size, size, 3)
)
schedule = ksd.schedules.ShiftedCosineSchedule(
    size, noise_size=size, log_snr_max=4.0
)
model = ksd.models.DiffusionModel.from_preset(
    name, load_weights=False, backbone=backbone, schedule=schedule
)
model.save_to_preset(sys.argv[1])
END
train() {
  keras-simple-diffusion train --flip \
    --data "$output/photos_64.zip" --dtype mixed_bfloat16 "$@"
}
train --preset "$output/start_32" --from-scratch --steps $steps \
  --batch-size 32 --learning-rate 1e-3 --warmup-steps 200 --ema-decay 0.998 \
  --output "$output/photos_32"
train --preset uvit_photos_64 --initialize-from "$output/photos_32" \
  --steps $more_steps --cooldown-steps $cooldown --output "$output/photos_64"
python "$(dirname "$0")/../tools/ship_preset.py" --run "$output/photos_64" \
  --name photos_64 --output "$output/preset" \
  --description "Photographs of 64 px of 16 classes, trained on Caltech-101."
