"""How the entry scripts start: flags parsed, bad input answered by one line and exit status 2.

Imports nothing of the project but its error type and how a value is read.
"""

import re
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from configs.files import literal
from errors import UserError

EXIT_STATUS = 2
NETWORK_FIELD = "--config.model."


def run(main: Callable[[], None]) -> NoReturn:
    """Parses the flags of sys.argv and calls `main`; never returns.

    `--config.model.FIELD=value` may name any field of the network, whether the config file sets it
    or not: models.create knows them all and checks name and type.
    """
    # ml_collections takes overrides of existing fields alone, and reads sys.argv by itself.
    added = [word for word in sys.argv if word.startswith(NETWORK_FIELD) and "=" in word]
    sys.argv[:] = [word for word in sys.argv if word not in added]
    app.run(lambda _: _guarded(main), flags_parser=partial(_parse, network_fields=added))
    raise SystemExit(0)


def fail(message: str) -> NoReturn:
    """Prints one line on standard error and leaves with status 2."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(EXIT_STATUS)


def _parse(arguments: list[str], *, network_fields: list[str]) -> list[str]:
    # A config file runs while flags are parsed, and ml_collections raises what Python raises for a
    # mistyped override: all of it is the user's input, and one line is the answer.
    try:
        rest = flags.FLAGS(arguments)
        for name in flags.FLAGS:
            # A config file that is not there raises when it is first read.
            getattr(flags.FLAGS[name].value, "items", None)
        for word in network_fields:
            field, _, text = word.removeprefix(NETWORK_FIELD).partition("=")
            flag, value = flags.FLAGS["config"], literal(text)
            if flag.value is not None:
                with flag.value.unlocked() as config:
                    config.model[field] = value
                config_flags.get_override_values(flag)[f"model.{field}"] = value
    except UserError as error:
        fail(str(error))
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        fail(f"flags: {_own_words(error)}")
    if rest[1:]:
        fail(f"unexpected argument {rest[1]!r}")
    return rest


def _own_words(error: Exception) -> str:
    """What is wrong, of a message that may be a repr, or an essay on relative paths."""
    text = str(error.args[0]) if error.args else type(error).__name__
    missing = re.search(r"No such file or directory: '([^']*)'", text)
    if missing:
        return f"there is no file {missing[1]}"
    mistyped = re.search(r'Did you mean "([^"]*)" instead of "([^"]*)"', text)
    if mistyped:
        return f"the config has no field {mistyped[2]!r}; did you mean {mistyped[1]!r}?"
    if isinstance(error, KeyError | AttributeError):
        return f"the config has no field {text.strip(chr(34) + chr(39))!r}"
    return text


def _guarded(main: Callable[[], Any]) -> None:
    logging.set_verbosity(logging.WARNING)
    logging.set_stderrthreshold("warning")
    # Orbax tells an error's whole story from each of its threads, and then raises it: the one line
    # that the checkpoints make of it is enough.
    logging.get_absl_handler().addFilter(lambda record: "orbax" not in record.pathname)
    try:
        main()
    except UserError as error:
        if jax.process_count() > 1:
            # The other processes of the job must not wait for this one.
            fail(f"process {jax.process_index()}: {error}")
        fail(str(error))
