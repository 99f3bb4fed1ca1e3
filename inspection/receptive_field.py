"""Receptive fields: what a position of an array sees of the input, and how operations change it.

One rule for each operation of a jaxpr that moves, merges or windows positions; `walk.py` applies
them. Knows jaxprs' parameters alone, no network and no layer.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Sight:
    """What position p of an array sees along one image axis: pixels jump·p + low ... jump·p + high.

    p runs along the array's dimension `dim`; where all positions see the same, `dim` is None and
    `jump` 0. Low and high are exact for branches too: the hull of what the branches see.
    """

    dim: int | None
    jump: int
    low: int
    high: int

    def of_all(self, positions: int) -> "Sight":
        """What all positions along the dimension see together."""
        return Sight(None, 0, self.low, self.high + self.jump * (positions - 1))

    def window(self, first: int, last: int, stride: int) -> "Sight":
        """What a window over positions stride·p + first ... stride·p + last sees."""
        if self.dim is None:
            return self
        low, high = self.low + self.jump * first, self.high + self.jump * last
        return Sight(self.dim, self.jump * stride, low, high)

    def at(self, dim: int | None, positions: int) -> "Sight":
        """The same, the dimension being called `dim` now; None where it is no more."""
        if self.dim is None or dim is None:
            return self.of_all(positions) if self.dim is not None else self
        return dataclasses.replace(self, dim=dim)


Field = tuple[Sight, ...]  # one for the image's rows, one for its columns


def hull(fields: Sequence[tuple[Field, tuple[int, ...]]]) -> Field:
    """What several arrays that meet see together; each comes with its shape."""
    joined = []
    for axis in range(2):
        sights = [(field[axis], shape) for field, shape in fields]
        if len({(sight.dim, sight.jump) for sight, _ in sights}) > 1:
            sights = [
                (sight if sight.dim is None else sight.of_all(shape[sight.dim]), shape)
                for sight, shape in sights
            ]
        low = min(sight.low for sight, _ in sights)
        high = max(sight.high for sight, _ in sights)
        joined.append(dataclasses.replace(sights[0][0], low=low, high=high))
    return tuple(joined)


def renamed(seen: Field, shape: Sequence[int], place: Mapping[int, int]) -> Field:
    """The field after dimension d became place[d]; those without a place are seen as a whole."""
    return tuple(
        sight if sight.dim is None else sight.at(place.get(sight.dim), shape[sight.dim])
        for sight in seen
    )


def pointwise(
    equation: Any, inputs: Sequence[Field | None], shape: tuple[int, ...]
) -> Field | None:
    """Position by position where shapes agree, else every output sees what any input sees."""
    met = []
    mixes = equation.primitive.name in _MIXING
    for atom, seen in zip(equation.invars, inputs, strict=True):
        if seen is not None:
            own = atom.aval.shape
            place = {} if mixes or own != shape else {dim: dim for dim in range(len(own))}
            met.append((renamed(seen, own, place), own))
    return hull(met) if met else None


def concatenate(equation: Any, inputs: Sequence[Field | None]) -> Field:
    """Each part's positions moved to their place along the dimension that grows."""
    along, start, met = equation.params["dimension"], 0, []
    for atom, seen in zip(equation.invars, inputs, strict=True):
        shape = atom.aval.shape
        if seen is not None:
            moved = tuple(
                sight.window(-start, -start, 1) if sight.dim == along else sight for sight in seen
            )
            met.append((moved, equation.outvars[0].aval.shape))
        start += shape[along]
    return hull(met)


def _broadcast(params: Any, seen: Field, shape: Any, out: Any) -> Field:
    place = dict(enumerate(params["broadcast_dimensions"]))
    return renamed(seen, shape, {dim: to for dim, to in place.items() if shape[dim] == out[to]})


def _reshape(params: Any, seen: Field, shape: Any, out: Any) -> Field:
    # A side that is kept, or cut into pieces (H -> H/2, 2), lives on as the outermost of them, the
    # rest being a window over its neighbours; one merged with another is seen as a whole.
    outermost = {math.prod(out[:dim]): dim for dim in reversed(range(len(out))) if out[dim] > 1}
    field = []
    for sight in seen:
        if sight.dim is not None:
            side, to = shape[sight.dim], outermost.get(math.prod(shape[: sight.dim]))
            ends = {math.prod(out[: dim + 1]) for dim in range(len(out))}
            if to is None or side % out[to] or math.prod(shape[: sight.dim + 1]) not in ends:
                sight = sight.of_all(side)
            else:
                piece = side // out[to]
                sight = sight.window(0, piece - 1, piece).at(to, out[to])
        field.append(sight)
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
        sight
        if sight.dim is None
        else sight.window(starts[sight.dim], starts[sight.dim], steps[sight.dim])
        for sight in seen
    )


def _pad(params: Any, seen: Field, shape: Any, out: Any) -> Field:
    field = []
    for sight in seen:
        if sight.dim is not None:
            low, _, between = map(int, params["padding_config"][sight.dim])  # NumPy's, of jnp.pad
            all_see = sight.of_all(shape[sight.dim])
            sight = all_see if between else sight.window(-low, -low, 1)
        field.append(sight)
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

# These keep the shape and yet let positions see each other.
_MIXING = {"cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "fft", "gather", "rev", "sort"}
