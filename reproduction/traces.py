"""Where the numbers of runs come from, as HTML: by seed, with command, config, commit and log."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from reproduction.records import Record
from webpages import document
from webpages.document import text

SEED = "seed"  # the field that runs of one label differ in


@dataclasses.dataclass(frozen=True)
class Source:
    """What one run's numbers were made of and are read from. log: a path from the page."""

    command: str
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    log: str


def of_record(record: Record, log: str) -> Source:
    """The source of a published run."""
    return Source(record.command, record.config, record.environment, log)


def of_label(
    name: str, label: str, rows: Sequence[Sequence[str]], sources: Sequence[Source]
) -> str:
    """A folded part with `rows` (a heading, then one per source); its table has the id `name`."""
    heading, *numbers = rows
    lines = []
    for (first, *cells), source in zip(numbers, sources, strict=True):
        link = f'<a href="{text(source.log)}">{text(source.log.rpartition("/")[2])}</a>'
        made = [_commit(source.environment), _device(source.environment)]
        lines.append([text(first), *map(text, cells), *map(text, made), link])
    table = document.table(
        "numbers", (*heading, "commit", "device", "log"), lines, f"{label} by seed"
    )
    commands = "\n".join(source.command for source in sources if source.command)
    shown = f"<pre>{text(commands)}</pre>" if commands else ""
    count = len(sources)
    return document.folded(
        f"{text(label)}: {count} run{'s' if count > 1 else ''}",
        f'<div id="{name}">{table}</div>{shown}\n{_configs(sources)}',
        "trace",
    )


def _configs(sources: Sequence[Source]) -> str:
    """The config of the first source, and others that differ from it in more than the seed."""
    groups: dict[str, list[Source]] = {}
    for source in sources:
        rest = {field: value for field, value in source.config.items() if field != SEED}
        groups.setdefault(json.dumps(rest, sort_keys=True), []).append(source)
    parts = []
    for alike in groups.values():
        seeds = ", ".join(str(source.config.get(SEED)) for source in alike)
        others = " (the others differ in their seed alone)" if len(alike) > 1 else ""
        config = json.dumps(alike[0].config, indent=1, ensure_ascii=False)
        word = "seeds" if len(alike) > 1 else "seed"
        parts.append(
            document.folded(f"Config of {word} {seeds}{others}", f"<pre>{text(config)}</pre>")
        )
    return "\n".join(parts)


def _commit(environment: Mapping[str, Any]) -> str:
    digest, plus, changes = (environment.get("commit") or "unknown").partition("+")
    return digest[:12] + plus + changes


def _device(environment: Mapping[str, Any]) -> str:
    kind, count = environment.get("device_kind", "unknown"), environment.get("devices", 1)
    return f"{count} × {kind}"
