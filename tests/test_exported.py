"""A network as one file: any batch, any platform, jax alone, the numbers of the run."""

import pathlib
import re
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from drawn import drawn

import models
from augmentations import recipe
from errors import UserError
from tests.toy import lenet_config
from training import exported
from training.trained import Trained

ROOT = pathlib.Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "predictions.md").read_text()
(LOADER,) = re.findall(r"```python\n(import jax.*?)```", PAGE, re.DOTALL)

# One network a file of models/, small; what is special about it.
NETWORKS = [
    {"name": "lenet5_modern", "input": 16},
    {"name": "resnet20_cifar10_A", "input": 8, "width": 0.25},  # batch norm
    {"name": "lenet5_1998"},  # distances to codes
]


def trained(spec: dict[str, Any], normalize: tuple[str, ...]) -> Trained:
    """A network with drawn weights, for images of its input's size."""
    network = models.create(spec | {"num_classes": 10})
    config = lenet_config(**{"model.name": spec["name"], "data.normalize": normalize})
    made = recipe.read(config.data, network.input)
    images = np.random.RandomState(1).randint(0, 256, (64, *network.input)).astype(np.uint8)
    statistics = made.fit(lambda samples: [images])
    names = tuple(f"class {index}" for index in range(10))
    dataset = SimpleNamespace(class_names=names, classes=10)
    record: Any = SimpleNamespace(statistics=statistics, dataset=dataset)
    return Trained(network, drawn(network), made, record, config, step=7)


@pytest.mark.parametrize("spec", NETWORKS, ids=lambda spec: spec["name"])
def test_any_batch_gives_the_runs_probabilities(spec):
    net = trained(spec, ("scale()", "mean_sd()"))
    program = exported.program(net)
    assert program.platforms == ("cpu", "cuda", "tpu")
    # Nothing that only this project has: a native convolution would be a custom call.
    assert set(re.findall(r"custom_call @(\w+)", program.mlir_module())) <= {
        "shape_assertion",
        "Sharding",
    }
    weights = exported._weights(net)
    for count in (1, 3):
        images = np.random.RandomState(count).randint(0, 256, (count, *net.network.input))
        images = images.astype(np.uint8)
        logits = net.apply(net.preprocess(images)).logits
        found = program.call(weights, images)
        np.testing.assert_allclose(found, jax.nn.softmax(logits), atol=1e-5)
        assert found.std() > 1e-3


def test_statistics_of_every_normalisation_are_in_the_file():
    net = trained({"name": "lenet5_modern", "input": 16}, ("gcn(norm=55)", "zca()"))
    images = np.random.RandomState(0).randint(0, 256, (2, 16, 16, 1)).astype(np.uint8)
    found = exported.program(net).call(exported._weights(net), images)
    logits = net.apply(net.preprocess(images)).logits
    np.testing.assert_allclose(found, jax.nn.softmax(logits), atol=1e-5)


def test_weights_of_16_bits_are_kept():
    spec = {"name": "lenet5_modern", "input": 16, "param_dtype": "bfloat16", "dtype": "bfloat16"}
    net = trained(spec, ("scale()",))
    weights = exported._weights(net)
    assert {array.dtype.name for array in weights.values()} == {"float32"}
    images = np.full((2, 16, 16, 1), 99, np.uint8)
    logits = net.apply(net.preprocess(images)).logits
    found = exported.program(net).call(weights, images)
    np.testing.assert_allclose(found, jax.nn.softmax(logits), atol=1e-2)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> tuple[Trained, pathlib.Path]:
    net = trained({"name": "lenet5_modern", "input": 16}, ("scale()", "mean_sd()"))
    path = tmp_path_factory.mktemp("exported") / "network.npz"
    exported.save(net, path)
    assert [name.name for name in path.parent.iterdir()] == ["network.npz"]
    return net, path


def alone(script: str, folder: pathlib.Path) -> subprocess.CompletedProcess[str]:
    """Runs the loader of the docs and a script where nothing of this project can be imported."""
    (folder / "script.py").write_text(LOADER + script)
    return subprocess.run(
        [sys.executable, "-I", "script.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={"JAX_PLATFORMS": "cpu"},
    )


def test_jax_alone_runs_the_file(file, tmp_path):
    net, path = file
    images = np.random.RandomState(0).randint(0, 256, (5, 16, 16, 1)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    script = f"""
import importlib.util, json, sys
assert not any(importlib.util.find_spec(name) for name in ("models", "training", "predict"))
run, names, about = load({str(path)!r})
np.save("found.npy", run(np.load("images.npy")))
assert not [name for name in sys.modules if name.split(".")[0] in ("flax", "orbax", "optax")]
print(json.dumps([names, json.loads(about)]))
"""
    done = alone(script, tmp_path)
    assert done.returncode == 0, done.stderr
    logits = net.apply(net.preprocess(images)).logits
    found = np.load(tmp_path / "found.npy")
    np.testing.assert_allclose(found, jax.nn.softmax(logits), atol=1e-5)
    assert "class 9" in done.stdout
    assert '"input": [16, 16, 1], "short_side": 0' in done.stdout


def test_other_and_damaged_files_are_one_line(file, tmp_path):
    content = file[1].read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    broken = {
        "cut.npz": content[:-2000],
        "half.npz": content[: len(content) // 2],
        "flipped.npz": bytes(flipped),
        "text.npz": b"no network",
        "empty.npz": b"",
    }
    for name, body in broken.items():
        (tmp_path / name).write_bytes(body)
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.savez(tmp_path / "junk.npz", program=np.zeros(99, np.uint8), class_names=[], about="")
    names = [*broken, "other.npz", "junk.npz", "nowhere.npz"]
    done = alone(
        f"""
for name in {names!r}:
    try:
        load(name)
    except SystemExit as error:
        print(error)
""",
        tmp_path,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(names), done.stderr
    for name, line in zip(names, lines, strict=True):
        assert line.startswith(f"{name}: not an exported network, or damaged (")


def test_a_file_that_cannot_be_written_is_one_line_and_leaves_none(file, tmp_path):
    with pytest.raises(UserError, match=r"nowhere/a.npz: cannot be written \(No such file"):
        exported.save(file[0], tmp_path / "nowhere" / "a.npz")
