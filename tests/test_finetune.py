"""configs/finetune.py: its recipes on trained runs, and the layers that networks name for it."""

import pathlib
from fnmatch import fnmatchcase
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import models
import sharding
import train
from configs import files, finetune
from errors import UserError
from models.layers import Dense
from tests.toy import lenet_config
from training import experiment, starting_weights, trained

NETWORKS = {
    "lenet5_modern": {"fc5/kernel", "fc5/bias"},
    "lenet_caffe": {"ip2/kernel", "ip2/bias"},
    "alexnet_2012": {"fc8/kernel", "fc8/bias"},
    "cuda_convnet_cifar10_18pct": {"fc10/kernel", "fc10/bias"},
    "cuda_convnet_cifar10_conv_local": {"fc10/kernel", "fc10/bias"},
    "vgg_A": {"fc8/kernel", "fc8/bias"},
    "nin_cifar10": {"cccp6/kernel", "cccp6/bias"},
    "nin_imagenet": {"cccp8/kernel", "cccp8/bias"},
    "nin_cifar10_fc_head": {"cccp6/kernel", "cccp6/bias", "fc10/kernel", "fc10/bias"},
    "googlenet_2014_with_aux": {
        f"{head}linear/{kind}" for head in ("", "aux1/", "aux2/") for kind in ("kernel", "bias")
    },
    "resnet18_A": {"fc/kernel", "fc/bias"},
    "resnet20_cifar10_A": {"fc/kernel", "fc/bias"},
    "densenet121": {"fc/kernel", "fc/bias"},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_classifiers_and_last_stage_of_each_kind_of_network(name: str) -> None:
    network = models.create({"name": name})
    assert set(models.classifiers(network)) == NETWORKS[name]
    names = list(flatten_dict(models.variables_of(network)["params"], sep="/"))
    last = {n for n in names if any(fnmatchcase(n, p) for p in network.last_stage)}
    assert NETWORKS[name] < last
    assert not any(n.startswith(("conv1/", "conv1_1/", "conv0/", "conv2/")) for n in last)


def test_a_network_without_weights_in_its_head_has_no_classifier() -> None:
    class Fixed(models.Network):
        @nn.compact
        def forward(self, images: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
            return Dense(20, name="fc1")(images)[:, : self.num_classes], {}

    with pytest.raises(ValueError, match="Fixed has no classifier with parameters"):
        models.classifiers(Fixed(input=(4, 4, 1), num_classes=3))


def test_the_three_recipes() -> None:
    head, last = ("fc8/*",), ("fc6/*", "fc7/*", "fc8/*")
    assert finetune.rates("head", head, last) == (("fc8/*", 1.0), ("*", None))
    assert finetune.rates("last_stage", head, last) == (
        ("fc8/*", 1.0),
        ("fc6/*", 1.0),
        ("fc7/*", 1.0),
        ("*", None),
    )
    assert finetune.rates("all", head, last) == (("fc8/*", 1.0), ("*", 0.1))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, data_dir: str) -> dict[str, pathlib.Path]:
    """A LeNet without resizing, and a small ResNet whose images are resized; a step each."""
    fields = {"duration": "1 steps", "data.normalize": ("scale()", "mean_sd()")}
    lenet = lenet_config(**fields)
    resnet = lenet_config(**fields, **{"data.size": 8}).unlock()
    resnet.model = {"name": "resnet20_cifar10_A", "width": 0.25, "batch_norm_group": 16}
    made = {}
    for name, config in (("lenet", lenet), ("resnet", resnet.lock())):
        made[name] = tmp_path_factory.mktemp(name)
        train.train_and_evaluate(config, made[name], data_dir=data_dir)
    return made


OTHER = "synthetic:28x28x3:4:64:24"


@pytest.mark.parametrize("recipe", finetune.TRAIN)
@pytest.mark.parametrize("name", ["lenet", "resnet"])
def test_a_recipe_on_other_data(
    name: str,
    recipe: str,
    sources: dict[str, pathlib.Path],
    tmp_path: pathlib.Path,
    data_dir: str,
) -> None:
    """Images of another size, in colour: all but what is trained keeps the source's bits."""
    config = files.resolve(
        f"configs/finetune.py:from={sources[name]},data={OTHER},train={recipe}",
        {"duration": "2 steps", "data.workers": 0},
        pathlib.Path(__file__).parent.parent,
    )
    state, result = train.train_and_evaluate(config, tmp_path, data_dir=data_dir)
    source = trained.load(sources[name])
    before = flatten_dict(source.variables["params"], sep="/")
    after = flatten_dict(state.params, sep="/")
    network = models.create({**config.model, "input": source.recipe.image_shape})
    head = set(models.classifiers(network))
    assert set(result["init"]["anew"]) == head
    last = {n for n in after if any(fnmatchcase(n, p) for p in network.last_stage)}
    moved = {
        n
        for n in after
        if n in head or np.asarray(after[n]).tobytes() != np.asarray(before[n]).tobytes()
    }
    assert moved == {"head": head, "last_stage": last, "all": after.keys()}[recipe]
    if name == "resnet":
        same = jax.tree.map(
            lambda a, b: np.array_equal(a, b), state.batch_stats, source.variables["batch_stats"]
        )
        assert all(jax.tree.leaves(same)) is (recipe != "all")
    np.testing.assert_array_equal(
        trained.load(tmp_path).record.statistics["mean_sd"], source.record.statistics["mean_sd"]
    )


def test_a_group_that_does_not_divide_the_batch_becomes_the_batch(
    sources: dict[str, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    config = finetune.get_config(f"from={sources['resnet']},data={OTHER},train=all")
    assert config.model.batch_norm_group == 16
    run = experiment.create(config, sharding.create_mesh(), data=False)
    start = starting_weights.adopt(run)
    assert start is not None
    for name in ("config.json", "data.npz"):
        (tmp_path / name).write_bytes((sources["resnet"] / name).read_bytes())
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(
        text.replace('"batch_norm_group": 16', '"batch_norm_group": 64')
    )
    config = finetune.get_config(f"from={tmp_path},data={OTHER},train=all")
    assert config.model.batch_norm_group == config.batch_size == 32


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("", "config argument 'from': is missing"),
        ("from=runs/a", "config argument 'data': is missing"),
        ("from=/nowhere,data=digits", "'from=/nowhere': is no trained run's workdir"),
        ("train=tail", "train must be one of head, last_stage, all"),
    ],
)
def test_bad_arguments_are_one_line(argument: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        finetune.get_config(argument)


def test_a_source_whose_head_cannot_be_another_is_one_line(
    tmp_path: pathlib.Path, sources: dict[str, Any]
) -> None:
    (tmp_path / "data.npz").write_bytes((sources["lenet"] / "data.npz").read_bytes())
    text = (sources["lenet"] / "config.json").read_text()
    (tmp_path / "config.json").write_text(
        text.replace("lenet5_modern", "lenet5_1998").replace('"size": 0', '"size": 32')
    )
    with pytest.raises(UserError, match="the RBF output has bitmaps for 10 classes, not 2"):
        finetune.get_config(f"from={tmp_path},data=digits")
