"""Receptive fields: which input pixels a position of an array depends on.

There is one rule per jaxpr operation that moves or merges positions; `trace.py` applies them. The
rules use only the parameters of jaxpr equations, no network and no layer.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Extent:
    """The receptive field of position p along one image axis: pixels jump·p + low to jump·p + high.

    p is the index along the array's dimension `dim`. If all positions have the same field, `dim` is
    None and `jump` is 0. If branches are combined, low and high are the extremes of the branches.
    """

    dim: int | None
    jump: int
    low: int
    high: int

    def of_all(self, positions: int) -> "Extent":
        """The joint field of all positions along the dimension."""
        return Extent(None, 0, self.low, self.high + self.jump * (positions - 1))

    def window(self, first: int, last: int, stride: int) -> "Extent":
        """The field of a window over positions stride·p + first to stride·p + last."""
        if self.dim is None:
            return self
        low, high = self.low + self.jump * first, self.high + self.jump * last
        return Extent(self.dim, self.jump * stride, low, high)

    def at(self, dim: int | None, positions: int) -> "Extent":
        """The same field with the dimension renamed to `dim`; None if the axis is gone."""
        if self.dim is None or dim is None:
            return self.of_all(positions) if self.dim is not None else self
        return dataclasses.replace(self, dim=dim)


Field = tuple[Extent, ...]  # along the image's rows and along its columns


def hull(fields: Sequence[tuple[Field, tuple[int, ...]]]) -> Field:
    """The joint field of arrays that are combined, each given with its shape."""
    joined = []
    for axis in range(2):
        extents = [(field[axis], shape) for field, shape in fields]
        if len({(extent.dim, extent.jump) for extent, _ in extents}) > 1:
            extents = [
                (extent if extent.dim is None else extent.of_all(shape[extent.dim]), shape)
                for extent, shape in extents
            ]
        low = min(extent.low for extent, _ in extents)
        high = max(extent.high for extent, _ in extents)
        joined.append(dataclasses.replace(extents[0][0], low=low, high=high))
    return tuple(joined)


def renamed(seen: Field, shape: Sequence[int], place: Mapping[int, int]) -> Field:
    """The field after dimension d becomes place[d]; a dimension not in `place` is merged."""
    return tuple(
        extent if extent.dim is None else extent.at(place.get(extent.dim), shape[extent.dim])
        for extent in seen
    )


def pointwise(
    equation: Any, inputs: Sequence[Field | None], shape: tuple[int, ...]
) -> Field | None:
    """The field position by position if the shapes agree, else the joint field of all inputs."""
    met = []
    mixes = equation.primitive.name in _MIXING
    for atom, seen in zip(equation.invars, inputs, strict=True):
        if seen is not None:
            own = atom.aval.shape
            place = {} if mixes or own != shape else {dim: dim for dim in range(len(own))}
            met.append((renamed(seen, own, place), own))
    return hull(met) if met else None


def concatenate(equation: Any, inputs: Sequence[Field | None]) -> Field:
    """The joint field of the parts, each moved to its offset along the concatenated dimension."""
    along, start, met = equation.params["dimension"], 0, []
    for atom, seen in zip(equation.invars, inputs, strict=True):
        shape = atom.aval.shape
        if seen is not None:
            moved = tuple(
                extent.window(-start, -start, 1) if extent.dim == along else extent
                for extent in seen
            )
            met.append((moved, equation.outvars[0].aval.shape))
        start += shape[along]
    return hull(met)


def _broadcast(params: Any, seen: Field, shape: Any, out: Any) -> Field:
    place = dict(enumerate(params["broadcast_dimensions"]))
    return renamed(seen, shape, {dim: to for dim, to in place.items() if shape[dim] == out[to]})


def _reshape(params: Any, seen: Field, shape: Any, out: Any) -> Field:
    # A dimension that is kept or split (H -> H/2, 2) becomes the outermost of its parts; the other
    # parts are a window over neighbours. If it is merged with another, all positions are joined.
    outermost = {math.prod(out[:dim]): dim for dim in reversed(range(len(out))) if out[dim] > 1}
    field = []
    for extent in seen:
        if extent.dim is not None:
            side, to = shape[extent.dim], outermost.get(math.prod(shape[: extent.dim]))
            ends = {math.prod(out[: dim + 1]) for dim in range(len(out))}
            if to is None or side % out[to] or math.prod(shape[: extent.dim + 1]) not in ends:
                extent = extent.of_all(side)
            else:
                piece = side // out[to]
                extent = extent.window(0, piece - 1, piece).at(to, out[to])
        field.append(extent)
    return tuple(field)


def _transpose(params: Any, seen: Field, shape: Any, out: Any) -> Field:
    return renamed(seen, shape, {dim: to for to, dim in enumerate(params["permutation"])})


def _squeeze(params: Any, seen: Field, shape: Any, out: Any) -> Field:
    gone = {dim % len(shape) for dim in params["dimensions"]}
    kept = [dim for dim in range(len(shape)) if dim not in gone]
    return renamed(seen, shape, {dim: to for to, dim in enumerate(kept)})


def _reduce(params: Any, seen: Field, shape: Any, out: Any) -> Field:
    return _squeeze({"dimensions": params["axes"]}, seen, shape, out)


def _slice(params: Any, seen: Field, shape: Any, out: Any) -> Field:
    steps = params["strides"] or (1,) * len(shape)
    starts = params["start_indices"]
    return tuple(
        extent
        if extent.dim is None
        else extent.window(starts[extent.dim], starts[extent.dim], steps[extent.dim])
        for extent in seen
    )


def _pad(params: Any, seen: Field, shape: Any, out: Any) -> Field:
    field = []
    for extent in seen:
        if extent.dim is not None:
            # int: jnp.pad leaves NumPy integers here.
            low, _, between = map(int, params["padding_config"][extent.dim])
            all_see = extent.of_all(shape[extent.dim])
            extent = all_see if between else extent.window(-low, -low, 1)
        field.append(extent)
    return tuple(field)


RULES: dict[str, Callable[[Any, Field, Any, Any], Field]] = {
    "broadcast_in_dim": _broadcast,
    "pad": _pad,
    "reduce_and": _reduce,
    "reduce_max": _reduce,
    "reduce_min": _reduce,
    "reduce_or": _reduce,
    "reduce_prod": _reduce,
    "reduce_sum": _reduce,
    "argmax": _reduce,
    "argmin": _reduce,
    "reshape": _reshape,
    "slice": _slice,
    "squeeze": _squeeze,
    "transpose": _transpose,
}

# These keep the shape but mix positions.
_MIXING = {"cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "fft", "gather", "rev", "sort"}
