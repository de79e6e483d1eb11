"""The parts of a model as functions of named arrays, for exporters."""

import keras
from keras import ops

from keras_simple_diffusion.ops.diffusion import PREDICTION_SPACES
from keras_simple_diffusion.ops.diffusion import expand_like
from keras_simple_diffusion.utils.errors import InputError

# Names of the inputs in exported graphs, by their names in the network.
INPUTS = {
    "noisy_images": "images",
    "log_snr": "logsnr",
    "labels": "labels",
    "context": "embeddings",
    "context_mask": "mask",
    "portrait": "portrait",
    "guidance_scale": "guidance",
}


def denoiser_graph(model, name="denoiser"):
    """Build the network with the conversion to clean images behind it.

    Args:
        model: a `DiffusionModel` or `TextToImage`.
        name: string, the name of the graph. Defaults to `"denoiser"`.

    Returns:
        A functional `keras.Model` in float32, with the averaged weights. Its
        inputs are named by `INPUTS`; its output is `"clean"`, the predicted
        clean images, not clipped.
    """
    network = _copy(model, model.backbone)
    inputs = {
        INPUTS[name]: keras.Input(
            # The texts have one length, which exporters make use of.
            (model.text_encoder.sequence_length, *tensor.shape[2:])
            if name.startswith("context")
            else tensor.shape[1:],
            dtype=tensor.dtype,
            name=INPUTS[name],
        )
        for name, tensor in network.input.items()
    }
    prediction = network({k: inputs[INPUTS[k]] for k in network.input})
    to_clean = ToClean(model.prediction_type)
    clean = to_clean(prediction, inputs["images"], inputs["logsnr"])
    return keras.Model(inputs, {"clean": clean}, name=name)


def text_encoder_graph(model):
    """Build the text encoder, with the mask of padding.

    Args:
        model: a `TextToImage` whose padding has the token id 0, and no token.

    Returns:
        A functional `keras.Model` in float32 from `"token_ids"` to
        `"embeddings"` and `"mask"`.
    """
    encoder = _copy(model, model.text_encoder)
    shape = (encoder.sequence_length,)
    ids = keras.Input(shape, dtype="int32", name="token_ids")
    mask = ops.cast(ops.not_equal(ids, 0), "int32")
    outputs = {"embeddings": encoder(ids, mask), "mask": mask}
    return keras.Model({"token_ids": ids}, outputs, name="text_encoder")


def signature_of(graph):
    """Describe the inputs of a functional model with a dict of them.

    Args:
        graph: a functional `keras.Model`.

    Returns:
        A dict of `keras.InputSpec`s.
    """
    return {
        name: keras.InputSpec(shape=each.shape, dtype=each.dtype, name=name)
        for name, each in graph.input.items()
    }


def _copy(model, part):
    """Copy a part of a model in float32, with the averaged weights."""
    config = {**part.get_config(), "dtype": "float32"}
    copy = type(part).from_config(config)
    if len(copy.weights) != len(part.weights):
        raise InputError(
            "A model with LoRA or quantized weights is not exported. Export "
            "it without."
        )
    with model.reading_averages(part.weights) as values:
        for weight, value in zip(copy.weights, values, strict=True):
            weight.assign(ops.cast(value, weight.dtype))
    return copy


class ToClean(keras.layers.Layer):
    """Conversion of predictions to clean images.

    It computes alpha and sigma by exponentials: the sigmoid of ONNX Runtime
    is 0 from -18 on, and inaccurate before.

    Args:
        prediction_type: string, the space of the predictions.

    Call arguments:
        prediction: float32 tensor of shape `(B, H, W, C)`.
        noisy_images: float32 tensor of the same shape.
        log_snr: float32 tensor of shape `(B,)`.

    Output shape:
        `(B, H, W, C)`.
    """

    def __init__(self, prediction_type, **kwargs):
        super().__init__(**kwargs)
        self.prediction_type = prediction_type

    def call(self, prediction, noisy_images, log_snr):
        if self.prediction_type == "x":
            return prediction
        log_snr = expand_like(log_snr, noisy_images)
        alpha = 1.0 / ops.sqrt(1.0 + ops.exp(-log_snr))
        sigma = 1.0 / ops.sqrt(1.0 + ops.exp(log_snr))
        a, b = PREDICTION_SPACES[self.prediction_type](alpha, sigma)
        determinant = alpha * b - sigma * a
        return (b * noisy_images - sigma * prediction) / determinant
