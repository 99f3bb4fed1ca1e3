"""Fills in the output of the commands that a page shows: `python -m inspection.transcript PAGE`.

A page holds blocks of this form; what follows the command is replaced by what the command prints:

    ```console
    $ python describe.py lenet5_modern | head -3
    ...
    ```

With `--check` nothing is written; a block that is not up to date is one line and exit status 1.
Commands run in a shell at the root of the project, with this Python first in the path.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from errors import UserError

ROOT = pathlib.Path(__file__).parent.parent
BLOCK = re.compile(r"(?<=^```console\n)\$ ([^\n]+)\n(.*?)(?=^```$)", re.M | re.S)


def fill(page: str) -> str:
    """The page with the output of all its commands. Raises UserError if a command fails."""
    commands = dict.fromkeys(match[1] for match in BLOCK.finditer(page))
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        outputs = dict(zip(commands, pool.map(run, commands), strict=True))
    return BLOCK.sub(lambda match: f"$ {match[1]}\n{outputs[match[1]]}", page)


def run(command: str) -> str:
    """What a command prints. Raises UserError if it fails or prints nothing."""
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    # Lines of spaces would be cut by editors; describe.py pads the last column of a heading.
    printed = "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())
    if done.returncode != 0 or not printed:
        why = done.stderr.strip().splitlines() or [f"status {done.returncode}, no output"]
        raise UserError(f"{command}: {why[-1]}")
    return printed


def stale(page: str) -> list[str]:
    """The commands whose output in the page is not what they print now."""
    now = {match[1]: match[2] for match in BLOCK.finditer(fill(page))}
    return [match[1] for match in BLOCK.finditer(page) if now[match[1]] != match[2]]


def main() -> None:
    """Fills or checks the pages given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pages", nargs="+", type=pathlib.Path, metavar="PAGE")
    parser.add_argument("--check", action="store_true", help="write nothing")
    given = parser.parse_args()
    wrong = False
    for path in given.pages:
        try:
            text = path.read_text()
            if not BLOCK.search(text):
                raise UserError("no ```console block with a command after '$ '")
            if given.check:
                for command in stale(text):
                    wrong = True
                    print(f"{path}: not what is printed now: {command}", file=sys.stderr)
            else:
                path.write_text(fill(text))
        except (OSError, UserError) as error:
            wrong = True
            print(f"error: {path}: {error}", file=sys.stderr)
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
