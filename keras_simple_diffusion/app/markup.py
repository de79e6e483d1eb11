"""HTML and styles of the page; all texts from outside are escaped."""

import base64
import html
import io

import numpy as np

from keras_simple_diffusion.utils.sheets import to_pil
from keras_simple_diffusion.utils.user_text import printable

STYLE = """
.ksd-images { display: flex; flex-wrap: wrap; gap: 8px; }
.ksd-strip { flex-wrap: nowrap; overflow-x: auto; }
.ksd-images figure { margin: 0; text-align: center; flex: 0 0 auto; }
.ksd-images img { image-rendering: pixelated; display: block;
  border-radius: 4px; }
.ksd-images figcaption { font-size: 12px; max-width: 16em;
  overflow-wrap: anywhere; }
.ksd-columns { display: flex; flex-wrap: wrap; gap: 16px; }
.ksd-columns > div { flex: 1 1 260px; min-width: 0; max-width: 480px; }
.ksd-columns svg { width: 100%; height: auto; background: #fff; }
.ksd-sheets .grid-container { grid-template-rows: none;
  grid-auto-rows: auto; }
.ksd-sheets:not(:has(.preview)) .grid-wrap { min-height: 0; }
.ksd-sheets .thumbnail-item { aspect-ratio: auto; height: auto; }
.ksd-sheets .thumbnail-item img { height: auto; max-height: 480px; }
.ksd-gallery img { image-rendering: pixelated; }
.ksd-gallery .grid-container { grid-template-rows: none;
  grid-template-columns: repeat(auto-fill, minmax(130px, 1fr)); }
.ksd-gallery:not(:has(.preview)) .grid-wrap { min-height: 0; }
.ksd-editor { max-width: 100%; }
.ksd-row { align-items: center; }
footer { display: none !important; }
"""
_HEIGHT = 128  # Pixels of an image on the page, at least.


def images(arrays, captions=None, text="", is_strip=False):
    """Show images in a row that wraps, or as a film strip.

    Args:
        arrays: `uint8` arrays of shape `(H, W, C)`.
        captions: list of strings, or `None`.
        text: string above the images. Defaults to none.
        is_strip: bool. Whether the row does not wrap. Defaults to `False`.

    Returns:
        HTML, a string.
    """
    figures = []
    for index, array in enumerate(arrays):
        height, width = array.shape[:2]
        factor = max(1, -(-_HEIGHT // height))
        caption = html.escape(printable(captions[index])) if captions else ""
        figures.append(
            f'<figure><img width="{width * factor}" height="{height * factor}"'
            f' alt="{caption}" src="{_to_url(array)}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    kind = "ksd-images ksd-strip" if is_strip else "ksd-images"
    above = f"<p>{html.escape(text)}</p>" if text else ""
    return f'{above}<div class="{kind}">{"".join(figures)}</div>'


def columns(parts):
    """Show plots, or other HTML, beside each other as far as there is room."""
    inner = "".join(f"<div>{part}</div>" for part in parts)
    return f'<div class="ksd-columns">{inner}</div>'


def enlarge(image, least=320):
    """Enlarge an image without smoothing, to be painted on.

    Args:
        image: `uint8` array of shape `(H, W, C)`.
        least: int. The least height. Defaults to `320`.

    Returns:
        A `uint8` array.
    """
    factor = max(1, -(-least // image.shape[0]))
    return np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)


def _to_url(array):
    file = io.BytesIO()
    to_pil(array).save(file, "PNG")
    content = base64.b64encode(file.getvalue()).decode()
    return f"data:image/png;base64,{content}"
