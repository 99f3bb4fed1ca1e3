"""Tables of a source: which of its arrays is which of ours, and how it is stored there.

A table has one row for each array of ours. A form permutes the numbers of an array, so each row
can be read in both directions without changing a bit.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from errors import UserError, did_you_mean
from models import Network
from models.alexnet import AlexNet
from models.inception import GoogLeNet
from models.vgg import VGG

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Form:
    """How the numbers of one of our arrays are arranged in a source.

    order: our axes in the source's order; None: as here. window: (H, W) of the map that a dense
    layer reads; its first axis is then divided into H, W and channels before `order` applies.
    blue_first: the last axis but one has the colours, in reverse there.
    """

    order: tuple[int, ...] | None = None
    window: tuple[int, int] | None = None
    blue_first: bool = False

    def source_shape(self, shape: Shape) -> Shape:
        """The shape in the source of an array of ours."""
        if self.window is not None:
            return shape[::-1]
        return shape if self.order is None else tuple(shape[axis] for axis in self.order)

    def to_source(self, array: np.ndarray) -> np.ndarray:
        """An array of ours as the source stores it."""
        shape = self.source_shape(array.shape)
        array = array[..., ::-1, :] if self.blue_first else array
        array = array.reshape(self._split(array.shape))
        return array.transpose(self.order).reshape(shape) if self.order else array

    def to_ours(self, array: np.ndarray, shape: Shape) -> np.ndarray:
        """An array of the source in our order. shape: that of ours."""
        if self.order is not None:
            split = self._split(shape)
            array = array.reshape([split[axis] for axis in self.order])
            array = array.transpose(np.argsort(self.order)).reshape(shape)
        return array[..., ::-1, :] if self.blue_first else array

    def _split(self, shape: Shape) -> Shape:
        if self.window is None:
            return shape
        height, width = self.window
        return (height, width, shape[0] // (height * width), shape[1])


AS_HERE = Form()
# [H, W, in, out] here, [out, in, H, W] there; [in, out] here, [out, in] there.
CONV, DENSE = Form((3, 2, 0, 1)), Form((1, 0))


def flattened(window: tuple[int, int]) -> Form:
    """A dense layer after a map of `window`, flattened channel by channel there."""
    return Form((3, 2, 0, 1), window)


@dataclasses.dataclass(frozen=True)
class Row:
    """An array of ours ("params/conv1/kernel"), its name in the source, and its form there."""

    ours: str
    theirs: str
    form: Form


def take(rows: Sequence[Row], shapes: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The arrays of a source as our variables, all of them or none.

    shapes: of our variables, a tree. Raises UserError, one line that names the array, if one is
    missing or left over, or has another shape or type or a number that is not finite.
    """
    wanted = flatten_dict(shapes, sep="/")
    taken: dict[str, np.ndarray] = {}
    for row in rows:
        if row.theirs not in arrays:
            raise UserError(
                f"{row.theirs} is missing (it would be {row.ours})"
                f"{did_you_mean(row.theirs, arrays)}"
            )
        array, shape = arrays[row.theirs], tuple(wanted[row.ours].shape)
        expected = row.form.source_shape(shape)
        if array.shape != expected:
            raise UserError(f"{row.theirs} has shape {array.shape}, not {expected} ({row.ours})")
        if array.dtype != np.float32:
            raise UserError(f"{row.theirs} is {array.dtype}, not float32")
        if not np.isfinite(array).all():
            raise UserError(f"{row.theirs} holds numbers that are not finite")
        taken[row.ours] = row.form.to_ours(array, shape)
    left = sorted(arrays.keys() - {row.theirs for row in rows})
    if left:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        raise UserError(f"{left[0]}{more}: the network has no such array")
    return unflatten_dict(taken, sep="/")


def give(rows: Sequence[Row], variables: Any) -> dict[str, np.ndarray]:
    """Our variables as the source's arrays, by its names."""
    ours = flatten_dict(variables, sep="/")
    return {row.theirs: row.form.to_source(np.asarray(ours[row.ours])) for row in rows}


def shown(rows: Sequence[Row], shapes: Any) -> str:
    """What goes where, a line for each array: theirs, ours, our shape."""
    ours = flatten_dict(shapes, sep="/")
    width = max(len(row.theirs) for row in rows)
    wider = max(len(row.ours) for row in rows)
    return "\n".join(
        f"{row.theirs:{width}}  {row.ours:{wider}}  {tuple(ours[row.ours].shape)}" for row in rows
    )


def map_before(network: Network, layer: str) -> tuple[int, int] | None:
    """Height and width of the map that a dense layer reads; None if it reads no map."""
    if layer == "fc6" and isinstance(network, AlexNet):
        return network.fc6_window()
    if layer == "fc6" and isinstance(network, VGG):
        return network.input[0] // 32, network.input[1] // 32
    return (4, 4) if isinstance(network, GoogLeNet) and layer.endswith("/fc") else None
