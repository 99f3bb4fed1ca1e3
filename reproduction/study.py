"""What a study is: labelled runs, what is read off them, and what must hold. Data only.

A study speaks for one figure or table of a paper. Its file in this package fills in a `Study`;
everything else here (running, verdicts, tables, pages) knows the dataclasses of this file and no
particular study. May import errors and the configs it names; trains nothing.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from ml_collections import ConfigDict

from configs import files
from errors import UserError
from reproduction.records import Record

ROOT = pathlib.Path(__file__).parent.parent

Records = Mapping[str, Mapping[int, Record]]  # by label, then by seed
Number = Callable[[Record], float | None]  # what is read off one run; None where it has none


@dataclasses.dataclass(frozen=True)
class Run:
    """One labelled curve: a config, what it overrides, and the time of one seed.

    config: as --config takes it, e.g. "configs/resnet_cifar.py:depth=56,shortcut=none".
    overrides: by dotted field; new fields may be added under "model." alone.
    seconds: of one seed on two idle CPU cores (a GPU at paper scale), measured or scaled from that;
    0 where nobody knows.
    """

    label: str
    config: str
    seconds: float
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def resolve(self, seed: int) -> ConfigDict:
        """The locked config of one seed. Raises UserError for an override it does not have."""
        try:
            return files.resolve(self.config, {**self.overrides, "seed": seed}, ROOT)
        except UserError as error:
            raise UserError(f"{self.label}: {error}") from None

    def command(self, seed: int, workdir: str) -> str:
        """The command line that trains the same."""
        return (
            f"python train.py --config={self.config}{as_flags(self.overrides)} "
            f"--config.seed={seed} "
            f"--workdir={workdir}"
        )


def variants(
    config: str, seconds: float, fields: Mapping[str, Mapping[str, Any]], **overrides: Any
) -> tuple[Run, ...]:
    """Runs of one config that differ in the fields given by label; `overrides` are for all."""
    return tuple(Run(label, config, seconds, {**overrides, **own}) for label, own in fields.items())


@dataclasses.dataclass(frozen=True)
class Scale:
    """The runs of a study on one data set.

    seeds: how many are run unless --seeds says otherwise. papers_data: whether the paper's own
    numbers were measured on this data set. note: the scale in words, for the table.
    """

    runs: tuple[Run, ...]
    seeds: int
    note: str
    papers_data: bool = False


@dataclasses.dataclass(frozen=True)
class Claim:
    """What must hold: in each seed, `gap` is above zero where the paper is right.

    text: the claim as one sentence. gap: from one seed's records by label, in `unit`; raises
    KeyError where a run it needs is missing. on: the data sets it is judged on, all if empty; never
    one whose scale lacks any of `runs`.
    """

    text: str
    gap: Callable[[Mapping[str, Record]], float | None]
    unit: str = "points"
    on: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()


def less_error(better: str, worse: str, metric: str = "test_error", text: str = "") -> Claim:
    """The claim that the run labelled `better` ends with less error than the one `worse`.

    metric: "test_error" or "train_error". text: where labels make no good sentence.
    """
    what = {"train_error": "training", "test_error": "test"}[metric]

    def gap(seed: Mapping[str, Record]) -> float:
        return 100 * (seed[worse].last(metric) - seed[better].last(metric))

    text = text or f"less {what} error with “{better}” than with “{worse}”"
    return Claim(text, gap, runs=(better, worse))


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of the table: mean ± sd over seeds of `value`, `factor` times.

    missing: what stands where no seed has a value.
    """

    heading: str
    value: Number
    digits: int = 1
    factor: float = 1.0  # 100 makes a fraction percent
    missing: str = ""
    spread: bool = True  # False for what the config decides, the same for all seeds


@dataclasses.dataclass(frozen=True)
class Study:
    """A figure or table of a paper, to be drawn again.

    name: as on the command line. paper, figure: what it redraws. question: what a reader learns.
    claims: judged by verdict.judge. columns: besides final and best errors. published: printed
    values by label; `published_heading` says of what. draw: the figure from all records. probe:
    what is measured once on a trained network, given the run's workdir and data_dir; JSON-able.
    command: what runs it, where that is not reproduce.py with its name.
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
    probe: Callable[[pathlib.Path, str | None], dict[str, Any]] | None = None
    command: str = ""

    def scale(self, data: str) -> Scale:
        """The runs on a data set. Raises UserError that lists the valid ones."""
        if data not in self.scales:
            raise UserError(
                f"--data: {self.name} has no runs on {data!r}; it has: {', '.join(self.scales)}"
            )
        return self.scales[data]

    def claims_on(self, data: str) -> tuple[Claim, ...]:
        """The claims about runs that there are on a data set."""
        labels = {run.label for run in self.scale(data).runs}
        return tuple(claim for claim in self.claims if labels.issuperset(claim.runs))


def by_label(records: Sequence[Record], runs: Sequence[Run]) -> Records:
    """Records ordered as the study's runs are, seeds ascending; labels it lacks are left out."""
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
    """All seeds that any label has, ascending."""
    return sorted({seed for seeds in records.values() for seed in seeds})


def as_flags(overrides: Mapping[str, Any]) -> str:
    """Overrides by dotted field as words of a command line, a space before each."""
    return "".join(f" --config.{name}={_quoted(value)}" for name, value in overrides.items())


def _quoted(value: Any) -> str:
    text = str(value)
    plain = all(letter.isalnum() or letter in "._-" for letter in text)
    return text if text and plain else f"'{text}'"
