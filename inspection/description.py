"""The description of a network, as JSON and as text.

It has the counts, and the published figures, deviations, references and misprints beside them.
"""

import dataclasses
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tabulate import SEPARATING_LINE, tabulate

import models
from errors import UserError
from inspection import cost
from inspection.trace import Window
from papers import misprints, references, results


@dataclasses.dataclass(frozen=True)
class Description:
    """A network, its preset and its cost."""

    name: str
    network: models.Network
    preset: models.Preset
    cost: cost.Cost


def describe(spec: Mapping[str, Any]) -> Description:
    """Builds and measures the network of `spec`. Raises UserError if the spec is not valid."""
    try:
        network = models.create(spec)
        measured = models.check(network, cost.measure)
    except ValueError as error:
        raise UserError(str(error)) from None
    return Description(spec["name"], network, models.preset(spec["name"]), measured)


def to_json(description: Description) -> dict[str, Any]:
    """The description as a dict for JSON. Shapes are for one image."""
    return {
        "name": description.name,
        "params": description.cost.params,
        "multiply_adds": description.cost.multiply_adds,
        "input_shape": description.cost.input_shape,
        "layers": [layer_json(layer) for layer in description.cost.layers],
        "skips": description.network.skips._asdict(),
        "source": description.preset.source,
        "published": published(description),
        "deviations": list(description.preset.deviations),
        "misprints": [
            {key: value for key, value in dataclasses.asdict(entry).items() if key != "networks"}
            for entry in misprints.misprints(description.name)
        ],
    }


def layer_json(layer: cost.Layer) -> dict[str, Any]:
    """One layer as a dict for JSON; kernel, stride and pad are None if it has no window."""
    fields = dataclasses.asdict(layer)
    window = fields.pop("window") or {"kernel": None, "stride": None, "pad": None}
    return {**fields, **window}


def page(description: Description) -> Iterator[str]:
    """The lines of the description: table, published figures, deviations, misprints."""
    measured, preset = description.cost, description.preset
    fields = _changed_fields(description)
    yield f"{description.name}  ({preset.source})"
    yield f"{type(description.network).__name__}, input {times(measured.input_shape)}" + (
        f", with {fields}" if fields else ""
    )
    yield ""
    yield from _table(measured)
    if any(map(_is_own_word, measured.layers)):
        yield "* by the layer's own formula; all others are counted in the traced network"
    if description.network.skips.counts:
        yield ""
        yield from _item(_skips(description.network), bullet="")
    if printed := published(description):
        yield ""
        yield "published"
        here = _counted(measured)
        wide = max(map(len, printed))
        for what, figure in printed.items():
            beside = f"   (here {here[what]:,})" if what in here else ""
            wording = what.replace("multiply_adds", "multiply-adds")
            yield f"  {wording:{wide}}  {figure}{beside}"
    if preset.recommended_initializer != "paper":
        yield ""
        trains = preset.recommended_initializer
        yield f"training from the paper's initial weights often stalls; use initializer={trains}"
    if cited := references.cited(preset.source):
        yield ""
        yield "references"
        for reference in cited:
            yield from _item(str(reference))
    yield ""
    yield "deviations from the paper" + ("" if preset.deviations else ": none")
    for deviation in preset.deviations:
        yield from _item(deviation)
    if entries := misprints.misprints(description.name):
        yield ""
        yield "known misprints"
        for entry in entries:
            yield from _item(entry.where, f"printed: {entry.printed}", f"counted: {entry.counted}")
            yield from _item(entry.reason, bullet="    ")


def _skips(network: models.Network) -> str:
    """The skip connections in words: "8 skip connections, 3 with weights W_s: conv3_1, ..."."""
    counts, weighted = network.skips
    total = sum(counts.values())
    if total > len(counts):
        by_unit = ", ".join(f"{count} in {unit}" for unit, count in counts.items())
        return f"{total} direct connections from layer to layer: {by_unit}"
    text = f"{total} skip connections"
    if len(weighted) == total:
        return f"{text}, each with weights W_s"
    return text + (f", {len(weighted)} with weights W_s: {', '.join(weighted)}" if weighted else "")


def _item(*parts: str, bullet: str = "  - ") -> Iterator[str]:
    """An item of a list, one line per part, wrapped at 100 columns."""
    for index, part in enumerate(parts):
        first = bullet if index == 0 else "    "
        yield from textwrap.wrap(part, 100, initial_indent=first, subsequent_indent="    ")


def published(description: Description) -> dict[str, str]:
    """The published size of the network, and its errors under the simplest protocol."""
    name = description.name
    printed = dict(description.preset.published)
    for row in results.plainest(name) or results.rows(name):
        metric, _, gap = row.metric.partition("_")
        what = {"top1": "top-1 error", "top5": "top-5 error"}[metric]
        if row.protocol == "plain":
            what = f"{row.data} test error"
        elif row.protocol:
            what += f", {row.protocol}"
        text = f"{row.sign} {row.value}{' points more' if gap else '%'}".strip()
        notes = [row.remark] if row.remark else []
        printed[", ".join((what, *notes))] = text + (" (recalled)" if row.recalled else "")
    return printed


def _counted(measured: cost.Cost) -> dict[str, int]:
    """Our counts under the names of published figures: "params", "C1 params", ..."""
    figures = {"params": measured.params, "multiply_adds": measured.multiply_adds}
    for layer in measured.layers:
        figures[f"{layer.name} params"] = layer.params
        figures[f"{layer.name} multiply_adds"] = layer.multiply_adds
    return figures


def _changed_fields(description: Description) -> str:
    """The fields that differ from the named network's, "width=0.5, num_classes=10"."""
    plain = models.create({"name": description.name, "input": description.network.input})
    return ", ".join(
        f"{field}={new}" for field, (_, new) in field_differences(plain, description.network)
    )


def _table(measured: cost.Cost) -> Iterator[str]:
    heading = "layer", "kind", "kernel / stride / pad", "output", "receptive field"
    header = (*heading, "params", "multiply-adds ", "%")
    rows: list[tuple[str, ...]] = [header]
    whole = measured.multiply_adds or 1
    for layer in measured.layers:
        again = f" ({layer.calls} times)" if layer.calls > 1 else ""
        field = layer.receptive_field
        rows.append(
            (
                layer.name,
                layer.kind + again,
                window_text(layer.window),
                times(layer.output),
                "" if field is None else _side(field),
                f"{layer.params:,}",
                f"{layer.multiply_adds:,}" + ("*" if _is_own_word(layer) else " "),
                f"{100 * layer.multiply_adds / whole:.2f}",
            )
        )
    sums = f"{measured.params:,}", f"{measured.multiply_adds:,} "
    total = ("total", "", "", "", "", *sums, "100.00")
    yield tabulate(
        [*rows, SEPARATING_LINE, total],
        headers="firstrow",
        tablefmt="simple",
        colalign=("left",) * 4 + ("right",) * 4,
        disable_numparse=True,
    )


def _is_own_word(layer: cost.Layer) -> bool:
    return layer.declared and layer.multiply_adds > 0


def window_text(window: Window | None) -> str:
    """ "7×7 / 2 / 3"; padding that differs by side reads "0+1", by axis "1+2×2+2"."""
    if window is None:
        return ""
    pads = [str(low) if low == high else f"{low}+{high}" for low, high in window.pad]
    pad = pads[0] if pads[0] == pads[1] else "×".join(pads)
    return f"{times(window.kernel)} / {_side(window.stride)} / {pad}"


def field_differences(
    before: models.Network, after: models.Network
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """The fields that differ between two networks; None if a network has no such field."""
    names = [
        {field.name for field in dataclasses.fields(network) if field.init} - {"parent", "name"}
        for network in (before, after)
    ]
    for name in sorted(names[0] | names[1]):
        pair = (getattr(before, name, None), getattr(after, name, None))
        if pair[0] != pair[1]:
            yield name, pair


def times(shape: Iterable[int]) -> str:
    """A shape as the papers print it: 224×224×3."""
    return "×".join(map(str, shape))


def _side(pair: Sequence[int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else times(pair)
