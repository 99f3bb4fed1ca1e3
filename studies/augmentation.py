"""Krizhevsky et al. 2012, section 4.1: mirror images, crops and the shift of colours.

One network, which learns a few images by heart, with each augmentation alone and with all of them.
The paper cuts 224 of 256 pixels; small images are resized to 37 pixels and cut to 32, the same
ratio. Every run is tested on the centre of the resized image, and runs without crops train on it.
Grey images have no colours to shift, so those runs need a set in colour.
Overfitting is the test error less the training error of the trained network, without augmentation.
"""

import pathlib
from contextlib import closing
from typing import Any

from matplotlib.figure import Figure

from papers import results
from reproduction import drawing
from reproduction.records import Record
from reproduction.study import Claim, Column, Records, Run, Scale, Study, less_error
from studies.alexnet_parts import overfit, trained_error
from training import trained

NONE = "no augmentation"
MIRROR, CROPS, COLOUR = "mirror images", "crops", "colours"
BOTH, ALL = "mirror images and crops", "all three"
PARTS = {
    NONE: (),
    MIRROR: (MIRROR,),
    CROPS: (CROPS,),
    COLOUR: (COLOUR,),
    BOTH: (CROPS, MIRROR),
    ALL: (CROPS, MIRROR, COLOUR),
}
SECTION = "section 4.1"
_WITH = results.row("alexnet_2012", "ten_crop").value
_SHIFT = results.row("alexnet_2012", "", "top1_gap", "without the shift of colour")


def _runs(config: str, seconds: float, side: int, colour: str, **overrides: Any) -> tuple[Run, ...]:
    """side: the short side in pixels that crops are cut from.

    colour: the call of the shift, "" for grey images.
    """
    calls = {CROPS: f"random_crop(side={side})", MIRROR: "flip()", COLOUR: colour}
    return tuple(
        Run(
            label,
            config,
            seconds,
            {
                **overrides,
                "data.short_side": side,
                "data.augment": tuple(calls[part] for part in parts),
            },
        )
        for label, parts in PARTS.items()
        if colour or COLOUR not in parts
    )


def probe(workdir: pathlib.Path, data_dir: str | None) -> dict[str, Any]:
    """{"train_error": of the trained network, on training images without augmentation}."""
    net = trained.load(workdir)
    with closing(net.pipeline(data_dir)) as pipeline:
        return {"train_error": trained_error(net, pipeline)}


def draw(study: Study, data: str, records: Records) -> Figure:
    """Draws the test error, and the training error of the trained networks."""
    figure, axes = drawing.new(
        1,
        2,
        title="Augmentation against overfitting",
        subtitle=f"{study.scales[data].note} {drawing.LEGEND}",
        size=(13, 4.6),
    )
    network = drawing.SERIES[0]
    colours = {label: drawing.GREY if label == NONE else network for label in records}
    stalled = drawing.stalls(records)
    drawing.bars(axes[0][0], drawing.finals(records, "test_error"), colours, stalled=stalled)
    drawing.heading(axes[0][0], "Test error", "error (%)")
    gaps = {
        label: [overfit(record) for record in seeds.values()]
        for label, seeds in drawing.moving(records).items()
    }
    drawing.bars(axes[0][1], gaps, colours, unit=" points", stalled=stalled)
    drawing.heading(axes[0][1], "Overfitting: test error less training error", "points")
    return figure


def _train_error(record: Record) -> float | None:
    return record.probe.get("train_error")


FEW = {"data.train_images": 2_000, "duration": "60 epochs", "eval.every": "10 epochs"}

STUDY = Study(
    name="augmentation",
    title="Mirror images, crops and shifts of colour",
    paper="Krizhevsky et al. 2012",
    figure=SECTION,
    question="How much does each augmentation lower the test error of a network that overfits?",
    scales={
        "fashion_mnist": Scale(
            _runs("configs/lenet5.py:data=fashion_mnist", 35, 37, "", **FEW),
            seeds=5,
            note="LeNet-5, 2,000 of 60,000 training images, 60 epochs; 10,000 test images, all in "
            "grey: no shift of colours.",
        ),
        "fashion_mnist_scenes": Scale(
            _runs(
                "configs/lenet5.py:data=fashion_mnist_scenes", 35, 37, "pca_colour(sd=0.1)", **FEW
            ),
            seeds=5,
            note="LeNet-5 in colour, 2,000 of 60,000 training images, 60 epochs; 10,000 test "
            "images.",
        ),
        "imagenet2012": Scale(
            _runs(
                "configs/alexnet.py:data=imagenet2012,scale=paper",
                4 * 24 * 3600,
                256,
                "pca_colour(sd=0.1, samples=10000)",
            ),
            seeds=3,
            note="AlexNet by the paper's recipe, centre crop; the estimates are for one GPU.",
            papers_data=True,
        ),
    },
    claims=(
        less_error(BOTH, NONE, source=SECTION),
        Claim(
            "mirror images and crops reduce overfitting: less test error above the training error",
            lambda seed: overfit(seed[NONE]) - overfit(seed[BOTH]),
            runs=(NONE, BOTH),
            source=SECTION,
            margin=1.0,
        ),
        less_error(
            ALL,
            BOTH,
            text="the shift of colours lowers the test error further",
            source=SECTION,
            printed=(_WITH, _WITH + _SHIFT.value),
        ),
        less_error(MIRROR, NONE),
        less_error(CROPS, NONE),
        less_error(COLOUR, NONE),
        less_error(BOTH, CROPS),
    ),
    columns=(Column("training error of the trained net (%)", _train_error, digits=2, factor=100),),
    published={ALL: f"{_WITH}", BOTH: f"{_SHIFT.text} point more"},
    published_heading="published: top-1 on ImageNet, ten crops (%)",
    draw=draw,
    probe=probe,
)
