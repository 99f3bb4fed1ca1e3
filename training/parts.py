"""Builds a part of a run from a config with its "name" and its fields.

`config.optimizer = {"name": "sgd", "momentum": 0.9, ...}` calls the function of that name with the
other fields as keyword arguments. So every field is used, and an unknown field is an error.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_type_hints

from configs.fields import check_value, renamed
from errors import UserError

Part = TypeVar("Part")


def build(
    field: str, config: Mapping, table: Mapping[str, Callable[..., Part]], *args: Any
) -> Part:
    """Calls `table[config["name"]](*args, **the other fields)`.

    Raises UserError for a name that is not in `table`, and for fields that are missing, not keyword
    arguments of the part, of a wrong type or out of bounds (configs/fields.py).
    """
    name = config["name"]
    if name not in table:
        raise UserError(f"config.{field}: {name!r} is none of {', '.join(table)}{renamed(name)}")
    fields = {key: value for key, value in config.items() if key != "name"}
    parameters = inspect.signature(table[name]).parameters.values()
    own = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    for key in fields:
        if key not in own:
            raise UserError(
                f"config.{field}: {name} has no field {key!r}; fields: {', '.join(own) or 'none'}"
            )
    for key in own:
        if key not in fields:
            raise UserError(f"config.{field}: {name} needs the field {key!r}")
    kinds = get_type_hints(table[name])
    for key, value in fields.items():
        check_value(f"{field}.{key}", value, kinds[key])
    return table[name](*args, **fields)
