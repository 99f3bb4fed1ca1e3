"""torchvision's state dicts without torch: round trips, both forms of a file, older names."""

import pathlib
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from drawn import drawn
from state_dicts import SOURCE, Arrays, network_of, pth, state_of

import convert
import models
from conversion import torch_layers
from conversion.table import give, take
from errors import UserError

NAME = "resnet18_torchvision"


@pytest.mark.parametrize("name", torch_layers.NAMES)
def test_round_trip_keeps_every_bit(tmp_path: pathlib.Path, name: str) -> None:
    """Ours to a file and back, and the file that comes of that again."""
    network = network_of(name)
    variables, table = drawn(network), SOURCE.rows(name, network)
    shapes = models.variables_of(network)
    there, again = tmp_path / "there.safetensors", tmp_path / "again.safetensors"
    SOURCE.write(there, name, give(table, variables))
    back = take(table, shapes, SOURCE.read(there, name, network))
    assert models.variables_of(network).keys() == back.keys()
    bits = [
        {row.ours: array.tobytes() for row, array in of(tree, table)} for tree in (variables, back)
    ]
    assert bits[0] == bits[1]
    SOURCE.write(again, name, give(table, back))
    assert again.read_bytes() == there.read_bytes()


def of(tree: Any, table: Any) -> list[tuple[Any, np.ndarray]]:
    found = []
    for row in table:
        leaf = tree
        for part in row.ours.split("/"):
            leaf = leaf[part]
        found.append((row, np.asarray(leaf)))
    return found


def test_both_forms_of_a_file_hold_the_same(tmp_path: pathlib.Path) -> None:
    state = state_of(NAME)
    counts = {
        name.replace("running_mean", "num_batches_tracked"): np.array(7, np.int64)
        for name in state
        if name.endswith("running_mean")
    }
    pth(tmp_path / "net.pth", state | counts)
    safetensors.numpy.save_file(
        {name: array.copy() for name, array in (state | counts).items()},
        tmp_path / "net.safetensors",
    )
    for suffix in ("pth", "safetensors"):
        read = SOURCE.read(tmp_path / f"net.{suffix}", NAME, network_of(NAME))
        assert read.keys() == state.keys()
        for name, array in state.items():
            np.testing.assert_array_equal(read[name], array)


def test_older_names_of_densenet_are_read() -> None:
    state: Arrays = {
        "features.denseblock1.denselayer2.norm.1.running_mean": np.zeros(2, np.float32),
        "features.denseblock1.denselayer2.norm.1.num_batches_tracked": np.array(1, np.int64),
        "features.denseblock1.denselayer2.conv.2.weight": np.zeros(2, np.float32),
        "features.transition1.norm.weight": np.zeros(2, np.float32),
    }
    assert list(torch_layers.arrays_of(state)) == [
        "features.denseblock1.denselayer2.norm1.running_mean",
        "features.denseblock1.denselayer2.conv2.weight",
        "features.transition1.norm.weight",
    ]
    twice: Arrays = {
        **state,
        "features.denseblock1.denselayer2.conv2.weight": np.zeros(2, np.float32),
    }
    with pytest.raises(UserError, match=r"^features.*: the file has .*conv2.weight twice, by its"):
        torch_layers.arrays_of(twice)


def test_only_counts_of_batch_norms_are_passed_over() -> None:
    one = {"bn1.num_batches_tracked": np.array(1, np.int64)}
    assert list(torch_layers.arrays_of(one)) == ["bn1.num_batches_tracked"]  # of no batch norm
    norm = {"bn1.running_mean": np.zeros(2, np.float32)}
    with pytest.raises(UserError, match=r"bn1.num_batches_tracked is float32 of shape \(2,\)"):
        torch_layers.arrays_of(norm | {"bn1.num_batches_tracked": np.zeros(2, np.float32)})


def test_whole_files_become_workdirs_and_files_again(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = models.create({"name": NAME})
    weights, again = tmp_path / "resnet18.safetensors", tmp_path / "again.safetensors"
    SOURCE.write(weights, NAME, give(SOURCE.rows(NAME, network), drawn(network)))
    convert.convert("torchvision", weights, NAME, tmp_path / "run")
    printed = capsys.readouterr().out
    assert "layer1.0.conv1.weight" in printed
    assert "params/conv2_1/a/kernel" in printed
    assert printed.endswith(f"102 arrays -> {tmp_path / 'run'}\n")
    convert.export("torchvision", tmp_path / "run", again)
    assert again.read_bytes() == weights.read_bytes()
    with pytest.raises(UserError, match=r"--to=.*net.pth: must end in .safetensors"):
        convert.export("torchvision", tmp_path / "run", tmp_path / "net.pth")


@pytest.mark.slow
@pytest.mark.parametrize("name", torch_layers.NAMES)
def test_round_trip_at_full_size(tmp_path: pathlib.Path, name: str) -> None:
    network = models.create({"name": name})
    rows, path = SOURCE.rows(name, network), tmp_path / "net.safetensors"
    arrays = give(rows, drawn(network))
    SOURCE.write(path, name, arrays)
    back = take(rows, models.variables_of(network), SOURCE.read(path, name, network))
    for theirs, array in give(rows, back).items():
        assert np.array_equal(array, arrays[theirs]), theirs


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"mean_pixel": "1,2,3"}, "--mean_pixel: is for networks of Caffe and Keras"),
        ({"mean_image": "mean"}, "--mean_image: is for networks of Caffe and Keras"),
        (
            {"transform_input": True},
            "--transform_input: resnet18_torchvision of torchvision has no",
        ),
    ],
)
def test_flags_of_other_networks_are_refused(
    tmp_path: pathlib.Path, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        convert.convert("torchvision", tmp_path / "net.pth", NAME, tmp_path / "run", **given)
