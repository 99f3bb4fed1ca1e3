"""Checks that a run interrupted at random times ends with the same bits as an uninterrupted one.

    python benchmarks/kill_and_resume.py --signal=KILL --times=20
    python benchmarks/kill_and_resume.py --signal=TERM --times=5

Trains LeNet-5 on digits once without interruption, and once with `times` interruptions at random
times of the process's start and of its steps. Compares the sha256 of every leaf of the final state
(weights, batch statistics, optimizer, step) and every row of metrics.jsonl except its "clock", and
checks that no step is logged twice.
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

ROOT = pathlib.Path(__file__).parent.parent
STEPS = 3300


def command(workdir: pathlib.Path, data_dir: pathlib.Path) -> list[str]:
    return [
        sys.executable,
        "train.py",
        "--config=configs/lenet5.py:data=digits",
        f"--config.duration={STEPS} steps",
        "--config.checkpoint.every=22 steps",
        f"--workdir={workdir}",
        f"--data_dir={data_dir}",
    ]


def rows(workdir: pathlib.Path) -> list[dict]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "clock"} for line in lines]


def digests(workdir: pathlib.Path) -> dict[str, str]:
    return json.loads((workdir / "checkpoints" / str(STEPS) / "digests" / "metadata").read_text())


def steps_done(workdir: pathlib.Path) -> int:
    log = workdir / "metrics.jsonl"
    return len(log.read_text().splitlines()) * 22 if log.exists() else 0


def interrupt(
    process: subprocess.Popen, workdir: pathlib.Path, number: int, moments: random.Random
) -> None:
    """Sends the signal at a random time: during the start with probability 1/4, else later."""
    began, before = time.monotonic(), steps_done(workdir)
    early = moments.random() < 0.25
    least, moment = moments.uniform(0, 10), moments.uniform(0, 1.5)
    while process.poll() is None:
        if early and time.monotonic() - began > least:
            break
        if steps_done(workdir) != before:
            time.sleep(moment)
            break
        time.sleep(0.01)
    if process.poll() is None:
        process.send_signal(number)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--signal", choices=("KILL", "TERM"), default="KILL")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the random times")
    options = parser.parse_args()
    moments = random.Random(options.seed)

    with tempfile.TemporaryDirectory() as folder:
        straight, cut, data = (pathlib.Path(folder, name) for name in ("straight", "cut", "data"))
        began = time.monotonic()
        subprocess.run(command(straight, data), cwd=ROOT, check=True, capture_output=True)
        print(f"straight run: {time.monotonic() - began:.1f} s", flush=True)

        statuses: list[int] = []
        while len(statuses) < options.times:
            process = subprocess.Popen(
                command(cut, data), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            interrupt(process, cut, getattr(signal, f"SIG{options.signal}"), moments)
            complaint = process.communicate()[1].decode().strip().splitlines()
            statuses.append(process.returncode)
            print(
                f"interruption {len(statuses):2}: status {process.returncode}, "
                f"{steps_done(cut)} steps logged{'; ' + complaint[-1] if complaint else ''}",
                flush=True,
            )
            if process.returncode == 0:
                print("the run ended before its last interruption: increase STEPS")
                return 1
        finished = subprocess.run(command(cut, data), cwd=ROOT, capture_output=True, text=True)
        checks = {
            "the last start finished": finished.returncode == 0,
            "same bits in every leaf": digests(straight) == digests(cut),
            "same rows outside the clock": rows(straight) == rows(cut),
            "each step once": len({row["step"] for row in rows(cut)}) == len(rows(cut)),
        }
        print(f"leaves compared: {len(digests(straight))}, rows compared: {len(rows(straight))}")
        for name, held in checks.items():
            print(f"{'yes' if held else 'NO '}  {name}")
        return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
