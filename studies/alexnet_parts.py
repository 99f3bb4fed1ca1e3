"""Krizhevsky et al. 2012, sections 3.3, 3.4, 4.2 and 7: the effect of each part of AlexNet.

Removes local response normalisation, overlapping pooling or a middle layer, or adds dropout, one at
a time. AlexNet needs images of at least 67 pixels. Small images use cuda-convnet's net, as the
paper does in section 3.3; it has all these parts except the middle layer.
"""

from typing import Any

from matplotlib.figure import Figure

from papers import results
from reproduction import drawing
from reproduction.drawing import SERIES
from reproduction.study import Claim, Column, Records, Scale, Study, less_error, variants
from reproduction.tables import steps_to

WHOLE, DROPOUT = "all parts", "with dropout 0.5"
NO_LRN, POOL2 = "without LRN", "pooling 2×2, no overlap"
NO_CONV4 = "without conv4"

REMOVED: dict[str, dict[str, Any]] = {
    WHOLE: {},
    NO_LRN: {"model.lrn": False},
    POOL2: {"model.pool_window": 2},
}
SMALL = {**REMOVED, DROPOUT: {"model.dropout": 0.5}}
LARGE = {**REMOVED, NO_CONV4: {"model.removed": ("conv4",)}}

_CIFAR10 = {
    label: results.row("cuda_convnet_cifar10_conv_local", remark=remark)
    for label, remark in ((WHOLE, "with LRN"), (NO_LRN, "without LRN"))
}


def _gap(remark: str) -> str:
    """The loss of top-1 accuracy by a change of AlexNet, as printed: "≈ 2 points"."""
    return f"{results.row('alexnet_2012', '', 'top1_gap', remark).text} points"


def _top1(remark: str) -> tuple[float, float]:
    """The printed top-1 errors of AlexNet and of AlexNet with a change."""
    whole = results.row("alexnet_2012", "ten_crop").value
    return whole, whole + results.row("alexnet_2012", "", "top1_gap", remark).value


def _worse(changed: str, source: str, printed: tuple[float, float]) -> Claim:
    text = f"more test error “{changed}” than with all parts"
    return less_error(WHOLE, changed, text=text, source=source, printed=printed)


def draw(study: Study, data: str, records: Records) -> Figure:
    """Draws training error against the step, and final errors."""
    figure, axes = drawing.new(
        1,
        3,
        title="AlexNet's parts, one at a time",
        subtitle=f"{study.scales[data].note} Mean over seeds; dots: single seeds.",
        size=(16, 5.2),
    )
    colours = {label: SERIES[i] for i, label in enumerate(records)}
    drawing.curves(axes[0][0], records, group="train", colours=colours, room=1.0)
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
    paper="Krizhevsky et al. 2012",
    figure="sections 3.3, 3.4, 4.2 and 7",
    question="How much do response normalisation, overlapping pooling and dropout lower the error?",
    scales={
        "digits": Scale(
            variants("configs/cuda_convnet.py:data=digits", 15, SMALL),
            seeds=3,
            note="cuda-convnet's net at a quarter of its width, 1,437 images resized to 24×24, "
            "20 epochs.",
        ),
        "fashion_mnist": Scale(
            variants(
                "configs/cuda_convnet.py:data=fashion_mnist",
                80,
                SMALL,
                **{"data.train_images": 10_000},
            ),
            seeds=3,
            note="cuda-convnet's net at a quarter of its width, 10,000 of the 60,000 images at "
            "24×24, 20 epochs.",
        ),
        "cifar10": Scale(
            variants("configs/cuda_convnet.py:data=cifar10,scale=paper", 5400, SMALL),
            seeds=3,
            note="cuda-convnet's net and recipe, centre crop; the estimates are for one GPU.",
            papers_data=True,
        ),
        "imagenet2012": Scale(
            variants("configs/alexnet.py:data=imagenet2012,scale=paper", 4 * 24 * 3600, LARGE),
            seeds=1,
            note="AlexNet by the paper's recipe with dropout, one crop; the estimates are for one "
            "GPU.",
            papers_data=True,
        ),
    },
    claims=(
        _worse(NO_LRN, "section 3.3", (_CIFAR10[WHOLE].value, _CIFAR10[NO_LRN].value)),
        _worse(POOL2, "section 3.4", _top1(POOL2)),
        less_error(DROPOUT, WHOLE, text="dropout lowers the test error", source="section 4.2"),
        _worse(NO_CONV4, "section 7", _top1("without a middle convolution")),
    ),
    columns=(
        Column("parameters", lambda r: r.result["params"], digits=0, spread=False),
        steps_to(0.1),
    ),
    published={
        WHOLE: f"{_CIFAR10[WHOLE].text}% on CIFAR-10",
        NO_LRN: f"{_gap(NO_LRN)}, {_CIFAR10[NO_LRN].text}% on CIFAR-10",
        POOL2: _gap(POOL2),
        NO_CONV4: _gap("without a middle convolution"),
    },
    published_heading="published: loss of top-1 on ImageNet; test error on CIFAR-10",
    draw=draw,
)
