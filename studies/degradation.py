"""He et al. 2016a, Fig. 1, 6, 7 and Table 6: deeper plain nets train worse, residual nets do not.

On scenes, and on digits and Fashion-MNIST with 3,300 steps, the recipe is the paper's for CIFAR-10
with fewer steps; only 110 layers have its warm-up. On digits and on Fashion-MNIST with few steps
all depths have that warm-up: without it plain-56 stays at chance, which is not the paper's
phenomenon, so it has its own row.

On CIFAR-10 an independent PyTorch project has these test errors, over five runs: plain-20 9.78 ±
0.13, plain-56 12.95 ± 0.22, ResNet-20 8.51 ± 0.22, ResNet-56 7.40 ± 0.27, ResNet-110 7.14 ± 0.20%.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from papers import results
from reproduction import drawing
from reproduction.drawing import PLAIN, RESIDUAL
from reproduction.inference import NO_WORSE
from reproduction.study import OURS, STALLS, Claim, Column, Records, Run, Scale, Study, less_error
from reproduction.tables import steps_to
from studies import responses

# On scenes: steps of 128, at whose end the training error must be flat, and when the rate drops.
# The paper has 64,000 steps, with drops at 50 and 75% of them.
STEPS, DROPS = 9_400, (0.5, 0.75)
SEEDS = {20: 5, 32: 3, 44: 3, 56: 5, 110: 1}  # on scenes, by depth
LONG = 3_300  # steps on digits and on all of Fashion-MNIST at 14×14 pixels

DEPTHS = (20, 32, 44, 56, 110)
KINDS = {"plain": "none", "ResNet": "A"}  # and their shortcut
# The paper's nets on CIFAR-10; the values of plain nets were read off Fig. 6 by others.
PUBLISHED = {
    "plain": {depth: results.row(f"plain{depth}_cifar10") for depth in DEPTHS},
    "ResNet": {depth: results.row(f"resnet{depth}_cifar10_A") for depth in DEPTHS},
}
STALL = "plain-56 without warm-up"
RESPONSES_OF = (20, 56, 110)  # the depths of Fig. 7
# One hue per kind, darker with depth.
SHADES = {
    "plain": dict(
        zip(DEPTHS, ("#e79a84", "#dc7a60", "#c8553d", "#973521", "#571a0d"), strict=True)
    ),
    "ResNet": dict(
        zip(DEPTHS, ("#7db8dc", "#559dc8", "#2f80b0", "#175a83", "#0a2f47"), strict=True)
    ),
}


def label(kind: str, depth: int) -> str:
    """ "plain-56", "ResNet-56"."""
    return f"{kind}-{depth}"


def config(depth: int, shortcut: str, data: str, scale: str) -> str:
    """The config of a net, as for --config."""
    return f"configs/resnet_cifar.py:depth={depth},shortcut={shortcut},data={data},scale={scale}"


def lasting(steps: int) -> dict[str, Any]:
    """The overrides for so many steps, with the paper's drops at the same fractions."""
    drops = tuple(f"{round(steps * share)} steps" for share in DROPS)
    return {"duration": f"{steps} steps", "schedule.drops": drops}


def _runs(
    data: str,
    scale: str,
    seconds: Mapping[int, float],
    overrides: Mapping[str, Any],
    seeds: Mapping[int, int] | None = None,
) -> tuple[Run, ...]:
    return tuple(
        Run(
            label(kind, depth),
            config(depth, shortcut, data, scale),
            seconds[depth],
            overrides,
            seeds=(seeds or {}).get(depth),
        )
        for kind, shortcut in KINDS.items()
        for depth in seconds
    )


_DIGITS = _runs("digits", "small", {20: 21, 32: 30, 44: 40, 56: 54}, {})
SCALES = {
    "digits": Scale(
        runs=(
            *_DIGITS,
            Run(STALL, _DIGITS[3].config, 48, {"schedule.warmup": ""}),
        ),
        seeds=3,
        note="1,437 training images of 8×8 pixels, 330 steps of 128.",
    ),
    "digits_3300": Scale(
        runs=_runs(
            "digits",
            "small",
            {20: 72, 32: 115, 44: 155, 56: 200},
            {
                **lasting(LONG),
                "schedule.warmup": "",
                "log_every": "4 epochs",
                "eval.every": "4 epochs",
            },
        ),
        seeds=5,
        note="1,437 training images of 8×8 pixels, 3,300 steps of 128 without warm-up.",
        data_set="digits",
    ),
    "fashion_mnist": Scale(
        runs=_runs(
            "fashion_mnist",
            "small",
            {20: 210, 56: 640},
            {"data.train_images": 10_000},
        ),
        seeds=3,
        note="10,000 of the 60,000 training images, 14×14 pixels, 20 epochs.",
    ),
    "fashion_mnist_3300": Scale(
        runs=_runs(
            "fashion_mnist",
            "small",
            {20: 170, 56: 590},
            {**lasting(LONG), "schedule.warmup": "", "eval.every": "1 epochs"},
        ),
        seeds=3,
        note=f"60,000 training images of 14×14 pixels, {LONG:,} steps of 128 without warm-up.",
        data_set="fashion_mnist",
    ),
    "fashion_mnist_scenes": Scale(
        runs=_runs(
            "fashion_mnist_scenes",
            "paper",
            {20: 40, 32: 60, 44: 80, 56: 100, 110: 200},
            lasting(STEPS),
            SEEDS,
        ),
        seeds=max(SEEDS.values()),
        note=f"60,000 training images of 32×32 pixels, the paper's recipe with {STEPS:,} of its "
        "64,000 steps.",
        gpu=True,
    ),
    "cifar10": Scale(
        runs=_runs("cifar10", "paper", {20: 2400, 32: 3600, 44: 4800, 56: 6000, 110: 12_000}, {}),
        seeds=3,
        note="The paper's recipe, 64,000 steps; the estimates are for one GPU.",
        papers_data=True,
    ),
}
SHORT = ("digits", "fashion_mnist")  # too short for Table 6 and Fig. 7
LARGE = ("fashion_mnist_3300", "fashion_mnist_scenes", "cifar10")  # with 10,000 test images
ALL_DEPTHS = ("fashion_mnist_scenes", "cifar10")


def _printed(name: str) -> float:
    kind, depth = name.split("-")
    return PUBLISHED[kind][int(depth)].value


def _more_error(
    worse: str,
    better: str,
    metric: str = "train_error",
    *,
    source: str = "Fig. 1 and 6",
    on: tuple[str, ...] = (),
) -> Claim:
    what = {"train_error": "training", "test_error": "test"}[metric]
    text = f"{worse} has more {what} error than {better}"
    printed = (_printed(better), _printed(worse))
    claim = less_error(better, worse, metric, text, source=source, printed=printed)
    return dataclasses.replace(claim, on=on)


CLAIMS = (
    _more_error("plain-56", "plain-20"),
    _more_error("plain-44", "plain-20"),
    _more_error("plain-56", "plain-44"),
    _more_error("plain-56", "ResNet-56"),
    _more_error("plain-44", "ResNet-44", on=("digits", "digits_3300")),
    _more_error("plain-56", "plain-20", "test_error"),
    less_error(
        "ResNet-56",
        "ResNet-20",
        "train_error",
        "ResNet-56 trains no worse than ResNet-20: at most 1 point more training error",
        source="Fig. 6",
        kind=NO_WORSE,
    ),
    _more_error("plain-56", "ResNet-56", "test_error", on=LARGE),
    _more_error("ResNet-20", "ResNet-56", source="Fig. 6", on=LARGE),
    _more_error("ResNet-20", "ResNet-44", "test_error", source="Table 6", on=ALL_DEPTHS),
    _more_error("ResNet-20", "ResNet-56", "test_error", source="Table 6", on=LARGE),
    _more_error("ResNet-56", "ResNet-110", "test_error", source="Table 6", on=("cifar10",)),
    Claim(
        "Fig. 7: residual layers respond less than plain ones, 56 layers, mean sd",
        lambda seed: responses.mean_of(seed["plain-56"]) - responses.mean_of(seed["ResNet-56"]),
        runs=("plain-56", "ResNet-56"),
        source="Fig. 7",
        margin=0.1,
        unit="sd",
        on=SHORT,
    ),
    Claim(
        "most layers of ResNet-56 respond less than the same layer of plain-56",
        lambda seed: responses.layers_below(seed["ResNet-56"], seed["plain-56"]) - 50,
        runs=("plain-56", "ResNet-56"),
        source="Fig. 7",
        margin=10,
        unit="% of layers above half",
        on=("digits_3300", *LARGE),
    ),
    Claim(
        "layers of ResNet-56 respond less than those of ResNet-20, mean sd",
        lambda seed: responses.mean_of(seed["ResNet-20"]) - responses.mean_of(seed["ResNet-56"]),
        runs=("ResNet-20", "ResNet-56"),
        source="Fig. 7",
        margin=0.05,
        unit="sd",
        on=("digits_3300", *LARGE),
    ),
    Claim(
        "plain-56 stalls more often without warm-up than with it",
        lambda seed: None,
        runs=(STALL, "plain-56"),
        source=OURS,
        margin=0.0,
        kind=STALLS,
    ),
)


def draw(study: Study, data: str, records: Records) -> Figure:
    """Draws final error by depth next to the paper's numbers, Fig. 6, and Fig. 7."""
    depths = [d for d in DEPTHS if any(label(kind, d) in records for kind in KINDS)]
    figure, axes = drawing.new(
        3,
        2,
        title="Does a deeper network train worse? Plain and residual nets from "
        f"{depths[0]} to {depths[-1]} layers",
        subtitle=f"{study.scales[data].note} {drawing.LEGEND}",
        size=(11.5, 13),
    )
    _against_depth(axes[0][0], records, depths)
    _as_published(axes[0][1], depths)
    labels = [
        _against_step(panel, kind, records, depths)
        for panel, kind in zip(axes[1], KINDS, strict=True)
    ]
    top = max(panel.get_ylim()[1] for panel in axes[1])
    for panel, names in zip(axes[1], labels, strict=True):
        panel.set_ylim(0, top)
        drawing.ends(panel, names)
    shown = {label(k, d): SHADES[k][d] for k in KINDS for d in depths if d in RESPONSES_OF}
    responses.panel(axes[2][0], records, shown, in_order=True)
    responses.panel(axes[2][1], records, shown, in_order=False)
    return figure


def _against_depth(axes: Any, records: Records, depths: list[int]) -> None:
    labels, stalled = [], []
    for kind, colour in (("plain", PLAIN), ("ResNet", RESIDUAL)):
        counts = drawing.stalls(records)
        of_kind = [(depth, label(kind, depth)) for depth in depths if label(kind, depth) in records]
        stalled += [f"{counts[name]} of {name}" for _, name in of_kind if counts[name]]
        have = [(depth, name) for depth, name in of_kind if counts[name] < len(records[name])]
        if not have:
            continue
        for metric, what in (("train_error", "training"), ("test_error", "test")):
            errors = drawing.finals(records, metric)
            values = [errors[name] for _, name in have]
            training = metric == "train_error"
            drawing.scatter(axes, [depth for depth, _ in have], values, colour, dashed=training)
            end = sum(values[-1]) / len(values[-1])
            labels.append((have[-1][0], end, f"{kind}, {what} {end:.1f}%", colour))
    below = "layers" + (f"\nstalled, not drawn: {', '.join(stalled)}" if stalled else "")
    drawing.heading(axes, "Final error, measured here", below, "error, on its own scale")
    axes.set_xticks(depths)
    axes.set_ylim(bottom=0)
    drawing.percent(axes)
    drawing.room_right(axes, 0.5)
    drawing.ends(axes, labels)


def _as_published(axes: Any, depths: list[int]) -> None:
    labels = []
    for kind, colour, text in (
        ("plain", PLAIN, "plain, test\n(read off Fig. 6)"),
        ("ResNet", RESIDUAL, "ResNet, test\n(Table 6)"),
    ):
        rows = {depth: PUBLISHED[kind][depth] for depth in depths}
        shown = {depth: row.value for depth, row in rows.items() if row.sign != "above"}
        last = max(shown)
        drawing.scatter(axes, list(shown), [[value] for value in shown.values()], colour)
        labels.append((last, shown[last], f"{text} {shown[last]:g}%", colour))
    beyond = PUBLISHED["plain"][110].text if 110 in depths else ""
    drawing.heading(
        axes,
        "Final error, published: He et al. 2016a on CIFAR-10",
        "layers" + (f"\nnot drawn: plain-110, {beyond}%" if beyond else ""),
        "error, on its own scale",
    )
    axes.set_xticks(depths)
    axes.set_ylim(0, 15)
    drawing.percent(axes)
    drawing.room_right(axes, 0.5)
    drawing.ends(axes, labels, gap=0.12)


def _against_step(
    axes: Any, kind: str, records: Records, depths: list[int]
) -> list[tuple[float, float, str, str]]:
    labels: list[tuple[float, float, str, str]] = []
    drawn = drawing.moving(records)
    for depth in depths:
        seeds = drawn.get(label(kind, depth))
        if not seeds:
            continue
        colour = SHADES[kind][depth]
        drawing.curve(axes, seeds, "train", colour, dashed=True)
        end = drawing.curve(axes, seeds, "test", colour)
        if end is not None:
            labels.append((*end, f"{label(kind, depth)} {end[1]:.1f}%", colour))
    name = "Plain" if kind == "plain" else "Residual"
    drawing.heading(
        axes, f"{name} nets while training: test (bold), training (dashed)", "step", "error"
    )
    drawing.percent(axes)
    drawing.room_right(axes, 0.3)
    return labels


STUDY = Study(
    name="degradation",
    title="Degradation: plain against residual nets over depth",
    paper="He et al. 2016a",
    figure="Fig. 1, 6, 7 and Table 6",
    question="Does a deeper net train worse, and do shortcuts prevent that?",
    scales=SCALES,
    claims=CLAIMS,
    columns=(
        steps_to(0.1),
        Column(
            "mean response sd",
            lambda record: responses.mean_of(record) if record.probe else None,
            digits=2,
        ),
    ),
    published={
        label(kind, depth): row.text
        for kind, printed in PUBLISHED.items()
        for depth, row in printed.items()
    },
    published_heading="published: CIFAR-10 test error (%; ≈: read off Fig. 6)",
    draw=draw,
    probe=responses.probe,
)
