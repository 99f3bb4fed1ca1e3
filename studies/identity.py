"""Veit et al. 2016, Fig. 3, and the lecture's claim: the identity is easy, so a block never hurts.

Into trained nets of 20 layers come twelve new ones, and both are trained on. Residual blocks whose
last batch norm starts with scale 0 leave the function as it is; with scale 1, or as plain layers,
they do not. Beside that: how large each block's residual is, and the error with one block deleted,
from a ResNet, a plain net and VGG.
"""

import pathlib
import statistics
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import jax.numpy as jnp
from matplotlib.figure import Figure

import sharding
from reproduction import drawing
from reproduction.drawing import PLAIN, RESIDUAL, SERIES
from reproduction.inference import NO_WORSE
from reproduction.records import Record
from reproduction.study import OURS, Claim, Column, Records, Run, Scale, Study, less_error
from studies import degradation, lesions
from training import experiment, starting_weights, trained

RESNET, PLAIN_NET, VGG = "ResNet-20", "plain-20", "VGG D, batch norm"
ON = "trained on"
AS_IDENTITY = "ResNet-32, blocks inserted, scale 0"
AS_DRAWN = "ResNet-32, blocks inserted, scale 1"
LAYERS = "plain-32, layers inserted"
NEW = "conv?_[45]"  # the units that 32 layers have and 20 do not
FIG_3 = "section 4.1, Fig. 3"


def _runs(data: str) -> tuple[Run, ...]:
    shorter: dict[str, Any] = {
        "duration": "110 steps",
        "schedule.rate": 0.01,
        "schedule.drops": (),
        "schedule.warmup": "",
    }
    inserted = {**shorter, "init.skip": (f"{NEW}/*",)}

    def run(label: str, depth: int, seconds: float, fields: Mapping[str, Any], start: str) -> Run:
        kind = label.split("-")[0]
        config = degradation.config(depth, degradation.KINDS[kind], data, "small")
        return Run(label, config, seconds, fields, starts_from=start)

    vgg = f"configs/vgg.py:net=vgg_D_bn,data={data},scale=small"
    return (
        run(RESNET, 20, 21, {}, ""),
        run(PLAIN_NET, 20, 21, {}, ""),
        run(f"{RESNET}, {ON}", 20, 12, shorter, RESNET),
        run(f"{PLAIN_NET}, {ON}", 20, 12, shorter, PLAIN_NET),
        run(AS_IDENTITY, 32, 18, {**inserted, "model.zero_scale": (NEW,)}, RESNET),
        run(AS_DRAWN, 32, 18, inserted, RESNET),
        run(LAYERS, 32, 18, inserted, PLAIN_NET),
        Run(VGG, vgg, 40, {"duration": "6 epochs"}),
    )


def probe(workdir: pathlib.Path, data_dir: str | None) -> dict[str, Any]:
    """Measures a trained net on the first config.eval.batch_size test images.

    Returns {"error": a fraction, "without": errors by deleted block, "share": ‖F(x)‖/‖x‖ by
    block}, and for a run that starts from another's weights "start": its first error, and the
    largest difference of a logit from that net's.
    """
    net = trained.load(workdir)
    with closing(net.pipeline(data_dir)) as pipeline:
        batch = next(iter(pipeline.evaluation("test")))
    found: dict[str, Any] = {
        "error": _error(net.apply(batch["image"]).logits, batch),
        "without": lesions.errors_without(net.network, net.variables, batch),
        "share": lesions.residual_shares(net.network, net.variables, batch),
    }
    run = experiment.create(net.config, sharding.create_mesh(), data_dir)
    with closing(run.pipeline):
        start = starting_weights.adopt(run)
        if start is not None and start.source is not None:
            before = start.source.apply(batch["image"]).logits
            first = starting_weights.applied(run, run.create_state(), start).variables
            outputs: Any = run.network.apply(first, batch["image"], train=False)
            after = outputs.logits
            change = (jnp.abs(after - before) * batch["mask"][:, None]).max()
            found["start"] = {"error": _error(after, batch), "change": float(change)}
    return found


def _error(logits: Any, batch: Any) -> float:
    wrong = (logits.argmax(-1) != batch["label"]) * batch["mask"]
    return float(wrong.sum() / batch["mask"].sum())


def added(record: Record) -> list[float]:
    """What deleting each block adds to the test error, in points, first block to last."""
    return [100 * (error - record.probe["error"]) for error in record.probe["without"].values()]


def at_once(record: Record) -> float | None:
    """The test error before the first step, in percent; None if a run starts from its seed."""
    start = record.probe.get("start")
    return 100 * start["error"] if start else None


def _deleted(worse: str, better: str, source: str) -> Claim:
    return Claim(
        f"deleting one block adds more test error to {worse} than to {better}, means over blocks",
        lambda seed: statistics.mean(added(seed[worse])) - statistics.mean(added(seed[better])),
        runs=(worse, better),
        source=source,
        margin=10.0,
    )


def _start(seed: Mapping[str, Record], label: str) -> float:
    return 100 * seed[label].probe["start"]["error"]


CLAIMS = (
    Claim(
        "at once: plain layers inserted give more test error than residual blocks of scale 0",
        lambda seed: _start(seed, LAYERS) - _start(seed, AS_IDENTITY),
        runs=(LAYERS, AS_IDENTITY),
        source=OURS,
        margin=10.0,
    ),
    less_error(
        AS_IDENTITY,
        f"{RESNET}, {ON}",
        text="trained on: ResNet-32 of inserted blocks is at most 1 point worse than ResNet-20",
        kind=NO_WORSE,
    ),
    less_error(
        f"{PLAIN_NET}, {ON}",
        LAYERS,
        "train_error",
        "trained on: plain-32 of inserted layers has more training error than plain-20",
    ),
    less_error(
        AS_IDENTITY,
        LAYERS,
        text="trained on: plain-32 of inserted layers has more test error than ResNet-32",
    ),
    Claim(
        "deleting one block of ResNet-20 adds at most 5 points of test error, median over blocks",
        lambda seed: -statistics.median(added(seed[RESNET])),
        runs=(RESNET,),
        source=FIG_3,
        margin=5.0,
        kind=NO_WORSE,
    ),
    _deleted(VGG, RESNET, FIG_3),
    _deleted(PLAIN_NET, RESNET, OURS),
)


def draw(study: Study, data: str, records: Records) -> Figure:
    """Draws errors after insertion, errors with a block deleted, and the sizes of residuals."""
    figure, axes = drawing.new(
        1,
        3,
        title="Is a residual block easily put into a trained net, or taken out?",
        subtitle=f"{study.scales[data].note} {drawing.LEGEND}",
        size=(17, 5.6),
    )
    colours = {AS_IDENTITY: RESIDUAL, AS_DRAWN: SERIES[6], LAYERS: PLAIN}
    bars: dict[str, list[float]] = {}
    of_bar: dict[str, str] = {}
    for label, colour in colours.items():
        seeds = records.get(label, {})
        values = {
            "at once": [value for one in seeds.values() if (value := at_once(one)) is not None],
            "trained on": [100 * one.last("test_error") for one in seeds.values()],
        }
        for when, errors in values.items():
            if errors:
                name = f"{label.replace(', ', chr(10), 1)}: {when}"
                bars[name], of_bar[name] = errors, colour
    if bars:
        drawing.bars(axes[0][0], bars, of_bar)
    drawing.heading(axes[0][0], "Test error with twelve layers inserted", "error (%)")

    labels = []
    for label, colour in ((RESNET, RESIDUAL), (PLAIN_NET, PLAIN), (VGG, SERIES[2])):
        every = [list(one.probe["without"].values()) for one in records.get(label, {}).values()]
        if every:
            by_block = [[100 * error for error in errors] for errors in zip(*every, strict=True)]
            places = [(place + 0.5) / len(by_block) for place in range(len(by_block))]
            drawing.scatter(axes[0][1], places, by_block, colour)
            labels.append((places[-1], statistics.mean(by_block[-1]), label, colour))
    drawing.heading(
        axes[0][1],
        "Test error with one block deleted (Veit et al. 2016, Fig. 3)",
        "place of the deleted block in the net",
        "error",
    )
    axes[0][1].set_xticks([0, 1], ["first", "last"])
    axes[0][1].set_ylim(0, 100)
    drawing.percent(axes[0][1])
    axes[0][1].set_xlim(0, 1.5)
    drawing.ends(axes[0][1], labels)

    shares = [one.probe["share"] for one in records.get(RESNET, {}).values()]
    if shares:
        by_name = {name: [share[name] for share in shares] for name in shares[0]}
        drawing.bars(axes[0][2], by_name, dict.fromkeys(by_name, RESIDUAL), digits=2, unit="")
    drawing.heading(axes[0][2], "ResNet-20: what a block adds, ‖F(x)‖/‖x‖", "ratio of norms")
    return figure


def _of_start(key: str) -> Any:
    return lambda record: record.probe["start"][key] if "start" in record.probe else None


STUDY = Study(
    name="identity",
    title="The identity: blocks inserted into trained nets, and deleted from them",
    paper="Veit et al. 2016",
    figure="Fig. 3 and the lecture's claim",
    question="Does a residual block that is added to a trained net do no harm, and one that is "
    "deleted little?",
    scales={
        "digits": Scale(
            _runs("digits"),
            seeds=3,
            note="1,437 training images of 8×8 pixels, 330 steps of 128, then 110 more at a rate "
            "of 0.01; VGG on 32×32 pixels, 264 steps of 32.",
        ),
        "fashion_mnist": Scale(
            _runs("fashion_mnist"),
            seeds=3,
            note="60,000 training images of 14×14 pixels, 20 epochs, then 110 steps at a rate of "
            "0.01; VGG on 32×32 pixels, 6 epochs. The estimates are those of digits.",
        ),
        "cifar10": Scale(
            _runs("cifar10"),
            seeds=3,
            note="The paper's data, 40 epochs, then 110 steps at a rate of 0.01; VGG 6 epochs. The "
            "estimates are those of digits.",
            papers_data=True,
        ),
    },
    claims=CLAIMS,
    columns=(
        Column("test error at once (%)", _of_start("error"), digits=2, factor=100),
        Column("largest change of a logit at once", _of_start("change"), digits=6),
        Column(
            "error added by deleting a block, mean over blocks (points)",
            lambda record: statistics.mean(added(record)),
            digits=1,
        ),
        Column(
            "the same, median (points)", lambda record: statistics.median(added(record)), digits=1
        ),
        Column(
            "‖F(x)‖/‖x‖, mean over blocks",
            lambda record: (
                statistics.mean(shares) if (shares := record.probe["share"].values()) else None
            ),
            digits=2,
        ),
    ),
    draw=draw,
    probe=probe,
)
