"""Krizhevsky et al. 2012, sections 3.2, 3.5 and 6.1: two towers, one column, and one GPU's net.

The paper splits AlexNet over two GPUs: conv2, conv4 and conv5 see only the maps of their own GPU.
Here the towers are the two groups of one network. One column has the same number of parameters,
within a hundredth, with fewer maps that see all the maps below: conv2, conv3 and conv4 are 0.735
times as wide. The net of one GPU (footnote 2) has half as many maps in conv1 to conv4, and as many
as the towers in conv5 and the dense layers.

Section 6.1: one GPU's kernels of conv1 are "largely color-agnostic", the other's "largely
color-specific". For this the probe measures how coloured the kernels of each half are, on sets in
colour.
"""

import pathlib
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from papers import results
from reproduction import drawing
from reproduction.inference import LEVEL
from reproduction.records import Record
from reproduction.study import (
    Claim,
    Column,
    Number,
    Records,
    Run,
    Scale,
    Study,
    less_error,
)
from training import trained

TOWERS, COLUMN, ONE_GPU = "two towers", "one column, same parameters", "the net of one GPU"
# With widths of 0.735 the layers conv2 to conv5 have as many parameters as in the towers.
NETS: dict[str, dict[str, Any]] = {
    TOWERS: {},
    COLUMN: {"model.groups": 1, "model.features": (96, 188, 282, 282, 256)},
    ONE_GPU: {"model.groups": 1, "model.features": (48, 128, 192, 192, 256)},
}
_TOP1 = results.row("alexnet_2012", "ten_crop").value
_GAP = results.row("alexnet_2012_one_gpu", "", "top1_gap")


def colour_share(kernel: np.ndarray) -> np.ndarray:
    """The part of each kernel's energy that is not grey, [features] from 0 to 1.

    kernel: [h, w, 3, features]. Grey is the mean over the channels.
    """
    grey = kernel.mean(2, keepdims=True)
    return np.square(kernel - grey).sum((0, 1, 2)) / np.square(kernel).sum((0, 1, 2))


def probe(workdir: pathlib.Path, data_dir: str | None) -> dict[str, Any]:
    """The mean `colour_share` in percent of conv1's first and second half, the two towers' own.

    {"colour": [first, second]}; nothing for grey images, which teach the channels the same.
    """
    net = trained.load(workdir)
    if net.recipe.stored[2] == 1:
        return {}
    kernel = np.asarray(net.variables["params"]["conv1"]["kernel"], np.float64)
    halves = np.split(colour_share(kernel), 2)
    return {"colour": [100 * float(half.mean()) for half in halves]}


def apart(record: Record) -> float:
    """How far the colour shares of the two halves of conv1 are apart, in points."""
    first, second = record.probe["colour"]
    return abs(first - second)


def _colour(half: int) -> Number:
    def value(record: Record) -> float | None:
        return record.probe["colour"][half] if record.probe else None

    return value


def draw(study: Study, data: str, records: Records) -> Figure:
    """Draws the test error, and the colour of conv1's halves if the images are in colour."""
    in_colour = all(record.probe for seeds in records.values() for record in seeds.values())
    figure, axes = drawing.new(
        1,
        2 if in_colour else 1,
        title="AlexNet on two GPUs, in one column, and on one GPU",
        subtitle=f"{study.scales[data].note} {drawing.LEGEND}",
        size=(13 if in_colour else 8, 4.2),
    )
    colours = dict(zip((TOWERS, COLUMN, ONE_GPU), drawing.SERIES, strict=False))
    stalled = drawing.stalls(records)
    drawing.bars(axes[0][0], drawing.finals(records, "test_error"), colours, stalled=stalled)
    drawing.heading(axes[0][0], "Test error", "error (%)")
    if not in_colour:
        return figure
    gaps = {
        label: [apart(record) for record in seeds.values()]
        for label, seeds in drawing.moving(records).items()
    }
    drawing.bars(axes[0][1], gaps, colours, unit=" points", stalled=stalled)
    drawing.heading(
        axes[0][1], "Colour of conv1's kernels: first half against second", "points apart"
    )
    return figure


def _runs(config: str, seconds: float, **overrides: Any) -> tuple[Run, ...]:
    return tuple(
        Run(label, config, seconds, {**overrides, **fields}) for label, fields in NETS.items()
    )


SMALL = {
    "model.width": 0.125,
    "data.size": 67,
    "data.train_images": 2_000,
    "batch_size": 32,
    "duration": "25 epochs",
    "eval.every": "5 epochs",
}
_NOTE = (
    "An eighth of the width, 2,000 of 60,000 training images resized to 67 pixels, 25 epochs; "
    "10,000 test images."
)

STUDY = Study(
    name="two_gpus",
    title="Two towers, one column, and the net of one GPU",
    paper="Krizhevsky et al. 2012",
    figure="sections 3.2, 3.5 and 6.1",
    question="What does it cost that AlexNet's towers see half of each other's maps, and what does "
    "it gain over the net that fits one GPU?",
    scales={
        "fashion_mnist": Scale(
            _runs("configs/alexnet.py:data=fashion_mnist", 70, **SMALL),
            seeds=5,
            note=f"{_NOTE} In grey.",
        ),
        "fashion_mnist_scenes": Scale(
            _runs("configs/alexnet.py:data=fashion_mnist_scenes", 70, **SMALL),
            seeds=5,
            note=_NOTE,
        ),
        "imagenet2012": Scale(
            _runs("configs/alexnet.py:data=imagenet2012,scale=paper", 4 * 24 * 3600),
            seeds=3,
            note="The paper's recipe, centre crop; the estimates are for one GPU.",
            papers_data=True,
        ),
    },
    claims=(
        less_error(TOWERS, ONE_GPU, source="section 3.2", printed=(_TOP1, _TOP1 + _GAP.value)),
        less_error(
            TOWERS,
            COLUMN,
            text="two towers and one column of the same parameters have the same test error, to "
            "within 1 point",
            kind=LEVEL,
        ),
        less_error(COLUMN, ONE_GPU),
        Claim(
            "the two towers' kernels in conv1 differ more in colour than the two halves of a "
            "column's",
            lambda seed: apart(seed[TOWERS]) - apart(seed[COLUMN]),
            runs=(TOWERS, COLUMN),
            source="section 6.1",
            margin=10.0,
            on=("fashion_mnist_scenes", "imagenet2012"),
        ),
    ),
    columns=(
        Column("parameters", lambda r: r.result["params"], digits=0, spread=False),
        Column(
            "multiply-adds an image", lambda r: r.result["multiply_adds"], digits=0, spread=False
        ),
        Column("colour of conv1's first half (%)", _colour(0)),
        Column("of its second half (%)", _colour(1)),
    ),
    published={TOWERS: f"{_TOP1}", ONE_GPU: f"{_GAP.text} points more"},
    published_heading="published: top-1 on ImageNet, ten crops (%)",
    draw=draw,
    probe=probe,
)
