"""torchvision's networks against ours on the same weights, through the files that torch writes."""

import pathlib
from typing import Any

import jax
import numpy as np
import pytest
from drawn import compiled

torch = pytest.importorskip("torch", reason="torch is not installed")
import torchvision_nets  # noqa: E402

import convert  # noqa: E402
import models  # noqa: E402
from conversion import torch_file, torch_layers  # noqa: E402
from conversion.sources import SOURCES  # noqa: E402
from conversion.table import give, take  # noqa: E402
from errors import UserError  # noqa: E402
from training.trained import load  # noqa: E402

NAMES = tuple(torch_layers.NAMES)
SOURCE = SOURCES["torchvision"]


def small(name: str) -> tuple[float, int]:
    """Width and side of a small one: AlexNet's and GoogLeNet's grids need a larger image."""
    if name.startswith("alexnet"):
        return 0.125, 224
    return (0.125, 128) if name.startswith("googlenet") else (0.125, 64)


def saved(path: pathlib.Path, net: Any) -> pathlib.Path:
    torch.save(net.state_dict(), path)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_layers_and_heads_agree(tmp_path: pathlib.Path, name: str) -> None:
    width, side = small(name)
    found = torchvision_nets.differences(name, width, side, tmp_path)
    assert {"main", "aux1", "aux2"} & found.keys() == {"main", *models.create({"name": name}).heads}
    assert len(found) >= 9
    assert max(found.values()) < 1e-4, max(found, key=found.__getitem__)


def test_parameters_are_called_what_torchvision_calls_them(tmp_path: pathlib.Path) -> None:
    """Of the state dict of ResNet-50, as printed by torchvision."""
    net = torchvision_nets.drawn_net("resnet50_v1_5", 0.0625, 64)
    state = net.state_dict()
    assert len(state) == 320
    assert {"layer4.2.bn3.num_batches_tracked", "layer1.0.downsample.1.running_var"} <= set(state)


@pytest.mark.parametrize("name", ["resnet18_torchvision", "vgg_A_bn", "densenet121"])
def test_torch_loads_what_is_written(tmp_path: pathlib.Path, name: str) -> None:
    """Ours -> .safetensors -> torch's own reading -> load_state_dict, strict."""
    width, side = small(name)
    net = torchvision_nets.drawn_net(name, width, side)
    network = models.create({"name": name, "width": width, "input": side})
    rows, shapes = SOURCE.rows(name, network), models.variables_of(network)
    read = SOURCE.read(saved(tmp_path / "net.pth", net), name, network)
    SOURCE.write(tmp_path / "net.safetensors", name, give(rows, take(rows, shapes, read)))
    again = torch_file.read(tmp_path / "net.safetensors")
    other = torchvision_nets.drawn_net(name, width, side, seed=1)
    other.load_state_dict({key: torch.tensor(array) for key, array in again.items()})
    for key, tensor in net.state_dict().items():
        assert torch.equal(other.state_dict()[key], tensor), key


def test_parameters_half_and_shared_storages_are_read(tmp_path: pathlib.Path) -> None:
    whole = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = {
        "row": whole[1],
        "turned": whole.T,
        "parameter": torch.nn.Parameter(whole[2:, ::2]),
        "half": whole.half(),
        "bfloat16": whole.bfloat16(),
        "empty": torch.zeros(0, 3),
        "number": torch.tensor(3),
    }
    torch.save(state, tmp_path / "state.pth")
    found = torch_file.read(tmp_path / "state.pth")
    assert list(found) == list(state)
    for name, tensor in state.items():
        expected = tensor.detach()
        np.testing.assert_array_equal(
            found[name].astype(np.float32), expected.to(torch.float32).numpy()
        )
    assert found["half"].dtype == np.float16
    assert str(found["bfloat16"].dtype) == "bfloat16"


def test_a_bare_pickle_names_the_command_that_works(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "old.pth"
    state = {"weight": torch.ones(2)}
    torch.save(state, path, _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match=r"is a bare pickle, which old versions of torch") as caught:
        torch_file.read(path)
    command = str(caught.value).split('python -c "')[1].removesuffix('"')
    assert "weights_only=True" in command
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    assert torch.equal(loaded["weight"], state["weight"])
    compile(command, "command", "exec")


def test_a_whole_checkpoint_is_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"epoch": 3, "state_dict": {"weight": torch.ones(2)}}, path)
    with pytest.raises(UserError, match=r"'epoch' is no array \(int\); save model.state_dict"):
        torch_file.read(path)


@pytest.mark.parametrize("transform", [True, False])
def test_a_googlenet_workdir_answers_as_torchvision(
    tmp_path: pathlib.Path, transform: bool
) -> None:
    """Preprocessing included: the standardisation of all nets, and transform_input in the net."""
    name = "googlenet_torchvision_with_aux"
    net = torchvision_nets.drawn_net(name, 1.0, 224)
    net.transform_input = transform
    path = saved(tmp_path / "googlenet.pth", net)
    convert.convert("torchvision", path, name, tmp_path / "run", transform_input=transform)
    ours = load(tmp_path / "run")
    images = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
    prepared = ours.recipe.finish(dict(ours.record.statistics), jax.numpy.asarray(images))
    mean, sd = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    standard = ((images / 255 - mean.reshape(1, 1, 1, 3)) / sd.reshape(1, 1, 1, 3)).astype("f4")
    expected, _ = torchvision_nets.run(net, standard)
    found = compiled(ours.apply)(prepared)
    for head, logits in {"main": found.logits, **found.side_logits}.items():
        scale = np.abs(expected[head]).max()
        np.testing.assert_allclose(logits, expected[head], rtol=0, atol=1e-4 * scale)
    assert set(expected) == {"main", "aux1", "aux2"}
