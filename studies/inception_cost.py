"""Szegedy et al. 2015, Fig. 2: what 1×1 reductions save, and what they cost in error.

Two questions. What they save is counted, not trained: multiply-adds of the same net with naive
modules (Fig. 2a), with unreduced ones, and with reductions, and those of the lecture's example
(28×28×192 to 32 maps by 5×5: 120.4M, or 12.4M through 16 maps). What they cost is measured against
unreduced modules, whose output is as wide: a naive module's grows by its input, so that its net
differs in more than the reductions. The width of the reductions varies in all modules and in two.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

import models
from inspection import cost
from reproduction import drawing
from reproduction.drawing import GREY, PLAIN, RESIDUAL, SERIES
from reproduction.inference import NO_WORSE
from reproduction.records import Record
from reproduction.study import OURS, Claim, Column, Records, Run, Scale, Study, less_error, variants
from reproduction.tables import steps_to

UNREDUCED = "no reductions"
REDUCTIONS = (0.25, 0.5, 1.0)
TWO, IN_TWO = ("4b", "4c"), (0.25,)  # two middle modules, and the widths for only those
LECTURE = {"5×5": "lecture_conv5x5", "5×5 after 1×1": "lecture_conv5x5_bottleneck"}
WHOLE = "googlenet_2014"
KINDS = {"naive": "naive (Fig. 2a)", "unreduced": UNREDUCED, "reduced": "reduced (Fig. 2b)"}


def label(reduction: float, modules: Sequence[str] = ()) -> str:
    """ "reductions ×0.5", "4b and 4c ×0.5"."""
    return f"{' and '.join(modules) or 'reductions'} ×{reduction:g}"


REDUCED: dict[str, dict[str, Any]] = {
    **{label(reduction): {"model.reduction": reduction} for reduction in REDUCTIONS},
    **{
        label(reduction, TWO): {"model.reduction": reduction, "model.reduction_in": TWO}
        for reduction in IN_TWO
    },
}


def _runs(
    data: str, scale: str, unreduced_seconds: float, seconds: float, **overrides: object
) -> tuple[Run, ...]:
    config = f"configs/googlenet.py:aux=off,data={data},scale={scale}"
    return (
        Run(UNREDUCED, f"{config},module=unreduced", unreduced_seconds, overrides),
        *variants(config, seconds, REDUCED, **overrides),
    )


def _test(seed: Mapping[str, Record], name: str) -> float:
    return 100 * seed[name].last("test_error")


def _no_worse(changed: str, whole: str, text: str) -> Claim:
    return less_error(changed, whole, text=text, kind=NO_WORSE)


def millions(record: Record) -> float:
    """Multiply-adds per image, in millions."""
    return record.result["multiply_adds"] / 1e6


def draw(study: Study, data: str, records: Records) -> Figure:
    """Draws error against cost, training error, and the costs of modules and of an example."""
    figure, axes = drawing.new(
        1,
        4,
        title="Inception modules: what 1×1 reductions save, and what they cost in error",
        subtitle=f"{study.scales[data].note} {drawing.LEGEND}",
        size=(20, 5.2),
    )
    special = {UNREDUCED: PLAIN, **{label(reduction, TWO): SERIES[2] for reduction in IN_TWO}}
    colours = {name: special.get(name, RESIDUAL) for name in records}
    panel, names = axes[0][0], []
    errors_of = drawing.finals(records, "test_error")
    for name, seeds in records.items():
        errors = errors_of[name]
        at = millions(next(iter(seeds.values())))
        drawing.scatter(panel, [at], [errors], colours[name])
        names.append((at, sum(errors) / len(errors), f"{name}, {at:.2g}M", colours[name]))
    panel.set_xscale("log")
    left, right = panel.get_xlim()
    panel.set_xlim(left, right * 6)
    panel.set_ylim(0, 1.25 * panel.get_ylim()[1])
    drawing.percent(panel)
    drawing.heading(panel, "Test error by cost", "multiply-adds per image (millions)", "error")
    drawing.ends(panel, names)

    drawing.bars(axes[0][1], drawing.finals(records, "train_error"), colours)
    drawing.heading(axes[0][1], "Final training error", "error (%)")

    kinds = {
        text: [cost.measure(models.create({"name": WHOLE, "module": kind})).multiply_adds / 1e9]
        for kind, text in KINDS.items()
    }
    drawing.bars(axes[0][2], kinds, dict.fromkeys(kinds, GREY), unit="")
    drawing.heading(axes[0][2], "GoogLeNet on 224×224", "multiply-adds (billions)")

    lecture = {
        text: [cost.measure(models.create({"name": name})).multiply_adds / 1e6]
        for text, name in LECTURE.items()
    }
    drawing.bars(axes[0][3], lecture, dict.fromkeys(lecture, GREY), unit="M")
    drawing.heading(axes[0][3], "The lecture's example", "multiply-adds (millions)")
    return figure


STUDY = Study(
    name="inception_cost",
    title="Inception: naive and reduced modules",
    paper="Szegedy et al. 2015",
    figure="Fig. 2 and the lecture's arithmetic",
    question="What do 1×1 reductions save, and do they hurt?",
    scales={
        "fashion_mnist_scenes": Scale(
            _runs(
                "fashion_mnist_scenes",
                "small",
                4800,
                1600,
                **{
                    "model.width": 0.5,
                    "data.size": 24,
                    "data.augment": ("pad_crop(pixels=4)", "flip()"),
                    "batch_size": 128,
                    "duration": "6 epochs",
                },
            ),
            seeds=5,
            note="GoogLeNet at half its width, 60,000 images in colour at 24×24, 6 epochs of "
            "batches of 128.",
        ),
        "imagenet2012": Scale(
            _runs("imagenet2012", "paper", 15 * 24 * 3600, 7 * 24 * 3600),
            seeds=1,
            note="Caffe's recipe over 250 epochs, one crop; the estimates are for one GPU.",
            papers_data=True,
        ),
    },
    claims=(
        _no_worse(
            label(1.0),
            UNREDUCED,
            "reductions do not hurt: at most 1 point more test error than without, at equal output",
        ),
        _no_worse(
            label(0.5),
            label(1.0),
            "half the width of reductions does not hurt: at most 1 point more test error",
        ),
        Claim(
            "a quarter of the width hurts: more than 1 point more test error",
            lambda seed: _test(seed, label(0.25)) - _test(seed, label(1.0)) - 1,
            runs=(label(0.25), label(1.0)),
            source=OURS,
            margin=1.0,
        ),
        _no_worse(
            label(0.25, TWO),
            label(1.0),
            "a quarter of the width in only two modules does not hurt: at most 1 point more error",
        ),
    ),
    columns=(
        Column("million multiply-adds", millions, digits=2, spread=False),
        Column("parameters", lambda record: record.result["params"], digits=0, spread=False),
        steps_to(0.1),
    ),
    draw=draw,
)
