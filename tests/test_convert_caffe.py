"""Caffe's files: our reader against Google's protobuf, our networks against their definitions."""

import math
import pathlib
from collections.abc import Callable
from functools import partial
from typing import Any

import caffe_schema as schema
import jax
import numpy as np
import pytest
from drawn import compiled, drawn

import models
from conversion import caffe_file, caffe_layers
from conversion.caffe_file import CaffeNet
from conversion.table import give, take
from errors import UserError

FLOATS = np.array([1.5, -0.0, 3e-45, -3.4e38, 7.25, 2], np.float32)


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "net.caffemodel"


@pytest.mark.parametrize("old", [False, True])
def test_reads_what_protobuf_wrote(path: pathlib.Path, old: bool) -> None:
    layers = {"conv1": [FLOATS.reshape(1, 1, 2, 3), FLOATS[:2]], "fc": [FLOATS.reshape(3, 2)]}
    path.write_bytes(schema.net("Net", layers, old=old))
    found = caffe_file.read_net(path)
    assert (found.name, list(found.layers)) == ("Net", ["conv1", "fc"])
    for name, arrays in layers.items():
        for array, read in zip(arrays, found.layers[name], strict=True):
            shape = (1,) * (4 - array.ndim) * old + array.shape
            assert (read.shape, read.tobytes()) == (shape, array.tobytes())


def test_protobuf_reads_what_we_wrote(path: pathlib.Path) -> None:
    layers = {"conv1": [FLOATS.reshape(2, 3)], "a name with ü": [FLOATS, FLOATS[:0]]}
    caffe_file.write_net(path, CaffeNet("Net", layers))
    read = schema.MESSAGES["NetParameter"].FromString(path.read_bytes())
    assert read.name == "Net"
    for layer, (name, arrays) in zip(read.layer, layers.items(), strict=True):
        assert layer.name == name
        assert [tuple(blob.shape.dim) for blob in layer.blobs] == [a.shape for a in arrays]
        for blob, array in zip(layer.blobs, arrays, strict=True):
            assert np.array(blob.data, np.float32).tobytes() == array.tobytes()


def test_blobs_of_doubles_and_blobs_in_parts(path: pathlib.Path) -> None:
    made = schema.MESSAGES["NetParameter"]()
    made.layer.add(name="doubles").blobs.append(schema.blob(FLOATS[:1], doubles=True))
    # Messages that are joined byte by byte are one message: data in two chunks, the later name.
    parts = [schema.blob(FLOATS[:4]), schema.blob(FLOATS[4:])]
    for part in parts:
        part.ClearField("shape")
    parts[1].shape.dim.extend((2, 3))
    joined = b"".join(part.SerializeToString() for part in parts)
    layer = b"\x0a\x05parts" + b"\x3a" + bytes([len(joined)]) + joined
    path.write_bytes(made.SerializeToString() + b"\xa2\x06" + bytes([len(layer)]) + layer)
    found = caffe_file.read_net(path).layers
    assert found["doubles"][0].tobytes() == FLOATS[:1].tobytes()
    assert found["parts"][0].tobytes() == FLOATS.tobytes()
    assert found["parts"][0].shape == (2, 3)


def test_mean_image(tmp_path: pathlib.Path) -> None:
    image = np.arange(24, dtype=np.float32).reshape(3, 2, 4)
    path = tmp_path / "mean.binaryproto"
    for old in (False, True):
        path.write_bytes(schema.blob(image, old=old).SerializeToString())
        np.testing.assert_array_equal(caffe_file.read_mean(path), image)
    path.write_bytes(schema.blob(image[0]).SerializeToString())
    with pytest.raises(UserError, match=r"no mean image: its shape is \(2, 4\)"):
        caffe_file.read_mean(path)


WHOLE = schema.net("Net", {"conv1": [FLOATS.reshape(2, 3)]})
V0 = schema.MESSAGES["NetParameter"]()
V0.layers.add().layer.name = "conv1"
NEGATIVE = schema.MESSAGES["NetParameter"]()
NEGATIVE.layer.add(name="conv1").blobs.add().shape.dim.append(-1)
HUGE = schema.MESSAGES["NetParameter"]()  # 2^60 numbers, none there
HUGE.layer.add(name="conv1").blobs.add().shape.dim.extend([2**30, 2**30])
DEEP = schema.MESSAGES["NetParameter"]()
DEEP.layer.add(name="conv1").blobs.add().shape.dim.extend([1] * 1000)
TWICE = schema.net("", {"conv1": [FLOATS]}) + schema.net("", {"conv1": [FLOATS]})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no weights; is it a .caffemodel?"),
        (schema.net("Net", {"conv1": []}), "holds no weights; is it a .caffemodel?"),
        (WHOLE[:-1], r"field 100 needs \d+ bytes, \d+ are left"),
        (WHOLE[:1], "it ends within a number"),
        (b"\x0a" + b"\xff" * 10, "a number is longer than 10 bytes"),
        (b"\x0a\xff\xff\xff\xff\x0f", "field 1 needs 4294967295 bytes, 0 are left"),
        (b'name: "AlexNet"\nlayer {\n', "is damaged or no .caffemodel"),
        (b"\x89HDF\r\n\x1a\n", "field 1153 needs 8 bytes, 6 are left"),
        (b"\x0b", "no field can begin with 11 at byte 1"),
        (b"\x00", "no field can begin with 0 at byte 1"),
        (b"\x0a\x02\xff\xfe", "a name is not text"),
        (b"\xa0\x06\x01", "a message, text or array has no length"),
        (b"\xa2\x06\x04\x3a\x02\x28\x01", "field 5 is not an array"),
        (V0.SerializeToString(), "Caffe's format of 2013; Caffe's upgrade_net_proto_binary"),
        (NEGATIVE.SerializeToString(), "blob 0 of layer 'conv1': has a negative size"),
        (HUGE.SerializeToString(), r"has 0 bytes of numbers, its shape \(1073741824, 1073741824\)"),
        (DEEP.SerializeToString(), "has more than 32 axes"),
        (TWICE, "two layers are called 'conv1'"),
        (WHOLE.replace(b"\x0a\x02\x02\x03", b"\x0a\x02\x02\x04"), "has 24 bytes of numbers, its"),
    ],
)
def test_malformed_files_are_one_line(path: pathlib.Path, content: bytes, said: str) -> None:
    path.write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        caffe_file.read_net(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_no_cut_of_a_file_is_more_than_a_line(path: pathlib.Path) -> None:
    for length in range(len(WHOLE)):
        path.write_bytes(WHOLE[:length])
        with pytest.raises(UserError):
            caffe_file.read_net(path)


# Small forms of the networks, with the same layers.
SMALL: dict[str, dict[str, Any]] = {
    "alexnet_caffe": {"width": 0.125},
    "caffenet": {"width": 0.125},
    "vgg_D": {"width": 0.125, "input": 64},
    "vgg_E": {"width": 0.125, "input": 64},
    "nin_imagenet": {"width": 0.125},
    "googlenet_2014": {"width": 0.125},
    "googlenet_2014_with_aux": {"width": 0.125},
    "resnet50_caffe": {"width": 0.125, "input": 64},
    "resnet101_v1": {"width": 0.125, "input": 64},
    "resnet152_v1": {"width": 0.125, "input": 64},
}


def test_every_network_has_a_small_form() -> None:
    assert SMALL.keys() == caffe_layers.NAMES.keys()


@pytest.mark.parametrize("name", SMALL)
def test_round_trip_keeps_every_bit(path: pathlib.Path, name: str) -> None:
    """Ours to a file and back, and the file that comes of that again."""
    network = models.create({"name": name, **SMALL[name]})
    variables, table = drawn(network), caffe_layers.rows(name, network)
    caffe_file.write_net(path, caffe_layers.net_of(name, give(table, variables)))
    read = caffe_file.read_net(path)
    back = take(table, models.variables_of(network), caffe_layers.arrays_of(read))
    assert jax.tree.all(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), variables, back))
    written = path.read_bytes()
    caffe_file.write_net(path, caffe_layers.net_of(name, give(table, back)))
    assert path.read_bytes() == written


def test_a_kernel_by_hand(path: pathlib.Path) -> None:
    """Output 5, colour green, row 2, column 7; and output 3 of pixel (1, 4), map 6, before fc6."""
    network = models.create({"name": "alexnet_caffe", **SMALL["alexnet_caffe"]})
    table = caffe_layers.rows("alexnet_caffe", network)
    theirs = give(table, drawn(network))
    params = take(table, models.variables_of(network), theirs)["params"]
    conv, dense = params["conv1"]["kernel"], params["fc6"]["kernel"]
    for colour in range(3):
        assert conv[2, 7, colour, 5] == theirs["conv1/0"][5, 2 - colour, 2, 7]
    maps = theirs["conv5/0"].shape[0]
    assert dense.shape[0] == 6 * 6 * maps
    assert dense[(1 * 6 + 4) * maps + 6, 3] == theirs["fc6/0"][3, 6 * 36 + 1 * 6 + 4]


def numbered(*counts: int) -> list[list[str]]:
    """The units of ResNet-101 and 152: 3a, 3b1, 3b2 ... in the middle stages."""
    first, second, third, last = counts
    return [
        [f"2{letter}" for letter in "abc"[:first]],
        ["3a", *(f"3b{n}" for n in range(1, second))],
        ["4a", *(f"4b{n}" for n in range(1, third))],
        [f"5{letter}" for letter in "abc"[:last]],
    ]


def definition(name: str) -> tuple[Any, Callable[..., dict[str, Any]]]:
    """The network in torch, and its weights' place."""
    nets = pytest.importorskip("source_nets", reason="torch is not installed")
    weights = nets.Caffe(SMALL[name]["width"])
    lettered = [[f"{s}{'abcdef'[i]}" for i in range(n)] for s, n in enumerate((3, 4, 6, 3), 2)]
    if name == "resnet50_caffe":
        weights.biased = ("conv1",)
    return weights, {
        "alexnet_caffe": partial(nets.alexnet, pool_first=False),
        "caffenet": partial(nets.alexnet, pool_first=True),
        "vgg_D": partial(nets.vgg, depths=(2, 2, 3, 3, 3)),
        "vgg_E": partial(nets.vgg, depths=(2, 2, 4, 4, 4)),
        "nin_imagenet": nets.nin_imagenet,
        "googlenet_2014_with_aux": nets.googlenet,
        "resnet50_caffe": partial(nets.resnet, units=lettered),
        "resnet101_v1": partial(nets.resnet, units=numbered(3, 4, 23, 3)),
        "resnet152_v1": partial(nets.resnet, units=numbered(3, 8, 36, 3)),
    }[name]


# Layers to look at besides the heads, ours and theirs; outputs before the nonlinearity.
LAYERS = {
    "alexnet_caffe": {"conv2": "conv2", "conv5": "conv5", "fc6": "fc6"},
    "caffenet": {"conv2": "conv2", "conv5": "conv5"},
    "vgg_D": {"conv1_1": "conv1_1", "conv4_3": "conv4_3", "fc7": "fc7"},
    "nin_imagenet": {"cccp1": "cccp1", "conv4": "conv4-1024"},
    "googlenet_2014_with_aux": {
        "conv2_reduce": "conv2/3x3_reduce",
        "inception_4a/5x5": "inception_4a/5x5",
        "aux2/fc": "loss2/fc",
    },
}


@pytest.mark.parametrize("name", [name for name in SMALL if name != "googlenet_2014"])
def test_outputs_are_those_of_the_definition(path: pathlib.Path, name: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    weights, forward = definition(name)
    network = models.create({"name": name, **SMALL[name]})
    # As large as pixels are: response normalisation changes little of small numbers.
    images = np.random.default_rng(1).uniform(-128, 128, (2, *network.input)).astype(np.float32)
    with torch.no_grad():
        blue_first = torch.tensor(images[..., ::-1].transpose(0, 3, 1, 2).copy())
        expected = forward(weights, blue_first)
    path.write_bytes(schema.net("Net", weights.arrays, old=name.startswith("vgg")))
    table = caffe_layers.rows(name, network)
    arrays = caffe_layers.arrays_of(caffe_file.read_net(path))
    variables = take(table, models.variables_of(network), arrays)
    looked_at = LAYERS.get(name, {})
    found = compiled(lambda v, x: network.apply(v, x, capture=tuple(looked_at)))(variables, images)
    for head, logits in expected.items():
        ours = found.logits if head == "main" else found.side_logits[head]
        close(ours, logits.numpy())
    for ours, theirs in looked_at.items():
        output = weights.outputs[theirs].numpy()
        close(found.captured[ours], output.transpose(0, 2, 3, 1) if output.ndim == 4 else output)


def close(ours: Any, theirs: np.ndarray) -> None:
    """Within 1e-4 of the largest number, and not all alike."""
    assert np.ptp(theirs) > 1e-3
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


def arrays(name: str = "resnet50_caffe") -> tuple[Any, Any, dict[str, list[np.ndarray]]]:
    network = models.create({"name": name, **SMALL[name]})
    table = caffe_layers.rows(name, network)
    net = caffe_layers.net_of(name, give(table, drawn(network)))
    return table, models.variables_of(network), {k: list(v) for k, v in net.layers.items()}


def changed(layers: dict[str, list[np.ndarray]], what: str) -> None:
    if what == "missing":
        del layers["res3b_branch2a"]
    elif what == "left over":
        layers["res3e_branch2a"] = [FLOATS]
    elif what == "transposed":
        layers["res3b_branch2a"][0] = layers["res3b_branch2a"][0].transpose(1, 0, 2, 3)
    elif what == "two blobs":
        del layers["bn3b_branch2a"][2]
    elif what == "nan":
        layers["scale3b_branch2a"][1][3] = math.nan
    elif what == "overflow":
        layers["bn3b_branch2a"][2][0] = 1e-45
    elif what == "no bias":
        del layers["conv1"][1]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("missing", r"res3b_branch2a/0 is missing \(it would be params/conv3_2/a/kernel\)"),
        ("left over", "res3e_branch2a/0: the network has no such array"),
        ("transposed", r"res3b_branch2a/0 has shape \(64, 16, 1, 1\), not \(16, 64, 1, 1\)"),
        ("two blobs", r"bn3b_branch2a has 2 blobs .* a batch norm has mean, variance and one"),
        ("nan", "scale3b_branch2a/1 holds numbers that are not finite"),
        ("overflow", "bn3b_branch2a/0 holds numbers that are not finite"),
        ("no bias", r"conv1/1 is missing \(it would be params/conv1/bias\)"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(what: str, said: str) -> None:
    table, shapes, layers = arrays()
    changed(layers, what)
    with pytest.raises(UserError, match=said) as caught:
        take(table, shapes, caffe_layers.arrays_of(CaffeNet("", layers)))
    assert "\n" not in str(caught.value)
