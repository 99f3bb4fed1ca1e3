"""What can be set in a config: `train.py --config=FILE[:argument] --help_config`.

The meaning of a field is the comment beside it in `configs/base.py` or in the network's class, so
that it stands in one place.
"""

import ast
import dataclasses
import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any, get_args, get_type_hints

from flax import linen as nn
from ml_collections import ConfigDict
from tabulate import tabulate

import models
from configs import base, fields, files
from errors import UserError
from training import losses, optimizers, schedules, weight_averaging

# The sections whose fields belong to the part they name, and where parts are looked up.
PARTS: Mapping[str, Mapping[str, Callable[..., Any]]] = {
    "loss": losses.KINDS,
    "optimizer": optimizers.OPTIMIZERS,
    "schedule": schedules.SCHEDULES,
    "averaging": weight_averaging.AVERAGINGS,
}

NAMES = re.compile(r"(?:^|(?<=[.;)] ))(\w+(?:, \w+)*): ")  # in docstrings
GIVEN_BY_DATA = ("input", "num_classes")  # fields of a network that no config sets


def page(text: str, config: ConfigDict) -> str:
    """The help of "PATH[:argument]": its header and arguments, and a table of all fields."""
    path = text.partition(":")[0]
    module = files.module(path)
    arguments = inspect.getdoc(module.get_config) or "none"
    header = inspect.getdoc(module) or ""
    papers = of_paper(text)
    here = _all_leaves(config)
    rows = [
        _row(name, [shown(value), papers.get(name, "")], described(name, value, config))
        for name, value in here.items()
    ]
    if papers:
        whole = files.resolve(_at_papers_scale(text), {})
        rows += [
            _row(name, ["", papers[name]], described(name, value, whole))
            for name, value in _all_leaves(whole).items()
            if name not in here
        ]
    titles = ["field", "value here", "the paper's", "default", "type", "meaning"]
    if not papers:
        rows = [(row[0], row[1], *row[3:]) for row in rows]
        titles.remove("the paper's")
    table = tabulate(sorted(rows), titles, disable_numparse=True)
    note = (
        "\n\nThe paper's: with scale=paper, where that differs. What differs from the paper even "
        "there is under “deviates” above."
    )
    return (
        f"{header}\n\nArguments, as in {path}:key=value,...\n\n"
        f"{textwrap.indent(arguments, '  ')}\n\nFields of {text}, set by --config.FIELD=value\n\n"
        f"{table}{note if papers else ''}"
    )


def of_paper(text: str) -> dict[str, str]:
    """By field of "PATH[:argument]": its value with scale=paper, if that differs.

    Also fields of the paper's that this config has not. Empty if the config has no such scale.
    """
    try:
        papers = _all_leaves(files.resolve(_at_papers_scale(text), {}))
    except UserError:  # the file has no scales, or that scale does not fit the other arguments
        return {}
    here = _all_leaves(files.resolve(text, {}))
    return {
        name: shown(value)
        for name, value in papers.items()
        if name not in here or here[name] != value
    }


def _at_papers_scale(text: str) -> str:
    path, _, argument = text.partition(":")
    kept = [item for item in argument.split(",") if item and not item.startswith("scale=")]
    return f"{path}:{','.join([*kept, 'scale=paper'])}"


def _all_leaves(config: ConfigDict) -> dict[str, Any]:
    """The fields of a config by dotted name, all fields of its network among them."""
    defaults, _ = of_network(config.model.name)
    others = {name: value for name, value in defaults.items() if name not in GIVEN_BY_DATA}
    return dict(leaves(config.to_dict() | {"model": others | config.model.to_dict()}))


def _row(name: str, values: Sequence[str], description: Sequence[str]) -> tuple[str, ...]:
    # tabulate's own wrapping turns the text "False" into True.
    cells = zip([*values, *description], (30, 30, 20, 30, 70), strict=True)
    return (f"config.{name}", *("\n".join(textwrap.wrap(cell, width)) for cell, width in cells))


def leaves(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of a config by dotted name."""
    for key, value in section.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def described(name: str, value: Any, config: ConfigDict) -> tuple[str, str, str]:
    """Default, type with its bounds, and meaning of a field."""
    section, _, key = name.rpartition(".")
    bounds = fields.BOUNDS.get(name) or fields.BOUNDS.get(section)
    kind = fields.KINDS.get(type(value), "a tuple" if isinstance(value, tuple) else "fields")
    if section == "model" and key != "name":
        defaults, meanings = of_network(config.model.name)
        default = shown(defaults[key]) if key in defaults else ""
        return default, kind, meanings.get(key, "")
    if section in PARTS and key not in ("name", "kind"):
        part = PARTS[section][config[section]["name" if "name" in config[section] else "kind"]]
        hint = get_type_hints(part).get(key)
        words = kind if hint is None else kind_of(name, hint)
        return "", words, of_base().get(name, "") or _first_sentence(part)
    defaults = dict(leaves(base.base().to_dict()))
    default = shown(defaults[name]) if name in defaults else ""
    if name in ("optimizer.name", "schedule.name", "averaging.name", "loss.kind"):
        kind = f"one of {', '.join(PARTS[section])}"
    return default, f"{kind} {bounds or ''}".strip(), of_base().get(name, "")


def kind_of(name: str, hint: Any) -> str:
    """The type of a part's field in words, with its bounds; hint: its annotation."""
    elements = {str: "a tuple of texts", float: "a tuple of numbers"}
    kind = fields.KINDS.get(hint) or elements.get(get_args(hint)[0], "a tuple")
    numbers = hint in (int, float) or get_args(hint) == (float,)
    return f"{kind} {fields.BOUNDS.get(name, '') if numbers else ''}".strip()


def shown(value: Any) -> str:
    """A value as it is given on the command line; "" stays visible."""
    return '""' if value == "" else str(value)


def of_base() -> dict[str, str]:
    """The comments of configs/base.py by dotted field name; a section's own under its name."""
    source = inspect.getsource(base)
    comments = _comments(source)
    function = next(
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name == "base"
    )
    whole = next(node for node in ast.walk(function) if isinstance(node, ast.Dict))
    return dict(_of_dict(whole, comments, ""))


def _of_dict(node: ast.Dict, comments: Mapping[int, str], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in zip(node.keys, node.values, strict=True):
        assert isinstance(key, ast.Constant)
        assert isinstance(key.value, str)
        name = f"{prefix}{key.value}"
        if key.lineno in comments:
            yield name, comments[key.lineno]
        if isinstance(value, ast.Dict):
            if value.end_lineno == key.lineno and key.lineno in comments:
                # A section on one line: the comment speaks of its fields.
                for inner in value.keys:
                    assert isinstance(inner, ast.Constant)
                    yield f"{name}.{inner.value!s}", comments[key.lineno]
            else:
                yield from _of_dict(value, comments, f"{name}.")


def of_network(name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The default values of a named network's fields, and their meanings."""
    preset = models.preset(name)
    defaults, meanings = of_class(preset.network)
    return {**defaults, **preset.fields}, meanings


def of_class(network: type[models.Network]) -> tuple[dict[str, Any], dict[str, str]]:
    """The defaults of a class's fields, and the comments beside them or in its docstring."""
    known = {field.name for field in dataclasses.fields(network)}
    meanings: dict[str, str] = {}
    defaults: dict[str, Any] = {}
    for ancestor in reversed(network.__mro__):
        if not issubclass(ancestor, models.Network) or ancestor is nn.Module:
            continue
        source = textwrap.dedent(inspect.getsource(ancestor))
        comments = _comments(source)
        meanings |= _of_docstring(inspect.getdoc(ancestor) or "", known)
        for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                field = node.target.id
                if field in known and hasattr(ancestor, field):
                    defaults[field] = getattr(ancestor, field)
                if field in known and node.lineno in comments:
                    meanings[field] = comments[node.lineno]
    return defaults, meanings


def _of_docstring(docstring: str, known: Container[str]) -> dict[str, str]:
    """The meanings in a docstring that has "field: meaning" or "field, field: meaning" in it."""
    meanings: dict[str, str] = {}
    for paragraph in docstring.split("\n\n")[1:]:
        text = " ".join(paragraph.split()).partition(" Raises ")[0]
        parts = NAMES.split(text)  # before the first names, then names and their meaning in turn
        for names, meaning in zip(parts[1::2], parts[2::2], strict=True):
            for name in names.split(", "):
                if name in known:
                    meanings[name] = meaning.strip().rstrip(".;")
    return meanings


def _comments(source: str) -> dict[int, str]:
    """The comments by the number of the line of code that they end, or stand above."""
    lines, found, above = source.splitlines(), dict[int, str](), list[str]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        number, text = token.start[0], token.string.lstrip("# ")
        if token.type == tokenize.COMMENT and lines[number - 1].strip() == token.string:
            above.append(text)
        elif token.type == tokenize.COMMENT:
            found[number] = text
        elif token.type not in (tokenize.NL, tokenize.INDENT, tokenize.DEDENT) and above:
            found[number] = " ".join(above)
            above = []
    return found


def _first_sentence(part: Callable[..., Any]) -> str:
    return (inspect.getdoc(part) or "").split("\n\n")[0].replace("\n", " ")
