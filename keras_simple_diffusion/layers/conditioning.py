import math

import keras
from keras import ops

from keras_simple_diffusion.backend.activations import silu
from keras_simple_diffusion.backend.compilation import inner
from keras_simple_diffusion.backend.fused import scale_and_shift
from keras_simple_diffusion.layers.fused_layers import Dense
from keras_simple_diffusion.layers.protocol import COPIED
from keras_simple_diffusion.layers.protocol import SPLIT_INPUTS
from keras_simple_diffusion.layers.protocol import SPLIT_OUTPUTS
from keras_simple_diffusion.layers.protocol import dense_product
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_integer

# As in the authors' earlier code, 30 units of log-SNR correspond to the 1000
# time steps of the usual sinusoidal embedding.
_SCALE = 1000.0 / 30.0
_MAX_PERIOD = 10000.0


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class Conditioning(keras.layers.Layer):
    """Embedding of all conditions, from which every block is modulated.

    ```
    sinusoid = [sin(f log_snr), cos(f log_snr)]     # frequencies f
    h = dense(silu(dense(sinusoid)))
    h = h + label_vector                            # if there are classes
    h = h + dense(norm(mean(context)))              # if there is text
    h = h + orientation_vector                      # if portrait is given
    h = h + dense(silu(dense(sinusoid(guidance))))  # if guidance is an input
    silu(h)
    ```

    The activation is applied once here, so that a block only projects the
    embedding. All is computed in float32 whatever the dtype policy, because
    half precision would round neighbouring noise levels to the same number.

    Args:
        embedding_dim: int. Width of the embedding, an even number.
        num_classes: int or `None`. Number of classes. The label `num_classes`
            is the null label, which stands for no class. `None` for a network
            without classes. Defaults to `None`.
        **kwargs: base layer keyword arguments.

    Call arguments:
        log_snr: float tensor of shape `(B,)`.
        labels: int tensor of shape `(B,)` in `[0, num_classes]`, only with
            `num_classes`.
        context: optional float tensor of shape `(B, L, D)`, the text
            embeddings.
        context_mask: optional int or bool tensor of shape `(B, L)`, zero for
            padding.
        portrait: optional int tensor of shape `(B,)`, 1 for a portrait image
            that was rotated to landscape.
        guidance_scale: optional float tensor of shape `(B,)`. The last dense
            layer of its embedding starts at zero, so that it has no effect
            before it is trained.

    Output shape:
        `(B, embedding_dim)`, float32.

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093),
          section 3.6 and appendix
        - [Meng et al., 2023](https://arxiv.org/abs/2210.03142), section 3.1,
          for the guidance scale
    """

    # Of the vectors of classes and orientations: unit standard deviation,
    # larger than Keras's default, so that the class has an effect from the
    # first training step.
    vector_stddev = 1.0
    weight_layouts = {
        "hidden/kernel": SPLIT_OUTPUTS,
        "output/kernel": SPLIT_INPUTS,
        "context/kernel": SPLIT_OUTPUTS,
        "guidance_hidden/kernel": SPLIT_OUTPUTS,
        "guidance_output/kernel": SPLIT_INPUTS,
        "label/embeddings": COPIED,
        "portrait/embeddings": COPIED,
    }

    def __init__(self, embedding_dim, num_classes=None, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.embedding_dim = check_integer("embedding_dim", embedding_dim)
        if self.embedding_dim % 2:
            raise InputError(
                "`embedding_dim` must be even. Received: "
                f"embedding_dim={embedding_dim}"
            )
        self.num_classes = check_integer(
            "num_classes", num_classes, optional=True
        )
        self.hidden_dense = self._dense("hidden", activation=silu)
        self.output_dense = self._dense("output")
        self.label_embedding = None
        if num_classes is not None:
            self.label_embedding = self._vectors(num_classes + 1, "label")
        self.context_dense = None
        self.guidance_hidden = self.guidance_output = None

    def build(
        self,
        log_snr_shape,
        labels_shape=None,
        context_shape=None,
        context_mask_shape=None,
        portrait_shape=None,
        guidance_scale_shape=None,
    ):
        self.hidden_dense.build((None, self.num_features))
        self.output_dense.build((None, self.embedding_dim))
        if self.label_embedding is not None:
            self.label_embedding.build((None,))
        if context_shape is not None:
            context_dim = context_shape[-1]
            self.norm_context = keras.layers.LayerNormalization(
                dtype="float32", name="norm_context"
            )
            self.norm_context.build((None, context_dim))
            self.context_dense = self._dense("context")
            self.context_dense.build((None, context_dim))
        if portrait_shape is not None:
            self.portrait_embedding = self._vectors(2, "portrait")
            self.portrait_embedding.build((None,))
        if guidance_scale_shape is not None:
            self.guidance_hidden = self._dense("guidance_hidden", silu)
            self.guidance_output = self._dense(
                "guidance_output", kernel_initializer="zeros"
            )
            self.guidance_hidden.build((None, self.embedding_dim))
            self.guidance_output.build((None, self.embedding_dim))

    def call(
        self,
        log_snr,
        labels=None,
        context=None,
        context_mask=None,
        portrait=None,
        guidance_scale=None,
    ):
        embedding = self.output_dense(
            self.hidden_dense(self.noise_features(log_snr))
        )
        if labels is not None:
            embedding = embedding + self.label_embedding(labels)
        if context is not None:
            if context_mask is None:
                context_mask = ops.ones_like(context[..., 0])
            mask = ops.expand_dims(ops.cast(context_mask, "float32"), -1)
            total = ops.sum(ops.cast(context, "float32") * mask, axis=1)
            mean = total / ops.maximum(ops.sum(mask, axis=1), 1.0)
            embedding = embedding + self.context_dense(self.norm_context(mean))
        if portrait is not None:
            embedding = embedding + self.portrait_embedding(portrait)
        if guidance_scale is not None:
            hidden = self.guidance_hidden(self._sinusoid(guidance_scale))
            embedding = embedding + self.guidance_output(hidden)
        return silu(embedding)

    @property
    def num_features(self):
        """Number of features of the noise level."""
        return self.embedding_dim

    def noise_features(self, log_snr):
        """Compute the sinusoids of noise levels, `(B, num_features)`."""
        return self._sinusoid(log_snr)

    def _dense(self, name, activation=None, **kwargs):
        return keras.layers.Dense(
            self.embedding_dim,
            activation=activation,
            dtype="float32",
            name=name,
            **kwargs,
        )

    def _vectors(self, count, name):
        initializer = keras.initializers.RandomNormal(stddev=self.vector_stddev)
        return keras.layers.Embedding(
            count,
            self.embedding_dim,
            embeddings_initializer=initializer,
            dtype="float32",
            name=name,
        )

    def _sinusoid(self, values):
        half = self.embedding_dim // 2
        exponents = ops.arange(half, dtype="float32") / max(half - 1, 1)
        frequencies = _SCALE * ops.exp(-math.log(_MAX_PERIOD) * exponents)
        angles = ops.expand_dims(ops.cast(values, "float32"), -1) * frequencies
        return ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)

    def compute_output_shape(self, log_snr_shape, **other_shapes):
        return (log_snr_shape[0], self.embedding_dim)

    def matrix_products(self, x_shape, context_length):
        dense_layers = [self.hidden_dense, self.output_dense]
        for dense in (
            self.context_dense,
            self.guidance_hidden,
            self.guidance_output,
        ):
            if dense is not None:
                dense_layers.append(dense)
        return [dense_product(dense, (None, None)) for dense in dense_layers]

    def get_config(self):
        return {
            **super().get_config(),
            "embedding_dim": self.embedding_dim,
            "num_classes": self.num_classes,
        }


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class FeatureModulation(keras.layers.Layer):
    """Feature-wise linear modulation (FiLM) by the conditioning.

    `x (1 + scale) + shift`, where one dense layer computes both vectors from
    the embedding.

    Args:
        **kwargs: base layer keyword arguments.

    Call arguments:
        x: float tensor of shape `(B, H, W, C)`.
        embedding: float tensor of shape `(B, E)`.

    Output shape:
        The shape of `x`.

    References:
        - [Perez et al., 2017](https://arxiv.org/abs/1709.07871)
    """

    weight_layouts = {"projection/kernel": SPLIT_OUTPUTS}

    def build(self, x_shape, embedding_shape):
        self.projection = Dense(
            2 * x_shape[-1], dtype=self.dtype_policy, name="projection"
        )
        self.projection.build(embedding_shape)

    def call(self, x, embedding):
        vectors = inner(self.projection)(embedding)
        vectors = ops.expand_dims(ops.expand_dims(vectors, 1), 1)
        scale, shift = ops.split(vectors, 2, axis=-1)
        return scale_and_shift(x, scale, shift)

    def compute_output_shape(self, x_shape, embedding_shape):
        return x_shape

    def matrix_products(self, x_shape, context_length):
        return [dense_product(self.projection, (None, None))]
