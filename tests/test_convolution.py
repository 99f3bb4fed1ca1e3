"""Every form of convolution gives the numbers of its definition, forward and both gradients."""

import pathlib
import platform
import subprocess
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from errors import UserError
from inspection import cost
from models import convolution, native
from models.convolution import Window
from startup import environment
from tests.drawn import images_for, initial

# Image and kernel height and width, stride, (top, bottom, left, right), input and output channels.
SHAPES = [
    ((8, 8), (3, 3), 1, (1, 1, 1, 1), 3, 16),
    ((8, 8), (3, 3), 1, (1, 1, 1, 1), 16, 16),
    ((16, 12), (3, 3), 1, (1, 1, 1, 1), 17, 32),
    ((8, 8), (3, 3), 2, (1, 1, 1, 1), 16, 32),
    ((9, 11), (3, 3), 2, (1, 1, 1, 1), 5, 17),
    ((6, 6), (3, 3), 1, (1, 1, 1, 1), 1, 5),
    ((13, 7), (5, 5), 1, (2, 2, 2, 2), 3, 6),
    ((12, 10), (5, 5), 1, (0, 0, 0, 0), 6, 16),
    ((9, 27), (2, 5), 1, (1, 0, 0, 3), 32, 3),
    ((10, 10), (1, 1), 2, (0, 0, 0, 0), 16, 33),
    ((15, 14), (7, 7), 2, (3, 3, 3, 3), 3, 17),
    ((23, 19), (11, 11), 4, (2, 1, 0, 2), 3, 5),
    ((7, 8), (2, 2), 3, (0, 1, 1, 0), 1, 1),
    ((5, 6), (3, 3), 1, (2, 3, 3, 4), 5, 1),
    # By Winograd's filtering: odd sides, padding the gradient cannot turn, one row of tiles.
    ((9, 11), (3, 3), 1, (1, 1, 0, 2), 16, 48),
    ((7, 6), (3, 3), 1, (2, 0, 2, 1), 64, 32),
    ((6, 5), (3, 3), 1, (3, 1, 0, 3), 32, 16),
    ((4, 70), (3, 3), 1, (0, 0, 1, 1), 32, 32),
]
ALL_NATIVE = convolution.Pays(True, True, True)


def by_definition(x, kernel, g, window):
    """The convolution and its gradients by x and kernel, tap by tap in float64."""
    x, kernel, g = (np.asarray(a, np.float64) for a in (x, kernel, g))
    (top, bottom), (left, right) = window.pad
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    y, by_x, by_kernel = np.zeros(g.shape), np.zeros(padded.shape), np.zeros(kernel.shape)
    for i, j in np.ndindex(kernel.shape[:2]):
        rows = slice(i, i + window.stride * (g.shape[1] - 1) + 1, window.stride)
        columns = slice(j, j + window.stride * (g.shape[2] - 1) + 1, window.stride)
        y += padded[:, rows, columns] @ kernel[i, j]
        by_x[:, rows, columns] += g @ kernel[i, j].T
        by_kernel[i, j] = np.einsum("nhwc,nhwf->cf", padded[:, rows, columns], g)
    return y, by_x[:, top : top + x.shape[1], left : left + x.shape[2]], by_kernel


def assert_near(found, expected):
    """To 1e-6 of the largest value."""
    for name, one, other in zip(("y", "by x", "by kernel"), found, expected, strict=True):
        np.testing.assert_allclose(
            one, other, rtol=0, atol=1e-6 * np.abs(other).max(), err_msg=name
        )


def with_gradients(form, window, x, kernel, g):
    @jax.jit
    def run(x, kernel, g):
        def call(x, kernel):
            return convolution.convolve(x, kernel, window.stride, window.pad, 1)

        y, back = jax.vjp(call, x, kernel)
        return y, *back(g)

    with convolution.formed(form):
        return run(x, kernel, g)


@pytest.mark.parametrize("form", ["xla", "formulated", "native"], indirect=True)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forms_agree_with_the_definition(monkeypatch, form, shape) -> None:
    # Every operation of every shape natively, not only those where it is faster.
    monkeypatch.setattr(convolution, "_pays", lambda *_: ALL_NATIVE)
    (height, width), sides, stride, (top, bottom, left, right), channels, features = shape
    window = Window(stride, ((top, bottom), (left, right)))
    draw = np.random.default_rng(0)
    x = draw.standard_normal((16, height, width, channels), np.float32)
    kernel = draw.standard_normal((*sides, channels, features), np.float32)
    out = jax.eval_shape(partial(convolution.plain, window), x, kernel)
    g = draw.standard_normal(out.shape, np.float32)
    assert_near(with_gradients(form, window, x, kernel, g), by_definition(x, kernel, g, window))


def test_ten_steps_agree(form) -> None:
    """The losses of a small ResNet, to the rounding that ten steps of training amplify."""
    name = {"name": "resnet20_cifar10_A", "stages": (1, 1, 1)}
    network = models.create({**name, "input": (16, 16, 3), "num_classes": 4})
    images, labels = images_for(network, count=16), np.arange(16) % 4
    variables = initial(network)

    def losses(form):
        def loss(params):
            outputs, _ = network.apply(
                {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
            )
            return -jnp.mean(jax.nn.log_softmax(outputs.logits)[jnp.arange(16), labels])

        @jax.jit
        def step(params, _):
            value, grads = jax.value_and_grad(loss)(params)
            return jax.tree.map(lambda p, g: p - 0.01 * g, params, grads), value

        found, params = [], variables["params"]
        with convolution.formed(form):
            for _ in range(10):
                params, value = step(params, None)
                found.append(float(value))
        return found

    expected = losses("xla")
    np.testing.assert_allclose(losses(form), expected, rtol=1e-4)
    assert expected[-1] < expected[0]


@pytest.mark.parametrize("form", ["formulated", "native"], indirect=True)
def test_negative_padding_cuts_pixels_off(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "_pays", lambda *_: ALL_NATIVE)
    draw = np.random.default_rng(0)
    x = jnp.asarray(draw.standard_normal((2, 6, 6, 2), dtype=np.float32))
    kernel = jnp.asarray(draw.standard_normal((3, 3, 2, 4), dtype=np.float32))
    with convolution.formed(form):
        cut = convolution.convolve(x, kernel, 1, ((0, 1), (-1, 0)), 1)
        whole = convolution.convolve(x[:, :, 1:], kernel, 1, ((0, 1), (0, 0)), 1)
    np.testing.assert_allclose(cut, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_other_types_are_convolved_by_xla(dtype) -> None:
    with jax.enable_x64(), convolution.formed("native"):
        x, kernel = jnp.zeros((1, 8, 8, 3), dtype), jnp.zeros((3, 3, 3, 16), dtype)
        program = jax.make_jaxpr(
            lambda x, kernel: convolution.convolve(x, kernel, 1, ((1, 1), (1, 1)), 1)
        )(x, kernel)
    assert [equation.primitive.name for equation in program.eqns] == ["conv_general_dilated"]


def test_costs_do_not_depend_on_the_form(form) -> None:
    network = models.create({"name": "resnet20_cifar10_A"})
    expected = cost.measure(network)
    with convolution.formed(form):
        assert cost.measure(network) == expected


def test_an_unknown_form_is_one_line(monkeypatch) -> None:
    monkeypatch.setenv(convolution.VARIABLE, "fast")
    with pytest.raises(UserError, match="'fast' is none of xla, formulated, native"):
        environment.describe()


def test_the_form_is_recorded(monkeypatch) -> None:
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    for form in ("xla", "formulated"):
        monkeypatch.setenv(convolution.VARIABLE, form)
        assert environment.describe()["convolution"] == form
    monkeypatch.delenv(convolution.VARIABLE)
    monkeypatch.setattr(native, "load", lambda: False)
    assert environment.describe()["convolution"] == "formulated"


@pytest.mark.parametrize("vectors", [(), ("-mno-avx512f",)], ids=["widest", "narrower"])
def test_no_byte_outside_the_buffers(tmp_path: pathlib.Path, vectors: tuple[str, ...]) -> None:
    """By the compiler's sanitizers, over odd shapes."""
    compiler = native.compiler() or pytest.skip("there is no C++ compiler")
    if vectors and platform.machine() != "x86_64":
        pytest.skip("one width of vectors on this processor")
    program = tmp_path / "harness"
    source = pathlib.Path(__file__).with_name("convolution_harness.cc")
    options = ["-std=c++20", "-O1", "-march=native", *vectors]
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run([compiler, *options, *sanitizers, source, "-o", program], check=True)
    ran = subprocess.run([program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert int(ran.stdout.split()[0]) > 1000
