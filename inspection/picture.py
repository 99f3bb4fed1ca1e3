"""Draws published errors against our counts of multiply-adds."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import models
from inspection import cost
from papers import results

# Legend texts of the protocols of papers.results.PLAINEST.
PROTOCOLS = {
    "ten_crop": "ten crops",
    "dense": "dense, one scale of 256",
    "center": "one centre crop",
    "center:side=320,crop=320": "one crop of 320",
    "plain": "the image as it is",
}


def draw(costs: Mapping[str, cost.Cost], path: str) -> None:
    """Draws published errors against cost, one panel per data set and metric, to file `path`."""
    # Imported here since it takes a second and other uses do not need it.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = (
        (results.IMAGENET, "top1", "ImageNet 2012, top-1 error (%)"),
        (results.IMAGENET, "top5", "ImageNet 2012, top-5 error (%)"),
        (results.CIFAR10, "top1", "CIFAR-10, test error (%)"),
    )
    figure = Figure(figsize=(20, 9), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    labels = []
    for (data, measure, title), axes in zip(panels, figure.subplots(1, 3), strict=True):
        rates = [row for name in costs for row in _shown(name, data, measure)]
        for protocol in dict.fromkeys(rate.protocol for rate in rates):
            chosen = [rate for rate in rates if rate.protocol == protocol]
            spots = [(cost_of(rate, costs), rate.value) for rate in chosen]
            axes.scatter(*zip(*spots, strict=True), s=28, label=PROTOCOLS[protocol])
            for rate, spot in zip(chosen, spots, strict=True):
                text = rate.networks[0].replace("_cifar10", "")
                label = axes.annotate(
                    text, spot, (6, 0), textcoords="offset points", fontsize=8, va="center"
                )
                label.set_in_layout(False)
                labels.append(label)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.set_title(title)
        axes.set_xlabel("multiply-adds of one pass over an image of the network's input size")
        axes.margins(x=0.2)
        axes.grid(alpha=0.3, which="both")
        axes.legend(title="tested on", fontsize=8)
    figure.suptitle("Errors as published, each under its own protocol, against cost as measured")
    canvas.draw()  # computes the sizes of the labels and the positions of the points
    figure.set_layout_engine("none")
    spread(labels, canvas.get_renderer())
    figure.savefig(path)


def spread(labels: Sequence[Any], renderer: Any) -> None:
    """Moves each label near its point so that it covers no point and no earlier label."""
    spots = [label.axes.transData.transform(label.xy) for label in labels]
    taken: list[Any] = []
    places = [
        (side * 6, rise) for rise in (0, 9, -9, 18, -18, 27, -27, 36, -36) for side in (1, -1)
    ]
    for label in labels:
        for x, y in places:
            label.set_position((x, y))
            label.set_horizontalalignment("left" if x > 0 else "right")
            box = label.get_window_extent(renderer)
            inside = label.axes.bbox.x0 < box.x0 and box.x1 < label.axes.bbox.x1
            covers = not inside or any(box.contains(*spot) for spot in spots)
            if not covers and not any(box.overlaps(other) for other in taken):
                break
        taken.append(label.get_window_extent(renderer))


def _shown(network: str, data: str, metric: str) -> list[results.Row]:
    """The first row of a network for a panel; none if its value is only approximate."""
    found = [row for row in results.plainest(network) if (row.data, row.metric) == (data, metric)]
    return [row for row in found[:1] if not row.sign]


def cost_of(rate: results.Row, costs: Mapping[str, cost.Cost]) -> int:
    """Multiply-adds of one pass at the size of the published crop."""
    (name,) = rate.networks
    crop = re.search(r"crop=(\d+)", rate.protocol)
    if crop is None:
        return costs[name].multiply_adds
    side = int(crop[1])
    network = models.create({"name": name, "input": (side, side, costs[name].input_shape[2])})
    return cost.measure(network).multiply_adds
