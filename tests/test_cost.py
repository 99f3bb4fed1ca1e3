"""The cost measurement, on networks small enough to count by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from inspection import cost
from models.layers import AvgPool, BatchNorm, Conv, Dense, GlobalAvgPool, LocalResponseNorm, MaxPool
from models.network import Network


def by_name(network: Network) -> dict[str, cost.Layer]:
    return {layer.name: layer for layer in cost.measure(network).layers}


def of(call, size=(8, 8, 3)) -> Network:
    """A network that is `call`: one layer, or a function of the images that makes its layers."""

    class Small(Network):
        @nn.compact
        def forward(self, images, train):
            layer = call.clone(parent=self) if isinstance(call, nn.Module) else call
            return layer(images), {}

    return Small(size, 10)


def test_a_convolution_counts_its_weights_once_per_position_padding_included():
    layer = by_name(of(Conv(5, (3, 3), stride=2, pad=1, name="c")))["c"]
    assert (layer.params, layer.multiply_adds) == (3 * 3 * 3 * 5 + 5, 4 * 4 * 3 * 3 * 3 * 5)
    assert layer.kind == "conv"
    assert layer.output == (4, 4, 5)
    assert layer.window == cost.Window((3, 3), (2, 2), ((1, 1), (1, 1)))
    assert layer.receptive_field == (3, 3)


def test_groups_divide_weights_and_multiply_adds():
    layer = by_name(of(Conv(6, (3, 3), groups=2, name="c"), (8, 8, 4)))["c"]
    assert (layer.params, layer.multiply_adds) == (3 * 3 * 2 * 6 + 6, 6 * 6 * 3 * 3 * 2 * 6)
    assert layer.kind == "conv, 2 groups"
    assert by_name(of(Conv(6, (3, 3), groups=3, name="c")))["c"].kind == "depthwise conv"


def test_a_batch_norm_belongs_to_its_convolution_and_stands_alone_elsewhere():
    def call(x):
        x = Conv(4, (1, 1), bias=False, batch_norm={}, name="c")(x)
        return BatchNorm(name="bn")(x, False)

    layers = by_name(of(call))
    assert {name: layer.params for name, layer in layers.items()} == {"c": 12 + 8, "bn": 8}
    assert layers["bn"].kind == "batch norm"
    assert layers["bn"].multiply_adds == 0


def test_a_dense_layer_counts_the_same_as_a_convolution():
    flat = by_name(of(Dense(7, name="d")))["d"]
    slid = by_name(of(Dense(7, window=(8, 8), name="d")))["d"]
    assert flat.multiply_adds == slid.multiply_adds == 8 * 8 * 3 * 7
    assert flat.params == slid.params == 8 * 8 * 3 * 7 + 7
    assert flat.receptive_field == slid.receptive_field == (8, 8)
    wide = by_name(of(Dense(7, window=(6, 6), name="d")))["d"]
    assert wide.multiply_adds == 3 * 3 * 6 * 6 * 3 * 7


def test_a_layer_called_twice_is_one_row_with_its_weights_once():
    def call(x):
        shared = Conv(3, (3, 3), pad=1, bias=False, batch_norm={}, name="c")
        return shared(shared(x))

    (layer,) = cost.measure(of(call)).layers
    assert layer.calls == 2
    assert layer.params == 3 * 3 * 3 * 3 + 6
    assert layer.multiply_adds == 2 * 8 * 8 * 3 * 3 * 3 * 3


@pytest.mark.parametrize(
    ("size", "stride", "pad", "pads"),
    [
        (2, 1, 1, ((1, 1), (1, 1))),
        (2, 2, 1, ((1, 0), (1, 0))),  # the last pixel of padding is seen by no window
        (2, 1, ((2, 1), (0, 1)), ((2, 1), (0, 1))),
    ],
)
def test_a_map_smaller_than_the_kernel_counts_as_a_convolution(size, stride, pad, pads):
    """It is multiplied out as patches: 9 taps at each position, padding included."""
    layer = Conv(5, (3, 3), stride=stride, pad=pad, name="c")
    row = by_name(of(layer, (size, size, 3)))["c"]
    rows, columns = row.output[:2]
    assert (rows, columns) == tuple((size + sum(p) - 3) // stride + 1 for p in pads)
    assert row.multiply_adds == rows * columns * 9 * 3 * 5
    assert row.params == 9 * 3 * 5 + 5
    assert row.window == cost.Window((3, 3), (stride, stride), pads)


def test_only_products_with_the_image_count():
    class Masked(nn.Module):
        @nn.compact
        def __call__(self, x):
            left = self.param("left", nn.initializers.orthogonal(), (3, 3))
            right = self.param("right", nn.initializers.ones, (3, 5))
            return x @ (left @ right)

    layer = by_name(of(Masked(name="m")))["m"]
    assert layer.multiply_adds == 8 * 8 * 3 * 5
    assert layer.params == 9 + 15
    assert layer.kind == "masked"


class Declared(nn.Module):
    """A layer that traces to two convolutions but declares its own cost."""

    def multiply_adds(self, *input_shapes: tuple[int, ...]) -> int:
        (shape,) = input_shapes
        return 1000 + shape[0]

    @nn.compact
    def __call__(self, x):
        return Conv(2, (3, 3), name="inner")(x) + Conv(2, (3, 3), name="other")(x)


def test_a_declared_cost_replaces_what_is_traced_inside():
    (layer,) = cost.measure(of(Declared(name="d"))).layers
    assert (layer.name, layer.multiply_adds, layer.declared) == ("d", 1008, True)
    assert layer.params == 2 * (3 * 3 * 3 * 2 + 2)
    assert layer.receptive_field == (3, 3)


def test_parameters_of_a_block_itself_get_a_row():
    class Scaled(nn.Module):
        @nn.compact
        def __call__(self, x):
            return self.param("scale", nn.initializers.ones, (1, 1, 1, 3)) * Conv(
                3, (1, 1), name="c"
            )(x)

    found = cost.measure(of(Scaled(name="s")))
    assert {layer.name: layer.params for layer in found.layers} == {"s": 3, "s/c": 12}
    assert found.params == 15


class Unit(nn.Module):
    """A residual unit of stride 2 with additional branches."""

    @nn.compact
    def __call__(self, x):
        left = Conv(4, (3, 3), stride=2, pad=1, batch_norm={}, name="a")(x)
        left = Conv(4, (3, 3), pad=1, name="b")(nn.relu(left))
        shortcut = jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (0, 4 - x.shape[-1])))
        return nn.relu(left + shortcut)


@pytest.mark.parametrize("wrap", [nn.remat, nn.jit])
def test_remat_and_jit_change_no_count(wrap):
    def net(unit: type[nn.Module]) -> Network:
        return of(lambda x: Dense(10, name="fc")(unit(name="two")(unit(name="one")(x))))

    plain = cost.measure(net(Unit))
    assert cost.measure(net(wrap(Unit))) == plain
    assert [layer.name for layer in plain.layers] == ["one/a", "one/b", "two/a", "two/b", "fc"]
    assert plain.layers[0].kind == "conv"


def test_a_scan_counts_every_turn():
    def call(x):
        weights = jnp.ones((3, 3, 3, 3))

        def turn(x, _):
            numbers = ("NHWC", "HWIO", "NHWC")
            return lax.conv_general_dilated(
                x, weights, (1, 1), "SAME", dimension_numbers=numbers
            ), None

        return lax.scan(turn, x, None, length=5)[0]

    (layer,) = cost.measure(of(call)).layers
    assert layer.multiply_adds == 5 * 8 * 8 * 3 * 3 * 3 * 3
    assert layer.receptive_field == (11, 11)


def test_products_that_run_an_unknown_number_of_times_are_refused():
    def call(x):
        weights = jnp.ones((3, 3))
        return lax.while_loop(lambda x: x.sum() < 0, lambda x: x @ weights, x)

    with pytest.raises(ValueError, match="'while'"):
        cost.measure(of(call))


def test_an_input_that_is_too_small_is_an_error():
    with pytest.raises(ValueError, match="9×9 window does not fit"):
        cost.measure(of(Conv(1, (9, 9), name="c")))


def test_nothing_is_allocated():
    vast = of(Dense(10**6, name="d"), (10**5, 10**5, 3))  # weights of 120 petabytes
    assert cost.measure(vast).multiply_adds == 10**10 * 3 * 10**6


class Probe(nn.Module):
    """Makes the receptive field of its input visible."""

    @nn.compact
    def __call__(self, x):
        return x * 1.0


# Receptive fields against an independent reference: the pixels with a gradient.


def residual(x):
    x = Conv(4, (5, 3), pad=((2, 2), (1, 1)), name="stem")(x)
    x = MaxPool(3, 2, ceil_mode=True, name="pool")(x)
    return Unit(name="unit")(x)


def branches(x):
    x = Conv(4, (3, 3), stride=2, pad=((0, 1), (1, 2)), name="stem")(x)
    one = Conv(2, (1, 1), name="one")(x)
    five = Conv(2, (5, 5), pad=2, name="five")(x)
    pool = Conv(2, (1, 1), name="pool")(AvgPool(3, 1, pad=1, name="average")(x))
    x = jnp.concatenate([one, five, pool], axis=-1)
    return LocalResponseNorm(name="lrn")(x)


def shapes(x):
    """Subsampling by reshape, a transposition there and back, one asymmetric slice."""
    n, h, w, c = x.shape
    x = x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))
    x = jnp.swapaxes(jnp.swapaxes(x, 1, 2)[:, 1:], 1, 2)
    return Conv(3, (3, 3), name="c")(x)


def everything(x):
    x = Conv(2, (3, 3), name="c")(x)
    return x * GlobalAvgPool(name="pool")(x)[:, None, None, :]


@pytest.mark.parametrize("call", [residual, branches, shapes, everything])
def test_receptive_fields_are_the_extent_of_the_gradient(call):
    network = of(lambda x: Probe(name="probe")(call(x)), (40, 40, 2))
    sees = by_name(network)["probe"].receptive_field

    images = jax.ShapeDtypeStruct((1, 40, 40, 2), jnp.float32)
    out = jax.eval_shape(network.init_with_output, jax.random.key(0), images)[0].logits
    variables = jax.jit(network.init)(jax.random.key(0), jnp.zeros(images.shape))
    row, column = (side // 2 for side in out.shape[1:3])
    mixture = jax.random.normal(jax.random.key(2), out.shape[-1:])

    def middle(images):
        out, _ = network.apply(variables, images, mutable=["batch_stats"])
        return (out.logits[:, row, column] @ mixture).sum()

    # Several images, since the gradient of a maximum is at only one pixel.
    shown = jax.random.normal(jax.random.key(1), (16, 40, 40, 2))
    hit = (np.asarray(jax.jit(jax.grad(middle))(shown)) != 0).any((0, 3))
    rows, columns = np.nonzero(hit.any(1))[0], np.nonzero(hit.any(0))[0]
    assert sees == (rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)
