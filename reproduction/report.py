"""The HTML of results/index.html: all published studies on one page, each number with its source.

Every number of a table leads to the runs it was made of: values by seed, commands, configs, commits
and logs. A pure function of logs and figures, so that `reproduce.py --check` can compare the page.
"""

from collections.abc import Mapping, Sequence

from reproduction import tables, traces, verdict
from reproduction.records import slug
from reproduction.study import OURS, Records, Study, of_seed, seeds_of
from reproduction.verdict import Verdict
from webpages import curves, document
from webpages.document import text

Published = tuple[Study, str, Records, bytes]  # study, data set, records, figure.png
PAPERS, MINE = "the paper's", "ours"


def page(found: Sequence[Published], missing: Sequence[Study]) -> str:
    """The whole page: counts of verdicts, all claims, a section per study, what is not run yet."""
    bare = [(study, data, records) for study, data, records, _ in found]
    heading, *totals = tables.totals(bare)
    fallen = "".join(f"<li>{text(line)}.</li>" for line in tables.fallen(bare))
    bodies = "\n".join(section(*one) for one in found)
    not_run = ""
    if missing:
        items = "\n".join(
            f"<li>{text(study.title)} ({text(study.paper)}, {text(study.figure)}): "
            f"<code>python reproduce.py {study.name} --data={next(iter(study.scales))}</code></li>"
            for study in missing
        )
        not_run = f"<section><h2>Not run yet</h2><ul>{items}</ul></section>"
    return document.page(
        "Convnet Case Studies: results",
        f"""<p class="note">The papers' figures and tables, reproduced by our runs. Every number
here is computed from the logs next to this page; <code>python reproduce.py --check</code>
recomputes and compares them. A number of a table leads to its seeds, commands, configs, commits
and logs.</p>
<nav>{_overview(bare)}</nav>
<h2>Verdicts by paper</h2>
{document.table("totals", heading, document.texts(totals), "Verdicts by paper")}
<p class="note">{text(tables.RULE)}</p>
<section><h2>All claims</h2>
{_claims(bare)}</section>
<h2>{tables.FALLEN}</h2>
<ul>{fallen}</ul>
{bodies}
{not_run}""",
    )


def section(study: Study, data: str, records: Records, figure: bytes) -> str:
    """The section of a study on a data set."""
    place, anchor = f"{study.name}/{data}", _anchor(study, data)
    facts = "\n".join(
        f"<dt>{text(name)}</dt><dd>{text(words)}</dd>"
        for name, words in tables.provenance(records).items()
    )
    ids = {label: f"{anchor}-{slug(label)}" for label in records}
    runs = [
        curves.Run(label, seed, record.rows, ids[label], record.stalled)
        for label, seeds in records.items()
        for seed, record in seeds.items()
    ]
    sources = "\n".join(
        traces.of_label(
            ids[label],
            label,
            tables.by_seed(study, records, label),
            [traces.of_record(record, f"{place}/logs/{record.file}") for record in seeds.values()],
        )
        for label, seeds in records.items()
    )
    return f"""<section id="{anchor}">
<h2>{text(study.title)}, {text(data)}</h2>
<p class="source">{text(study.paper)}, {text(study.figure)}</p>
<p>{text(study.question)} <span class="note">{text(tables.on_data(study, data))}
{text(study.scales[data].note)}</span></p>
{document.figure(figure, f"{study.title}, {data}")}
{curves.panel(runs, f"Curves of {study.title}, {data}")}
{_verdicts(study, data, records, ids)}
{_numbers(study, records, ids)}
<pre>{text(tables.command(study, data, seeds_of(records)))}</pre>
<details><summary>Where the numbers come from</summary>
<dl>{facts}</dl>
{sources}</details>
</section>"""


def _anchor(study: Study, data: str) -> str:
    return f"{study.name}-{data}"


def _overview(found: Sequence[tuple[Study, str, Records]]) -> str:
    heading, *rows = tables.summary(found)
    lines = []
    for (study, data, _), (title, *cells) in zip(found, rows, strict=True):
        link = f'<a href="#{_anchor(study, data)}">{text(title)}</a>'
        lines.append([link, *map(text, cells)])
    return document.table("overview", heading, lines, "Studies")


def _claims(found: Sequence[tuple[Study, str, Records]]) -> str:
    """All claims of all studies, and what filters them where scripts run."""
    rows, papers = [], dict[str, None]()
    for study, data, records in found:
        _, *cells = tables.verdict_cells(study, data, records)
        for claim, source, outcome, gap, *_, seeds, _, _ in cells:
            whose = MINE if source == OURS else PAPERS
            papers[study.paper] = None
            values = {"verdict": outcome, "paper": study.paper, "whose": whose}
            attributes = "".join(f' data-{name}="{text(v)}"' for name, v in values.items())
            link = f'<a href="#{_anchor(study, data)}">{text(claim)}</a>'
            shown = [_mark(outcome), *map(text, (gap, data, study.paper, source, seeds))]
            rows.append((attributes, [link, *shown]))
    heading = ("claim", "verdict", "mean gap, 95% interval", "data", "paper", "source", "seeds")
    filters = (
        _filter("verdict", "Verdict", (*verdict.OUTCOMES, verdict.NOT_RUN))
        + _filter("paper", "Paper", sorted(papers))
        + _filter("whose", "Claims", (PAPERS, MINE))
    )
    return f"""<div class="filtered"><div class="controls" hidden>{filters}
<label>Words <input type="search"></label>
<span class="count" role="status"></span></div>
{document.lined("claims", heading, rows, "All claims")}</div>"""


def _filter(field: str, name: str, values: Sequence[str]) -> str:
    options = "".join(f"<option>{text(value)}</option>" for value in values)
    return (
        f'<label>{text(name)} <select name="{field}"><option value="">all</option>{options}'
        "</select></label>"
    )


def _mark(outcome: str) -> str:
    return f'<span class="verdict {outcome.replace(" ", "-")}">{text(outcome)}</span>'


def _verdicts(study: Study, data: str, records: Records, ids: Mapping[str, str]) -> str:
    judged = verdict.judge(study.claims_on(data), records, data)
    heading, *rows = tables.verdict_cells(study, data, records)
    lines = []
    for one, (words, source, outcome, *numbers) in zip(judged, rows, strict=True):
        claim = document.folded(text(words), _gaps(one, records, ids))
        lines.append([claim, text(source), _mark(outcome), *map(text, numbers)])
    return document.table("verdicts", heading, lines, "Verdicts")


def _gaps(judged: Verdict, records: Records, ids: Mapping[str, str]) -> str:
    """A claim's gap in each seed, and links to the runs it was made of."""
    claim, gaps = judged.claim, []
    for seed in seeds_of(records):
        runs = of_seed(records, seed)
        if runs.keys() >= set(claim.runs) and (gap := claim.gap(runs)) is not None:
            stalled = " (stalled)" if any(runs[label].stalled for label in claim.runs) else ""
            gaps.append(f"seed {seed}: {gap + 0.0:+.2f}{stalled}")
    links = ", ".join(
        f'<a href="#{ids[label]}">{text(label)}</a>' for label in claim.runs if label in ids
    )
    listed = f"Gaps in {text(claim.unit)}, {text('; '.join(gaps))}. " if gaps else ""
    return f'<span class="note">{listed}Runs: {links}.</span>'


def _numbers(study: Study, records: Records, ids: Mapping[str, str]) -> str:
    heading, *rows = tables.cells(study, records)
    lines = [
        (
            f' data-trace="{ids[label]}"',
            [f'<a href="#{ids[label]}">{text(label)}</a>', *map(text, cells)],
        )
        for label, *cells in rows
    ]
    return document.lined("numbers", heading, lines, "Measured and published numbers")
