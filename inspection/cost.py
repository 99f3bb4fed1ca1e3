"""The cost of a network, measured on its trace: parameters, multiply-adds, receptive fields.

The network is traced once on the shape of one image, without allocating arrays. Parameters come
from the parameter tree, multiply-adds and receptive fields from the equations of the jaxpr; both
are assigned to the layer in whose call they were traced. Multiply-adds count the weights of
convolutions and dense products once per output position, including those applied to padding.
Biases, batch norm, pooling and activations are not counted: this is the convention of the papers,
whose "FLOPs" are multiply-adds.

A layer whose trace does not show its cost (such as LeNet-5's C3 with its table of connections)
declares it with a method `multiply_adds(*input_shapes) -> int`, for one image.
"""

import collections
import contextlib
import dataclasses
import gc
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.interpreters.partial_eval import dce_jaxpr

from inspection.trace import MARK, Walk, Window
from models import convolution, layers
from models.network import Network

Path = tuple[str, ...]

KINDS: dict[type[nn.Module], str] = {
    layers.AvgPool: "average pool",
    layers.BatchNorm: "batch norm",
    layers.Conv: "conv",
    layers.Dense: "dense",
    layers.GlobalAvgPool: "global average pool",
    layers.LocalResponseNorm: "local response norm",
    layers.MaxPool: "max pool",
    nn.Dropout: "dropout",
}


@dataclasses.dataclass(frozen=True)
class Layer:
    """One row of a network's table.

    output: the shape for one image. window: None if the layer has none. receptive_field: (height,
    width) in input pixels, including pixels outside the image; None if the layer computes nothing
    at test time. declared: multiply_adds comes from the layer's own method. calls: how often the
    layer is applied to one image; multiply_adds is the sum over all calls, the other numbers are
    those of the first.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    params: int
    multiply_adds: int
    window: Window | None = None
    receptive_field: tuple[int, int] | None = None
    declared: bool = False
    calls: int = 1


@dataclasses.dataclass(frozen=True)
class Cost:
    """A network's totals and its layers, in the order they are called."""

    params: int
    multiply_adds: int
    input_shape: tuple[int, int, int]
    layers: tuple[Layer, ...]


@dataclasses.dataclass(frozen=True)
class Traced:
    """A network traced once on one image: its cost, variables' shapes and initial values.

    Training needs all three, and tracing a deep network takes a quarter of a second.
    """

    network: Network
    cost: Cost
    variables: Any
    program: ClosedJaxpr  # (key, image) -> the leaves of (outputs, variables)

    def init(self, key: jax.Array) -> Any:
        """The same variables to the bit as network.init(key, images), without the forward pass."""
        leaves, structure = jax.tree.flatten(self.variables)
        others = len(self.program.jaxpr.outvars) - len(leaves)
        wanted = [False] * others + [True] * len(leaves)
        jaxpr, used = dce_jaxpr(self.program.jaxpr, wanted)
        given = (key, jnp.zeros((1, *self.network.input)))
        inputs = [value for value, is_used in zip(given, used, strict=True) if is_used]
        # Evaluated operation by operation like network.init; compiled, the bits might differ.
        values = jaxpr_as_fun(ClosedJaxpr(jaxpr, self.program.consts))(*inputs)
        return jax.tree.unflatten(structure, values)


def measure(network: Network, image_shape: tuple[int, int, int] | None = None) -> Cost:
    """The cost of a network; arguments and errors as for `trace`."""
    return trace(network, image_shape).cost


def trace(network: Network, image_shape: tuple[int, int, int] | None = None) -> Traced:
    """Traces `network`, including its side heads, on one image and counts.

    image_shape: replaces `network.input`, for a fully convolutional form. Raises ValueError if the
    shape is not valid for the network, or if convolutions are in a `while` or `cond`, so that the
    number of iterations is not known.
    """
    calls: list[_Call] = []
    open_calls: list[int] = []

    def record(
        call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext
    ) -> Any:
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        index, module = len(calls), context.module
        parent = open_calls[-1] if open_calls else None
        if parent is not None and calls[parent].path == module.path:
            return call(*args, **kwargs)  # remat and super() call a module inside itself
        calls.append(_Call(module.path, type(module), parent))
        declaration = getattr(module, "multiply_adds", None)
        if declaration is not None:
            shapes = [leaf.shape[1:] for leaf in jax.tree.leaves(args) if hasattr(leaf, "shape")]
            calls[index].declared = declaration(*shapes)
        open_calls.append(index)
        # Every equation keeps the scope's name, also inside jit, remat and scan.
        with jax.named_scope(f"{MARK}{index}"):
            out = call(*args, **kwargs)
        open_calls.pop()
        arrays = [leaf for leaf in jax.tree.leaves(out) if hasattr(leaf, "shape")]
        calls[index].output = tuple(arrays[0].shape[1:]) if arrays else ()
        return out

    image_shape = image_shape or network.input
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    # XLA's convolutions, whose equations show kernel, stride and padding.
    with _no_collection(), convolution.formed("xla"), nn.intercept_methods(record):
        closed, shapes = jax.make_jaxpr(network.init_with_output, return_shape=True)(key, images)
    params = shapes[1].get("params", {})
    owners = _owners(calls, params)
    walk = Walk(owners)
    walk.follow(closed.jaxpr, closed.jaxpr.invars[-1])
    counted = _tabulate(network, image_shape, calls, owners, walk, params)
    return Traced(network, counted, shapes[1], closed)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Disables the garbage collector, which takes a fifth of a deep net's trace for nothing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@dataclasses.dataclass
class _Call:
    """One call of one module while the network was traced."""

    path: Path
    module: type[nn.Module]
    parent: int | None
    declared: int | None = None
    output: tuple[int, ...] = ()


def _owners(calls: Sequence[_Call], params: Mapping[str, Any]) -> list[int]:
    """For each call, the call in whose row it is counted: usually itself.

    Calls inside a layer that declares its cost are counted in that layer's row, and the batch norm
    of a convolution in the convolution's row.
    """
    with_kernel = {path for path, name, _ in _arrays(params) if name == "kernel"}
    owners: list[int] = []
    for index, call in enumerate(calls):
        owner = index
        if call.parent is not None:
            above = calls[owners[call.parent]]
            is_norm = issubclass(call.module, layers.BatchNorm) and call.path[-1] == "bn"
            if above.declared is not None or (is_norm and above.path in with_kernel):
                owner = owners[call.parent]
        owners.append(owner)
    return owners


def _tabulate(
    network: Network,
    image_shape: tuple[int, int, int],
    calls: Sequence[_Call],
    owners: Sequence[int],
    walk: Walk,
    params: Mapping[str, Any],
) -> Cost:
    """Combines calls, equations and parameters into one row per layer."""
    row_of: dict[Path, Path] = {}
    for index, call in enumerate(calls):
        row_of.setdefault(call.path, calls[owners[index]].path)
    own_params: collections.Counter[Path] = collections.Counter()
    for path, _, size in _arrays(params):
        while path not in row_of:  # a module whose __call__ was never used
            path = path[:-1]
        own_params[row_of[path]] += size

    containers = {
        calls[call.parent].path
        for index, call in enumerate(calls)
        if owners[index] == index and call.parent is not None
    }
    rows: dict[Path, Layer] = {}
    for index, call in enumerate(calls):
        if owners[index] != index:
            continue
        path = call.path
        counted = walk.multiply_adds[index] if call.declared is None else call.declared
        if path in containers and not own_params[path] and not counted:
            continue
        if path in rows:
            row = rows[path]
            rows[path] = dataclasses.replace(
                row, calls=row.calls + 1, multiply_adds=row.multiply_adds + counted
            )
            continue
        rows[path] = Layer(
            name="/".join(path) or type(network).__name__,
            kind=_kind(call.module, walk.groups.get(index)),
            output=call.output,
            params=own_params[path],
            multiply_adds=counted,
            window=walk.window(index),
            receptive_field=walk.receptive_field(index),
            declared=call.declared is not None,
        )
    table = tuple(rows.values())
    return Cost(
        params=sum(size for _, _, size in _arrays(params)),
        multiply_adds=sum(row.multiply_adds for row in table),
        input_shape=image_shape,
        layers=table,
    )


def _arrays(tree: Mapping[str, Any], path: Path = ()) -> Iterator[tuple[Path, str, int]]:
    """(path of the module that holds it, name, number of values) of a parameter tree's arrays."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _arrays(value, (*path, name))
        else:
            yield path, name, math.prod(value.shape)


def _kind(module: type[nn.Module], groups: tuple[int, int] | None) -> str:
    """The kind of a layer: "conv", "conv, 2 groups", "depthwise conv", "max pool", ..."""
    known = next((base for base in module.__mro__ if base in KINDS), None)
    if known is layers.Conv and groups is not None and groups[0] > 1:
        count, channels = groups
        return "depthwise conv" if count == channels else f"conv, {count} groups"
    return KINDS[known] if known else re.sub("(?<=[a-z])(?=[A-Z])", " ", module.__name__).lower()
