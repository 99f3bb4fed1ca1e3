"""A panel of curves: page.js draws it, and a reader zooms it and switches runs and seeds."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from webpages.document import embedded, text

# After Okabe and Ito: any two differ by at least 14 in CIELAB for all kinds of colour vision.
COLOURS = (
    *("#0069a8", "#d1570a", "#00966c", "#cc79a7", "#d69200", "#222222", "#4aa8e0", "#7b2fd0"),
)
# The parts of the data, the first that a metric has is shown at the start.
PARTS = ("test", "train", "validation")
FIRST = ("error", "loss")  # metrics, in the order of the list; the others follow by name
DIGITS = 5  # significant ones of a value
RATE = "learning rate"


@dataclasses.dataclass(frozen=True)
class Run:
    """A run's rows, as in metrics.jsonl; runs of a `label` have one colour.

    stalled: left out of means over seeds. trace: the id of the element that says where its numbers
    come from.
    """

    label: str
    seed: int
    rows: Sequence[Mapping[str, Any]]
    trace: str
    stalled: bool = False


def panel(runs: Sequence[Run], name: str) -> str:
    """The panel of these runs, hidden until a script draws it. `name` is for screen readers."""
    labels = list(dict.fromkeys(run.label for run in runs))
    seeds = sorted({run.seed for run in runs})
    content = packed(runs)
    metrics = list(dict.fromkeys(curve["metric"] for curve in content["curves"]))
    metrics.sort(key=_place)
    parts = [part for part in PARTS if any(c["part"] == part for c in content["curves"])]
    several = len(runs) > len(labels)
    drawn = (
        _choice("drawn", "Draw", {"mean": "means over seeds", "each": "each seed"})
        if several
        else ""
    )
    tags = [
        f'<label class="run">{_switch("label", str(place))}{_swatch(place)}{text(label)}</label>'
        for place, label in enumerate(labels)
    ]
    shown = [f"<label>{_switch('part', part, on=part == parts[0])}{part}</label>" for part in parts]
    of_seeds = [f"<label>{_switch('seed', str(seed))}{seed}</label>" for seed in seeds]
    keys = "Keys: plus and minus zoom, arrows move, 0 shows all."
    return f"""<div class="panel" hidden>
{embedded(content, "curves")}
<div class="controls">
{_choice("metric", "Show", {metric: _shown(metric) for metric in metrics})}
{_choice("against", "by", {"step": "step", "epoch": "epoch"})}
{drawn}
<label>{_switch("log-y", "", on=False)}log scale</label>
<label>{_switch("log-x", "", on=False)}log steps</label>
{_group("Parts", shown)}
</div>
<div class="plot" tabindex="0" role="group" aria-label="{text(name)}. {keys}"></div>
<p class="readout" aria-live="polite"></p>
<div class="zoom">
<button type="button" data-zoom="in" aria-label="zoom in">+</button>
<button type="button" data-zoom="out" aria-label="zoom out">−</button>
<button type="button" data-zoom="left" aria-label="move left">←</button>
<button type="button" data-zoom="right" aria-label="move right">→</button>
<button type="button" data-zoom="all">all</button>
</div>
{_group("Runs", tags, switches=True)}
{_group("Seeds", of_seeds) if len(seeds) > 1 else ""}
</div>"""


def packed(runs: Sequence[Run]) -> dict[str, Any]:
    """What page.js reads: runs, grids of steps and epochs, and curves on them."""
    labels = list(dict.fromkeys(run.label for run in runs))
    grids: dict[tuple[tuple[int, ...], tuple[float, ...]], int] = {}
    curves = []
    for number, run in enumerate(runs):
        for part, metric, logged in _logged(run.rows):
            steps = tuple(row["step"] for row, _ in logged)
            grid = (steps, tuple(_short(row.get("epoch", 0)) for row, _ in logged))
            curves.append(
                {
                    "run": number,
                    "part": part,
                    "metric": metric,
                    "grid": grids.setdefault(grid, len(grids)),
                    "values": [_short(value) for _, value in logged],
                }
            )
    return {
        "runs": [
            {
                "label": run.label,
                "place": labels.index(run.label),
                "seed": run.seed,
                "stalled": run.stalled,
                "trace": run.trace,
                "colour": colour(labels.index(run.label)),
                "round": labels.index(run.label) // len(COLOURS),
            }
            for run in runs
        ],
        "grids": [{"step": steps, "epoch": epochs} for steps, epochs in grids],
        "curves": curves,
    }


def colour(place: int) -> str:
    """The colour of the label at a place; after the last colour the first comes again."""
    return COLOURS[place % len(COLOURS)]


def _logged(
    rows: Sequence[Mapping[str, Any]],
) -> Iterator[tuple[str, str, list[tuple[Mapping[str, Any], float]]]]:
    """Part, metric and (row, value) of everything the rows have; fractions are percent."""
    for part in PARTS:
        named = itertools.chain.from_iterable(row.get(part, {}) for row in rows)
        for metric in dict.fromkeys(named):
            factor = 100 if "error" in metric else 1
            yield (
                part,
                metric,
                [(row, factor * row[part][metric]) for row in rows if metric in row.get(part, {})],
            )
    rates = [(row, row["learning_rate"]) for row in rows if "learning_rate" in row]
    if rates:
        yield "train", RATE, rates


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _place(metric: str) -> tuple[int, str]:
    return (FIRST.index(metric) if metric in FIRST else len(FIRST), metric)


def _shown(metric: str) -> str:
    return f"{metric} (%)" if "error" in metric else metric


def _swatch(place: int) -> str:
    """A piece of the label's curve, with points where the colours come again."""
    again = place // len(COLOURS)
    points = f' data-round="{min(again, 2)}"' if again else ""
    return f'<span class="swatch" style="color: {colour(place)}"{points}></span>'


def _choice(kind: str, name: str, options: Mapping[str, str]) -> str:
    listed = "".join(
        f'<option value="{text(value)}">{text(shown)}</option>' for value, shown in options.items()
    )
    return f'<label>{text(name)} <select class="{kind}">{listed}</select></label>'


def _switch(kind: str, value: str, *, on: bool = True) -> str:
    state = " checked" if on else ""
    return f'<input type="checkbox" class="{kind}" value="{text(value)}"{state}>'


def _group(name: str, tags: Sequence[str], *, switches: bool = False) -> str:
    both = (
        '<button type="button" data-all="1">all</button>'
        '<button type="button" data-all="">none</button>'
        if switches and len(tags) > 1
        else ""
    )
    return f"<fieldset><legend>{text(name)}</legend>{both}{''.join(tags)}</fieldset>"
