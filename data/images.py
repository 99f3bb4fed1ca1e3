"""Single images, bytes to pixels and back, for everything under `data/`.

TFDS encodes an array with TensorFlow but stores bytes that are already encoded as they are, so
the builders encode here. Decoding is strict: Pillow raises on a truncated stream, and whatever it
raises becomes a one-line ValueError, never a half-grey picture.
"""

import io
import struct

import numpy as np
from PIL import Image, UnidentifiedImageError


def encode_png(pixels: np.ndarray) -> bytes:
    """Returns uint8 pixels [H, W, 1] or [H, W, 3] as the bytes of a PNG file, without loss."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    stream = io.BytesIO()
    # The small sets compress by a third at best: the fastest level costs 3% of the size.
    image.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def decode(encoded: bytes, channels: int) -> np.ndarray:
    """Returns the pixels of a PNG or JPEG file as uint8 [H, W, channels].

    `channels` is 1 (grey) or 3 (RGB). Grey, palette and CMYK files are converted, 16 bits are
    scaled to 8, transparency is dropped, a rotation noted in EXIF is not applied.
    Raises ValueError, in one line, on anything that is not a whole image of at least 2×2 pixels.
    """
    try:
        with Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG")) as opened:
            image: Image.Image = opened
            if image.mode.startswith("I"):
                # Pillow's own conversion clips 16 bits at 255 instead of scaling them.
                image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
            elif image.mode == "P" and "transparency" in image.info:
                image = image.convert("RGBA")
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    except UnidentifiedImageError as error:
        raise ValueError("neither a PNG nor a JPEG image") from error
    # Pillow's readers also let the built-in errors of their parsing through.
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise ValueError(f"not a whole image ({error})") from error
    height, width = pixels.shape[:2]
    if min(height, width) < 2:
        raise ValueError(f"an image of {width}×{height} pixels")
    return pixels.reshape(height, width, channels)
