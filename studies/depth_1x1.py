"""Simonyan and Zisserman 2015, section 4.1: what 1×1 convolutions buy at equal cost.

The paper adds three 1×1 layers to B (C) or 3×3 layers (D), at unequal cost. Here the widths make
all three cost the same: does depth by 1×1 layers beat width, and do 3×3 layers beat both?
"""

from matplotlib.figure import Figure

from studies import drawing, published
from studies.study import Column, Records, Run, Scale, Study, less_error
from studies.tables import steps_to

WIDER, WITH_1X1 = "B, wider (13 layers)", "C, three 1×1 more"
NARROWER = "D, narrower, three 3×3 more"
# Widths at which B and D cost what C costs at a quarter: 16.37, 16.38 and 16.31 million
# multiply-adds on 32×32×3.
WIDTHS = {WIDER: ("B", 0.255), WITH_1X1: ("C", 0.25), NARROWER: ("D", 0.22)}


def _runs(data: str, seconds: float) -> tuple[Run, ...]:
    return tuple(
        Run(name, f"configs/vgg.py:net=vgg_{column},data={data}", seconds, {"model.width": width})
        for name, (column, width) in WIDTHS.items()
    )


def draw(study: Study, data: str, records: Records) -> Figure:
    """Training error while it falls, final errors, and the paper's at unequal cost."""
    return drawing.beside_paper(
        records,
        title="1×1 convolutions at equal cost: wider, deeper by 1×1, or deeper by 3×3",
        note=study.scales[data].note,
        published=(
            "Published: ImageNet top-1, cost grows B to D",
            {f"{column} as printed": published.VGG[column] for column in "BCD"},
        ),
    )


STUDY = Study(
    name="depth_1x1",
    title="1×1 convolutions at equal cost",
    paper="Simonyan, Zisserman 2015",
    figure="section 4.1, columns B, C and D",
    question="Are layers of 1×1 better than width for the same multiply-adds?",
    scales={
        "digits": Scale(
            _runs("digits", 32),
            seeds=3,
            note="About a quarter of the width, 16.3 to 16.4 million multiply-adds, 1,437 images "
            "resized to 32×32, 15 epochs.",
        ),
    },
    claims=(
        less_error(WITH_1X1, WIDER, "test_error", "1×1 layers give less test error than width"),
        less_error(
            WITH_1X1, WIDER, "train_error", "1×1 layers give less training error than width"
        ),
        less_error(
            NARROWER, WITH_1X1, "test_error", "3×3 layers give less test error than 1×1 layers"
        ),
    ),
    columns=(
        Column("million multiply-adds", lambda r: r.result["multiply_adds"], 2, 1e-6, spread=False),
        Column("parameters", lambda r: r.result["params"], digits=0, spread=False),
        steps_to(0.1),
    ),
    published={
        WIDER: "28.7 (B)",
        WITH_1X1: "28.1 (C)",
        NARROWER: "27.0 (D)",
    },
    published_heading="published: ImageNet top-1 error at unequal cost (%)",
    draw=draw,
)
