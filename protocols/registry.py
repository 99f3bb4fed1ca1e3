"""The test protocols by name, and parsing of their text form: `grid_crop:sides=256+384`.

Sides and crops are in the papers' pixels, for a 224 × 224 network. For a network of another size
s × s, crops are s × s and a short side of Q becomes round(Q · s / 224). flip=0 leaves out mirror
images, for data such as digits. Reads no image.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from errors import UserError, did_you_mean
from protocols import crops
from protocols.crops import Size, View

PAPER_SIZE = 224
# AlexNet's 55 × 55 maps need 227-pixel crops; they come from the same 256-pixel squares.
PAPER_SIZES = (224, 227)
LARGEST = 4096  # largest side in pixels

AVERAGES = ("posteriors", "scores")


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A protocol for networks of one input size.

    label: its name and the options that differ from the paper's. source: paper and section.
    parts: functions from the stored (height, width) of an image to views; all parts have equal
    weight, and so have the views of a part. average: "posteriors", or "scores" before the softmax.
    """

    label: str
    source: str
    parts: tuple[Callable[[Size], list[View]], ...]
    average: str = "posteriors"

    def views(self, stored: Size) -> list[tuple[View, float]]:
        """The views of an image of this (height, width) and their weights, which sum to 1."""
        parts = [part(stored) for part in self.parts]
        return [(view, 1 / (len(parts) * len(views))) for views in parts for view in views]

    def distinct(self, stored: Size) -> list[tuple[View, float]]:
        """The views that differ, each once, with the sum of its weights.

        In a square image two thirds of GoogLeNet's 144 views coincide with others: 48 are distinct.
        """
        weights: dict[View, float] = {}
        for view, weight in self.views(stored):
            weights[view] = weights.get(view, 0.0) + weight
        return list(weights.items())

    @property
    def name(self) -> str:
        """The name without options."""
        return self.label.partition(":")[0]


@dataclasses.dataclass(frozen=True)
class InputSize:
    """A network's input size and the test-time view of its training run.

    short_side: the run tests the central crop at this short side; 0: the whole image.
    """

    height: int
    width: int
    short_side: int = 0

    def pixels(self, printed: int) -> int:
        """Converts a side from the papers' pixels to this network's."""
        if self.height in PAPER_SIZES and printed != PAPER_SIZE:
            return printed
        return round(printed * self.height / PAPER_SIZE)

    def view(self) -> Callable[[Size], list[View]]:
        """The view with which the training run tests."""
        if self.short_side:
            return partial(crops.center, side=self.short_side, crop=self.height)
        return partial(crops.whole, size=(self.height, self.width))


Options = Mapping[str, Any]
Builder = Callable[[InputSize, Options], tuple[Callable[[Size], list[View]], ...]]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A protocol before its options and the network's size are known.

    options: the paper's values, by name; a tuple of numbers is written 256+384.
    """

    source: str
    build: Builder
    options: Options = dataclasses.field(default_factory=dict)


def _plain(trained: InputSize, options: Options) -> tuple[Callable[[Size], list[View]], ...]:
    return (trained.view(),)


def _flip(trained: InputSize, options: Options) -> tuple[Callable[[Size], list[View]], ...]:
    view = trained.view()
    return (lambda stored: crops.mirrored(view(stored)),)


def _center(trained: InputSize, options: Options) -> tuple[Callable[[Size], list[View]], ...]:
    side, crop = trained.pixels(options["side"]), trained.pixels(options["crop"])
    _fits(side, crop)
    cut = partial(crops.center, side=side, crop=crop)
    if crop == trained.height:
        return (cut,)
    return (lambda stored: [dataclasses.replace(view, dense=True) for view in cut(stored)],)


def _ten_crop(trained: InputSize, options: Options) -> tuple[Callable[[Size], list[View]], ...]:
    side = trained.pixels(options["side"])
    _fits(side, trained.height)
    flip = options["flip"]
    return (partial(crops.ten_crop, side=side, crop=trained.height, flip=flip),)


def _grid_crop(trained: InputSize, options: Options) -> tuple[Callable[[Size], list[View]], ...]:
    cut = {"crop": trained.height, "flip": options["flip"]}
    return (_at_all(crops.grid_crop, trained, options["sides"], **cut),)


def _dense(trained: InputSize, options: Options) -> tuple[Callable[[Size], list[View]], ...]:
    return (_at_all(crops.dense, trained, options["sides"], flip=options["flip"]),)


def _crops_and_dense(
    trained: InputSize, options: Options
) -> tuple[Callable[[Size], list[View]], ...]:
    return (*_grid_crop(trained, options), *_dense(trained, options))


def _crop_144(trained: InputSize, options: Options) -> tuple[Callable[[Size], list[View]], ...]:
    cut = {"crop": trained.height, "flip": options["flip"]}
    return (_at_all(crops.squares, trained, (256, 288, 320, 352), **cut),)


def _at_all(
    views: Callable[..., list[View]], trained: InputSize, sides: tuple[int, ...], **options: Any
) -> Callable[[Size], list[View]]:
    """The views at every short side, scale by scale."""
    pixels = [trained.pixels(side) for side in sides]
    for side in pixels if "crop" in options else ():
        _fits(side, options["crop"])
    return lambda stored: [view for side in pixels for view in views(stored, side, **options)]


def _fits(side: int, crop: int) -> None:
    if crop > side:
        raise UserError(
            f"a crop of {crop}×{crop} pixels does not fit an image whose short side is {side}"
        )


VGG = "Simonyan and Zisserman 2015, section 3.2"
KINDS: dict[str, Kind] = {
    "plain": Kind("one view, as the run itself tests", _plain),
    "flip": Kind("the run's own view and its mirror", _flip),
    "center": Kind("the central crop", _center, {"side": 256, "crop": 224}),
    "ten_crop": Kind("Krizhevsky et al. 2012, section 4.1", _ten_crop, {"side": 256, "flip": 1}),
    "grid_crop": Kind(VGG, _grid_crop, {"sides": (256, 384, 512), "flip": 1}),
    "dense": Kind(VGG, _dense, {"sides": (256,), "flip": 1, "average": "posteriors"}),
    "multi_scale": Kind(
        "He et al. 2016a, section 3.4",
        _dense,
        {"sides": (224, 256, 384, 480, 640), "flip": 1, "average": "posteriors"},
    ),
    "multi_crop_and_dense": Kind(
        "Simonyan and Zisserman 2015, section 4.3",
        _crops_and_dense,
        {"sides": (256, 384, 512), "flip": 1},
    ),
    "crop_144": Kind("Szegedy et al. 2015, section 7", _crop_144, {"flip": 1}),
}


def create(text: str, trained: InputSize) -> Protocol:
    """The protocol that `text` names, NAME[:option=value,...], for a network of this size.

    Raises UserError for an unknown name or option, an invalid value, crops larger than the image,
    or a network whose input is not square.
    """
    name, _, listed = text.partition(":")
    if name not in KINDS:
        hint = did_you_mean(name, KINDS)
        raise UserError(f"--protocol: {name!r} is none of {', '.join(KINDS)}{hint}")
    kind = KINDS[name]
    options = {**kind.options, **_options(name, listed, kind.options)}
    if trained.height != trained.width and name not in ("plain", "flip"):
        raise UserError(
            f"--protocol={name}: crops are square, the network's input is "
            f"{trained.height}×{trained.width} pixels; valid: plain, flip"
        )
    try:
        parts = kind.build(trained, options)
    except UserError as error:
        raise UserError(f"--protocol={text}: {error}") from None
    changed = {key: value for key, value in options.items() if value != kind.options[key]}
    label = ",".join(f"{key}={_written(value)}" for key, value in changed.items())
    return Protocol(
        label=f"{name}:{label}" if label else name,
        source=kind.source,
        parts=parts,
        average=options.get("average", "posteriors"),
    )


def _options(name: str, listed: str, valid: Options) -> dict[str, Any]:
    """Parses "sides=256+384,flip=0"; the types are those of the valid options."""
    options: dict[str, Any] = {}
    for item in filter(None, listed.split(",")):
        key, equals, value = item.partition("=")
        if key not in valid or not equals:
            choices = ", ".join(f"{key}={_written(value)}" for key, value in valid.items())
            raise UserError(f"--protocol={name}: no option {item!r}; valid: {choices or 'none'}")
        numbers = value.split("+")
        whole = all(re.fullmatch("[0-9]{1,4}", n) and 0 < int(n) <= LARGEST for n in numbers)
        if key == "average" and value in AVERAGES:
            options[key] = value
        elif key == "flip" and value in ("0", "1"):
            options[key] = int(value)
        elif isinstance(valid[key], tuple) and whole:
            options[key] = tuple(map(int, numbers))
        elif key in ("side", "crop") and whole and len(numbers) == 1:
            options[key] = int(value)
        else:
            expected = {"average": " or ".join(AVERAGES), "flip": "0 or 1"}
            pixels = f"{'256+384, ' if key == 'sides' else ''}pixels up to {LARGEST}"
            raise UserError(
                f"--protocol={name}: {key}={value!r}: expected {expected.get(key, pixels)}"
            )
    return options


def _written(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)
