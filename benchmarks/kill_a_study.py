"""Checks that a study that is killed repeatedly ends with the same tables.

    python benchmarks/kill_a_study.py --study=lenet5_modern --seeds=0,1 --times=8

Runs the study on digits once without interruption, and once killed (SIGKILL) at random times and
restarted. Compares table.md byte by byte, every row of every run except its "clock", and the digest
of the logs in the figure. Its output is in benchmarks/logs/.
"""

import argparse
import json
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from reproduction import drawing
from reproduction.study import ROOT


def start(study: str, seeds: str, out: pathlib.Path, data: pathlib.Path) -> subprocess.Popen:
    words = [study, "--data=digits", f"--seeds={seeds}", f"--out={out}", f"--data_dir={data}"]
    return subprocess.Popen(
        [sys.executable, "reproduce.py", *words],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def runs(out: pathlib.Path) -> dict[str, list[dict]]:
    """The rows of each run, without "clock"."""
    found = {}
    for log in sorted(out.glob("*/*/metrics.jsonl")):
        # The last line may be incomplete after a kill; the run repairs it when it resumes.
        lines = [line for line in log.read_text().split("\n")[:-1] if line]
        rows = [{k: v for k, v in json.loads(line).items() if k != "clock"} for line in lines]
        found[str(log.parent.relative_to(out))] = rows
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", default="lenet5_modern")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--times", type=int, default=8)
    parser.add_argument("--longest", type=float, default=25.0, help="most seconds until a kill")
    parser.add_argument("--seed", type=int, default=0, help="of the random times")
    options = parser.parse_args()
    moments = random.Random(options.seed)

    with tempfile.TemporaryDirectory() as folder:
        straight, cut, data = (pathlib.Path(folder, name) for name in ("straight", "cut", "data"))
        began = time.monotonic()
        first = start(options.study, options.seeds, straight, data)
        complaint = first.communicate()[1]
        print(f"straight: status {first.returncode}, {time.monotonic() - began:.0f} s", flush=True)
        if first.returncode:
            print(complaint)
            return 1
        for number in range(1, options.times + 1):
            process = start(options.study, options.seeds, cut, data)
            after = moments.uniform(0, options.longest)
            try:
                process.wait(after)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
            process.communicate()
            logged = sum(map(len, runs(cut).values()))
            print(
                f"kill {number} after {after:4.1f} s: status {process.returncode}, "
                f"{logged} rows logged",
                flush=True,
            )
            if process.returncode == 0:
                print("the study ended before its last kill: use more seeds or a smaller --longest")
                return 1
        last = start(options.study, options.seeds, cut, data)
        last.communicate()
        checks = {
            "the last start finished": last.returncode == 0,
            "the same table.md": (straight / "table.md").read_bytes()
            == (cut / "table.md").read_bytes(),
            "a figure of the same logs": drawing.digest_of(straight / "figure.png")
            == drawing.digest_of(cut / "figure.png"),
            "the same rows of every run": runs(straight) == runs(cut),
        }
        print(f"runs compared: {len(runs(cut))}, rows: {sum(map(len, runs(cut).values()))}")
        for name, held in checks.items():
            print(f"{'yes' if held else 'NO '}  {name}")
        return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
