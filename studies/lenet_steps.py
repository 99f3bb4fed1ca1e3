"""From LeNet-5 of 1998 to the form that lectures teach, one change at a time.

Every run differs from the one before in one part; `STEPS` has the fields. The order is that of the
network, from C3 to its output, with one exception: softmax comes before ReLU, since the centres of
the radial-basis units have components of −1, which no ReLU reaches. Then the training changes: the
paper's step sizes, one image and its curvature at a time, give way to momentum, and single images
to batches of 64. The last network is that of `lenet5_modern`.

Initial weights are uniform in ±2.4/√fan-in throughout, a standard deviation of 1.39/√fan-in; He's
is 1.41. The step sizes of Levenberg-Marquardt are the printed ones in every run. Those of the last
two runs are the printed ones times a factor, the one of several with the least error on 10,000
validation images (seed 100; see results/LOG.md).
"""

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from configs import files
from papers import results
from reproduction import drawing
from reproduction.inference import NO_WORSE
from reproduction.records import Record
from reproduction.study import OURS, ROOT, Claim, Column, Records, Run, Scale, Study, less_error
from reproduction.tables import steps_to

PAPER = "LeNet-5 of 1998"
FULL = "full C3"
AVERAGE = "average pooling"
MAX = "max pooling"
SOFTMAX = "softmax"
RELU = "ReLU"
MOMENTUM = "SGD with momentum"
BATCHES = "batches of 64"


@dataclasses.dataclass(frozen=True)
class Step:
    """One change: an argument of configs/lenet5.py, and overrides, both added to those before.

    rate: the factor on the printed step sizes.
    """

    argument: str = ""
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    rate: float = 1.0


STEPS: dict[str, Step] = {
    PAPER: Step(),
    FULL: Step(overrides={"model.c3": "full"}),
    AVERAGE: Step(overrides={"model.subsampling": "average"}),
    MAX: Step(overrides={"model.subsampling": "max"}),
    SOFTMAX: Step("criterion=cross_entropy"),
    RELU: Step(overrides={"model.activation": "relu"}),
    MOMENTUM: Step("optimizer=sgd", {"optimizer.momentum": 0.9}, rate=2.0),
    BATCHES: Step(overrides={"batch_size": 64}, rate=80.0),
}


def _runs(config: str, seconds: float, batched: float, **overrides: Any) -> tuple[Run, ...]:
    """The runs of STEPS. seconds: of one with single images; batched: of one with batches."""
    printed = files.resolve(config, {}, ROOT).schedule.rates
    arguments, fields, runs = [config], dict(overrides), []
    for label, step in STEPS.items():
        arguments += [step.argument] if step.argument else []
        fields |= step.overrides
        rates = {"schedule.rates": tuple(step.rate * rate for rate in printed)}
        runs.append(
            Run(
                label,
                ",".join(arguments),
                batched if label == BATCHES else seconds,
                {**fields, **(rates if step.rate != 1 else {})},
            )
        )
    return tuple(runs)


def tenth(label: str) -> Callable[[Sequence[Mapping[str, Record]]], float]:
    """A margin: a tenth of the test error of `label`."""

    def margin(seeds: Sequence[Mapping[str, Record]]) -> float:
        return 10 * statistics.mean(seed[label].last("test_error") for seed in seeds)

    return margin


def _less(better: str, worse: str, text: str = "") -> Claim:
    claim = less_error(better, worse, text=text)
    return dataclasses.replace(claim, margin=tenth(worse))


def _no_worse(one: str, other: str, text: str, source: str = OURS) -> Claim:
    claim = less_error(one, other, text=text, source=source, kind=NO_WORSE)
    return dataclasses.replace(claim, margin=tenth(other))


def draw(study: Study, data: str, records: Records) -> Figure:
    """Draws the test errors in the order of the changes, and the test error by pass."""
    figure, axes = drawing.new(
        1,
        2,
        title="LeNet-5 from 1998 to today, one change at a time",
        subtitle=f"{study.scales[data].note} From top to bottom, each net has one change more. "
        f"{drawing.LEGEND}",
        size=(13, 5),
    )
    # The network's changes in one colour, those of its training in another.
    network, training = drawing.SERIES[0], drawing.SERIES[1]
    colours = {
        label: training if label in (MOMENTUM, BATCHES) else network for label in records
    } | {PAPER: drawing.GREY}
    errors = drawing.finals(records, "test_error")
    named = {label if label == PAPER else f"+ {label}": have for label, have in errors.items()}
    shades = {name: colours[label] for name, label in zip(named, errors, strict=True)}
    drawing.bars(
        axes[0][0],
        named,
        shades,
        stalled=dict(zip(named, drawing.stalls(records).values(), strict=False)),
    )
    drawing.heading(axes[0][0], "Final test error", "error (%)")

    panel, labels = axes[0][1], []
    for label, colour in zip(
        (PAPER, RELU, BATCHES), (drawing.GREY, network, training), strict=True
    ):
        seeds = drawing.moving(records).get(label)
        if not seeds:
            continue
        row = next(iter(seeds.values())).rows[0]
        end = drawing.curve(panel, seeds, "test", colour, per=row["step"] / row["epoch"])
        if end is not None:
            name = label if label == PAPER else f"+ … {label}"
            labels.append((*end, f"{name}  {end[1]:.1f}%", colour))
    drawing.heading(panel, "Test error by pass", "pass", "error")
    drawing.percent(panel)
    drawing.room_right(panel, 0.5)
    drawing.ends(panel, labels)
    return figure


CENTRED = {"data.normalize": ("lenet()", "channel_mean()"), "eval.every": "2 epochs"}

STUDY = Study(
    name="lenet_steps",
    title="LeNet-5 from 1998 to today, one change at a time",
    paper="LeCun et al. 1998",
    figure="section II.B, and the lecture",
    question="What does each of the changes that lectures make to LeNet-5 do to its error?",
    scales={
        "fashion_mnist": Scale(
            _runs(
                "configs/lenet5.py:net=1998,data=fashion_mnist",
                40,
                10,
                **CENTRED,
                **{"data.train_images": 2_000},
            ),
            seeds=5,
            note="2,000 of 60,000 training images, their mean subtracted, 20 passes; 10,000 test "
            "images.",
        ),
        "mnist": Scale(
            _runs("configs/lenet5.py:net=1998,data=mnist", 1_200, 100, **CENTRED),
            seeds=5,
            note="The paper's data, 20 passes.",
            papers_data=True,
        ),
    },
    claims=(
        _no_worse(
            PAPER,
            FULL,
            "the connections of Table I cost no more than a tenth of the full C3's test error",
            "section II.B",
        ),
        _no_worse(
            AVERAGE,
            FULL,
            "average pooling has no more test error than trainable subsampling, to within a tenth",
        ),
        _less(MAX, AVERAGE),
        _less(SOFTMAX, MAX, "less test error with softmax than with radial-basis units"),
        _less(RELU, SOFTMAX, "less test error with ReLU than with the scaled tanh"),
        _no_worse(
            MOMENTUM,
            RELU,
            "momentum ends with no more test error than Levenberg-Marquardt, to within a tenth",
        ),
        _no_worse(
            BATCHES,
            MOMENTUM,
            "batches of 64 end with no more test error than single images, to within a tenth",
        ),
        _less(BATCHES, PAPER, "all changes together lower the test error"),
    ),
    columns=(
        Column("parameters", lambda r: r.result["params"], digits=0, spread=False),
        Column(
            "multiply-adds an image", lambda r: r.result["multiply_adds"], digits=0, spread=False
        ),
        steps_to(0.2, "test"),
    ),
    published={PAPER: results.row("lenet5_1998").text},
    published_heading="published: MNIST test error (%)",
    draw=draw,
)
