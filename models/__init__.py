"""Every network of the case studies by name: `models.create({"name": "lenet5_modern"})`.

One file per paper and their shared layers, without training code: the package can be used outside
this project. May import nothing of the project.
"""

import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any, get_args, get_origin

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict

from models import (
    alexnet,
    cuda_convnet,
    densenet,
    inception,
    lecture,
    lenet,
    nin,
    resnet_presets,
    vgg,
)
from models.layers import INITIALIZERS
from models.network import Network, Outputs
from models.presets import Preset

__all__ = [
    "NETWORKS",
    "Network",
    "Outputs",
    "Preset",
    "check",
    "classifiers",
    "create",
    "preset",
    "variables_of",
]

# Far above any real network or image. Much larger sizes overflow in XLA and NumPy.
MAX_WIDTH, MAX_SIDE, MAX_CHANNELS, MAX_NUMBER = 1000, 100_000, 10_000, 1_000_000

NETWORKS: dict[str, Preset] = {
    **lenet.PRESETS,
    **alexnet.PRESETS,
    **cuda_convnet.PRESETS,
    **vgg.PRESETS,
    **nin.PRESETS,
    **inception.PRESETS,
    **lecture.PRESETS,
    **resnet_presets.PRESETS,
    **densenet.PRESETS,
}


def preset(name: str) -> Preset:
    """The preset of a named network. Raises ValueError with up to five similar names."""
    if name not in NETWORKS:
        near = difflib.get_close_matches(name, NETWORKS, n=5, cutoff=0.5)
        hint = f"did you mean: {', '.join(near)}" if near else "see models.NETWORKS for all names"
        raise ValueError(f"no network is called {name!r}; {hint}")
    return NETWORKS[name]


def create(spec: Mapping[str, Any]) -> Network:
    """Builds the network of `spec`: its "name", and values for any of its fields.

    If `input` is one number, it is the side of a square image with the preset's channels.
    Raises ValueError, one line, for an unknown name or field, or a value of the wrong type or out
    of range.
    """
    overrides = dict(spec)
    name = overrides.pop("name", None)
    if name is None:
        raise ValueError("the network needs a name")
    chosen = preset(name)
    known = {
        field.name: field
        for field in dataclasses.fields(chosen.network)
        if field.init and field.name not in ("parent", "name")
    }
    fields: dict[str, Any] = {key: field.default for key, field in known.items()} | dict(
        chosen.fields
    )
    for key, value in overrides.items():
        if key not in fields:
            raise ValueError(f"{name} has no field {key!r}; fields: {', '.join(sorted(fields))}")
        if key == "input":
            fields[key] = _input(value, fields[key][-1])
        else:
            fields[key] = _matching(key, value, known[key].type)
    if fields["initializer"] not in ("paper", *INITIALIZERS):
        raise ValueError(
            f"initializer: {fields['initializer']!r} is none of paper, {', '.join(INITIALIZERS)}"
        )
    for key in ("dtype", "param_dtype"):
        if fields[key] not in ("float32", "bfloat16", "float16", "float64"):
            raise ValueError(
                f"{key}: {fields[key]!r} is none of float32, bfloat16, float16, float64"
            )
    if not 0 < fields["width"] <= MAX_WIDTH:
        raise ValueError(f"width: must be above 0, at most {MAX_WIDTH}, not {fields['width']}")
    if fields["num_classes"] < 1:
        raise ValueError(f"num_classes: must be 1 or more, not {fields['num_classes']}")
    return chosen.network(**fields)


def _input(value: Any, channels: int) -> tuple[int, int, int]:
    """(height, width, channels) from the `input` field; one number is the side of a square."""
    if type(value) is int:
        value = (value, value, channels)
    limits = (MAX_SIDE, MAX_SIDE, MAX_CHANNELS)
    if (
        not isinstance(value, list | tuple)
        or len(value) != len(limits)
        or not all(
            type(n) is int and 1 <= n <= limit for n, limit in zip(value, limits, strict=True)
        )
    ):
        raise ValueError(
            f"input: {value!r} is not (height, width, channels), whole numbers from 1 to {limits}"
        )
    height, width, depth = value
    return height, width, depth


def _matching(field: str, value: Any, kind: Any) -> Any:
    """`value` converted to the type of its field: lists to tuples, ints to floats."""
    try:
        return _as(value, kind)
    except TypeError:
        name = kind.__name__ if isinstance(kind, type) and not get_args(kind) else kind
        raise ValueError(f"{field}: {value!r} is not of type {name}") from None
    except ValueError as error:
        raise ValueError(f"{field}: {value!r}: {error}") from None


def _as(value: Any, kind: Any) -> Any:
    """Raises TypeError if `value` is of another type, ValueError if a number is out of range."""
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise TypeError
        kinds = get_args(kind)
        if kinds[-1] is Ellipsis:
            kinds = kinds[:1] * len(value)
        if len(kinds) != len(value):
            raise TypeError
        return tuple(_as(item, each) for item, each in zip(value, kinds, strict=True))
    if kind is float and type(value) is int and abs(value) <= MAX_NUMBER:
        value = float(value)
    if type(value) is not kind:
        raise TypeError
    if kind is int and not 0 <= value <= MAX_NUMBER:
        raise ValueError(f"a whole number must be from 0 to {MAX_NUMBER}")
    if kind is float and not math.isfinite(value):
        raise ValueError("a number must be finite")
    return value


def variables_of(network: Network, batch: int = 1) -> Any:
    """The shapes of the network's variables, without allocating them."""
    images = jax.ShapeDtypeStruct((batch, *network.input), jnp.float32)
    return jax.eval_shape(network.init, jax.random.key(0), images)


def classifiers(network: Network) -> tuple[str, ...]:
    """The names of the parameters whose shapes depend on the number of classes: the heads' own.

    Raises ValueError if there are none.
    """

    def shapes(classes: int) -> dict[str, tuple[int, ...]]:
        params = variables_of(network.clone(num_classes=classes))["params"]
        return {name: leaf.shape for name, leaf in flatten_dict(params, sep="/").items()}

    few, more = shapes(2), shapes(3)
    found = tuple(name for name in few if few[name] != more[name])
    if not found:
        raise ValueError(f"{type(network).__name__} has no classifier with parameters")
    return found


def check(network: Network, trace: Callable[[Network], Any] | None = None) -> Any:
    """Traces the network on one image and returns the result of `trace`, by default the variables.

    Raises ValueError with the smallest valid size if the input is too small.
    """
    try:
        return (trace or variables_of)(network)
    except ValueError as error:
        least = _least_size(network)
        if least is None or min(network.input[:2]) >= least:
            raise
        raise ValueError(
            f"input: {network.input[0]}×{network.input[1]} is too small, "
            f"the smallest valid size is {least}×{least} ({error})"
        ) from None


def _least_size(network: Network, largest: int = 1024) -> int | None:
    """The side of the smallest valid square input in pixels; None if it is above `largest`."""

    def fits(size: int) -> bool:
        try:
            variables_of(network.clone(input=(size, size, network.input[2])))
        except ValueError:
            return False
        return True

    low, high = 0, 8
    while not fits(high):
        if high >= largest:
            return None
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
