"""Krizhevsky et al. 2012, Fig. 1: the updates that ReLU and tanh need to reach a training error.

The paper's error of 25% takes a fraction of an epoch on Fashion-MNIST, so there are three lower
ones. The error is the mean over the last pass of all training images, since that of a few batches
crosses a target by chance. Each activation has the initial weights that suit it (He's for ReLU,
Glorot's for tanh) and the best of a few learning rates: on Fashion-MNIST the one that led after two
epochs of a sweep with another seed, and the next lower one (results/LOG.md).
"""

import statistics
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduction import drawing
from reproduction.drawing import GREY
from reproduction.records import Record
from reproduction.study import Claim, Column, Records, Run, Scale, Study

TARGETS = {"fashion_mnist": (0.10, 0.05, 0.02), "cifar10": (0.25,)}
RATES: dict[str, dict[str, tuple[float, ...]]] = {
    "fashion_mnist": {"relu": (0.01, 0.03), "tanh": (0.03, 0.1)},
    "cifar10": dict.fromkeys(("relu", "tanh"), (0.001, 0.003, 0.01, 0.03, 0.1)),
}
NAMES = {"relu": "ReLU", "tanh": "tanh"}
COLOURS = {"relu": "#1f6f9f", "tanh": "#c8553d"}


def label(activation: str, rate: float) -> str:
    """ "ReLU, rate 0.01"."""
    return f"{NAMES[activation]}, rate {rate:g}"


def _runs(data: str, seconds: float, **overrides: object) -> tuple[Run, ...]:
    return tuple(
        Run(
            label(activation, rate),
            f"configs/relu_vs_tanh.py:activation={activation},rate={rate:g},data={data}",
            seconds,
            {**overrides, "log_every": "0.25 epochs"},
        )
        for activation, rates in RATES[data].items()
        for rate in rates
    )


def over_passes(record: Record) -> tuple[list[int], list[float]]:
    """Steps, and the mean training error over the pass of all images that ends there."""
    steps, errors = record.curve("train")
    rows = round(1 / record.rows[0]["epoch"])
    means = [statistics.mean(errors[i - rows : i]) for i in range(rows, len(errors) + 1)]
    return steps[rows - 1 :], means


def updates(record: Record, target: float) -> float | None:
    """Updates until the error over a pass is `target`, between logged steps by a straight line.

    None if it is never reached.
    """
    steps, errors = over_passes(record)
    for i, error in enumerate(errors):
        if error <= target:
            if i == 0:
                return float(steps[0])
            share = (errors[i - 1] - target) / (errors[i - 1] - error)
            return steps[i - 1] + share * (steps[i] - steps[i - 1])
    return None


def fastest(seed: Mapping[str, Record], data: str, activation: str, target: float) -> float | None:
    """The fewest updates over the rates; None if no rate reaches the target."""
    found = [updates(seed[label(activation, rate)], target) for rate in RATES[data][activation]]
    return min((count for count in found if count is not None), default=None)


def advantage(seed: Mapping[str, Record], data: str, target: float, factor: int) -> float | None:
    """Updates of tanh less `factor` times those of ReLU.

    An activation that never reaches the target counts with the updates of the whole run: then this
    is a bound, and None unless it is on the side that the bound allows.
    """
    relu, tanh = (fastest(seed, data, activation, target) for activation in ("relu", "tanh"))
    whole = next(iter(seed.values())).rows[-1]["step"]
    gap = (whole if tanh is None else tanh) - factor * (whole if relu is None else relu)
    if (tanh is None and gap < 0) or (relu is None and gap > 0) or (tanh is None and relu is None):
        return None
    return gap


def _claim(data: str, target: float, factor: int) -> Claim:
    def margin(seeds: Sequence[Mapping[str, Record]]) -> float:
        """Half of the gap that there is if tanh needs six times the updates, as in Fig. 1."""
        needed = [
            count for seed in seeds if (count := fastest(seed, data, "tanh", target)) is not None
        ]
        return (6 - factor) / 6 / 2 * statistics.mean(needed) if needed else 0.0

    whole = f"{100 * target:g}% training error"
    text = (
        f"ReLU at its best rate reaches {whole} in fewer updates than tanh at its best"
        if factor == 1
        else f"tanh needs at least three times as many updates to {whole} (the paper: six times)"
    )
    return Claim(
        text,
        lambda seed: advantage(seed, data, target, factor),
        runs=tuple(label(act, rate) for act, rates in RATES[data].items() for rate in rates),
        source="Fig. 1",
        margin=margin,
        unit="updates",
        on=(data,),
        without_stalls=False,  # a rate that stalls is not the best one
    )


def _column(target: float) -> Column:
    return Column(
        f"updates to {100 * target:g}% training error",
        lambda record: updates(record, target),
        digits=0,
        missing="never",
    )


def _reaching(seeds: Mapping[int, Record], target: float) -> list[float]:
    found = [updates(record, target) for record in seeds.values()]
    return [count for count in found if count is not None]


def _best(records: Records, data: str, activation: str, target: float) -> tuple[str, list[float]]:
    """The label of the rate that every seed reaches the target at soonest, and its updates."""
    found = []
    for rate in RATES[data][activation]:
        seeds = records.get(label(activation, rate), {})
        reached = _reaching(seeds, target)
        if reached and len(reached) == len(seeds):
            found.append((statistics.mean(reached), label(activation, rate), reached))
    return min(found)[1:] if found else ("", [])


def draw(study: Study, data: str, records: Records) -> Figure:
    """Draws training error at the best rates, updates by rate, and updates by target."""
    targets = TARGETS[data]
    middle = targets[len(targets) // 2]
    figure, axes = drawing.new(
        1,
        3,
        title="Updates until a training error: ReLU against tanh",
        subtitle=f"{study.scales[data].note} {drawing.LEGEND}",
        size=(16, 5.2),
    )
    _curves(axes[0][0], data, records, middle)
    _by_rate(axes[0][1], data, records, middle)
    counts, colours = {}, {}
    for target in targets:
        for activation, colour in COLOURS.items():
            name, reached = _best(records, data, activation, target)
            if reached:
                key = f"{100 * target:g}%: {name}"
                counts[key], colours[key] = reached, colour
    if counts:
        drawing.bars(axes[0][2], counts, colours, digits=0, unit="")
    drawing.heading(axes[0][2], "Updates until an error, each at its best rate", "updates")
    return figure


def _curves(panel: Axes, data: str, records: Records, target: float) -> None:
    labels = []
    for activation, colour in COLOURS.items():
        name, _ = _best(records, data, activation, target)
        if not name:
            continue
        each = [over_passes(record) for record in records[name].values()]
        steps = each[0][0]
        at = [[100 * errors[i] for _, errors in each] for i in range(len(steps))]
        means = [statistics.mean(values) for values in at]
        panel.plot(steps, means, color=colour, lw=2)
        panel.fill_between(
            steps, [min(v) for v in at], [max(v) for v in at], color=colour, alpha=0.12, linewidth=0
        )
        labels.append((steps[-1], means[-1], f"{name}  {means[-1]:.1f}%", colour))
    for line in TARGETS[data]:
        panel.axhline(100 * line, color=GREY, lw=1, ls=":")
    panel.set_yscale("log")
    panel.set_yticks([1, 2, 5, 10, 20, 50])
    panel.minorticks_off()
    drawing.percent(panel)
    title = f"Training error over a pass, rates best for {100 * target:g}%"
    drawing.heading(panel, title, "update", "error")
    drawing.room_right(panel, 0.6)
    drawing.ends(panel, labels)


def _by_rate(panel: Axes, data: str, records: Records, target: float) -> None:
    every = sorted({rate for rates in RATES[data].values() for rate in rates})
    marks = []
    for activation, colour in COLOURS.items():
        found = [
            (rate, reached)
            for rate in RATES[data][activation]
            if (reached := _reaching(records.get(label(activation, rate), {}), target))
        ]
        if found:
            drawing.scatter(panel, [rate for rate, _ in found], [r for _, r in found], colour)
            marks.append((found[-1][0], statistics.mean(found[-1][1]), NAMES[activation], colour))
    panel.set_xscale("log")
    panel.set_xticks(every, [f"{rate:g}" for rate in every])
    panel.minorticks_off()
    panel.set_ylim(bottom=0)
    drawing.heading(
        panel, f"Updates until {100 * target:g}%, by learning rate", "learning rate", "updates"
    )
    panel.set_xlim(every[0] * 0.8, every[-1] * 2.5)
    drawing.ends(panel, marks)


STUDY = Study(
    name="relu_vs_tanh",
    title="ReLU against tanh",
    paper="Krizhevsky et al. 2012",
    figure="Fig. 1",
    question="Does ReLU reach a training error in a fraction of the updates tanh needs?",
    scales={
        "fashion_mnist": Scale(
            _runs("fashion_mnist", 1800, **{"eval.every": "4 epochs"}),
            seeds=5,
            note="The four-layer cuda-convnet net, 60,000 images, 40 epochs of batches of 128.",
        ),
        "cifar10": Scale(
            _runs("cifar10", 600),
            seeds=3,
            note="The four-layer cuda-convnet net, 40 epochs; the estimates are for one GPU.",
            papers_data=True,
        ),
    },
    claims=tuple(
        _claim(data, target, factor)
        for data, targets in TARGETS.items()
        for target in targets
        for factor in (1, 3)
    ),
    columns=tuple(map(_column, (0.25, *TARGETS["fashion_mnist"]))),
    draw=draw,
)
