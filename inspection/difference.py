"""The differences between two networks: fields, totals, and layers by name."""

from collections.abc import Iterator, Mapping
from typing import Any

from inspection.description import Description, field_differences, layer_json, times


def between(before: Description, after: Description) -> dict[str, Any]:
    """The differences: fields, totals, and layers by name, each as [before, after]."""
    layers_before = {layer.name: layer_json(layer) for layer in before.cost.layers}
    layers_after = {layer.name: layer_json(layer) for layer in after.cost.layers}
    changed: dict[str, Any] = {}
    for name in dict.fromkeys((*layers_before, *layers_after)):
        old, new = layers_before.get(name), layers_after.get(name)
        if old is None or new is None:
            changed[name] = [old, new]
        elif old != new:
            changed[name] = {key: [old[key], new[key]] for key in old if old[key] != new[key]}
    fields = dict(field_differences(before.network, after.network))
    if type(before.network) is not type(after.network):
        fields["class"] = (type(before.network).__name__, type(after.network).__name__)
    totals = {
        what: [getattr(before.cost, what), getattr(after.cost, what)]
        for what in ("params", "multiply_adds")
        if getattr(before.cost, what) != getattr(after.cost, what)
    }
    return {
        "names": [before.name, after.name],
        "fields": {name: list(pair) for name, pair in fields.items()},
        "totals": totals,
        "layers": changed,
    }


def lines(before: str, after: str, differences: Mapping[str, Any]) -> Iterator[str]:
    """The differences as lines of text, after a line with the two names."""
    yield f"{before} -> {after}"
    for part in ("fields", "totals"):
        yield f"\n{part}" + ("" if differences[part] else ": the same")
        for name, (old, new) in differences[part].items():
            yield f"  {name}: {_plain(old)} -> {_plain(new)}"
    layers = differences["layers"]
    yield "\nlayers" + ("" if layers else ": the same")
    for name, change in layers.items():
        if isinstance(change, dict):
            parts = (f"{key} {_plain(old)} -> {_plain(new)}" for key, (old, new) in change.items())
            yield f"  {name}: {'; '.join(parts)}"
        else:
            side, layer = ("-", change[0]) if change[0] else ("+", change[1])
            yield (
                f"{side} {name}: {layer['kind']} {times(layer['output'])}, "
                f"params {layer['params']:,}, multiply_adds {layer['multiply_adds']:,}"
            )


def _plain(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
