"""Keras's files: both layouts, our networks against their definitions, and what is refused."""

import pathlib
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
from drawn import compiled, drawn

import models
from conversion import keras_file, keras_layers
from conversion.table import give, take
from errors import UserError

h5py = pytest.importorskip("h5py", reason="h5py is not installed")

Layers = dict[str, list[np.ndarray]]
FLOATS = np.array([1.5, -0.0, 3e-45, -3.4e38, 7.25, 2], np.float32)
SMALL: dict[str, dict[str, Any]] = {
    "vgg_D": {"width": 0.125, "input": 64},
    "vgg_E": {"width": 0.125, "input": 64},
    "resnet50_keras": {"width": 0.125, "input": 64},
    "resnet101_keras": {"width": 0.125, "input": 64},
    "resnet152_keras": {"width": 0.125, "input": 64},
}
# Keras's names of the arrays of a layer, in its order.
ARRAYS = {2: ("kernel", "bias"), 4: ("gamma", "beta", "moving_mean", "moving_variance")}


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "net.h5"


def older(path: pathlib.Path, layers: Layers, *, whole_model: bool = False) -> None:
    """The layout of Keras 1 and 2: names in attributes, layers without weights too."""
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole_model else file
        names = ["input_1", *layers, "flatten"]
        # HDF5 holds no attribute above 64 kB: Keras divides a longer one.
        root.attrs["layer_names0"] = [name.encode() for name in names[:2]]
        root.attrs["layer_names1"] = [name.encode() for name in names[2:]]
        root.attrs["backend"] = b"tensorflow"
        for name in names:
            group = root.create_group(name)
            arrays = layers.get(name, [])
            called = [f"{name}/{kind}:0" for kind in ARRAYS.get(len(arrays), ())]
            group.attrs["weight_names"] = [word.encode() for word in called]
            for word, array in zip(called, arrays, strict=True):
                group.create_dataset(word, data=array)


def newer(
    path: pathlib.Path, layers: Layers, keys: Sequence[str], *, named: bool, place: str = "layers"
) -> None:
    """The layout of Keras 2.13 and 3: class names with a number; 3 keeps the layer's name too."""
    with h5py.File(path, "w") as file:
        file.create_group(f"{place}/input_layer/vars")
        for key, (name, arrays) in zip(keys, layers.items(), strict=True):
            group = file.create_group(f"{place}/{key}/vars")
            if named:
                group.attrs["name"] = name
            for number, array in enumerate(arrays):
                group[str(number)] = array


def drawn_layers(name: str) -> tuple[Any, Layers]:
    network = models.create({"name": name, **SMALL[name]})
    return network, keras_layers.layers_of(give(keras_layers.rows(name, network), drawn(network)))


@pytest.mark.parametrize("name", SMALL)
def test_round_trip_keeps_every_bit(path: pathlib.Path, name: str) -> None:
    """Ours to a file and back, and the file that comes of that again."""
    network = models.create({"name": name, **SMALL[name]})
    variables, table = drawn(network), keras_layers.rows(name, network)
    layers = keras_layers.layers_of(give(table, variables))
    keras_file.write(path, layers)
    arrays = keras_layers.arrays_of(name, network, keras_file.read(path))
    back = take(table, models.variables_of(network), arrays)
    assert jax.tree.all(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), variables, back))
    again = keras_layers.layers_of(give(table, back))
    assert list(again) == list(layers)
    for arrays_again, kept in zip(again.values(), layers.values(), strict=True):
        for one, other in zip(arrays_again, kept, strict=True):
            assert one.tobytes() == other.tobytes()


# The first layers of Keras's ResNet-50, in the order of its list of layers: model.summary().
FIRST = (
    ("conv2d", "conv1_conv"),
    ("batch_normalization", "conv1_bn"),
    ("conv2d_1", "conv2_block1_1_conv"),
    ("batch_normalization_1", "conv2_block1_1_bn"),
    ("conv2d_2", "conv2_block1_2_conv"),
    ("batch_normalization_2", "conv2_block1_2_bn"),
    ("conv2d_3", "conv2_block1_0_conv"),
    ("conv2d_4", "conv2_block1_3_conv"),
    ("batch_normalization_3", "conv2_block1_0_bn"),
    ("batch_normalization_4", "conv2_block1_3_bn"),
    ("conv2d_5", "conv2_block2_1_conv"),
)


def test_numbers_follow_keras_list_of_layers() -> None:
    network = models.create({"name": "resnet50_keras"})
    names = keras_layers.numbered("resnet50_keras", network)
    assert {key: names[key] for key, _ in FIRST} == dict(FIRST)
    # 53 convolutions; the first of conv5 are the 44th to the 47th.
    assert names["conv2d_43"] == "conv5_block1_1_conv"
    assert names["conv2d_45"] == "conv5_block1_0_conv"
    assert names["conv2d_52"] == "conv5_block3_3_conv"
    assert names["dense"] == "predictions"


@pytest.mark.parametrize("name", ["vgg_D", "resnet50_keras"])
def test_every_layout_gives_the_same_arrays(path: pathlib.Path, name: str) -> None:
    network, layers = drawn_layers(name)
    numbers = {own: key for key, own in keras_layers.numbered(name, network).items()}
    keys = [numbers[own] for own in layers]

    def read() -> dict[str, bytes]:
        arrays = keras_layers.arrays_of(name, network, keras_file.read(path))
        return {key: array.tobytes() for key, array in arrays.items()}

    older(path, layers)
    expected = read()
    assert len(expected) == sum(map(len, layers.values()))
    older(path, layers, whole_model=True)
    assert read() == expected
    newer(path, layers, keys, named=True)
    assert read() == expected
    newer(path, layers, keys, named=False)
    assert read() == expected
    newer(path, layers, keys, named=False, place="_layer_checkpoint_dependencies")
    assert read() == expected


@pytest.mark.parametrize("name", SMALL)
def test_outputs_are_those_of_the_definition(path: pathlib.Path, name: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    import source_nets as nets

    weights = nets.Keras(SMALL[name]["width"])
    forward = {
        "vgg_D": partial(nets.keras_vgg, depths=(2, 2, 3, 3, 3)),
        "vgg_E": partial(nets.keras_vgg, depths=(2, 2, 4, 4, 4)),
        "resnet50_keras": partial(nets.keras_resnet, depths=(3, 4, 6, 3)),
        "resnet101_keras": partial(nets.keras_resnet, depths=(3, 4, 23, 3)),
        "resnet152_keras": partial(nets.keras_resnet, depths=(3, 8, 36, 3)),
    }[name]
    network = models.create({"name": name, **SMALL[name]})
    images = np.random.default_rng(1).uniform(-128, 128, (2, *network.input)).astype(np.float32)
    with torch.no_grad():
        blue_first = torch.tensor(images[..., ::-1].transpose(0, 3, 1, 2).copy())
        expected = forward(weights, blue_first)["main"].numpy()
    older(path, weights.arrays)
    arrays = keras_layers.arrays_of(name, network, keras_file.read(path))
    table = keras_layers.rows(name, network)
    variables = take(table, models.variables_of(network), arrays)
    looked_at = {
        "vgg_D": ("conv3_3", "block3_conv3"),
        "vgg_E": ("conv5_4", "block5_conv4"),
    }.get(name, ("conv3_1/projection", "conv3_block1_0_conv"))
    found = compiled(lambda v, x: network.apply(v, x, capture=looked_at[:1]))(variables, images)
    assert np.ptp(expected) > 1e-3
    close = partial(np.testing.assert_allclose, rtol=0)
    close(found.logits, expected, atol=1e-4 * np.abs(expected).max())
    output = weights.outputs[looked_at[1]].numpy().transpose(0, 2, 3, 1)
    ours = found.captured[looked_at[0]]
    if name.startswith("resnet"):  # ours is captured after its batch norm
        scale, shift, mean, var = weights.arrays[looked_at[1].replace("_conv", "_bn")]
        output = (output - mean) / np.sqrt(var + 1.001e-5) * scale + shift
    close(ours, output, atol=1e-4 * np.abs(output).max())


def cut(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


def link_out(path: pathlib.Path) -> None:
    with h5py.File(path, "a") as file:
        del file["conv1_conv/conv1_conv/kernel:0"]
        file["conv1_conv/conv1_conv/kernel:0"] = h5py.ExternalLink("other.h5", "/secret")


def stored_outside(path: pathlib.Path) -> None:
    with h5py.File(path, "a") as file:
        del file["conv1_conv/conv1_conv/bias:0"]
        outside = [(str(path.with_name("raw")), 0, 32)]
        file.create_dataset("conv1_conv/conv1_conv/bias:0", (8,), "f4", external=outside)


def bomb(path: pathlib.Path) -> None:
    """4 TB of zeros that no byte of the file holds."""
    with h5py.File(path, "a") as file:
        del file["conv1_conv/conv1_conv/bias:0"]
        file.create_dataset("conv1_conv/conv1_conv/bias:0", (10**12,), "f4", chunks=(10**6,))


def squeezed(path: pathlib.Path) -> None:
    with h5py.File(path, "a") as file:
        del file["conv1_conv/conv1_conv/bias:0"]
        zeros = np.zeros(10**6, np.float32)
        file.create_dataset("conv1_conv/conv1_conv/bias:0", data=zeros, compression="gzip")


def replaced(path: pathlib.Path, value: Any) -> None:
    with h5py.File(path, "a") as file:
        del file["conv1_conv/conv1_conv/bias:0"]
        file["conv1_conv/conv1_conv/bias:0"] = value


def not_finite(path: pathlib.Path) -> None:
    with h5py.File(path, "a") as file:
        file["conv2_block1_0_bn/conv2_block1_0_bn/moving_variance:0"][3] = np.inf


def extra(path: pathlib.Path) -> None:
    with h5py.File(path, "a") as file:
        file.attrs["layer_names2"] = [b"conv6"]
        group = file.create_group("conv6")
        group.attrs["weight_names"] = [b"kernel"]
        group["kernel"] = FLOATS


def absent(path: pathlib.Path) -> None:
    with h5py.File(path, "a") as file:
        del file["conv1_bn"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut, "is damaged or no weights file of Keras"),
        (lambda path: path.write_bytes(b"PK\x03\x04"), "is damaged or no weights file of Keras"),
        (lambda path: path.unlink(), "net.h5: there is no such file"),
        (link_out, "conv1_conv/conv1_conv/kernel:0 is a link"),
        (stored_outside, "conv1_conv/conv1_conv/bias:0 is stored in another file"),
        (bomb, r"bias:0 has 0 bytes in the file, its shape \(1000000000000,\) needs 4000000000000"),
        (squeezed, r"bias:0 has \d+ bytes in the file, its shape \(1000000,\) needs 4000000"),
        (partial(replaced, value=FLOATS), r"conv1_conv/1 has shape \(6,\), not \(8,\)"),
        (partial(replaced, value=np.zeros(8)), "conv1_conv/1 is float64, not float32"),
        (partial(replaced, value="text"), "bias:0 has"),
        (not_finite, "conv2_block1_0_bn/3 holds numbers that are not finite"),
        (extra, "conv6/0: the network has no such array"),
        (absent, "is damaged or no weights file of Keras"),
    ],
)
def test_what_does_not_fit_is_one_line(path: pathlib.Path, damage: Any, said: str) -> None:
    name = "resnet50_keras"
    network, layers = drawn_layers(name)
    older(path, layers)
    damage(path)
    table, shapes = keras_layers.rows(name, network), models.variables_of(network)
    with pytest.raises(UserError, match=said) as caught:
        take(table, shapes, keras_layers.arrays_of(name, network, keras_file.read(path)))
    assert "\n" not in str(caught.value)


def test_another_network_is_refused_by_its_first_array(path: pathlib.Path) -> None:
    _, layers = drawn_layers("vgg_D")
    older(path, layers)
    network = models.create({"name": "vgg_E", **SMALL["vgg_E"]})
    table, shapes = keras_layers.rows("vgg_E", network), models.variables_of(network)
    with pytest.raises(UserError, match=r"block3_conv4/1 is missing \(it would be params/conv3_4"):
        take(table, shapes, keras_layers.arrays_of("vgg_E", network, keras_file.read(path)))


def test_without_h5py_one_line_says_what_to_install(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match=r"needs h5py: pip install h5py$"):
        keras_file.read(path)
