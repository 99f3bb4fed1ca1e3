"""He et al. 2015, Table 3: no shortcut, zero-padded (A), projected where needed (B), always (C).

The paper compares them at 34 layers on ImageNet; on small images the same nets at 44 layers.
"""

from collections.abc import Mapping

from matplotlib.figure import Figure

from studies import drawing, published
from studies.drawing import GREY, PLAIN, RESIDUAL
from studies.records import Record
from studies.study import Claim, Column, Records, Run, Scale, Study
from studies.tables import steps_to

NONE, A, B, C = "none (plain)", "A: zeros appended", "B: projected where needed", "C: projected"
KINDS = {NONE: "none", A: "A", B: "B", C: "C"}
COLOURS = {NONE: PLAIN, A: "#8fc0dd", B: "#4b93bf", C: RESIDUAL}


def _runs(config: str, seconds: float) -> tuple[Run, ...]:
    return tuple(Run(label, config.format(shortcut=kind), seconds) for label, kind in KINDS.items())


def _less(better: str, worse: str, metric: str) -> Claim:
    what = {"train_error": "training", "test_error": "test"}[metric]

    def gap(seed: Mapping[str, Record]) -> float:
        return 100 * (seed[worse].last(metric) - seed[better].last(metric))

    names = [
        label.split(":")[0].replace("none (plain)", "no shortcut") for label in (better, worse)
    ]
    return Claim(f"{names[0]} has less {what} error than {names[1]}", gap)


def draw(study: Study, data: str, records: Records) -> Figure:
    """Training error while it falls, final errors, and the paper's."""
    figure, axes = drawing.new(
        1,
        3,
        title="Residual nets by kind of shortcut, and the plain net without",
        subtitle=f"{study.scales[data].note} Mean over seeds; dots: single seeds.",
        size=(16, 5.2),
    )
    drawing.curves(axes[0][0], records, group="train", colours=COLOURS, room=0.8)
    drawing.heading(axes[0][0], "Training error", "step", "error")
    drawing.bars(axes[0][1], drawing.finals(records, "test_error"), COLOURS)
    drawing.heading(axes[0][1], "Final test error, measured here", "error (%)")
    printed = {label: [float(value)] for label, value in published.SHORTCUTS.items()}
    drawing.bars(axes[0][2], printed, dict.fromkeys(printed, GREY), digits=2)
    drawing.heading(axes[0][2], "Published: ImageNet top-1, 34 layers", "error (%)")
    return figure


STUDY = Study(
    name="shortcuts",
    title="Shortcuts: none, A, B, C at equal depth",
    paper="He, Zhang, Ren, Sun 2015",
    figure="Table 3",
    question="Does it matter how a shortcut changes its width?",
    scales={
        "digits": Scale(
            _runs("configs/resnet_cifar.py:depth=44,shortcut={shortcut},data=digits", 40),
            seeds=3,
            note="44 layers, 1,437 training images of 8×8 pixels, 330 steps of 128.",
        ),
        "imagenet2012": Scale(
            _runs(
                "configs/resnet_imagenet.py:depth=34,shortcut={shortcut},"
                "data=imagenet2012,scale=paper",
                7 * 24 * 3600,
            ),
            seeds=1,
            note="The paper's recipe, 34 layers, one crop; the estimates are for one GPU.",
            papers_data=True,
        ),
    },
    claims=(
        _less(A, NONE, "train_error"),
        _less(B, NONE, "train_error"),
        _less(C, NONE, "train_error"),
        _less(A, NONE, "test_error"),
        _less(B, A, "test_error"),
        _less(C, B, "test_error"),
    ),
    columns=(
        Column("parameters", lambda record: record.result["params"], digits=0, spread=False),
        steps_to(0.1),
    ),
    published=published.SHORTCUTS,
    published_heading="published: 34 layers, ImageNet top-1 error, ten crops (%)",
    draw=draw,
)
