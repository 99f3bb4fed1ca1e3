"""Draws a network layer by layer: sizes, receptive field, where parameters and work are."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from inspection.cost import Cost, Layer

NAMED = 40  # layers; with more, their numbers stand in place of their names
BLUE, ORANGE = "#2b6cb0", "#c2571a"


def shown(cost: Cost) -> list[Layer]:
    """The layers that are drawn: those with weights to multiply by, and windowed pools."""
    return [
        layer for layer in cost.layers if layer.multiply_adds or (layer.window and layer.output)
    ]


def draw(name: str, cost: Cost, path: str) -> None:
    """Draws a network's layers from the input on, one panel per message, to file `path`."""
    figure = _figure((10, 8.5))
    layers = shown(cost)
    places = range(1, len(layers) + 1)  # the input is at 0
    sizes, field, shares = figure.subplots(3, 1, sharex=True)

    maps: list[tuple[int, tuple[int, ...]]] = [(0, cost.input_shape)]
    maps += [(p, layer.output) for p, layer in zip(places, layers, strict=True) if _is_map(layer)]
    for axis, text, colour in ((0, "side of the map", BLUE), (2, "channels", ORANGE)):
        values = [shape[axis] for _, shape in maps]
        sizes.plot([place for place, _ in maps], values, "o-", color=colour, label=text, ms=3)
    sizes.set(yscale="log", title="Side of the maps in pixels, and their channels")
    sizes.yaxis.set_major_formatter("{x:g}")
    sizes.yaxis.set_minor_formatter("")

    field.bar(places, [max(layer.receptive_field or (0,)) for layer in layers], color=BLUE)
    side = max(cost.input_shape[:2])
    field.axhline(side, color=ORANGE, label=f"the image's side, {side}")
    field.set(title="Receptive field in pixels, those outside the image included")

    for offset, of, text, colour in (
        (-0.2, "params", f"of {cost.params:,} parameters", BLUE),
        (0.2, "multiply_adds", f"of {cost.multiply_adds:,} multiply-adds", ORANGE),
    ):
        whole = getattr(cost, of)
        values = [100 * getattr(layer, of) / whole for layer in layers]
        shares.bar([p + offset for p in places], values, 0.4, color=colour, label=text)
    shares.set(title="Share of each layer in %")

    for axes in (sizes, field, shares):
        axes.legend(fontsize=9)
        axes.grid(alpha=0.3, axis="y")
    if len(layers) <= NAMED:
        names = ["input", *(layer.name for layer in layers)]
        shares.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    else:
        shares.set_xlabel("layer")
    figure.suptitle(f"{name}, input {'×'.join(map(str, cost.input_shape))}")
    _save(figure, path, [cost])


def compare(costs: Mapping[str, Cost], path: str) -> None:
    """Draws the totals of networks beside each other to file `path`."""
    figure = _figure((9, 1.4 + 0.5 * len(costs)))
    names = list(costs)
    for axes, of in zip(
        figure.subplots(1, 2, sharey=True), ("params", "multiply_adds"), strict=True
    ):
        values = [getattr(cost, of) for cost in costs.values()]
        bars = axes.barh(names, values, color=BLUE)
        axes.bar_label(bars, [f"{value:,}" for value in values], padding=3)
        axes.set(title={"params": "Parameters", "multiply_adds": "Multiply-adds"}[of])
        axes.set_xlim(0, 1.45 * max(*values, 1))
        axes.set_xticks([])
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.invert_yaxis()  # shared: the first on top in both
    _save(figure, path, list(costs.values()))


def _is_map(layer: Layer) -> bool:
    return len(layer.output) == 3


def digest(costs: Sequence[Cost]) -> str:
    """A digest of all that is drawn; a PNG keeps it, to tell whether it is of these counts."""
    return hashlib.sha256(repr(costs).encode()).hexdigest()


def _save(figure: Any, path: str, costs: Sequence[Cost]) -> None:
    kept = {"Comment": digest(costs)} if path.endswith(".png") else None
    figure.savefig(path, metadata=kept)


def _figure(size: tuple[float, float]) -> Any:
    # Imported here since it takes a second and other uses do not need it.
    from matplotlib.figure import Figure

    return Figure(figsize=size, dpi=100, layout="constrained")
