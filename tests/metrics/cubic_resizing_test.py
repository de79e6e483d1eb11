import numpy as np
import pytest
from keras import ops
from PIL import Image

from keras_simple_diffusion.metrics.dino import position_matrix
from keras_simple_diffusion.metrics.resizing import resize_cubic

torch = pytest.importorskip("torch")


def pillow(image, width, height):
    """Pillow's bicubic resizing of one channel in float32."""
    image = Image.fromarray(image.astype("float32"))
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(image), 0.0, 255.0)


def resize(images, *args, **kwargs):
    resized = resize_cubic(ops.convert_to_tensor(images), *args, **kwargs)
    return ops.convert_to_numpy(resized)


@pytest.mark.parametrize(
    "sides, size", [((16, 16), 56), ((60, 75), 28), ((28, 30), 28)]
)
def test_resizing_is_pillows(sides, size):
    rng = np.random.default_rng(0)
    # Black and white overshoot most.
    images = 255 * rng.integers(0, 2, (2, *sides, 3), "uint8")
    ours = resize(images, size)
    for image, result in zip(images, ours, strict=True):
        for channel in range(3):
            theirs = pillow(image[..., channel], size, size)
            np.testing.assert_allclose(result[..., channel], theirs, atol=1e-3)
        levels = Image.fromarray(image).resize((size, size), 3)
        # Pillow rounds and clips between the two axes as well.
        error = np.abs(result - np.asarray(levels))
        assert error.mean() < 3.0


@pytest.mark.parametrize("sides", [(20, 35), (35, 20), (20, 20)])
def test_the_middle_is_cut_out(sides):
    images = np.random.default_rng(0).integers(0, 256, (1, *sides, 1))
    ours = resize(images, 28, crop=True)[0, ..., 0]
    height, width = (28 * side // 20 for side in sides)
    theirs = pillow(images[0, ..., 0], width, height)
    top, left = (height - 28) // 2, (width - 28) // 2
    theirs = theirs[top : top + 28, left : left + 28]
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


@pytest.mark.parametrize("count, new_count", [(37, 16), (5, 16), (7, 7)])
def test_positions_are_resized_as_torch_does(count, new_count):
    rows = np.random.default_rng(0).normal(size=(count, count))
    scale = (new_count + 0.1) / count if count != new_count else 1.0
    theirs = torch.nn.functional.interpolate(
        torch.tensor(rows)[None, None], scale_factor=scale, mode="bicubic"
    )
    matrix = position_matrix(count, new_count)
    assert theirs.shape[2:] == (new_count, new_count)
    np.testing.assert_allclose(
        matrix @ rows @ matrix.T, theirs[0, 0].numpy(), atol=1e-5
    )
