"""The dataclasses of a study: labelled runs, numbers read off them, and claims about them.

A study reproduces one figure or table of a paper; its file in studies/ fills in a `Study`.
"""

import dataclasses
import pathlib
import shlex
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from configs import files
from errors import UserError
from reproduction.inference import MORE
from reproduction.records import Record, slug

OURS = "ours"  # the source of a claim that is not from a paper
STALLS = "stalls"

ROOT = pathlib.Path(__file__).parent.parent

Records = Mapping[str, Mapping[int, Record]]  # by label, then by seed
Number = Callable[[Record], float | None]  # a number of one run; None if the run has none


@dataclasses.dataclass(frozen=True)
class Run:
    """A labelled run: a config, overrides, and the time one seed takes.

    config: as for --config, e.g. "configs/resnet_cifar.py:depth=56,shortcut=none".
    overrides: by dotted field; new fields may be added only under "model.".
    seconds: of one seed on two idle CPU cores (one GPU where Scale.gpu), measured or scaled from a
    measurement; 0 if unknown. seeds: made only with seeds below this; None: with all that are asked
    for. starts_from: the label of an earlier run of the study, of the same seed, whose weights it
    starts from (config.init.from); "": none. offset: added to the seed in its config, for networks
    of one seed that differ in their own. beside: the labels of earlier runs of the same seed, whose
    workdirs are given to its probe.
    """

    label: str
    config: str
    seconds: float
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seeds: int | None = None
    starts_from: str = ""
    offset: int = 0
    beside: tuple[str, ...] = ()

    def resolve(self, seed: int) -> ConfigDict:
        """The locked config of one seed. Raises UserError if an overridden field does not exist."""
        try:
            overrides = {**self.overrides, "seed": seed + self.offset}
            return files.resolve(self.config, overrides, ROOT)
        except UserError as error:
            raise UserError(f"{self.label}: {error}") from None

    def command(self, seed: int, workdir: str) -> str:
        """The command line that trains this run."""
        start = {"init.from": self.place(self.starts_from, seed)} if self.starts_from else {}
        return (
            f"python train.py --config={self.config}{as_flags({**self.overrides, **start})} "
            f"--config.seed={seed + self.offset} "
            f"--workdir={workdir}"
        )

    @staticmethod
    def place(label: str, seed: int) -> str:
        """The workdir of a run in printed commands."""
        return f"runs/{slug(label)}_{seed}"


def variants(
    config: str, seconds: float, fields: Mapping[str, Mapping[str, Any]], **overrides: Any
) -> tuple[Run, ...]:
    """Runs of one config, one per label in `fields`; `overrides` apply to all of them."""
    return tuple(Run(label, config, seconds, {**overrides, **own}) for label, own in fields.items())


@dataclasses.dataclass(frozen=True)
class Scale:
    """The runs of a study on one data set.

    seeds: how many are run by default. note: a description for the table. papers_data: whether the
    paper's numbers were measured on this data set; its estimates are then for a GPU, too. gpu:
    whether the estimates of other data are. data_set: its name, if it is not the scale's.
    """

    runs: tuple[Run, ...]
    seeds: int
    note: str
    papers_data: bool = False
    gpu: bool = False
    data_set: str = ""


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim about runs, written before they are run and judged by verdict.judge.

    text: the claim as one sentence. gap: computed from one seed's records by label, in `unit`; None
    if the seed has no value. runs: the labels it is about; seeds without all of them are left out.
    source: section, figure or table of the paper, or OURS. margin: the smallest gap that matters,
    in `unit`, or a function of the judged seeds' records. kind: MORE (the gap is above zero),
    NO_WORSE (above -margin), LEVEL (within the margin) or STALLS (the first of the runs stalls more
    often than the second; no gap). on: the data sets it is judged on; if empty, all that have its
    runs. test_errors: the better and the worse run, if the gap is that of their test errors in
    points. mistakes: the test images that the better and the worse get wrong, bool [images] each,
    from one seed's records, if the gap is that of other test errors. without_stalls: whether to
    leave out seeds in which one of the runs stalled.
    """

    text: str
    gap: Callable[[Mapping[str, Record]], float | None]
    runs: tuple[str, ...]
    source: str
    margin: float | Callable[[Sequence[Mapping[str, Record]]], float]
    kind: str = MORE
    unit: str = "points"
    on: tuple[str, ...] = ()
    test_errors: tuple[str, str] | None = None
    mistakes: Callable[[Mapping[str, Record]], tuple[np.ndarray, np.ndarray]] | None = None
    without_stalls: bool = True

    def margin_on(self, seeds: Sequence[Mapping[str, Record]]) -> float:
        """The margin in `unit` on the data of these seeds."""
        return self.margin(seeds) if callable(self.margin) else self.margin

    def wrong(self, seed: Mapping[str, Record]) -> tuple[np.ndarray, np.ndarray] | None:
        """The better's and the worse's mistakes; None if the gap is not one of test errors, or a
        log has no list of them.
        """
        if self.mistakes is not None:
            return self.mistakes(seed)
        if self.test_errors is None:
            return None
        better, worse = (seed[label].wrong_images() for label in self.test_errors)
        return None if better is None or worse is None else (better, worse)


def less_error(
    better: str,
    worse: str,
    metric: str = "test_error",
    text: str = "",
    *,
    source: str = OURS,
    printed: tuple[float, float] | None = None,
    margin: float = 1.0,
    kind: str = MORE,
) -> Claim:
    """The claim that the run labelled `better` ends with less error than the run `worse`.

    metric: "test_error" or "train_error". text: by default made from the labels. printed: the
    paper's errors of the two; if given, half of their relative gap replaces `margin`.
    """
    what = {"train_error": "training", "test_error": "test"}[metric]

    def gap(seed: Mapping[str, Record]) -> float:
        return 100 * (seed[worse].last(metric) - seed[better].last(metric))

    return Claim(
        text or f"less {what} error with “{better}” than with “{worse}”",
        gap,
        runs=(better, worse),
        source=source,
        margin=half_of_printed(*printed, worse, metric) if printed else margin,
        kind=kind,
        test_errors=(better, worse) if metric == "test_error" else None,
    )


def half_of_printed(
    better: float, worse: float, label: str, metric: str = "test_error"
) -> Callable[[Sequence[Mapping[str, Record]]], float]:
    """A margin: half the relative gap of two printed errors, times the error of `label` here."""
    share = (worse - better) / worse / 2

    def margin(seeds: Sequence[Mapping[str, Record]]) -> float:
        return share * 100 * statistics.mean(seed[label].last(metric) for seed in seeds)

    return margin


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of the table: mean ± sd over seeds of `value` times `factor`.

    missing: the text if no seed has a value.
    """

    heading: str
    value: Number
    digits: int = 1
    factor: float = 1.0  # 100 makes a fraction percent
    missing: str = ""
    spread: bool = True  # False if the value depends only on the config, not on the seed


@dataclasses.dataclass(frozen=True)
class Study:
    """A figure or table of a paper to be reproduced.

    name: as on the command line. paper, figure: its source. question: the question it answers.
    columns: in addition to final and best errors. published: printed values by label;
    published_heading: the heading of their column. draw: draws the figure from all records. probe:
    takes a run's workdir, data_dir and the workdirs of `Run.beside`, and returns JSON-serializable
    measurements on the trained network. command: the command that runs it, if not reproduce.py with
    its name.
    """

    name: str
    title: str
    paper: str
    figure: str
    question: str
    scales: Mapping[str, Scale]
    claims: tuple[Claim, ...]
    draw: Callable[["Study", str, Records], Figure]
    columns: tuple[Column, ...] = ()
    published: Mapping[str, str] = dataclasses.field(default_factory=dict)
    published_heading: str = "published"
    probe: Callable[..., dict[str, Any]] | None = None
    command: str = ""

    def scale(self, data: str) -> Scale:
        """The scale for a data set. Raises UserError if there is none."""
        if data not in self.scales:
            raise UserError(
                f"--data: {self.name} has no runs on {data!r}; it has: {', '.join(self.scales)}"
            )
        return self.scales[data]

    def claims_on(self, data: str) -> tuple[Claim, ...]:
        """The claims whose runs all exist on a data set."""
        labels = {run.label for run in self.scale(data).runs}
        return tuple(claim for claim in self.claims if labels.issuperset(claim.runs))


def by_label(records: Sequence[Record], runs: Sequence[Run]) -> Records:
    """Records by label and seed, in the order of `runs`; labels without records are left out."""
    ordered: dict[str, dict[int, Record]] = {}
    for run in runs:
        mine = sorted(
            (record for record in records if record.label == run.label),
            key=lambda record: record.seed,
        )
        if mine:
            ordered[run.label] = {record.seed: record for record in mine}
    return ordered


def of_seed(records: Records, seed: int) -> dict[str, Record]:
    """One seed's records by label."""
    return {label: seeds[seed] for label, seeds in records.items() if seed in seeds}


def seeds_of(records: Records) -> list[int]:
    """All seeds of any label, ascending."""
    return sorted({seed for seeds in records.values() for seed in seeds})


def as_flags(overrides: Mapping[str, Any]) -> str:
    """Overrides as flags of a command line, each with a leading space."""
    return "".join(f" --config.{name}={_quoted(value)}" for name, value in overrides.items())


def _quoted(value: Any) -> str:
    text = str(value)
    plain = all(letter.isalnum() or letter in "._-" for letter in text)
    if text and plain:
        return text
    # A tuple of strings contains single quotes; double ones are easier to read than shlex's.
    return f'"{text}"' if "'" in text and not set(text) & set('"$`\\!') else shlex.quote(text)
