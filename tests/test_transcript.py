"""Pages show what their commands print: filled in, and checked."""

import pathlib
import subprocess
import sys

import pytest

from errors import UserError
from inspection import transcript

PAGE = """Text.

```console
$ printf '1  \\n2\\n' | tail -1
old
```

```console
$ printf 'a  \\nb\\n'
```

    $ echo not in a block
"""
FILLED = PAGE.replace("old\n", "2\n").replace("b\\n'\n", "b\\n'\na\nb\n")


def test_output_replaces_what_was_there() -> None:
    assert transcript.fill(PAGE) == FILLED
    assert transcript.fill(FILLED) == FILLED


def test_stale_blocks_are_named() -> None:
    assert transcript.stale(FILLED) == []
    assert transcript.stale(FILLED.replace("\n2\n", "\n3\n")) == [r"printf '1  \n2\n' | tail -1"]


@pytest.mark.parametrize("command", ["false", "true", "false | echo 1", "echo why >&2; exit 3"])
def test_commands_that_fail_or_print_nothing_are_errors(command: str) -> None:
    with pytest.raises(UserError, match=command.split(";")[0].replace("|", r"\|")):
        transcript.run(command)


def test_check_says_what_is_stale_and_writes_nothing(tmp_path: pathlib.Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    root = pathlib.Path(__file__).parent.parent
    command = [sys.executable, "-m", "inspection.transcript", str(page)]
    done = subprocess.run([*command, "--check"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 1
    assert page.read_text() == PAGE
    assert "not what is printed now: printf" in done.stderr
    assert subprocess.run(command, cwd=root).returncode == 0
    assert page.read_text() == FILLED
