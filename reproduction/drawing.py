"""The style of all figures: labels at the curves instead of legends, errors in percent.

Contains nothing about a particular study. Draws without a display.
"""

import io
import itertools
import pathlib
import statistics
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator
from PIL import Image, PngImagePlugin

from reproduction.records import Record
from webpages.curves import COLOURS

LEGEND = (
    "Mean over seeds that did not stall; bands: smallest to largest; dots: single seeds; "
    "cut bars and arrows go on beyond the axis."
)
DPI = 110
NO_DITHER = Image.Dither.NONE  # dots in white areas take more bytes than they show
DIGEST = "Logs"  # the PNG's text field that holds the digest of the logs it was drawn from

PLAIN, RESIDUAL, GREY = "#c8553d", "#1f6f9f", "#8a8a8a"
FEWEST_BARS = 3  # that a panel has room for, so that a single bar does not fill it
OUTLYING = 4.0  # times the median: beyond it a value is marked at the edge of its axis
SERIES = COLOURS


def new(rows: int, columns: int, *, title: str, subtitle: str, size: tuple[float, float]) -> Any:
    """A figure and its axes [rows][columns], with a title and a subtitle; size in inches."""
    height = size[1]
    lines = textwrap.wrap(subtitle, int(13 * size[0]))
    top = 0.68 + 0.17 * len(lines)  # inches for the title and the subtitle
    layout = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - top / height))
    figure = Figure(figsize=size, layout=layout)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    figure.text(0.01, 1 - 0.12 / height, title, fontsize=14, fontweight="bold", va="top")
    under = "\n".join(lines)
    figure.text(0.01, 1 - 0.45 / height, under, fontsize=10, color="#555555", va="top")
    for line in axes:
        for one in line:
            one.spines[["top", "right"]].set_visible(False)
            one.grid(alpha=0.25)
    return figure, axes


def save(figure: Figure, path: pathlib.Path, *, digest: str) -> None:
    """Writes the picture; a PNG has the digest of its logs in its metadata."""
    if path.suffix == ".png":
        path.write_bytes(png(figure, digest))
    else:
        figure.savefig(path, dpi=DPI)


def png(figure: Figure, digest: str = "") -> bytes:
    """The figure as PNG of at most 256 colours, which takes a quarter of the bytes."""
    whole, small = io.BytesIO(), io.BytesIO()
    figure.savefig(whole, format="png", dpi=DPI)
    words = PngImagePlugin.PngInfo()
    words.add_text(DIGEST, digest)
    with Image.open(whole) as image:
        few = image.convert("RGB").quantize(method=Image.Quantize.FASTOCTREE, dither=NO_DITHER)
    # The quantizer makes white a little grey, which shows on a white page.
    few.putpalette([255 if value >= 254 else value for value in few.getpalette() or ()])
    few.save(small, "PNG", optimize=True, pnginfo=words)
    return small.getvalue()


def digest_of(path: pathlib.Path) -> str | None:
    """The digest in a figure's metadata; None if there is no figure or no digest."""
    try:
        with Image.open(path) as image:
            return image.info.get(DIGEST)
    except OSError:
        return None


def percent(axes: Axes, which: str = "y") -> None:
    """Adds a percent sign to the ticks of an axis; its values are already in percent."""
    axis = axes.yaxis if which == "y" else axes.xaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}%"))


def heading(axes: Axes, title: str, x: str = "", y: str = "") -> None:
    """Sets a panel's title and axis labels."""
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def mean_curve(
    records: Iterable[Record], group: str, metric: str = "error", factor: float = 100.0
) -> tuple[list[int], list[float]]:
    """The steps at which all seeds logged a metric, and its means over seeds."""
    values: dict[int, list[float]] = {}
    count = 0
    for record in records:
        count += 1
        for step, value in zip(*record.curve(group, metric), strict=True):
            values.setdefault(step, []).append(factor * value)
    steps = [step for step in sorted(values) if len(values[step]) == count]
    return steps, [statistics.mean(values[step]) for step in steps]


def band(
    records: Iterable[Record], steps: Sequence[int], group: str, metric: str, factor: float = 100.0
) -> tuple[list[float], list[float]]:
    """The smallest and the largest value over seeds at each of `steps`, which all seeds logged."""
    each = [dict(zip(*record.curve(group, metric), strict=True)) for record in records]
    at = [[factor * values[step] for values in each] for step in steps]
    return [min(values) for values in at], [max(values) for values in at]


def ends(axes: Axes, labels: Sequence[tuple[float, float, str, str]], *, gap: float = 0.06) -> None:
    """Writes labels (x, y, text, colour) to the right of curves' ends, without overlap.

    gap: smallest vertical distance, as a fraction of the axis. Call once the axis limits are final.
    """
    transform = axes.transData + axes.transAxes.inverted()
    placed = sorted(
        ([transform.transform((x, y))[1], x, y, text, colour] for x, y, text, colour in labels),
        key=lambda entry: entry[0],
    )
    for _ in range(200):
        moved = False
        for below, above in itertools.pairwise(placed):
            overlap = gap - (above[0] - below[0])
            if overlap > 1e-6:
                below[0] -= overlap / 2
                above[0] += overlap / 2
                moved = True
        if not moved:
            break
    lowest = gap / 2  # keep labels above the axis; move up only those that must
    for entry in placed:
        entry[0] = max(entry[0], lowest)
        lowest = entry[0] + gap
    for height, x, y, text, colour in placed:
        at = transform.transform((x, y))
        axes.annotate(
            text,
            xy=(at[0], at[1]),
            xycoords="axes fraction",
            xytext=(at[0] + 0.025, height),
            textcoords="axes fraction",
            color=colour,
            fontsize=9,
            va="center",
            annotation_clip=False,
            # From the text's left edge; a line to its middle would cross other labels.
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.5,
                "alpha": 0.6,
                "relpos": (0, 0.5),
            },
        )


def room_right(axes: Axes, share: float) -> None:
    """Extends the x axis to the right by a fraction `share` of its length, for labels."""
    left, right = axes.get_xlim()
    ticks = list(axes.get_xticks())
    if not isinstance(axes.xaxis.get_major_locator(), FixedLocator):
        # Fewer ticks, since the curves now take a smaller part of the axis.
        ticks = list(MaxNLocator(max(2, int(7 / (1 + share)))).tick_values(left, right))
    axes.set_xticks([tick for tick in ticks if left <= tick <= right])
    axes.set_xlim(left, right + share * (right - left))


def bars(
    axes: Axes,
    values: Mapping[str, Sequence[float]],
    colours: Mapping[str, str] | None = None,
    digits: int = 1,
    unit: str = "%",
    stalled: Mapping[str, int] | None = None,
) -> None:
    """Horizontal bars: names at the left, the mean at the end of its bar, a dot per seed.

    Values far above most others are marked at the right edge, so that they do not squeeze these: a
    bar that goes on is cut by a white line, a dot becomes an arrow. stalled: by name, the number of
    seeds left out of its values; written next to the mean.
    """
    names = list(values)
    edge, cut = _edge([value for have in values.values() for value in have])
    axes.set_xlim(0, edge)
    for place, name in enumerate(names):
        have = list(values[name])
        colour = (colours or {}).get(name, SERIES[0])
        mean = statistics.mean(have)
        axes.barh(place, min(mean, edge), color=colour, alpha=0.75, height=0.62)
        if mean > cut:
            low, high = place - 0.36, place + 0.36
            for at in (0.90, 0.915):
                axes.plot([at * edge, (at + 0.02) * edge], [high, low], color="white", lw=2)
        if len(have) > 1:
            seen = [value for value in have if value <= cut]
            beyond = [0.985 * edge] if len(seen) < len(have) else []
            for marker, dots in (("o", seen), (">", beyond)):
                line = [place + 0.15] * len(dots)
                axes.plot(dots, line, marker, color="black", markersize=3, alpha=0.6)
        count = (stalled or {}).get(name, 0)
        text = f"{mean:,.{digits}f}{unit}" + (f", {count} stalled" if count else "")
        inside = mean > cut
        # At the end of the bar, above the dots.
        axes.annotate(
            text,
            (0.88 * edge if inside else mean, place - 0.31),
            xytext=(-4 if inside else 4, -1),
            textcoords="offset points",
            va="top",
            ha="right" if inside else "left",
            color="white" if inside else "black",
            fontsize=9,
        )
    axes.set_yticks(range(len(names)), names)
    around = 0.5 + max(FEWEST_BARS - len(names), 0) / 2
    axes.set_ylim(len(names) - 1 + around, -around)
    axes.grid(visible=False, axis="y")


def _edge(values: Sequence[float]) -> tuple[float, float]:
    """The right edge of an axis from 0, and the largest value it shows in full.

    Values above OUTLYING times the median are not shown in full, unless they are a third of all.
    """
    ordered = sorted(values)
    shown = [value for value in ordered if value <= OUTLYING * statistics.median(ordered)]
    if not shown or shown[-1] <= 0 or 3 * (len(ordered) - len(shown)) >= len(ordered):
        shown = ordered
    if len(shown) < len(ordered):
        return 1.3 * shown[-1], shown[-1]
    return 1.22 * shown[-1] if shown[-1] > 0 else 1.0, shown[-1]


def scatter(
    axes: Axes,
    xs: Sequence[float],
    values: Sequence[Sequence[float]],
    colour: str,
    *,
    dashed: bool = False,
) -> None:
    """Means over seeds joined by a line, and a dot per seed."""
    means = [statistics.mean(have) for have in values]
    style, width = ("--", 1.4) if dashed else ("-", 2.0)
    axes.plot(xs, means, color=colour, marker="o", linestyle=style, linewidth=width)
    for x, have in zip(xs, values, strict=True):
        axes.plot([x] * len(have), have, ".", color=colour, alpha=0.35, markersize=6)


def curve(
    axes: Axes,
    seeds: Mapping[int, Record],
    group: str,
    colour: str,
    *,
    metric: str = "error",
    dashed: bool = False,
    per: float = 1.0,
) -> tuple[float, float] | None:
    """Draws the mean over seeds against the step, and a band from the smallest to the largest.

    per: steps per unit of the x axis. Returns the end of the curve; None if nothing was logged.
    """
    steps, values = mean_curve(seeds.values(), group, metric)
    if not steps:
        return None
    at = [step / per for step in steps]
    style, width = ("--", 1.1) if dashed else ("-", 1.8)
    axes.plot(at, values, color=colour, ls=style, lw=width)
    if len(seeds) > 1:
        low, high = band(seeds.values(), steps, group, metric)
        axes.fill_between(at, low, high, color=colour, alpha=0.12, linewidth=0)
    return at[-1], values[-1]


def curves(
    axes: Axes,
    records: Mapping[str, Mapping[int, Record]],
    *,
    group: str = "test",
    metric: str = "error",
    colours: Mapping[str, str] | None = None,
    room: float = 0.35,
    top: float | None = None,
) -> None:
    """Draws the mean over seeds of a metric against the step: one line per label, named at its end.

    Leaves out stalled seeds, as `moving`. room: as in room_right. top: upper limit of the axis in
    percent, cutting off higher values.
    """
    labels = []
    for index, (name, seeds) in enumerate(moving(records).items()):
        colour = (colours or {}).get(name, SERIES[index % len(SERIES)])
        end = curve(axes, seeds, group, colour, metric=metric)
        if end is not None:
            labels.append((*end, f"{name}  {end[1]:.1f}%", colour))
    highest = axes.get_ylim()[1]
    axes.set_ylim(0, highest if top is None else min(top, highest))
    percent(axes)
    room_right(axes, room)
    ends(axes, labels)


def beside_paper(
    records: Mapping[str, Mapping[int, Record]],
    *,
    title: str,
    note: str,
    published: tuple[str, Mapping[str, float]],
    digits: int = 1,
    group: str = "train",
    colours: Mapping[str, str] | None = None,
) -> Figure:
    """Three panels: an error against the step, the final test errors, the paper's errors.

    note: about the data. published: the last panel's title and its errors in percent by label.
    digits: decimals of those. group: which error the first panel shows, "train" or "test".
    """
    figure, axes = new(
        1,
        3,
        title=title,
        subtitle=f"{note} {LEGEND}",
        size=(16, 5.2),
    )
    colours = colours or {label: SERIES[i % len(SERIES)] for i, label in enumerate(records)}
    curves(axes[0][0], records, group=group, colours=colours, room=0.8)
    heading(axes[0][0], {"train": "Training error", "test": "Test error"}[group], "step", "error")
    bars(axes[0][1], finals(records, "test_error"), colours, stalled=stalls(records))
    heading(axes[0][1], "Final test error, measured here", "error (%), on its own scale")
    text, printed = published
    values = {label: [error] for label, error in printed.items()}
    bars(axes[0][2], values, dict.fromkeys(printed, GREY), digits=digits)
    heading(axes[0][2], text, "error (%), on its own scale")
    return figure


def moving(
    records: Mapping[str, Mapping[int, Record]],
) -> dict[str, Mapping[int, Record]]:
    """The records without stalled seeds; a label whose seeds have all stalled keeps them."""
    kept = {
        label: {seed: record for seed, record in seeds.items() if not record.stalled}
        for label, seeds in records.items()
    }
    return {label: kept[label] or seeds for label, seeds in records.items()}


def stalls(records: Mapping[str, Mapping[int, Record]]) -> dict[str, int]:
    """The number of stalled seeds by label."""
    return {label: sum(r.stalled for r in seeds.values()) for label, seeds in records.items()}


def finals(
    records: Mapping[str, Mapping[int, Record]], metric: str, factor: float = 100.0
) -> dict[str, list[float]]:
    """By label, a metric at the last step of every seed that did not stall, as `moving`.

    Labels without the metric are left out.
    """
    return {
        label: [factor * record.last(metric) for record in seeds.values()]
        for label, seeds in moving(records).items()
        if all(metric in record.result["last"] for record in seeds.values())
    }
