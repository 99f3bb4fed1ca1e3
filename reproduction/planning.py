"""A study's runs as jobs: their workdirs, what is done, and how long the rest takes."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from display import duration
from errors import UserError
from reproduction import records, status
from reproduction.records import Record
from reproduction.study import Run, Study
from startup import environment
from training import metrics, starting_weights
from training.progress import table

TRUST = 60.0  # seconds of work at which measured pace and estimates have equal weight


@dataclasses.dataclass(frozen=True)
class Job:
    """One run with one seed, and its workdir, which is named after its fingerprint.

    Results of another config, jax or RESULTS_VERSION therefore have another workdir. identity: the
    config that the fingerprint is of: plain, and with starting weights by name, not by path.
    source: the job whose weights it starts from. beside: the jobs whose workdirs its probe reads.
    """

    run: Run
    seed: int
    config: Any
    study: Study
    workdir: pathlib.Path
    identity: dict[str, Any]
    source: "Job | None" = None
    beside: "tuple[Job, ...]" = ()

    @property
    def needs(self) -> "tuple[Job, ...]":
        """The jobs that must be finished before this one."""
        return self.beside if self.source is None else (self.source, *self.beside)

    @property
    def name(self) -> str:
        """For printing: "plain-56, seed 0"."""
        return f"{self.run.label}, seed {self.seed}"

    @property
    def seconds(self) -> float:
        """The estimated time; TRUST if there is no estimate."""
        return self.run.seconds or TRUST

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return records.is_finished(self.workdir, probed=self.study.probe is not None)

    @property
    def state(self) -> str:
        """ "done", "cut off" or "to run", and the number of results with other settings."""
        state = "done" if self.finished else "cut off" if self.rows else "to run"
        if state == "to run" and self.elsewhere is not None:
            state = f"done in {self.elsewhere.parents[2].name}"
        others = [
            folder
            for folder in self.workdir.parent.glob(f"seed{self.seed}-*")
            if folder != self.workdir and (folder / "result.json").exists()
        ]
        if others and not self.finished:
            reasons = sorted({_difference(folder, self.identity) for folder in others})
            state += f" (left aside: {len(others)} of {', '.join(reasons)})"
        return state

    @property
    def elsewhere(self) -> pathlib.Path | None:
        """The finished workdir of the same run in another study, if there is one.

        Folders are <study>/<data>/<label>/seed<n>-<fingerprint>. None for a run that starts from
        another: its config has that one's path.
        """
        if self.source is not None:
            return None
        studies = self.workdir.parents[3]
        if self.study.name != self.workdir.parents[2].name:
            return None  # --out is another folder, with an unknown layout around it
        found = sorted(studies.glob(f"*/*/*/{self.workdir.name}/result.json"))
        return next((path.parent for path in found if path.parent != self.workdir), None)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows logged so far."""
        try:
            return metrics.read(self.workdir)
        except UserError:
            return []  # the last line is incomplete; the run repairs it when it resumes

    @property
    def share_left(self) -> float:
        """The fraction of the run's time that is left; 0.1 if a finished run can be copied."""
        if self.finished:
            return 0.0
        if rows := self.rows:
            return 1 - rows[-1]["step"] / status.steps(self.config, rows[-1])
        return 0.1 if self.elsewhere is not None else 1.0

    def record(self) -> Record:
        """The record of the finished run."""
        command = self.run.command(self.seed, self.run.place(self.run.label, self.seed))
        return records.from_workdir(
            self.workdir, label=self.run.label, seed=self.seed, command=command
        )


def jobs(study: Study, data: str, seeds: Sequence[int], folder: pathlib.Path) -> list[Job]:
    """All runs of a study on a data set, seed by seed; a run after those that it needs."""
    made: list[Job] = []
    for seed in seeds:
        of_seed: dict[str, Job] = {}
        for run in study.scale(data).runs:
            if run.seeds is not None and seed >= run.seeds:
                continue
            config = run.resolve(seed)
            identity = plain(config)
            source = of_seed[run.starts_from] if run.starts_from else None
            if source is not None:
                with config.unlocked():
                    config.init["from"] = str(source.workdir.absolute())
                label = records.slug(source.run.label)
                identity["init"]["from"] = f"{label}/{source.workdir.name}"
            elif config.init["from"]:
                digest = digest_of(config.init["from"], config.init.step)
                identity["init"]["from"] = f"{config.init['from']} (sha256 {digest})"
            mark = records.fingerprint(identity, cores=pinned_cores())
            workdir = folder / records.slug(run.label) / f"seed{seed}-{mark}"
            beside = tuple(of_seed[label] for label in run.beside)
            of_seed[run.label] = Job(run, seed, config, study, workdir, identity, source, beside)
        made += of_seed.values()
    return made


@functools.cache
def digest_of(workdir: str, step: str) -> str:
    """The sha256 of the weights at a step of a workdir, read once a process."""
    init = ConfigDict({"from": workdir, "step": step})
    return starting_weights.sha256(starting_weights.load(init).variables)


def with_needed(chosen: Sequence[Job]) -> list[Job]:
    """The chosen jobs and those that they need, each after its own."""
    needed: dict[pathlib.Path, Job] = {}

    def add(job: Job) -> None:
        for other in job.needs:
            add(other)
        needed.setdefault(job.workdir, job)

    for job in chosen:
        add(job)
    return list(needed.values())


def plan(todo: Sequence[Job], jobs: Sequence[Job], at_once: int = 1) -> str:
    """A table of the runs and an estimate of the time left with `at_once` runs at a time.

    The estimates are scaled by the time the finished runs took on this machine.
    """
    pace = _pace([job for job in jobs if job.finished])
    rows = [("run", "seed", "state", "estimate")]
    for job in jobs:
        left = pace * job.run.seconds * job.share_left
        rows.append((job.run.label, str(job.seed), job.state, duration(left) if left else ""))
    each = [pace * job.run.seconds * job.share_left for job in todo]
    seconds = max([sum(each) / at_once, *each], default=0.0)
    by = "at the pace of the runs done here" if pace != 1 else "on the hardware of the estimates"
    total = f", about {duration(seconds)} {by}, {at_once} at once" if seconds else ""
    return f"{table(rows)}\n{len(todo)} of {len(jobs)} runs to do{total}"


def _pace(finished: Sequence[Job]) -> float:
    """The ratio of the runs' times to their estimates; 1 if there are none."""
    known = [(job.rows[-1]["clock"]["seconds"], job.run.seconds) for job in finished if job.rows]
    known = [(took, estimate) for took, estimate in known if estimate]
    return sum(took for took, _ in known) / sum(one for _, one in known) if known else 1.0


def pinned_cores() -> int | None:
    """The number of cores a run is pinned to; None on an accelerator."""
    return None if environment.accelerated() else records.CORES


def plain(config: Any) -> dict[str, Any]:
    """A config as it is read back from config.json, where tuples are lists."""
    return json.loads(json.dumps(config.to_dict()))


def _difference(folder: pathlib.Path, config: dict[str, Any]) -> str:
    """Why a finished run in another folder does not count."""
    try:
        made_of = json.loads((folder / records.STAMP).read_text())
    except (OSError, json.JSONDecodeError):
        return "unknown settings"
    if made_of["results_version"] != records.RESULTS_VERSION:
        return f"results version {made_of['results_version']}"
    now = records.stamp(config, jax.__version__, records.RESULTS_VERSION, pinned_cores())
    if made_of["jax"] != now["jax"]:
        return f"jax {made_of['jax']}"
    return "another device" if made_of.get("cores") != now.get("cores") else "another config"
