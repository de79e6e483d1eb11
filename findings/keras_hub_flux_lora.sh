#!/usr/bin/env bash
# keras-hub 0.32.0: `enable_lora` of Flux trains nothing at all.
#
# `Backbone.enable_lora(rank)` freezes the backbone and adapts the layers whose
# names are "query", "value", "query_dense" or "value_dense". Flux names none
# of its layers: no layer is adapted and no weight stays trainable. T5, the
# text encoder of diffusion models, has other names too. The call says
# nothing; ViT, which has such names, is adapted.
#
# Guessed: an error, or adapters in the attention of each backbone.
#
# Expected output:
#   ViT: 2 layers adapted, 22 trainable weights before, 6 after
#   Flux: 0 layers adapted, 60 trainable weights before, 0 after
#   T5: 0 layers adapted, 28 trainable weights before, 0 after
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
# Of the dependencies only TensorFlow's text library is left out.
"$place/venv/bin/pip" install -q keras==3.15.1 jax==0.10.2 numpy==2.4.6 \
    kagglehub==1.0.2 kagglesdk==0.1.28 regex sentencepiece==0.2.3 \
    tokenizers==0.23.3
"$place/venv/bin/pip" install -q --no-deps keras-hub==0.32.0
cat > "$place/run.py" <<'END'
import keras_hub

image = dict(image_shape=(16, 16, 3), patch_size=8)
size = dict(num_layers=1, num_heads=2, hidden_dim=8)
backbones = {
    "ViT": keras_hub.models.ViTBackbone(mlp_dim=16, **image, **size),
    "Flux": keras_hub.models.FluxBackbone(
        input_channels=4,
        hidden_size=16,
        mlp_ratio=2.0,
        num_heads=2,
        depth=1,
        depth_single_blocks=1,
        axes_dim=[2, 2, 4],
        theta=10_000,
        use_bias=True,
        image_shape=(4, 4),
        text_shape=(4, 8),
        image_ids_shape=(4, 3),
        text_ids_shape=(4, 3),
        y_shape=(8,),
    ),
    "T5": keras_hub.models.T5Backbone(
        vocabulary_size=10, intermediate_dim=16, **size
    ),
}
found = []
for name, backbone in backbones.items():
    before = len(backbone.trainable_weights)
    backbone.enable_lora(4)
    after = len(backbone.trainable_weights)
    adapted = sum(
        getattr(layer, "lora_enabled", False)
        for layer in backbone._flatten_layers()
    )
    print(
        f"{name}: {adapted} layers adapted, {before} trainable weights before, "
        f"{after} after"
    )
    found.append((adapted, after))
assert found == [(2, 6), (0, 0), (0, 0)], "the behaviour has changed"
END
KERAS_BACKEND=jax JAX_PLATFORMS=cpu PYTHONWARNINGS=ignore \
    "$place/venv/bin/python" "$place/run.py"
