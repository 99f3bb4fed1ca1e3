"""The base class of all networks. Imports only models.layers."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.layers import INITIALIZERS, BatchNorm, Initializer


class Outputs(NamedTuple):
    """The output of every network.

    logits: [N, classes] float32 ([N, h, w, classes] in a fully convolutional form).
    side_logits: the side heads' logits by head name, [N, classes] each; empty if there are none.
    captured: the outputs of the layers listed in `capture`, by layer name.
    """

    logits: jax.Array
    side_logits: Mapping[str, jax.Array]
    captured: Mapping[str, jax.Array]


class Skips(NamedTuple):
    """The connections of a network that skip layers.

    counts: their number, by the units that have them: one for each residual unit of a ResNet;
    L(L + 1)/2 for a DenseNet's block of L layers, which counts those to the next layer, too.
    weighted: the units whose connection has a weight matrix, W_s of He et al. 2016a, equation 2.
    """

    counts: Mapping[str, int] = {}
    weighted: tuple[str, ...] = ()


class Network(nn.Module):
    """Base class of all networks: common fields, input check, capture of layers, float32 logits.

    A subclass defines `forward(images, train)`, which returns its logits and the logits of its side
    heads by name. `input` is the (height, width, channels) it is built for.
    """

    input: tuple[int, int, int]
    num_classes: int
    heads: tuple[str, ...] = ()  # side heads, by name
    initializer: str = "paper"  # or a name in INITIALIZERS, for all kernels
    width: float = 1.0  # multiplies every layer's channels, except the classes
    dtype: str = "float32"  # of the computation; statistics, losses, logits: float32 or wider
    param_dtype: str = "float32"  # of the weights
    # Shell patterns of batch norms ("conv1/bn") that use and keep their running statistics in
    # training, as in evaluation.
    batch_norm_frozen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("dropout") and not 0 <= value < 1:
                raise ValueError(f"{field.name}: must be from 0 to below 1, not {value}")
            if field.name == "batch_norm_group" and value < 0:
                raise ValueError(f"batch_norm_group: must be 0 or more, not {value}")
            if field.name.endswith(("features", "widths")) and min(_numbers(value), default=1) < 1:
                raise ValueError(f"{field.name}: {value} must hold 1 or more for each layer")
        super().__post_init__()

    def forward(self, images: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """[N, H, W, C] -> logits and side logits. To be defined by the subclass."""
        raise TypeError(f"{type(self).__name__} defines no forward pass")

    @property
    def skips(self) -> Skips:
        """The connections that skip layers; none, unless the subclass has them."""
        return Skips()

    @property
    def last_stage(self) -> tuple[str, ...]:
        """Shell patterns of the last layers' parameters; fine-tuning trains them on some labels."""
        return ()

    @property
    def gives_distances(self) -> bool:
        """Whether the logits are minus distances: those of radial-basis outputs."""
        return False

    @property
    def curvature_layers(self) -> Mapping[str, Callable[[jax.Array], jax.Array]]:
        """The layers, first to last, through which the optimizer of LeCun et al. 1998 propagates
        curvatures, with the function after each; none, unless the subclass has them.

        A layer without weights must use every unit of its input at most once.
        """
        return {}

    @property
    def types(self) -> dict[str, Any]:
        """The compute and weight types, as keyword arguments of a layer."""
        return {"dtype": self.dtype, "param_dtype": self.param_dtype}

    def channels(self, printed: int) -> int:
        """A printed width times the `width` field, at least 1."""
        return max(1, round(printed * self.width))

    def kernel_init(self, paper: Initializer) -> Initializer:
        """`paper`, the layer's initialisation in its paper, unless `initializer` names another."""
        return paper if self.initializer == "paper" else INITIALIZERS[self.initializer]

    def freezes_batch_norm(self, name: str) -> bool:
        """Whether the batch norm `name` ("conv1/bn") is one of `batch_norm_frozen`."""
        return any(fnmatchcase(name, pattern) for pattern in self.batch_norm_frozen)

    def __call__(
        self, images: jax.Array, *, train: bool = False, capture: Sequence[str] = ()
    ) -> Outputs:
        """Runs the network on [N, H, W, C] float images.

        capture: names of layers whose outputs to return ("conv2_1", "inception_4a/3x3"), after the
        layer's batch norm and before its nonlinearity. Raises ValueError for an unknown layer name,
        or if the images do not have the channels of `input`.
        """
        if images.ndim != 4 or images.shape[-1] != self.input[-1]:
            raise ValueError(
                f"images must be [N, H, W, {self.input[-1]}], not {tuple(images.shape)}"
            )
        # flax's capture_intermediates works only from outside, through `apply` and a collection of
        # its own; this returns the outputs asked for, under jit too, and names unknown layers.
        captured: dict[str, jax.Array] = {}
        seen: list[str] = []
        depth = len(self.path)

        def record(
            call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext
        ):
            out = call(*args, **kwargs)
            path = "/".join(context.module.path[depth:])
            if path and context.method_name == "__call__":
                seen.append(path)
                if path in capture:
                    captured[path] = out
            return out

        def hold(call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext):
            layer = context.module
            if isinstance(layer, BatchNorm) and self.freezes_batch_norm(
                "/".join(layer.path[depth:])
            ):
                return call(args[0], train=False)
            return call(*args, **kwargs)

        images = images.astype(self.dtype)
        with ExitStack() as interceptors:
            if train and self.batch_norm_frozen:
                interceptors.enter_context(nn.intercept_methods(hold))
            if capture:
                interceptors.enter_context(nn.intercept_methods(record))
            logits, side = self.forward(images, train)
        unknown = sorted(set(capture) - set(seen))
        if unknown:
            raise ValueError(f"capture: no layer {unknown[0]!r}; layers: {', '.join(seen)}")
        absent = [head for head in self.heads if head not in side]
        if absent:
            raise ValueError(f"heads: {type(self).__name__} has no side head {absent[0]!r}")
        wide = jnp.promote_types(self.dtype, jnp.float32)
        return Outputs(
            logits.astype(wide),
            {name: value.astype(wide) for name, value in side.items()},
            captured,
        )


def _numbers(value: Any) -> Iterator[int]:
    """The numbers in nested tuples."""
    if isinstance(value, tuple):
        for item in value:
            yield from _numbers(item)
    else:
        yield value
