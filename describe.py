"""Describes a network: layers, shapes, receptive fields, parameters, multiply-adds.

    python describe.py googlenet_2014
    python describe.py resnet34_B:num_classes=10,width=0.5 --json
    python describe.py --config=configs/lenet5.py:data=digits --config.model.width=2
    python describe.py --diff plain34 resnet34_A
    python describe.py vgg_D --picture vgg.png
    python describe.py --all --picture cost.png
    python describe.py --config=configs/resnet_cifar.py --show augment.png
    python describe.py --weights=runs/lenet5_digits --show weights.png

All numbers are measured on the traced network, without allocating weights, so that networks of a
thousand layers take seconds. Published numbers and known misprints are printed beside the counts.
"""

from startup import shell

if __name__ == "__main__":
    shell.attach()  # before the slow imports, so that Ctrl-C during them also prints one line

import argparse
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from errors import UserError
from startup import command_line


# argparse, not absl's flags as in the other commands: absl cannot read two values after --diff.
class _Parser(argparse.ArgumentParser):
    """Raises UserError for a mistake, instead of printing the usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see python describe.py --help")


def read(arguments: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """The arguments, and the config overrides among them by field.

    Exits after --version. Raises UserError for arguments that are not valid.
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
        help="a config file, and --config.FIELD=value, as for train.py",
    )
    parser.add_argument(
        "--diff", nargs=2, metavar=("A", "B"), help="compare two networks, each given like NAME"
    )
    parser.add_argument("--all", action="store_true", help="all networks, one line each")
    parser.add_argument(
        "--picture",
        metavar="PATH",
        help="draw the network, layer by layer; with --diff the totals of both; with --all "
        "published errors against cost",
    )
    parser.add_argument(
        "--weights", metavar="WORKDIR", help="a run: its first filters, nearest neighbours (--show)"
    )
    parser.add_argument(
        "--show",
        metavar="PATH",
        help="with --config: draw training images as the network's input; with --weights: draw "
        "first filters, and the training images nearest to test images by the last hidden layer",
    )
    parser.add_argument("--data_dir", metavar="PATH", help="folder of prepared data")
    parser.add_argument("--json", action="store_true", help="print only JSON")
    parser.add_argument(
        "--version", action="store_true", help="print versions, devices, commit and the cache"
    )
    others, overrides = command_line.divided(arguments)
    given = parser.parse_args(others)
    if given.version:
        command_line.say_version()
    if overrides and not given.config:
        raise UserError(f"--config.{next(iter(overrides))}: needs --config")
    wanted = [
        flag
        for flag, value in {
            "NAME": given.network,
            "--config": given.config,
            "--weights": given.weights,
            "--diff": given.diff,
            "--all": given.all,
        }.items()
        if value
    ]
    if len(wanted) != 1:
        raise UserError(
            "give exactly one of NAME, --config, --weights, --diff and --all, not "
            f"{', '.join(wanted) or 'none'}"
        )
    if given.picture and given.show is not None:
        raise UserError("--picture: draws layers or totals; leave out --show, which draws images")
    if given.show is not None and not (given.config or given.weights):
        raise UserError("--show: needs --config or --weights")
    if given.weights and not given.show:
        raise UserError("--weights: needs --show=PATH, the picture to draw")
    for flag, path in (("--picture", given.picture), ("--show", given.show)):
        if path is not None:
            command_line.check_output(flag, path)
    return given, overrides


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `describe.py ... | head` prints no error
    try:
        read(sys.argv[1:])  # before jax is imported, so that mistakes are reported at once
    except UserError as error:
        command_line.fail(str(error))

import json
from collections.abc import Mapping
from typing import Any

import jax

import models
from configs import files
from inspection import cost, description, difference, network_picture, picture


def main(arguments: Sequence[str]) -> None:
    """Prints the description. Raises UserError for arguments that are not valid."""
    given, overrides = read(arguments)
    # Tracing needs no accelerator, and must not take one from a training run.
    jax.config.update("jax_platforms", "cpu")

    if given.weights:
        show_weights(given.weights, given.show, given.data_dir)
        return
    if given.show:
        show(given.config, overrides, given.show, given.data_dir)
        return
    if given.all:
        describe_all(as_json=given.json, path=given.picture)
        return
    if given.diff:
        before, after = (description.describe(parse(text)) for text in given.diff)
        costs = dict(zip(given.diff, (before.cost, after.cost), strict=True))
        if given.picture:
            network_picture.compare(costs, given.picture)
        differences = difference.between(before, after)
        lines = difference.lines(given.diff[0], given.diff[1], differences)
    else:
        spec = read_config(given.config, overrides) if given.config else parse(given.network)
        described = description.describe(spec)
        if given.picture:
            network_picture.draw(described.name, described.cost, given.picture)
        differences = description.to_json(described)
        lines = description.page(described)
    if given.json:
        print(json.dumps(differences, indent=2, ensure_ascii=False))
    else:
        print("\n".join(lines))


def show(text: str, overrides: Mapping[str, str], path: str, data_dir: str | None = None) -> None:
    """Draws a config's first training images as in a test and in the first steps."""
    # Imported here since a network given by name needs no data.
    import input_pipeline
    import sharding
    from augmentations import sheet

    config = files.read(text, overrides)
    mesh = sharding.create_mesh(jax.devices()[:1])
    sheet.draw(input_pipeline.create(config, mesh, data_dir), path)
    print(path)


def show_weights(workdir: str, path: str, data_dir: str | None = None) -> None:
    """Draws a run's first filters, and test images beside the nearest training images.

    Without the data set only the filters are drawn, and a line says why.
    """
    # Imported here since a network given by name needs no weights.
    from inspection import weights, weights_picture
    from training import neighbours, trained

    loaded = trained.load(workdir)
    layer, filters = weights.first_filters(loaded.network, loaded.variables["params"])
    found = None
    try:
        found = neighbours.find(loaded, data_dir)
    except UserError as error:
        print(f"left out: nearest neighbours: {error}")
    title = f"{loaded.config.model.name} on {loaded.config.data.name}, step {loaded.step:,}"
    weights_picture.draw(path, title, layer, filters, found)
    print(path)


def parse(text: str) -> dict[str, Any]:
    """The spec of "NAME:field=value,...". Values are Python literals, or bare words as strings."""
    name, _, fields = text.partition(":")
    spec: dict[str, Any] = {"name": name}
    for item in files.split(fields):
        field, equals, value = item.partition("=")
        if not equals or not field.strip():
            raise UserError(f"{text}: {item!r} is not field=value")
        if field.strip() in spec:
            raise UserError(f"{text}: {field.strip()} is given twice")
        spec[field.strip()] = files.literal(value.strip())
    return spec


def read_config(text: str, overrides: Mapping[str, str]) -> dict[str, Any]:
    """The spec of the network of a config, with the input and classes of its data set.

    text: "PATH" or "PATH:argument", as for train.py; overrides: their text, by dotted field.
    """
    # Imported here since a network given by name needs no data sets.
    import data
    from augmentations import recipe

    config = files.read(text, overrides)
    stored = data.dataset(config.data.name)
    shape = recipe.read(config.data, stored.shape).image_shape
    return {**config.model.to_dict(), "input": tuple(shape), "num_classes": stored.classes}


def describe_all(*, as_json: bool, path: str | None) -> None:
    """Prints one line per network as soon as it is traced, and draws the picture at `path`."""
    costs: dict[str, cost.Cost] = {}
    wide = max(map(len, models.NETWORKS))
    if not as_json:
        print(f"{'network':{wide}}  {'input':>11}  {'params':>13}  {'multiply-adds':>16}  layers")
    for name in models.NETWORKS:
        measured = costs[name] = description.describe({"name": name}).cost
        if not as_json:
            print(
                f"{name:{wide}}  {description.times(measured.input_shape):>11}  "
                f"{measured.params:>13,}  {measured.multiply_adds:>16,}  {len(measured.layers):>6}",
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


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        command_line.fail(str(error))
