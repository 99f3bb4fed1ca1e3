"""What runs now: the workdirs below a folder, as `reproduce.py --status` lists them.

Reads locks, configs and rows; changes nothing, and needs no study or data set.
"""

import dataclasses
import pathlib
import time
from typing import Any

from display import duration
from errors import UserError
from reproduction import records
from training import durations, metrics, workdirs
from training.layout import CONFIG, RESULT
from training.progress import table

RUNNING, FAILED, CUT_OFF, DONE = "running", "failed", "cut off", "done"


@dataclasses.dataclass(frozen=True)
class Status:
    """A workdir: its state, how far it is, and what there is to say about it.

    steps: of the whole run; None before the first row. seconds_left: of a run that is running and
    has two rows. holder: the process that holds it. why: the error it failed with.
    """

    workdir: pathlib.Path
    state: str
    step: int = 0
    steps: int | None = None
    errors: dict[str, float] = dataclasses.field(default_factory=dict)
    seconds_left: float | None = None
    holder: str = ""
    why: str = ""


def below(root: pathlib.Path) -> list[Status]:
    """The runs in a folder and its subfolders, by path. Raises UserError if there is no folder."""
    if not root.is_dir():
        raise UserError(f"--out: there is no folder {root}")
    found = {path.parent for name in (CONFIG, records.STAMP) for path in root.rglob(name)}
    return [of_workdir(workdir) for workdir in sorted(found)]


def of_workdir(workdir: pathlib.Path) -> Status:
    """The status of one run."""
    holder = workdirs.holder(workdir)
    failed = workdir / records.FAILED
    if holder is not None:
        state = RUNNING
    elif (workdir / RESULT).exists():
        state = DONE
    else:
        state = FAILED if failed.exists() else CUT_OFF
    why = failed.read_text().strip() if state == FAILED else ""
    try:
        rows = metrics.read(workdir)
        config = workdirs.read_object(workdir / CONFIG)
        total = steps(config, rows[-1]) if rows else None
    except UserError:  # it has only just begun, or is damaged: then its own command says how
        rows, total = [], None
    if not rows or total is None:
        return Status(workdir, state, holder=holder or "", why=why)
    left = None
    if state == RUNNING:
        age = time.time() - (workdir / metrics.FILE).stat().st_mtime
        left = seconds_left(rows, total, age)
    errors = {
        group: row[group]["error"]
        for group in ("train", "test")
        if (row := next((row for row in reversed(rows) if group in row), None))
    }
    return Status(workdir, state, rows[-1]["step"], total, errors, left, holder or "", why)


def steps(config: dict[str, Any], row: metrics.Row) -> int:
    """The length of a run in steps, from its config and one of its rows."""
    return durations.in_steps(
        "config.duration",
        config["duration"],
        steps_per_epoch=round(row["step"] / row["epoch"]),
        batch_size=config["batch_size"],
    )


def seconds_left(rows: list[metrics.Row], total: int, age: float) -> float | None:
    """The time to the last step at the pace of the rows since the run was last started.

    age: seconds since the last row was written. None with fewer than two such rows.
    """
    last = first = rows[-1]
    for row in reversed(rows):
        if row["clock"]["seconds"] > first["clock"]["seconds"]:
            break  # of an earlier start
        first = row
    if first["step"] == last["step"]:
        return None
    took = last["clock"]["seconds"] - first["clock"]["seconds"]
    pace = took / (last["step"] - first["step"])
    return max(pace * (total - last["step"]) - age, 0.0)


def page(root: pathlib.Path) -> str:
    """A table of the runs below a folder that are not done, and the number of all by state."""
    found = below(root)
    counts = dict.fromkeys((RUNNING, DONE, CUT_OFF, FAILED), 0)
    rows: list[tuple[str, ...]] = [
        ("run", "state", "step", "train error", "test error", "left", "")
    ]
    for one in found:
        counts[one.state] += 1
        if one.state == DONE:
            continue
        of = "" if one.steps is None else f" of {one.steps}"
        rows.append(
            (
                str(one.workdir.relative_to(root)),
                one.state,
                f"{one.step}{of}",
                *(
                    f"{100 * one.errors[group]:.2f}%" if group in one.errors else ""
                    for group in ("train", "test")
                ),
                "" if one.seconds_left is None else duration(one.seconds_left),
                one.holder or one.why,
            )
        )
    summary = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"{table(rows)}\n\n{root}: {summary}" if len(rows) > 1 else f"{root}: {summary}"
