"""A run on 1, 2, 4 or 8 devices has the same curve, and goes on with another number than before.

Batch norm over groups of four, which lie on one device or on two, dropout, and augmentation. The
numbers agree to rounding, which grows from step to step: sums are in another order.
"""

import itertools
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import sharding
import train
from tests.toy import lenet_config
from training import metrics, preemption

TOLERANCE = 2e-4  # relative, of losses over twelve steps
CUT = 6  # between two checkpoints and on a row

# One of them is enough for every day; the others compile for minutes.
EVERY = [(engine, devices) for engine in ("resident", "streaming") for devices in (1, 2, 4)]
SLOW = [pytest.param(*one, marks=pytest.mark.slow) for one in EVERY if one != ("resident", 2)]


def config(engine: str) -> ConfigDict:
    small = {"name": "resnet20_cifar10_A", "stages": (1, 1, 1), "features": (4, 8, 8)}
    return lenet_config(
        **{
            "model": {**small, "shortcut_dropout": 0.5, "batch_norm_group": 4},
            "data.name": "synthetic:16x16x1:10:120:24",
            "data.engine": engine,
            "duration": "12 steps",
        }
    )


def run(engine: str, workdir: pathlib.Path, data_dir: str, devices: int) -> None:
    """Trains on the first so many of this session's devices."""
    create = sharding.create_mesh
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sharding, "create_mesh", lambda: create(jax.devices()[:devices]))
        state, _ = train.train_and_evaluate(config(engine), workdir, data_dir=data_dir)
        assert len(state.step.devices()) == devices


def run_until_cut(engine: str, workdir: pathlib.Path, data_dir: str, devices: int) -> None:
    calls = itertools.count(1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(preemption.Preemption, "requested", lambda self: next(calls) == CUT)
        with pytest.raises(preemption.Preempted):
            run(engine, workdir, data_dir, devices)


def curve(workdir: pathlib.Path) -> dict[str, Any]:
    rows = metrics.read(workdir)
    return {
        f"{group} {name}": np.array([row[group][name] for row in rows if group in row])
        for group, name in itertools.product(("train", "test"), ("loss", "error"))
    }


@pytest.fixture(scope="module")
def eight(
    tmp_path_factory: pytest.TempPathFactory, data_dir: str
) -> Callable[[str], tuple[pathlib.Path, pathlib.Path]]:
    """By engine: the workdir of a run cut off on eight devices, and that run finished on them."""
    made: dict[str, tuple[pathlib.Path, pathlib.Path]] = {}

    def of(engine: str) -> tuple[pathlib.Path, pathlib.Path]:
        if engine not in made:
            cut = tmp_path_factory.mktemp(engine) / "cut"
            run_until_cut(engine, cut, data_dir, 8)
            whole = shutil.copytree(cut, cut.with_name("whole"))
            run(engine, whole, data_dir, 8)
            made[engine] = cut, whole
        return made[engine]

    return of


def assert_same_curve(workdir: pathlib.Path, other: pathlib.Path) -> None:
    found, expected = curve(workdir), curve(other)
    assert len(found["train loss"]) == 6
    assert len(found["test loss"]) == 3
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize(("engine", "devices"), [("resident", 2), *SLOW])
def test_a_run_saved_on_eight_devices_goes_on_with_fewer(
    engine: str, devices: int, eight: Callable, tmp_path: pathlib.Path, data_dir: str
) -> None:
    cut, whole = eight(engine)
    shutil.copytree(cut, tmp_path / "run")
    run(engine, tmp_path / "run", data_dir, devices)
    assert_same_curve(tmp_path / "run", whole)


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "devices"), EVERY)
def test_a_run_on_fewer_devices_goes_on_with_eight(
    engine: str, devices: int, eight: Callable, tmp_path: pathlib.Path, data_dir: str
) -> None:
    """Half on fewer devices, half on eight: so one, two, four and eight have the same curve."""
    run_until_cut(engine, tmp_path / "run", data_dir, devices)
    run(engine, tmp_path / "run", data_dir, 8)
    assert_same_curve(tmp_path / "run", eight(engine)[1])
