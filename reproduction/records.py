"""One finished run as a study keeps it: what ran, where, what it gave, and its curve.

A record is the same whether it is read from a run's workdir or from a committed log, so that a
table made of either is the same. Reads and writes files; runs nothing.
"""

import dataclasses
import hashlib
import json
import math
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

import data
from errors import UserError
from training import metrics

# Raised by hand when the code changes what a run of the same config computes: older results are
# then no longer counted as done. The same sums in another order are no reason, as another CPU or a
# patch of jax is none: those stand with each result as its commit, device and versions.
RESULTS_VERSION = 1

# Processor cores of a run on CPU: the order of sums depends on their number, and in deep plain nets
# what a seed gives depends on that order. So it is the same however many runs go on side by side.
CORES = 1

STALLED = 0.02  # of the loss at chance
ROWS = 200  # of a log, at most: committed logs stay small
PROBE = "probe.json"  # in a workdir: what the study measured on the trained network
STAMP = "fingerprint.json"  # in a workdir: what its fingerprint is made of


@dataclasses.dataclass(frozen=True)
class Record:
    """A finished run: label and seed within its study, and all that its table and figure need.

    result: result.json. rows: of metrics.jsonl, at most ROWS, without their clocks. probe: what the
    study measured on the trained network. environment: versions, device, commit.
    """

    label: str
    seed: int
    fingerprint: str
    results_version: int
    command: str
    config: dict[str, Any]
    environment: dict[str, Any]
    result: dict[str, Any]
    probe: dict[str, Any]
    rows: list[dict[str, Any]]

    def curve(self, group: str, metric: str = "error") -> tuple[list[int], list[float]]:
        """Steps and values of one logged metric, e.g. ("test", "error")."""
        logged = [row for row in self.rows if metric in row.get(group, {})]
        return [row["step"] for row in logged], [row[group][metric] for row in logged]

    def last(self, metric: str) -> float:
        """A metric of the last step, as result.json names it: "test_error", "train_loss"."""
        return self.result["last"][metric]

    def steps_to(self, error: float, group: str = "train") -> int | None:
        """The first logged step whose error is `error` or less; None if it never is."""
        steps, values = self.curve(group)
        return next(
            (step for step, value in zip(steps, values, strict=True) if value <= error), None
        )

    @property
    def stalled(self) -> bool:
        """Whether its training loss ended within 2% of chance; other losses have no such value."""
        logged = [row["train"] for row in self.rows if "train" in row]
        if not logged or self.config["loss"]["kind"] != "cross_entropy":
            return False
        chance = math.log(data.dataset(self.config["data"]["name"]).classes)
        return logged[-1].get("loss_main", logged[-1]["loss"]) >= (1 - STALLED) * chance

    def wrong_images(self) -> np.ndarray | None:
        """Which test images it got wrong at the last step, bool [images]; None in older logs."""
        packed = self.result.get("test_wrong")
        return None if packed is None else metrics.unpacked(packed)

    @property
    def file(self) -> str:
        """The name of its log."""
        return f"{slug(self.label)}_seed{self.seed}.jsonl"

    def text(self) -> str:
        """The log: one JSON object of everything but the rows, then one a row."""
        head = {k: v for k, v in vars(self).items() if k != "rows"}
        lines = [json.dumps(entry, ensure_ascii=False) for entry in (head, *self.rows)]
        return "\n".join(lines) + "\n"


def fingerprint(
    config: Mapping[str, Any], jax_version: str = "", version: int = 0, cores: int | None = CORES
) -> str:
    """What makes two runs the same: resolved config, cores, jax's major.minor, RESULTS_VERSION.

    The commit is recorded beside a result and never compared.
    """
    made_of = stamp(config, jax_version or jax.__version__, version or RESULTS_VERSION, cores)
    canonical = json.dumps(made_of, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def stamp(
    config: Mapping[str, Any], jax_version: str, version: int, cores: int | None = CORES
) -> dict[str, Any]:
    """The parts of a fingerprint. cores: None in results from before they were pinned."""
    major_minor = ".".join(jax_version.split(".")[:2])
    pinned = {} if cores is None else {"cores": cores}
    return {"results_version": version, "jax": major_minor, **pinned, "config": dict(config)}


def slug(label: str) -> str:
    """A label as a file name: "ResNet-56 (A)" -> "ResNet-56_A"."""
    return re.sub(r"[^A-Za-z0-9.+=-]+", "_", label).strip("_")


def is_finished(workdir: pathlib.Path, *, probed: bool) -> bool:
    """Whether a run's workdir holds everything a record needs."""
    return (workdir / "result.json").exists() and (not probed or (workdir / PROBE).exists())


def from_workdir(workdir: pathlib.Path, *, label: str, seed: int, command: str) -> Record:
    """The record of a finished run."""
    made_of = _object(workdir / STAMP)
    rows = [
        {name: part for name, part in row.items() if name != "clock"}
        for row in metrics.read(workdir)
    ]
    config = _object(workdir / "config.json")
    return Record(
        label=label,
        seed=seed,
        fingerprint=fingerprint(
            config, made_of["jax"], made_of["results_version"], made_of.get("cores")
        ),
        results_version=made_of["results_version"],
        command=command,
        config=config,
        environment=_object(workdir / "environment.json"),
        result=_object(workdir / "result.json"),
        probe=_object(workdir / PROBE) if (workdir / PROBE).exists() else {},
        rows=thinned(rows),
    )


def from_log(path: pathlib.Path) -> Record:
    """The record of a committed log. Raises UserError if it is none."""
    try:
        head, *rows = [json.loads(line) for line in path.read_text().splitlines()]
        return Record(**head, rows=rows)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: is not a log of a run ({error})") from None


def thinned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most ROWS of the rows, evenly spread, the first and the last among them."""
    if len(rows) <= ROWS:
        return rows
    return [rows[round(i * (len(rows) - 1) / (ROWS - 1))] for i in range(ROWS)]


def digest(records: Iterable[Record]) -> str:
    """sha256 over all logs: what a figure was drawn from."""
    whole = hashlib.sha256()
    for record in sorted(records, key=lambda record: record.file):
        whole.update(record.text().encode())
    return whole.hexdigest()


def _object(path: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
