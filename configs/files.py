"""Loads, overrides and checks config files, for all commands and studies.

Any mistake in a file, including an exception in its code, is a UserError that names the file and
the line.
"""

import ast
import contextlib
import importlib.util
import inspect
import os
import pathlib
import traceback
import types
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import fields
from errors import UserError, did_you_mean

GET_CONFIG = "get_config"


def module(path: str | pathlib.Path) -> types.ModuleType:
    """The module of a config file. Raises UserError if it is missing or fails."""
    path = pathlib.Path(path)
    if not os.path.isfile(path):  # unlike Path.is_file, also False for an invalid file name
        raise UserError(f"there is no config file {path}")
    spec = importlib.util.spec_from_file_location(f"config_file_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: a config file must be a Python file with a name ending in .py")
    made = importlib.util.module_from_spec(spec)
    with running(path):
        spec.loader.exec_module(made)
    if not callable(getattr(made, GET_CONFIG, None)):
        raise UserError(f"{path}: has no function {GET_CONFIG}(argument) that returns the config")
    return made


@contextlib.contextmanager
def running(path: str | pathlib.Path) -> Iterator[None]:
    """Converts exceptions of the block, which runs the config file at `path`, to UserErrors."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        what = " ".join(str(error).split()) or "no message"
        raise UserError(f"{_place(error, path)}: {type(error).__name__}: {what}") from None


def _place(error: BaseException, path: str | pathlib.Path) -> str:
    """The file and line of an error: the innermost frame in the config file itself."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    own = pathlib.Path(path).resolve()
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if pathlib.Path(frame.filename).resolve() == own
    ]
    return f"{path}, line {lines[-1]}" if lines else str(path)


def resolve(text: str, overrides: Mapping[str, Any], home: str | pathlib.Path = ".") -> ConfigDict:
    """The locked config of "PATH[:argument]", with overrides by dotted field name.

    home: folder that PATH is relative to. Only `model` may be given fields that the file does not
    set. Raises UserError for a mistake in the file, an override or a value.
    """
    config, place = _load(text, home)
    return _finished(config, place, overrides)


def read(text: str, written: Mapping[str, str]) -> ConfigDict:
    """As `resolve`, with overrides as text, converted to the type of the field's present value.

    A tuple of one may be written without brackets.
    """
    config, place = _load(text, ".")
    overrides = {}
    for name, word in written.items():
        part, field = _parent(config, name)
        overrides[name] = _value_like(part.get(field), word)
    return _finished(config, place, overrides)


def _load(text: str, home: str | pathlib.Path) -> tuple[ConfigDict, str]:
    """The unlocked config of a file, and the location of its get_config: "PATH, line N"."""
    name, _, argument = text.partition(":")
    path = pathlib.Path(home) / name
    function = module(path).get_config
    code = getattr(function, "__code__", None)
    place = str(path)
    if code is not None and pathlib.Path(code.co_filename).resolve() == path.resolve():
        place = f"{path}, line {code.co_firstlineno}"
    takes_one = _takes(function, 1)
    if not takes_one and (argument or not _takes(function, 0)):
        raise UserError(f"{place}: {GET_CONFIG} must take one argument, the text after the colon")
    with running(path):
        config = function(argument or None) if takes_one else function()
        if isinstance(config, ConfigDict):
            config = ConfigDict(config).copy_and_resolve_references().unlock()
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"{place}: {GET_CONFIG} returns {fields.shown(config)}, not a ConfigDict; "
            "start from configs.base.base()"
        )
    return config, place


def _takes(function: Any, count: int) -> bool:
    try:
        inspect.signature(function).bind(*range(count))
    except (TypeError, ValueError):
        return False
    return True


def _finished(config: ConfigDict, place: str, overrides: Mapping[str, Any]) -> ConfigDict:
    for name, value in overrides.items():
        part, field = _parent(config, name)
        with part.ignore_type():
            part[field] = value
    try:
        fields.check(config)
    except UserError as error:
        if any(str(error).startswith(f"config.{name}:") for name in overrides):
            raise
        raise UserError(f"{place}: {error}") from None
    return config.lock()


def _parent(config: ConfigDict, name: str) -> tuple[ConfigDict, str]:
    """The section that holds the field of a dotted name, and the field's last name."""
    *parents, field = name.split(".")
    part: Any = config
    for parent in parents:
        known = part
        part = part.get(parent) if isinstance(part, ConfigDict) else None
    if not isinstance(part, ConfigDict):
        hint = did_you_mean(parents[-1], known) if isinstance(known, ConfigDict) else ""
        raise UserError(f"config.{name}: there is no such field{hint}")
    if field not in part and parents != ["model"]:
        raise fields.unknown(name, part)
    return part, field


def _value_like(present: Any, word: str) -> Any:
    """The value of a command-line word for a field with the value `present`."""
    if isinstance(present, str):
        return word
    value = literal(word)
    if isinstance(present, float) and type(value) is int and abs(value) <= fields.LARGEST:
        return float(value)
    if isinstance(present, tuple | list):
        return tuple(value) if isinstance(value, tuple | list) else (value,)
    return value


def literal(text: str) -> Any:
    """The value of a Python literal, a bare word, or a tuple of them: "2", "max", "(a,b)"."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        deep = text.count("(") + text.count("[") > 100
        if not deep and text[:1] in ("(", "[") and text[-1:] in (")", "]"):
            return tuple(literal(item.strip()) for item in split(text[1:-1]))
        return text


def split(text: str) -> Iterator[str]:
    """Splits at commas outside brackets."""
    depth, item = 0, ""
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            yield item
            item = ""
        else:
            item += letter
    if item:
        yield item
