"""Times whole commands: a start, `make train`, an epoch, a seed of a study.

Each function takes benchmarks/run.py's options and returns (what, seconds) pairs.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

import data
from benchmarks.contestant import ROOT, Contestant
from configs import files

JOB = "configs/lenet5.py:data=digits"
EPOCH = "configs/resnet_cifar.py:depth=20,data=synthetic,scale=paper"
CIFAR = "synthetic:32x32x3:10:50000:10000"  # the shape and number of CIFAR-10's images
Seconds = list[tuple[str, float]]


def seconds_of(python: str, *words: str) -> float:
    """The seconds of a command that must succeed."""
    began = time.perf_counter()
    done = subprocess.run([python, *words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed: {done.stderr.strip()[-300:]}")
    return time.perf_counter() - began


def start(options: argparse.Namespace) -> Seconds:
    """To the end of the first step with an empty and a full cache, and each command's --help."""
    del options
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for label in ("an empty cache", "a full cache", "a full cache, again"):
            began = time.perf_counter()
            words = ("resnet56", "train", "float32", "128")
            made = Contestant(sys.executable, "ours", words, CONVNETS_CACHE=folder)
            made.answer()
            what = f"start to the first ResNet-56 step, {label}"
            found.append((what, time.perf_counter() - began))
            made.close()
    for command in ("train.py", "evaluate.py", "reproduce.py", "describe.py"):
        found.append((f"{command} --help", seconds_of(sys.executable, command, "--help")))
    return found


def job(options: argparse.Namespace) -> Seconds:
    """The command of `make train`, LeNet-5 on digits, and the same job in PyTorch, in turn."""
    config = files.resolve(JOB, {}, ROOT)
    epochs = config.duration.split()[0]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        arrays: dict[str, np.ndarray] = {}
        for split in ("train", "test"):
            images, labels = data.load_arrays("digits", split, f"{folder}/data")
            arrays |= {f"{split}_images": images, f"{split}_labels": labels}
        path = pathlib.Path(folder, "digits.npz")
        np.savez(path, allow_pickle=False, **arrays)
        for number in range(1, min(2, options.rounds) + 1):
            words = (f"--config={JOB}", f"--workdir={folder}/{number}", f"--data_dir={folder}/data")
            took = seconds_of(sys.executable, "train.py", *words)
            found.append((f"LeNet-5 on digits, run {number}", took))
            if "torch" in options.against.split(","):
                words = (str(path), epochs, str(config.batch_size))
                took = seconds_of(options.torch_python, "-m", "benchmarks.torch_job", *words)
                found.append((f"the same with PyTorch and a DataLoader, run {number}", took))
    return found


def epoch(options: argparse.Namespace) -> Seconds:
    """An epoch of ResNet-20 on 50,000 generated images of CIFAR-10's shape, tests included."""
    del options
    with tempfile.TemporaryDirectory() as folder:
        words = (f"--config={EPOCH}", f"--workdir={folder}/run", f"--data_dir={folder}/data")
        fields = {"data.name": CIFAR, "data.validation": 0, "duration": "1 epochs"}
        overrides = [f"--config.{name}={value}" for name, value in fields.items()]
        took = seconds_of(sys.executable, "train.py", *words, *overrides)
    return [("an epoch of ResNet-20, 50,000 images of 32×32, from start to table", took)]


def study(options: argparse.Namespace) -> Seconds:
    """One seed of degradation on digits: nine networks."""
    del options
    with tempfile.TemporaryDirectory() as folder:
        words = ("degradation", "--data=digits", "--seeds=1", f"--out={folder}")
        took = seconds_of(sys.executable, "reproduce.py", *words)
    return [("degradation on digits, one seed of nine networks", took)]


MEASURES = {"start": start, "job": job, "epoch": epoch, "study": study}
