"""The streaming engine on images that vary in size: the same bits for any number of workers."""

import hashlib
import json
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from indexed import Indexed, config, mesh
from PIL import Image
from sklearn.datasets import load_sample_images

from augmentations import recipe
from data import Damaged
from data.loader import Loader
from engines.streaming import (
    Examples,
    Prefetched,
    Records,
    Streaming,
    batches,
    cut,
    evenly_spaced,
)
from errors import UserError
from input_pipeline import create

AUGMENT = ("scale_jitter(low=20, high=32)", "flip()")
FIELDS: dict[str, Any] = {"size": 16, "augment": AUGMENT, "normalize": ("scale()",)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """30 JPEGs of various sizes, cut from two photographs: 21 for training, 9 for testing."""
    root = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for name, photograph in zip(("china", "flower"), load_sample_images().images, strict=True):
        for place in range(15):
            split = root / ("train" if place % 3 else "test") / name
            split.mkdir(parents=True, exist_ok=True)
            tall, wide = rng.integers(20, 70, 2)
            top, left = rng.integers(0, 300, 2)
            pixels = photograph[top : top + tall, left : left + wide]
            Image.fromarray(pixels).save(split / f"{place}.jpg", quality=90)
    return root


def pipeline(folder, devices=1, **fields):
    made = config(4, name=f"folder:{folder}", eval_batch_size=8, **{**FIELDS, **fields})
    return create(made, mesh(devices))


def digest(made, steps):
    """A checksum over the batches of those steps and a pass over the test part."""
    total = hashlib.sha256()
    for batch in (*map(made.batch, steps), *made.evaluation("test")):
        for name in sorted(batch):
            total.update(np.asarray(batch[name]).tobytes())
    return total.hexdigest()


# Two epochs of five batches, in order, then a step far away: what a resumed run asks first.
STEPS = (*range(10), 123)


@pytest.fixture(scope="module")
def plain(folder):
    return digest(pipeline(folder), STEPS)


@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_worker_processes_change_no_bit_and_leave_none_behind(folder, plain, workers):
    made = pipeline(folder, workers=workers)
    assert digest(made, STEPS) == plain
    made.batch(STEPS[-1] + 1)
    for worker in multiprocessing.active_children():
        # A terminal sends Ctrl-C to them too: proc(5), bit n - 1 is signal n.
        status = pathlib.Path(f"/proc/{worker.pid}/status").read_text()
        ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
        assert ignored >> (signal.SIGINT - 1) & 1
    made.close()
    assert multiprocessing.active_children() == []


def test_ctrl_c_while_a_worker_imports_does_not_end_it(folder, capfd):
    """A terminal sends it to the workers too, and they would print a traceback."""
    stream = Prefetched(pipeline(folder)._engine._train, 1, lambda loaded: loaded)
    while not (workers := multiprocessing.active_children()):
        time.sleep(0.001)
    assert workers[0].pid is not None
    os.kill(workers[0].pid, signal.SIGINT)
    assert next(stream)["image"].shape[0] == 4
    stream.close()
    assert "Traceback" not in capfd.readouterr().err


def test_steps_in_another_order_and_other_devices_are_the_same_bits(folder):
    forward, backward = pipeline(folder), pipeline(folder, devices=4)
    expected = {step: forward.batch(step) for step in range(6)}
    for step in (5, 4, 2, 3, 0, 1):
        again = backward.batch(step)
        for name in again:
            np.testing.assert_array_equal(again[name], expected[step][name])
    forward.close()
    backward.close()


FRESH = """
import jax
jax.config.update("jax_num_cpu_devices", 8)
import test_input_pipeline_streaming as here
if __name__ == "__main__":
    pipeline = here.pipeline({folder!r}, workers=1)
    print(here.digest(pipeline, (*here.STEPS[:-1],)), flush=True)
    abandoned = pipeline.evaluation("test")
    next(abandoned)
    {ending}
"""


def fresh(folder, tmp_path, ending):
    script = tmp_path / "fresh.py"
    script.write_text(FRESH.format(folder=str(folder), ending=ending))
    here = pathlib.Path(__file__).parent
    environment = {"PYTHONPATH": f"{here}:{here.parent}", "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, str(script)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_fresh_process_gets_the_same_bits_and_prints_nothing_else(folder, tmp_path):
    """Workers of training and of an abandoned pass are still running when it ends."""
    expected = digest(pipeline(folder), STEPS[:-1])
    process = fresh(folder, tmp_path, "pass")
    printed, complaints = process.communicate()
    assert (process.returncode, complaints) == (0, "")
    assert printed.strip() == expected


@pytest.mark.slow
def test_workers_end_when_the_program_is_killed(folder, tmp_path):
    """The workers inherit its standard output: the pipe closes when all of them have ended."""
    process = fresh(folder, tmp_path, "print('ready', flush=True); import time; time.sleep(600)")
    assert process.stdout.readline()
    assert process.stdout.readline() == "ready\n"
    process.kill()
    assert process.communicate(timeout=60)[0] == ""


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_the_union_of_the_hosts_is_the_batch(hosts):
    """Each host loads its own rows of the batch; together they are the batch of one host."""
    loader, made = Loader(Indexed(50), 0, 50, False), recipe.read(config().data, (2, 2, 1))
    alone = batches(Examples(loader, made, 0, 8, np.arange(8)))
    parts = [batches(Examples(loader, made, 0, 8, rows)) for rows in np.split(np.arange(8), hosts)]
    for step in (0, 5, 6, 40):
        union = np.concatenate([part[step]["index"] for part in parts])
        np.testing.assert_array_equal(union, alone[step]["index"])
    whole = [
        batches(Records(loader, made, np.arange(50), 8, rows))
        for rows in np.split(np.arange(8), hosts)
    ]
    seen = np.concatenate(
        [part[s]["index"][part[s]["mask"] > 0] for s in range(7) for part in whole]
    )
    assert sorted(seen) == list(range(50))


def test_draws_of_a_host_are_those_of_its_places(folder):
    source = create_source(folder)
    made = recipe.read(config(**FIELDS).data, None)
    loader = Loader(source, 0, len(source), False)
    alone = batches(Examples(loader, made, 0, 8, np.arange(8)))[3]["image"]
    second = batches(Examples(loader, made, 0, 8, np.arange(4, 8)))[3]["image"]
    np.testing.assert_array_equal(second, alone[4:])


def create_source(folder, split="train"):
    from data import open_split

    return open_split(f"folder:{folder}", split)


@pytest.mark.parametrize("count", [16, 21])
def test_each_epoch_is_a_permutation(count):
    loader, made = Loader(Indexed(count), 0, count, False), recipe.read(config().data, (2, 2, 1))
    stream = batches(Examples(loader, made, 1, 8, np.arange(8)))
    epochs = []
    for epoch in range(3):
        seen = np.concatenate([stream[2 * epoch + step]["index"] for step in range(2)])
        assert len(set(seen)) == 16
        epochs.append(tuple(seen))
    assert len(set(epochs)) == 3


def test_test_images_are_the_centre_of_the_short_side(folder):
    """Expected values by Pillow only: short side 18 (16 · 256 / 224), then the middle 16 × 16."""
    made = pipeline(folder, normalize=())
    seen = np.concatenate([np.asarray(batch["image"]) for batch in made.evaluation("test")])
    for index in range(9):
        pixels = create_source(folder, "test")[index]["image"]
        tall, wide = pixels.shape[:2]
        size = (round(wide * 18 / min(tall, wide)), round(tall * 18 / min(tall, wide)))
        whole = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
        left, top = (size[0] - 16 + 1) // 2, (size[1] - 16 + 1) // 2
        expected = np.asarray(whole.crop((left, top, left + 16, top + 16)), np.float64)
        # Pillow rounds the whole image to grey levels in two passes, we round the cut.
        np.testing.assert_allclose(seen[index], expected, atol=2.01)


def test_training_and_test_images_go_through_the_same_filter(folder):
    """A random crop at the test's short side and in the middle equals the test image."""
    source = create_source(folder)
    made = recipe.read(config(**{**FIELDS, "augment": ("random_crop(side=18)",)}).data, None)
    operation = made.augment[0].operation.apply
    pixels = source[0]["image"]
    tall, wide = pixels.shape[:2]
    short = min(tall, wide)
    free = np.array([round(tall * 18 / short), round(wide * 18 / short)]) - 16 + 1
    middle = ((free // 2) + 0.5) / free
    box = operation(np, middle, tall, wide, 16, side=18)
    records = batches(Records(Loader(source, 0, 1, False), made, np.arange(1), 1, np.arange(1)))
    np.testing.assert_array_equal(cut(pixels, box, 16), records[0]["image"][0])


def test_the_streams_mean_colour_is_that_of_the_cut_training_images(folder):
    made = pipeline(folder, normalize=("scale()", "channel_mean()"))
    plain = pipeline(folder, normalize=("scale()",))
    batches_of = zip(made.evaluation("train"), plain.evaluation("train"), strict=True)
    shifts, images = [], []
    for normalized, scaled in batches_of:
        keep = np.asarray(scaled["mask"]) > 0
        images.append(np.asarray(scaled["image"], np.float64)[keep])
        shifts.append((np.asarray(scaled["image"]) - np.asarray(normalized["image"]))[keep])
    mean = np.concatenate(images).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(
        np.concatenate(shifts), np.broadcast_to(mean, (20, 16, 16, 3)), atol=1e-6
    )


def test_evenly_spaced_images():
    assert evenly_spaced(10, 0).tolist() == list(range(10))
    assert evenly_spaced(10, 4).tolist() == [0, 2, 5, 7]
    assert evenly_spaced(3, 9).tolist() == [0, 1, 2]


@pytest.fixture
def harmed(folder, tmp_path):
    """A copy of the folder with the first training and test images truncated."""
    for split in ("train", "test"):
        for file in sorted((folder / split).glob("*/*.jpg")):
            copy = tmp_path / split / file.parent.name / file.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    places = [create_source(tmp_path, split).place(0)[0] for split in ("train", "test")]
    for place in map(pathlib.Path, places):
        place.write_bytes(place.read_bytes()[: place.stat().st_size // 2])
    return tmp_path, places


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_stops_with_one_line_that_names_it(harmed, workers):
    root, (train, test) = harmed
    made = pipeline(root, workers=workers, normalize=())
    with pytest.raises(UserError) as caught:
        list(map(made.batch, range(5)))
    assert train in str(caught.value)
    assert "\n" not in str(caught.value)
    if workers == 0:
        with pytest.raises(UserError, match=pathlib.Path(test).name):
            list(made.evaluation("test"))
    made.close()
    assert multiprocessing.active_children() == []


def test_damaged_images_are_skipped_and_counted_where_the_config_asks(harmed):
    root, _ = harmed
    made = pipeline(root, on_damage="skip", normalize=("channel_mean()",))
    # The pass for the mean colour has met the training part's already.
    assert made.damaged == {"train": 1, "test": 0}
    for step in range(5):
        assert np.asarray(made.batch(step)["mask"]).all()
    counted = sum(float(batch["mask"].sum()) for batch in made.evaluation("test"))
    assert counted == made.examples["test"] - 1
    assert made.damaged == {"train": 1, "test": 1}
    made.close()


def test_damage_is_counted_over_restarts_and_processes(harmed, tmp_path):
    """A run killed after training, its resume with the test, and the file of another process."""
    root, _ = harmed
    first = pipeline(root, on_damage="skip", normalize=("channel_mean()",))
    first.keep_damage(tmp_path)
    first.close()
    again = pipeline(root, on_damage="skip", normalize=())
    again.keep_damage(tmp_path)
    assert again.damaged == {"train": 1, "test": 0}
    list(again.evaluation("test"))
    assert again.damaged == {"train": 1, "test": 1}
    again.close()
    kept = json.loads((tmp_path / "damaged.0.json").read_text())
    (tmp_path / "damaged.1.json").write_text(json.dumps({"train": [*kept["train"], 3], "test": []}))
    assert again.damaged == {"train": 2, "test": 1}


def test_a_part_that_is_all_damaged_stops(tmp_path):
    loader = Loader(Indexed(8, tuple(range(8))), 0, 8, True)
    made = recipe.read(config().data, (2, 2, 1))
    stream = Streaming({"train": loader}, made, mesh(1), 0, 4, 0)
    with pytest.raises(Damaged, match="all 8 records"):
        stream.fetch(0)


def test_the_resident_engine_refuses_images_of_many_sizes(folder):
    with pytest.raises(UserError, match=r"config\.data\.engine='resident'.*vary in size"):
        pipeline(folder, engine="resident")
