"""A whole run: what it leaves, how it resumes, what bad input gets."""

import itertools
import json
import logging
import os
import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sharding
import train
from errors import UserError
from input_pipeline import Pipeline
from startup import environment
from tests.toy import lenet_config
from training import experiment, metrics, preemption, schedules, step, trained, workdirs
from training.step import TrainState, is_finite
from training.workdirs import FOLDER

ROOT = pathlib.Path(__file__).parent.parent


def run(workdir: pathlib.Path, data_dir: str, **options: Any) -> tuple[TrainState, dict[str, Any]]:
    extend = options.pop("extend", False)
    return train.train_and_evaluate(
        lenet_config(**options), workdir, data_dir=data_dir, extend=extend
    )


def without_clock(workdir: pathlib.Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "clock"} for row in metrics.read(workdir)]


def assert_same_bits(one: TrainState, other: TrainState) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, data_dir: str):
    """An undisturbed run of eight steps: its workdir, state and result."""
    workdir = tmp_path_factory.mktemp("straight")
    state, result = run(workdir, data_dir)
    return workdir, state, result


def test_what_a_run_leaves(straight) -> None:
    workdir, state, result = straight
    assert int(state.step) == 8
    rows = metrics.read(workdir)
    assert [row["step"] for row in rows] == [2, 4, 6, 8]
    assert [row["step"] for row in rows if "test" in row] == [4, 8]
    assert set(rows[1]) == {"step", "epoch", "learning_rate", "train", "test", "clock"}
    assert rows[1]["epoch"] == 1.0  # 64 images, batches of 16
    assert json.loads((workdir / "result.json").read_text()) == result
    assert result["validation_best"] is None
    assert result["last"]["test_error"] == rows[-1]["test"]["error"]
    environment = json.loads((workdir / "environment.json").read_text())
    assert environment["packages"]["jax"] == jax.__version__
    assert (workdir / "curves.png").read_bytes().startswith(b"\x89PNG")
    wrong = metrics.unpacked(result["test_wrong"])
    assert wrong.mean() == pytest.approx(result["last"]["test_error"], abs=1e-6)


def test_learning_rate_of_a_row_is_the_one_of_its_last_step(straight) -> None:
    """Half a cosine from 0.01 over eight steps: the eighth step has 0.005 (1 + cos(7π/8))."""
    rows = metrics.read(straight[0])
    expected = 0.005 * (1 + np.cos(np.pi * 7 / 8))
    np.testing.assert_allclose(rows[-1]["learning_rate"], expected, rtol=1e-5)


def test_stopped_after_any_step_and_resumed_gives_the_same_bits(
    straight, tmp_path: pathlib.Path, data_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stops between rows, between checkpoints, and on both."""
    calls = itertools.count(1)
    for stop_after in (3, 4, 7):
        monkeypatch.setattr(
            preemption.Preemption, "requested", lambda self, at=stop_after: next(calls) == at
        )
        with pytest.raises(preemption.Preempted, match=f"stopped at step {stop_after}, saved"):
            run(tmp_path, data_dir)
    monkeypatch.undo()
    state, result = run(tmp_path, data_dir)
    assert_same_bits(state, straight[1])
    assert without_clock(tmp_path) == without_clock(straight[0])
    assert result == straight[2]


# Batch norm, dropout, augmentation, and seven steps an epoch.
DROPPING = {
    "model": {
        **{"name": "resnet20_cifar10_A", "stages": (1, 1, 1), "features": (4, 8, 8)},
        **{"shortcut_dropout": 0.5, "batch_norm_group": 4},
    },
    "data.name": "synthetic:16x16x1:10:120:24",
    "duration": "17 steps",
}


def test_steps_dispatched_together_give_the_same_bits(
    tmp_path: pathlib.Path, data_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the run stops between two dispatches and goes on with another number of steps."""
    every: dict[str, Any] = {**DROPPING, "log_every": "5 steps", "eval.every": "10 steps"}
    alone = run(tmp_path / "alone", data_dir, **every)
    monkeypatch.setattr(
        preemption.Preemption, "requested", lambda self: (tmp_path / "together").exists()
    )
    with pytest.raises(preemption.Preempted, match="stopped at step 3, saved"):
        run(tmp_path / "together", data_dir, steps_per_dispatch=3, **every)
    monkeypatch.undo()
    together = run(tmp_path / "together", data_dir, steps_per_dispatch=2, **every)
    assert_same_bits(together[0], alone[0])
    assert together[1] == alone[1]
    assert without_clock(tmp_path / "together") == without_clock(tmp_path / "alone")


def test_dispatches_end_where_something_is_due(data_dir: str) -> None:
    """Rows every 5 steps, tests and checkpoints every 10, epochs of 7, the end after 17."""
    every: dict[str, Any] = {**DROPPING, "log_every": "5 steps", "eval.every": "10 steps"}
    every |= {"checkpoint.every": "10 steps", "steps_per_dispatch": 3}
    made = experiment.create(lenet_config(**every), sharding.create_mesh(), data_dir)
    starts = [steps.start for steps in made.dispatches(0)]
    assert starts == [0, 3, 4, 5, 6, 7, 10, 13, 14, 15, 16]
    assert [steps.start for steps in made.dispatches(8)] == [8, 9, 10, 13, 14, 15, 16]


@pytest.mark.parametrize("fields", [{"data.engine": "streaming"}, {"parallel": "pmap"}])
def test_steps_are_dispatched_together_only_with_jit_and_resident_data(
    fields: dict[str, Any], tmp_path: pathlib.Path, data_dir: str
) -> None:
    with pytest.raises(UserError, match=r"config\.steps_per_dispatch: 2 needs"):
        run(tmp_path, data_dir, steps_per_dispatch=2, **fields)


def test_a_run_compiles_its_step_and_its_evaluation_once(
    tmp_path: pathlib.Path, data_dir: str, caplog: pytest.LogCaptureFixture
) -> None:
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        run(tmp_path, data_dir)
    compiled = re.findall(r"Compiling jit\((update|evaluation_step)\)", caplog.text)
    assert sorted(compiled) == ["evaluation_step", "update"]


def test_a_finished_run_is_not_run_again(straight, data_dir: str) -> None:
    workdir, state, result = straight
    before = (workdir / metrics.FILE).read_bytes()
    again, result_again = run(workdir, data_dir)
    assert_same_bits(again, state)
    assert result_again == result
    assert (workdir / metrics.FILE).read_bytes() == before


def test_the_last_evaluation_says_which_images_are_wrong(
    tmp_path: pathlib.Path, data_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one more pass at the end, or when a finished run is started."""
    passes = []
    evaluation = Pipeline.evaluation

    def counted(self: Pipeline, split: str) -> Any:
        passes.append(split)
        return evaluation(self, split)

    monkeypatch.setattr(Pipeline, "evaluation", counted)
    _, result = run(tmp_path, data_dir)
    assert passes == ["test", "test"]  # after 4 and after 8 steps
    _, again = run(tmp_path, data_dir)
    assert again == result
    assert len(passes) == 2
    (tmp_path / workdirs.RESULT).unlink()  # killed before it was written
    _, again = run(tmp_path, data_dir)
    assert again == result
    assert len(passes) == 3


def test_an_unknown_form_of_convolution_is_refused_with_the_config(
    data_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVNETS_CONVOLUTION", "winograd")
    with pytest.raises(UserError, match="CONVNETS_CONVOLUTION: 'winograd' is none of"):
        experiment.create(lenet_config(), sharding.create_mesh(), data=False)


def test_another_config_is_refused_and_named(straight, data_dir: str) -> None:
    with pytest.raises(UserError, match="another config: seed 0 there, 1 here"):
        run(straight[0], data_dir, seed=1)


# What changes within 8 steps, and for the last two at a step that the run itself decides.
EXTENDED: list[dict[str, Any]] = [
    {"name": "constant", "rate": 0.01},
    {"name": "steps", "rate": 0.01, "drops": ("3 steps", "6 steps"), "factor": 10.0, "warmup": "",
     "warmup_rate": 0.0},
    {"name": "piecewise", "rates": (0.01, 0.005), "changes": ("5 steps",)},
    {"name": "exponential", "rate": 0.01, "factor": 0.9, "every": "2 steps"},
    {"name": "steps_after_error", "rate": 0.01, "drops": ("6 steps",), "factor": 10.0,
     "warmup_rate": 0.001, "below": 1.0, "over": "3 steps"},
    {"name": "plateau", "rate": 0.01, "factor": 10.0, "of": "training", "patience": 1,
     "least": 0.5, "drops": 2},
]  # fmt: skip


@pytest.mark.parametrize("schedule", EXTENDED, ids=lambda schedule: schedule["name"])
def test_extended_a_run_ends_as_a_longer_one(
    schedule: dict[str, Any], tmp_path: pathlib.Path, data_dir: str
) -> None:
    def to(duration: str, workdir: str, **options: Any) -> TrainState:
        config = lenet_config(duration=duration).unlock()
        config.schedule = schedule
        return train.train_and_evaluate(
            config.lock(), tmp_path / workdir, data_dir=data_dir, **options
        )[0]

    to("4 steps", "a")
    with pytest.raises(UserError, match=r"duration '4 steps' there.*\(--extend continues it\)"):
        to("8 steps", "a")
    assert_same_bits(to("8 steps", "a", extend=True), to("8 steps", "b"))


def test_extended_from_between_two_rows_a_run_leaves_the_rows_of_a_longer_one(
    tmp_path: pathlib.Path, data_dir: str
) -> None:
    def to(duration: str, workdir: str, *, extend: bool = False) -> TrainState:
        config = lenet_config(duration=duration, log_every="3 steps").unlock()
        config.eval.every = "8 steps"
        config.schedule = {"name": "constant", "rate": 0.01}
        return train.train_and_evaluate(
            config.lock(), tmp_path / workdir, data_dir=data_dir, extend=extend
        )[0]

    to("4 steps", "a")
    assert [row["step"] for row in metrics.read(tmp_path / "a")] == [3, 4]
    assert_same_bits(to("8 steps", "a", extend=True), to("8 steps", "b"))
    assert without_clock(tmp_path / "a") == without_clock(tmp_path / "b")
    assert [row["step"] for row in metrics.read(tmp_path / "a")] == [3, 6, 8]


def test_every_schedule_is_extended_or_refuses() -> None:
    of_total = {"cosine", "polynomial"}  # refused, see below
    assert {schedule["name"] for schedule in EXTENDED} == set(schedules.SCHEDULES) - of_total


def test_extend_is_refused_where_the_running_statistics_are_gone(tmp_path: pathlib.Path) -> None:
    adopt(tmp_path, "4 steps", extend=False)
    adopt(tmp_path, "8 steps", extend=True)  # cut off: they are still there
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(UserError, match=r"--extend: .* is finished, and config.bn_recomp"):
        adopt(tmp_path, "16 steps", extend=True)
    adopt(tmp_path, "8 steps", extend=True)


def test_a_run_is_never_made_shorter(tmp_path: pathlib.Path) -> None:
    adopt(tmp_path, "8 steps", extend=False)
    with pytest.raises(UserError, match=r"is a run of 8 steps; config.duration='4 steps' is 4"):
        adopt(tmp_path, "4 steps", extend=True)
    assert '"8 steps"' in (tmp_path / "config.json").read_text()


@pytest.mark.parametrize(
    ("schedule", "of_total"),
    [
        ({"name": "constant", "rate": 1.0}, False),
        ({"name": "cosine", "rate": 1.0, "warmup": ""}, True),
        ({"name": "cosine", "rate": 1.0, "warmup": "2 steps"}, True),
        (
            {"name": "steps", "rate": 1.0, "drops": ("3 steps",), "factor": 10.0, "warmup": "",
             "warmup_rate": 0.0},
            False,
        ),
        (
            {"name": "steps_after_error", "rate": 1.0, "drops": ("3 steps",), "factor": 10.0,
             "warmup_rate": 0.1, "below": 0.5, "over": "2 steps"},
            False,
        ),
        ({"name": "piecewise", "rates": (1.0, 0.5), "changes": ("3 steps",)}, False),
        ({"name": "exponential", "rate": 1.0, "factor": 0.9, "every": "2 steps"}, False),
        ({"name": "polynomial", "rate": 1.0, "power": 0.5}, True),
        (
            {"name": "plateau", "rate": 1.0, "factor": 10.0, "of": "training", "patience": 1,
             "least": 0.0, "drops": 2},
            False,
        ),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)  # fmt: skip
def test_a_schedule_says_whether_its_rates_depend_on_the_total(
    schedule: dict[str, Any], of_total: bool
) -> None:
    """`of_total` against the rates themselves: of the first 8 steps of runs of 8 and of 16."""

    def rates(total: int) -> list[float]:
        made = schedules.create(schedule, total, lambda _, duration: int(duration.split()[0]))
        assert made.of_total is of_total
        return [float(made.rate(made.init(), jax.numpy.asarray(step))) for step in range(8)]

    assert (rates(8) != rates(16)) is of_total


def test_extend_is_refused_where_the_rates_depend_on_the_total(tmp_path: pathlib.Path) -> None:
    adopt(tmp_path, "4 steps", extend=False, schedule_of_total=True)
    with pytest.raises(UserError, match=r"config.schedule=cosine depend on the number of steps"):
        adopt(tmp_path, "8 steps", extend=True, schedule_of_total=True)
    assert '"4 steps"' in (tmp_path / "config.json").read_text()


def adopt(workdir: pathlib.Path, duration: str, **options: Any) -> None:
    config = {"duration": duration, "bn_recompute_batches": 2, "schedule": {"name": "cosine"}}
    workdirs.adopt_config(
        workdir, config, steps=lambda duration: int(duration.split()[0]), **options
    )


def test_a_trained_network_for_use(straight, data_dir: str) -> None:
    workdir, state, _ = straight
    net = trained.load(workdir)
    assert net.step == 8
    images = np.zeros((3, 16, 16, 1), np.uint8)
    assert net.predict(images).shape == (3,)
    assert set(net.apply(net.preprocess(images), capture=["conv2"]).captured) == {"conv2"}
    jax.tree.map(np.testing.assert_array_equal, net.variables["params"], state.params)
    with pytest.raises(UserError, match="no best step, the run had no validation part"):
        trained.load(workdir, step="best")
    with pytest.raises(UserError, match="no checkpoint of step 3; saved: 4, 8"):
        trained.load(workdir, step=3)


def test_best_by_validation_is_kept_and_loaded(tmp_path: pathlib.Path, data_dir: str) -> None:
    _, result = run(tmp_path, data_dir, **{"data.validation": 16})
    best = result["validation_best"]
    errors = {
        row["step"]: row["validation"]["error"]
        for row in metrics.read(tmp_path)
        if "validation" in row
    }
    assert best["validation_error"] == min(errors.values())
    assert trained.load(tmp_path, step="best").step == best["step"]
    (tmp_path / metrics.FILE).unlink()
    with pytest.raises(UserError, match=r"metrics.jsonl: no row has the validation error of a sav"):
        trained.load(tmp_path, step="best")


def test_a_workdir_in_use_is_refused(tmp_path: pathlib.Path, data_dir: str) -> None:
    with (
        workdirs.claim(tmp_path),
        pytest.raises(UserError, match=r"held by another run \(process \d+ on"),
    ):
        run(tmp_path, data_dir)


def test_a_loss_that_is_not_finite_stops_and_is_not_saved(
    tmp_path: pathlib.Path, data_dir: str
) -> None:
    config = lenet_config().unlock()
    config.schedule.rate = 1e30
    with pytest.raises(UserError, match=r"the loss of step \d+ is not finite"):
        train.train_and_evaluate(config.lock(), tmp_path, data_dir=data_dir)
    assert not [path for path in (tmp_path / FOLDER).iterdir() if path.name.isdigit()]


@pytest.mark.parametrize("what", ["its copy of a weight", "an image of its part"])
def test_a_value_that_is_not_finite_on_one_device_stops_all(
    what: str, tmp_path: pathlib.Path, data_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss and the gradients are sums over eight devices: the sixth reaches the others."""

    def corrupted(state: TrainState) -> TrainState:
        kernel = state.params["conv1"]["kernel"]
        copies = [shard.data for shard in kernel.addressable_shards]
        copies[5] = copies[5].at[0, 0, 0, 0].set(jnp.nan)
        broken = jax.make_array_from_single_device_arrays(kernel.shape, kernel.sharding, copies)
        params = {**state.params, "conv1": {**state.params["conv1"], "kernel": broken}}
        return state.replace(params=params)

    def one_image(state: TrainState, batch: Any, **parts: Any) -> Any:
        lost = (jnp.arange(16) == 11) & (state.step == 0)  # of two a device, on the sixth
        image = jnp.where(lost[:, None, None, None], jnp.nan, batch["image"])
        return step.train_step(state, {**batch, "image": image}, **parts)

    if what == "an image of its part":
        monkeypatch.setattr(train, "train_step", one_image)
    else:
        create = experiment.Experiment.create_state
        monkeypatch.setattr(
            experiment.Experiment, "create_state", lambda run: corrupted(create(run))
        )
    with pytest.raises(UserError, match="the loss of step 0 is not finite: stopped, that state is"):
        run(tmp_path, data_dir)
    assert not [path for path in (tmp_path / FOLDER).iterdir() if path.name.isdigit()]


def test_a_state_that_is_not_finite_is_not_saved_where_loss_and_weights_are(
    tmp_path: pathlib.Path, data_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The momentum overflows in the step before a checkpoint: no row shows it."""

    def overflowing(state: TrainState, batch: Any, **parts: Any) -> Any:
        state, measured = step.train_step(state, batch, **parts)
        overflows = jnp.where(state.step == 4, jnp.inf, 0.0)
        momentum = jax.tree.map(lambda x: x + overflows, state.opt_state)
        return state.replace(opt_state=momentum), measured

    monkeypatch.setattr(train, "train_step", overflowing)
    with pytest.raises(UserError, match="optimizer state are not finite after step 4: stopped"):
        run(tmp_path, data_dir)
    assert [row["step"] for row in metrics.read(tmp_path)] == [2, 4]
    assert not [path for path in (tmp_path / FOLDER).iterdir() if path.name.isdigit()]


def test_a_state_that_is_not_finite_is_found_if_the_loss_is_finite(straight) -> None:
    state = straight[1]
    assert is_finite(state)
    for value in (np.nan, np.inf):
        broken = {**state.params, "fc5": {**state.params["fc5"]}}
        broken["fc5"]["bias"] = broken["fc5"]["bias"].at[3].set(value)
        assert not is_finite(state.replace(params=broken))
        assert not is_finite(state.replace(averages={"params": broken}))


def test_a_row_that_json_cannot_hold_is_refused() -> None:
    row = {"step": 4, "train": {"loss": 0.5}, "test": {"error": 0.1, "loss": float("nan")}}
    with pytest.raises(UserError, match="test/loss is nan at step 4"):
        metrics.check_finite(row)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="not on this system")
def test_the_cores_named_are_those_a_run_may_use() -> None:
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(usable)})
    try:
        assert environment.describe()["processor_cores"] == 1
    finally:
        os.sched_setaffinity(0, usable)
    assert environment.describe()["processor_cores"] == len(usable)
