"""Simonyan and Zisserman 2015, section 4.1: the benefit of 1×1 convolutions at equal cost.

The paper adds three 1×1 layers to B (C) or 3×3 layers (D), at unequal cost. Here the widths make
all three cost the same: does depth by 1×1 layers beat width, and do 3×3 layers beat both?
"""

from collections.abc import Mapping

from matplotlib.figure import Figure

from papers import results
from reproduction import drawing
from reproduction.study import Column, Records, Run, Scale, Study, less_error
from reproduction.tables import steps_to
from studies.vgg_depth import SCENES

WIDER, WITH_1X1 = "B, wider (13 layers)", "C, three 1×1 more"
NARROWER = "D, narrower, three 3×3 more"
COLUMNS = {WIDER: "B", WITH_1X1: "C", NARROWER: "D"}
# Widths at which B, C and D cost the same. At a quarter: 16.37, 16.38 and 16.31 million
# multiply-adds on 32×32×3; at full width: 11.76, 11.77 and 11.73 billion on 224×224×3.
SMALL = {WIDER: 0.255, WITH_1X1: 0.25, NARROWER: 0.22}
WHOLE = {WIDER: 1.02, WITH_1X1: 1.0, NARROWER: 0.87}

PUBLISHED = {column: results.row(f"vgg_{column}", "dense", remark="S = 256") for column in "BCD"}


def _runs(
    data: str, scale: str, seconds: float, widths: Mapping[str, float], **overrides: object
) -> tuple[Run, ...]:
    return tuple(
        Run(
            name,
            f"configs/vgg.py:net=vgg_{COLUMNS[name]},data={data},scale={scale}",
            seconds,
            {**overrides, "model.width": width},
        )
        for name, width in widths.items()
    )


def draw(study: Study, data: str, records: Records) -> Figure:
    """Draws training error against the step, final errors, and the paper's at unequal cost."""
    return drawing.beside_paper(
        records,
        title="1×1 convolutions at equal cost: wider, deeper by 1×1, or deeper by 3×3",
        note=study.scales[data].note,
        published=(
            "Published: ImageNet top-1, cost grows B to D",
            {f"{column} as printed": row.value for column, row in PUBLISHED.items()},
        ),
    )


STUDY = Study(
    name="depth_1x1",
    title="1×1 convolutions at equal cost",
    paper="Simonyan and Zisserman 2015",
    figure="section 4.1, columns B, C and D",
    question="Are 1×1 layers better than width for the same number of multiply-adds?",
    scales={
        "fashion_mnist_scenes": Scale(
            _runs("fashion_mnist_scenes", "small", 1600, SMALL, **SCENES),
            seeds=5,
            note="About a quarter of the width, 16.3 to 16.4 million multiply-adds, 60,000 images "
            "of 32×32 in colour, 10 epochs of batches of 128.",
        ),
        "imagenet2012": Scale(
            _runs("imagenet2012", "paper", 14 * 24 * 3600, WHOLE),
            seeds=1,
            note="The paper's recipe, 11.7 to 11.8 billion multiply-adds, one crop; the estimates "
            "are for one GPU.",
            papers_data=True,
        ),
    },
    claims=(
        less_error(
            WITH_1X1, WIDER, "test_error", "1×1 layers give less test error than width", margin=0.5
        ),
        less_error(
            WITH_1X1,
            WIDER,
            "train_error",
            "1×1 layers give less training error than width",
            margin=0.5,
        ),
        less_error(
            NARROWER,
            WITH_1X1,
            "test_error",
            "3×3 layers give less test error than 1×1 layers",
            margin=0.5,
        ),
    ),
    columns=(
        Column("million multiply-adds", lambda r: r.result["multiply_adds"], 2, 1e-6, spread=False),
        Column("parameters", lambda r: r.result["params"], digits=0, spread=False),
        steps_to(0.1),
    ),
    published={name: f"{PUBLISHED[column].text} ({column})" for name, column in COLUMNS.items()},
    published_heading="published: ImageNet top-1 error at unequal cost (%)",
    draw=draw,
)
