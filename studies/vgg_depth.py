"""Simonyan and Zisserman 2015, Table 3 and section 4.1: do depth and small filters help?

A to E; C against D (1×1 against 3×3 layers at equal depth); B against a net with one 5×5 layer for
each pair of 3×3; D and E are equal.

As in the paper one rate serves all depths. Nets with batch norm, which train at any depth, stand
beside to tell an effect of depth from one of the start; runs that stall are counted.
"""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from papers import results
from reproduction import drawing
from reproduction.inference import LEVEL
from reproduction.study import Claim, Column, Records, Run, Scale, Study, less_error
from reproduction.tables import steps_to

COLUMNS = {
    "A": "A (11 layers)",
    "B": "B (13 layers)",
    "B_5x5": "B with 5×5 (8 layers)",
    "C": "C (16 layers, three 1×1)",
    "D": "D (16 layers)",
    "E": "E (19 layers)",
}

# The 5×5 variant of B is not in a table.
PUBLISHED = {
    text: results.row(f"vgg_{column}", "dense", remark="S = 256")
    for column, text in COLUMNS.items()
    if column != "B_5x5"
}
SCENES: dict[str, Any] = {
    "batch_size": 128,
    "duration": "10 epochs",
    "data.augment": ("pad_crop(pixels=4)", "flip()"),
}
SECONDS = {"A": 900, "B": 1500, "B_5x5": 1300, "C": 1600, "D": 1800, "E": 2200}
NORMALIZED = ("A", "B", "D", "E")  # columns that are also run with batch norm


def normalized(column: str) -> str:
    """ "D, batch norm"."""
    return f"{column}, batch norm"


def _normalized_runs(data: str, seconds: Mapping[str, float]) -> tuple[Run, ...]:
    return tuple(
        Run(
            normalized(column),
            f"configs/vgg.py:net=vgg_{column}_bn,data={data},scale=small",
            seconds[column],
            SCENES,
        )
        for column in NORMALIZED
    )


def _runs(
    data: str, scale: str, seconds: Mapping[str, float], **overrides: object
) -> tuple[Run, ...]:
    return tuple(
        Run(
            text,
            f"configs/vgg.py:net=vgg_{column},data={data},scale={scale}",
            seconds[column],
            overrides,
        )
        for column, text in COLUMNS.items()
    )


def _less(better: str, worse: str, text: str, source: str = "Table 3") -> Claim:
    errors = {label: row.value for label, row in PUBLISHED.items()}
    twin = results.row("vgg_B_5x5", "", "top1_gap", "to B, centre crop")
    errors[COLUMNS["B_5x5"]] = errors[COLUMNS["B"]] + twin.value
    printed = (errors[COLUMNS[better]], errors[COLUMNS[worse]])
    return less_error(COLUMNS[better], COLUMNS[worse], text=text, source=source, printed=printed)


def draw(study: Study, data: str, records: Records) -> Figure:
    """Draws training error against the step, final errors, and the paper's.

    A column has one colour, with and without batch norm.
    """
    of_column = dict(zip(COLUMNS, drawing.SERIES, strict=False))
    colours = {text: of_column[column] for column, text in COLUMNS.items()}
    colours |= {normalized(column): of_column[column] for column in NORMALIZED}
    return drawing.beside_paper(
        records,
        title="VGG: error by depth and by the size of its filters",
        note=study.scales[data].note,
        published=(
            "Published: ImageNet top-1, one scale (Table 3)",
            {text: row.value for text, row in PUBLISHED.items()},
        ),
        colours=colours,
    )


STUDY = Study(
    name="vgg_depth",
    title="VGG over depth",
    paper="Simonyan and Zisserman 2015",
    figure="Table 3 and section 4.1",
    question="Does a deeper stack of small filters have less error?",
    scales={
        "fashion_mnist_scenes": Scale(
            (
                *_runs("fashion_mnist_scenes", "small", SECONDS, **SCENES),
                *_normalized_runs("fashion_mnist_scenes", SECONDS),
            ),
            seeds=5,
            note="A quarter of the width, 60,000 images of 32×32 in colour, 10 epochs of batches "
            "of 128, He's initialization.",
        ),
        "imagenet2012": Scale(
            _runs("imagenet2012", "paper", dict.fromkeys(COLUMNS, 14 * 24 * 3600)),
            seeds=1,
            note="The paper's recipe, one crop; the estimates are for one GPU.",
            papers_data=True,
        ),
    },
    claims=(
        _less("B", "A", "B has less test error than A"),
        _less("D", "B", "D has less test error than B"),
        _less("D", "C", "D has less test error than C: 3×3 beats 1×1 at the same depth"),
        _less("C", "B", "C has less test error than B: more non-linearity helps"),
        _less("B", "B_5x5", "B has less test error than its 5×5 variant", "section 4.1"),
        *(
            less_error(
                normalized(deeper),
                normalized(shallower),
                text=f"with batch norm {deeper} has less test error than {shallower}, too",
            )
            for deeper, shallower in (("B", "A"), ("D", "B"))
        ),
        less_error(
            COLUMNS["D"],
            COLUMNS["E"],
            text="D and E are equal: within 0.5 points of each other",
            source="Table 3",
            margin=0.5,
            kind=LEVEL,
        ),
    ),
    columns=(
        Column(
            "million parameters", lambda r: r.result["params"], digits=2, factor=1e-6, spread=False
        ),
        Column(
            "million multiply-adds", lambda r: r.result["multiply_adds"], factor=1e-6, spread=False
        ),
        steps_to(0.1),
    ),
    published={text: row.text for text, row in PUBLISHED.items()},
    published_heading="published: ImageNet top-1 error, S = Q = 256 (%)",
    draw=draw,
)
