"""The frame of a page, and its tables, pictures and folded parts. All functions return HTML."""

import base64
import html
import io
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from PIL import Image

HERE = pathlib.Path(__file__).parent
STYLES = ("uplot/uPlot.min.css", "page.css")
SCRIPTS = ("uplot/uPlot.iife.min.js", "page.js")
# Browsers refuse whatever is not in the file itself.
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)


def page(title: str, body: str) -> str:
    """The whole file: style, scripts and `body`, which is HTML."""
    style = "\n".join((HERE / name).read_text() for name in STYLES)
    scripts = "".join(f"<script>{(HERE / name).read_text()}</script>\n" for name in SCRIPTS)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{text(title)}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<main>
<h1>{text(title)}</h1>
{body}
</main>
{scripts}</body>
</html>
"""


def text(words: object) -> str:
    """Text, escaped for HTML."""
    return html.escape(str(words))


def table(kind: str, heading: Sequence[object], rows: Sequence[Sequence[str]], name: str) -> str:
    """A table of CSS class `kind`: heading as text, rows as HTML; `name` for screen readers."""
    return lined(kind, heading, [("", row) for row in rows], name)


def lined(
    kind: str, heading: Sequence[object], rows: Sequence[tuple[str, Sequence[str]]], name: str
) -> str:
    """As `table`, with attributes for each row: (' data-x="1"', cells)."""
    head = "".join(f'<th scope="col">{text(cell)}</th>' for cell in heading)
    lines = []
    for attributes, (first, *others) in rows:
        cells = "".join(f"<td>{cell}</td>" for cell in others)
        lines.append(f'<tr{attributes}><th scope="row">{first}</th>{cells}</tr>')
    body = "\n".join(lines)
    return wide(
        f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>',
        name,
    )


def texts(rows: Sequence[Sequence[object]]) -> list[list[str]]:
    """Rows of text as rows of HTML."""
    return [[text(cell) for cell in row] for row in rows]


def wide(content: str, name: str) -> str:
    """What may be wider than the window: it scrolls by itself, with the keyboard too."""
    return f'<div class="wide" role="region" tabindex="0" aria-label="{text(name)}">{content}</div>'


def folded(summary: str, content: str, kind: str = "") -> str:
    """A part that opens under its summary; both are HTML."""
    attribute = f' class="{kind}"' if kind else ""
    return f"<details{attribute}><summary>{summary}</summary>\n{content}</details>"


def figure(png: bytes, name: str) -> str:
    """A picture over the width of the page, which keeps its size on a small screen."""
    words = f"Figure: {name}; its numbers are in the tables below"
    return wide(picture(png, words, kind="figure"), f"Figure: {name}")


def picture(png: bytes, description: str, *, kind: str = "") -> str:
    """A PNG inside the page, with its size, so that the text below does not jump."""
    with Image.open(io.BytesIO(png)) as image:
        width, height = image.size
    attribute = f' class="{kind}"' if kind else ""
    return (
        f'<img{attribute} src="data:image/png;base64,{base64.b64encode(png).decode()}" '
        f'alt="{text(description)}" width="{width}" height="{height}">'
    )


def embedded(content: Any, kind: str) -> str:
    """JSON for a script to read, in an element of class `kind`."""
    packed = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    packed = packed.replace("<", r"\u003c")  # which could end the element
    return f'<script type="application/json" class="{kind}">{packed}</script>'
