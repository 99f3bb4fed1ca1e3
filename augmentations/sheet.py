"""Draws training images after preprocessing: each once as in a test, then augmented."""

import os
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib.figure
import numpy as np

STEPS = 7
LINE = 150


def draw(pipeline: Any, path: str | os.PathLike[str], count: int = 6) -> None:
    """Writes a PNG of a pipeline's first `count` training images.

    One row per image: as in a test, then at steps 0, 1, 2 ... All values share one grey scale, from
    the 0.5% quantile (black) to the 99.5% quantile (white).
    """
    labels, test = pipeline.views(count, None)
    columns = [("test", test)]
    columns += [(f"step {step}", pipeline.views(count, step)[1]) for step in range(STEPS)]
    values = np.concatenate([images.ravel() for _, images in columns])
    low, high = np.percentile(values, (0.5, 99.5)) if values.std() > 0 else (0.0, 1.0)
    names: Sequence[Any] = pipeline.dataset.class_names or range(pipeline.num_classes)

    size = (1.3 * len(columns), 1.3 * count + 0.9)
    figure = matplotlib.figure.Figure(figsize=size, dpi=100, layout="constrained")
    grid = figure.subplots(count, len(columns), squeeze=False)
    for place, (title, images) in enumerate(columns):
        for row, image in enumerate(images):
            axes = grid[row, place]
            shown = np.clip((image - low) / (high - low), 0.0, 1.0)
            if shown.shape[-1] == 1:
                axes.imshow(shown[..., 0], cmap="gray", vmin=0.0, vmax=1.0)
            else:
                axes.imshow(shown)
            axes.set_xticks([])
            axes.set_yticks([])
            if row == 0:
                axes.set_title(title, fontsize=9)
            if place == 0:
                axes.set_ylabel(str(names[labels[row]]), fontsize=9)
    height, width, channels = pipeline.image_shape
    figure.suptitle(
        f"{pipeline.dataset.name}, {height}×{width}×{channels}, "
        f"values {values.min():.3g} to {values.max():.3g}\n"
        + textwrap.fill(pipeline.operations, LINE),
        fontsize=9,
    )
    figure.savefig(path)
