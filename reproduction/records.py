"""The record of a finished run: config, environment, results and curve.

A record read from a workdir equals the record read from the committed log, so that tables made from
either are the same.
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
from configs import fields
from errors import UserError
from training import metrics

# Increased by hand when a code change alters what a config computes: older results then no longer
# count as finished. A different order of sums is not a reason, nor is another CPU or a patch
# release of jax: each result records its commit, device and versions.
RESULTS_VERSION = 1

# Processor cores of a run on CPU. The order of sums depends on this number, and the result of a
# deep plain net depends on that order, so it must not depend on the number of runs at once.
CORES = 1

STALLED = 0.02  # fraction of the loss at chance
ROWS = 200  # maximum in a log, to keep committed logs small
PROBE = "probe.json"  # in a workdir: the study's measurements on the trained network
FAILED = "failed.txt"  # in a workdir: the error of the run, until it is started again
STAMP = "fingerprint.json"  # in a workdir: the parts of its fingerprint


@dataclasses.dataclass(frozen=True)
class Record:
    """A finished run: label and seed within its study, and everything its table and figure need.

    result: result.json. rows: at most ROWS rows of metrics.jsonl, without "clock". probe: the
    study's measurements on the trained network. environment: versions, device, commit.
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
        """A metric at the last step, named as in result.json: "test_error", "train_loss"."""
        return self.result["last"][metric]

    def steps_to(self, error: float, group: str = "train") -> int | None:
        """The first logged step with an error of at most `error`; None if there is none."""
        steps, values = self.curve(group)
        return next(
            (step for step, value in zip(steps, values, strict=True) if value <= error), None
        )

    @property
    def stalled(self) -> bool:
        """Whether training ended within 2% of chance; False for losses other than cross_entropy."""
        logged = [row["train"] for row in self.rows if "train" in row]
        if not logged or self.config["loss"]["kind"] != "cross_entropy":
            return False
        chance = math.log(data.dataset(self.config["data"]["name"]).classes)
        return logged[-1].get("loss_main", logged[-1]["loss"]) >= (1 - STALLED) * chance

    def wrong_images(self) -> np.ndarray | None:
        """Bool [images]: test images misclassified at the last step; None if not in the log."""
        packed = self.result.get("test_wrong")
        return None if packed is None else metrics.unpacked(packed)

    @property
    def file(self) -> str:
        """The name of its log."""
        return f"{slug(self.label)}_seed{self.seed}.jsonl"

    def text(self) -> str:
        """The log: one line of JSON with everything except the rows, then one line per row."""
        head = {k: v for k, v in vars(self).items() if k != "rows"}
        lines = [json.dumps(entry, ensure_ascii=False) for entry in (head, *self.rows)]
        return "\n".join(lines) + "\n"


def fingerprint(
    config: Mapping[str, Any], jax_version: str = "", version: int = 0, cores: int | None = CORES
) -> str:
    """A digest of what makes two runs the same; see `stamp`.

    The commit is recorded with a result but not part of this.
    """
    made_of = stamp(config, jax_version or jax.__version__, version or RESULTS_VERSION, cores)
    canonical = json.dumps(made_of, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def stamp(
    config: Mapping[str, Any], jax_version: str, version: int, cores: int | None = CORES
) -> dict[str, Any]:
    """The parts of a fingerprint: config, cores, jax's major.minor, results version.

    The config without the fields that results do not depend on.

    cores: None for results of an accelerator, and from before runs were pinned to cores.
    """
    major_minor = ".".join(jax_version.split(".")[:2])
    pinned = {} if cores is None else {"cores": cores}
    essential = fields.essential(config)
    return {"results_version": version, "jax": major_minor, **pinned, "config": essential}


def slug(label: str) -> str:
    """A label turned into a file name: "ResNet-56 (A)" -> "ResNet-56_A"."""
    return re.sub(r"[^A-Za-z0-9.+=-]+", "_", label).strip("_")


def is_finished(workdir: pathlib.Path, *, probed: bool) -> bool:
    """Whether a run's workdir has everything a record needs."""
    return (workdir / "result.json").exists() and (not probed or (workdir / PROBE).exists())


def from_workdir(workdir: pathlib.Path, *, label: str, seed: int, command: str) -> Record:
    """The record of a finished run."""
    made_of = _object(workdir / STAMP)
    rows = [
        {name: part for name, part in row.items() if name != "clock"}
        for row in metrics.read(workdir)
    ]
    config = _object(workdir / "config.json")
    result = _object(workdir / "result.json")
    if "init" in result:  # starting weights by name, not by path
        config["init"]["from"] = result["init"]["from"] = made_of["config"]["init"]["from"]
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
        result=result,
        probe=_object(workdir / PROBE) if (workdir / PROBE).exists() else {},
        rows=thinned(rows),
    )


def from_log(path: pathlib.Path) -> Record:
    """The record of a committed log. Raises UserError if the file is not one."""
    try:
        head, *rows = [json.loads(line) for line in path.read_text().splitlines()]
        return Record(**head, rows=rows)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: is not a log of a run ({error})") from None


def thinned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most ROWS of the rows, evenly spaced, including the first and the last."""
    if len(rows) <= ROWS:
        return rows
    return [rows[round(i * (len(rows) - 1) / (ROWS - 1))] for i in range(ROWS)]


def digest(records: Iterable[Record]) -> str:
    """sha256 over all logs."""
    whole = hashlib.sha256()
    for record in sorted(records, key=lambda record: record.file):
        whole.update(record.text().encode())
    return whole.hexdigest()


def _object(path: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
