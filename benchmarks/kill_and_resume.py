"""Checks that runs interrupted at random times end with the same bits as uninterrupted ones.

    python benchmarks/kill_and_resume.py --signal=KILL --times=26    # of each run: 104 kills
    python benchmarks/kill_and_resume.py --signal=TERM --times=5 --runs=resident

Each of RUNS is trained once without interruption, and once with `times` interruptions at random
times of the process's start, of its steps and of its saves. Compares the sha256 of every leaf of
the final state (weights, batch statistics, optimizer, step) and every row of metrics.jsonl except
its "clock", and checks that no step is logged twice. Its output is in benchmarks/logs/.
"""

import argparse
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from startup import environment

ROOT = pathlib.Path(__file__).resolve().parent.parent
EVERY = 22  # steps between two rows and two checkpoints
LENET = ("--config=configs/lenet5.py:data=digits", "--config.duration=3300 steps")
RUNS = {
    "resident": LENET,
    "streaming": (*LENET, "--config.data.engine=streaming"),
    "validation": (*LENET, "--config.data.validation=200"),  # the best is kept besides the newest
    "batch-norm": (  # in groups, and dropout
        "--config=configs/resnet_cifar.py:depth=20,data=digits",
        "--config.duration=1760 steps",
        "--config.batch_size=16",
        "--config.model.stages=(1,1,1)",
        "--config.model.features=(4,8,8)",
        "--config.model.batch_norm_group=8",
        "--config.model.shortcut_dropout=0.3",
    ),
}


def command(name: str, workdir: pathlib.Path, data_dir: pathlib.Path) -> list[str]:
    every = f"{EVERY} steps"
    return [
        *(sys.executable, "train.py", *RUNS[name]),
        *(f"--config.log_every={every}", f"--config.eval.every={every}"),
        *(f"--config.checkpoint.every={every}", f"--workdir={workdir}", f"--data_dir={data_dir}"),
    ]


def rows(workdir: pathlib.Path) -> list[dict]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "clock"} for line in lines]


def digests(workdir: pathlib.Path) -> dict[str, str]:
    """sha256 of each leaf of the last state."""
    saved = [path for path in (workdir / "checkpoints").iterdir() if path.name.isdecimal()]
    last = max(saved, key=lambda path: int(path.name))
    return {**json.loads((last / "digests" / "metadata").read_text()), "step": last.name}


def steps_done(workdir: pathlib.Path) -> int:
    log = workdir / "metrics.jsonl"
    return len(log.read_text().splitlines()) * EVERY if log.exists() else 0


def interrupt(
    process: subprocess.Popen, workdir: pathlib.Path, number: int, moments: random.Random
) -> None:
    """Sends the signal at a random time: during the start with probability 1/4, else later."""
    began, before = time.monotonic(), steps_done(workdir)
    early = moments.random() < 0.25
    least, moment = moments.uniform(0, 10), moments.uniform(0, 1.0)
    while process.poll() is None:
        if early and time.monotonic() - began > least:
            break
        if steps_done(workdir) != before:
            time.sleep(moment)
            break
        time.sleep(0.01)
    if process.poll() is None:
        process.send_signal(number)


def interrupted(
    name: str, number: int, times: int, moments: random.Random, folder: pathlib.Path
) -> tuple[int, bool]:
    """Trains a run straight and interrupted; how many ended amid a save, and if both are equal."""
    straight, cut, data = folder / f"{name}-straight", folder / f"{name}-cut", folder / "data"
    began = time.monotonic()
    subprocess.run(command(name, straight, data), cwd=ROOT, check=True, capture_output=True)
    print(f"{name}: straight in {time.monotonic() - began:.1f} s", flush=True)
    saving = 0
    for count in range(1, times + 1):
        process = subprocess.Popen(
            command(name, cut, data), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        interrupt(process, cut, number, moments)
        complaint = process.communicate()[1].decode().strip().splitlines()
        unfinished = [*(cut / "checkpoints").glob("*checkpoint-tmp*")]
        saving += bool(unfinished)
        print(
            f"{name} {count:2}: status {process.returncode}, {steps_done(cut)} steps logged"
            f"{', amid a save' if unfinished else ''}"
            f"{'; ' + complaint[-1] if complaint else ''}",
            flush=True,
        )
        if process.returncode == 0:
            print("the run ended before its last interruption: give it a longer duration")
            return saving, False
    finished = subprocess.run(command(name, cut, data), cwd=ROOT, capture_output=True, text=True)
    checks = {
        "the last start finished": finished.returncode == 0,
        "same bits in every leaf": digests(straight) == digests(cut),
        "same rows outside the clock": rows(straight) == rows(cut),
        "each step once": len({row["step"] for row in rows(cut)}) == len(rows(cut)),
    }
    print(f"leaves compared: {len(digests(straight)) - 1}, rows compared: {len(rows(straight))}")
    for check, held in checks.items():
        print(f"{'yes' if held else 'NO '}  {check}", flush=True)
    return saving, all(checks.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--signal", choices=("KILL", "TERM", "HUP"), default="KILL")
    parser.add_argument("--times", type=int, default=26, help="interruptions of each run")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--seed", type=int, default=0, help="of the random times")
    options = parser.parse_args()
    moments = random.Random(options.seed)
    number = getattr(signal, f"SIG{options.signal}")
    # Both runs compute in the same form, on the same cores.
    os.environ["JAX_PLATFORMS"] = os.environ.get("JAX_PLATFORMS", "cpu")
    print(f"python {' '.join(['benchmarks/kill_and_resume.py', *sys.argv[1:]])}")
    print(f"commit {environment.commit()}, {environment.usable_cores()} cores\n", flush=True)

    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.runs:
            saving, held = interrupted(name, number, options.times, moments, pathlib.Path(folder))
            found.update(interruptions=options.times, saving=saving, equal=held)
    print(
        f"\n{found['interruptions']} × SIG{options.signal}, {found['saving']} amid a save: "
        f"{found['equal']} of {len(options.runs)} runs ended with the bits of an uninterrupted one"
    )
    return 0 if found["equal"] == len(options.runs) else 1


if __name__ == "__main__":
    raise SystemExit(main())
