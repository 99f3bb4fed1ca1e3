"""A network as its paper prints it: layers, shapes, receptive fields, parameters, multiply-adds.

    python describe.py googlenet_2014
    python describe.py resnet34_B:num_classes=10,width=0.5 --json
    python describe.py --config=configs/lenet5.py:data=digits --config.model.width=2
    python describe.py --diff plain34 resnet34_A
    python describe.py --all --picture cost.png
    python describe.py --config=configs/resnet_cifar.py --show augment.png

Every figure is measured on the traced network, from shapes alone: no weights are allocated, so the
thousand-layer nets take seconds. Published figures and known misprints stand beside the counts.
"""

from startup import shell

if __name__ == "__main__":
    shell.attach()  # before the slow imports, so that Ctrl-C during them is one line, too

import argparse
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from errors import UserError
from startup import command_line


# argparse and not absl's flags as in the other commands: those take no two values after --diff.
class _Parser(argparse.ArgumentParser):
    """Answers a mistake with one line instead of its whole usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see python describe.py --help")


def read(arguments: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """The arguments, and the overrides of the config among them by field.

    Raises UserError for what it cannot understand.
    """
    parser = _Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "network", nargs="?", metavar="NAME[:field=value,...]", help="a network and its fields"
    )
    parser.add_argument(
        "--config",
        metavar="PATH[:argument]",
        help="a config file, and --config.FIELD=value, as train.py takes them",
    )
    parser.add_argument("--diff", nargs=2, metavar=("A", "B"), help="two networks, as NAME is")
    parser.add_argument("--all", action="store_true", help="one line a network")
    parser.add_argument("--picture", metavar="PATH", help="with --all: published errors over cost")
    parser.add_argument(
        "--show", metavar="PATH", help="with --config: training images as the network sees them"
    )
    parser.add_argument("--data_dir", metavar="PATH", help="where prepared data lies")
    parser.add_argument("--json", action="store_true", help="JSON and nothing else")
    parser.add_argument(
        "--version", action="store_true", help="versions, devices, commit and the cache"
    )
    others, overrides = command_line.divided(arguments)
    given = parser.parse_args(others)
    if given.version:
        return given, overrides
    if overrides and not given.config:
        raise UserError(f"--config.{next(iter(overrides))}: needs --config")
    wanted = [
        flag
        for flag, value in {
            "NAME": given.network,
            "--config": given.config,
            "--diff": given.diff,
            "--all": given.all,
        }.items()
        if value
    ]
    if len(wanted) != 1:
        raise UserError(
            f"exactly one of NAME, --config, --diff and --all, not {', '.join(wanted) or 'none'}"
        )
    if given.picture and not given.all:
        raise UserError("--picture: needs --all")
    if given.show is not None and not given.config:
        raise UserError("--show: needs --config")
    for flag, path in (("--picture", given.picture), ("--show", given.show)):
        if path is not None:
            command_line.check_picture(flag, path)
    return given, overrides


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `describe.py ... | head` ends in silence
    try:
        read(sys.argv[1:])  # before jax is imported: a mistake is answered at once
    except UserError as error:
        command_line.fail(str(error))

import dataclasses
import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
from tabulate import SEPARATING_LINE, tabulate

import models
from configs import files
from inspection import cost, picture
from inspection.trace import Window
from papers import misprints, references, results


@dataclasses.dataclass(frozen=True)
class Description:
    """A network, what is printed about it, and what it costs."""

    name: str
    network: models.Network
    preset: models.Preset
    cost: cost.Cost


def main(arguments: Sequence[str]) -> None:
    """Prints what the arguments ask for. Raises UserError for what it cannot understand."""
    given, overrides = read(arguments)
    if given.version:
        print(command_line.version())
        return
    # Shapes need no accelerator, and must not take one from a run that does.
    jax.config.update("jax_platforms", "cpu")

    if given.show:
        show(given.config, overrides, given.show, given.data_dir)
        return
    if given.all:
        describe_all(as_json=given.json, path=given.picture)
        return
    if given.diff:
        before, after = (describe(parse(text)) for text in given.diff)
        differences = diff(before, after)
        lines = _diff_lines(given.diff[0], given.diff[1], differences)
    else:
        spec = read_config(given.config, overrides) if given.config else parse(given.network)
        description = describe(spec)
        differences = to_json(description)
        lines = page(description)
    if given.json:
        print(json.dumps(differences, indent=2, ensure_ascii=False))
    else:
        print("\n".join(lines))


def show(text: str, overrides: Mapping[str, str], path: str, data_dir: str | None = None) -> None:
    """Draws a config's first training images as a test and the first steps see them."""
    # Imported here: a network by its name needs no data.
    import input_pipeline
    import sharding
    from augmentations import sheet

    config = files.read(text, overrides)
    mesh = sharding.create_mesh(jax.devices()[:1])
    sheet.draw(input_pipeline.create(config, mesh, data_dir), path)
    print(path)


def parse(text: str) -> dict[str, Any]:
    """The spec of "NAME:field=value,...". Values are Python literals, or bare words as strings."""
    name, _, fields = text.partition(":")
    spec: dict[str, Any] = {"name": name}
    for item in files.split(fields):
        field, equals, value = item.partition("=")
        if not equals or not field.strip():
            raise UserError(f"{text}: {item!r} is not field=value")
        spec[field.strip()] = files.literal(value.strip())
    return spec


def read_config(text: str, overrides: Mapping[str, str]) -> dict[str, Any]:
    """The spec of the network that a config trains, its input and classes decided by its data.

    text: "PATH" or "PATH:argument", as train.py takes it; overrides: as written, by dotted field.
    """
    # Imported here: a network by its name needs no data sets.
    import data
    from augmentations import recipe

    config = files.read(text, overrides)
    stored = data.dataset(config.data.name)
    shape = recipe.read(config.data, stored.shape).image_shape
    return {**config.model.to_dict(), "input": tuple(shape), "num_classes": stored.classes}


def describe(spec: Mapping[str, Any]) -> Description:
    """Builds and measures the network of `spec`. Raises UserError, one line, where it cannot."""
    try:
        network = models.create(spec)
        measured = models.check(network, cost.measure)
    except ValueError as error:
        raise UserError(str(error)) from None
    return Description(spec["name"], network, models.preset(spec["name"]), measured)


def to_json(description: Description) -> dict[str, Any]:
    """The description as JSON has it. Shapes are those of one image."""
    return {
        "name": description.name,
        "params": description.cost.params,
        "multiply_adds": description.cost.multiply_adds,
        "input_shape": description.cost.input_shape,
        "layers": [_layer_json(layer) for layer in description.cost.layers],
        "source": description.preset.source,
        "published": published(description),
        "deviations": list(description.preset.deviations),
        "misprints": [
            {key: value for key, value in dataclasses.asdict(entry).items() if key != "networks"}
            for entry in misprints.misprints(description.name)
        ],
    }


def _layer_json(layer: cost.Layer) -> dict[str, Any]:
    fields = dataclasses.asdict(layer)
    window = fields.pop("window") or {"kernel": None, "stride": None, "pad": None}
    return {**fields, **window}


def page(description: Description) -> Iterator[str]:
    """The lines of the description: table, published figures, deviations, misprints."""
    measured, preset = description.cost, description.preset
    fields = _changed_fields(description)
    yield f"{description.name}  ({preset.source})"
    yield f"{type(description.network).__name__}, input {_times(measured.input_shape)}" + (
        f", with {fields}" if fields else ""
    )
    yield ""
    yield from _table(measured)
    if any(map(_is_own_word, measured.layers)):
        yield "* by the layer's own formula; the others are counted in the traced network"
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
        yield f"the paper's initial weights often stall; initializer={trains} trains"
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


def _item(*parts: str, bullet: str = "  - ") -> Iterator[str]:
    """An item of a list, a part a line, folded at 100 columns."""
    for index, part in enumerate(parts):
        first = bullet if index == 0 else "    "
        yield from textwrap.wrap(part, 100, initial_indent=first, subsequent_indent="    ")


def published(description: Description) -> dict[str, str]:
    """What is printed about the network: its size, and its errors under the plainest protocol."""
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
    """Our counts under the names that published figures have: "params", "C1 params", ..."""
    figures = {"params": measured.params, "multiply_adds": measured.multiply_adds}
    for layer in measured.layers:
        figures[f"{layer.name} params"] = layer.params
        figures[f"{layer.name} multiply_adds"] = layer.multiply_adds
    return figures


def _changed_fields(description: Description) -> str:
    """The fields that differ from the named network's, "width=0.5, num_classes=10"."""
    plain = models.create({"name": description.name, "input": description.network.input})
    return ", ".join(
        f"{field}={new}" for field, (_, new) in _field_differences(plain, description.network)
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
                _times(layer.output),
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
    return f"{_times(window.kernel)} / {_side(window.stride)} / {pad}"


def describe_all(*, as_json: bool, path: str | None) -> None:
    """Prints every network, a line each once it is traced, and draws the picture at `path`."""
    costs: dict[str, cost.Cost] = {}
    wide = max(map(len, models.NETWORKS))
    if not as_json:
        print(f"{'network':{wide}}  {'input':>11}  {'params':>13}  {'multiply-adds':>16}  layers")
    for name in models.NETWORKS:
        measured = costs[name] = describe({"name": name}).cost
        if not as_json:
            print(
                f"{name:{wide}}  {_times(measured.input_shape):>11}  {measured.params:>13,}  "
                f"{measured.multiply_adds:>16,}  {len(measured.layers):>6}",
                flush=True,
            )
    if as_json:
        lines = [
            {
                "name": name,
                "params": measured.params,
                "multiply_adds": measured.multiply_adds,
                "input_shape": measured.input_shape,
            }
            for name, measured in costs.items()
        ]
        print(json.dumps(lines, indent=2))
    if path:
        picture.draw(costs, path)


def diff(before: Description, after: Description) -> dict[str, Any]:
    """What differs: fields, totals, and layers by name, each as [before, after]."""
    layers_before = {layer.name: _layer_json(layer) for layer in before.cost.layers}
    layers_after = {layer.name: _layer_json(layer) for layer in after.cost.layers}
    changed: dict[str, Any] = {}
    for name in dict.fromkeys((*layers_before, *layers_after)):
        old, new = layers_before.get(name), layers_after.get(name)
        if old is None or new is None:
            changed[name] = [old, new]
        elif old != new:
            changed[name] = {key: [old[key], new[key]] for key in old if old[key] != new[key]}
    fields = dict(_field_differences(before.network, after.network))
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


def _field_differences(
    before: models.Network, after: models.Network
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """The fields of two networks that differ, None where one has no such field."""
    names = [
        {field.name for field in dataclasses.fields(network) if field.init} - {"parent", "name"}
        for network in (before, after)
    ]
    for name in sorted(names[0] | names[1]):
        pair = (getattr(before, name, None), getattr(after, name, None))
        if pair[0] != pair[1]:
            yield name, pair


def _diff_lines(before: str, after: str, differences: Mapping[str, Any]) -> Iterator[str]:
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
                f"{side} {name}: {layer['kind']} {_times(layer['output'])}, "
                f"params {layer['params']:,}, multiply_adds {layer['multiply_adds']:,}"
            )


def _times(shape: Iterable[int]) -> str:
    return "×".join(map(str, shape))


def _side(pair: Sequence[int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else _times(pair)


def _plain(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        command_line.fail(str(error))
