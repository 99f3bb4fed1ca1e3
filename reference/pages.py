"""The pages of reference: commands, configs, fields, networks, data sets, studies; as Markdown.

Every sentence in them stands in the code: docstrings, comments beside fields, tables of names.
"""

import html
import inspect
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, get_type_hints

import data
import models
import studies
from augmentations.calls import AUGMENTATIONS, NORMALIZATIONS, Call, Operation
from configs import base, files
from errors import UserError
from training import field_help

ROOT = pathlib.Path(__file__).parent.parent
COMMANDS = (
    "train.py",
    "evaluate.py",
    "predict.py",
    "reproduce.py",
    "describe.py",
    "convert.py",
    "-m data.prepare",
)
PARTS_OF_FILES = ("arguments", "base", "fields", "files")  # in configs/, no experiments
MADE = "Made from the code by `make docs`."


def pages() -> dict[str, str]:
    """Every page by its path in the site."""
    made = {
        "commands": _commands,
        "configs": _configs,
        "fields": _fields,
        "networks": _networks,
        "data_sets": _data_sets,
        "studies": _studies,
    }
    return {f"reference/{name}.md": "\n\n".join(page()) + "\n" for name, page in made.items()}


def _commands() -> Iterator[str]:
    yield f"# Commands\n\n{MADE} What each command prints with `--help`:"
    for command in COMMANDS:
        yield f"## {command.removeprefix('-m ')}\n\n```text\n{help_of(command)}\n```"


def help_of(command: str) -> str:
    """What a command of COMMANDS prints with --help. Raises CalledProcessError if it fails."""
    # absl exits with 1 after --help: what was asked for cannot be told from a failure by status.
    done = subprocess.run(
        [sys.executable, *command.split(), "--help"],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.stderr:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout.strip()


def _configs() -> Iterator[str]:
    yield (
        f"# Configs\n\n{MADE} The header and the arguments of each config file. "
        "`python train.py --config=FILE --help_config` also lists all fields with their values."
    )
    for path in sorted((ROOT / "configs").glob("[!_]*.py")):
        if path.stem in PARTS_OF_FILES:
            continue
        module = files.module(path)
        arguments = inspect.getdoc(module.get_config) or "none"
        yield f"## configs/{path.name}\n\n```text\n{inspect.getdoc(module)}\n```"
        yield f"Arguments:\n\n```text\n{arguments}\n```"


def _fields() -> Iterator[str]:
    yield (
        f"# Fields of a config\n\n{MADE} Set by `--config.FIELD=value`, or in a config file. "
        'A duration is text: "10 epochs", "500 steps" or "6400 examples".'
    )
    yield "## Shared fields"
    config = base.base()
    yield table(
        ("field", "default", "type", "meaning"),
        (
            (code(name), code(field_help.shown(value)), text(kind), text(meaning))
            for name, value in field_help.leaves(config.to_dict())
            for _, kind, meaning in [field_help.described(name, value, config)]
        ),
    )
    for section, parts in field_help.PARTS.items():
        key = "kind" if section == "loss" else "name"
        yield f"## config.{section}\n\nThe fields that each `config.{section}.{key}` has."
        for name, part in parts.items():
            yield f"### {section}: {name}\n\n{first_paragraph(part)}"
            if own := list(_fields_of_part(section, part)):
                yield table(("field", "type"), own)
    for field, operations in (("augment", AUGMENTATIONS), ("normalize", NORMALIZATIONS)):
        yield f"## Operations of config.data.{field}"
        yield table(("operation", "what it does"), map(_operation, operations.items()))


def _fields_of_part(section: str, part: Callable[..., Any]) -> Iterator[tuple[str, str]]:
    hints = get_type_hints(part)
    for key, parameter in inspect.signature(part).parameters.items():
        if parameter.kind is not parameter.KEYWORD_ONLY:
            continue
        yield code(f"{section}.{key}"), text(field_help.kind_of(f"{section}.{key}", hints[key]))


def _operation(item: tuple[str, Operation]) -> tuple[str, str]:
    name, operation = item
    defaults = {key: word.default for key, word in operation.keywords.items()}
    return code(str(Call(name, operation, defaults))), first_paragraph(operation.apply)


def _networks() -> Iterator[str]:
    yield (
        f"# Networks\n\n{MADE} `python describe.py NAME` prints a network's layers and counts. "
        "All fields can be overridden: `describe.py NAME:field=value`, `--config.model.FIELD`."
    )
    by_class: dict[type, dict[str, models.Preset]] = {}
    for name, preset in models.NETWORKS.items():
        by_class.setdefault(preset.network, {})[name] = preset
    common, meanings = field_help.of_class(models.Network)
    yield "## Fields of every network"
    yield _table_of_fields(common, meanings)
    for network, presets in by_class.items():
        yield f"## {network.__name__}\n\n{first_paragraph(network)}"
        yield table(
            ("network", "from", "as published", "differs"),
            (
                (
                    code(name),
                    text(preset.source),
                    text(", ".join(f"{key} {size}" for key, size in preset.published.items())),
                    text(" ".join(preset.deviations)),
                )
                for name, preset in presets.items()
            ),
        )
        defaults, meanings = field_help.of_class(network)
        own = {name: value for name, value in defaults.items() if name not in common}
        if own:
            yield _table_of_fields(own, meanings)


def _table_of_fields(defaults: Mapping[str, Any], meanings: Mapping[str, str]) -> str:
    return table(
        ("field", "default", "meaning"),
        (
            (code(name), code(field_help.shown(value)), text(meanings.get(name, "")))
            for name, value in defaults.items()
        ),
    )


def _data_sets() -> Iterator[str]:
    yield f"# Data sets\n\n{MADE} How to get each one: [Data](../data.md)."
    rows = []
    for name, entry in data.DATASETS.items():
        shape = "×".join(map(str, entry.shape)) if entry.shape else "varies"
        counts = [f"{count:,}" for count in entry.splits.values()]
        rows.append((code(name), text(shape), str(entry.classes), *counts, entry.engine))
    yield table(("name", "stored size", "classes", "training", "test", "engine"), rows)


def _studies() -> Iterator[str]:
    yield (
        f"# Studies\n\n{MADE} `python reproduce.py NAME --data=SET` runs one; "
        "the outcomes are in [Results](../results.md)."
    )
    for study in studies.STUDIES.values():
        yield f"## {study.name}\n\n{text(study.title)}: {text(study.paper)}, {text(study.figure)}."
        if study.question:
            yield text(study.question)
        yield table(
            ("data", "runs", "seeds", "what is run"),
            (
                (code(name), str(len(scale.runs)), str(scale.seeds), text(scale.note))
                for name, scale in study.scales.items()
            ),
        )
        if study.claims:
            claims = [(text(claim.text), text(claim.source)) for claim in study.claims]
            yield table(("claim", "source"), claims)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; cells must hold no pipe: see `text` and `code`."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def text(words: str) -> str:
    """Words as they are, whatever Markdown would make of their signs; `code` becomes code."""
    parts = [_escaped(part) for part in " ".join(words.split()).split("`")]
    if len(parts) % 2 == 0:  # a backtick without its partner
        return "&#96;".join(parts)
    return "".join(f"<code>{part}</code>" if n % 2 else part for n, part in enumerate(parts))


def _escaped(words: str) -> str:
    escaped = html.escape(words, quote=False)
    for sign in "\\*_[]|":
        escaped = escaped.replace(sign, f"&#{ord(sign)};")
    return escaped


def code(words: str) -> str:
    """Words as code, in a table too."""
    return f"<code>{_escaped(words)}</code>"


def first_paragraph(thing: Callable[..., Any]) -> str:
    """The first paragraph of a docstring. Raises UserError if there is none."""
    if not thing.__doc__:
        raise UserError(f"{thing.__module__}.{thing.__qualname__} has no docstring")
    return text((inspect.getdoc(thing) or "").split("\n\n")[0])
