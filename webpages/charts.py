"""Pictures that need no script: bars against a diagonal, and a map of a large table."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from webpages.document import picture, text

INK, BAR, COUNT = "#222222", "#0069a8", "#9a9a95"
# In units of the drawing, which scales to the width of the page.
SIDE, LEFT, TOP, BELOW, COUNTS = 300, 52, 12, 44, 60


def against_diagonal(
    bars: Sequence[tuple[float, float, float | None, float]], *, x: str, y: str, description: str
) -> str:
    """An SVG of bars (from, to, height or None, share), all in [0, 1], under the diagonal y = x.

    share: of a second row of bars below, drawn against the largest of them. x, y: names of the
    axes.
    """
    width, height = LEFT + SIDE + 12, TOP + SIDE + COUNTS + BELOW
    most = max((share for *_, share in bars), default=0) or 1
    base, foot = TOP + SIDE, TOP + SIDE + COUNTS
    marks = []
    for low, high, tall, share in bars:
        at, wide = LEFT + SIDE * low, SIDE * (high - low) - 1
        said = (
            "no image" if tall is None else f"{y} {100 * tall:.1f}%, {100 * share:.1f}% of images"
        )
        marks.append(f"<g><title>{text(f'{x} {low:.2f} to {high:.2f}: {said}')}</title>")
        if tall is not None:
            marks.append(_box(at, base - SIDE * tall, wide, SIDE * tall, BAR))
            below = (COUNTS - 14) * share / most
            marks.append(_box(at, foot - below, wide, below, COUNT))
        marks.append("</g>")
    ticks = []
    for tenth in range(0, 11, 2):
        across, up = LEFT + SIDE * tenth / 10, base - SIDE * tenth / 10
        ticks.append(_words(across, foot + 16, f"{tenth / 10:g}", "middle"))
        ticks.append(_words(LEFT - 6, up + 4, f"{tenth / 10:g}", "end"))
        ticks.append(_line(LEFT - 4, up, LEFT, up) + _line(across, foot, across, foot + 4))
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{text(description)}">{"".join(marks)}'
        f"{_line(LEFT, base, LEFT + SIDE, TOP, dashed=True)}"
        f"{_line(LEFT, TOP, LEFT, base)}{_line(LEFT, base, LEFT + SIDE, base)}"
        f"{_line(LEFT, foot, LEFT + SIDE, foot)}{''.join(ticks)}"
        f"{_words(LEFT + SIDE / 2, foot + 36, x, 'middle')}"
        f'<g transform="translate(14 {TOP + SIDE / 2}) rotate(-90)">{_words(0, 0, y, "middle")}</g>'
        f"{_words(LEFT - 6, foot - 20, 'images', 'end')}</svg>"
    )


def map_of(shares: np.ndarray, description: str) -> str:
    """A picture of [rows, columns] in [0, 1]: a pixel each, white 0, dark 1, small values seen."""
    dark = np.sqrt(np.clip(shares, 0, 1))[..., None]
    colour = np.array([int(BAR[at : at + 2], 16) for at in (1, 3, 5)]) / 2
    pixels = np.rint(255 + dark * (colour - 255)).astype(np.uint8)
    return picture(png(pixels), description, kind="map")


def png(pixels: np.ndarray, *, longest: int = 0) -> bytes:
    """uint8 [H, W, 1 or 3] as PNG, scaled down if a side is above `longest` (0: never)."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    if longest and max(image.size) > longest:
        image.thumbnail((longest, longest))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def _box(x: float, y: float, width: float, height: float, colour: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'
    )


def _line(x: float, y: float, to_x: float, to_y: float, *, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<path d="M{x:.1f} {y:.1f}L{to_x:.1f} {to_y:.1f}" stroke="{INK}" fill="none"{dash}/>'


def _words(x: float, y: float, words: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="12" fill="{INK}" '
        f'text-anchor="{anchor}">{text(words)}</text>'
    )
