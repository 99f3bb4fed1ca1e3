"""A config file read by a program instead of a flag: for describe.py and for studies.

train.py reads its own by ml_collections' flag, which is for one config a process.
"""

import ast
import importlib.util
import pathlib
import types
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from errors import UserError


def module(path: str | pathlib.Path) -> types.ModuleType:
    """The module of a config file. Raises UserError where it is none."""
    path = pathlib.Path(path)
    spec = importlib.util.spec_from_file_location(f"config_file_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UserError(f"there is no config file {path}")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    if not hasattr(made, "get_config"):
        raise UserError(f"{path} has no get_config")
    return made


def resolve(text: str, overrides: Mapping[str, Any], home: str | pathlib.Path = ".") -> ConfigDict:
    """The locked config of "PATH[:argument]", a path from `home`, with overrides by dotted field.

    As on train.py's command line, only the network may be given fields that the file does not set.
    Raises UserError for an override it does not have.
    """
    path, _, argument = text.partition(":")
    config = module(pathlib.Path(home) / path).get_config(argument or None).unlock()
    for name, value in overrides.items():
        *parents, field = name.split(".")
        part = config
        for parent in parents:
            part = part.get(parent) if isinstance(part, ConfigDict) else None
        if not isinstance(part, ConfigDict) or (field not in part and parents != ["model"]):
            raise UserError(f"{text} has no field {name!r} to override")
        part[field] = value
    return config.lock()


def literal(text: str) -> Any:
    """What a value on a command line stands for: a Python literal, or the bare word."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
