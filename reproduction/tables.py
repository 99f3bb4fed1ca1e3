"""A study's table as Markdown: measured mean ± sd next to published values, verdicts, provenance.

A pure function of the study and its records, without times or paths: the same logs always give the
same text, so that `reproduce.py --check` can compare it.
"""

import statistics
import textwrap
from collections.abc import Mapping, Sequence

from reproduction import inference, verdict
from reproduction.records import Record
from reproduction.study import OURS, STALLS, Column, Records, Study, seeds_of
from reproduction.verdict import Verdict

RULE = (
    "Gaps are differences between paired seeds, positive if the claim holds. Intervals are by "
    "Student's t; p-values have Holm's correction over the claims of this table; decisions are at "
    "5%. Reproduced: the gap is above zero. Contradicted: it is below zero, or outside the margin "
    "if the claim says “no worse” or “within”. Equivalent: it is within the margin, which confirms "
    "a claim of “no worse” or “within” and refutes any other. Undecided: anything else, and always "
    "with fewer than three seeds. The last column is the number of seeds that would show a gap of "
    "the margin with 80% power, and the present power. A run has stalled if its training loss ends "
    "within 2% of chance: its seed is left out of the claims, and the run out of the means."
)
FALLEN = "Claims that were refuted"


def steps_to(error: float, group: str = "train") -> Column:
    """The column of the first logged step at which an error is reached."""
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
    """ "mean ± sd" of the values that are not None, with their number if some are None."""
    have = [factor * value for value in values if value is not None]
    if not have:
        return ""
    text = f"{statistics.mean(have):,.{digits}f}"
    if len(have) > 1:
        text += f" ± {statistics.stdev(have):,.{digits}f}"
    return text if len(have) == len(values) else f"{text} ({len(have)} of {len(values)} seeds)"


def cells(study: Study, records: Records) -> list[list[str]]:
    """Heading and rows of the table; columns without any value are left out.

    Means are over the runs that did not stall, or over all runs of a label if all stalled.
    """
    columns = _columns(study, records)
    printed = any(label in study.published for label in records)
    stalled = {
        label: sum(record.stalled for record in seeds.values()) for label, seeds in records.items()
    }
    shown = any(stalled.values())
    heading = ["run", "seeds", *(["stalled"] if shown else []), *(c.heading for c in columns)]
    rows = [[*heading, study.published_heading] if printed else heading]
    for label, seeds in records.items():
        row = [label, str(len(seeds)), *([str(stalled[label] or "")] if shown else [])]
        moving = [record for record in seeds.values() if not record.stalled]
        for column in columns:
            values = [column.value(record) for record in moving or seeds.values()]
            values = values if column.spread else values[:1]
            text = spread(values, digits=column.digits, factor=column.factor)
            row.append(text or column.missing)
        rows.append([*row, study.published.get(label, "")] if printed else row)
    return rows


def by_seed(study: Study, records: Records, label: str) -> list[list[str]]:
    """Heading and a row per seed of one label: the numbers that `cells` takes the mean of."""
    columns = _columns(study, records)
    rows = [["seed", *(column.heading for column in columns), ""]]
    for seed, record in records[label].items():
        values = [
            spread([column.value(record)], digits=column.digits, factor=column.factor)
            or column.missing
            for column in columns
        ]
        rows.append([str(seed), *values, "stalled" if record.stalled else ""])
    return rows


def _columns(study: Study, records: Records) -> list[Column]:
    """The columns that any record has a value for."""
    flat = [record for seeds in records.values() for record in seeds.values()]
    return [
        column
        for column in (*ERRORS, *study.columns)
        if any(column.value(record) is not None for record in flat)
    ]


def verdict_cells(study: Study, data: str, records: Records) -> list[list[str]]:
    """Heading and rows of the verdicts."""
    rows = [
        [
            "claim",
            "source",
            "verdict",
            "mean gap, 95% interval",
            "margin",
            "p (Holm)",
            "seeds",
            "stalled",
            "seeds for 80% power",
        ]
    ]
    for found in verdict.judge(study.claims_on(data), records, data):
        rows.append(
            [
                found.claim.text,
                found.claim.source,
                found.outcome,
                gap(found),
                f"{found.margin:.2f}" if found.margin > 0 else "",
                "" if found.p is None else f"{found.p:.3f}",
                str(found.seeds),
                str(found.stalled or ""),
                _needed(found),
            ]
        )
    return rows


def gap(found: Verdict) -> str:
    """The mean gap with its interval and unit; "" if there is none."""
    if found.mean is None:
        return ""
    unit = "points of stalls" if found.claim.kind == STALLS else found.claim.unit
    within = ""
    if found.interval is not None:
        low, high = found.interval
        within = f" [{low:+.2f}, {high:+.2f}]"
    return f"{found.mean + 0.0:+.2f}{within} {unit}"


def _needed(found: Verdict) -> str:
    if found.outcome != verdict.UNDECIDED or found.p is None:
        return ""
    needed = f"over {inference.MOST_SEEDS:,}" if found.needed is None else f"{found.needed:,}"
    return needed if found.power is None else f"{needed} (now {100 * found.power:.0f}%)"


def summary(found: Sequence[tuple[Study, str, Records]]) -> list[list[str]]:
    """Heading and rows: the number of verdicts by outcome, per published study and data set."""
    rows = [["study", "figure", "data", "seeds", *verdict.OUTCOMES]]
    for study, data, records in found:
        judged = verdict.judge(study.claims_on(data), records, data)
        rows.append(
            [
                study.title,
                f"{study.paper}, {study.figure}",
                data,
                str(len(seeds_of(records))),
                *_counted(judged),
            ]
        )
    return rows


def totals(found: Sequence[tuple[Study, str, Records]]) -> list[list[str]]:
    """Heading and rows: the number of verdicts by paper, the paper's claims and ours separately.

    The last two rows are over all papers.
    """
    judged: dict[tuple[str, str], list[Verdict]] = {}
    for study, data, records in found:
        for one in verdict.judge(study.claims_on(data), records, data):
            whose = "ours" if one.claim.source == OURS else "the paper's"
            judged.setdefault((study.paper, whose), []).append(one)
    rows = [["paper", "claims", *verdict.OUTCOMES]]
    rows += [[*key, *_counted(verdicts)] for key, verdicts in sorted(judged.items())]
    for whose in ("the paper's", "ours"):
        of_all = [one for key, some in judged.items() if key[1] == whose for one in some]
        rows.append(["all", whose, *_counted(of_all)])
    return rows


def fallen(found: Sequence[tuple[Study, str, Records]]) -> list[str]:
    """A sentence for each claim whose opposite was shown."""
    return [
        f"{study.title}, {data}: “{one.claim.text}” ({one.claim.source}) is "
        + (
            f"contradicted, gap {gap(one)}"
            if one.outcome == verdict.CONTRADICTED
            else f"refuted, the gap is within ±{one.margin:.2f} {one.claim.unit}"
        )
        for study, data, records in found
        for one in verdict.judge(study.claims_on(data), records, data)
        if one.holds is False
    ]


def _counted(judged: Sequence[Verdict]) -> list[str]:
    outcomes = [one.outcome for one in judged]
    return [str(outcomes.count(outcome) or "") for outcome in verdict.OUTCOMES]


def on_data(study: Study, data: str) -> str:
    """A sentence on whether the data is the paper's."""
    name = study.scales[data].data_set or data
    if study.scales[data].papers_data:
        return f"On {name}, the paper's own data."
    if not study.claims:
        return f"On {name}."
    text = f"On {name}, which is not the paper's data: the verdicts hold only for this data."
    if name == "digits":
        text += " One of its 360 test images is 0.28 points."
    return text


def provenance(records: Records) -> dict[str, str]:
    """Where the numbers come from: seeds, versions, device, commit."""
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
        "Mean ± standard deviation over seeds. Training error is measured during training, as the "
        "mean over the last logging interval.",
        "",
        *(verdicts(study, data, records) if study.claims else ()),
        f"    {command(study, data, seeds)}",
        "",
        *(f"- {name}: {text}" for name, text in provenance(records).items()),
    ]
    return "\n".join(lines) + "\n"


def verdicts(study: Study, data: str, records: Records) -> list[str]:
    """The verdicts in Markdown, with the rule."""
    return [
        *rows_of_markdown(verdict_cells(study, data, records), words=2),
        "",
        *textwrap.wrap(RULE, 100),
        "",
    ]


def command(study: Study, data: str, seeds: Sequence[int]) -> str:
    """The command that produces these numbers."""
    if study.command:
        return study.command
    return f"python reproduce.py {study.name} --data={data} --seeds={','.join(map(str, seeds))}"


def rows_of_markdown(rows: Sequence[Sequence[str]], words: int = 1) -> list[str]:
    """A Markdown table; all but the first `words` columns are right-aligned."""
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
