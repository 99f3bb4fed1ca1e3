"""The page of evaluate.py --report: confusions, errors by class, calibration, worst mistakes."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from protocols import error_tables, scoring
from protocols.scoring import Answers
from training import workdirs
from webpages import charts, document
from webpages.document import text

WORST = 48  # mistakes shown
LARGEST = 30  # classes of a confusion matrix that is a table; beyond it is a picture
SHOWN = 160  # pixels: the longest side of an image on the page

Read = Callable[[int], np.ndarray]  # the n-th image that was tested -> uint8 [H, W, C]


def write(path: pathlib.Path, sections: Sequence[str], data: str) -> None:
    """Writes the page of these sections. Raises UserError if it cannot."""
    workdirs.write_whole(path, document.page(f"Mistakes on {data}", "\n".join(sections)))


def section(
    report: dict[str, Any], answers: Answers, class_names: Sequence[str], read: Read
) -> str:
    """One result of evaluate.py: `report` as in evaluations/, and the answers it was made of.

    read: called once for each picture.
    """
    networks = "; ".join(
        f"{network['network']}, {network['workdir']}, seed {network['seed']}, step "
        f"{network['step']} ({network['chosen']})"
        for network in report["networks"]
    )
    ece = report["calibration"]["ece"]
    numbers = [
        ("top-1 error (95%)", error_tables.percent(report["top1"])),
        ("top-5 error (95%)", error_tables.percent(report["top5"])),
        ("loss", f"{report['loss']:.4f}"),
        ("expected calibration error", f"{100 * ece:.2f}%"),
        ("commit", report["environment"]["commit"] or "unknown"),
    ]
    rows = [[text(name), text(value)] for name, value in numbers if value]
    left_out = f", {report['damaged']} damaged ones left out" if report["damaged"] else ""
    return f"""<section>
<h2>{text(report["protocol"])}, {text(report["data"])} {text(report["split"])}:
{report["images"]:,} images{left_out}</h2>
<p class="source">{text(networks)}</p>
{document.table("fields", ("number", "value"), rows, "Numbers")}
<h3>Worst mistakes</h3>
{_worst(answers, class_names, read)}
<h3>Confusion matrix</h3>
{_confusion(answers, class_names)}
<h3>Errors by class</h3>
{_by_class(report)}
<h3>Calibration</h3>
{_calibration(report["calibration"])}
</section>"""


def _worst(answers: Answers, class_names: Sequence[str], read: Read) -> str:
    wrong = np.flatnonzero(answers.rank > 0)
    if not wrong.size:
        return "<p>No image was taken for another class.</p>"
    order = wrong[np.argsort(-answers.loss[wrong], kind="stable")][:WORST]
    figures = []
    for place in order.tolist():
        true = class_names[answers.label[place]]
        taken = class_names[answers.predicted[place]]
        sure, chance = answers.confidence[place], np.exp(-float(answers.loss[place]))
        image = document.picture(charts.png(read(place), longest=SHOWN), f"image {place}: {true}")
        figures.append(
            f"<figure>{image}<figcaption><b>{text(true)}</b> taken for <b>{text(taken)}</b><br>"
            f"{100 * sure:.1f}% sure; {text(true)}: {100 * chance:.2g}%<br>"
            f"image {place:,}</figcaption></figure>"
        )
    return (
        f'<p class="note">{len(order):,} of {wrong.size:,} mistakes, those with the least '
        "posterior of the true class first. Images are as stored, numbered in the order of the "
        "test.</p>"
        f'<div class="sheet">{"".join(figures)}</div>'
    )


def _confusion(answers: Answers, class_names: Sequence[str]) -> str:
    counts = scoring.confusion(answers, len(class_names))
    totals = counts.sum(axis=1)
    shares = counts / np.maximum(totals, 1)[:, None]
    if len(class_names) > LARGEST:
        shown = charts.map_of(shares, "Confusion matrix: true classes down, answers across")
        return (
            '<p class="note">A pixel for each pair: true classes down, answers across, in the '
            f"order of the data set; dark is many.</p>{shown}{_pairs(answers, class_names)}"
        )
    rows = []
    for true, name in enumerate(class_names):
        cells = []
        for taken in range(len(class_names)):
            count, share = int(counts[true, taken]), float(shares[true, taken])
            right = true == taken
            # Blue is right, orange wrong; small shares are seen too.
            hue = "0, 105, 168" if right else "209, 87, 10"
            style = f"background: rgba({hue}, {0.45 * share**0.5:.2f})" if count else ""
            kind = ' class="diagonal"' if right else ""
            cells.append(f'<span{kind} style="{style}">{count or ""}</span>')
        rows.append([text(name), *cells, f"{totals[true]:,}"])
    return '<p class="note">Rows are the true classes, columns the answers.</p>' + document.table(
        "confusion", ("true", *class_names, "images"), rows, "Confusion matrix"
    )


def _pairs(answers: Answers, class_names: Sequence[str]) -> str:
    rows = [
        [pair["true"], pair["predicted"], f"{pair['images']:,}"]
        for pair in scoring.confused(answers, class_names)
    ]
    heading = ("true", "taken for", "images")
    return document.table("pairs", heading, document.texts(rows), "Most frequent confusions")


def _by_class(report: dict[str, Any]) -> str:
    ordered = sorted(report["classes"], key=lambda entry: -entry["error"])
    rows = []
    for entry in ordered:
        share = 100 * entry["error"]
        bar = f'<span class="bar" style="width: {share:.1f}%"></span>'
        counts = [f"{entry['images']:,}", f"{entry['errors']:,}"]
        rows.append([text(entry["name"]), *counts, text(error_tables.percent(entry)), bar])
    heading = ("class", "images", "errors", "error (95%)", "")
    return document.table("by-class", heading, rows, "Errors by class")


def _calibration(found: dict[str, Any]) -> str:
    total = sum(entry["images"] for entry in found["bins"])
    bars = [
        (entry["low"], entry["high"], entry["accuracy"], entry["images"] / total)
        for entry in found["bins"]
    ]
    drawn = charts.against_diagonal(
        bars,
        x="confidence",
        y="accuracy",
        description="Accuracy by confidence, and how many images have it; numbers in the table",
    )
    rows = [
        [
            f"{entry['low']:.3f} to {entry['high']:.3f}",
            f"{entry['images']:,}",
            f"{100 * entry['confidence']:.1f}%",
            f"{100 * entry['accuracy']:.1f}%",
        ]
        for entry in found["bins"]
        if entry["images"]
    ]
    heading = ("confidence", "images", "mean confidence", "accuracy")
    return (
        f'<p class="note">Expected calibration error {100 * found["ece"]:.2f}%: the gap between '
        f"accuracy and confidence, weighted by images, over {len(bars)} bins (Guo et al. 2017, "
        "eq. 3). Bars under the dashed line: surer than right.</p>"
        + drawn
        + document.table("bins", heading, rows, "Calibration by bin")
    )
