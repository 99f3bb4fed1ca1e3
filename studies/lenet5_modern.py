"""LeNet-5's modern form over seeds, on digits and Fashion-MNIST.

Not a figure of the paper. Compared with 0.95% test error on MNIST by the network and training of
1998: LeCun et al. 1998, section III.B.
"""

from collections.abc import Mapping

from matplotlib.figure import Figure

from papers import results
from reproduction import drawing
from reproduction.drawing import GREY, SERIES
from reproduction.records import Record
from reproduction.study import OURS, Claim, Records, Run, Scale, Study
from reproduction.tables import steps_to

MODERN = "LeNet-5, modern"
PUBLISHED = results.row("lenet5_1998")


def _right(least: float, data: str) -> Claim:
    def gap(seed: Mapping[str, Record]) -> float:
        return 100 * (1 - seed[MODERN].last("test_error")) - least

    text = f"at least {least:g}% of the test images are classified correctly"
    return Claim(text, gap, runs=(MODERN,), source=OURS, margin=0.5, on=(data,))


def draw(study: Study, data: str, records: Records) -> Figure:
    """Draws training and test error by step, and the final test error of every seed."""
    figure, axes = drawing.new(
        1,
        2,
        title=f"LeNet-5's modern form on {data}",
        subtitle=f"{study.scales[data].note} {drawing.LEGEND}",
        size=(13, 4.8),
    )
    labels = []
    for group, colour in (("test", SERIES[0]), ("train", SERIES[1])):
        end = drawing.curve(axes[0][0], records[MODERN], group, colour)
        if end is not None:
            labels.append((*end, f"{group} {end[1]:.2f}%", colour))
    highest = axes[0][0].get_ylim()[1]
    top = max(4.0, 4 * max(error for _, error, _, _ in labels))
    axes[0][0].set_ylim(0, min(highest, top))
    drawing.room_right(axes[0][0], 0.2)
    drawing.ends(axes[0][0], labels)
    drawing.percent(axes[0][0])
    drawing.heading(axes[0][0], "Error (train: measured during training)", "step", "error")
    errors = drawing.finals(records, "test_error")
    if study.scales[data].papers_data:
        errors["LeNet-5 of 1998, printed"] = [PUBLISHED.value]
    drawing.bars(
        axes[0][1], errors, {"LeNet-5 of 1998, printed": GREY, MODERN: SERIES[0]}, digits=2
    )
    drawing.heading(axes[0][1], "Final test error", "error (%)")
    return figure


STUDY = Study(
    name="lenet5_modern",
    title="LeNet-5 in its modern form, over seeds",
    paper="LeCun et al. 1998",
    figure="section III.B",
    question="What is the test error of LeNet-5's modern form, and how much does the seed matter?",
    scales={
        "digits": Scale(
            (Run(MODERN, "configs/lenet5.py:data=digits", 20),),
            seeds=5,
            note="1,437 training and 360 test images resized to 32×32, 60 epochs, batches of 64.",
        ),
        "fashion_mnist": Scale(
            (Run(MODERN, "configs/lenet5.py:data=fashion_mnist", 220),),
            seeds=3,
            note="60,000 training and 10,000 test images resized to 32×32, 20 epochs.",
        ),
        "mnist": Scale(
            (Run(MODERN, "configs/lenet5.py:data=mnist", 220),),
            seeds=3,
            note="60,000 training and 10,000 test images resized to 32×32, 20 epochs.",
            papers_data=True,
        ),
    },
    claims=(_right(98.0, "digits"), _right(90.0, "fashion_mnist"), _right(99.05, "mnist")),
    columns=(steps_to(0.05),),
    published={MODERN: PUBLISHED.text},
    published_heading="published: LeNet-5 of 1998 on MNIST, test error (%)",
    draw=draw,
)
