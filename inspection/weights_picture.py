"""Draws first filters, and test images beside their nearest training images."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

INK, FAINT, WRONG = "#222222", "#666666", "#c8553d"
TILE = 0.92  # inches, of an image
FILTERS, ALONE = 3.6, 6.0  # inches, the width of the block of filters, beside neighbours or alone
BOLD = 9.0  # characters of the title in an inch


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """Test images and the training images nearest to each.

    images: uint8 [rows, 1 + count, H, W, C], the test image first. labels: class names, alike.
    searched: what was searched, in words.
    """

    images: np.ndarray
    labels: Sequence[Sequence[str]]
    searched: str


def draw(
    path: str, title: str, layer: str, filters: np.ndarray, neighbours: Neighbours | None
) -> None:
    """Writes the picture: filters [h, w, C, F] on the left, neighbours, if any, on the right."""
    # Imported here since it takes a second and other uses do not need it.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, columns = (0, 0) if neighbours is None else neighbours.images.shape[:2]
    block = mosaic(filters)
    across = ALONE if neighbours is None else FILTERS
    tall = across * block.shape[0] / block.shape[1]
    line = 0.24  # inches of a class name above an image
    body = max(tall, rows * (TILE + line))
    top, foot, side, gap = 1.15, 0.25, 0.35, 0.7
    width = 2 * side + across + (gap + columns * (TILE + 0.1) + 0.15 if rows else 0)
    height = top + body + foot
    figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)

    def place(left: float, above: float, wide: float, high: float) -> Any:
        """Axes without a frame, in inches from the top left corner."""
        box = (left / width, 1 - (above + high) / height, wide / width, high / height)
        axes = figure.add_axes(box)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        return axes

    def text(left: float, above: float, words: str, **style: Any) -> None:
        figure.text(left / width, 1 - above / height, words, va="top", **style)

    title = _short(title, int(BOLD * (width - 2 * side)))
    text(side, 0.2, title, fontsize=12, fontweight="bold", color=INK)
    high, wide, channels, count = filters.shape
    kind = "RGB" if channels == 3 else "grey"
    text(side, 0.62, f"{layer}: {count} filters, {high}×{wide}, {kind}", fontsize=10, color=INK)
    text(side, 0.85, "each by its largest weight; mid-grey is 0", fontsize=8, color=FAINT)
    place(side, top, across, tall).imshow(block, interpolation="nearest", vmin=0, vmax=1)
    if neighbours is None:
        figure.savefig(path)
        return

    start = side + across + gap
    text(start, 0.62, "Test image", fontsize=10, color=INK)
    after = start + TILE + 0.25
    text(after, 0.62, f"nearest of {neighbours.searched}", fontsize=10, color=INK)
    text(after, 0.85, "by the last hidden layer; other classes in red", fontsize=8, color=FAINT)
    for row in range(rows):
        for column in range(columns):
            left = start if column == 0 else after + (column - 1) * (TILE + 0.1)
            above = top + row * (TILE + line)
            label, own = neighbours.labels[row][column], neighbours.labels[row][0]
            colour = INK if column == 0 else FAINT if label == own else WRONG
            axes = place(left, above + line - 0.04, TILE, TILE)
            image = neighbours.images[row, column]
            axes.imshow(_rgb(image), interpolation="nearest" if len(image) < 64 else "antialiased")
            text(left, above + 0.05, _short(label.split(",")[0]), fontsize=7.5, color=colour)
            if label != own:
                axes.spines[:].set_visible(True)
                axes.spines[:].set(color=WRONG, linewidth=1.6)
    figure.savefig(path)


def mosaic(filters: np.ndarray) -> np.ndarray:
    """Filters [h, w, C, F] side by side in a block at least as high as wide, RGB [H, W, 3] in 0..1.

    Each is divided by its largest absolute weight; 0 becomes mid-grey, the space between is white.
    """
    high, wide, channels, count = filters.shape
    largest = np.abs(filters).max(axis=(0, 1, 2), keepdims=True)
    shown = 0.5 + 0.5 * filters / np.where(largest > 0, largest, 1.0)
    shown = np.repeat(shown, 3 // channels, axis=2)
    columns = _columns(count)
    rows = math.ceil(count / columns)
    zoom = max(1, 16 // max(high, wide))  # so that the gaps are narrow beside small filters
    gap = max(1, round(zoom * max(high, wide) / 12))
    block = np.ones((rows * (high * zoom + gap) - gap, columns * (wide * zoom + gap) - gap, 3))
    for index in range(count):
        row, column = divmod(index, columns)
        top, left = row * (high * zoom + gap), column * (wide * zoom + gap)
        tile = np.kron(shown[..., index], np.ones((zoom, zoom, 1)))
        block[top : top + high * zoom, left : left + wide * zoom] = tile
    return block


def _columns(count: int) -> int:
    """Columns of a block one to four times as high as wide, with full rows if that is possible."""
    wanted = math.sqrt(count / 2)
    full = [columns for columns in range(1, count + 1) if count % columns == 0]
    nearest = min(full, key=lambda columns: (round(abs(math.log(columns / wanted)), 6), -columns))
    fits = wanted / 1.5 < nearest < wanted * 1.5
    return nearest if fits else math.ceil(wanted)


def _rgb(image: np.ndarray) -> np.ndarray:
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image


def _short(name: str, longest: int = 14) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
