"""Weights of other frameworks in and out.

    python convert.py --format=torchvision --weights=vgg16-397923af.pth --network=vgg_D \\
        --workdir=runs/vgg_D_torchvision
    python convert.py --format=caffe --weights=VGG_ILSVRC_16_layers.caffemodel --network=vgg_D \\
        --workdir=runs/vgg_D_caffe
    python convert.py --format=keras --weights=resnet50.weights.h5 --network=resnet50_keras \\
        --workdir=runs/resnet50_keras
    python convert.py --workdir=runs/vgg_D_caffe --format=caffe --to=vgg_D.caffemodel

In: the workdir has a config with the source's preprocessing, one checkpoint and the record of where
the weights come from; evaluate.py and training.trained.load use it like any other. Every array of
the file must have its place in the network and every array of the network its place in the file;
otherwise nothing is written. Out (--to): the same table read backwards.
"""

from startup import shell

if __name__ == "__main__":
    shell.attach()  # before the slow imports, so that Ctrl-C during them prints one line, too

from absl import flags

from startup import command_line

if __name__ == "__main__":
    flags.DEFINE_string("format", None, "Of the file: torchvision (and timm), caffe or keras.")
    flags.DEFINE_string("weights", None, "The file to read: .safetensors, .pth; .caffemodel; .h5.")
    flags.DEFINE_string("network", None, "The network in the file, by our name; see --list.")
    flags.DEFINE_string("workdir", None, "The folder to write; with --to, the run to read.")
    flags.DEFINE_string("to", None, "A file to write, in the format of --format.")
    flags.DEFINE_string("step", "last", "With --to, the checkpoint: last, best, or N.")
    flags.DEFINE_string(
        "mean_image", None, "The mean image (.binaryproto) that the network's images had removed."
    )
    flags.DEFINE_string(
        "mean_pixel", None, "Or the mean pixel BLUE,GREEN,RED, 0 to 255, if not the source's own."
    )
    flags.DEFINE_bool(
        "transform_input",
        None,
        "Whether torchvision's GoogLeNet scaled its input anew, as its own weights need it: then, "
        "the default, pixels are in -1..1.",
    )
    flags.DEFINE_string("labels", None, "A file with one class name a line, in the file's order.")
    flags.DEFINE_bool("list", False, "Print the networks of each format, with their preprocessing.")
    command_line.parse()  # before jax is imported, so that mistakes are reported at once

import pathlib

import models
from conversion import sources, table, workdir
from conversion.sources import SOURCES, Preprocessing, Source
from errors import UserError
from training import trained


def main() -> None:
    """Converts what the flags name and prints what went where."""
    given = flags.FLAGS
    if given.list:
        print("\n".join(f"{name:11} {network}" for name in SOURCES for network in listed(name)))
        return
    for flag in ("format", "workdir"):
        if getattr(given, flag) is None:
            raise UserError(f"--{flag} is missing; see --help")
    if given.to is not None:
        if given.weights is not None:
            raise UserError("--to: writes a file, --weights reads one; give one of them")
        export(given.format, given.workdir, given.to, step=given.step)
        return
    for flag in ("weights", "network"):
        if getattr(given, flag) is None:
            raise UserError(f"--{flag} is missing; see --help")
    convert(
        given.format,
        given.weights,
        given.network,
        given.workdir,
        mean_image=given.mean_image,
        mean_pixel=given.mean_pixel,
        transform_input=given.transform_input,
        labels=given.labels,
    )


def listed(name: str) -> list[str]:
    """The networks of a source, each with its preprocessing."""
    return [
        f"{network:30} {preprocessing or 'less --mean_image or --mean_pixel'}"
        for network, preprocessing in SOURCES[name].networks.items()
    ]


def convert(
    source_name: str,
    weights: str | pathlib.Path,
    name: str,
    folder: str | pathlib.Path,
    *,
    mean_image: str | None = None,
    mean_pixel: str | None = None,
    transform_input: bool | None = None,
    labels: str | None = None,
) -> None:
    """Makes the workdir `folder` of a file. Raises UserError, one line, before writing anything."""
    source, path = source_of(source_name), pathlib.Path(weights)
    source.require(name)
    network = models.create({"name": name})
    if transform_input is None:
        preprocessing = preprocessing_of(source, name, network.input[0], mean_image, mean_pixel)
    elif source_name == "torchvision" and name in sources.TRANSFORMING:
        preprocessing = sources.TRANSFORM_INPUT if transform_input else sources.TORCHVISION
    else:
        raise UserError(f"--transform_input: {name} of {source_name} has no such step")
    class_names = None if labels is None else class_names_in(labels, network.num_classes)
    rows, shapes = source.rows(name, network), models.variables_of(network)
    try:
        variables = table.take(rows, shapes, source.read(path, name, network))
    except UserError as error:
        line = str(error)
        raise UserError(line if line.startswith(str(path)) else f"{path}: {line}") from None
    workdir.write(
        pathlib.Path(folder),
        workdir.config_of(name, network.heads, network.input[0], preprocessing.normalize),
        variables,
        preprocessing.statistics,
        class_names,
        {
            "source": source_name,
            "network": name,
            "file": path.name,
            "sha256": workdir.sha256(path),
            "arrays": {row.ours: row.theirs for row in rows},
        },
    )
    print(f"{table.shown(rows, shapes)}\n{len(rows)} arrays -> {folder}")


def export(
    source_name: str, folder: str | pathlib.Path, to: str | pathlib.Path, *, step: str = "last"
) -> None:
    """Writes the weights of a run as a file of the source. Raises UserError, one line."""
    source = source_of(source_name)
    if step not in ("last", "best") and not step.isdecimal():
        raise UserError(f"--step={step!r}: expected last, best or the number of a step")
    run = trained.load(folder, step=int(step) if step.isdecimal() else step)
    name = run.config.model.name
    source.require(name)
    network = run.network.clone(heads=models.create({"name": name}).heads)
    rows = source.rows(name, network)
    source.write(pathlib.Path(to), name, table.give(rows, run.variables))
    shapes = models.variables_of(network)
    print(f"{table.shown(rows, shapes)}\n{len(rows)} arrays -> {to}")


def source_of(name: str) -> Source:
    """The source of that name. Raises UserError with the valid names."""
    if name not in SOURCES:
        raise UserError(f"--format={name}: valid names: {', '.join(SOURCES)}")
    return SOURCES[name]


def preprocessing_of(
    source: Source, name: str, side: int, image: str | None, pixel: str | None
) -> Preprocessing:
    """The source's preprocessing, with the mean that the user gives if it is another.

    Raises UserError if the user has to name one, names two, or may name none.
    """
    if image is not None and pixel is not None:
        raise UserError("--mean_image and --mean_pixel: give one of them")
    if not source.less_mean and (image or pixel):
        given = "mean_image" if image else "mean_pixel"
        raise UserError(f"--{given}: is for networks of Caffe and Keras; {name} has its own")
    if image is not None:
        mean = sources.mean_image(pathlib.Path(image), side)
        return Preprocessing(("per_pixel_mean()",), {"per_pixel_mean": (mean,)})
    if pixel is not None:
        return sources.less_mean(sources.mean_pixel(pixel))
    preprocessing = source.networks[name]
    if preprocessing is None:
        raise UserError(
            f"--mean_image is missing: the mean of {name} is not in its weights; give the "
            ".binaryproto that came with them, or --mean_pixel"
        )
    return preprocessing


def class_names_in(path: str, classes: int) -> tuple[str, ...]:
    """The lines of a file of class names. Raises UserError if their number is another."""
    try:
        names = tuple(pathlib.Path(path).read_text().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--labels: {path} cannot be read ({error})") from None
    if len(names) != classes:
        raise UserError(f"--labels: {path} has {len(names)} lines, the network {classes} classes")
    return names


if __name__ == "__main__":
    command_line.run(main)
