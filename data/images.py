"""Encodes and decodes single images.

TFDS needs TensorFlow to encode arrays but stores encoded bytes unchanged, so images are encoded
here. Decoding is strict: a truncated stream raises a one-line ValueError instead of giving a partly
grey image.
"""

import io
import struct
from collections.abc import Callable

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

# EXIF orientation -> the function that turns stored pixels [H, W, ...] upright. CIPA DC-008, tag
# 0x0112, gives the sides of the scene at row 0 and column 0 of the pixels: 6 is "right, top".
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: p.swapaxes(0, 1)[:, ::-1],
    7: lambda p: p.swapaxes(0, 1)[::-1, ::-1],
    8: lambda p: p.swapaxes(0, 1)[::-1],
}


def encode_png(pixels: np.ndarray) -> bytes:
    """Returns uint8 pixels [H, W, 1] or [H, W, 3] as the bytes of a PNG file."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    stream = io.BytesIO()
    # The small sets compress by at most a third; the fastest level adds 3% to the size.
    image.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def decode(encoded: bytes, channels: int, *, upright: bool = False) -> np.ndarray:
    """Returns the pixels of a PNG or JPEG file as uint8 [H, W, channels].

    `channels` is 1 (grey) or 3 (RGB). Grey, palette and CMYK files are converted, 16 bits are
    scaled to 8, transparency is dropped.
    upright: rotate by the EXIF orientation, for a user's own photographs. Published sets are used
    as stored, as in the papers' code and torchvision: ImageNet's few rotated files stay rotated.
    Raises ValueError, in one line, unless it is a complete image of at least 2×2 pixels.
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
            if upright:
                pixels = UPRIGHT.get(_orientation(opened), lambda p: p)(pixels)
    except UnidentifiedImageError as error:
        raise ValueError("neither a PNG nor a JPEG image") from error
    # Pillow's readers also raise built-in errors while parsing.
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise ValueError(f"not a complete image ({error})") from error
    height, width = pixels.shape[:2]
    if min(height, width) < 2:
        raise ValueError(f"an image of {width}×{height} pixels; expected at least 2×2")
    return np.ascontiguousarray(pixels).reshape(height, width, channels)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation of an image, 1 to 8; 1 if there is none."""
    if not {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"} & image.info.keys():
        return 1
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    # Some ImageNet files have intact pixels and a broken EXIF block: treated as not rotated.
    except (KeyError, SyntaxError, TypeError, ValueError, ZeroDivisionError, struct.error):
        return 1
