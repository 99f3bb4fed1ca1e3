"""Krizhevsky et al. 2012, Fig. 1: the updates that ReLU and tanh need to reach 25% training error.

Each activation at its best learning rate of a grid. Both use He's initialization: with that of the
released configuration ReLU stays at chance on small data.
"""

import statistics
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from reproduction import drawing
from reproduction.drawing import GREY
from reproduction.records import Record
from reproduction.study import Claim, Column, Records, Run, Scale, Study

TARGET = 0.25
RATES = (0.003, 0.01, 0.03, 0.1)
NAMES = {"relu": "ReLU", "tanh": "tanh"}
COLOURS = {"relu": "#1f6f9f", "tanh": "#c8553d"}


def label(activation: str, rate: float) -> str:
    """ "ReLU, rate 0.01"."""
    return f"{NAMES[activation]}, rate {rate:g}"


def _runs(data: str, seconds: float, scale: str, **overrides: object) -> tuple[Run, ...]:
    return tuple(
        Run(
            label(activation, rate),
            f"configs/relu_vs_tanh.py:activation={activation},rate={rate:g},data={data},"
            f"scale={scale}",
            seconds,
            overrides,
        )
        for activation in NAMES
        for rate in RATES
    )


def steps(record: Record) -> int | None:
    """Updates until the training error is 25%."""
    return record.steps_to(TARGET)


def reaching(seeds: Mapping[int, Record]) -> list[float]:
    """The updates until 25%, of the seeds that reach it."""
    return [float(count) for record in seeds.values() if (count := steps(record)) is not None]


def fastest(seed: Mapping[str, Record], activation: str) -> int | None:
    """The fewest updates over the grid of rates; None if no rate reaches 25%."""
    found = [steps(seed[label(activation, rate)]) for rate in RATES]
    reached = [count for count in found if count is not None]
    return min(reached) if reached else None


def _advantage(seed: Mapping[str, Record], factor: float) -> float | None:
    relu, tanh = fastest(seed, "relu"), fastest(seed, "tanh")
    return None if relu is None or tanh is None else tanh - factor * relu


def _claim(text: str, factor: int) -> Claim:
    def margin(seeds: Sequence[Mapping[str, Record]]) -> float:
        """Half of the gap that there is if tanh needs six times the updates, as in Fig. 1."""
        needed = [steps for seed in seeds if (steps := fastest(seed, "tanh")) is not None]
        return (6 - factor) / 6 / 2 * statistics.mean(needed) if needed else 0.0

    return Claim(
        text,
        lambda seed: _advantage(seed, factor),
        runs=tuple(label(activation, rate) for activation in NAMES for rate in RATES),
        source="Fig. 1",
        margin=margin,
        unit="updates",
        without_stalls=False,  # a rate of the grid that stalls is not the best one
    )


def draw(study: Study, data: str, records: Records) -> Figure:
    """Draws training error of each activation at its best rate, and updates over the grid."""
    figure, axes = drawing.new(
        1,
        2,
        title=f"Updates until {100 * TARGET:.0f}% training error: ReLU against tanh",
        subtitle=f"{study.scales[data].note} Mean over seeds; dots: single seeds.",
        size=(13, 5.2),
    )
    curves, labels = axes[0][0], []
    for activation, colour in COLOURS.items():
        # Only rates at which every seed reaches the target.
        means = {
            rate: statistics.mean(reached)
            for rate in RATES
            if (seeds := records.get(label(activation, rate)))
            and len(reached := reaching(seeds)) == len(seeds)
        }
        if not means:
            continue
        best = min(means, key=lambda rate: means[rate])
        at, values = drawing.mean_curve(records[label(activation, best)].values(), "train")
        curves.plot(at, values, color=colour, lw=2)
        text = f"{label(activation, best)}:\n{means[best]:.0f} updates"
        labels.append((at[-1], values[-1], text, colour))
    curves.axhline(100 * TARGET, color=GREY, lw=1, ls=":")
    curves.set_ylim(0, 100)
    drawing.percent(curves)
    drawing.heading(curves, "Training error, each at its best rate", "update", "error")
    drawing.room_right(curves, 0.35)
    drawing.ends(curves, labels, gap=0.14)

    grid, marks = axes[0][1], []
    for activation, colour in COLOURS.items():
        rates, counts = [], []
        for rate in RATES:
            reached = reaching(records.get(label(activation, rate), {}))
            if reached:
                rates.append(rate)
                counts.append(reached)
        if rates:
            drawing.scatter(grid, rates, counts, colour)
            end = sum(counts[-1]) / len(counts[-1])
            marks.append((rates[-1], end, NAMES[activation], colour))
    grid.set_xscale("log")
    grid.set_xticks(RATES, [f"{rate:g}" for rate in RATES])
    grid.minorticks_off()
    grid.set_ylim(bottom=0)
    drawing.heading(grid, "Updates until 25%, by learning rate", "learning rate", "updates")
    grid.set_xlim(RATES[0] * 0.8, RATES[-1] * 2.5)
    drawing.ends(grid, marks)
    return figure


STUDY = Study(
    name="relu_vs_tanh",
    title="ReLU against tanh",
    paper="Krizhevsky et al. 2012",
    figure="Fig. 1",
    question="Does ReLU reach 25% training error in a fraction of the updates tanh needs?",
    scales={
        "digits": Scale(
            _runs("digits", 14, "small", **{"duration": "110 steps", "log_every": "2 steps"}),
            seeds=5,
            note="The four-layer cuda-convnet net, digits at 16×16, batches of 128, He's "
            "initialization.",
        ),
        "fashion_mnist": Scale(
            _runs(
                "fashion_mnist",
                26,
                "small",
                **{"duration": "200 steps", "log_every": "2 steps", "data.size": 16},
            ),
            seeds=3,
            note="The four-layer cuda-convnet net, 60,000 images at 16×16, batches of 128.",
        ),
        "cifar10": Scale(
            _runs("cifar10", 600, "paper", **{"log_every": "50 steps"}),
            seeds=3,
            note="The four-layer cuda-convnet net, 40 epochs; the estimates are for one GPU.",
            papers_data=True,
        ),
    },
    claims=(
        _claim("ReLU at its best rate needs fewer updates than tanh at its best", 1),
        _claim("tanh needs at least three times as many updates (the paper: six times)", 3),
    ),
    columns=(Column("updates to 25% training error", steps, digits=0, missing="never"),),
    draw=draw,
)
