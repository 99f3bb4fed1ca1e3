"""A study's table as Markdown: measured mean ± sd beside the published value, verdicts, provenance.

A pure function of the study and its records, without times or paths: the same logs always give the
same text, which is what `reproduce.py --check` compares.
"""

import statistics
from collections.abc import Mapping, Sequence

from reproduction import verdict
from reproduction.records import Record
from reproduction.study import Column, Records, Study, seeds_of


def steps_to(error: float, group: str = "train") -> Column:
    """The column of the steps until an error is reached, to the nearest logged step."""
    what = {"train": "training", "test": "test"}[group]
    return Column(
        f"steps to {100 * error:g}% {what} error",
        lambda record: record.steps_to(error, group),
        digits=0,
        missing="never",
    )


def _best(which: str) -> Column:
    def value(record: Record) -> float | None:
        entry = record.result[which]
        return entry["test_error"] if entry else None

    headings = {
        "validation_best": "test error, step chosen on validation (%)",
        "test_best": "best test error of any step (%)",
    }
    return Column(headings[which], value, digits=2, factor=100)


ERRORS = (
    Column(
        "final training error (%)",
        lambda record: record.result["last"].get("train_error"),
        digits=2,
        factor=100,
    ),
    Column("final test error (%)", lambda record: record.last("test_error"), digits=2, factor=100),
    _best("validation_best"),
    _best("test_best"),
)


def spread(values: Sequence[float | None], *, digits: int = 1, factor: float = 1.0) -> str:
    """ "mean ± sd" of the values; how many have one where some do not, "" where none has."""
    have = [factor * value for value in values if value is not None]
    if not have:
        return ""
    text = f"{statistics.mean(have):,.{digits}f}"
    if len(have) > 1:
        text += f" ± {statistics.stdev(have):,.{digits}f}"
    return text if len(have) == len(values) else f"{text} ({len(have)} of {len(values)} seeds)"


def cells(study: Study, records: Records) -> list[list[str]]:
    """Heading and rows of the table. A column no run has a value for is left out."""
    columns = [
        column
        for column in (*ERRORS, *study.columns)
        if any(
            column.value(record) is not None
            for seeds in records.values()
            for record in seeds.values()
        )
    ]
    printed = any(label in study.published for label in records)
    heading = ["run", "seeds", *(column.heading for column in columns)]
    rows = [[*heading, study.published_heading] if printed else heading]
    for label, seeds in records.items():
        row = [label, str(len(seeds))]
        for column in columns:
            values = [column.value(record) for record in seeds.values()]
            values = values if column.spread else values[:1]
            text = spread(values, digits=column.digits, factor=column.factor)
            row.append(text or column.missing)
        rows.append([*row, study.published.get(label, "")] if printed else row)
    return rows


def verdict_cells(study: Study, data: str, records: Records) -> list[list[str]]:
    """Heading and rows of the verdicts."""
    rows = [["what must hold", "verdict", "gap, mean ± standard error", "seeds"]]
    for found in verdict.judge(study.claims_on(data), records, data):
        gap = ""
        if found.mean is not None:
            gap = f"{found.mean:+.2f}"
            if found.standard_error is not None:
                gap += f" ± {found.standard_error:.2f}"
            gap += f" {found.claim.unit}"
        rows.append([found.claim.text, found.outcome, gap, str(found.seeds)])
    return rows


def summary(found: Sequence[tuple[Study, str, Records]]) -> list[list[str]]:
    """Heading and rows of all that is published: a line a study and data set, verdicts counted."""
    outcomes = (verdict.REPRODUCED, verdict.NOT_REPRODUCED, verdict.INCONCLUSIVE)
    rows = [["study", "of", "data", "seeds", *outcomes]]
    for study, data, records in found:
        judged = verdict.judge(study.claims_on(data), records, data)
        found_outcomes = [each.outcome for each in judged]
        rows.append(
            [
                study.title,
                f"{study.paper}, {study.figure}",
                data,
                str(len(seeds_of(records))),
                *(str(found_outcomes.count(outcome) or "") for outcome in outcomes),
            ]
        )
    return rows


def on_data(study: Study, data: str) -> str:
    """A sentence that says whether the data is the paper's."""
    if study.scales[data].papers_data:
        return f"On {data}, the paper's own data."
    if not study.claims:
        return f"On {data}."
    text = f"On {data}, which is not the paper's data: the verdicts speak for this data alone."
    if data == "digits":
        text += " Its 360 test images make one image 0.28 points."
    return text


def provenance(records: Records) -> dict[str, str]:
    """What the numbers come from: seeds, versions, device, commit."""
    flat = [record for seeds in records.values() for record in seeds.values()]
    environments = [record.environment for record in flat]

    def shared(texts: Sequence[str]) -> str:
        return ", ".join(dict.fromkeys(texts))

    return {
        "seeds": ", ".join(map(str, seeds_of(records))),
        "results version": shared([str(record.results_version) for record in flat]),
        "versions": shared([_versions(environment["packages"]) for environment in environments]),
        "device": shared(
            [
                f"{entry['devices']} × {entry['device_kind']} ({entry['processor_cores']} cores)"
                for entry in environments
            ]
        ),
        "commit": shared([_commit(entry["commit"]) for entry in environments]),
    }


def markdown(study: Study, data: str, records: Records) -> str:
    """table.md of a study on a data set."""
    seeds = seeds_of(records)
    lines = [
        f"# {study.title}",
        "",
        f"{study.paper}, {study.figure}. {study.question}".rstrip(),
        "",
        f"{on_data(study, data)} {study.scales[data].note}".rstrip(),
        "",
        *rows_of_markdown(cells(study, records)),
        "",
        "Mean ± standard deviation over seeds. Training error is the mean over the last logged "
        "interval, while training.",
        "",
        *(verdicts(study, data, records) if study.claims else ()),
        f"    {command(study, data, seeds)}",
        "",
        *(f"- {name}: {text}" for name, text in provenance(records).items()),
    ]
    return "\n".join(lines) + "\n"


def verdicts(study: Study, data: str, records: Records) -> list[str]:
    """The verdicts in Markdown, with the rule they follow."""
    return [
        *rows_of_markdown(verdict_cells(study, data, records)),
        "",
        "Reproduced: the mean gap over paired seeds is above zero by more than two standard "
        "errors; not reproduced: below by as much; else, and with one seed always, inconclusive.",
        "",
    ]


def command(study: Study, data: str, seeds: Sequence[int]) -> str:
    """The command that gives these numbers."""
    if study.command:
        return study.command
    return f"python reproduce.py {study.name} --data={data} --seeds={','.join(map(str, seeds))}"


def rows_of_markdown(rows: Sequence[Sequence[str]], words: int = 1) -> list[str]:
    """A Markdown table, right-aligned but for the first columns, `words` of them."""
    heading, *rest = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    rule = ["---" if column < words else "--:" for column in range(len(heading))]
    return ["| " + " | ".join(row) + " |" for row in (heading, rule, *rest)]


def _versions(packages: Mapping[str, str]) -> str:
    return " ".join(f"{name} {packages[name]}" for name in ("jax", "flax", "optax"))


def _commit(commit: str | None) -> str:
    if commit is None:
        return "unknown"
    digest, plus, changes = commit.partition("+")
    return digest[:12] + plus + changes
