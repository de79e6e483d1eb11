import keras
from keras import layers
from keras import ops

from keras_simple_diffusion.backend.activations import silu
from keras_simple_diffusion.backend.compilation import inner
from keras_simple_diffusion.backend.compilation import recompute_cheaply
from keras_simple_diffusion.backend.compilation import rematerialize
from keras_simple_diffusion.backend.fused import scale_and_shift
from keras_simple_diffusion.layers.attention import CrossAttention
from keras_simple_diffusion.layers.fused_layers import Dense
from keras_simple_diffusion.layers.protocol import SPLIT_OUTPUTS
from keras_simple_diffusion.layers.protocol import dense_product
from keras_simple_diffusion.layers.rotary_attention import RotaryAttention
from keras_simple_diffusion.layers.seeded_dropout import SeededDropout
from keras_simple_diffusion.utils.errors import check_rate


def _modulation(size, dtype):
    """Return a dense layer that starts at zero."""
    return Dense(
        size, kernel_initializer="zeros", dtype=dtype, name="modulation"
    )


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class PixelTransformerBlock(layers.Layer):
    """Transformer block of JiT: attention, then a gated perceptron (SwiGLU).

    ```
    shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = zero_dense(embedding)
    h = norm(x) (1 + scale_1) + shift_1
    x = x + gate_1 * dropout(attention(h))
    x = cross_attention(x, context)                 # if there is text
    h = norm(x) (1 + scale_2) + shift_2
    x = x + gate_2 * dense(dropout(silu(dense_1(h)) * dense_2(h)))
    ```

    The gates start at zero, so that the block starts as the identity
    (adaLN-zero). The perceptron has `8 / 3 C` hidden channels, so that its
    three kernels have as many weights as two with `4 C`.

    Args:
        num_heads: int. Number of attention heads; must divide the channels.
        dropout: float. Dropout rate of the attention's output and in the
            perceptron. Defaults to `0.0`.
        rematerialize: bool. Whether to recompute the block in the backward
            pass instead of storing its activations. Defaults to `False`.
        **kwargs: base layer keyword arguments.

    Call arguments:
        x: float tensor of shape `(B, N, C)`.
        embedding: float tensor of shape `(B, E)`, see `FlowConditioning`.
        rotation: float tensor of shape `(2, N, C / num_heads)`, see
            `RotaryPositions2D`.
        context: optional float tensor of shape `(B, L, D)`, see
            `CrossAttention`.
        context_mask: optional int or bool tensor of shape `(B, L)`, zero for
            padding.

    Output shape:
        The shape of `x`.

    References:
        - [Li & He, 2025](https://arxiv.org/abs/2511.13720), section 4.4
        - [Peebles & Xie, 2022](https://arxiv.org/abs/2212.09748), for the
          modulation
        - [Shazeer, 2020](https://arxiv.org/abs/2002.05202), for the perceptron
    """

    weight_layouts = {
        **RotaryAttention.weight_layouts,
        **CrossAttention.weight_layouts,
        "modulation/kernel": SPLIT_OUTPUTS,
        # In some of the paper's networks the number of hidden channels is
        # prime, and cannot be split.
        "perceptron_in/kernel": ("model", None),
        "perceptron_out/kernel": (None, "model"),
    }

    def __init__(self, num_heads, dropout=0.0, rematerialize=False, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.dropout_rate = check_rate("dropout", dropout)
        self.rematerialize = rematerialize
        dtype = self.dtype_policy
        self.norm_attention = layers.RMSNormalization(
            dtype=dtype, name="norm_attention"
        )
        self.norm_perceptron = layers.RMSNormalization(
            dtype=dtype, name="norm_perceptron"
        )
        self.attention = RotaryAttention(
            num_heads, dtype=dtype, name="attention"
        )
        self.attention_dropout = SeededDropout(
            dropout, dtype=dtype, name="attention_dropout"
        )
        self.perceptron_dropout = SeededDropout(
            dropout, dtype=dtype, name="perceptron_dropout"
        )
        self.cross_attention = None

    def build(
        self,
        x_shape,
        embedding_shape,
        rotation_shape,
        context_shape=None,
        context_mask_shape=None,
    ):
        channels, dtype = x_shape[-1], self.dtype_policy
        hidden = 8 * channels // 3
        self.modulation = _modulation(6 * channels, dtype)
        self.modulation.build(embedding_shape)
        self.norm_attention.build(x_shape)
        self.attention.build(x_shape, rotation_shape)
        self.attention_dropout.build(x_shape)
        if context_shape is not None:
            self.cross_attention = CrossAttention(
                self.num_heads, dtype=dtype, name="cross_attention"
            )
            self.cross_attention.build(
                x_shape, context_shape, context_mask_shape
            )
        self.norm_perceptron.build(x_shape)
        self.perceptron_in = Dense(
            2 * hidden, dtype=dtype, name="perceptron_in"
        )
        self.perceptron_in.build(x_shape)
        self.perceptron_dropout.build((*x_shape[:-1], hidden))
        self.perceptron_out = Dense(
            channels, dtype=dtype, name="perceptron_out"
        )
        self.perceptron_out.build((*x_shape[:-1], hidden))

    def call(
        self,
        x,
        embedding,
        rotation,
        context=None,
        context_mask=None,
        training=None,
    ):
        seeds = [
            self.attention_dropout.draw_seed(training),
            self.perceptron_dropout.draw_seed(training),
        ]

        def transform(x, embedding, rotation, context):
            return self._transform(
                x, embedding, rotation, context, context_mask, seeds, training
            )

        if training and self.rematerialize:
            return rematerialize(transform, x, embedding, rotation, context)
        return transform(x, embedding, rotation, context)

    def _transform(
        self, x, embedding, rotation, context, context_mask, seeds, training
    ):
        vectors = ops.expand_dims(inner(self.modulation)(embedding), 1)
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = ops.split(
            vectors, 6, axis=-1
        )

        def project(x, scale, shift):
            h = scale_and_shift(inner(self.norm_attention)(x), scale, shift)
            return inner(self.attention.projection)(h)

        def enter(x, scale, shift):
            h = scale_and_shift(inner(self.norm_perceptron)(x), scale, shift)
            return inner(self.perceptron_in)(h)

        def leave(hidden):
            gate, h = ops.split(hidden, 2, axis=-1)
            h = self.perceptron_dropout.drop(silu(gate) * h, kept)
            return inner(self.perceptron_out)(h)

        run = recompute_cheaply(training and not self.rematerialize)

        # Attention
        h = self.attention.attend(run(project, x, scale_1, shift_1), rotation)
        mask = self.attention_dropout.draw_mask(h, seeds[0])
        x = x + gate_1 * self.attention_dropout.drop(h, mask)
        if context is not None:
            x = inner(self.cross_attention)(x, context, context_mask)

        # Perceptron
        h = run(enter, x, scale_2, shift_2)
        half = h[..., : h.shape[-1] // 2]
        kept = self.perceptron_dropout.draw_mask(half, seeds[1])
        return x + gate_2 * run(leave, h)

    def compute_output_shape(
        self,
        x_shape,
        embedding_shape,
        rotation_shape,
        context_shape=None,
        context_mask_shape=None,
    ):
        return x_shape

    def matrix_products(self, x_shape, context_length):
        hidden_shape = (*x_shape[:-1], self.perceptron_out.kernel.shape[0])
        products = [
            dense_product(self.modulation, (None, None)),
            *self.attention.matrix_products(x_shape, context_length),
            dense_product(self.perceptron_in, x_shape),
            dense_product(self.perceptron_out, hidden_shape),
        ]
        if self.cross_attention is not None:
            products += self.cross_attention.matrix_products(
                x_shape, context_length
            )
        return products

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "dropout": self.dropout_rate,
            "rematerialize": self.rematerialize,
        }


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class ModulatedNorm(layers.Layer):
    """RMS norm, modulated by the conditioning: `norm(x) (1 + scale) + shift`.

    Scale and shift start at zero.

    Args:
        **kwargs: base layer keyword arguments.

    Call arguments:
        x: float tensor of shape `(B, N, C)`.
        embedding: float tensor of shape `(B, E)`.

    Output shape:
        The shape of `x`.

    References:
        - [Peebles & Xie, 2022](https://arxiv.org/abs/2212.09748)
    """

    weight_layouts = {"modulation/kernel": SPLIT_OUTPUTS}

    def build(self, x_shape, embedding_shape):
        self.norm = layers.RMSNormalization(
            dtype=self.dtype_policy, name="norm"
        )
        self.norm.build(x_shape)
        self.modulation = _modulation(2 * x_shape[-1], self.dtype_policy)
        self.modulation.build(embedding_shape)

    def call(self, x, embedding):
        vectors = ops.expand_dims(inner(self.modulation)(embedding), 1)
        shift, scale = ops.split(vectors, 2, axis=-1)
        return scale_and_shift(inner(self.norm)(x), scale, shift)

    def compute_output_shape(self, x_shape, embedding_shape):
        return x_shape

    def matrix_products(self, x_shape, context_length):
        return [dense_product(self.modulation, (None, None))]
