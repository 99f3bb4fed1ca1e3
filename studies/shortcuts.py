"""He et al. 2016a, Table 3: no shortcut, zero-padded (A), projected if needed (B) or always (C).

The paper compares them at 34 layers on ImageNet; on digits the nets have 44 layers, on scenes 20,
trained as in `degradation`, which has already made two of the four.
"""

from matplotlib.figure import Figure

from papers import results
from reproduction import drawing
from reproduction.drawing import PLAIN, RESIDUAL
from reproduction.study import Claim, Column, Records, Run, Scale, Study, less_error
from reproduction.tables import steps_to
from studies import degradation

NONE, A, B, C = "none (plain)", "A: zeros appended", "B: projected where needed", "C: projected"
KINDS = {NONE: "none", A: "A", B: "B", C: "C"}
COLOURS = {NONE: PLAIN, A: "#8fc0dd", B: "#4b93bf", C: RESIDUAL}

PUBLISHED = {
    label: results.row("plain34" if kind == "none" else f"resnet34_{kind}", "ten_crop")
    for label, kind in KINDS.items()
}


def _runs(config: str, seconds: float, **overrides: object) -> tuple[Run, ...]:
    return tuple(
        Run(label, config.format(shortcut=kind), seconds, overrides)
        for label, kind in KINDS.items()
    )


def _less(better: str, worse: str, metric: str) -> Claim:
    what = {"train_error": "training", "test_error": "test"}[metric]
    names = [
        label.split(":")[0].replace("none (plain)", "no shortcut") for label in (better, worse)
    ]
    text = f"{names[0]} has less {what} error than {names[1]}"
    printed = (PUBLISHED[better].value, PUBLISHED[worse].value)
    return less_error(better, worse, metric, text, source="Tables 2 and 3", printed=printed)


def draw(study: Study, data: str, records: Records) -> Figure:
    """Draws training error against the step, final errors, and the paper's."""
    return drawing.beside_paper(
        records,
        title="Residual nets by kind of shortcut, and the plain net without",
        note=study.scales[data].note,
        published=(
            "Published: ImageNet top-1, 34 layers",
            {label: row.value for label, row in PUBLISHED.items()},
        ),
        digits=2,
        colours=COLOURS,
    )


STUDY = Study(
    name="shortcuts",
    title="Shortcuts: none, A, B, C at equal depth",
    paper="He et al. 2016a",
    figure="Table 3",
    question="Does it matter how shortcuts change the number of channels?",
    scales={
        "digits": Scale(
            _runs("configs/resnet_cifar.py:depth=44,shortcut={shortcut},data=digits", 40),
            seeds=3,
            note="44 layers, 1,437 training images of 8×8 pixels, 330 steps of 128.",
        ),
        "fashion_mnist_scenes": Scale(
            _runs(
                "configs/resnet_cifar.py:depth=20,shortcut={shortcut},data=fashion_mnist_scenes,"
                "scale=paper",
                40,
                **degradation.lasting(degradation.STEPS),
            ),
            seeds=degradation.SEEDS[20],
            note="20 layers, 60,000 training images of 32×32 pixels, the paper's recipe with "
            f"{degradation.STEPS:,} of its 64,000 steps.",
            gpu=True,
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
    published={label: row.text for label, row in PUBLISHED.items()},
    published_heading="published: 34 layers, ImageNet top-1 error, ten crops (%)",
    draw=draw,
)
