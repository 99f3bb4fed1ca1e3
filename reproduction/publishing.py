"""Writes results/ (logs, tables, figures, the page) and checks that they agree with the logs.

Layout: results/<study>/<data>/{logs/*.jsonl, table.md, figure.png}, results/index.html. Tables are
pure functions of the logs, the page of logs and figures, and both are compared exactly. For figures
only the digest of their logs is compared, since pixels differ between versions of matplotlib.
"""

import pathlib
import re
import shutil
from collections.abc import Mapping, Sequence

from errors import UserError
from reproduction import drawing, records, report, tables
from reproduction.records import Record
from reproduction.study import ROOT, Records, Study, by_label

RESULTS = ROOT / "results"
Studies = Mapping[str, Study]  # by name

INDEX = "index.html"
FIGURE = "figure.png"
LOGS = "logs"
# reproduce.py --redraw writes tables into pages between two such lines. `results` is followed by a
# study and a data set (its table), by `totals` (two rows), or by nothing (all studies).
MARKED = re.compile(
    r"(<!-- results(?:/(\S+?)/(\S+?)| (totals))? -->\n)(.*?)(<!-- end of results -->)", re.DOTALL
)


def render(study: Study, data: str, found: Sequence[Record], folder: pathlib.Path) -> Records:
    """Writes table.md and figure.png of records into `folder`."""
    ordered = by_label(found, study.scale(data).runs)
    (folder / "table.md").write_text(tables.markdown(study, data, ordered))
    drawing.save(study.draw(study, data, ordered), folder / FIGURE, digest=records.digest(found))
    return ordered


def publish(study: Study, data: str, found: Sequence[Record], results: pathlib.Path) -> None:
    """Replaces the logs of a study on a data set in `results`, and draws them.

    Raises UserError if the runs were not all made on one kind of device.
    """
    kinds = sorted({record.environment["device_kind"] for record in found})
    if len(kinds) > 1:
        raise UserError(
            f"--publish: the runs were made on {' and '.join(kinds)}; all runs of a study must be "
            "made on one kind of device"
        )
    folder = results / study.name / data
    if folder.exists():
        shutil.rmtree(folder)
    (folder / LOGS).mkdir(parents=True)
    for record in found:
        (folder / LOGS / record.file).write_text(record.text())
    redraw(study, data, results)


def redraw(study: Study, data: str, results: pathlib.Path) -> None:
    """Redraws table and figure from the committed logs."""
    render(study, data, committed(study, data, results), results / study.name / data)


def committed(study: Study, data: str, results: pathlib.Path) -> list[Record]:
    """The records of the committed logs. Raises UserError if their results versions differ."""
    folder = results / study.name / data / LOGS
    found = [records.from_log(path) for path in sorted(folder.glob("*.jsonl"))]
    versions = {record.results_version for record in found}
    if len(versions) > 1:
        raise UserError(
            f"{folder}: has results versions {', '.join(map(str, sorted(versions)))}, not one for "
            "all logs; run the study again with --publish"
        )
    return found


def published(studies: Studies, results: pathlib.Path) -> list[tuple[Study, str]]:
    """The studies and data sets with logs in `results`, in the order of `studies`."""
    return [
        (study, data)
        for study in studies.values()
        for data in study.scales
        if (results / study.name / data / LOGS).is_dir()
    ]


def write_page(studies: Studies, results: pathlib.Path) -> pathlib.Path:
    """Writes results/index.html: one page with all published results."""
    path = results / INDEX
    path.write_text(_page(studies, results))
    return path


def fill(text: str, studies: Studies, results: pathlib.Path, link: str = "results") -> str:
    """A page's text, with the tables between its marks recomputed from the logs.

    link: the path from the page to `results`.
    """

    def filled(match: re.Match[str]) -> str:
        start, name, data, totals, _, end = match.groups()
        if name is None:
            found = _all(studies, results)
            if totals:
                heading, *_, papers, ours = tables.totals(found)
                rows = [row[1:] for row in (heading, papers, ours)]
                return f"{start}\n" + "\n".join(tables.rows_of_markdown(rows)) + f"\n\n{end}"
            heading, *rows = tables.summary(found)
            linked = [
                [f"[{row[0]}]({link}/{study.name}/{data}/table.md)", *row[1:]]
                for (study, data, _), row in zip(found, rows, strict=True)
            ]
            table = "\n".join(tables.rows_of_markdown([heading, *linked], words=3))
            whole = "\n".join(tables.rows_of_markdown(tables.totals(found), words=2))
            fallen = "\n".join(f"- {line}" for line in tables.fallen(found))
            listed = f"{tables.FALLEN}:\n\n{fallen}" if fallen else "No claim was refuted."
            return f"{start}\n{whole}\n\n{listed}\n\n{table}\n\n{end}"
        if name not in studies or not (results / name / data / LOGS).is_dir():
            raise UserError(f"a page shows results/{name}/{data}, which does not exist")
        study = studies[name]
        ordered = by_label(committed(study, data, results), study.scale(data).runs)
        table = "\n".join(tables.rows_of_markdown(tables.cells(study, ordered)))
        return f"{start}\n{table}\n\n{end}"

    return MARKED.sub(filled, text)


def check(studies: Studies, results: pathlib.Path, pages: Mapping[pathlib.Path, str]) -> list[str]:
    """Lines on what does not agree with the committed logs; empty if everything agrees.

    pages: those with tables of results, and the path from each to `results`.
    """
    wrong, shown = [], published(studies, results)
    for study, data in shown:
        folder = results / study.name / data
        found = committed(study, data, results)
        for record in found:
            path = folder / LOGS / record.file
            if not path.exists() or path.read_text() != record.text():
                wrong.append(f"{path}: was edited or renamed; restore it, or --publish again")
        ordered = by_label(found, study.scale(data).runs)
        table = folder / "table.md"
        if not table.exists() or table.read_text() != tables.markdown(study, data, ordered):
            wrong.append(f"{table}: differs from its logs; python reproduce.py --redraw")
        figure = folder / FIGURE
        if drawing.digest_of(figure) != records.digest(found):
            wrong.append(f"{figure}: was drawn from other logs; python reproduce.py --redraw")
    if any(not (results / study.name / data / FIGURE).exists() for study, data in shown):
        return wrong  # a page cannot be made without them
    page = results / INDEX
    stale = not page.exists() or page.read_text() != _page(studies, results)
    if shown and stale:
        wrong.append(f"{page}: differs from the logs; python reproduce.py --report")
    for page, link in pages.items():
        if page.exists() and (text := page.read_text()) != fill(text, studies, results, link):
            wrong.append(f"{page}: its tables differ from the logs; reproduce.py --redraw")
    return wrong


def _all(studies: Studies, results: pathlib.Path) -> list[tuple[Study, str, Records]]:
    return [
        (study, data, by_label(committed(study, data, results), study.scale(data).runs))
        for study, data in published(studies, results)
    ]


def _page(studies: Studies, results: pathlib.Path) -> str:
    missing = [study for study in studies.values() if not _any(study, results)]
    found = [
        (study, data, records, (results / study.name / data / FIGURE).read_bytes())
        for study, data, records in _all(studies, results)
    ]
    return report.page(found, missing)


def _any(study: Study, results: pathlib.Path) -> bool:
    return any((results / study.name / data / LOGS).is_dir() for data in study.scales)
