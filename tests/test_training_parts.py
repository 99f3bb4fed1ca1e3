"""The parts of a recipe: accumulated gradients, averages, recomputed statistics, alarms, schedules
whose state survives a kill, and configs checked before anything compiles.
"""

import contextlib
import inspect
import io
import itertools
import pathlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import sharding
import train
from configs.base import base
from errors import UserError
from tests.toy import batch, lenet_config, toy
from training import (
    alarms,
    batch_norm,
    experiment,
    losses,
    metrics,
    optimizers,
    preemption,
    schedules,
    trained,
    weight_averaging,
)
from training.step import TrainState, create_state, split, train_step

HEADS = ("aux1", "aux2")
WEIGHTS = {"main": 1.0, "aux1": 0.3, "aux2": 0.3}


def stepped(network: Any, *, count: int = 2, mesh: Any = None, **options: Any) -> TrainState:
    """The state of a toy after `count` steps of 16 images at rate 0.1."""
    weights = WEIGHTS if network.heads else {"main": 1.0}
    loss = losses.create(
        {"kind": "cross_entropy", "label_smoothing": 0.1, "weights": weights}, network.heads
    )
    optimizer = optimizers.create({"name": "sgd", "momentum": 0.9, "weight_decay": 0.01})
    schedule = schedules.of_step(lambda step: jnp.full((), 0.1))
    chosen = options.get("averaging", weight_averaging.NONE)
    step = partial(
        train_step,
        network=network,
        loss=loss,
        optimizer=optimizer,
        schedule=schedule,
        seed=0,
        **options,
    )
    state = create_state(network, loss, optimizer, seed=0, schedule=schedule, averaging=chosen)
    mesh = mesh or sharding.create_mesh(jax.devices()[:1])
    whole = sharding.replicated(mesh)
    sharded = sharding.sharded(mesh)
    update = jax.jit(step, out_shardings=whole)
    state = jax.device_put(state, whole)
    for index in range(count):
        state, _ = update(state, jax.device_put(batch(16, index), sharded))
    return state


def assert_close(one: Any, other: Any, tolerance: float = 1e-5) -> None:
    jax.tree.map(partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance), one, other)


def test_accumulation_over_four_parts_is_one_batch_four_times_the_size() -> None:
    """All of the state: weights, statistics, metrics, momentum; on one device and on eight."""
    network = toy(heads=HEADS, batch_norm_group=2, dropout=0.0)
    whole = stepped(network)
    assert_close(whole, stepped(network, gradient_accumulation=4))
    assert_close(whole, stepped(network, gradient_accumulation=4, mesh=sharding.create_mesh()))


def test_parts_are_whole_groups_and_hold_every_image_once() -> None:
    parts = split({"image": jnp.arange(12)}, 2, 3)["image"]
    np.testing.assert_array_equal(parts, [[0, 1, 2, 6, 7, 8], [3, 4, 5, 9, 10, 11]])


def test_parts_of_a_batch_draw_their_own_dropout() -> None:
    one = stepped(toy(batch_norm_group=2), count=1, gradient_accumulation=2)
    other = stepped(toy(batch_norm_group=2), count=1)
    assert np.abs(one.params["fc2"]["kernel"] - other.params["fc2"]["kernel"]).max() > 1e-4


def test_averages_are_those_of_the_weights_after_each_step() -> None:
    chosen = weight_averaging.create({"name": "polyak", "start": ""}, lambda field, text: 0)
    network = toy(dropout=0.0)
    states = [stepped(network, count=count, averaging=chosen) for count in (1, 2, 3)]
    mean = jax.tree.map(
        lambda *values: sum(values) / 3,
        *[{"params": state.params, "batch_stats": state.batch_stats} for state in states],
    )
    assert_close(states[-1].averages, mean, 1e-6)
    assert states[-1].variables is states[-1].averages


def test_recomputed_statistics_are_the_means_over_batches_of_their_own() -> None:
    """conv1's output before its norm, by a plain convolution; groups of 4 images."""
    network = toy(batch_norm_group=4)
    state = stepped(network, count=2)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    batches = [(batch(8, index)["image"], jax.random.key(index)) for index in range(3)]
    got = batch_norm.recomputed(variables, batches, network=network)["conv1"]["bn"]
    kernel = state.params["conv1"]["kernel"]
    means, variances = [], []
    for images, _ in batches:
        out = jax.lax.conv_general_dilated(
            images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        for group in np.split(np.asarray(out, np.float64), 2):
            means.append(group.mean((0, 1, 2)))
            variances.append(group.var((0, 1, 2)))
    np.testing.assert_allclose(got["mean"], np.mean(means, 0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got["var"], np.mean(variances, 0), rtol=1e-4)


def test_alarms_of_a_loss_at_chance_and_of_a_stuck_head() -> None:
    watch = alarms.Alarms(chance=float(np.log(10)), after=100)
    stuck = {"step": 100, "train": {"loss": 2.30, "error": 0.9}}
    assert watch.of_row({**stuck, "step": 99}) == []
    assert "has not left chance, ln(classes) = 2.303, after 100 steps" in watch.of_row(stuck)[0]
    learns = {"loss": 1.2, "loss_main": 0.5, "loss_aux1": 2.3, "loss_aux2": 0.9}
    found = watch.of_row({"step": 200, "train": learns})
    assert found == ["the side head aux1 is stuck at chance, 2.303, while the trunk learns"]
    # The sum of a learning trunk and its heads may well be above ln(10).
    assert watch.of_row({"step": 200, "train": {**learns, "loss": 2.4, "loss_aux1": 1.0}}) == []
    row = {"step": 200, "alarms": found, "clock": {"waiting": 0.7}}
    said = watch.unsaid(row)
    assert said[0] == f"step 200: {found[0]}"
    assert said[1].startswith("step 200: training waits for images: 70% of the time")
    assert watch.unsaid(row) == []
    assert alarms.chance_of("rbf_mse", 10) is None


def plateau_config() -> Any:
    """Every evaluation after the first counts as stalled: the rate drops after steps 4 and 6."""
    config = lenet_config(**{"data.validation": 16, "eval.every": "2 steps"}).unlock()
    config.schedule = {
        "name": "plateau",
        "rate": 0.01,
        "factor": 10.0,
        "of": "validation",
        "patience": 1,
        "least": 1.0,
        "drops": 2,
    }
    config.averaging = {"name": "exponential", "decay": 0.5, "start": ""}
    return config.lock()


def test_a_kill_across_the_drop_changes_nothing(
    tmp_path: pathlib.Path, data_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, _ = train.train_and_evaluate(plateau_config(), tmp_path / "a", data_dir=data_dir)
    calls = itertools.count(1)
    for stop_after in (3, 4, 5):
        monkeypatch.setattr(
            preemption.Preemption, "requested", lambda self, at=stop_after: next(calls) == at
        )
        with pytest.raises(preemption.Preempted):
            train.train_and_evaluate(plateau_config(), tmp_path / "b", data_dir=data_dir)
    monkeypatch.undo()
    resumed, _ = train.train_and_evaluate(plateau_config(), tmp_path / "b", data_dir=data_dir)
    jax.tree.map(np.testing.assert_array_equal, straight, resumed)
    rows = [
        [{k: v for k, v in row.items() if k != "clock"} for row in metrics.read(tmp_path / name)]
        for name in ("a", "b")
    ]
    assert rows[0] == rows[1]
    rates = {row["step"]: row["learning_rate"] for row in rows[0]}
    np.testing.assert_allclose([rates[s] for s in (2, 4, 6, 8)], [1e-2, 1e-2, 1e-3, 1e-4], 1e-5)
    # Users get the averaged weights, as the evaluations did.
    net = trained.load(tmp_path / "b")
    jax.tree.map(np.testing.assert_array_equal, net.variables, resumed.averages)
    last = resumed.params["conv1"]["kernel"]
    assert np.abs(resumed.averages["params"]["conv1"]["kernel"] - last).max() > 0


# Modules that look at every field whether or not anything uses it: their reading does not count.
CHECKS = ("configs.fields", "training.checks")


def by_a_check() -> bool:
    """Whether one of those is among the callers."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__") in CHECKS:
            return True
        frame = frame.f_back
    return False


class Tracked(Mapping):
    """A config that notes which of its fields are read, by dotted name."""

    def __init__(self, fields: Mapping[str, Any], read: set[str], prefix: str = ""):
        self.fields, self.read, self.prefix = fields, read, prefix

    def __getitem__(self, name: str) -> Any:
        value = self.fields[name]
        if isinstance(value, Mapping):
            return Tracked(value, self.read, f"{self.prefix}{name}.")
        if not by_a_check():
            self.read.add(self.prefix + name)
        return value

    def __getattr__(self, name: str) -> Any:
        if name not in self.fields:
            raise AttributeError(name)
        return self[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def to_dict(self) -> Mapping[str, Any]:
        """As written to config.json; does not count as reading."""
        return self.fields


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, data_dir: str):
    """A run that learns nothing: its config, the fields it read, its rows and its output."""
    workdir = tmp_path_factory.mktemp("watched")
    config = lenet_config(**{"alarms.stuck_after": "4 steps", "schedule.rate": 0.0}).to_dict()
    read, out = set[str](), io.StringIO()
    with contextlib.redirect_stdout(out):
        train.train_and_evaluate(Tracked(config, read), workdir, data_dir=data_dir)
    return config, read, metrics.read(workdir), out.getvalue()


def test_no_config_field_is_unread(watched) -> None:
    config, read, _, _ = watched
    # Only a run that starts from another reads these: test_starting_weights.py tests each.
    read = read | {"init.step", "init.skip", "init.statistics"}
    assert set(flatten_dict(config, sep=".")) - read == set()
    assert set(flatten_dict(base().to_dict(), sep=".")) - read == set()


def test_an_alarm_is_logged_and_printed(watched) -> None:
    _, _, rows, out = watched
    assert [row["step"] for row in rows if "alarms" in row] == [4, 6, 8]
    assert out.count("alarm: step 4: the loss has not left chance") == 1


def test_a_dry_run_prints_config_plan_and_cost_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train.dry_run(lenet_config())
    out = capsys.readouterr().out
    assert '"stuck_after": "500 steps"' in out
    assert "steps    8 of 16 images, 2 epochs" in out
    # lenet5_modern on 16×16: conv1 12·12·6·25, conv2 2·2·16·150, fc 16·120 + 120·84 + 84·10.
    forward = 144 * 150 + 4 * 2400 + 1920 + 10080 + 840
    assert f"{forward:,} multiply-adds an image" in out
    assert f"{3 * forward * 128:.3g} multiply-adds in training, 128 images" in out
    assert list(tmp_path.iterdir()) == []


RESNET = {
    "model.name": "resnet20_cifar10_A",
    "model.batch_norm_group": 8,
    "data.name": "synthetic:16x16x3:10:64:24",
}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"gradient_accumulation": 3},
            "config.gradient_accumulation: 3 does not divide 16 images",
        ),
        (
            {**RESNET, "gradient_accumulation": 2, "model.batch_norm_group": 0},
            "config.gradient_accumulation: 2 parts of a batch have no statistics of the whole",
        ),
        (
            {**RESNET, "gradient_accumulation": 4},
            "config.gradient_accumulation: parts of 4 images are no multiple of .*norm_group=8",
        ),
        (
            {**RESNET, "model.batch_norm_group": 6},
            "config.model.batch_norm_group: 6 does not divide the batch of 16",
        ),
        (
            {**RESNET, "parallel": "pmap", "model.batch_norm_group": 16},
            "config.parallel: under pmap each device normalises its own 2 images",
        ),
        ({"parallel": "shard"}, "config.parallel: 'shard' is none of jit, pmap"),
        (
            {"optimizer": {"name": "sgd_inside", "momentum": 0.9, "weight_decay": 0.0}},
            "config.optimizer: 'sgd_inside' is none of .*; it is called caffe_sgd now",
        ),
        ({"bn_recompute_batches": 1}, "config.bn_recompute_batches: the network has no batch norm"),
        ({"model.dtype": "float16"}, "config.model.dtype: float16 is not supported"),
        (
            {"loss": {"kind": "rbf_mse", "weights": {"main": 1.0}}},
            "config.loss.kind: rbf_mse needs outputs that are distances",
        ),
        (
            {
                "optimizer": {
                    "name": "levenberg_marquardt",
                    "mu": 0.02,
                    "patterns": 500,
                    "weight_decay": 0.0,
                }
            },
            "config.optimizer: levenberg_marquardt estimates curvatures: it needs lenet5_1998",
        ),
        (
            {"schedule": plateau_config().schedule.to_dict()},
            "config.schedule: plateau needs the validation error",
        ),
        ({"parameters.rates": (("conv9/*", 0.1),)}, "config.parameters.rates: 'conv9/"),
        ({"averaging": {"name": "poliak"}}, "config.averaging: 'poliak' is none of none, polyak"),
        ({"averaging": {"name": "polyak"}}, "config.averaging: polyak needs the field 'start'"),
        ({"alarms.stuck_after": "soon"}, "config.alarms.stuck_after: 'soon' is not of the form"),
        ({"learning_rate": 0.1}, "config.learning_rate: there is no such field"),
        ({"model.input": (8, 8, 1)}, "config.model.input: is set by the data"),
        ({"model.num_classes": 3}, "config.model.num_classes: is set by the data"),
    ],
)
def test_conflicting_fields_are_named_before_anything_compiles(
    overrides: dict[str, Any], message: str
) -> None:
    config = lenet_config().unlock()
    for name, value in overrides.items():
        *path, last = name.split(".")
        place = config
        for part in path:
            place = place[part]
        place[last] = value
    mesh = sharding.create_mesh(jax.devices()[:1])
    with pytest.raises(UserError, match=message) as raised:
        experiment.create(config.lock(), mesh, data=False)
    assert "\n" not in str(raised.value)


def test_mixed_precision_keeps_weights_and_statistics_in_float32() -> None:
    exact = stepped(toy(dropout=0.0), count=2)
    mixed = stepped(toy(dropout=0.0, dtype="bfloat16"), count=2)
    assert {leaf.dtype for leaf in jax.tree.leaves(mixed.params)} == {jnp.float32.dtype}
    assert {leaf.dtype for leaf in jax.tree.leaves(mixed.batch_stats)} == {jnp.float32.dtype}
    assert_close(exact.params, mixed.params, 0.05)
    assert not np.array_equal(exact.params["fc2"]["kernel"], mixed.params["fc2"]["kernel"])
