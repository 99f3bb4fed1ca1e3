"""He et al. 2016a, Fig. 7: how strongly the layers of plain and residual nets respond.

A part of `degradation`, which trains the nets.
"""

import pathlib
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import jax
import jax.numpy as jnp

from reproduction import drawing
from reproduction.records import Record
from reproduction.study import Records
from training import trained


def layers_of(network: Any) -> tuple[str, ...]:
    """The 3×3 layers of a net of 6n+2 layers, first to last."""
    return ("conv1", *(f"{unit}/{layer}" for unit in network.units for layer in "ab"))


def probe(workdir: pathlib.Path, data_dir: str | None) -> dict[str, Any]:
    """Fig. 7: the standard deviation of each 3×3 layer's output, after BN, before the nonlinearity.

    Over all positions and channels of the first config.eval.batch_size test images. Returns
    {"response_sd": {layer: sd}}, in the order of layers.
    """
    net = trained.load(workdir)
    layers = layers_of(net.network)
    with closing(net.pipeline(data_dir)) as pipeline:
        batch = next(iter(pipeline.evaluation("test")))

    @jax.jit
    def spreads(variables: Any, images: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
        captured = net.network.apply(variables, images, train=False, capture=layers).captured
        weight = mask[:, None, None, None]
        out = {}
        for name, response in captured.items():
            count = mask.sum() * response[0].size
            mean = (response * weight).sum() / count
            out[name] = jnp.sqrt((jnp.square(response - mean) * weight).sum() / count)
        return out

    found = spreads(net.variables, batch["image"], batch["mask"])
    return {"response_sd": {name: float(found[name]) for name in layers}}


def mean_of(record: Record) -> float:
    """The mean response over the layers."""
    spreads = record.probe["response_sd"].values()
    return sum(spreads) / len(spreads)


def layers_below(low: Record, high: Record) -> float:
    """The share of layers, in percent, whose response is smaller in `low` than in `high`."""
    pairs = zip(low.probe["response_sd"].values(), high.probe["response_sd"].values(), strict=True)
    below = [one < other for one, other in pairs]
    return 100 * sum(below) / len(below)


def panel(axes: Any, records: Records, colours: Mapping[str, str], *, in_order: bool) -> None:
    """Draws the responses of the labels in `colours`, by layer or the largest first."""
    labels = []
    drawn = drawing.moving(records)
    counts = drawing.stalls(records)
    for name, colour in colours.items():
        # A net that stalled shows only its initial weights.
        if name not in drawn or counts[name] == len(records[name]):
            continue
        every = [list(one.probe["response_sd"].values()) for one in drawn[name].values()]
        if not in_order:
            every = [sorted(layers, reverse=True) for layers in every]
        by_layer = list(zip(*every, strict=True))
        mean = [sum(layer) / len(layer) for layer in by_layer]
        xs = range(1, len(mean) + 1)
        axes.plot(xs, mean, color=colour, lw=1.6)
        low, high = [min(layer) for layer in by_layer], [max(layer) for layer in by_layer]
        axes.fill_between(xs, low, high, color=colour, alpha=0.12, linewidth=0)
        labels.append((len(mean), mean[-1], name, colour))
    where = "by layer" if in_order else "sorted"
    x = "layer" if in_order else "layers, largest first"
    drawing.heading(axes, f"Responses of 3×3 layers, {where} (Fig. 7)", x, "sd after BN")
    axes.set_ylim(bottom=0)
    drawing.room_right(axes, 0.22)
    drawing.ends(axes, labels)
