"""Answers for images: classes, features of a layer, and a trained network as one file.

    python predict.py photo.jpg photos/ --workdir=runs/photos
    find photos -name '*.jpg' | python predict.py - --workdir=runs/photos --json
    python predict.py photos/ --workdir=runs/photos --features=fc7 --out=features.npz
    python predict.py --workdir=runs/photos --export=network.npz

Names are image files (JPEG or PNG), folders, or "-" for a list of names on standard input. Images
are cut and resized as the run tests, or as a protocol of evaluate.py does. Reads only the images
and the workdir. An image that cannot be read is one line on standard error; the others are
answered, and the exit status is 1.
"""

from startup import shell

if __name__ == "__main__":
    shell.attach()  # before the slow imports, so that Ctrl-C during them prints one line, too

from absl import flags

from startup import command_line

if __name__ == "__main__":
    flags.DEFINE_multi_string(
        "image", [], "An image file, a folder, or -; --image= may be left out."
    )
    flags.DEFINE_string("workdir", None, "Folder of a run.")
    flags.DEFINE_string("step", "last", "The checkpoint: last, best (by validation), or N.")
    flags.DEFINE_string(
        "protocol", "plain", "The run's own view (plain), or another protocol of evaluate.py."
    )
    flags.DEFINE_integer("top", 5, "Classes per image, the most probable first.", 1)
    flags.DEFINE_bool("json", False, "Print one JSON object per image and line.")
    flags.DEFINE_string("features", None, "The layer whose output is written to --out.")
    flags.DEFINE_string("out", None, "The .npz file for --features.")
    flags.DEFINE_string("export", None, "Write the network to this .npz file, for jax alone.")
    flags.DEFINE_integer(
        "batch_size", None, "Images at a time, by default config.eval.batch_size.", 1
    )
    command_line.parse(
        bare="image"
    )  # before jax is imported, so that mistakes are reported at once

import dataclasses
import itertools
import json
import os
import pathlib
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

import sharding
from data import image_files
from data.damage import Damaged
from errors import UserError
from protocols.predictions import Cuts, Predictor, smaller
from protocols.registry import Protocol
from training import exported, trained
from training.trained import Trained
from training.workdirs import writing

# Threads that decode. Pillow releases the GIL, but more threads than these wait for Python's.
THREADS = min(16, os.cpu_count() or 1)
NPZ = (".npz",)  # the files of --out and --export
WIDEST_CLASS = 40  # characters of the table's column

Image = np.ndarray | Cuts


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a network makes of an image file.

    posteriors: float64 [classes]. features: the layer's output, float32, if one was asked for.
    """

    file: str
    posteriors: np.ndarray
    features: np.ndarray | None


def main() -> None:
    """Does what the flags ask for; exits with status 1 if an image could not be read."""
    given = flags.FLAGS
    _check_flags(given)
    loaded = trained.load(given.workdir, step=trained.step_named(given.step))
    if given.export:
        exported.save(loaded, given.export)
        print(given.export)
        return

    files = image_files.listed(given.image)
    batch = given.batch_size or loaded.config.eval.batch_size
    show = _Json(loaded, given.top) if given.json else _Table(loaded, given.top)
    kept: list[Answer] = []
    damaged = 0
    for answer in answers(loaded, files, given.protocol, batch=batch, layer=given.features or ""):
        if isinstance(answer, Damaged):
            damaged += 1
            print(command_line.one_line(answer), file=sys.stderr)
        else:
            show(answer)
            if given.features:
                kept.append(answer)
    if kept:
        _save_features(kept, given.features, given.out)
        if not given.json:
            print(given.out)
    if damaged:
        raise SystemExit(1)


def answers(
    loaded: Trained, files: Iterable[str], text: str = "plain", *, batch: int, layer: str = ""
) -> Iterator[Answer | Damaged]:
    """The network's answer for each file, in order; what is wrong with a file that is damaged.

    text: the protocol. batch: images at a time; the next ones are decoded meanwhile. layer: see
    `Answer.features`. Raises UserError, before it reads an image, if there is no file or the
    network does not support the protocol or has no such layer.
    """
    files = iter(files)
    first = list(itertools.islice(files, batch))
    if not first:
        raise UserError("no images: give image files, folders, or - and names on standard input")
    # A power of two, so that few sizes are compiled.
    batch = min(batch, 1 << (len(first) - 1).bit_length())
    predictor = Predictor(loaded, sharding.create_mesh(), batch, layer)
    protocol = predictor.protocol(text)
    stored = loaded.recipe.stored
    predictor.multiply_adds(protocol, (stored[0] or 256, stored[1] or 256))
    if layer:
        _check_layer(predictor, protocol)

    def read(file: str) -> Image | Damaged:
        try:
            image = image_files.read(file, stored)
        except Damaged as error:
            return error
        return image if image.shape == stored else smaller(image, protocol)

    stream = _ahead(read, itertools.chain(first, files), batch + THREADS)
    while group := list(itertools.islice(stream, batch)):
        images = [image for _, image in group if not isinstance(image, Damaged)]
        found = iter(_answers(predictor, protocol, images))
        for file, image in group:
            yield image if isinstance(image, Damaged) else Answer(file, *next(found))


def _ahead(
    read: Callable[[str], Image | Damaged], files: Iterable[str], count: int
) -> Iterator[tuple[str, Image | Damaged]]:
    """Each file and what `read` returns; up to `count` files are read ahead in threads."""
    waiting: deque[tuple[str, Future[Image | Damaged]]] = deque()
    with ThreadPoolExecutor(THREADS) as threads:
        for file in files:
            waiting.append((file, threads.submit(read, file)))
            if len(waiting) > count:
                name, result = waiting.popleft()
                yield name, result.result()
        for name, result in waiting:
            yield name, result.result()


def _answers(
    predictor: Predictor, protocol: Protocol, images: Sequence[Image]
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Posteriors and features of each image.

    Images that have the stored size of the run's data set are cut on the device, as those are; all
    others on the host.
    """
    stored = predictor.recipe.stored
    as_stored: dict[int, np.ndarray] = {}
    others: dict[int, Image] = {}
    for place, image in enumerate(images):
        if isinstance(image, np.ndarray) and image.shape == stored:
            as_stored[place] = image
        else:
            others[place] = image
    rows: list[tuple[np.ndarray, np.ndarray | None]] = [(np.empty(0), None)] * len(images)
    groups: list[tuple[Iterable[int], np.ndarray | list[Image]]] = []
    if as_stored:
        groups.append((as_stored, np.stack(list(as_stored.values()))))
    if others:
        groups.append((others, list(others.values())))
    for places, group in groups:
        posteriors, features = predictor.answer(group, protocol)
        for row, place in enumerate(places):
            rows[place] = posteriors[row], None if features is None else features[row]
    return iter(rows)


def _check_layer(predictor: Predictor, protocol: Protocol) -> None:
    views = protocol.views((256, 256))
    if len(views) > 1 or views[0][0].dense:
        raise UserError(
            f"--features: needs a protocol of one view, as plain; {protocol.label} has {len(views)}"
        )
    network, layer = predictor.network, predictor.layer
    image = jax.ShapeDtypeStruct((1, *network.input), jnp.float32)
    try:
        jax.eval_shape(
            lambda image: network.apply(
                predictor.trained.variables, image, train=False, capture=(layer,)
            ),
            image,
        )
    except ValueError as error:
        raise UserError(f"--features: {str(error).removeprefix('capture: ')}") from None


class _Table:
    """Prints an image's classes as rows of a table: probability, class, and the image's name."""

    def __init__(self, loaded: Trained, top: int) -> None:
        self.names, self.top = loaded.class_names, top
        self.wide = max(len("class"), min(max(map(len, self.names)), WIDEST_CLASS))
        self.begun = False

    def __call__(self, answer: Answer) -> None:
        if not self.begun:
            print(f"probability  {'class':{self.wide}}  image")
            self.begun = True
        shown = _shown(answer.file)
        for place in _best(answer, self.top):
            percent = f"{100 * answer.posteriors[place]:.1f}%"
            print(f"{percent:>11}  {self.names[place]:{self.wide}}  {shown}".rstrip())
            shown = ""


class _Json:
    """Prints an image's classes as one line of JSON."""

    def __init__(self, loaded: Trained, top: int) -> None:
        self.names, self.top = loaded.class_names, top

    def __call__(self, answer: Answer) -> None:
        classes = [
            {
                "class": self.names[place],
                "index": place,
                "probability": float(answer.posteriors[place]),
            }
            for place in _best(answer, self.top)
        ]
        print(json.dumps({"image": _shown(answer.file), "classes": classes}, ensure_ascii=False))


def _best(answer: Answer, top: int) -> list[int]:
    """The most probable classes; of equal ones the lower index comes first, as in argmax."""
    return np.argsort(-answer.posteriors, kind="stable")[:top].tolist()


def _shown(file: str) -> str:
    """A file's name as text; bytes that are not UTF-8 are escaped."""
    return os.fsencode(file).decode(errors="backslashreplace")


def _save_features(kept: Sequence[Answer], layer: str, path: str) -> None:
    with writing(pathlib.Path(path)):
        np.savez(
            path,
            features=np.stack([answer.features for answer in kept if answer.features is not None]),
            images=np.array([_shown(answer.file) for answer in kept]),
            layer=np.array(layer),
        )


def _check_flags(given: flags.FlagValues) -> None:
    """Raises UserError for flags that do not go together or paths that cannot be written."""
    if not given.workdir:
        raise UserError("--workdir is missing; see --help")
    trained.step_named(given.step)
    if given.export and (given.image or given.features):
        raise UserError("--export: writes the network only; give no images and no --features")
    if not given.export and not given.image:
        raise UserError("no images: give image files, folders, or -; see --help")
    if bool(given.features) != bool(given.out):
        raise UserError("--features and --out: give both or neither")
    for flag, path in (("--out", given.out), ("--export", given.export)):
        if path:
            command_line.check_output(flag, path, NPZ)


if __name__ == "__main__":
    command_line.run(main)
