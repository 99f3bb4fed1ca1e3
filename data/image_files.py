"""Images by path, for predictions: files, and folders of them."""

import os
import sys
from collections.abc import Iterable, Iterator

import numpy as np

from data import images
from data.damage import Damaged
from data.folder import SUFFIXES
from errors import UserError

STANDARD_INPUT = "-"


def listed(words: Iterable[str]) -> Iterator[str]:
    """The image files that the words name, in order.

    A word is a file; a folder, which stands for the image files in it and in its subfolders, in
    the order of their names; or "-", for such words on standard input, one a line. Raises
    UserError if a folder has no image or cannot be read.
    """
    for word in words:
        if word == STANDARD_INPUT:
            yield from listed(filter(None, _lines()))
        elif os.path.isdir(word):
            yield from _within(word)
        else:
            yield word


def _lines() -> Iterator[str]:
    """The lines of standard input; names that are not UTF-8 are kept as they are."""
    for line in sys.stdin.buffer:
        yield os.fsdecode(line.rstrip(b"\r\n"))


def _within(folder: str) -> Iterator[str]:
    def fail(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be read: {error.strerror}") from error

    found = False
    for path, subfolders, files in os.walk(folder, onerror=fail):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(files):
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                found = True
                yield os.path.join(path, name)
    if not found:
        raise UserError(f"{folder}: has no image (valid endings: {', '.join(SUFFIXES)})")


def read(path: str, stored: tuple[int | None, int | None, int]) -> np.ndarray:
    """The pixels of an image file, uint8 [H, W, C], turned upright by its EXIF orientation.

    stored: (H, W, C) of the images of a network's own data set. An image of that size is decoded
    to its channels, as the set's are; any other to three, as in a `folder:` set. Raises Damaged.
    """
    try:
        with open(path, "rb") as file:
            encoded = file.read()
        pixels = images.decode(encoded, stored[2], upright=True)
        if pixels.shape != stored and stored[2] != 3:
            pixels = images.decode(encoded, 3, upright=True)
    except OSError as error:
        raise Damaged(path, None, f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Damaged(path, None, str(error)) from error
    return pixels
