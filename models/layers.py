"""The layers of the papers' tables, each a Linen module.

Every row of a paper's table is one module with the paper's name for it, so that parameter trees,
captured activations and `describe.py` use the paper's names. Padding is always explicit (that of
the papers differs from XLA's "SAME"), images are NHWC, and nothing here is specific to one network.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from models import max_pooling
from models.batch_norm import normalised
from models.convolution import convolve, patches

Initializer = Callable[..., jax.Array]
Padding = int | tuple[tuple[int, int], tuple[int, int]]
T = TypeVar("T")


def uniform_fan_in(numerator: float, power: float) -> Initializer:
    """Uniform in ±numerator / fan_in**power. LeCun et al. 1998, appendix A, has 2.4 and 1."""

    def init(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
        fan_in = 1
        for side in shape[:-1]:
            fan_in *= side
        bound = numerator / fan_in**power
        return jax.random.uniform(key, tuple(shape), dtype, -bound, bound)

    return init


# He et al. 2015 use an untruncated Gaussian, std √(2/fan_in). Flax's `he_normal` is truncated, and
# torchvision divides by the fan-out.
INITIALIZERS: dict[str, Initializer] = {
    "he": nn.initializers.variance_scaling(2.0, "fan_in", "normal"),
    "glorot": nn.initializers.variance_scaling(1.0, "fan_avg", "uniform"),
    "lecun_fan_in": uniform_fan_in(2.4, 1.0),
    "lecun_sqrt_fan_in": uniform_fan_in(2.4, 0.5),
}


# Valid values of a network's `activation` field.
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {"relu": nn.relu, "tanh": nn.tanh}


def chosen(field: str, value: str, options: Mapping[str, T]) -> T:
    """The option that `value` names. Raises ValueError with the field and the valid names."""
    if value not in options:
        raise ValueError(f"{field}: {value!r} is none of {', '.join(options)}")
    return options[value]


def explicit_padding(pad: Padding) -> tuple[tuple[int, int], tuple[int, int]]:
    """((top, bottom), (left, right)) pixels of padding; one number stands for all four sides."""
    return ((pad, pad), (pad, pad)) if isinstance(pad, int) else pad


def require_output(layer: nn.Module, images: jax.Array, window: tuple[int, int], pad: Any) -> None:
    """Raises ValueError if `window` does not fit the padded map, which XLA would return empty."""
    for side, extent, (low, high) in zip(images.shape[1:3], window, pad, strict=True):
        if side + low + high < extent:
            raise ValueError(
                f"{layer.name}: a {window[0]}×{window[1]} window does not fit a map of "
                f"{images.shape[1]}×{images.shape[2]}"
            )


class BatchNorm(nn.Module):
    """Batch normalisation with statistics over groups of `group` images (0: the whole batch).

    Papers normalised over what one GPU held (He et al.: 32 images on ImageNet, 64 on CIFAR). Groups
    in the network make a run's curve independent of the number of devices. Running statistics are
    exponential averages (decay `momentum`, the meaning of Caffe and flax) of the groups' mean
    statistics, variances without Bessel's correction (Caffe and PyTorch apply it to the running
    ones); statistics are float32, or wider where the layer is. Ioffe and Szegedy 2015.
    Raises ValueError in training where the batch is not a multiple of the group.
    """

    group: int = 0
    momentum: float = 0.9
    epsilon: float = 1e-5
    scale_init: Initializer = nn.initializers.ones
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        channels = x.shape[-1]
        scale = self.param("scale", self.scale_init, (channels,), self.param_dtype)
        shift = self.param("bias", nn.initializers.zeros, (channels,), self.param_dtype)
        kept = jnp.promote_types(self.param_dtype, jnp.float32)
        mean_of = self.variable("batch_stats", "mean", jnp.zeros, (channels,), kept)
        var_of = self.variable("batch_stats", "var", jnp.ones, (channels,), kept)
        if not train:
            factor = scale * lax.rsqrt(var_of.value + self.epsilon)
            offset = shift - mean_of.value * factor
            wide = (1,) * (x.ndim - 1) + (-1,)
            return (x * factor.reshape(wide) + offset.reshape(wide)).astype(self.dtype)
        group = self.group or x.shape[0]
        if x.shape[0] % group:
            raise ValueError(
                f"batch_norm_group: {group} does not divide the batch of {x.shape[0]} images"
            )
        wide_x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        grouped = wide_x.reshape(x.shape[0] // group, group, *x.shape[1:])
        y, (mean, var) = normalised(self.epsilon, grouped, scale, shift)
        if not self.is_initializing():
            keep = self.momentum
            mean_of.value = keep * mean_of.value + (1 - keep) * mean.mean(0).reshape(channels)
            var_of.value = keep * var_of.value + (1 - keep) * var.mean(0).reshape(channels)
        return y.reshape(x.shape).astype(self.dtype)


# Written around nn.Conv (same parameters, values to 7e-7), this class would be ten lines longer.
class Conv(nn.Module):
    """Convolution with explicit padding, optional groups, and its batch norm where it has one.

    x [N, H, W, C] -> [N, H', W', features]. The captured activation of a layer is this output:
    after the batch norm, before the nonlinearity (He et al. 2016a, Fig. 7).
    """

    features: int
    kernel: tuple[int, int]
    stride: int = 1
    pad: Padding = 0
    groups: int = 1
    bias: bool = True
    batch_norm: Mapping[str, Any] | None = None  # BatchNorm's fields; None: no batch norm
    kernel_init: Initializer = INITIALIZERS["he"]
    bias_init: Initializer = nn.initializers.zeros
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        pad = explicit_padding(self.pad)
        require_output(self, x, self.kernel, pad)
        if x.shape[-1] % self.groups or self.features % self.groups:
            raise ValueError(
                f"{self.name}: {self.groups} groups do not divide {x.shape[-1]} input and "
                f"{self.features} output channels"
            )
        shape = (*self.kernel, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype).astype(self.dtype)
        x = x.astype(self.dtype)
        x = convolve(x, kernel, self.stride, pad, self.groups)
        if self.bias:
            bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype)
            x = x + bias.astype(self.dtype).reshape(1, 1, 1, -1)
        if self.batch_norm is not None:
            fields = {"dtype": self.dtype, "param_dtype": self.param_dtype, **self.batch_norm}
            x = BatchNorm(name="bn", **fields)(x, train)
        return x


class LocalConv(nn.Module):
    """A convolution of stride 1 without weight sharing: one kernel and bias vector per position.

    x [N, H, W, C] -> [N, H', W', features]. The "local" layer of cuda-convnet.
    """

    features: int
    kernel: tuple[int, int]
    pad: Padding = 0
    kernel_init: Initializer = INITIALIZERS["he"]
    bias_init: Initializer = nn.initializers.zeros
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def multiply_adds(self, *input_shapes: tuple[int, ...]) -> int:
        """As many as a convolution of the same shape with shared weights."""
        height, width, channels = input_shapes[0]
        (top, bottom), (left, right) = explicit_padding(self.pad)
        rows = height + top + bottom - self.kernel[0] + 1
        columns = width + left + right - self.kernel[1] + 1
        return rows * columns * self.kernel[0] * self.kernel[1] * channels * self.features

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        pad = explicit_padding(self.pad)
        require_output(self, x, self.kernel, pad)
        shape = (*self.kernel, x.shape[-1], self.features)
        seen = patches(x, self.kernel, 1, pad)
        rows, columns = seen.shape[1:3]

        def draw(key: jax.Array) -> jax.Array:
            # One draw per position, so that the fan-in is that of one kernel.
            keys = jax.random.split(key, rows * columns)
            kernels = jax.vmap(lambda k: self.kernel_init(k, shape, self.param_dtype))(keys)
            return kernels.reshape(rows, columns, -1, self.features)

        kernel = self.param("kernel", draw)
        bias = self.param("bias", self.bias_init, (rows, columns, self.features), self.param_dtype)
        # Operands are rounded to the compute type, sums are in float32: newer versions of jax do
        # not ensure this, and XLA's CPU backend has no such product of bfloat16.
        operands = (part.astype(self.dtype).astype(jnp.float32) for part in (seen, kernel))
        x = jnp.einsum("nhwi,hwio->nhwo", *operands)
        return x.astype(self.dtype) + bias.astype(self.dtype).reshape(1, rows, columns, -1)


# Not nn.Dense, which gives the same bits: it does not flatten and has no window.
class Dense(nn.Module):
    """A fully connected layer. x [N, ...] is flattened -> [N, features].

    With `window` = (h, w) the same weights are an h×w convolution over a larger map
    (x [N, H, W, C] -> [N, H−h+1, W−w+1, features]): Simonyan and Zisserman 2015, section 3.2.
    """

    features: int
    bias: bool = True
    window: tuple[int, int] | None = None
    kernel_init: Initializer = INITIALIZERS["he"]
    bias_init: Initializer = nn.initializers.zeros
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if self.window is None:
            x = x.reshape(x.shape[0], -1)
            fan_in = x.shape[-1]
        else:
            require_output(self, x, self.window, ((0, 0), (0, 0)))
            fan_in = self.window[0] * self.window[1] * x.shape[-1]
        kernel = self.param("kernel", self.kernel_init, (fan_in, self.features), self.param_dtype)
        kernel, x = kernel.astype(self.dtype), x.astype(self.dtype)
        if self.window is None:
            x = x @ kernel
        else:
            kernel = kernel.reshape(*self.window, x.shape[-1], self.features)
            x = convolve(x, kernel, 1, ((0, 0), (0, 0)), 1)
        if self.bias:
            bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype)
            x = x + bias.astype(self.dtype).reshape((1,) * (x.ndim - 1) + (-1,))
        return x


def pool_padding(
    images: jax.Array, window: int, stride: int, pad: Padding, ceil_mode: bool
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The padding of a pooling layer; in Caffe's ceil mode the last window extends over the edge.

    Caffe rounds the number of windows up, then drops the last one if it would start beyond the
    image and its left padding.
    """
    padding = explicit_padding(pad)
    if not ceil_mode:
        return padding
    hanging = []
    for side, (low, high) in zip(images.shape[1:3], padding, strict=True):
        count = -(-(side + low + high - window) // stride) + 1
        if (count - 1) * stride >= side + low:
            count -= 1
        hanging.append((low, max(high, (count - 1) * stride + window - side - low)))
    return (hanging[0], hanging[1])


class MaxPool(nn.Module):
    """Maximum over `window`×`window` pixels. x [N, H, W, C] -> [N, H', W', C]."""

    window: int
    stride: int
    pad: Padding = 0
    ceil_mode: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        pad = pool_padding(x, self.window, self.stride, self.pad, self.ceil_mode)
        require_output(self, x, (self.window, self.window), pad)
        pool = max_pooling.overlapping if self.window > self.stride else max_pooling.apart
        return pool(max_pooling.Window(self.window, self.stride, pad), x)


class AvgPool(nn.Module):
    """Mean over `window`×`window` pixels, with the edges of Caffe and cuda-convnet.

    The sum over a window that extends over the edge is divided by its number of pixels inside the
    map; as in Caffe, padding given by `pad` counts as inside. x [N, H, W, C] -> [N, H', W', C].
    """

    window: int
    stride: int
    pad: Padding = 0
    ceil_mode: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        pad = pool_padding(x, self.window, self.stride, self.pad, self.ceil_mode)
        require_output(self, x, (self.window, self.window), pad)
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        size, stride = (1, self.window, self.window, 1), (1, self.stride, self.stride, 1)
        total = lax.reduce_window(wide, 0.0, lax.add, size, stride, ((0, 0), *pad, (0, 0)))
        counts = []
        for side, (low, high), inside, outputs in zip(
            x.shape[1:3], pad, explicit_padding(self.pad), total.shape[1:3], strict=True
        ):
            last = min(low + side + high, low + side + inside[1])
            starts = np.arange(outputs) * self.stride
            counts.append(np.minimum(starts + self.window, last) - starts)
        share = (1.0 / np.outer(*counts)).astype(wide.dtype)
        return (total * share.reshape(1, *share.shape, 1)).astype(x.dtype)


# Valid values of a network's fields for a pooling layer.
POOLS: dict[str, type[MaxPool] | type[AvgPool]] = {"max": MaxPool, "average": AvgPool}


class GlobalAvgPool(nn.Module):
    """Mean over all positions: x [N, H, W, C] -> [N, C]. Lin et al. 2014, section 3.2."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return x.mean((1, 2), dtype=jnp.promote_types(x.dtype, jnp.float32)).astype(x.dtype)


class LocalResponseNorm(nn.Module):
    """b_i = a_i / (k + α Σ_{|j−i| ≤ size/2} a_j²)^β across channels. Krizhevsky et al. 2012, 3.3.

    `alpha_over_n` divides α by `size`, the convention of cuda-convnet, Caffe and PyTorch; the
    paper's formula does not. Squares, sums and the power are float32 for every input type.
    """

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0
    alpha_over_n: bool = False

    def multiply_adds(self, *input_shapes: tuple[int, ...]) -> int:
        """0: by the papers' convention normalisation is not counted."""
        return 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        half = self.size // 2
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        window = (1,) * (x.ndim - 1) + (self.size,)
        pad = ((0, 0),) * (x.ndim - 1) + ((half, self.size - 1 - half),)
        sums = lax.reduce_window(jnp.square(wide), 0.0, lax.add, window, (1,) * x.ndim, pad)
        alpha = self.alpha / self.size if self.alpha_over_n else self.alpha
        # exp and log are vectorised on CPU, a general power is not; the base is positive.
        return (wide * jnp.exp(-self.beta * jnp.log(self.k + alpha * sums))).astype(x.dtype)
