"""What `reproduce.py --status` says of workdirs: running, done, cut off, failed; the time left."""

import fcntl
import json
import os
import pathlib
from typing import Any

import pytest

from configs.base import base
from errors import UserError
from reproduction import records, status
from training import workdirs
from training.metrics import Row


def row(step: int, seconds: float, **errors: float) -> Row:
    """A row of a run with ten steps an epoch."""
    groups: dict[str, Any] = {group: {"error": error} for group, error in errors.items()}
    return {"step": step, "epoch": step / 10, **groups, "clock": {"seconds": seconds}}


def make(workdir: pathlib.Path, *rows: Row, finished: bool = False) -> pathlib.Path:
    """The workdir of a run of 20 epochs, as far as these rows."""
    workdir.mkdir(parents=True)
    config = base()
    config.duration = "20 epochs"
    (workdir / "config.json").write_text(config.to_json())
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    if finished:
        (workdir / "result.json").write_text("{}")
    return workdir


def test_states_of_workdirs(tmp_path: pathlib.Path) -> None:
    make(tmp_path / "a/done", row(200, 9.0), finished=True)
    make(tmp_path / "a/cut", row(10, 1.0, train=0.5), row(20, 2.0, train=0.25, test=0.3))
    failed = make(tmp_path / "b/failed")
    (failed / records.FAILED).write_text("the loss is nan\n")
    begun = tmp_path / "b/begun"
    begun.mkdir()
    (begun / records.STAMP).write_text("{}")
    running = make(tmp_path / "b/running", row(10, 1.0), row(50, 5.0))
    with workdirs.claim(running):
        found = {one.workdir.name: one for one in status.below(tmp_path)}
        page = status.page(tmp_path)
    assert {name: one.state for name, one in found.items()} == {
        "done": "done",
        "cut": "cut off",
        "failed": "failed",
        "begun": "cut off",
        "running": "running",
    }
    assert found["cut"].errors == {"train": 0.25, "test": 0.3}
    assert (found["cut"].step, found["cut"].steps) == (20, 200)
    assert found["failed"].why == "the loss is nan"
    assert found["running"].holder.startswith(f"process {os.getpid()} on")
    left = found["running"].seconds_left
    assert left is not None
    assert 0 < left <= 15  # 150 steps at ten a second, less the time since the last row
    assert page.splitlines()[-1].endswith("1 running, 1 done, 2 cut off, 1 failed")
    assert "a/done" not in page
    assert [line.split()[0] for line in page.splitlines()[2:6]] == [
        "a/cut", "b/begun", "b/failed", "b/running",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "age", "expected"),
    [
        ([row(10, 8.0)], 0.0, None),
        ([row(10, 8.0), row(20, 10.0)], 0.0, 36.0),  # 180 steps at five a second
        ([row(10, 8.0), row(20, 10.0)], 6.0, 30.0),
        ([row(10, 8.0), row(20, 10.0)], 99.0, 0.0),
        ([row(10, 8.0), row(20, 10.0), row(30, 4.0)], 0.0, None),  # resumed after step 20
        ([row(10, 8.0), row(20, 10.0), row(30, 4.0), row(40, 5.0)], 0.0, 16.0),
    ],
)
def test_time_left_is_by_the_pace_since_the_run_was_last_started(
    rows: list[Row], age: float, expected: float | None
) -> None:
    assert status.seconds_left(rows, 200, age) == expected


def test_a_run_may_start_while_its_status_is_read(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = make(tmp_path / "run")
    (workdir / workdirs.LOCK).touch()
    with (workdir / workdirs.LOCK).open() as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        moments: list[float] = []

        def moment(seconds: float) -> None:
            moments.append(seconds)
            fcntl.flock(reader, fcntl.LOCK_UN)

        monkeypatch.setattr(workdirs.time, "sleep", moment)
        with workdirs.claim(workdir):
            assert workdirs.holder(workdir) is not None
    assert moments == [workdirs.MOMENT]
    assert workdirs.holder(workdir) is None


def test_a_folder_that_is_not_there_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match="--out: there is no folder"):
        status.below(tmp_path / "none")
