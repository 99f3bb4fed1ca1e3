"""VGG as it was trained, each net from the one before: Simonyan and Zisserman 2015, section 3.1."""

import pathlib
from typing import Any

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import sharding
import train
from configs import files, vgg
from errors import UserError
from training import experiment, starting_weights, trained

HOME = pathlib.Path(__file__).parent.parent
TINY = {
    "data.name": "synthetic:32x32x3:10:32:8",
    "model.width": 0.0625,
    "model.dense_features": (64, 64),
    "batch_size": 8,
    "eval.batch_size": 8,
    "duration": "1 steps",
    "schedule.warmup": "",
}
# The four first convolutions of A (conv1_1, conv2_1, conv3_1, conv3_2) and its dense layers.
FROM_A = {"conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8"}


@pytest.fixture(scope="module")
def net_a(tmp_path_factory: pytest.TempPathFactory, data_dir: str) -> pathlib.Path:
    workdir = tmp_path_factory.mktemp("A")
    config = files.resolve("configs/vgg.py:net=vgg_A", TINY, HOME)
    mesh = sharding.create_mesh(jax.devices()[:1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "create_mesh", lambda: mesh)
        train.train_and_evaluate(config, workdir, data_dir=data_dir)
    return workdir


def taken(argument: str, source: pathlib.Path, data_dir: str) -> set[str]:
    """The layers whose weights are the source's before the first step."""
    text = f"configs/vgg.py:{argument},from={source}"
    config = files.resolve(text, {**TINY, "seed": 1}, HOME)
    run = experiment.create(config, sharding.create_mesh(), data_dir)
    start = starting_weights.adopt(run)
    assert start is not None
    state = starting_weights.applied(run, run.create_state(), start)
    weights: dict[str, Any] = flatten_dict(state.params, sep="/")
    theirs = flatten_dict(trained.load(source).variables["params"], sep="/")
    return {
        name.split("/")[0]
        for name, array in weights.items()
        if name.endswith("kernel")
        and name in theirs
        and array.shape == theirs[name].shape
        and np.array_equal(array, theirs[name])
    }


@pytest.mark.parametrize("column", "BCDE")
def test_a_deep_net_takes_four_convolutions_and_the_dense_layers_of_a(
    column: str, net_a: pathlib.Path, data_dir: str
) -> None:
    assert taken(f"net=vgg_{column}", net_a, data_dir) == FROM_A


@pytest.mark.parametrize("s", ["384", "jitter"])
def test_larger_scales_take_everything_at_a_tenth_of_the_rate(
    s: str, net_a: pathlib.Path, data_dir: str
) -> None:
    every = FROM_A | {"conv4_1", "conv4_2", "conv5_1", "conv5_2"}
    assert taken(f"net=vgg_A,s={s}", net_a, data_dir) == every
    for of, rate in ((f"net=vgg_D,s={s},from=runs/D", 0.001), ("net=vgg_D,from=runs/A", 0.01)):
        config = vgg.get_config(f"{of},data=imagenet2012,scale=paper")
        assert config.schedule.rate == pytest.approx(rate)


def test_net_a_itself_starts_from_random_weights() -> None:
    with pytest.raises(UserError, match="'from': vgg_A starts from random weights; remove it"):
        vgg.get_config("net=vgg_A,from=runs/A")
