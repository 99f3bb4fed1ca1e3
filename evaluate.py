"""Tests trained networks with the papers' protocols: error, interval, loss and cost.

    python evaluate.py --workdir=runs/lenet5_digits --protocol=ten_crop
    python evaluate.py --workdir=runs/a --workdir=runs/b --protocol=crop_144     (an ensemble)
    python evaluate.py --workdir=runs/a --workdir=runs/b --ensembles             (the first 1, 2)
    python evaluate.py --workdir=runs/lenet5_digits --protocol=plain --report    (its mistakes)

A protocol is NAME[:option=value,...]; sides are in the papers' pixels, for a 224 × 224 network:
`center:side=256,crop=320`, `dense:sides=256+384+512,flip=0`. `all` runs every protocol that the
networks support. Results are printed and written, with everything they depend on, to the first
workdir: <workdir>/evaluations/<protocol>_<split>_<step>.json. --report also writes a page of what
was confused with what.

In order: load the networks, plan (finds bad input before the first pass), run, report.
"""

from startup import shell

if __name__ == "__main__":
    shell.attach()  # before the slow imports, so that Ctrl-C during them prints one line, too

from absl import flags

from startup import command_line

if __name__ == "__main__":
    flags.DEFINE_multi_string("workdir", None, "Folder of a run; several make an ensemble.")
    flags.DEFINE_string("step", "last", "The checkpoint: last, best (by validation), or N.")
    flags.DEFINE_multi_string(
        "protocol",
        ["center"],
        "plain, flip, center, ten_crop, grid_crop, dense, multi_scale, multi_crop_and_dense, "
        "crop_144, or all; may be given several times.",
    )
    flags.DEFINE_string("data", None, "Another data set of the same classes.")
    flags.DEFINE_string("split", "test", "test, validation or train.")
    flags.DEFINE_string(
        "data_dir", None, "Folder of prepared data; else TFDS_DATA_DIR, else TFDS's own default."
    )
    flags.DEFINE_integer(
        "batch_size", None, "Images at a time, by default config.eval.batch_size.", 1
    )
    flags.DEFINE_bool("ensembles", False, "Also test the first workdir, the first two, and so on.")
    flags.DEFINE_bool("published", False, "Also print the papers' results.")
    flags.DEFINE_string(
        "publish",
        None,
        "Also write the table as PUBLISH.md and PUBLISH.json, in a folder that exists.",
    )
    command_line.define_file(
        "report",
        "Also write a page with the confusions, the worst mistakes, errors by class and "
        "calibration; by default <workdir>/evaluations/report_<split>_<step>.html.",
    )
    command_line.parse()  # before jax is imported, so that mistakes are reported at once

import dataclasses
import pathlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import data
import sharding
from data.loader import Loader
from display import Progress
from errors import UserError
from protocols import error_tables, mistakes_page, registry, score_average, scoring
from protocols.predictions import Predictor
from protocols.registry import Protocol
from protocols.scoring import Answers
from startup import environment
from training import trained, workdirs
from training.data_record import class_changes

FOLDER = "evaluations"
ALL = "all"


def main() -> None:
    """Evaluates the networks that the flags name and prints the tables."""
    given = flags.FLAGS
    if not given.workdir:
        raise UserError("--workdir is missing; see --help")
    step = trained.step_named(given.step)
    if given.publish:
        error_tables.check_stem(pathlib.Path(given.publish))
    if given.report:
        command_line.check_output("--report", given.report, (".html",))
    reports = evaluate(
        given.workdir,
        given.protocol,
        step=step,
        data_name=given.data,
        split=given.split,
        data_dir=given.data_dir,
        batch_size=given.batch_size,
        ensembles=given.ensembles,
        page=given.report,
    )
    print(f"\n{error_tables.summary(reports)}")
    if len(reports) == 1:
        print(f"\n{error_tables.details(reports[0])}")
    if given.published:
        print(f"\n{error_tables.beside_published(reports)}")
    if given.publish:
        error_tables.publish(reports, pathlib.Path(given.publish))


def evaluate(
    folders: Sequence[str | pathlib.Path],
    protocols: Sequence[str],
    *,
    step: int | str = "last",
    data_name: str | None = None,
    split: str = "test",
    data_dir: str | None = None,
    batch_size: int | None = None,
    ensembles: bool = False,
    page: str | None = None,
) -> list[dict[str, Any]]:
    """Tests the runs in `folders` with each protocol; several runs form an ensemble.

    ensembles: also test the first run, the first two, and so on. page: also write a page of the
    mistakes there, at "" in evaluations/. Returns one dict per protocol and ensemble, as written to
    evaluations/. Raises UserError for bad input.
    """
    # The networks, on all devices of this process.
    mesh = sharding.create_mesh()
    loaded = []
    for folder in folders:
        # Loaded on one device: the training batch size may not be divisible by the device count.
        single = sharding.create_mesh(list(mesh.devices.flat[:1]))
        loaded.append(trained.load(folder, step=step, mesh=single))
    images = open_images(loaded, folders, data_name, split, data_dir)
    batch = min(batch_size or max(run.config.eval.batch_size for run in loaded), len(images))
    members = [Predictor(run, mesh, batch) for run in loaded]

    # The protocols; all are traced before the first one runs.
    plans = []
    for text in protocols:
        for name in registry.KINDS if text == ALL else (text,):
            try:
                plans.append(plan(members, name, images))
            except UserError as error:
                if text != ALL:
                    raise
                print(f"left out: {error}")

    written = pathlib.Path(folders[0]) / FOLDER
    workdirs.require_writable(written)  # now, not after the passes
    reports, sections = [], []
    stored = images.shape[:2] if images.shape else None
    for each in plans:
        for count, answers, multiply_adds, clock in run(members, each, images, batch, ensembles):
            report = {
                "protocol": each[0].label,
                "source": each[0].source,
                "data": images.name,
                "split": split,
                "networks": [
                    {
                        "workdir": str(folder),
                        "network": member.name,
                        "trained_on": member.trained.config.data.name,
                        "seed": member.trained.config.seed,
                        "step": member.trained.step,
                        "chosen": trained.CHOSEN.get(str(step), "named by the user"),
                        "input": list(member.network.input),
                    }
                    for folder, member in zip(folders[:count], members[:count], strict=True)
                ],
                "members": count,
                "average": each[0].average,
                "views": sum(len(protocol.views((256, 256))) for protocol in each[:count]),
                # Depends on the image if their sizes vary.
                "distinct_views": sum(len(protocol.distinct(stored)) for protocol in each[:count])
                if stored
                else None,
                "multiply_adds": multiply_adds,
                **scoring.report(answers, images.class_names),
                "damaged": len(images.damaged),
                "clock": clock,
                "environment": environment.describe(),
            }
            path = written / report_name(report, data_name)
            workdirs.write_json(path, report)
            print(path)
            reports.append(report)
            if page is not None:
                sections.append(
                    mistakes_page.section(report, answers, images.class_names, images.tested)
                )

    if page is not None:
        named = report_name({**reports[-1], "protocol": "report"}, data_name)
        path = pathlib.Path(page) if page else (written / named).with_suffix(".html")
        mistakes_page.write(path, sections, f"{images.name}, {split}")
        print(path)
    return reports


@dataclasses.dataclass
class Images:
    """The images of a split, in source order. damaged: rows that were unreadable and left out."""

    name: str
    loader: Loader
    class_names: Sequence[str]
    shape: tuple[int, int, int] | None
    damaged: set[int] = dataclasses.field(default_factory=set)

    def __len__(self) -> int:
        return self.loader.count

    def tested(self, place: int) -> np.ndarray:
        """The stored image, uint8 [H, W, C], at a place among those that `batches` gave."""
        rows = np.setdiff1d(np.arange(len(self)), list(self.damaged))
        example = self.loader.read(int(rows[place]))
        assert example is not None  # as it was for `batches`
        return example["image"]

    def batches(self, size: int) -> Iterator[tuple[Any, np.ndarray]]:
        """Stored images and labels, up to `size` at a time; the next batch is read in a thread.

        Images are one array [N, H, W, C] if all images of the set have one shape, else a list.
        """
        with ThreadPoolExecutor(1) as reader:
            starts = range(0, len(self), size)
            ahead = reader.submit(self._read, 0, size)
            for start in starts:
                batch = ahead.result()
                ahead = reader.submit(self._read, start + size, size)
                if batch[1].size:
                    yield batch

    def _read(self, start: int, size: int) -> tuple[Any, np.ndarray]:
        rows = range(start, min(start + size, len(self)))
        read = {row: self.loader.read(row) for row in rows}
        examples = [example for example in read.values() if example is not None]
        self.damaged.update(row for row, example in read.items() if example is None)
        images = [example["image"] for example in examples]
        labels = np.asarray([example["label"] for example in examples], np.int64)
        return (np.stack(images) if self.shape and images else images), labels


def open_images(
    loaded: Sequence[trained.Trained],
    folders: Sequence[str | pathlib.Path],
    data_name: str | None,
    split: str,
    data_dir: str | None,
) -> Images:
    """The images to test on: those of --data, by default of the runs' data set.

    Raises UserError if the networks were trained on other classes or the split does not exist.
    """
    fields = loaded[0].config.data
    for run, folder in zip(loaded, folders, strict=True):
        if run.config.data.name != fields.name and not data_name:
            raise UserError(
                f"{folder}: trained on {run.config.data.name}, {folders[0]} on {fields.name}; "
                "name the data set to test both on with --data"
            )
    name = data_name or fields.name
    entry = data.dataset(name)
    for run, folder in zip(loaded, folders, strict=True):
        own = run.record.dataset
        if differing := class_changes(own, entry):
            raise UserError(
                f"{folder}: its network was trained on the {own.classes} classes of {own.name}, "
                f"not the {entry.classes} of {name}: {'; '.join(differing)}"
            )
    own_split = {"name": fields.name, "validation": fields.validation}
    examples = dict(entry.splits)
    if not data_name:
        examples = dict(loaded[0].record.examples) | {"test": entry.splits["test"]}
    if split not in examples:
        raise UserError(f"--split={split}: {name} has no such part; valid: {', '.join(examples)}")
    if split != "test" and not data_name:
        for run, folder in zip(loaded, folders, strict=True):
            other = {"name": run.config.data.name, "validation": run.config.data.validation}
            if other != own_split:
                raise UserError(
                    f"--split={split}: {folder} and {folders[0]} split their training images "
                    "differently; evaluate them one at a time or use --split=test"
                )
        before, now = loaded[0].record.dataset.splits["train"], entry.splits["train"]
        if before != now:
            raise UserError(
                f"--split={split}: {name} had {before:,} training images when {folders[0]} was "
                f"trained and has {now:,} now, so its {split} part is unknown; use --split=test"
            )
    source = data.open_split(name, "test" if split == "test" else "train", data_dir)
    # As in training: the validation part is the end of the stored images.
    start = entry.splits["train"] - examples[split] if split == "validation" else 0
    loader = Loader(source, start, examples[split], fields.on_damage == "skip")
    names = entry.class_names or tuple(map(str, range(entry.classes)))
    return Images(name, loader, names, entry.shape)


Plan = tuple[Protocol, ...]


def plan(members: Sequence[Predictor], text: str, images: Images) -> Plan:
    """The protocol at each member's input size, traced for the stored size (256 if it varies)."""
    protocols = tuple(member.protocol(text) for member in members)
    height, width = images.shape[:2] if images.shape else (256, 256)
    for member, protocol in zip(members, protocols, strict=True):
        member.multiply_adds(protocol, (height, width))
    return protocols


def run(
    members: Sequence[Predictor],
    protocols: Plan,
    images: Images,
    batch: int,
    ensembles: bool = False,
) -> list[tuple[int, Answers, float, dict[str, float]]]:
    """One pass over the images.

    Returns, for all members (ensembles: also for the first one, the first two, and so on), their
    number, the answers, multiply-adds per image and timings.
    """
    compiled_before = [member.compile_seconds for member in members]
    began = time.monotonic()
    sizes_of_ensembles = range(1 if ensembles else len(members), len(members) + 1)
    parts: dict[int, list[Answers]] = {count: [] for count in sizes_of_ensembles}
    costs, seconds = [0] * len(members), [0.0] * len(members)
    largest = images.shape[:2] if images.shape else (256, 341)
    views = sum(len(protocol.distinct(largest)) for protocol in protocols)
    total = -(-len(images) // batch) * views
    with Progress(total=total, label=protocols[0].label, unit="views", brief=True) as display:
        for stored, labels in images.batches(batch):
            posteriors = []
            sizes = Counter((image.shape[0], image.shape[1]) for image in stored)
            for place, (member, protocol) in enumerate(zip(members, protocols, strict=True)):
                before = time.monotonic()
                posteriors.append(member.predict(stored, protocol, display.advance))
                seconds[place] += time.monotonic() - before
                costs[place] += sum(
                    times * member.multiply_adds(protocol, size) for size, times in sizes.items()
                )
            for count, answered in parts.items():
                answered.append(Answers.of(score_average.over_models(posteriors[:count]), labels))
    if not parts[len(members)]:
        raise UserError(f"{images.name}: every image of the split is damaged")
    whole = time.monotonic() - began
    compiling = [
        member.compile_seconds - before
        for member, before in zip(members, compiled_before, strict=True)
    ]
    seconds = [spent - compiled for spent, compiled in zip(seconds, compiling, strict=True)]
    found = []
    for count, answered in parts.items():
        answers = Answers.joined(answered)
        images_read = len(answers.label)
        # Reading images is shared out by the members' own time.
        took = (whole - sum(compiling)) * sum(seconds[:count]) / sum(seconds)
        clock = {
            "seconds": took,
            "compile_seconds": sum(compiling[:count]),
            "images_per_s": images_read / took,
        }
        found.append((count, answers, sum(costs[:count]) / images_read, clock))
    return found


def report_name(report: dict[str, Any], data_name: str | None) -> str:
    """<protocol>_<split>_<step>.json, with a prefix for ensembles and for other data sets."""
    networks = report["networks"]
    protocol = report["protocol"].replace(":", "-")
    if len(networks) > 1:
        protocol = f"ensemble_{protocol}"
    split = report["split"]
    if data_name:
        split = f"{''.join(c if c.isalnum() else '-' for c in data_name)}-{split}"
    steps = "+".join(str(network["step"]) for network in networks)
    return f"{protocol}_{split}_{steps}.json"


if __name__ == "__main__":
    command_line.run(main)
