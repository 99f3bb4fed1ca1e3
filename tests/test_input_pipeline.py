"""Batches as functions of (config, seed, step), through the resident engine and both together."""

import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from indexed import Indexed, config, indices, mesh
from PIL import Image

import data
import input_pipeline
from data.loader import Loader
from engines.resident import Part, Resident, load_part
from engines.streaming import Streaming
from errors import UserError
from input_pipeline import create

AUGMENT = ("pad_crop(pixels=2)", "flip()", "affine()")


def resident(count, batch_size, devices=1, seed=0, damaged=()):
    loader = Loader(Indexed(count, damaged), 0, count, True)
    return Resident({"train": load_part(loader, (2, 2, 1))}, mesh(devices), seed, batch_size)


def rows_of(engine, step):
    images, labels = jax.jit(engine.gather)(engine.fetch(step), step)
    np.testing.assert_array_equal(indices(images) % 10, labels)
    return indices(images)


@pytest.mark.parametrize(("count", "batch_size"), [(48, 8), (50, 8), (8, 8)])
def test_each_epoch_is_a_permutation_of_its_own(count, batch_size):
    engine = resident(count, batch_size)
    steps = count // batch_size
    epochs = []
    for epoch in range(3):
        seen = np.concatenate([rows_of(engine, epoch * steps + step) for step in range(steps)])
        # Without repetition; all of them where the batch divides the part.
        assert len(set(seen)) == len(seen) == steps * batch_size
        assert set(seen) <= set(range(count))
        epochs.append(tuple(seen))
    assert len(set(epochs)) == 3


def test_the_remainder_that_an_epoch_skips_differs_between_epochs():
    engine = resident(9, 8)
    assert len({frozenset(rows_of(engine, epoch)) for epoch in range(30)}) > 3


def test_steps_can_be_asked_for_in_any_order_and_seeds_differ():
    engine, again = resident(50, 8, seed=3), resident(50, 8, seed=3)
    forward = {step: rows_of(engine, step) for step in range(14)}
    for step in reversed(range(14)):
        np.testing.assert_array_equal(rows_of(again, step), forward[step])
    other = resident(50, 8, seed=4)
    assert any((rows_of(other, step) != forward[step]).any() for step in range(3))


def test_one_device_and_eight_get_the_same_bits(data_dir):
    fields = {"name": "digits", "augment": AUGMENT, "normalize": ("scale()", "per_pixel_mean()")}
    one, eight = (create(config(16, **fields), mesh(devices), data_dir) for devices in (1, 8))
    for step in (0, 100):
        first, second = one.batch(step), eight.batch(step)
        assert len(second["image"].sharding.device_set) == 8
        for name in ("image", "label", "mask"):
            np.testing.assert_array_equal(first[name], second[name])


def test_both_engines_agree_on_images_of_one_size(data_dir):
    """Equal up to rounding: two programs, on one device and on eight."""
    fields = {
        "name": "synthetic:12x12x3:4:70:20",
        "augment": ("random_crop(side=14)", "flip()", "photometric()", "pca_colour()"),
        "normalize": ("scale()", "mean_sd()"),
        "size": 10,
        "short_side": 11,
        "validation": 10,
    }
    made = config(16)
    with made.unlocked():
        made.data.update(fields)
    pipelines = []
    for engine, devices in (("resident", 1), ("streaming", 8)):
        made.data.engine = engine
        pipelines.append(create(made, mesh(devices), data_dir))
    for step in (0, 1, 2, 7):
        agree(*(pipeline.batch(step) for pipeline in pipelines))
    for split in ("train", "validation", "test"):
        for first, second in zip(*(p.evaluation(split) for p in pipelines), strict=True):
            agree(first, second)
    pipelines[1].close()


def agree(first, second):
    for name in ("label", "mask"):
        np.testing.assert_array_equal(first[name], second[name])
    np.testing.assert_allclose(first["image"], second["image"], rtol=0, atol=1e-5)


def test_the_interface_of_the_pipeline(data_dir):
    made = config(24, name="digits", size=16, channels=3, validation=37, augment=("flip()",))
    pipeline = create(made, mesh(8), data_dir)
    assert pipeline.image_shape == (16, 16, 3)
    assert pipeline.num_classes == 10
    assert pipeline.examples == {"train": 1400, "validation": 37, "test": 360}
    assert pipeline.steps_per_epoch == 1400 // 24
    batch = pipeline.batch(5)
    assert batch["image"].shape == (24, 16, 16, 3)
    assert [batch[name].dtype for name in ("image", "label", "mask")] == [
        "float32",
        "int32",
        "float32",
    ]
    np.testing.assert_array_equal(batch["mask"], np.ones(24))
    prepared = jax.jit(pipeline.prepare)(pipeline.fetch(5), np.int32(5))
    np.testing.assert_array_equal(prepared["image"], batch["image"])
    with pytest.raises(ValueError, match="step -1"):
        pipeline.fetch(-1)


def test_the_resident_split_is_an_argument_of_the_compiled_step(data_dir):
    """A constant would be copied into every compiled program."""
    pipeline = create(config(16, name="digits", normalize=("zca()",)), mesh(1), data_dir)
    inputs = pipeline.fetch(0)
    closed = jax.make_jaxpr(pipeline.prepare)(inputs, 0)
    assert max((np.size(constant) for constant in closed.consts), default=0) < 100


@pytest.mark.parametrize(("devices", "eval_batch_size"), [(1, 7), (2, 100), (8, 16), (8, 512)])
def test_every_image_is_counted_once_at_any_batch_size_and_device_count(
    data_dir, devices, eval_batch_size
):
    name = "synthetic:4x4x1:10:100:90"
    made = config(8 * devices, eval_batch_size=eval_batch_size, name=name, validation=30)
    pipeline = create(made, mesh(devices), data_dir)
    arrays = {split: data.load_arrays(name, split, data_dir) for split in ("train", "test")}
    expected = {
        "train": tuple(part[:70] for part in arrays["train"]),
        "validation": tuple(part[70:] for part in arrays["train"]),
        "test": arrays["test"],
    }
    for split, (images, labels) in expected.items():
        batches = list(pipeline.evaluation(split))
        assert {batch["image"].shape[0] for batch in batches} == {eval_batch_size}
        keep = np.concatenate([batch["mask"] for batch in batches]) > 0
        seen = np.concatenate([batch["image"] for batch in batches])[keep]
        np.testing.assert_array_equal(seen, images)
        np.testing.assert_array_equal(
            np.concatenate([batch["label"] for batch in batches])[keep], labels
        )
        np.testing.assert_array_equal(pipeline.preprocess(images), seen)


@pytest.mark.parametrize("engine", ["resident", "streaming"])
def test_fewer_training_images_leave_the_validation_part_where_it_is(data_dir, engine):
    name = "synthetic:4x4x1:10:100:90"
    made = config(8, name=name, validation=30, train_images=20, engine=engine)
    pipeline = create(made, mesh(1), data_dir)
    assert pipeline.examples == {"train": 20, "validation": 30, "test": 90}
    images, _ = data.load_arrays(name, "train", data_dir)
    for split, expected in (("train", images[:20]), ("validation", images[70:])):
        batches = list(pipeline.evaluation(split))
        keep = np.concatenate([batch["mask"] for batch in batches]) > 0
        seen = np.concatenate([batch["image"] for batch in batches])[keep]
        np.testing.assert_array_equal(seen, expected)
    epoch = np.concatenate([pipeline.batch(step)["image"] for step in range(2)])
    assert {image.tobytes() for image in epoch} <= {
        np.float32(image).tobytes() for image in images[:20]
    }


def test_statistics_come_from_the_training_part_alone(data_dir):
    name = "synthetic:4x4x3:10:100:20"
    made = config(8, name=name, validation=30, normalize=("scale()", "per_pixel_mean()"))
    pipeline = create(made, mesh(1), data_dir)
    images, _ = data.load_arrays(name, "train", data_dir)
    mean = images[:70].astype(np.float64).mean(axis=0) / 255
    zero = pipeline.preprocess(np.zeros((1, 4, 4, 3), np.uint8))[0]
    np.testing.assert_allclose(zero, -mean, atol=1e-6)
    assert abs(images.mean(axis=0) / 255 - mean).max() > 1e-3


@pytest.mark.parametrize(
    ("stored", "channels", "expected"), [((2, 2, 1), 3, [10, 10, 10]), ((2, 2, 3), 1, [20])]
)
def test_channels_are_repeated_or_averaged(data_dir, stored, channels, expected):
    name = "synthetic:{}x{}x{}:2:8:4".format(*stored)
    pipeline = create(config(8, name=name, channels=channels), mesh(1), data_dir)
    image = np.broadcast_to(np.array([10, 20, 30][: stored[2]], np.uint8), (1, *stored))
    np.testing.assert_allclose(pipeline.preprocess(image)[0, 0, 0], expected)


def test_size_is_bilinear_between_pixel_centres(data_dir):
    """Doubling (0, 100): centres at −1/4, 1/4, 3/4, 5/4 of the way from one pixel to the next."""
    made = config(8, name="synthetic:2x2x1:2:8:4", size=4)
    image = np.array([[0, 100], [0, 100]], np.uint8)[None, :, :, None]
    resized = create(made, mesh(1), data_dir).preprocess(image)[0, :, :, 0]
    np.testing.assert_allclose(resized, [[0, 25, 75, 100]] * 4, atol=1e-4)


@pytest.mark.parametrize("damaged", [(3,), (3, 4, 49), (0, 49)])
def test_a_damaged_record_is_replaced_by_the_next_intact_one_and_counted(damaged):
    """The same in both engines; all other images keep their places."""
    whole, harmed = resident(50, 8), resident(50, 8, damaged=damaged)
    loader = Loader(Indexed(50, damaged), 0, 50, True)
    made = input_pipeline.recipes.read(config().data, (2, 2, 1))
    stream = Streaming({"train": loader}, made, mesh(1), 0, 8, 0)
    stand_in = {3: 5 if 4 in damaged else 4, 4: 5, 49: 1 if 0 in damaged else 0, 0: 1}
    for step in range(12):
        expected = [stand_in[i] if i in damaged else i for i in rows_of(whole, step)]
        np.testing.assert_array_equal(rows_of(harmed, step), expected)
        np.testing.assert_array_equal(indices(stream.fetch(step)["images"]), expected)
    assert harmed.damaged == {"train": set(damaged)}
    assert stream.damaged["train"] <= set(damaged)
    for engine in (harmed, stream):
        kept = [indices(b["image"])[np.asarray(b["mask"]) > 0] for b in engine.passes("train", 16)]
        assert sorted(np.concatenate(kept)) == [i for i in range(50) if i not in damaged]
        chunks = np.concatenate(list(engine.chunks(0)))
        assert sorted(indices(chunks)) == [i for i in range(50) if i not in damaged]
    assert stream.damaged == {"train": set(damaged)}
    stream.close()


def test_a_pass_that_loses_an_image_is_noticed():
    part = load_part(Loader(Indexed(20), 0, 20, False), (2, 2, 1))
    engine = Resident({"train": part, "test": part}, mesh(1), 0, 4)
    engine.damaged["test"].add(3)
    with pytest.raises(AssertionError, match="20 of 20 images counted"):
        list(engine.passes("test", 8))


def test_damage_stops_with_file_and_record_unless_it_is_skipped():
    with pytest.raises(UserError, match="indexed, record 3: damaged on purpose"):
        load_part(Loader(Indexed(9, (3,)), 0, 9, False), (2, 2, 1))


@pytest.mark.parametrize("engine", ["resident", "streaming"])
def test_a_damaged_record_of_a_prepared_set_is_skipped_where_the_config_asks(engine, tmp_path):
    fields = {"name": "synthetic:16x16x1:3:20:6", "engine": engine, "eval_batch_size": 6}
    source = data.open_split(fields["name"], "train", tmp_path)
    shard = pathlib.Path(source.place(7)[0])
    body = bytearray(shard.read_bytes())
    body[body.index(source.encoded(7)[0][60:90])] ^= 0x10  # among the pixels, stored unchanged
    shard.write_bytes(body)
    with pytest.raises(UserError, match=", record 7: cannot be read"):
        list(map(create(config(4, **fields), mesh(1), str(tmp_path)).batch, range(5)))
    made = create(config(4, on_damage="skip", **fields), mesh(1), str(tmp_path))
    for step in range(5):
        assert np.asarray(made.batch(step)["mask"]).all()
    assert sum(float(batch["mask"].sum()) for batch in made.evaluation("test")) == 6
    assert made.damaged == {"train": 1, "test": 0}
    made.close()


def test_a_part_can_be_cut():
    part = Part(np.arange(4), np.arange(4) * 2, np.ones(4, bool))[1:3]
    assert (part.images.tolist(), part.labels.tolist()) == ([1, 2], [2, 4])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"batch_size": 12}, ["config.batch_size=12", "8 devices"]),
        ({"batch_size": 0}, ["config.batch_size=0", "8 devices"]),
        ({"eval_batch_size": 20}, ["config.eval.batch_size=20", "8 devices"]),
        ({"batch_size": 128}, ["config.batch_size=128", "at most 100"]),
        ({"validation": 100}, ["config.data.validation=100", "0 to 99"]),
        ({"validation": -1}, ["config.data.validation=-1", "0 to 99"]),
        ({"validation": 30, "train_images": 71}, ["config.data.train_images=71", "to 70"]),
        ({"train_images": -1}, ["config.data.train_images=-1", "0 (all) to 100"]),
        ({"engine": "fast"}, ["config.data.engine='fast'", "auto, resident, streaming"]),
        ({"workers": -1}, ["config.data.workers=-1"]),
        ({"on_damage": "ignore"}, ["config.data.on_damage='ignore'", "stop, skip"]),
        ({"name": "mnits"}, ["'mnits'", "digits"]),
        ({"augment": ("flop()",)}, ["config.data.augment", "'flop'"]),
    ],
)
def test_bad_fields_get_one_line(data_dir, fields, words):
    fields = {"name": "synthetic:4x4x1:10:100:20", **fields}
    with pytest.raises(UserError) as caught:
        create(config(**fields), mesh(8), data_dir)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_an_unknown_split_gets_one_line(data_dir):
    pipeline = create(config(name="synthetic:4x4x1:10:100:20"), mesh(1), data_dir)
    with pytest.raises(UserError, match="no split 'validation'; valid: train, test"):
        pipeline.evaluation("validation")


def test_views_are_the_first_images_as_in_a_test_and_augmented(data_dir):
    made = config(name="digits", augment=("pad_crop()", "flip()"))
    pipeline = create(made, mesh(1), data_dir)
    labels, test = pipeline.views(4, None)
    images, expected = data.load_arrays("digits", "train", data_dir)
    np.testing.assert_array_equal(labels, expected[:4])
    np.testing.assert_array_equal(test, pipeline.preprocess(images[:4]))
    _, first = pipeline.views(4, 0)
    _, second = pipeline.views(4, 1)
    assert (first != second).any(axis=(1, 2, 3)).all()


def test_the_command_draws_the_sheet(data_dir, tmp_path):
    command = [sys.executable, "describe.py", "--config=configs/lenet5.py"]
    command += [f"--data_dir={data_dir}", f"--show={tmp_path / 'augment.png'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path / 'augment.png'}\n"
    with Image.open(tmp_path / "augment.png") as drawn:
        assert drawn.size[0] > 500
        assert np.asarray(drawn.convert("L")).std() > 30
