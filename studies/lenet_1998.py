"""LeCun et al. 1998, Fig. 5 and 6: error by pass, and by number of training images.

The 1998 network with its own training: one image per update, diagonal Levenberg-Marquardt, 20
passes. Further rows for what the paper leaves open: the criterion of eq. 9, and the initial weights
as printed, which saturate with the printed step sizes.

The printed step sizes η are for inputs of mean 0. The paper's scaling gives MNIST such a mean, but
Fashion-MNIST 0.27. So a scale of its own subtracts the mean, and also has η/2 and η/4.
"""

import dataclasses
import itertools
import math
import statistics
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from papers import results
from reproduction import drawing
from reproduction.drawing import GREY
from reproduction.inference import LEVEL, NO_WORSE
from reproduction.records import Record
from reproduction.study import Claim, Records, Run, Scale, Study, less_error
from reproduction.tables import steps_to

PRINTED_START = "printed initial weights"
MAP = "criterion of eq. 9 (MAP)"


RATES = {"": 1.0, ", η/2": 0.5, ", η/4": 0.25}  # factors on η, by ending of the label
SHADES = (drawing.SERIES[0], "#4f95c0", "#8bbcda")  # of the test errors with each of RATES
CENTRED = "fashion_mnist_mean_0"


def _label(images: int, arm: str = "") -> str:
    return f"{images:,} images{arm}"


def _runs(
    data: str, sizes: tuple[int, ...], stored: int, per_image: float, variants: bool
) -> tuple[Run, ...]:
    config = f"configs/lenet5.py:net=1998,data={data}"
    runs = []
    for size in sizes:
        overrides: dict[str, Any] = {"data.train_images": size} if size < stored else {}
        if stored > 10_000:
            overrides["eval.every"] = "2 epochs"
        runs.append(Run(_label(size), config, 12 + per_image * size, overrides))
    if variants:
        runs += [
            Run(MAP, f"{config},criterion=map", 12 + per_image * stored),
            Run(PRINTED_START, f"{config},init=paper", 12 + per_image * stored),
        ]
    return tuple(runs)


def _centred_runs(sizes: tuple[int, ...]) -> tuple[Run, ...]:
    """Inputs of mean 0, for each of RATES and each size."""
    config = "configs/lenet5.py:net=1998,data=fashion_mnist"
    rates = Run("", config, 0).resolve(0).schedule.rates
    return tuple(
        Run(
            _label(size, arm),
            config,
            12 + 0.02 * size,
            {
                "data.train_images": size,
                "data.normalize": ("lenet()", "channel_mean()"),
                "schedule.rates": tuple(factor * rate for rate in rates),
                "eval.every": "2 epochs",
            },
        )
        for arm, factor in RATES.items()
        for size in sizes
    )


PUBLISHED = {
    15_000: results.row("lenet5_1998", remark="15,000 training images"),
    60_000: results.row("lenet5_1998"),
}
SIZES = {
    "digits": (359, 718, 1_437),
    "fashion_mnist": (2_500, 5_000, 10_000),
    CENTRED: (2_500, 5_000, 10_000),
    "mnist": (15_000, 30_000, 60_000),
}


def _test(seed: Mapping[str, Record], label: str) -> float:
    return 100 * seed[label].last("test_error")


def _at_best_rate(seed: Mapping[str, Record], images: int) -> float:
    """The test error with the rate that leaves the least training error."""
    labels = [_label(images, arm) for arm in RATES]
    return _test(seed, min(labels, key=lambda label: seed[label].last("train_error")))


def _claims(data: str) -> tuple[Claim, ...]:
    """The claims of Fig. 5 and 6, for the sizes of a data set."""
    sizes = SIZES[data]
    whole = _label(sizes[-1])

    # Fig. 6 has the ratio of errors for four times the images; its root is for twice as many.
    twice = math.sqrt(PUBLISHED[60_000].value / PUBLISHED[15_000].value)

    def more_images(fewer: int, more: int) -> Claim:
        text = f"{more:,} images give less test error than {fewer:,}"
        labels = (_label(more), _label(fewer))
        claim = less_error(*labels, text=text, source="Fig. 6", printed=(twice, 1.0))
        return dataclasses.replace(claim, on=(data,))

    def more_at_best_rate(fewer: int, more: int) -> Claim:
        def gap(seed: Mapping[str, Record]) -> float:
            return _at_best_rate(seed, fewer) - _at_best_rate(seed, more)

        return dataclasses.replace(
            more_images(fewer, more),
            text=f"{more:,} images give less test error than {fewer:,}, each with the rate of "
            "least training error",
            gap=gap,
            runs=tuple(_label(size, arm) for size in (more, fewer) for arm in RATES),
            test_errors=None,
        )

    compared = more_at_best_rate if data == CENTRED else more_images

    def settled(seed: Mapping[str, Record]) -> float | None:
        rows = [row for row in seed[whole].rows if "test" in row and round(row["epoch"]) == 12]
        if not rows:
            return None
        return 100 * rows[0]["test"]["error"] - _test(seed, whole)

    def not_over_trained(seed: Mapping[str, Record]) -> float:
        best = 100 * seed[whole].result["test_best"]["test_error"]
        return best - _test(seed, whole)

    return (
        *(compared(fewer, more) for fewer, more in itertools.pairwise(sizes)),
        Claim(
            "after 12 passes the test error is within 0.5 points of the final one",
            settled,
            runs=(whole,),
            source="Fig. 5",
            margin=0.5,
            kind=LEVEL,
            on=(data,),
        ),
        Claim(
            "no over-training: the final test error is within 0.5 points of the best",
            not_over_trained,
            runs=(whole,),
            source="Fig. 5",
            margin=0.5,
            kind=NO_WORSE,
            on=(data,),
        ),
    )


def draw(study: Study, data: str, records: Records) -> Figure:
    """Draws Fig. 5, Fig. 6, and the variants."""
    sizes = [size for size in SIZES[data] if _label(size) in records]
    whole = records[_label(sizes[-1])]
    figure, axes = drawing.new(
        1,
        3,
        title="LeNet-5 as trained in 1998: error by pass and by number of training images",
        subtitle=f"{study.scales[data].note} {drawing.LEGEND}",
        size=(16, 5.2),
    )
    per_pass = next(iter(whole.values())).rows[0]
    steps_a_pass = per_pass["step"] / per_pass["epoch"]
    labels = []
    for group, colour, name in (
        ("test", drawing.SERIES[0], "test"),
        ("train", drawing.SERIES[1], "during\ntraining"),
    ):
        end = drawing.curve(axes[0][0], whole, group, colour, per=steps_a_pass)
        if end is not None:
            labels.append((*end, f"{name}  {end[1]:.1f}%", colour))
    drawing.heading(axes[0][0], f"Error by pass, {sizes[-1]:,} images (Fig. 5)", "pass", "error")
    drawing.percent(axes[0][0])
    # As in Fig. 5, the first passes may be above the top of the axis.
    highest = axes[0][0].get_ylim()[1]
    axes[0][0].set_ylim(0, min(highest, 4 * max(1.0, *(last for _, last, *_ in labels))))
    drawing.room_right(axes[0][0], 0.35)
    drawing.ends(axes[0][0], labels, gap=0.12)

    panel = axes[0][1]
    colours: dict[str, str] = {}
    marks = []
    for arm, shade in zip(RATES, SHADES, strict=True):
        colours |= {_label(size, arm): shade for size in sizes}
        have = [size for size in sizes if _label(size, arm) in records]
        if not have:
            continue
        found = [records[_label(size, arm)].values() for size in have]
        errors = [[100 * record.last("test_error") for record in seeds] for seeds in found]
        drawing.scatter(panel, have, errors, shade)
        rate = arm.removeprefix(", ") or "η"
        name = "measured here" if data == "mnist" else rate
        marks.append((have[-1], statistics.mean(errors[-1]), name, shade))
    if data == "mnist":
        printed = {size: row.value for size, row in PUBLISHED.items()}
        drawing.scatter(panel, list(printed), [[v] for v in printed.values()], GREY)
        marks.append((60_000, printed[60_000], "published", GREY))
    panel.set_xscale("log", base=2)
    panel.set_xticks(sizes, [f"{size:,}" for size in sizes])
    panel.set_ylim(bottom=0)
    drawing.percent(panel)
    drawing.heading(panel, "Test error by training images (Fig. 6)", "images", "error")
    if len(marks) > 1:
        drawing.room_right(panel, 0.3)
        drawing.ends(panel, marks)

    drawing.bars(axes[0][2], drawing.finals(records, "test_error"), colours)
    drawing.heading(axes[0][2], "Final test error of all runs", "error (%)")
    return figure


STUDY = Study(
    name="lenet_1998",
    title="LeNet-5 with its own training",
    paper="LeCun et al. 1998",
    figure="Fig. 5 and 6",
    question="How does the error depend on passes and on the number of training images?",
    scales={
        "digits": Scale(
            _runs("digits", SIZES["digits"], 1_437, 0.02, variants=True),
            seeds=5,
            note="1,437 training images resized to 32×32, 20 passes, one image per update.",
        ),
        "fashion_mnist": Scale(
            _runs("fashion_mnist", SIZES["fashion_mnist"], 60_000, 0.02, variants=False),
            seeds=3,
            note="Up to 10,000 of 60,000 training images, 20 passes, one image per update.",
        ),
        CENTRED: Scale(
            _centred_runs(SIZES[CENTRED]),
            seeds=3,
            note="Up to 10,000 of 60,000 training images, their mean subtracted, 20 passes, one "
            "image per update.",
            data_set="fashion_mnist",
        ),
        "mnist": Scale(
            _runs("mnist", SIZES["mnist"], 60_000, 0.02, variants=True),
            seeds=3,
            note="The paper's data and recipe.",
            papers_data=True,
        ),
    },
    claims=(
        *_claims("digits"),
        *_claims("fashion_mnist"),
        *_claims(CENTRED),
        *_claims("mnist"),
        dataclasses.replace(
            less_error(
                _label(10_000),
                _label(10_000, ", η/4"),
                text="with inputs of mean 0, η ends at most 1 point above η/4",
                kind=NO_WORSE,
            ),
            on=(CENTRED,),
        ),
        less_error(
            PRINTED_START,
            _label(1_437),
            text="initial weights as printed, ±2.4/fan-in, end at most 1 point above ±2.4/√fan-in",
            kind=NO_WORSE,
        ),
        less_error(
            MAP, _label(1_437), text="eq. 9 ends with less test error than eq. 8", margin=0.5
        ),
    ),
    columns=(steps_to(0.05, "test"),),
    published={_label(size): row.text for size, row in PUBLISHED.items()},
    published_heading="published: MNIST test error (%)",
    draw=draw,
)
