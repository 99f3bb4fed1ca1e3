"""Parses the flags of the commands; bad input ends a command with one line and exit status 2.

Imports nothing heavy: a command calls `parse` before its other imports, so that --help and a
mistyped flag do not wait for jax.
"""

import errno
import functools
import itertools
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import ConfigDict

from configs import files
from errors import UserError
from startup import compilation_cache, environment, shell, xla_settings

EXIT_STATUS = 2
PICTURES = (".png", ".pdf", ".svg")
OVERRIDE = re.compile(r"--?config\.([^=]+)(?:=(.*))?", re.DOTALL)
# Errors of the machine, not of the program: disk space, permissions, memory, open files.
MACHINE_ERRORS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM),
}

# In the messages of errors of memory: XLA's own, the C++ library's.
OF_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory", "bad_alloc")


def define_config(description: str) -> None:
    """Defines the flags --config=PATH[:argument] and --config.FIELD=value; `config` reads them."""
    flags.DEFINE_string("config", None, description)
    flags.DEFINE_multi_string(
        "config_override", [], "FIELD=value; the short form is --config.FIELD=value."
    )


class _File(flags.ArgumentParser):
    """The values of a flag that names a file or, without a value, the usual one: ""."""

    def parse(self, argument: str | bool) -> str | None:
        # What absl makes of --name and --noname.
        return {"true": "", "false": None}.get(str(argument).lower(), str(argument))


def define_file(name: str, description: str) -> None:
    """Defines the flag --name[=FILE]: None if it is not given, "" if it is given without a file."""
    flags.DEFINE_flag(
        flags.Flag(
            parser=_File(),
            serializer=None,
            name=name,
            default=None,
            help_string=description,
            boolean=True,
        ),
        module_name=sys.argv[0],
    )


def config() -> ConfigDict:
    """The locked config. Raises UserError if it is missing or invalid."""
    given = flags.FLAGS
    if given.config is None:
        raise UserError("--config is missing; see --help")
    return _config(given.config, tuple(given.config_override))


@functools.lru_cache(maxsize=1)  # called when flags are parsed, and again by the command
def _config(text: str, overrides: tuple[str, ...]) -> ConfigDict:
    pairs = (word.partition("=") for word in overrides)
    return files.read(text, {field: value for field, _, value in pairs})


def config_overrides() -> dict[str, Any]:
    """The values that --config.FIELD=value set in `config`, by dotted field."""
    fields = [word.partition("=")[0] for word in flags.FLAGS.config_override]
    return {field: functools.reduce(getattr, field.split("."), config()) for field in fields}


def parse(*, bare: str = "", listed: Sequence[str] = ()) -> None:
    """Reads the flags of sys.argv; exits after --help or --version, or with one error line.

    bare, listed: see `flagged`; without them only flags are accepted.
    """
    # Registered under the command's own name, so that its --help shows it.
    shown = flags.BooleanFlag("version", False, "Print versions, devices, commit and the cache.")
    flags.DEFINE_flag(shown, module_name=sys.argv[0])
    app.define_help_flags()
    if bare:
        sys.argv[1:] = flagged(sys.argv[1:], bare=bare, listed=listed)
    xla_settings.apply()
    _parse(sys.argv)
    if flags.FLAGS.version:
        say_version()  # here, so that it does not wait for all that a command imports


def flagged(words: Sequence[str], *, bare: str, listed: Sequence[str]) -> list[str]:
    """Turns words that are not flags into values of `bare`, or of the last one of `listed` if any.

    "name --listed a b" becomes "--bare=name --listed=a --listed=b", and "--flag value" becomes
    "--flag=value". A word "-" is no flag.
    """
    made, target = list[str](), bare
    left = iter(words)
    for word in left:
        if word.removeprefix("--") in listed and word.startswith("--"):
            target = word.removeprefix("--")
        elif word.startswith("-") and word != "-":
            value = next(left, None) if _takes_next(word) else None
            made.append(word if value is None else f"{word}={value}")
        else:
            made.append(f"--{target}={word}")
    if target != bare and not any(word.startswith(f"--{target}=") for word in made):
        made.append(f"--{target}")  # absl reports the missing value
    return made


def _takes_next(word: str) -> bool:
    """Whether the word is a flag that is not boolean, without its value."""
    name = word.removeprefix("-").removeprefix("-")
    return name in flags.FLAGS and not flags.FLAGS[name].boolean


def run(main: Callable[[], None]) -> NoReturn:
    """Calls `main` after `parse`, then exits; never returns."""
    if not flags.FLAGS.is_parsed():
        parse()
    app.run(lambda _: _guarded(main), sys.argv[:1], flags_parser=lambda arguments: arguments)
    raise SystemExit(0)


def fail(message: str) -> NoReturn:
    """Prints one line on standard error and exits with status 2."""
    print(one_line(message), file=sys.stderr)
    raise SystemExit(EXIT_STATUS)


def one_line(error: object) -> str:
    """An error as it is printed."""
    return f"error: {' '.join(str(error).split())}"


def say_version() -> NoReturn:
    """Prints what every command's --version prints, and exits."""
    try:
        print(version())
    except UserError as error:
        fail(str(error))
    raise SystemExit(0)


def version() -> str:
    """Versions, devices, commit and compilation cache, for bug reports.

    Raises UserError as `environment.describe` does.
    """
    made_on = environment.describe()
    versions = ", ".join(f"{name} {number}" for name, number in made_on["packages"].items())
    return (
        f"commit    {made_on['commit'] or 'not a git checkout'}\n"
        f"versions  Python {made_on['python']}, {versions}\n"
        f"machine   {made_on['platform']}, {made_on['processor_cores']} cores\n"
        f"devices   {made_on['devices']} × {made_on['device_kind']}, "
        f"convolutions: {made_on['convolution']}\n"
        f"cache     {compilation_cache.describe()}"
    )


def divided(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The other arguments, and the values of --config.FIELD=value (or FIELD value) by field."""
    others, overrides = list[str](), dict[str, str]()
    words = iter(arguments)
    for word in words:
        match = OVERRIDE.fullmatch(word)
        if match is None:
            others.append(word)
            continue
        field, value = match[1], next(words, None) if match[2] is None else match[2]
        if value is None:
            raise UserError(f"{word}: needs a value")
        if field in overrides:
            raise UserError(f"--config.{field}: is given twice; give it once")
        overrides[field] = value
    return others, overrides


def check_output(flag: str, path: str, endings: Sequence[str] = PICTURES) -> None:
    """Raises UserError if no file can be saved at `path`, before anything is computed."""
    folder = os.path.dirname(path) or "."
    if os.path.splitext(path)[1] not in endings:
        raise UserError(f"{flag}: {path} must end in {', '.join(endings)}")
    if not os.path.isdir(folder):
        raise UserError(f"{flag}: there is no folder {folder}")
    if os.path.isdir(path):
        raise UserError(f"{flag}: {path} is a folder")
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"{flag}: {folder} cannot be written ({error.strerror})") from None


def _parse(arguments: list[str]) -> None:
    try:
        others, overrides = divided(arguments)
        added = [f"--config_override={field}={value}" for field, value in overrides.items()]
        rest = flags.FLAGS([*others, *added])
        for flag in itertools.chain(*flags.FLAGS.flags_by_module_dict().values()):
            _check_given(flag)
        if "config" in flags.FLAGS and flags.FLAGS.config is not None:
            config()  # reports errors in it before the slow imports
    except flags.Error as error:
        fail(f"flags: {error}")
    except UserError as error:
        fail(str(error))
    if rest[1:]:
        fail(f"unexpected argument {rest[1]!r}")


def _check_given(flag: flags.Flag) -> None:
    """Raises UserError for a flag whose first value would be dropped, or whose value is empty."""
    several = isinstance(flag, flags.MultiFlag)
    if flag.present > 1 and not several:
        raise UserError(f"--{flag.name}: is given {flag.present} times; give it once")
    values: Any = flag.value if several else [flag.value]
    if flag.present and "" in values and not isinstance(flag.parser, _File):
        raise UserError(f"--{flag.name}: is empty")


def _guarded(main: Callable[[], Any]) -> None:
    logging.set_verbosity(logging.WARNING)
    logging.set_stderrthreshold("warning")
    # Orbax logs a traceback from each of its threads before it raises the error; the error line
    # from training/checkpoints.py is enough.
    logging.get_absl_handler().addFilter(lambda record: "orbax" not in record.pathname)
    sys.unraisablehook = functools.partial(_not_of_abandoned_reads, sys.unraisablehook)
    compilation_cache.use()
    try:
        main()
    except Exception as error:
        from startup import jobs  # imports jax, which main has done already

        if isinstance(error, UserError):
            jobs.end(one_line(error), EXIT_STATUS)
        if line := machine_error(error):
            jobs.end(one_line(line), EXIT_STATUS)
        if line := jobs.lost_peer(error):
            jobs.end(line, shell.TRY_AGAIN)
        if jobs.alone():
            raise
        jobs.end(traceback.format_exc(), 1)


def _not_of_abandoned_reads(hook: Callable[[Any], Any], unraisable: Any) -> None:
    """Shows an error that no code can catch, except errors of abandoned checkpoint reads.

    Orbax reads all arrays of a checkpoint at once and raises at the first damaged one. TensorStore
    then reports an error for each of the others, in its own threads.
    """
    if str(unraisable.exc_value) != "Event loop is closed":
        hook(unraisable)


def machine_error(error: Exception) -> str | None:
    """A line for an error of the machine (disk, permissions, memory); None for other errors."""
    if isinstance(error, OSError) and error.errno in MACHINE_ERRORS:
        return f"{error.filename or 'input or output'}: {error.strerror}"
    text = str(error)
    if isinstance(error, MemoryError) or any(word in text for word in OF_MEMORY):
        return (
            "out of memory; use a smaller config.batch_size or config.eval.batch_size, a larger "
            "config.gradient_accumulation, or config.model.remat=True if the network has that "
            "field"
        )
    return None
