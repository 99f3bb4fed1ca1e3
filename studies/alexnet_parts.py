"""Krizhevsky et al. 2012, sections 3.3, 3.4, 4.2 and 7: what each part of AlexNet is worth.

Local response normalisation, overlapping pooling and a middle layer taken away, dropout put in, one
at a time.
"""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from studies import drawing
from studies.drawing import SERIES
from studies.study import Claim, Column, Records, Run, Scale, Study, less_error
from studies.tables import steps_to

WHOLE, DROPOUT = "AlexNet", "with dropout 0.5"
NO_LRN, POOL2 = "without LRN", "pooling 2×2, no overlap"
NO_CONV4 = "without conv4"


def _runs(data: str, scale: str, seconds: float, parts: Mapping[str, Any]) -> tuple[Run, ...]:
    config = f"configs/alexnet.py:data={data},scale={scale}"
    shorter = {"duration": "10 epochs"} if scale == "small" else {}
    return tuple(
        Run(label, config, seconds, {**shorter, **fields}) for label, fields in parts.items()
    )


TAKEN: dict[str, dict[str, Any]] = {
    WHOLE: {},
    NO_LRN: {"model.lrn": False},
    POOL2: {"model.pool_window": 2},
    NO_CONV4: {"model.removed": ("conv4",)},
}


def _worse(changed: str) -> Claim:
    return less_error(WHOLE, changed, text=f"more test error “{changed}” than with all parts")


def draw(study: Study, data: str, records: Records) -> Figure:
    """Training error while it falls, and final errors."""
    figure, axes = drawing.new(
        1,
        3,
        title="AlexNet, one part at a time",
        subtitle=f"{study.scales[data].note} Mean over seeds; dots: single seeds.",
        size=(16, 5.2),
    )
    colours = {label: SERIES[i] for i, label in enumerate(records)}
    drawing.curves(axes[0][0], records, group="train", colours=colours, room=0.7)
    drawing.heading(axes[0][0], "Training error", "step", "error")
    for panel, metric, what in zip(
        axes[0][1:], ("train_error", "test_error"), ("training", "test"), strict=True
    ):
        drawing.bars(panel, drawing.finals(records, metric), colours)
        drawing.heading(panel, f"Final {what} error", "error (%)")
    return figure


STUDY = Study(
    name="alexnet_parts",
    title="AlexNet's parts, one at a time",
    paper="Krizhevsky, Sutskever, Hinton 2012",
    figure="sections 3.3, 3.4, 4.2 and 7",
    question="What are response normalisation, overlapping pooling and dropout worth?",
    scales={
        "digits": Scale(
            _runs("digits", "small", 65, {**TAKEN, DROPOUT: {"model.dropout": 0.5}}),
            seeds=3,
            note="A quarter of the width, 1,437 images resized to 99×99, 10 epochs, no dropout.",
        ),
        "imagenet2012": Scale(
            _runs("imagenet2012", "paper", 4 * 24 * 3600, TAKEN),
            seeds=1,
            note="The paper's recipe with dropout, one crop; the estimates are for one GPU.",
            papers_data=True,
        ),
    },
    claims=(
        _worse(NO_LRN),
        _worse(POOL2),
        _worse(NO_CONV4),
        Claim(
            "dropout lowers the test error",
            lambda seed: 100 * (seed[WHOLE].last("test_error") - seed[DROPOUT].last("test_error")),
            on=("digits",),
        ),
    ),
    columns=(
        Column("parameters", lambda r: r.result["params"], digits=0, spread=False),
        steps_to(0.1),
    ),
    published={
        NO_LRN: "1.4 points more (ImageNet top-1)",
        POOL2: "0.4 points more (ImageNet top-1)",
        NO_CONV4: "about 2 points more (ImageNet top-1)",
    },
    draw=draw,
)
