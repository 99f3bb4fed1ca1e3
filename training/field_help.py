"""What can be set in a config: `train.py --config=FILE[:argument] --help_config`.

The meaning of a field is the comment beside it in `configs/base.py` or in the network's class, so
that it stands in one place.
"""

import ast
import dataclasses
import inspect
import io
import textwrap
import tokenize
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args, get_type_hints

from flax import linen as nn
from ml_collections import ConfigDict
from tabulate import tabulate

import models
from configs import base, fields, files
from training import losses, optimizers, schedules, weight_averaging

# The sections whose fields belong to the part they name, and where parts are looked up.
PARTS: Mapping[str, Mapping[str, Callable[..., Any]]] = {
    "loss": losses.KINDS,
    "optimizer": optimizers.OPTIMIZERS,
    "schedule": schedules.SCHEDULES,
    "averaging": weight_averaging.AVERAGINGS,
}

GIVEN_BY_DATA = ("input", "num_classes")  # fields of a network that no config sets


def page(text: str, config: ConfigDict) -> str:
    """The help of "PATH[:argument]": its header and arguments, and a table of all fields."""
    module = files.module(text.partition(":")[0])
    arguments = inspect.getdoc(module.get_config) or "none"
    header = inspect.getdoc(module) or ""
    defaults, _ = of_network(config.model.name)
    others = {name: value for name, value in defaults.items() if name not in GIVEN_BY_DATA}
    values = config.to_dict() | {"model": others | config.model.to_dict()}
    rows = [
        (f"config.{name}", shown(value), *described(name, value, config))
        for name, value in leaves(values)
    ]
    titles = ("field", "value here", "default", "type", "meaning")
    table = tabulate(rows, titles, disable_numparse=True, maxcolwidths=[None, 30, 20, 30, 70])
    return f"{header}\n\nArguments, as in {text.partition(':')[0]}:key=value,...\n\n" + (
        f"{textwrap.indent(arguments, '  ')}\n\nFields of {text}, set by --config.FIELD=value\n\n"
        f"{table}"
    )


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
        for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                field = node.target.id
                if field in known and hasattr(ancestor, field):
                    defaults[field] = getattr(ancestor, field)
                if field in known and node.lineno in comments:
                    meanings[field] = comments[node.lineno]
    return defaults, meanings


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
