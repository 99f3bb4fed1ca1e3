"""Damages a checkpoint by one byte at a time, and checks that each damage is noticed or harmless.

    python benchmarks/damage_checkpoints.py --samples=240

Trains a ResNet of three blocks for four steps, with checkpoints after steps 2 and 4. Each sample is
a fresh copy of that workdir in which one byte of the newer checkpoint has another value: half of
the samples are spread evenly over its files, half over its bytes. What train.py does on a resume is
then done to it: restore the newest intact checkpoint, compare what it was made of, check the rows.

Noticed: the older checkpoint is used, or one line refuses. Harmless: the state has the bits that
were saved. Anything else, an exception of another kind too, is printed and fails. Its output is in
benchmarks/logs/.
"""

import argparse
import contextlib
import os
import pathlib
import random
import shutil
import sys
import tempfile
from collections import Counter
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

if __name__ == "__main__":
    os.environ["JAX_PLATFORMS"] = os.environ.get("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
from absl import logging

import train
from configs import files
from errors import UserError
from startup import environment
from training import metrics, workdirs
from training.checkpoints import Checkpoints

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = "configs/resnet_cifar.py:depth=20,scale=smoke"
FIELDS: dict[str, Any] = {"model.stages": (1, 1, 1), "model.features": (4, 8, 8)}
NOTICED, HARMLESS, SILENT = "noticed", "harmless", "SILENT"


def places(folder: pathlib.Path, samples: int, chance: random.Random) -> list[tuple[str, int]]:
    """Files of a checkpoint and offsets in them: half evenly over files, half over bytes."""
    sizes = {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.stat().st_size
    }
    names = list(sizes)
    even = [names[i % len(names)] for i in range(samples // 2)]
    by_size = chance.choices(names, weights=list(sizes.values()), k=samples - len(even))
    return [(name, chance.randrange(sizes[name])) for name in even + by_size]


def damage(path: pathlib.Path, offset: int, chance: random.Random) -> None:
    """Gives one byte of a file another value."""
    content = bytearray(path.read_bytes())
    content[offset] ^= chance.randrange(1, 256)
    path.write_bytes(content)


def outcome(workdir: pathlib.Path, saved: Any, made_of: dict[str, str]) -> str:
    """What a resume in a damaged workdir gives; `saved`: the state in its newest checkpoint."""
    try:
        with Checkpoints(workdir, keep=2) as checkpoints:
            state = checkpoints.restore_newest(saved)
            assert state is not None
            step = int(state.step)
            checkpoints.require_made_of(step, made_of)
            metrics.check_unchanged(workdir, step, checkpoints.metadata(step))
    except UserError as error:
        return SILENT if "\n" in str(error) else NOTICED
    if step != int(saved.step):
        return NOTICED
    pairs = zip(jax.tree.leaves(state), jax.tree.leaves(saved), strict=True)
    same = all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)
    return HARMLESS if same else SILENT


def kind(name: str) -> str:
    """A file's name in the table: without numbers that Orbax draws."""
    parts = pathlib.PurePath(name).parts
    return "/".join(parts[:-1]) + "/*" if "d" in parts[:-1] else name


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0, help="of the random places and values")
    options = parser.parse_args()
    logging.set_verbosity(logging.FATAL)
    logging.get_absl_handler().addFilter(lambda record: "orbax" not in record.pathname)
    sys.unraisablehook = lambda unraisable: None  # of reads that Orbax abandons; as train.py does
    chance = random.Random(options.seed)
    print(f"python {' '.join(['benchmarks/damage_checkpoints.py', *sys.argv[1:]])}")
    print(f"commit {environment.commit()}\n")

    found: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        whole = pathlib.Path(folder, "whole")
        config = files.resolve(CONFIG, FIELDS, ROOT)
        data = str(pathlib.Path(folder, "data"))
        with contextlib.redirect_stdout(None):
            state, _ = train.train_and_evaluate(config, whole, data_dir=data)
        newest = whole / "checkpoints" / "4"
        with Checkpoints(whole, keep=2) as checkpoints:
            names = workdirs.MADE_OF
            made_of = {k: v for k, v in checkpoints.metadata(4).items() if k in names}
        for name, offset in places(newest, options.samples, chance):
            damaged = pathlib.Path(folder, "damaged")
            shutil.rmtree(damaged, ignore_errors=True)
            shutil.copytree(whole, damaged)
            damage(damaged / "checkpoints" / "4" / name, offset, chance)
            try:
                result = outcome(damaged, state, made_of)
            except Exception as error:
                result = SILENT
                print(f"{name} at {offset}: {type(error).__name__}: {error}")
            if result == SILENT:
                print(f"{name} at {offset}: not noticed")
            found.setdefault(kind(name), Counter())[result] += 1
    total = sum(found.values(), Counter())
    print(f"{'file':44} {NOTICED:>8} {HARMLESS:>9} {SILENT:>7}")
    for name, counts in [*sorted(found.items()), ("all", total)]:
        print(f"{name:44} {counts[NOTICED]:8} {counts[HARMLESS]:9} {counts[SILENT]:7}")
    return 1 if total[SILENT] else 0


if __name__ == "__main__":
    raise SystemExit(main())
