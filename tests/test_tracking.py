"""Rows sent to a tracker: the same as in metrics.jsonl, once each, whatever the tracker does."""

import importlib.machinery
import json
import pathlib
import sys
import types
from collections.abc import Mapping
from typing import Any

import pytest

import train
from errors import UserError
from tests.toy import lenet_config
from training import metrics, tracking
from training.metrics import Row


class Module(types.ModuleType):
    """A tracker's package: runs with `log` and `finish`, as wandb and trackio have them."""

    def __init__(self, name: str, fails_at: str = "") -> None:
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)
        self.fails_at = fails_at
        self.started: list[dict[str, Any]] = []
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.calls: list[str] = []

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.fails_at:
            raise ConnectionError("no network\nat all")

    def init(self, **fields: Any) -> "Module":
        self.started.append(fields)
        self._call("init")
        return self

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        self._call("log")
        self.rows.append((step, dict(numbers)))

    def finish(self) -> None:
        self._call("finish")

    # As tensorboardX has it.
    def SummaryWriter(self, folder: str) -> "Module":
        self.started.append({"folder": folder})
        return self

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.rows.append((step, {name: value}))

    def flush(self) -> None:
        self.calls.append("flush")

    def close(self) -> None:
        self.calls.append("close")


def install(monkeypatch: pytest.MonkeyPatch, name: str, fails_at: str = "") -> Module:
    module = Module(name, fails_at)
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return module


def row(step: int) -> Row:
    return {"step": step, "epoch": step / 4, "train": {"loss": 1 / step}, "clock": {"seconds": 1.0}}


def without_clock(workdir: pathlib.Path) -> list[Row]:
    return [
        {name: value for name, value in row.items() if name != "clock"}
        for row in metrics.read(workdir)
    ]


@pytest.fixture(scope="module")
def untracked(tmp_path_factory: pytest.TempPathFactory, data_dir: str) -> list[Row]:
    workdir = tmp_path_factory.mktemp("untracked")
    train.train_and_evaluate(lenet_config(), workdir, data_dir=data_dir)
    return without_clock(workdir)


@pytest.mark.parametrize("fails_at", ["", "init", "log", "finish"])
def test_a_tracked_run_is_the_same_run_whatever_the_tracker_does(
    fails_at: str,
    untracked: list[Row],
    tmp_path: pathlib.Path,
    data_dir: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = install(monkeypatch, "wandb", fails_at)
    train.train_and_evaluate(lenet_config(), tmp_path / "run", data_dir=data_dir, track="wandb")
    assert without_clock(tmp_path / "run") == untracked
    assert (tmp_path / "run/result.json").exists()
    notes = [line for line in capsys.readouterr().err.splitlines() if "--track" in line]
    assert module.calls.count(fails_at) == (fails_at != "")  # not tried again
    if fails_at:
        assert len(notes) == 1
        assert "wandb has failed (ConnectionError: no network at all)" in notes[0]
    else:
        assert notes == []
        sent = [(one["step"], metrics.scalars(one)) for one in metrics.read(tmp_path / "run")]
        assert module.rows == sent
        assert module.calls[-1] == "finish"
        assert module.started[0]["config"]["batch_size"] == 16


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_resumed_run_goes_on_as_the_same_tracked_run(
    name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = install(monkeypatch, name)
    with tracking.Tracker(name, tmp_path, lenet_config()) as tracker:
        for step in (2, 4, 6):
            tracker.write(row(step))
    # Resumed from step 4: its rows are sent from the first on, those of 6 made anew.
    with tracking.Tracker(name, tmp_path, lenet_config()) as tracker:
        for step in (2, 4, 6, 8):
            tracker.write(row(step))
    assert [step for step, _ in module.rows] == [2, 4, 6, 8]
    first, second = module.started
    assert first["name"] == second["name"]
    assert first["resume"] == second["resume"] == "allow"
    assert first["project"] == "convnet-case-studies"
    assert ("id" in first) == (name == "wandb")
    assert first.get("id") == second.get("id")
    other = tracking.Tracker(name, tmp_path / "other", lenet_config())
    other.workdir.mkdir()
    other.write(row(2))
    assert module.started[2]["name"] != first["name"]


def test_after_a_kill_rows_that_may_not_have_arrived_are_sent_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = install(monkeypatch, "trackio")
    killed = tracking.Tracker("trackio", tmp_path, lenet_config())
    killed.write(row(2))
    killed.write(row(4))
    with tracking.Tracker("trackio", tmp_path, lenet_config()) as tracker:
        for step in (2, 4, 6):
            tracker.write(row(step))
    assert [step for step, _ in module.rows] == [2, 4, 2, 4, 6]
    assert module.started[0]["name"] == module.started[1]["name"]


def test_what_a_tracker_lacks_is_sent_at_the_next_start(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, "trackio", fails_at="log")
    with tracking.Tracker("trackio", tmp_path, lenet_config()) as tracker:
        tracker.write(row(2))
        tracker.write(row(4))
    module = install(monkeypatch, "trackio")
    with tracking.Tracker("trackio", tmp_path, lenet_config()) as tracker:
        for step in (2, 4, 6):
            tracker.write(row(step))
    assert [step for step, _ in module.rows] == [2, 4, 6]


def test_tensorboard_gets_every_number_of_a_row(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = install(monkeypatch, "tensorboardX")
    with tracking.Tracker("tensorboard", tmp_path, lenet_config()) as tracker:
        tracker.write(row(2))
    assert module.started == [{"folder": str(tmp_path / "tensorboard")}]
    assert module.rows == [
        (2, {"epoch": 0.5}),
        (2, {"train/loss": 0.5}),
        (2, {"clock/seconds": 1.0}),
    ]
    assert module.calls == ["flush", "close"]


def test_no_tracker_writes_nothing(tmp_path: pathlib.Path) -> None:
    with tracking.Tracker(None, tmp_path, lenet_config()) as tracker:
        tracker.write(row(2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mlflow", "--track: 'mlflow' is none of wandb, trackio, tensorboard"),
        ("wandb", "--track=wandb: needs a package: pip install wandb"),
        ("tensorboard", "--track=tensorboard: needs a package: pip install tensorboardX"),
    ],
)
def test_a_tracker_that_is_not_there_is_named_before_anything_is_written(
    name: str, expected: str, tmp_path: pathlib.Path, data_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError) as raised:
        train.train_and_evaluate(lenet_config(), tmp_path / "run", data_dir=data_dir, track=name)
    assert str(raised.value) == expected
    assert not (tmp_path / "run").exists()


def test_the_packages_are_those_of_the_requirements_file() -> None:
    file = pathlib.Path(__file__).parent.parent / "requirements-track.txt"
    lines = [line.partition(">=")[0] for line in file.read_text().splitlines() if ">=" in line]
    assert sorted(lines) == sorted(tracking.PACKAGES.values())


def test_the_record_of_what_was_sent_is_by_tracker(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("wandb", "trackio"):
        install(monkeypatch, name)
        with tracking.Tracker(name, tmp_path, lenet_config()) as tracker:
            tracker.write(row(2))
    kept = json.loads((tmp_path / tracking.FILE).read_text())
    assert {name: entry["step"] for name, entry in kept.items()} == {"wandb": 2, "trackio": 2}
