"""Reads multiply-adds, windows and receptive fields off the jaxpr of a network.

A jaxpr shows how often each weight is applied and which pixels an array depends on, so `cost.py`
needs no formula per layer, which could differ from what the layer computes. Branches, pools in ceil
mode and asymmetric paddings need no special cases. Uses no network and no layer.
"""

import collections
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jax.extend import core

from inspection.receptive_field import RULES, Extent, Field, concatenate, hull, pointwise, renamed

MARK = "call:"  # a module's call is in a named scope of this prefix and the call's number


@dataclasses.dataclass(frozen=True)
class Window:
    """The sliding window of a layer: (height, width) each, padding as ((top, bottom), ...)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[tuple[int, int], tuple[int, int]]


class Walk:
    """Collects the multiply-adds, windows and receptive fields of each call in a jaxpr."""

    def __init__(self, owners: Sequence[int]) -> None:
        """owners: for each call number, the call in whose row its equations are counted."""
        self.owners = owners
        self.multiply_adds: collections.Counter[int | None] = collections.Counter()
        self.windows: dict[int | None, Window] = {}
        self.groups: dict[int | None, tuple[int, int]] = {}
        # The input of the call's first equation and the output of its last, each with its shape.
        self.first: dict[int | None, tuple[Field, tuple[int, ...]]] = {}
        self.last: dict[int | None, tuple[Field, tuple[int, ...]]] = {}

    def follow(self, jaxpr: Any, images: Any) -> None:
        """Processes a traced network. images: its input variable, of shape [1, H, W, C]."""
        shape = images.aval.shape
        pixel = tuple(Extent(dim, 1, 0, 0).at(dim, shape[dim]) for dim in (1, 2))
        self._run(jaxpr, {images: pixel}, None)

    def receptive_field(self, call: int) -> tuple[int, int] | None:
        """(height, width) in pixels of the region that one output of the call depends on."""
        if call not in self.last:
            return None
        rows, columns = (extent.high - extent.low + 1 for extent in self.last[call][0])
        return rows, columns

    def window(self, call: int) -> Window | None:
        """The window, from the call's equation or else from the growth of its receptive field."""
        if call in self.windows or call not in self.last:
            return self.windows.get(call)
        (befores, ins), (afters, outs) = self.first[call], self.last[call]
        kernels: list[int] = []
        strides: list[int] = []
        pads: list[tuple[int, int]] = []
        for before, after in zip(befores, afters, strict=True):
            if before.dim is None or after.dim is None:
                return None
            low = (before.low - after.low) // before.jump
            kernels.append(low + (after.high - before.high) // before.jump + 1)
            strides.append(after.jump // before.jump)
            reach = (outs[after.dim] - 1) * strides[-1] + kernels[-1]
            pads.append((low, max(0, reach - low - ins[before.dim])))
        if kernels == strides == [1, 1]:
            return None
        return Window((kernels[0], kernels[1]), (strides[0], strides[1]), (pads[0], pads[1]))

    def _run(self, jaxpr: Any, known: Mapping[Any, Field], outer: int | None) -> list[Field | None]:
        """Processes one jaxpr and returns the fields of its outputs.

        known: the fields of those inputs that depend on the images. outer: the call in which the
        jaxpr was traced.
        """
        fields = dict(known)

        def field(atom: Any) -> Field | None:
            return None if isinstance(atom, core.Literal) else fields.get(atom)

        for equation in jaxpr.eqns:
            inputs = [field(atom) for atom in equation.invars]
            if not any(inputs):
                continue
            call = self._call_of(equation, outer)
            self.first.setdefault(
                call,
                next(
                    (seen, atom.aval.shape)
                    for seen, atom in zip(inputs, equation.invars, strict=True)
                    if seen is not None
                ),
            )
            for out, seen in zip(equation.outvars, self._step(equation, inputs, call), strict=True):
                if seen is not None:
                    fields[out] = seen
                    self.last[call] = (seen, out.aval.shape)
        return [field(atom) for atom in jaxpr.outvars]

    def _call_of(self, equation: Any, outer: int | None) -> int | None:
        """The call in which an equation was traced, from its scopes; `outer` if they have none."""
        for scope in reversed(equation.source_info.name_stack.stack):
            if scope.name.startswith(MARK):
                return self.owners[int(scope.name.removeprefix(MARK))]
        return outer

    def _step(
        self, equation: Any, inputs: list[Field | None], call: int | None
    ) -> Sequence[Field | None]:
        """The fields of one equation's outputs."""
        name = equation.primitive.name
        if name == "conv_general_dilated":
            return [self._conv(equation, inputs, call)]
        if name == "dot_general":
            return [self._dot(equation, inputs, call)]
        if name.startswith("reduce_window"):
            return [self._pool(equation, seen, call) for seen in inputs[: len(equation.outvars)]]
        rule = RULES.get(name)
        if rule is not None and inputs[0] is not None and not any(inputs[1:]):
            shape = equation.invars[0].aval.shape
            return [rule(equation.params, inputs[0], shape, equation.outvars[0].aval.shape)]
        if name == "concatenate":
            return [concatenate(equation, inputs)]
        if name == "scan":
            return self._scan(equation, inputs, call)
        bodies = list(_jaxprs(equation.params.values()))
        if len(bodies) == 1 and len(bodies[0].invars) == len(equation.invars):
            known = {var: seen for var, seen in zip(bodies[0].invars, inputs, strict=True) if seen}
            return self._run(bodies[0], known, call)
        if any(_has_products(body) for body in bodies):
            raise ValueError(f"layers inside {name!r}: the number of iterations is not known")
        return [pointwise(equation, inputs, out.aval.shape) for out in equation.outvars]

    def _conv(self, equation: Any, inputs: list[Field | None], call: int | None) -> Field | None:
        lhs, rhs = (atom.aval for atom in equation.invars)
        out = equation.outvars[0].aval
        numbers = equation.params["dimension_numbers"]
        self.multiply_adds[call] += out.size * rhs.size // rhs.shape[numbers.rhs_spec[0]]
        seen = inputs[0]
        stretched = max(equation.params["lhs_dilation"], default=1) > 1
        if seen is None or inputs[1] is not None or len(lhs.shape) != 4 or stretched:
            return pointwise(equation, inputs, ())
        kernel = [rhs.shape[dim] for dim in numbers.rhs_spec[2:]]
        strides, pads = equation.params["window_strides"], equation.params["padding"]
        self._window(call, kernel, strides, pads)
        groups = equation.params["feature_group_count"]
        self.groups.setdefault(call, (groups, lhs.shape[numbers.lhs_spec[1]]))
        field = []
        for extent in seen:
            if extent.dim in numbers.lhs_spec[2:]:
                axis = numbers.lhs_spec[2:].index(extent.dim)
                low, stretch = pads[axis][0], equation.params["rhs_dilation"][axis]
                last = (kernel[axis] - 1) * stretch - low
                extent = extent.window(-low, last, strides[axis]).at(
                    numbers.out_spec[2 + axis], lhs.shape[extent.dim]
                )
            elif extent.dim is not None:  # contracted as channels
                extent = extent.of_all(lhs.shape[extent.dim])
            field.append(extent)
        return tuple(field)

    def _dot(self, equation: Any, inputs: list[Field | None], call: int | None) -> Field:
        shapes = [atom.aval.shape for atom in equation.invars]
        out = equation.outvars[0].aval
        contracted, batched = equation.params["dimension_numbers"]
        taps = math.prod(shapes[0][dim] for dim in contracted[0])
        self.multiply_adds[call] += out.size * taps
        met = []
        offset = len(batched[0])
        for side, seen in enumerate(inputs):
            kept = [
                dim
                for dim in range(len(shapes[side]))
                if dim not in contracted[side] and dim not in batched[side]
            ]
            place = {dim: index for index, dim in enumerate(batched[side])}
            place |= {dim: offset + index for index, dim in enumerate(kept)}
            offset += len(kept)
            if seen is not None:
                met.append((renamed(seen, shapes[side], place), out.shape))
        return hull(met)

    def _pool(self, equation: Any, seen: Field | None, call: int | None) -> Field | None:
        if seen is None:
            return None
        window = equation.params["window_dimensions"]
        strides, pads = equation.params["window_strides"], equation.params["padding"]
        if len(window) == 4 and window[1:3] != (1, 1):
            self._window(call, window[1:3], strides[1:3], pads[1:3])
        field = []
        for extent in seen:
            if extent.dim is not None:
                low = pads[extent.dim][0]
                extent = extent.window(-low, window[extent.dim] - 1 - low, strides[extent.dim])
            field.append(extent)
        return tuple(field)

    def _window(self, call: int | None, kernel: Any, stride: Any, pad: Any) -> None:
        window = Window(
            (kernel[0], kernel[1]), (stride[0], stride[1]), (tuple(pad[0]), tuple(pad[1]))
        )
        self.windows.setdefault(call, window)

    def _scan(
        self, equation: Any, inputs: list[Field | None], call: int | None
    ) -> Sequence[Field | None]:
        """A loop of known length, processed iteration by iteration, since the fields grow."""
        body = equation.params["jaxpr"].jaxpr
        # A looped array has one dimension more outside the body than inside. The equation also has
        # these counts, but under names that differ between versions of jax.
        looped = _taller(equation.invars, body.invars)
        carried = len(body.outvars) - _taller(equation.outvars, body.outvars)
        constants = len(body.invars) - carried - looped
        carry = inputs[constants : constants + carried]
        slices = []
        for atom, seen in zip(
            equation.invars[constants + carried :], inputs[constants + carried :], strict=True
        ):
            shape = atom.aval.shape
            shift = {dim: dim - 1 for dim in range(1, len(shape))}
            slices.append(None if seen is None else renamed(seen, shape, shift))
        stacked: list[Field | None] = []
        for _ in range(equation.params["length"]):
            turn = [*inputs[:constants], *carry, *slices]
            known = {var: seen for var, seen in zip(body.invars, turn, strict=True) if seen}
            outputs = self._run(body, known, call)
            carry, stacked = outputs[:carried], outputs[carried:]
        for index, seen in enumerate(stacked):
            if seen is not None:
                shape = equation.outvars[carried + index].aval.shape
                stacked[index] = renamed(
                    seen, shape[1:], {dim: dim + 1 for dim in range(len(shape) - 1)}
                )
        return [*carry, *stacked]


def _jaxprs(values: Any) -> Iterator[Any]:
    """The jaxprs among an equation's parameters."""
    for value in values:
        if isinstance(value, core.ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, core.Jaxpr):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _jaxprs(value)


def _has_products(jaxpr: Any) -> bool:
    return any(
        equation.primitive.name in ("conv_general_dilated", "dot_general")
        or any(_has_products(body) for body in _jaxprs(equation.params.values()))
        for equation in jaxpr.eqns
    )


def _taller(outside: Sequence[Any], inside: Sequence[Any]) -> int:
    """How many of the variables have more dimensions outside a loop's body than inside."""
    pairs = zip(outside, inside, strict=True)
    return sum(len(out.aval.shape) > len(within.aval.shape) for out, within in pairs)
