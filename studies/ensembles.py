"""Krizhevsky et al. 2012, Table 2, and Szegedy et al. 2015, Table 3: averages of nets and of crops.

One to seven networks, equal but for their seed, have their posteriors averaged, each over one view
of an image or over the ten crops of Krizhevsky et al. The price is computation: multiply-adds per
image grow with the number of networks times that of crops.

The run "3 nets" trains the third network of a seed; its probe averages the first three. The
posteriors stay in the workdirs, the logs have which images each average gets wrong.
"""

import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

import data as data_sets
import sharding
from papers import results
from protocols import score_average
from protocols.predictions import Predictor
from reproduction import drawing
from reproduction.records import Record
from reproduction.study import OURS, Claim, Column, Records, Run, Scale, Study
from training import metrics, trained

MOST = 7
NEXT_NET = 1000  # between the seeds of two networks of one seed of the study
POSTERIORS = "posteriors.npy"  # in a workdir: [protocols, images, classes]
ONE_VIEW, TEN_CROPS = "plain", "ten_crop"
PROTOCOLS = {ONE_VIEW: "one view", TEN_CROPS: "ten crops"}
KRIZHEVSKY = "Krizhevsky et al. 2012, Table 2"
SZEGEDY = "Szegedy et al. 2015, Table 3"


def label(count: int) -> str:
    """The label of an average of `count` networks."""
    return "1 net" if count == 1 else f"{count} nets"


def _runs(config: str, seconds: float, **overrides: Any) -> tuple[Run, ...]:
    return tuple(
        Run(
            label(count),
            config,
            seconds,
            overrides,
            offset=NEXT_NET * (count - 1),
            beside=tuple(map(label, range(1, count))),
        )
        for count in range(1, MOST + 1)
    )


def probe(workdir: pathlib.Path, data_dir: str | None, *beside: pathlib.Path) -> dict[str, Any]:
    """Averages the posteriors of the networks in `beside` and in `workdir`, on the test images.

    Returns by protocol {"error": a fraction, "wrong": packed, "multiply_adds": per image, of all
    networks}. Writes POSTERIORS, which those in `beside` have.
    """
    net = trained.load(workdir)
    images, labels = data_sets.load_arrays(net.config.data.name, "test", data_dir)
    predictor = Predictor(net, sharding.create_mesh(), net.config.eval.batch_size)
    protocols = {name: predictor.protocol(name) for name in PROTOCOLS}
    own = {name: predictor.predict(images, protocol) for name, protocol in protocols.items()}
    np.save(workdir / POSTERIORS, np.stack([own[name] for name in PROTOCOLS]))
    # [networks, protocols, images, classes]
    folders = (*beside, workdir)
    posteriors = np.stack([np.load(path / POSTERIORS, allow_pickle=False) for path in folders])
    found = {}
    for place, (name, protocol) in enumerate(protocols.items()):
        members = list(posteriors[:, place])
        wrong = score_average.over_models(members).argmax(1) != labels
        cost = predictor.multiply_adds(protocol, images.shape[1:3])
        found[name] = {
            "error": float(wrong.mean()),
            "wrong": metrics.packed(wrong),
            "multiply_adds": len(members) * cost,
        }
    return found


Average = tuple[int, str]  # the number of networks, and the protocol


def error(seed: Mapping[str, Record], average: Average) -> float:
    """The test error of an average in percent."""
    count, protocol = average
    return 100 * seed[label(count)].probe[protocol]["error"]


def _less(better: Average, worse: Average, source: str, printed: tuple[float, float]) -> Claim:
    """The claim that one average has less error; the margin is half of the printed gap."""
    share = (printed[1] - printed[0]) / printed[1] / 2

    def margin(seeds: Sequence[Mapping[str, Record]]) -> float:
        return share * statistics.mean(error(seed, worse) for seed in seeds)

    def mistakes(seed: Mapping[str, Record]) -> tuple[np.ndarray, np.ndarray]:
        one, other = (
            metrics.unpacked(seed[label(count)].probe[protocol]["wrong"])
            for count, protocol in (better, worse)
        )
        return one, other

    return Claim(
        f"less test error with {_named(better)} than with {_named(worse)}",
        lambda seed: error(seed, worse) - error(seed, better),
        runs=tuple(map(label, range(1, max(better[0], worse[0]) + 1))),
        source=source,
        margin=margin,
        mistakes=mistakes,
    )


def _named(average: Average) -> str:
    return f"{label(average[0])} and {PROTOCOLS[average[1]]}"


def _printed(network: str, count: int, protocol: str, metric: str) -> float:
    [row] = [
        row
        for row in results.rows(network, protocol=protocol, metric=metric, data=results.IMAGENET)
        if row.networks == (network,) * count and not row.remark
    ]
    return row.value


def _googlenet(count: int, protocol: str) -> float:
    return _printed("googlenet_2014", count, protocol, "top5")


def _half(seed: Mapping[str, Record]) -> float:
    """What three networks gain above half of the gain of seven, in points."""
    one, three, seven = (error(seed, (count, ONE_VIEW)) for count in (1, 3, MOST))
    return (one - three) - (one - seven) / 2


PRINTED = {
    (count, protocol): _googlenet(count, named)
    for count in (1, MOST)
    for protocol, named in ((ONE_VIEW, "center"), (TEN_CROPS, "ten_crop"))
}


def _claimed(better: Average, worse: Average) -> Claim:
    """A claim of Szegedy et al."""
    return _less(better, worse, SZEGEDY, (PRINTED[better], PRINTED[worse]))


def draw(study: Study, data: str, records: Records) -> Figure:
    """Draws the test error by number of networks, and by what an answer costs."""
    figure, axes = drawing.new(
        1,
        2,
        title="Averages of up to seven networks: less error, at its price",
        subtitle=f"{study.scales[data].note} Means over seeds; dots: single seeds.",
        size=(13, 5),
    )
    counts = [count for count in range(1, MOST + 1) if label(count) in records]
    colours = dict(zip(PROTOCOLS, drawing.SERIES, strict=False))
    for panel, by_cost in ((axes[0][0], False), (axes[0][1], True)):
        labels = []
        for protocol, colour in colours.items():
            probes = [[r.probe[protocol] for r in records[label(n)].values()] for n in counts]
            errors = [[100 * each["error"] for each in seeds] for seeds in probes]
            costs = [seeds[0]["multiply_adds"] / 1e6 for seeds in probes]
            xs: Sequence[float] = costs if by_cost else counts
            drawing.scatter(panel, xs, errors, colour)
            if by_cost:
                for place in (0, -1):
                    panel.annotate(
                        label(counts[place]),
                        (xs[place], statistics.mean(errors[place])),
                        xytext=(7, 5),
                        textcoords="offset points",
                        color=colour,
                        fontsize=9,
                    )
            labels.append((xs[-1], statistics.mean(errors[-1]), PROTOCOLS[protocol], colour))
        if by_cost:
            panel.set_xscale("log")
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
            panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            panel.minorticks_off()
            panel.margins(x=0.12, y=0.1)
            drawing.heading(
                panel, "… and by the cost of an answer", "million multiply-adds per image", "error"
            )
        else:
            panel.set_xticks(counts)
            drawing.room_right(panel, 0.25)
            drawing.heading(panel, "Test error by number of networks", "networks", "error")
        drawing.percent(panel)
        if not by_cost:
            drawing.ends(panel, labels)
    return figure


def _column(heading: str, protocol: str, name: str, digits: int, factor: float) -> Column:
    def value(record: Record) -> float:
        return record.probe[protocol][name]

    return Column(heading, value, digits=digits, factor=factor, spread=name == "error")


# Crops of 28 of 32 pixels are crops of 224 of 256.
CROPS: dict[str, Any] = {
    "data.size": 28,
    "data.short_side": 32,
    "data.augment": ("random_crop(side=32)", "flip()"),
}

STUDY = Study(
    name="ensembles",
    title="Averages of networks, and of crops",
    paper="Szegedy et al. 2015",
    figure="Table 3, and Table 2 of Krizhevsky et al. 2012",
    question="How much do averages over networks and over crops lower the error, and at what cost?",
    scales={
        "fashion_mnist": Scale(
            _runs(
                "configs/lenet5.py:data=fashion_mnist",
                25,
                **CROPS,
                **{"data.train_images": 2_000, "duration": "50 epochs", "eval.every": "10 epochs"},
            ),
            seeds=5,
            note="LeNet-5, 2,000 of 60,000 training images, random crops of 28 of 32 pixels and "
            "mirror images, 50 epochs; 10,000 test images.",
        ),
        "fashion_mnist_scenes": Scale(
            _runs(
                "configs/resnet_cifar.py:depth=20,shortcut=A,data=fashion_mnist_scenes,scale=paper",
                600,
                **CROPS,
            ),
            seeds=5,
            note="ResNet-20 by the paper's recipe, random crops of 28 of 32 pixels and mirror "
            "images; 10,000 test images.",
            gpu=True,
        ),
    },
    claims=(
        _less(
            (5, TEN_CROPS),
            (1, TEN_CROPS),
            KRIZHEVSKY,
            (
                _printed("alexnet_2012", 5, "ten_crop", "top1"),
                _printed("alexnet_2012", 1, "ten_crop", "top1"),
            ),
        ),
        _claimed((MOST, ONE_VIEW), (1, ONE_VIEW)),
        _claimed((1, TEN_CROPS), (1, ONE_VIEW)),
        _claimed((MOST, TEN_CROPS), (MOST, ONE_VIEW)),
        _claimed((MOST, ONE_VIEW), (1, TEN_CROPS)),
        Claim(
            "3 nets have at least half of the gain of 7, one view each",
            _half,
            runs=tuple(map(label, range(1, MOST + 1))),
            source=OURS,
            margin=0.1,
        ),
    ),
    columns=(
        _column("averaged, one view (%)", ONE_VIEW, "error", 2, 100),
        _column("multiply-adds, millions", ONE_VIEW, "multiply_adds", 2, 1e-6),
        _column("averaged, ten crops (%)", TEN_CROPS, "error", 2, 100),
        _column("multiply-adds with ten crops, millions", TEN_CROPS, "multiply_adds", 1, 1e-6),
    ),
    published={
        label(count): f"{PRINTED[count, ONE_VIEW]}; ten crops {PRINTED[count, TEN_CROPS]}"
        for count in (1, MOST)
    },
    published_heading="published: GoogLeNet, top-5 on ImageNet",
    draw=draw,
    probe=probe,
)
