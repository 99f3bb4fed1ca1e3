"""convert.py: a file becomes a workdir that answers as the network did, and a file again."""

import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import drawn

import convert
import models
import sharding
from conversion import caffe_file, caffe_layers
from conversion.caffe_file import CaffeNet
from conversion.sources import SOURCES
from conversion.table import give
from errors import UserError
from training.trained import load

NAME = "nin_imagenet"
MEAN = np.arange(3 * 256 * 256, dtype=np.float32).reshape(3, 256, 256) / 2000  # blue first


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A .caffemodel of random weights."""
    return saved(tmp_path_factory.mktemp("caffe") / "nin.caffemodel", NAME)


@pytest.fixture(scope="module")
def mean_image(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A .binaryproto of version 1."""
    schema = pytest.importorskip("caffe_schema", reason="protobuf is not installed")
    path = tmp_path_factory.mktemp("mean") / "mean.binaryproto"
    path.write_bytes(schema.blob(MEAN, old=True).SerializeToString())
    return path


def saved(path: pathlib.Path, name: str, **fields: Any) -> pathlib.Path:
    network = models.create({"name": name, **fields})
    arrays = give(caffe_layers.rows(name, network), drawn(network))
    caffe_file.write_net(path, caffe_layers.net_of(name, arrays))
    return path


def theirs(weights: pathlib.Path, blue_first: np.ndarray) -> np.ndarray:
    """The logits of NiN on images that are ready for Caffe, by our network on their weights."""
    network = models.create({"name": NAME})
    arrays = caffe_layers.arrays_of(caffe_file.read_net(weights))
    kernel = arrays["conv1/0"].transpose(2, 3, 1, 0)
    rows = {row.ours: row for row in caffe_layers.rows(NAME, network)}
    variables: dict[str, Any] = {"params": {}}
    for name in rows:
        _, layer, kind = name.split("/")
        array = arrays[rows[name].theirs]
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
        variables["params"].setdefault(layer, {})[kind] = array
    variables["params"]["conv1"]["kernel"] = kernel  # not turned round: its images are blue first
    return np.asarray(jax.jit(network.apply)(variables, blue_first).logits)


@pytest.mark.parametrize("mean", ["image", "pixel"])
def test_a_workdir_answers_as_caffe_would(
    tmp_path: pathlib.Path, weights: pathlib.Path, mean_image: pathlib.Path, mean: str
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"class {number}\n" for number in range(1000)))
    how: dict[str, Any] = (
        {"mean_image": str(mean_image)} if mean == "image" else {"mean_pixel": "104,117,123.5"}
    )
    workdir = tmp_path / "run"
    convert.convert("caffe", weights, NAME, workdir, labels=str(labels), **how)
    net = load(workdir)
    images = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    prepared = net.recipe.finish(dict(net.record.statistics), jnp.asarray(images))

    # Caffe: red and blue change places, then the mean of the same pixels is subtracted. Test
    # images are the middle 224 of 256 pixels, from the 17th on.
    blue_first: Any = images[..., ::-1].astype(np.float32)
    pixel = np.array([104, 117, 123.5], np.float32)[None, None]
    removed = MEAN[:, 16:240, 16:240].transpose(1, 2, 0) if mean == "image" else pixel
    blue_first = blue_first - removed[None]
    np.testing.assert_array_equal(np.asarray(prepared)[..., ::-1], blue_first)
    expected = theirs(weights, blue_first)
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(
        net.apply(prepared).logits, expected, rtol=0, atol=1e-5 * np.abs(expected).max()
    )
    assert net.class_names[:2] == ("class 0", "class 1")
    assert (net.step, net.config.data.size, net.config.data.short_side) == (0, 224, 256)


def test_there_and_back_is_the_same_file(
    tmp_path: pathlib.Path, weights: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir, again = tmp_path / "run", tmp_path / "again.caffemodel"
    convert.convert("caffe", weights, NAME, workdir, mean_pixel="0,0,0")
    printed = capsys.readouterr().out
    assert "cccp8-1024/0  params/cccp8/kernel  (1, 1, 1024, 1000)" in printed
    assert printed.endswith(f"24 arrays -> {workdir}\n")
    kept = json.loads((workdir / "source.json").read_text())
    assert (kept["source"], kept["file"], kept["network"]) == ("caffe", "nin.caffemodel", NAME)
    assert kept["arrays"]["params/conv4/bias"] == "conv4-1024/1"
    convert.export("caffe", workdir, again)
    assert again.read_bytes() == weights.read_bytes()
    with pytest.raises(UserError, match=r"nowhere/out.caffemodel: cannot be written \(No such"):
        convert.export("caffe", workdir, tmp_path / "nowhere" / "out.caffemodel")
    with pytest.raises(UserError, match=r"run holds a run; choose another folder"):
        convert.convert("caffe", weights, NAME, workdir, mean_pixel="0,0,0")
    with pytest.raises(UserError, match=r"--network=nin_imagenet: valid names: vgg_D, vgg_E, res"):
        convert.export("keras", workdir, tmp_path / "nin.h5")


def test_side_heads_come_along(tmp_path: pathlib.Path) -> None:
    name = "googlenet_2014_with_aux"
    weights = saved(tmp_path / "googlenet.caffemodel", name)
    convert.convert("caffe", weights, name, tmp_path / "run")
    net = load(tmp_path / "run", mesh=sharding.create_mesh(jax.devices()[:1]))
    np.testing.assert_array_equal(
        net.record.statistics["channel_mean"][0], np.array([123, 117, 104], np.float32)
    )
    outputs = jax.eval_shape(net.apply, jax.ShapeDtypeStruct((1, 224, 224, 3), np.float32))
    assert {name: head.shape for name, head in outputs.side_logits.items()} == {
        "aux1": (1, 1000),
        "aux2": (1, 1000),
    }
    with pytest.raises(UserError, match=r"loss1/classifier/0 and 11 more: the network has no such"):
        convert.convert("caffe", weights, "googlenet_2014", tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"source": "onnx"}, r"--format=onnx: valid names: torchvision, caffe, keras"),
        ({"name": "vgg_A"}, r"--network=vgg_A: valid names: alexnet_caffe, caffenet, vgg_D"),
        ({}, r"--mean_image is missing: the mean of nin_imagenet is not in its weights"),
        ({"mean_pixel": "1,2"}, r"--mean_pixel=1,2: expected BLUE,GREEN,RED"),
        ({"mean_pixel": "1,2,nan"}, r"--mean_pixel=1,2,nan: each must be from 0 to 255"),
        ({"mean_pixel": "1,2,3", "mean_image": "m"}, r"--mean_image and --mean_pixel: give one"),
        ({"mean_image": "nowhere"}, r"nowhere: cannot be read \(No such file"),
        ({"mean_pixel": "1,2,3", "labels": "nowhere"}, r"--labels: nowhere cannot be read"),
        ({"mean_pixel": "1,2,3", "weights": "nowhere"}, r"nowhere: cannot be read \(No such"),
        ({"mean_pixel": "1,2,3", "name": "caffenet"}, r"nin.caffemodel: conv2/0 has shape .* not"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: pathlib.Path, weights: pathlib.Path, changes: dict[str, str], said: str
) -> None:
    given: dict[str, Any] = {"source": "caffe", "weights": weights, "name": NAME} | changes
    source, file, name = given.pop("source"), given.pop("weights"), given.pop("name")
    with pytest.raises(UserError, match=said) as caught:
        convert.convert(source, file, name, tmp_path / "run", **given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_mean_image_must_be_as_large_as_the_input(
    tmp_path: pathlib.Path, weights: pathlib.Path
) -> None:
    schema = pytest.importorskip("caffe_schema", reason="protobuf is not installed")
    small = tmp_path / "mean.binaryproto"
    small.write_bytes(schema.blob(MEAN[:, :200]).SerializeToString())
    with pytest.raises(UserError, match="a mean of 3 channels and 200×256 pixels; the network"):
        convert.convert("caffe", weights, NAME, tmp_path / "run", mean_image=str(small))


@pytest.mark.parametrize(
    ("inside", "name", "right"),
    [("CaffeNet", "alexnet_caffe", "caffenet"), ("AlexNet", "caffenet", "alexnet_caffe")],
)
def test_caffenet_and_alexnet_are_told_apart_by_the_name_inside(
    tmp_path: pathlib.Path, inside: str, name: str, right: str
) -> None:
    network = models.create({"name": name, "width": 0.125})
    path = saved(tmp_path / "net.caffemodel", right, width=0.125)
    assert caffe_file.read_net(path).name == inside
    with pytest.raises(UserError, match=f"holds '{inside}', .* convert it with --network={right}"):
        SOURCES["caffe"].read(path, name, network)
    # A file of another name, of a net that was trained further, is what the user says it is.
    caffe_file.write_net(path, CaffeNet("Mine", caffe_file.read_net(path).layers))
    assert "conv1/0" in SOURCES["caffe"].read(path, name, network)
