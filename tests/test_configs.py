"""Every config family: its argument, a few steps of training at smoke scale, and for every other
variant a trace of the training step.
"""

import importlib
import json
import pathlib
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sharding
import train
from errors import UserError
from training import estimates, experiment, metrics
from training.step import TrainState, create_state, train_step

FAMILIES = (
    "lenet5",
    "relu_vs_tanh",
    "cuda_convnet",
    "alexnet",
    "vgg",
    "nin",
    "googlenet",
    "resnet_cifar",
    "resnet_imagenet",
)


def config_of(family: str, argument: str = "") -> Any:
    return importlib.import_module(f"configs.{family}").get_config(argument)


@pytest.fixture
def one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs on one of the session's eight devices: a smaller program to compile."""
    mesh = sharding.create_mesh(jax.devices()[:1])
    monkeypatch.setattr(sharding, "create_mesh", lambda: mesh)


SMOKE = [
    ("lenet5", "net=1998,scale=smoke"),
    ("relu_vs_tanh", "activation=tanh,scale=smoke"),
    ("cuda_convnet", "scale=smoke"),
    ("alexnet", "scale=smoke"),
    ("vgg", "scale=smoke"),
    ("nin", "scale=smoke"),
    ("googlenet", "scale=smoke"),
    ("resnet_cifar", "scale=smoke"),
    ("resnet_imagenet", "scale=smoke"),
]
# For a few steps, optimising the compiled program takes longer than it saves.
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def initial(run: experiment.Experiment) -> TrainState:
    """run.create_state as one function, to compile or to trace."""
    return create_state(
        run.network,
        run.loss,
        run.optimizer,
        seed=run.config.seed,
        schedule=run.schedule,
        averaging=run.averaging,
    )


@pytest.mark.parametrize(("family", "argument"), SMOKE)
def test_a_family_trains(family: str, argument: str, one_device: None, data_dir: str) -> None:
    """A few steps on images of the paper's shape: all parameters change, the loss stays finite."""
    config = config_of(family, argument)
    run = experiment.create(config, sharding.create_mesh(), data_dir)

    @partial(jax.jit, compiler_options=QUICKLY)
    def update(state: Any, inputs: Any) -> Any:
        return train_step(state, run.pipeline.prepare(inputs, state.step), **run.step_parts)

    start = state = jax.jit(partial(initial, run), compiler_options=QUICKLY)()
    for step in range(3):
        if run.estimates_curvature and step % run.pipeline.steps_per_epoch == 0:
            state = estimates.with_curvature(run, state, step)
        state, measured = update(state, run.pipeline.fetch(step))
        assert np.isfinite(measured["loss"])
    assert int(state.step) == 3
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), start.params, state.params)
    assert np.mean(jax.tree.leaves(moved)) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "argument"),
    [
        *SMOKE,
        ("resnet_imagenet", "depth=50,scale=smoke"),
        ("resnet_imagenet", "depth=152,scale=smoke"),
        ("resnet_cifar", "depth=164,unit=preact,scale=smoke"),
    ],
)
def test_a_family_runs_from_start_to_table(
    family: str, argument: str, one_device: None, tmp_path: pathlib.Path, data_dir: str
) -> None:
    config = config_of(family, argument)
    state, result = train.train_and_evaluate(config, tmp_path, data_dir=data_dir)
    assert result["finished"]
    assert int(state.step) == 4
    rows = metrics.read(tmp_path)
    assert [row["step"] for row in rows] == [2, 4]
    assert all(np.isfinite(row["train"]["loss"]) for row in rows)
    assert set(rows[-1]["train"]) >= {f"loss_{head}" for head in config.model.get("heads", ())}
    assert rows[0]["train"]["loss"] != rows[1]["train"]["loss"]


VARIANTS = [
    *[("lenet5", f"net={net}") for net in ("modern", "1998,criterion=map,optimizer=sgd")],
    *[("relu_vs_tanh", f"activation={name}") for name in ("relu", "tanh")],
    *[("cuda_convnet", f"lrn={lrn},data=cifar10,scale=paper") for lrn in ("on", "off")],
    *[
        ("alexnet", f"net={net},data=imagenet2012,scale=paper")
        for net in (
            "alexnet_2012",
            "alexnet_2012_ungrouped",
            "alexnet_2012_one_gpu",
            "alexnet_owt_torchvision",
            "alexnet_owt_footnote_widths",
        )
    ],
    ("alexnet", "scale=small"),
    *[
        ("vgg", f"net=vgg_{net},data=imagenet2012,scale=paper")
        for net in ("A", "A_LRN", "B", "C", "D", "E", "B_5x5", "D_bn")
    ],
    *[("nin", f"data={name},scale=paper") for name in ("cifar10", "cifar100", "mnist")],
    ("nin", "head=dense"),
    ("googlenet", "aux=off,data=imagenet2012,scale=paper"),
    ("resnet_cifar", "depth=20,shortcut=B,data=cifar10,scale=paper"),
    ("resnet_imagenet", "depth=18,shortcut=none,data=imagenet2012,scale=paper"),
]
DEEP = [
    *[("vgg", f"net=vgg_{net}_bn,data=imagenet2012,scale=paper") for net in "ABCE"],
    ("googlenet", "aux=on,solver=quick,data=imagenet2012,scale=paper"),
    ("googlenet", "module=naive"),
    *[
        ("resnet_cifar", f"depth={depth},shortcut={shortcut},data=cifar10,scale=paper")
        for depth, shortcut in ((20, "none"), (20, "C"), (32, "A"), (44, "none"), (56, "A"))
    ],
    ("resnet_imagenet", "depth=18,shortcut=C,data=imagenet2012,scale=paper"),
    ("resnet_imagenet", "depth=34,shortcut=B,data=imagenet2012,scale=paper"),
    ("resnet_imagenet", "depth=50,version=v1_5,data=imagenette"),
    *[("resnet_imagenet", f"depth={d},data=imagenet2012,scale=paper") for d in (50, 101, 152, 200)],
    ("resnet_cifar", "depth=110,data=cifar10,scale=paper"),
    ("resnet_cifar", "depth=110,unit=preact,data=cifar10,scale=paper"),
    ("resnet_cifar", "depth=164,unit=original,data=cifar100,scale=paper"),
    ("resnet_cifar", "depth=1001,unit=preact,data=cifar10,scale=paper"),
    ("resnet_cifar", "depth=1202,data=cifar10,scale=paper"),
]


@pytest.mark.parametrize(
    ("family", "argument"),
    [*VARIANTS, *(pytest.param(*deep, marks=pytest.mark.slow) for deep in DEEP)],
)
def test_the_training_step_of_a_variant_traces(
    family: str, argument: str, one_device: None
) -> None:
    """The whole config is valid, and state and metrics keep their shapes and types over a step."""
    config = config_of(family, argument)
    run = experiment.create(config, sharding.create_mesh(), data=False)
    state = jax.eval_shape(partial(initial, run))
    count = config.batch_size
    batch = {
        "image": jax.ShapeDtypeStruct((count, *run.pipeline.image_shape), jnp.float32),
        "label": jax.ShapeDtypeStruct((count,), jnp.int32),
        "mask": jax.ShapeDtypeStruct((count,), jnp.float32),
    }
    after, measured = jax.eval_shape(partial(train_step, **run.step_parts), state, batch)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), state
    )
    assert {leaf.dtype for leaf in measured.values()} == {jnp.float32.dtype}
    assert set(measured) == set(run.loss.names)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_config_is_locked_resolved_and_strict(family: str) -> None:
    config = config_of(family)
    assert config.is_locked
    assert json.loads(json.dumps(config.to_dict()))["seed"] == 0
    with pytest.raises(UserError, match=r"must be key=value with a key of .*scale"):
        config_of(family, "scael=small")
    with pytest.raises(UserError, match="scale must be one of "):
        config_of(family, "scale=big")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_header_says_what_a_reader_needs(family: str) -> None:
    header = importlib.import_module(f"configs.{family}").__doc__ or ""
    for word in (
        "command   python train.py",
        "hardware  ",
        "paper     ",
        "here      ",
        "deviates  ",
    ):
        assert word in header


@pytest.mark.parametrize(
    ("family", "argument", "message"),
    [
        ("resnet_cifar", "depth=164,shortcut=A", "'shortcut=A': depth=164 needs B"),
        ("resnet_cifar", "depth=20,unit=preact", "'unit=preact': needs depth=110"),
        ("resnet_cifar", "depth=1202,shortcut=none", "'shortcut=none': depth=1202 needs A"),
        ("resnet_imagenet", "depth=50,shortcut=A", "'shortcut=A': depth=50 needs B"),
        ("resnet_imagenet", "depth=18,version=v1", "'version=v1': depth=18 has no versions"),
    ],
)
def test_variants_that_do_not_exist_are_refused(family: str, argument: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        config_of(family, argument)


def test_the_papers_recipes_are_in_the_configs() -> None:
    """Batch, momentum, decay and rate as printed, or as the authors' files have them."""
    scale = "data=imagenet2012,scale=paper"
    printed = {
        ("alexnet", scale): (128, 5e-4, 0.01),
        ("cuda_convnet", "data=cifar10,scale=paper"): (128, 0.004, 0.001),
        ("vgg", f"net=vgg_D,{scale}"): (256, 5e-4, 0.01),
        ("googlenet", scale): (32, 2e-4, 0.01),
        ("nin", "data=cifar10,scale=paper"): (128, 1e-4, 0.1),
        ("nin", "data=cifar100,scale=paper"): (128, 5e-4, 0.02),
        ("resnet_cifar", "data=cifar10,scale=paper"): (128, 1e-4, 0.1),
        ("resnet_imagenet", f"depth=50,{scale}"): (256, 1e-4, 0.1),
    }
    for (family, argument), expected in printed.items():
        config = config_of(family, argument)
        got = (config.batch_size, config.optimizer.weight_decay, config.schedule.rate)
        assert got == expected
        assert config.optimizer.momentum == 0.9
    assert config_of("googlenet", scale).loss.weights.to_dict() == {
        "main": 1.0,
        "aux1": 0.3,
        "aux2": 0.3,
    }
    rates = config_of("nin", "data=cifar10,scale=paper").parameters.rates
    assert rates == (("cccp6/kernel", 0.1), ("cccp6/bias", 0.2), ("*bias", 2.0))
