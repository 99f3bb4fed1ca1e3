"""The HTML of results/index.html: all published studies on one static page."""

import html
import json
from collections.abc import Sequence

from reproduction import tables
from reproduction.study import Records, Study, seeds_of

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fafaf8;
       max-width: 72rem; margin: 0 auto; padding: 2rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; margin: 0 0 .3rem; } h2 { font-size: 1.4rem; margin: 0 0 .2rem; }
section { background: #fff; border: 1px solid #e3e3de; border-radius: 6px;
          padding: 1.4rem 1.6rem; margin: 1.6rem 0; }
.source { color: #666; margin: 0 0 .8rem; } .note { color: #555; }
img { width: 100%; height: auto; margin: .6rem 0 1rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .92rem; margin: .8rem 0; }
th, td { border-bottom: 1px solid #e3e3de; padding: .35rem .7rem; text-align: right;
         vertical-align: top; font-variant-numeric: tabular-nums; }
th { font-weight: 600; color: #444; max-width: 11rem; }
th:first-child, td:first-child { text-align: left; }
.numbers td:first-child { white-space: nowrap; } .verdicts td:first-child { min-width: 15rem; }
code, pre { font: .85rem/1.45 ui-monospace, monospace; background: #f4f4f0; border-radius: 4px; }
code { padding: .1rem .3rem; } pre { padding: .7rem .9rem; overflow-x: auto; }
.verdict { font-weight: 600; border-radius: 4px; padding: .1rem .5rem; white-space: nowrap; }
.reproduced { background: #dcefe1; color: #1c5c33; }
.contradicted { background: #f6dcd6; color: #8a2c18; }
.equivalent { background: #dde8f3; color: #1d4a75; }
.undecided, .not-run { background: #eeeeea; color: #555; }
.overview :is(th, td):nth-child(-n+3) { text-align: left; }
dt { font-weight: 600; } dd { margin: 0 0 .4rem; }
"""


def page(found: Sequence[tuple[Study, str, Records]], missing: Sequence[Study]) -> str:
    """The whole page: counts of verdicts, a section per study, and the studies not run yet."""
    bodies = "\n".join(section(study, data, records) for study, data, records in found)
    not_run = ""
    if missing:
        items = "\n".join(
            f"<li>{_text(study.title)} ({_text(study.paper)}, {_text(study.figure)}): "
            f"<code>python reproduce.py {study.name} --data={next(iter(study.scales))}</code></li>"
            for study in missing
        )
        not_run = f"<section><h2>Not run yet</h2><ul>{items}</ul></section>"
    fallen = "".join(f"<li>{_text(line)}.</li>" for line in tables.fallen(found))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Convnet Case Studies: results</title>
<style>{STYLE}</style>
</head>
<body>
<h1>Convnet Case Studies: results</h1>
<p class="note">The papers' figures and tables, reproduced by our runs. Every number here is
computed from the logs next to this page; <code>python reproduce.py --check</code> recomputes and
compares them.</p>
<div class="wide">{_table(tables.totals(found))}</div>
<h2>{tables.FALLEN}</h2>
<ul>{fallen}</ul>
<p class="note">{_text(tables.RULE)}</p>
<nav class="wide">{_overview(found)}</nav>
{bodies}
{not_run}
</body>
</html>
"""


def section(study: Study, data: str, records: Records) -> str:
    """The section of a study on a data set."""
    place = f"{study.name}/{data}"
    seeds = seeds_of(records)
    facts = "\n".join(
        f"<dt>{_text(name)}</dt><dd>{_text(text)}</dd>"
        for name, text in tables.provenance(records).items()
    )
    return f"""<section id="{_anchor(study, data)}">
<h2>{_text(study.title)}, {_text(data)}</h2>
<p class="source">{_text(study.paper)}, {_text(study.figure)}</p>
<p>{_text(study.question)} <span class="note">{_text(tables.on_data(study, data))}
{_text(study.scales[data].note)}</span></p>
<a href="{place}/figure.png"><img src="{place}/figure.png" alt="{_text(study.title)}: figure"></a>
<div class="wide">{_verdicts(tables.verdict_cells(study, data, records))}</div>
<div class="wide">{_table(tables.cells(study, records))}</div>
<pre>{_text(tables.command(study, data, seeds))}</pre>
<details><summary>Where the numbers come from</summary>
<dl>{facts}</dl></details>
<details><summary>Configs</summary>{_configs(records)}</details>
</section>"""


def _anchor(study: Study, data: str) -> str:
    return f"{study.name}-{data}"


def _overview(found: Sequence[tuple[Study, str, Records]]) -> str:
    heading, *rows = tables.summary(found)
    lines = []
    for (study, data, _), (title, *cells) in zip(found, rows, strict=True):
        link = f'<a href="#{_anchor(study, data)}">{_text(title)}</a>'
        lines.append([link, *map(_text, cells)])
    return _rows("overview", heading, lines)


def _configs(records: Records) -> str:
    shown = []
    for label, seeds in records.items():
        record = next(iter(seeds.values()))
        config = json.dumps(record.config, indent=1, ensure_ascii=False)
        shown.append(
            f"<details><summary>{_text(label)}</summary>"
            f"<pre>{_text(record.command)}</pre><pre>{_text(config)}</pre></details>"
        )
    return "\n".join(shown)


def _table(rows: Sequence[Sequence[str]]) -> str:
    heading, *rest = rows
    return _rows("numbers", heading, [[_text(cell) for cell in row] for row in rest])


def _verdicts(rows: Sequence[Sequence[str]]) -> str:
    heading, *rest = rows
    lines = []
    for text, source, outcome, *numbers in rest:
        mark = f'<span class="verdict {outcome.replace(" ", "-")}">{_text(outcome)}</span>'
        lines.append([_text(text), _text(source), mark, *map(_text, numbers)])
    return _rows("verdicts", heading, lines)


def _rows(kind: str, heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of CSS class `kind`; heading as text, rows as HTML."""
    head = "".join(f"<th>{_text(cell)}</th>" for cell in heading)
    lines = ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>'


def _text(text: str) -> str:
    return html.escape(text)
