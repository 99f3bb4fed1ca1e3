"""The tables that evaluate.py prints and publishes: one row per protocol, errors in percent.

Computed only from the reports, so that a published table can be regenerated from its JSON file.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

from errors import UserError
from papers import results
from training import progress, workdirs


def percent(part: dict[str, Any] | None) -> str:
    """An error in percent with its interval; "" for None."""
    if part is None:
        return ""
    return f"{100 * part['error']:.2f}% ({100 * part['low']:.2f}-{100 * part['high']:.2f})"


def views(entry: dict[str, Any]) -> str:
    """The number of views that the protocol has, and of those that differ: "144 (48 distinct)"."""
    printed, distinct = entry["views"], entry["distinct_views"]
    return str(printed) if distinct in (None, printed) else f"{printed} ({distinct} distinct)"


def summary(reports: Sequence[dict[str, Any]]) -> str:
    """One row per protocol and ensemble, under a title that names the networks and the images."""
    first = max(reports, key=lambda report: report["members"])
    titles = [
        f"{network['network']}, {network['workdir']}, step {network['step']} ({network['chosen']})"
        for network in first["networks"]
    ]
    kind = "" if len(titles) == 1 else f"ensemble of {len(titles)}: posteriors averaged\n"
    heading = ("protocol", "networks", "views", "top-1 error (95%)", "top-5 error (95%)", "loss")
    rows = [(*heading, "multiply-adds", "images/s")]
    for report in reports:
        rows.append(
            (
                report["protocol"],
                str(report["members"]),
                views(report),
                percent(report["top1"]),
                percent(report["top5"]),
                f"{report['loss']:.4f}",
                f"{report['multiply_adds']:,.0f}",
                f"{report['clock']['images_per_s']:,.0f}",
            )
        )
    damaged = f", {first['damaged']} damaged ones left out" if first["damaged"] else ""
    what = f"{first['data']}, {first['split']}: {first['images']:,} images{damaged}"
    return "\n".join([f"{kind}{chr(10).join(titles)}", what, "", progress.table(rows)])


def details(report: dict[str, Any]) -> str:
    """Error by class, largest first, and the most confused pairs."""
    worst = sorted(report["classes"], key=lambda entry: -entry["error"])[:20]
    by_class = [("class", "images", "error (95%)")]
    by_class += [(entry["name"], str(entry["images"]), percent(entry)) for entry in worst]
    pairs = [("true", "taken for", "images")]
    pairs += [
        (pair["true"], pair["predicted"], str(pair["images"])) for pair in report["confused"][:10]
    ]
    return f"{progress.table(by_class)}\n\n{progress.table(pairs)}"


def beside_published(reports: Sequence[dict[str, Any]]) -> str:
    """The papers' entries for these networks, each beside our measurement if there is one."""
    names_of = [
        tuple(sorted(network["network"] for network in report["networks"])) for report in reports
    ]
    names = max(names_of, key=len)
    entries: dict[tuple[Any, ...], dict[str, results.Row]] = {}
    for row in results.rows(*names):
        if row.protocol:
            key = (row.networks, row.protocol, row.data, row.source, row.remark)
            entries.setdefault(key, {})[row.metric] = row
    if not entries:
        return f"no paper's table has {', '.join(sorted(set(names)))}"
    measured = {
        (report["protocol"], of): report for report, of in zip(reports, names_of, strict=True)
    }
    here = f"here, {reports[0]['data']} {reports[0]['split']}"
    heading = ("networks", "protocol", "published on", "top-1", "top-5", f"{here}: top-1", "top-5")
    rows = [(*heading, "source")]
    for (networks, protocol, data, source, remark), printed in entries.items():
        report = measured.get((protocol, tuple(sorted(networks))))
        rows.append(
            (
                _together(networks),
                protocol,
                data,
                *(f"{printed[m].text}%" if m in printed else "" for m in ("top1", "top5")),
                percent(report["top1"]) if report else "",
                percent(report["top5"]) if report else "",
                source + (f"; {remark}" if remark else ""),
            )
        )
    return progress.table(rows)


def _together(networks: Sequence[str]) -> str:
    names = sorted(set(networks))
    return " + ".join(
        name if networks.count(name) == 1 else f"{networks.count(name)} × {name}" for name in names
    )


# The published fields: none depends on the machine.
KEPT = (
    *("protocol", "source", "data", "split", "members", "average", "views", "distinct_views"),
    "multiply_adds",
    *("images", "damaged", "top1", "top5", "loss"),
)


def check_stem(stem: pathlib.Path) -> None:
    """Raises UserError if `publish` could not write there; call before anything is computed."""
    if not stem.parent.is_dir():
        raise UserError(f"--publish: there is no folder {stem.parent}")
    if stem.is_dir():
        raise UserError(f"--publish: {stem} is a folder; name the files, e.g. {stem / 'table'}")
    workdirs.require_writable(stem.parent)


def publish(reports: Sequence[dict[str, Any]], stem: pathlib.Path) -> None:
    """Writes the numbers to <stem>.json and their table to <stem>.md.

    Raises UserError if they cannot be written.
    """
    networks = [
        {key: value for key, value in network.items() if key != "workdir"}
        for network in max(reports, key=lambda report: report["members"])["networks"]
    ]
    kept = {
        "networks": networks,
        "protocols": [{key: report[key] for key in KEPT} for report in reports],
    }
    workdirs.write_json(stem.with_name(f"{stem.name}.json"), kept)
    workdirs.write_whole(stem.with_name(f"{stem.name}.md"), markdown(kept))


def markdown(kept: dict[str, Any]) -> str:
    """The table of error and cost, one row per protocol and ensemble, cheapest first."""
    first = kept["protocols"][0]
    lines = [
        f"{_described(kept['networks'])}, on the {first['images']:,} {first['split']} images of "
        f"{first['data']}.",
        "",
        "| protocol | networks | views | multiply-adds an image | cost | top-1 error (95%) | top-5 "
        "| loss |",
        "|---|---|---|---|---|---|---|---|",
    ]
    one = min(entry["multiply_adds"] for entry in kept["protocols"])
    for entry in sorted(kept["protocols"], key=lambda entry: entry["multiply_adds"]):
        top5 = "" if entry["top5"] is None else f"{100 * entry['top5']['error']:.2f}%"
        lines.append(
            f"| {entry['protocol']} | {entry['members']} | {views(entry)} | "
            f"{entry['multiply_adds']:,.0f} | ×{entry['multiply_adds'] / one:.1f} | "
            f"{percent(entry['top1'])} | {top5} | {entry['loss']:.4f} |"
        )
    return "\n".join(lines) + "\n"


def _described(networks: Sequence[dict[str, Any]]) -> str:
    """The networks in words; those that differ only by seed together."""
    alike: dict[str, list[str]] = {}
    for network in networks:
        rest = f"trained on {network['trained_on']}, step {network['step']}: {network['chosen']}"
        alike.setdefault(f"{network['network']}|{rest}", []).append(str(network["seed"]))
    texts = []
    for key, seeds in alike.items():
        name, rest = key.split("|")
        word = "seed" if len(seeds) == 1 else "seeds"
        texts.append(f"{name} ({word} {', '.join(seeds)}, {rest})")
    return " and ".join(texts)
