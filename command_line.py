"""How the entry scripts start: flags parsed, bad input answered by one line and exit status 2.

Imports nothing heavy: a command calls `parse` above its other imports, so that --help and a
mistyped flag are answered at once.
"""

import errno
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

import compilation_cache
import environment
import xla_settings
from configs.files import literal
from errors import UserError

EXIT_STATUS = 2
NETWORK_FIELD = "--config.model."
# What the ground under a program may lack, in its own words: disk, permission, memory, files.
GROUND = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM),
}


def parse(*, bare: str = "", listed: str = "") -> None:
    """Reads the flags of sys.argv; leaves after --help, and with one line where one is wrong.

    bare, listed: see `flagged`; without them a word that is no flag is a mistake.

    `--config.model.FIELD=value` may name any field of the network, whether the config file sets it
    or not: models.create knows them all and checks name and type.
    """
    # As a flag of the command's own, so that its --help shows it.
    shown = flags.BooleanFlag("version", False, "Print versions, devices, commit and the cache.")
    flags.DEFINE_flag(shown, module_name=sys.argv[0])
    app.define_help_flags()
    # ml_collections takes overrides of existing fields alone, and reads sys.argv by itself.
    added = [word for word in sys.argv if word.startswith(NETWORK_FIELD) and "=" in word]
    sys.argv[:] = [word for word in sys.argv if word not in added]
    if bare:
        sys.argv[1:] = flagged(sys.argv[1:], bare=bare, listed=listed)
    xla_settings.apply()
    _parse(sys.argv, network_fields=added)


def flagged(words: Sequence[str], *, bare: str, listed: str) -> list[str]:
    """Words that are no flag as values: of the flag `listed` where that stands before, else `bare`.

    "name --listed a b" becomes "--bare=name --listed=a --listed=b".
    """
    made, in_list = [], False
    for word in words:
        if word == f"--{listed}":
            in_list = True
        elif word.startswith("-"):
            made.append(word)
        else:
            made.append(f"--{listed if in_list else bare}={word}")
    if in_list and not any(word.startswith(f"--{listed}=") for word in made):
        made.append(f"--{listed}")  # absl says what is missing
    return made


def run(main: Callable[[], None]) -> NoReturn:
    """Calls `main` with the flags as `parse` read them; never returns."""
    if not flags.FLAGS.is_parsed():
        parse()
    app.run(lambda _: _guarded(main), sys.argv[:1], flags_parser=lambda arguments: arguments)
    raise SystemExit(0)


def fail(message: str) -> NoReturn:
    """Prints one line on standard error and leaves with status 2."""
    print(one_line(message), file=sys.stderr)
    raise SystemExit(EXIT_STATUS)


def one_line(error: object) -> str:
    """An error as it is told."""
    return f"error: {' '.join(str(error).split())}"


def version() -> str:
    """What a command runs on, for a report: versions, devices, commit, the compilation cache."""
    made_on = environment.describe()
    versions = ", ".join(f"{name} {number}" for name, number in made_on["packages"].items())
    return (
        f"commit    {made_on['commit'] or 'not a git checkout'}\n"
        f"versions  Python {made_on['python']}, {versions}\n"
        f"machine   {made_on['platform']}, {made_on['processor_cores']} cores\n"
        f"devices   {made_on['devices']} × {made_on['device_kind']}\n"
        f"cache     {compilation_cache.describe()}"
    )


def _parse(arguments: list[str], *, network_fields: list[str]) -> None:
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
    compilation_cache.use()
    try:
        if flags.FLAGS.version:
            print(version())
        else:
            main()
    except Exception as error:
        import jobs  # slow, and main has imported it

        if isinstance(error, UserError):
            jobs.end(one_line(error), EXIT_STATUS)
        if line := bad_ground(error):
            jobs.end(one_line(line), EXIT_STATUS)
        if jobs.alone():
            raise
        jobs.end(traceback.format_exc(), 1)


def bad_ground(error: Exception) -> str | None:
    """What the machine lacks, of an error that is no mistake of the program; None for others."""
    if isinstance(error, OSError) and error.errno in GROUND:
        return f"{error.filename or 'input or output'}: {error.strerror}"
    text = str(error)
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text or "bad_alloc" in text:
        return (
            "the memory is exhausted; a smaller config.batch_size or config.eval.batch_size needs "
            "less, or more config.micro_batches"
        )
    return None
