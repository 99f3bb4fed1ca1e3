"""`python -m data.prepare NAME [--archives DIR] [--data_dir DIR]`: converts archives to records.

Without `--archives` the archives are downloaded to DATA_DIR/downloads/NAME; an interrupted download
continues in the next call. With it, nothing is downloaded. Checksums are verified in both cases.
The records appear complete, by a rename, or not at all; the next call reuses the shards that an
interrupted one has finished.
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from data import (
    DATASETS,
    archives,
    cifar,
    dataset,
    digits,
    folder,
    idx,
    imagenet,
    scenes,
    synthetic,
)
from data.archives import Archive
from data.builder import write
from data.catalog import Dataset
from data.prepared import VERSION, data_directory, folder_name
from data.shards import Shards
from errors import UserError


@dataclasses.dataclass(frozen=True)
class Preparation:
    """How a set is prepared: its archives, reader and encoding.

    installed: the folder where a system package installs the archives; used if it exists.
    """

    archives: Sequence[Archive]
    splits: Callable[[Dataset, Mapping[str, Path]], Mapping[str, Shards]]
    encoding: str = "png"
    installed: Path | None = None


# The folder of the archives in Debian's and Ubuntu's package dataset-fashion-mnist.
PACKAGED = Path("/usr/share/datasets/fashion-mnist")

PREPARATIONS = {
    "digits": Preparation((), digits.splits),
    "synthetic": Preparation((), synthetic.splits),
    "mnist": Preparation(idx.MNIST, idx.splits),
    "fashion_mnist": Preparation(idx.FASHION_MNIST, idx.splits, installed=PACKAGED),
    "fashion_mnist_scenes": Preparation(idx.FASHION_MNIST, scenes.splits, installed=PACKAGED),
    "cifar10": Preparation((cifar.CIFAR10,), cifar.splits),
    "cifar100": Preparation((cifar.CIFAR100,), cifar.splits),
    "imagenette": Preparation((imagenet.IMAGENETTE,), imagenet.imagenette_splits, "jpeg"),
    "imagenet2012": Preparation(
        (imagenet.TRAIN, imagenet.VALIDATION, imagenet.KIT), imagenet.splits, "jpeg"
    ),
}


def prepare(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    archives_dir: str | os.PathLike[str] | None = None,
) -> Path:
    """Prepares a data set unless it is prepared already; returns the folder of its records.

    `archives_dir` holds the official archives; None downloads them. Raises UserError.
    """
    entry, home = dataset(name), data_directory(data_dir)
    target = home / folder_name(entry) / VERSION
    if not target.is_dir():
        recipe = PREPARATIONS[name.partition(":")[0]]
        paths = _obtain(name, recipe, home, archives_dir)
        write(entry, recipe.splits(entry, paths), recipe.encoding, home)
    return target


def _obtain(
    name: str, recipe: Preparation, home: Path, archives_dir: str | os.PathLike[str] | None
) -> dict[str, Path]:
    if not recipe.archives:
        return {}
    if archives_dir is not None:
        return archives.find(recipe.archives, Path(archives_dir).expanduser())
    if recipe.installed is not None and recipe.installed.is_dir():
        return archives.find(recipe.archives, recipe.installed)
    private = [archive.file for archive in recipe.archives if archive.url is None]
    if private:
        raise UserError(
            f"{name} is for registered users of image-net.org: put {', '.join(private)} into a "
            "folder DIR and add --archives=DIR"
        )
    return archives.download(recipe.archives, home / "downloads" / name)


class _Parser(argparse.ArgumentParser):
    """Prints one line for a usage error, without the whole usage."""

    def error(self, message: str) -> NoReturn:
        print(f"error: {message}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)


class _Version(argparse.Action):
    """Prints what every command's --version prints, then exits."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None):
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from startup import command_line  # slow: absl and jax

        command_line.say_version()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status, 2 for bad input."""
    parser = _Parser(prog="python -m data.prepare", description=__doc__)
    parser.add_argument("name", metavar="NAME", help=f"one of {', '.join(DATASETS)}, folder:PATH")
    parser.add_argument("--archives", metavar="DIR", help="take the archives from this folder")
    parser.add_argument(
        "--data_dir", metavar="DIR", help="default: TFDS_DATA_DIR, else ~/tensorflow_datasets"
    )
    parser.add_argument(
        "--version", action=_Version, help="print versions, devices, commit and the cache"
    )
    options = parser.parse_args(arguments)
    for flag in ("archives", "data_dir"):
        if getattr(options, flag) == "":
            parser.error(f"--{flag}: is empty")
    if options.archives is not None and not Path(options.archives).expanduser().is_dir():
        parser.error(f"--archives: there is no folder {options.archives}")
    try:
        entry = dataset(options.name)
        counts = " and ".join(f"{count:,} {split}" for split, count in entry.splits.items())
        if options.name.startswith("folder:"):
            _check_folder(options.name)
            print(f"{options.name}: {counts} images are intact; they are read in place")
        else:
            target = prepare(options.name, options.data_dir, options.archives)
            size = sum(file.stat().st_size for file in target.iterdir())
            print(f"{options.name}: {counts} images in {target} ({size / 1e6:,.0f} MB)")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "stopped; run the command again to continue: finished downloads and shards are kept",
            file=sys.stderr,
        )
        return 130
    return 0


def _check_folder(name: str) -> None:
    """Decodes every image of a folder, to find damaged ones before a run does."""
    for split in ("train", "test"):
        source = folder.FolderSource(name.partition(":")[2], split)
        for index in range(len(source)):
            source[index]


if __name__ == "__main__":
    sys.exit(main())
