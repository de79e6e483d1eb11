import keras
from keras import ops

from keras_simple_diffusion.utils.errors import check_integer


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class JoinPatches(keras.layers.Layer):
    """Images from the pixels of their patches.

    Args:
        patch_size: int. Height and width of a patch in pixels.
        **kwargs: base layer keyword arguments.

    Call arguments:
        x: float tensor of shape `(B, H * W, patch_size^2 * C)`, the pixels of
            each patch, row by row.
        grid: tensor of shape `(B, H, W, ...)`, whose values are not used.

    Output shape:
        `(B, H * patch_size, W * patch_size, C)`.
    """

    def __init__(self, patch_size, **kwargs):
        super().__init__(**kwargs)
        self.patch_size = check_integer("patch_size", patch_size)

    def call(self, x, grid):
        size = self.patch_size
        shape = self.compute_output_shape(x.shape, grid.shape)
        _, height, width, channels = shape
        rows, columns = height // size, width // size
        x = ops.reshape(x, (-1, rows, columns, size, size, channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (-1, height, width, channels))

    def compute_output_shape(self, x_shape, grid_shape):
        size = self.patch_size
        height, width = grid_shape[1:3]
        channels = x_shape[-1] // size**2
        return x_shape[0], height * size, width * size, channels

    def get_config(self):
        return {**super().get_config(), "patch_size": self.patch_size}
