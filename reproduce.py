"""Reproduces a paper's figure or table: trains the missing runs, then draws them beside the paper.

    python reproduce.py --list
    python reproduce.py degradation --data=digits --seeds=0,1 [--publish]
    python reproduce.py degradation --runs='plain-*' --runs=ResNet-56
    python reproduce.py --config=configs/relu_vs_tanh.py
    python reproduce.py --redraw | --report | --check
    python reproduce.py --curves runs/a runs/b
    python reproduce.py --compare runs/a runs/b --html=page.html
    python reproduce.py --status

A study writes its runs, figure.png and table.md to runs/studies/<study>/<data>/; the sweep() of a
config file writes to runs/sweeps/. Finished runs are skipped, interrupted runs resume, and a failed
run does not stop the others. On CPU each run is a process on one core, so that its numbers do not
depend on --jobs, the number of runs at once (default: one per core). On an accelerator the default
is one at a time; with more, runs take its memory as they need it. --plan prints an estimate of the
time left, based on the runs done so far.
--launcher=slurm gives the runs to SLURM, --jobs of them at once, and gathers what is done; started
again it finds them there (docs/how_to_clusters.md).
Exit status: 0; 1 if a run or a check failed; 2 for bad input; 75 if it was stopped by a signal.
"""

from startup import shell

if __name__ == "__main__":
    shell.attach()  # before the slow imports, so that Ctrl-C during them prints one line, too

from absl import flags

from startup import command_line

if __name__ == "__main__":
    command_line.define_config("A config file whose sweep() is run.")
    flags.DEFINE_string("study", None, "The study; may be given without --study=.")
    flags.DEFINE_string("data", None, "Data set, one that the study has runs for; see --list.")
    flags.DEFINE_list("seeds", None, "Seeds to run, e.g. 0,1; by default the study's own number.")
    flags.DEFINE_multi_string(
        "runs", None, "Run only labels that match this shell pattern; may be repeated."
    )
    flags.DEFINE_string(
        "out",
        None,
        "Working folder, by default runs/studies/<study>/<data>; with --curves the picture's path; "
        "with --status the folder to look in, by default runs.",
    )
    flags.DEFINE_string(
        "data_dir", None, "Folder of prepared data; default TFDS_DATA_DIR, then TFDS's default."
    )
    flags.DEFINE_integer(
        "jobs", None, "Number of runs at once; by default one per core.", lower_bound=1
    )
    flags.DEFINE_enum(
        "launcher",
        None,
        ["slurm", "local", "debug"],
        "A queue that trains the runs; docs/how_to_clusters.md.",
    )
    flags.DEFINE_multi_string(
        "queue", None, "Option of the launcher's jobs, e.g. partition=gpu; may be repeated."
    )
    flags.DEFINE_bool("plan", False, "Print the runs left and the time they take; run nothing.")
    flags.DEFINE_bool("task", False, "Internal: train the run described on standard input.")
    flags.DEFINE_bool("publish", False, "Copy logs, table and figure to results/.")
    flags.DEFINE_bool("list", False, "List the studies, their cost and their results so far.")
    flags.DEFINE_bool("status", False, "List what runs now, was cut off or failed, with time left.")
    flags.DEFINE_bool("redraw", False, "Redraw tables and figures from the committed logs.")
    flags.DEFINE_bool("report", False, "Write results/index.html from the committed logs.")
    flags.DEFINE_bool("check", False, "Check that committed tables and figures match their logs.")
    flags.DEFINE_multi_string("curves", None, "Workdirs whose curves are drawn in one picture.")
    flags.DEFINE_multi_string(
        "compare",
        None,
        "Workdirs beside each other on a page: curves, numbers, fields that differ.",
    )
    flags.DEFINE_string("html", None, "The page of --compare, by default comparison.html.")
    # Before jax is imported, so that mistakes are reported at once.
    command_line.parse(bare="study", listed=("curves", "compare"))

import fnmatch
import pathlib
import sys
from collections.abc import Sequence

import data as data_sets
import studies
import train
from display import duration
from errors import UserError
from lecture import verdicts
from reproduction import (
    comparison,
    launchers,
    overlay,
    planning,
    processes,
    publishing,
    runner,
    status,
    sweep,
    tables,
    tasks,
)
from reproduction.records import RESULTS_VERSION, Record, slug
from reproduction.study import ROOT, Study, by_label
from training import preemption
from training.progress import table

EXIT_FAILED = 1
# Pages with tables of results, and the path from each to results/.
PAGES = {ROOT / "README.md": "results", ROOT / "docs" / "results.md": "../results"}


def main() -> None:
    """Does what the flags ask for."""
    given = flags.FLAGS
    if given.task:
        train_one(tasks.received())
    elif given.list:
        print(listing())
    elif given.status:
        print(status.page(pathlib.Path(given.out or "runs")))
    elif given.curves:
        out = given.out or "curves.png"
        command_line.check_output("--out", out)
        print(overlay.draw([pathlib.Path(path) for path in given.curves], pathlib.Path(out)))
    elif given.compare:
        out = given.html or "comparison.html"
        command_line.check_output("--html", out, (".html",))
        print(comparison.write([pathlib.Path(path) for path in given.compare], pathlib.Path(out)))
    elif given.html:
        raise UserError("--html: is the page of --compare, which is not given")
    elif given.check:
        check()
    elif given.redraw or given.report:
        if given.redraw:
            redraw(publishing.RESULTS)
        print(publishing.write_page(studies.STUDIES, publishing.RESULTS))
    elif given.config is not None:
        if given.study or given.publish or given.seeds or given.data or given.runs:
            raise UserError("--config excludes --study, --data, --seeds, --runs and --publish")
        study, data, wanted = sweep.create(given.config, command_line.config_overrides())
        folder = working_folder(f"runs/sweeps/{slug(study.name)}/{slug(data)}")
        seeds = sorted({seed for _, seed in wanted})
        made = planning.jobs(study, data, seeds, folder)
        reproduce(study, data, [job for job in made if (job.run.label, job.seed) in wanted], folder)
    elif given.study is None:
        raise UserError(
            "no study is given; name one, e.g. reproduce.py degradation --data=digits; see --list"
        )
    else:
        study = studies.study(given.study)
        data = given.data or next(iter(study.scales))
        seeds = chosen_seeds(given.seeds, study.scale(data).seeds)
        folder = working_folder(_work(study, data))
        jobs = planning.jobs(study, data, seeds, folder)
        if given.runs:
            if given.publish:
                raise UserError("--publish: needs all runs of the study; leave out --runs")
            labels = chosen_labels(given.runs, [run.label for run in study.scale(data).runs])
            jobs = planning.with_needed([job for job in jobs if job.run.label in labels])
        reproduce(study, data, jobs, folder)


def reproduce(study: Study, data: str, jobs: Sequence[planning.Job], folder: pathlib.Path) -> None:
    """Trains a study's missing runs on a data set and draws it. Exits with 1 if a run failed."""
    # Print what will run.
    todo = [job for job in jobs if not job.finished]
    print(f"{study.title}\n{study.paper}, {study.figure}; {tables.on_data(study, data)}\n")
    launcher = flags.FLAGS.launcher
    if flags.FLAGS.queue and launcher is None:
        raise UserError("--queue: needs --launcher")
    default = len(todo) if launcher == "slurm" else runner.default_jobs()
    at_once = max(min(flags.FLAGS.jobs or default, len(todo)), 1)
    print(planning.plan(todo, jobs, at_once), flush=True)
    if flags.FLAGS.plan:
        return

    failed: dict[str, str] = {}
    if todo:
        # If the data set is missing, fail once here instead of once per run.
        data_sets.open_split(jobs[0].config.data.name, "train", flags.FLAGS.data_dir)
        try:
            if launcher is None:
                failed = runner.run_all(todo, flags.FLAGS.data_dir, at_once)
            else:
                queue = launchers.Queue(launcher, folder, flags.FLAGS.queue or (), at_once)
                failed = launchers.run_all(todo, flags.FLAGS.data_dir, at_once, queue)
        except launchers.Left as left:
            print(left, file=sys.stderr)
            raise SystemExit(preemption.EXIT_STATUS) from None
        except runner.Stopped as stop:
            print(f"stopped ({stop}); run the same command again to continue", file=sys.stderr)
            raise SystemExit(preemption.EXIT_STATUS) from None

    # Draw the finished runs.
    records = [job.record() for job in jobs if job.finished]
    if records:
        show(study, data, records, folder)
    if failed:
        print(f"\n{len(failed)} of {len(jobs)} runs failed:", file=sys.stderr)
        for name, why in failed.items():
            print(f"  {name}: {why}", file=sys.stderr)
    if flags.FLAGS.publish:
        missing = [job.name for job in jobs if not job.finished]
        if missing:
            raise UserError(f"--publish: needs all runs; missing: {'; '.join(missing)}")
        publishing.publish(study, data, records, publishing.RESULTS)
        publishing.write_page(studies.STUDIES, publishing.RESULTS)
        print(f"published: {publishing.RESULTS / study.name / data}")
    if failed:
        raise SystemExit(EXIT_FAILED)


def train_one(task: tasks.Task) -> None:
    """Trains one run of a study; the process was started for it by runner.run_all."""
    try:
        train.train_and_evaluate(task.config, task.workdir, data_dir=task.data_dir)
        processes.measure(task)
    except preemption.Preempted as stop:
        print(stop, file=sys.stderr)
        raise SystemExit(preemption.EXIT_STATUS) from None


def show(study: Study, data: str, records: Sequence[Record], folder: pathlib.Path) -> None:
    """Writes table.md and figure.png into the working folder and prints the table."""
    ordered = publishing.render(study, data, records, folder)
    print(f"\n{table(tables.cells(study, ordered))}\n")
    if study.claims:
        print(table(tables.verdict_cells(study, data, ordered)))
    print(f"\ntable:  {folder / 'table.md'}\nfigure: {folder / 'figure.png'}")


def working_folder(default: str | pathlib.Path) -> pathlib.Path:
    """Creates the folder of --out, or the default. Raises UserError if that fails."""
    folder = pathlib.Path(flags.FLAGS.out or default)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out: {folder} cannot be a working folder: {error.strerror}") from None
    return folder


def chosen_seeds(given: Sequence[str] | None, count: int) -> list[int]:
    """The seeds of --seeds, or the first `count`. Raises UserError if --seeds is invalid."""
    if given is None:
        return list(range(count))
    try:
        seeds = [int(seed) for seed in given]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise UserError(
            f"--seeds: {','.join(given)!r} is not a list of different seeds from 0 on, e.g. 0,1,2"
        )
    return seeds


def chosen_labels(patterns: Sequence[str], labels: Sequence[str]) -> list[str]:
    """The labels that match any of the shell patterns. Raises UserError if one matches none."""
    chosen: set[str] = set()
    for pattern in patterns:
        found = fnmatch.filter(labels, pattern)
        if not found:
            raise UserError(f"--runs: {pattern!r} matches none of {'; '.join(labels)}")
        chosen.update(found)
    return [label for label in labels if label in chosen]


def listing() -> str:
    """A table of the studies: figure, cost on each data set, published and finished runs."""
    rows = [("study", "figure", "data", "time per seed", "seeds", "published", "in runs/")]
    for study in studies.STUDIES.values():
        for data, scale in study.scales.items():
            first = data == next(iter(study.scales))
            seconds = sum(run.seconds for run in scale.runs)
            done = planning.jobs(study, data, range(scale.seeds), _work(study, data))
            finished = sum(job.finished for job in done)
            rows.append(
                (
                    study.name if first else "",
                    f"{study.paper}, {study.figure}" if first else "",
                    data + (" (the paper's)" if scale.papers_data else ""),
                    duration(seconds) + (" on a GPU" if scale.papers_data or scale.gpu else ""),
                    str(scale.seeds),
                    _published(study, data),
                    f"{finished} of {len(done)} runs" if finished else "",
                )
            )
    return table(rows)


def _work(study: Study, data: str) -> pathlib.Path:
    return pathlib.Path(f"runs/studies/{study.name}/{data}")


def _published(study: Study, data: str) -> str:
    committed = publishing.committed(study, data, publishing.RESULTS)
    if not committed:
        return ""
    ordered = by_label(committed, study.scale(data).runs)
    seeds = {len(of_label) for of_label in ordered.values()}
    version = committed[0].results_version
    text = f"{'-'.join(map(str, sorted(seeds)))} seeds"
    current = RESULTS_VERSION
    return text if version == current else f"{text}, results version {version} (now {current})"


def redraw(results: pathlib.Path) -> None:
    """Redraws all tables and figures, and those in PAGES and docs/lecture.md, from the logs."""
    for study, data in publishing.published(studies.STUDIES, results):
        publishing.redraw(study, data, results)
        print(results / study.name / data)
    for page, link in PAGES.items():
        if page.exists():
            page.write_text(publishing.fill(page.read_text(), studies.STUDIES, results, link))
    verdicts.PAGE.write_text(verdicts.fill(verdicts.PAGE.read_text(), results))


def check() -> None:
    """Prints what differs from the committed logs; exits with 1 if anything does."""
    wrong = publishing.check(studies.STUDIES, publishing.RESULTS, PAGES)
    wrong += verdicts.stale()
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        raise SystemExit(EXIT_FAILED)
    count = len(publishing.published(studies.STUDIES, publishing.RESULTS))
    print(f"results: {count} tables agree with their logs")


if __name__ == "__main__":
    command_line.run(main)
