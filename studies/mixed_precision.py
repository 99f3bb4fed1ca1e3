"""The same runs with layers computed in bfloat16 and in float32.

Not from a paper: the papers computed in float32. Weights, batch statistics, losses and updates
stay in float32; only layers compute in bfloat16.
"""

from matplotlib.figure import Figure

from reproduction import drawing
from reproduction.drawing import PLAIN, RESIDUAL
from reproduction.inference import LEVEL
from reproduction.study import Claim, Column, Records, Run, Scale, Study, less_error
from studies import degradation

LENET, RESNET = NETS = ("LeNet-5, modern", "ResNet-20")
TYPES = {"float32": RESIDUAL, "bfloat16": PLAIN}


def label(net: str, dtype: str) -> str:
    """ "ResNet-20, bfloat16"."""
    return f"{net}, {dtype}"


def _runs(net: str, config: str, seconds: float, **overrides: object) -> tuple[Run, ...]:
    return (
        Run(label(net, "float32"), config, seconds, overrides),
        Run(label(net, "bfloat16"), config, 2 * seconds, {**overrides, "model.dtype": "bfloat16"}),
    )


def _within(net: str, metric: str, points: float) -> Claim:
    what = {"train_error": "training", "test_error": "test"}[metric]
    text = f"{net}: both end within {points:g} point of {what} error"
    labels = [label(net, dtype) for dtype in TYPES]
    return less_error(labels[1], labels[0], metric, text, margin=points, kind=LEVEL)


def _top(records: Records) -> float:
    """The top of the panel in percent, which may cut off the first steps."""
    errors = drawing.finals(records, "test_error")
    return max(5.0, *(3 * value for values in errors.values() for value in values))


def draw(study: Study, data: str, records: Records) -> Figure:
    """Draws test error against the step for each net in both types, and final test errors."""
    figure, axes = drawing.new(
        1,
        len(NETS) + 1,
        title="The same nets computed in float32 and in bfloat16",
        subtitle=f"{study.scales[data].note} {drawing.LEGEND}",
        size=(16, 5.2),
    )
    for panel, net in zip(axes[0], NETS, strict=False):
        here = {
            dtype: records[label(net, dtype)] for dtype in TYPES if label(net, dtype) in records
        }
        drawing.curves(panel, here, colours=TYPES, room=0.5, top=_top(here))
        drawing.heading(panel, f"{net}: test error", "step", "error")
    drawing.bars(
        axes[0][-1],
        drawing.finals(records, "test_error"),
        {label(net, dtype): colour for net in NETS for dtype, colour in TYPES.items()},
        digits=2,
    )
    drawing.heading(axes[0][-1], "Final test error", "error (%)")
    return figure


STUDY = Study(
    name="mixed_precision",
    title="Mixed precision: bfloat16 against float32",
    paper="no paper",
    figure="a check of the code",
    question="Does a run with layers in bfloat16 reach the same error as in float32?",
    scales={
        "digits": Scale(
            (
                *_runs(LENET, "configs/lenet5.py:data=digits", 16),
                *_runs(RESNET, "configs/resnet_cifar.py:depth=20,data=digits", 22),
            ),
            seeds=3,
            note="1,437 training images; LeNet-5 for 60 epochs, ResNet-20 for 330 steps.",
        ),
        "fashion_mnist_scenes": Scale(
            (
                *_runs(LENET, "configs/lenet5.py:data=fashion_mnist_scenes", 40),
                *_runs(
                    RESNET,
                    degradation.config(20, "A", "fashion_mnist_scenes", "paper"),
                    40,
                    **degradation.lasting(degradation.STEPS),
                ),
            ),
            seeds=degradation.SEEDS[20],
            note="60,000 training images; LeNet-5 for 20 epochs, ResNet-20 for "
            f"{degradation.STEPS:,} steps as in `degradation`.",
            gpu=True,
        ),
    },
    claims=tuple(
        _within(net, metric, 1) for net in NETS for metric in ("train_error", "test_error")
    ),
    columns=(Column("final test loss", lambda record: record.last("test_loss"), digits=4),),
    draw=draw,
)
