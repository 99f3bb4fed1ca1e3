"""Fills in the verdicts of docs/lecture.md: a pure function of the code and the committed logs.

`<!-- lecture: SECTION -->` is followed by the section's claims, `<!-- lecture -->` by the table of
all of them, `<!-- lecture totals -->` by the number of claims by verdict.
"""

import collections
import functools
import pathlib
import re
from collections.abc import Callable

import studies
from errors import UserError
from lecture import pictures
from lecture.claim import Claim, Count, Counted, Held, Studied
from lecture.claims import CLAIMS, SECTIONS
from reproduction import publishing, tables, verdict
from reproduction.study import ROOT, Study, by_label
from reproduction.verdict import Verdict

PAGE = ROOT / "docs" / "lecture.md"

HOLDS, FAILS, HELD, NO_STUDY = "holds", "does not hold", "held by a test", "no study yet"
MARKED = re.compile(
    r"(<!-- lecture(?:(?: (totals))|(?:: (.+?)))? -->\n)(.*?)(<!-- end of lecture -->)", re.DOTALL
)


def fill(text: str, results: pathlib.Path = publishing.RESULTS) -> str:
    """The page with its verdicts. Raises UserError for a section without claims."""

    def filled(match: re.Match[str]) -> str:
        start, totals, section, _, end = match.groups()
        if section and section not in SECTIONS:
            raise UserError(f"{section!r} is no section of the lecture: {', '.join(SECTIONS)}")
        if section:
            chosen = [claim for claim in CLAIMS if claim.section == section]
            lines = [f"- {claim.text}: {said(claim, results)}" for claim in chosen]
        elif totals:
            lines = tables.rows_of_markdown(counted(results))
        else:
            lines = tables.rows_of_markdown(rows(results), words=4)
        return f"{start}\n" + "\n".join(lines) + f"\n\n{end}"

    return MARKED.sub(filled, text)


def stale(results: pathlib.Path = publishing.RESULTS) -> list[str]:
    """A line if the page is not what the code and the logs give."""
    text = PAGE.read_text()
    return (
        []
        if text == fill(text, results)
        else [f"{PAGE}: differs from the logs; reproduce.py --redraw"]
    )


def rows(results: pathlib.Path) -> list[list[str]]:
    """Heading and rows: section, claim, seen by, verdict."""
    found = [["section", "claim", "seen by", "verdict"]]
    return found + [
        [claim.section, claim.text, seen_by(claim, results), said(claim, results)]
        for claim in CLAIMS
    ]


def counted(results: pathlib.Path) -> list[list[str]]:
    """Heading and rows: how many claims have which verdict.

    A claim that a study judged on several data sets counts for each of them.
    """
    verdicts = [word for claim in CLAIMS for word in words(claim, results)]
    return [["verdict", "claims"]] + [
        [word, str(count)] for word, count in collections.Counter(verdicts).most_common()
    ]


def seen_by(claim: Claim, results: pathlib.Path) -> str:
    """The command, and a link to its picture."""
    match claim.seen_by:
        case Counted(command, _):
            drawn = pictures.name(pictures.networks(command))
            shown = f", [picture](pictures/{drawn})" if drawn in pictures.wanted() else ""
            return f"`{command}`{shown}"
        case Held(test):
            return f"`python -m pytest {test}`"
        case Studied(name, _) as studied:
            figures = [
                f"[figure](../results/{name}/{data}/figure.png)"
                for data, _ in judged(studied, results)
            ]
            return ", ".join([f"`{command_of(studied, results)}`", *dict.fromkeys(figures)])


def command_of(studied: Studied, results: pathlib.Path) -> str:
    """The command that runs the study where it is published, else on the first small data."""
    study = studies.STUDIES.get(studied.study)
    if study is None:
        return f"python reproduce.py {studied.study}"
    published = [data for data, _ in judged(studied, results)]
    small = [
        data
        for data, scale in study.scales.items()
        if not scale.papers_data
        and any(studied.names(claim.text) for claim in study.claims_on(data))
    ]
    return f"python reproduce.py {study.name} --data={(published or small)[0]}"


def words(claim: Claim, results: pathlib.Path) -> list[str]:
    """The verdict in a word; one for each data set that a study judged it on."""
    match claim.seen_by:
        case Counted(_, count):
            return [HOLDS if _count(count).holds else FAILS]
        case Held():
            return [HELD]
        case Studied(name, _) as studied:
            found = judged(studied, results)
            unseen = verdict.NOT_RUN if name in studies.STUDIES else NO_STUDY
            return [outcome(one) for _, one in found] or [unseen]


def said(claim: Claim, results: pathlib.Path) -> str:
    """The verdict with its numbers, as Markdown in one line."""
    match claim.seen_by:
        case Counted(_, count):
            return f"**{words(claim, results)[0]}**, {_count(count).numbers}"
        case Studied(name, text) as studied if found := judged(studied, results):
            return "; ".join(
                f"**{outcome(one)}** on [{data}](../results/{name}/{data}/table.md)"
                + (f", {gap}" if (gap := tables.gap(one)) else "")
                + ("" if text else f" ({one.claim.text})")
                for data, one in found
            )
        case _:
            return f"**{words(claim, results)[0]}**"


def outcome(one: Verdict) -> str:
    """The verdict in words; equivalence confirms a claim of "no worse" and refutes "less"."""
    if one.outcome != verdict.EQUIVALENT:
        return one.outcome
    return f"{one.outcome}: {'confirmed' if one.holds else 'refuted'}"


def judged(studied: Studied, results: pathlib.Path) -> list[tuple[str, Verdict]]:
    """The data sets that the study is published on, with the verdict on its claims there."""
    study = studies.STUDIES.get(studied.study)
    if study is None:
        return []
    return [
        (data, one)
        for data in study.scales
        for one in _verdicts(study.name, data, results)
        if studied.names(one.claim.text)
    ]


@functools.cache  # a claim is shown in its section, in the table of all and in the totals
def _count(count: Callable[[], Count]) -> Count:
    return count()


@functools.cache
def _verdicts(name: str, data: str, results: pathlib.Path) -> tuple[Verdict, ...]:
    study: Study = studies.STUDIES[name]
    records = publishing.committed(study, data, results)
    if not records:
        return ()
    ordered = by_label(records, study.scale(data).runs)
    return tuple(verdict.judge(study.claims_on(data), ordered, data))
