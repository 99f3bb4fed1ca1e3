"""Checks the fields of a config: types from `base`'s defaults, bounds from the table BOUNDS.

A field that belongs to one part (`optimizer.momentum`) takes its type from that part's signature
(training/parts.py) and its bounds from the same table. Errors are UserErrors of one line.
"""

import collections.abc
import copy
import dataclasses
import json
import typing
from collections.abc import Mapping
from typing import Any

from configs.base import base
from errors import UserError, did_you_mean

LARGEST = 3.4e38  # larger numbers are infinite in float32
LARGEST_SIDE = 4096  # pixels


@dataclasses.dataclass(frozen=True)
class Bounds:
    """A number must be at least `least` (or `above` it), and at most `most` (or `below` it)."""

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None

    def hold(self, value: float) -> bool:
        """Whether a number is within the bounds; False for nan."""
        return (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        words = {"from": self.least, "above": self.above, "to": self.most, "below": self.below}
        parts = [f"{word} {value}" for word, value in words.items() if value is not None]
        return " ".join(parts).replace(" below", " and below")


# The bounds of a tuple or mapping apply to each of its numbers.
BOUNDS: dict[str, Bounds] = {
    "seed": Bounds(least=0, most=2**32 - 1),
    "batch_size": Bounds(least=1),
    "gradient_accumulation": Bounds(least=1),
    "steps_per_dispatch": Bounds(least=1),
    "bn_recompute_batches": Bounds(least=0),
    "data.size": Bounds(least=0, most=LARGEST_SIDE),
    "data.short_side": Bounds(least=0, most=LARGEST_SIDE),
    "data.channels": Bounds(least=0),
    "data.validation": Bounds(least=0),
    "data.train_images": Bounds(least=0),
    "data.labels_a_class": Bounds(least=0),
    "data.workers": Bounds(least=0, most=1024),
    "eval.batch_size": Bounds(least=1),
    "checkpoint.keep": Bounds(least=1),
    "parameters.clip_norm": Bounds(least=0),
    "loss.label_smoothing": Bounds(least=0, below=1),
    "loss.weights": Bounds(least=0),
    "loss.j": Bounds(above=0),
    "optimizer.momentum": Bounds(least=0, below=1),
    "optimizer.weight_decay": Bounds(least=0),
    "optimizer.b1": Bounds(least=0, below=1),
    "optimizer.b2": Bounds(least=0, below=1),
    "optimizer.epsilon": Bounds(above=0),
    "optimizer.mu": Bounds(above=0),
    "optimizer.patterns": Bounds(least=1),
    "schedule.rate": Bounds(least=0),
    "schedule.rates": Bounds(least=0),
    "schedule.warmup_rate": Bounds(least=0),
    "schedule.factor": Bounds(least=1e-6, most=1e6),
    "schedule.power": Bounds(least=0),
    "schedule.below": Bounds(above=0, most=1),
    "schedule.patience": Bounds(least=1),
    "schedule.least": Bounds(least=0),
    "schedule.drops": Bounds(least=0, most=50),
    "averaging.decay": Bounds(above=0, below=1),
}
# Sections that take further fields: those of the part they name; for `loss.weights`, heads.
OPEN = ("model", "loss", "loss.weights", "optimizer", "schedule", "averaging")
# Fields that only some parts have.
OPTIONAL = ("loss.label_smoothing", "loss.weights.main")

# Fields that configs of older versions do not have; one without them means their defaults.
ADDED = ("init", "data.labels_a_class", "steps_per_dispatch")
# Fields that change how fast a run is, not what it computes: a resume may change them.
SPEED = ("steps_per_dispatch",)

# Old names of fields and parts, for error lines that give the new one.
RENAMED = {
    "micro_batches": "gradient_accumulation",
    "batch_norm_batches": "bn_recompute_batches",
    "sgd_inside": "caffe_sgd",
}

KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "text"}


def check(config: Any) -> None:
    """Raises UserError for a field that is missing, unknown, of the wrong type or out of bounds."""
    _check_section("", completed(config.to_dict()), base().to_dict())


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with the fields that were added after it was written."""
    given, default = copy.deepcopy(dict(config)), base().to_dict()
    for name in ADDED:
        part, field = _section(given, name)
        if isinstance(part, dict) and field not in part:
            part[field] = _section(default, name)[0][field]
    return given


def essential(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config as read back from JSON, for comparisons: without the fields of SPEED, and without
    added fields at their defaults, so that a run is the one it was before the fields were there.
    """
    given, default = (json.loads(json.dumps(each)) for each in (dict(config), base().to_dict()))
    for name in ADDED:
        part, field = _section(given, name)
        if name in SPEED or part.get(field) == _section(default, name)[0][field]:
            part.pop(field, None)
    return given


def _section(config: dict[str, Any], name: str) -> tuple[dict[str, Any], str]:
    """The section of a dotted name, {} if it is not there, and the field's own name."""
    *sections, field = name.split(".")
    for section in sections:
        config = config.get(section, {})
    return config, field


def _check_section(name: str, given: Mapping[str, Any], like: Mapping[str, Any]) -> None:
    prefix = f"{name}." if name else ""
    for key in like:
        if key not in given and prefix + key not in OPTIONAL:
            raise UserError(f"config.{prefix}{key}: is missing")
    for key, value in given.items():
        full = f"{prefix}{key}"
        if key not in like:
            if name not in OPEN:
                raise unknown(full, like)
            if name == "loss.weights":
                check_value(full, value, float, bounds=BOUNDS[name])
        elif isinstance(like[key], Mapping):
            if not isinstance(value, Mapping):
                inner = ", ".join(like[key])
                raise UserError(f"config.{full}: must hold fields ({inner}), not {shown(value)}")
            _check_section(full, value, like[key])
        else:
            check_value(full, value, type(like[key]), bounds=BOUNDS.get(name))


def unknown(name: str, valid: collections.abc.Iterable[str]) -> UserError:
    """The error for an unknown field. valid: the fields of its section."""
    key = name.rpartition(".")[2]
    return UserError(
        f"config.{name}: there is no such field{renamed(key) or did_you_mean(key, valid)}"
    )


def renamed(name: str) -> str:
    """A hint with the new name of a renamed field or part; "" for other names."""
    return f"; it is called {RENAMED[name]} now" if name in RENAMED else ""


def check_value(name: str, value: Any, kind: Any, *, bounds: Bounds | None = None) -> None:
    """Raises UserError if the value of the field `name` is not of `kind` or out of its bounds.

    kind: a type, or Sequence[type] for a tuple of them. bounds: used if BOUNDS has none for `name`.
    """
    bounds = BOUNDS.get(name, bounds)
    if kind is tuple or typing.get_origin(kind) is collections.abc.Sequence:
        if not isinstance(value, tuple | list):
            raise UserError(f"config.{name}: must be a tuple, not {shown(value)}")
        for element in value if kind is not tuple else ():
            check_value(name, element, typing.get_args(kind)[0], bounds=bounds)
        return
    numeric = kind in (int, float)
    right = isinstance(value, int | float if kind is float else kind)
    if isinstance(value, bool) and kind is not bool:
        right = False
    if numeric and right:
        right = abs(value) <= LARGEST and (bounds is None or bounds.hold(value))
    if not right:
        words = f"{KINDS[kind]} {bounds}" if bounds and numeric else KINDS[kind]
        raise UserError(f"config.{name}: must be {words}, not {shown(value)}")


def shown(value: Any) -> str:
    """A value for an error line: its repr, at most 80 characters."""
    if isinstance(value, int) and value.bit_length() > 256:  # Python cannot print the largest ones
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
