"""Parses the argument string of a config file: `configs/lenet5.py:data=digits,...`."""

from typing import Any

from errors import UserError, did_you_mean


def parse(argument: str | None, **valid: tuple[Any, ...] | int | float | str) -> dict[str, Any]:
    """Parses "key=value,key=value" into a dict with every key of `valid`.

    valid: by key, either the tuple of valid values, the first of which is the default, or a default
        that sets the type.
    Raises UserError for an unknown key or value; the line lists the valid ones.
    """
    parsed = {key: rule[0] if isinstance(rule, tuple) else rule for key, rule in valid.items()}
    for item in (argument or "").split(","):
        if not item:
            continue
        key, equals, text = item.partition("=")
        if not equals or key not in valid:
            raise UserError(
                f"config argument {item!r}: must be key=value with a key of {', '.join(valid)}"
                f"{did_you_mean(key, valid)}"
            )
        rule = valid[key]
        kind = type(rule[0]) if isinstance(rule, tuple) else type(rule)
        try:
            value = kind(text)
        except ValueError:
            raise UserError(f"config argument {item!r}: {key} must be a {kind.__name__}") from None
        if isinstance(rule, tuple) and value not in rule:
            raise UserError(
                f"config argument {item!r}: {key} must be one of {', '.join(map(str, rule))}"
            )
        parsed[key] = value
    return parsed
