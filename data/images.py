"""Single images, bytes to pixels and back, for everything under `data/`.

TFDS encodes an array with TensorFlow but stores bytes that are already encoded as they are, so
the builders encode here. Decoding is strict: Pillow raises on a truncated stream, and whatever it
raises becomes a one-line ValueError, never a half-grey picture.
"""

import io

import numpy as np
from PIL import Image


def encode_png(pixels: np.ndarray) -> bytes:
    """Returns uint8 pixels [H, W, 1] or [H, W, 3] as the bytes of a PNG file, without loss."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    stream = io.BytesIO()
    # The small sets compress by a third at best: the fastest level costs 3% of the size.
    image.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def decode(encoded: bytes, channels: int) -> np.ndarray:
    """Returns the pixels of a PNG or JPEG file as uint8 [H, W, channels].

    `channels` is 1 (grey) or 3 (RGB); other colour models (grey, palette, CMYK) are converted.
    Raises ValueError, in one line, on anything that is not a whole image.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # Pillow's message may hold the address of the stream object, which tells nobody anything.
        reason = "no known image format" if "identify" in str(error) else str(error)
        raise ValueError(f"not a whole image ({reason})") from error
    return pixels.reshape(*pixels.shape[:2], channels)
