"""Parses the call strings of `config.data.augment` and `config.data.normalize`.

A call string is a name with keyword literals, `"pad_crop(pixels=4)"`. It is parsed with `ast` and
looked up in the two tables below; nothing is evaluated. An invalid one raises UserError that names
the field and what is valid.
"""

import ast
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from augmentations import boxes, colour, geometry, normalize
from errors import UserError

Value = int | float | str


@dataclasses.dataclass(frozen=True)
class Keyword:
    """The default of a keyword, which also sets its type, and its valid values."""

    default: Value
    low: float = 0.0
    high: float = float("inf")
    choices: tuple[str, ...] = ()

    def problem(self, value: object) -> str | None:
        """A description of the valid values; None if `value` is one of them."""
        if isinstance(self.default, str):
            return None if value in self.choices else f"one of {', '.join(self.choices)}"
        kinds = (int,) if isinstance(self.default, int) else (int, float)
        kind = "a whole number" if isinstance(self.default, int) else "a number"
        if isinstance(value, bool) or not isinstance(value, kinds):
            return kind
        if not self.low <= value <= self.high or value == float("inf"):
            upper = "" if self.high == float("inf") else f" and at most {self.high:g}"
            return f"{kind} of at least {self.low:g}{upper}"
        return None


@dataclasses.dataclass(frozen=True)
class Operation:
    """The function behind a name, and its keywords.

    stream: the number of the augmentation's random stream (never reuse or renumber).
    apply: the pure function. fit: computes its statistics from the training part; None if it has
    none. kind: "box" (chooses the part of the image), "image" (any other augmentation) or "batch".
    fit_keywords: the keywords passed to `fit` instead of `apply`.
    ordered: a pair of keywords; the first must not exceed the second.
    """

    kind: str
    apply: Callable[..., Any]
    keywords: Mapping[str, Keyword] = dataclasses.field(default_factory=dict)
    stream: int = 0
    fit: Callable[..., tuple[Any, ...]] | None = None
    fit_keywords: tuple[str, ...] = ()
    ordered: tuple[str, str] | None = None


@dataclasses.dataclass(frozen=True)
class Call:
    """A parsed call string: the operation and the value of every keyword."""

    name: str
    operation: Operation
    arguments: Mapping[str, Any]

    def __str__(self) -> str:
        given = (
            f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value!r}"
            for key, value in self.arguments.items()
        )
        return f"{self.name}({', '.join(given)})"

    @property
    def samples(self) -> int:
        """Number of training images that the statistics are computed from; 0: all."""
        return int(self.arguments.get("samples", 0))

    @property
    def fitting(self) -> dict[str, Any]:
        """The arguments of `fit`."""
        return {key: self.arguments[key] for key in self.operation.fit_keywords}

    @property
    def applying(self) -> dict[str, Any]:
        """The arguments of `apply`."""
        other = {"samples", "constants", *self.operation.fit_keywords}
        return {key: value for key, value in self.arguments.items() if key not in other}


LARGEST = 4096  # pixels per side

# Decoding a whole set is slow, so statistics may be computed from evenly spaced images of it.
SAMPLES = {"samples": Keyword(0)}

AUGMENTATIONS: dict[str, Operation] = {
    "random_crop": Operation(
        "box", boxes.random_crop, {"side": Keyword(256, 1, LARGEST)}, stream=1
    ),
    "scale_jitter": Operation(
        "box",
        boxes.scale_jitter,
        {"low": Keyword(256, 1, LARGEST), "high": Keyword(480, 1, LARGEST)},
        stream=2,
        ordered=("low", "high"),
    ),
    "area_crop": Operation(
        "box",
        boxes.area_crop,
        {"low": Keyword(0.08, 1e-6, 1), "high": Keyword(1.0, 1e-6, 1), "aspect": Keyword(4 / 3, 1)},
        stream=3,
        ordered=("low", "high"),
    ),
    "pad_crop": Operation(
        "image",
        geometry.pad_crop,
        {"pixels": Keyword(4, 1, LARGEST), "fill": Keyword(0.0, 0, 255)},
        stream=4,
    ),
    "flip": Operation("image", geometry.flip, {"probability": Keyword(0.5, 0, 1)}, stream=5),
    "affine": Operation(
        "image",
        geometry.affine,
        {
            "translate": Keyword(2.0),
            "scale": Keyword(0.15, 0, 0.9),
            "squeeze": Keyword(0.15),
            "shear": Keyword(0.2),
            "fill": Keyword(0.0, 0, 255),
        },
        stream=6,
    ),
    "photometric": Operation(
        "image",
        colour.photometric,
        {"low": Keyword(0.5), "high": Keyword(1.5)},
        stream=7,
        ordered=("low", "high"),
    ),
    "pca_colour": Operation(
        "image",
        colour.pca_colour,
        {"sd": Keyword(0.1), "constants": Keyword("data", choices=("data", "imagenet")), **SAMPLES},
        stream=8,
        fit=colour.fit_pca,
    ),
}

NORMALIZATIONS: dict[str, Operation] = {
    "scale": Operation("batch", normalize.scale),
    "lenet": Operation("batch", normalize.lenet),
    "per_pixel_mean": Operation(
        "batch", normalize.per_pixel_mean, SAMPLES, fit=normalize.fit_per_pixel_mean
    ),
    "channel_mean": Operation(
        "batch", normalize.channel_mean, SAMPLES, fit=normalize.fit_channel_mean
    ),
    "mean_sd": Operation("batch", normalize.mean_sd, SAMPLES, fit=normalize.fit_mean_sd),
    "gcn": Operation("batch", normalize.gcn, {"norm": Keyword(55.0, 1e-6)}),
    "zca": Operation(
        "batch",
        normalize.zca,
        {"eps": Keyword(0.1, 1e-12), **SAMPLES},
        fit=normalize.fit_zca,
        fit_keywords=("eps",),
    ),
}


def parse(field: str, calls: Sequence[str], table: Mapping[str, Operation]) -> tuple[Call, ...]:
    """Parses the call strings of one field; raises UserError that names it."""
    if isinstance(calls, str) or not all(isinstance(text, str) for text in calls):
        raise UserError(f"{field}: expected a tuple of call strings, got {calls!r}")
    parsed = tuple(_parse_one(field, text, table) for text in calls)
    names = [call.name for call in parsed]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{field}: {name} is given twice; each may be given once")
    return parsed


def _parse_one(field: str, text: str, table: Mapping[str, Operation]) -> Call:
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        node = None
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise UserError(f"{field}: {text!r} is not a call such as {next(iter(table))}()")
    name = node.func.id
    if name not in table:
        raise UserError(f"{field}: there is no {name!r}; valid names: {', '.join(table)}")
    operation = table[name]
    arguments: dict[str, Any] = {key: word.default for key, word in operation.keywords.items()}
    valid = ", ".join(f"{key}={word.default!r}" for key, word in operation.keywords.items())
    if node.args:
        raise UserError(f"{field}: {name} takes keywords only: {valid or 'none'}")
    for item in node.keywords:
        if item.arg is None or item.arg not in operation.keywords:
            raise UserError(
                f"{field}: {name} has no keyword {item.arg!r}; valid: {valid or 'none'}"
            )
        try:
            value = ast.literal_eval(item.value)
        except ValueError:
            value = None
        problem = operation.keywords[item.arg].problem(value)
        if problem is not None:
            written = ast.unparse(item.value)
            raise UserError(f"{field}: {name}({item.arg}={written}): expected {problem}")
        arguments[item.arg] = value
    if operation.ordered:
        low, high = operation.ordered
        if arguments[low] > arguments[high]:
            raise UserError(
                f"{field}: {name}: {low}={arguments[low]} is greater than {high}={arguments[high]}"
            )
    return Call(name, operation, arguments)
