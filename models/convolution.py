"""Convolution: the one function that layers call, and the forms it takes on CPU.

On GPU and TPU XLA's own convolution is used. On CPU it is slow, its gradients most of all (float32,
1 to 64 channels), and $CONVNETS_CONVOLUTION chooses:

    xla         XLA's convolution, differentiated by jax
    formulated  3×3 kernels written so that forward pass and gradients are convolutions and products
                which XLA runs fast
    native      the handlers of kernels/, which `make` builds where a C++ compiler is

Without a choice it is native where that is built, else formulated. All give the same numbers up to
the order of sums. On more than one device it is xla: the others would not be divided among them.
Imports nothing of the project.
"""

import contextlib
import contextvars
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from models import native

FORMS = ("xla", "formulated", "native")
VARIABLE = "CONVNETS_CONVOLUTION"
LAYOUT = ("NHWC", "HWIO", "NHWC")
Sides = tuple[tuple[int, int], tuple[int, int]]

_form: contextvars.ContextVar[str | None] = contextvars.ContextVar("form", default=None)


def form() -> str:
    """The form that convolutions take on CPU. Raises ValueError if the choice is no form."""
    inside = _form.get()
    if inside is not None:
        return inside
    chosen = os.environ.get(VARIABLE)
    if chosen is not None and chosen not in FORMS:
        raise ValueError(f"{VARIABLE}: {chosen!r} is none of {', '.join(FORMS)}")
    if chosen == "native" and not native.load():
        raise ValueError(f"{VARIABLE}: native is not built; `make native` builds it")
    if jax.device_count() > 1:
        return "xla"
    return chosen or ("native" if native.load() else "formulated")


@contextlib.contextmanager
def formed(name: str) -> Iterator[None]:
    """Convolutions traced inside take the form `name`, not the environment's."""
    token = _form.set(name)
    try:
        yield
    finally:
        _form.reset(token)


class Window(NamedTuple):
    """How a kernel slides: its stride, and ((top, bottom), (left, right)) pixels of padding."""

    stride: int
    pad: Sides


def convolve(x: jax.Array, kernel: jax.Array, stride: int, pad: Sides, groups: int) -> jax.Array:
    """[N, H, W, C] with [h, w, C / groups, F] -> [N, H', W', F]."""
    if min(side for sides in pad for side in sides) < 0:
        # Negative padding cuts pixels off: the kernels of kernels/ only add them.
        return plain(Window(stride, pad), x, kernel, groups)
    small = any(side < taps for side, taps in zip(x.shape[1:3], kernel.shape[:2], strict=True))
    if small and groups == 1:
        # XLA convolves a map smaller than the kernel slowly on CPU: for 3×3 on 2×2 the same
        # products as one matrix product take a quarter of the time (benchmarks/convolutions.py).
        seen = patches(x, kernel.shape[:2], stride, pad)
        return seen @ kernel.reshape(-1, kernel.shape[-1])
    window = Window(stride, pad)
    chosen = form() if groups == 1 and x.dtype == kernel.dtype == jnp.float32 else "xla"
    pays = _pays(window, x, kernel)
    if chosen == "native" and any(pays):
        return _native(window, pays, x, kernel)
    if chosen == "formulated" and _formulated_fits(x.shape, kernel.shape, window):
        return _formulated(window, x, kernel)
    return plain(window, x, kernel, groups)


def plain(window: Window, x: jax.Array, kernel: jax.Array, groups: int = 1) -> jax.Array:
    """XLA's convolution."""
    strides = (window.stride, window.stride)
    return lax.conv_general_dilated(
        x, kernel, strides, window.pad, dimension_numbers=LAYOUT, feature_group_count=groups
    )


def patches(x: jax.Array, kernel: tuple[int, ...], stride: int, pad: Sides) -> jax.Array:
    """What a kernel sees at each position: [N, H, W, C] -> [N, H', W', taps·C], taps row by row."""
    x = jnp.pad(x, ((0, 0), *pad, (0, 0)))
    rows, columns = (x.shape[1 + axis] - side + 1 for axis, side in enumerate(kernel))
    seen = [
        x[:, i : i + rows : stride, j : j + columns : stride]
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
    return jnp.concatenate(seen, axis=-1)


def _input_gradient(window: Window, x: jax.Array, kernel: jax.Array, g: jax.Array) -> jax.Array:
    """XLA's gradient by x; only the shape of x is used."""
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.linear_transpose(lambda x: plain(window, x, kernel), shape)(g)[0]


def _filter_gradient(window: Window, x: jax.Array, kernel: jax.Array, g: jax.Array) -> jax.Array:
    """XLA's gradient by the kernel; only the shape of the kernel is used."""
    shape = jax.ShapeDtypeStruct(kernel.shape, kernel.dtype)
    return jax.linear_transpose(lambda kernel: plain(window, x, kernel), shape)(g)[0]


def _on_cpu(
    cpu: Callable[..., jax.Array], other: Callable[..., jax.Array], *operands: jax.Array
) -> jax.Array:
    """`cpu` where the program is compiled for CPU, `other` on any other platform."""
    return lax.platform_dependent(*operands, cpu=cpu, default=other)


# native: handlers for any kernel, stride and padding, where they are faster than XLA's.


class Pays(NamedTuple):
    """Which of a convolution's three operations the native handlers are measured to do faster."""

    forward: bool
    input_gradient: bool
    filter_gradient: bool


def _pays(window: Window, x: jax.Array, kernel: jax.Array) -> Pays:
    """As measured: XLA's convolutions of more than 16 channels run on one core each, at the same
    speed a core; those of fewer channels, and its filter gradients, are slower on any map. What the
    handlers do by Winograd's filtering takes half of XLA's time.
    """
    height, width, channels, features = kernel.shape
    filtered = window.stride == 1 and (height, width) == (3, 3) and channels % 16 == 0
    if filtered and features % 16 == 0 and channels * features <= 256**2:
        return Pays(True, True, channels * features <= 128 * 256)
    most = max(channels, features)
    wide = x.shape[2] // window.stride >= 8  # else too few neighbours to keep a core busy
    fits = height * width > 1 and (most <= 16 or (most <= 64 and wide))
    strided = window.stride > 1 and most <= 32 and height * width > 1
    positions = x.shape[1] * x.shape[2] // window.stride**2
    return Pays(fits, fits or strided, positions >= 64 and channels * features <= 128**2)


def _handler(symbol: str, window: Window, like: jax.Array) -> Callable[..., jax.Array]:
    """The handler `symbol` as a function of its two operands; its result is shaped as `like`."""
    call = native.handler(symbol, jax.ShapeDtypeStruct(like.shape, like.dtype))
    (top, _), (left, _) = window.pad
    stride = np.int64(window.stride)
    return lambda *operands: call(*operands, stride=stride, top=np.int64(top), left=np.int64(left))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _native(window: Window, pays: Pays, x: jax.Array, kernel: jax.Array) -> jax.Array:
    theirs = partial(plain, window)
    if not pays.forward:
        return theirs(x, kernel)
    ours = _handler("Convolution", window, jax.eval_shape(theirs, x, kernel))
    return _on_cpu(ours, theirs, x, kernel)


def _native_backward(
    window: Window, pays: Pays, kept: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def by_x(x: jax.Array, kernel: jax.Array, g: jax.Array) -> jax.Array:
        if pays.input_gradient:
            return _handler("ConvolutionInputGradient", window, x)(g, kernel)
        return _input_gradient(window, x, kernel, g)

    def by_kernel(x: jax.Array, kernel: jax.Array, g: jax.Array) -> jax.Array:
        if pays.filter_gradient:
            return _handler("ConvolutionFilterGradient", window, kernel)(x, g)
        return _filter_gradient(window, x, kernel, g)

    return (
        _on_cpu(by_x, partial(_input_gradient, window), *kept, g),
        _on_cpu(by_kernel, partial(_filter_gradient, window), *kept, g),
    )


_native.defvjp(lambda *asked: (_native(*asked), asked[2:]), _native_backward)


# formulated: 3×3 kernels padded by 1, of stride 1, or of stride 2 on maps of even sides.

CHUNKS = 16  # of the batch in a filter gradient, so that operands stay in the cache


def _formulated_fits(image: tuple[int, ...], kernel: tuple[int, ...], window: Window) -> bool:
    even = image[1] % 2 == 0 and image[2] % 2 == 0
    fits = window.stride == 1 or (window.stride == 2 and even)
    return fits and kernel[:2] == (3, 3) and window.pad == ((1, 1), (1, 1))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _formulated(window: Window, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _on_cpu(partial(_widened, window), partial(plain, window), x, kernel)


def _formulated_backward(
    window: Window, kept: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    by_x = _on_cpu(partial(_turned, window), partial(_input_gradient, window), *kept, g)
    by_kernel = _on_cpu(partial(_products, window), partial(_filter_gradient, window), *kept, g)
    return by_x, by_kernel


_formulated.defvjp(lambda *asked: (_formulated(*asked), asked[1:]), _formulated_backward)


def _widened(window: Window, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The forward pass. XLA's fast convolution wants more than 16 channels on one side.

    With fewer, a wider kernel yields several neighbouring outputs as features of one.
    """
    channels, features = kernel.shape[2:]
    count = 4 if channels < 8 else 2
    if window.stride == 2 or max(channels, features) > 16 or x.shape[2] % count:
        return plain(window, x, kernel)
    shifted = [jnp.pad(kernel, ((0, 0), (i, count - 1 - i), (0, 0), (0, 0))) for i in range(count)]
    wide = lax.conv_general_dilated(
        x, jnp.concatenate(shifted, -1), (1, count), window.pad, dimension_numbers=LAYOUT
    )
    return wide.reshape(*x.shape[:3], features)


def _turned(window: Window, x: jax.Array, kernel: jax.Array, g: jax.Array) -> jax.Array:
    """The gradient by x, as a convolution of g.

    Of stride 2 the four phases of x are 2×2 convolutions of g: row 2a sees tap 1 at g[a], row 2a+1
    sees tap 2 at g[a] and tap 0 at g[a+1].
    """
    if window.stride == 1:
        return _widened(window, g, kernel[::-1, ::-1].swapaxes(2, 3))
    channels, features = kernel.shape[2:]
    taps = ((1, None), (2, 0))  # of each phase, at g[a] and g[a+1]
    zeros = jnp.zeros((features, channels), kernel.dtype)

    def tap(i: int | None, j: int | None) -> jax.Array:
        return zeros if i is None or j is None else kernel[i, j].T

    phases = [
        [
            jnp.concatenate([tap(rows[a], columns[b]) for rows in taps for columns in taps], -1)
            for b in range(2)
        ]
        for a in range(2)
    ]
    by_phase = plain(Window(1, ((0, 1), (0, 1))), g, jnp.stack([jnp.stack(row) for row in phases]))
    batch, height, width, _ = g.shape
    by_phase = by_phase.reshape(batch, height, width, 2, 2, channels)
    return by_phase.transpose(0, 1, 3, 2, 4, 5).reshape(x.shape)


def _products(window: Window, x: jax.Array, kernel: jax.Array, g: jax.Array) -> jax.Array:
    """The gradient by the kernel: for each chunk of the batch one product of all its positions."""
    channels, features = kernel.shape[2:]
    batch = x.shape[0]
    if window.stride == 2 or channels < 16 or features <= 16 or batch % CHUNKS:
        return _filter_gradient(window, x, kernel, g)

    def product(x: jax.Array, g: jax.Array) -> jax.Array:
        """Rows of taps are shifts of x, columns of taps are shifts of g."""
        height, width = x.shape[1:3]
        wide = jnp.pad(g, ((0, 0), (0, 0), (1, 1), (0, 0)))
        columns = jnp.concatenate([wide[:, :, 2 - j : 2 - j + width] for j in range(3)], -1)
        tall = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)))
        rows = jnp.stack([tall[:, i : i + height].transpose(3, 0, 1, 2) for i in range(3)])
        found = rows.reshape(3 * channels, -1) @ columns.reshape(-1, 3 * features)
        return found.reshape(3, channels, 3, features).transpose(0, 2, 1, 3)

    def add(total: jax.Array, part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        return total + product(*part), None

    def chunks(images: jax.Array) -> jax.Array:
        return images.reshape(CHUNKS, batch // CHUNKS, *images.shape[1:])

    return lax.scan(add, jnp.zeros_like(kernel), (chunks(x), chunks(g)))[0]
