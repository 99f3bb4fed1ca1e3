"""Files of weights that are wrong, and those that would run something or fill the memory."""

import io
import os
import pathlib
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from state_dicts import (
    SMALL,
    SOURCE,
    Arrays,
    call,
    code,
    program,
    pth,
    state_of,
    storage,
    tensor,
    zipped,
)

import convert
import models
from conversion import torch_file
from errors import UserError

NAME = "resnet18_torchvision"
MOST_MEMORY = 20e6  # bytes that may be allocated for a hostile file of a few hundred bytes


def changed(change: Callable[[Arrays], None]) -> Callable[[pathlib.Path], object]:
    def write(path: pathlib.Path) -> None:
        state = state_of(NAME)
        change(state)
        pth(path, state)

    return write


def absent(state: Arrays) -> None:
    del state["layer3.1.bn2.running_var"]


def extra(state: Arrays) -> None:
    state["layer5.0.conv1.weight"] = np.zeros(3, np.float32)


def turned(state: Arrays) -> None:
    state["fc.weight"] = np.ascontiguousarray(state["fc.weight"].T)


def half(state: Arrays) -> None:
    state["conv1.weight"] = state["conv1.weight"].astype(np.float16)


def not_finite(state: Arrays) -> None:
    state["layer2.0.downsample.0.weight"] = state["layer2.0.downsample.0.weight"].copy()
    state["layer2.0.downsample.0.weight"][1, 1] = np.nan


def cut(suffix: str) -> Callable[[pathlib.Path], object]:
    def write(path: pathlib.Path) -> None:
        if suffix == "pth":
            pth(path, state_of(NAME))
        else:
            SOURCE.write(path.with_suffix(".safetensors"), NAME, state_of(NAME))
            path.with_suffix(".safetensors").rename(path)
        path.write_bytes(path.read_bytes()[:-1000])

    return write


def header_of_2_62_bytes(path: pathlib.Path) -> None:
    path.write_bytes(struct.pack("<Q", 2**62) + b'{"conv1.weight"')


FITS = "is missing \\(it would be"
WRONG: dict[str, tuple[Callable[[pathlib.Path], object], str]] = {
    "truncated zip": (cut("pth"), "is damaged or no file of weights"),
    "truncated safetensors": (cut("safetensors"), "is damaged or no file of weights"),
    "header of 4 EiB": (header_of_2_62_bytes, "is damaged or no file of weights"),
    "text": (lambda path: path.write_text("404: not found\n"), "is damaged or no file"),
    "nothing": (lambda path: path.touch(), "is damaged or no file of weights"),
    "another network": (lambda path: pth(path, state_of("vgg_A")), f"bn1.bias {FITS}|{FITS}"),
    "transposed": (changed(turned), r"fc.weight has shape \(32, 1000\), not \(1000, 32\)"),
    "missing": (changed(absent), f"layer3.1.bn2.running_var {FITS} batch_stats/conv4_2/b/bn/var"),
    "left over": (changed(extra), "layer5.0.conv1.weight: the network has no such array"),
    "wrong type": (changed(half), "conv1.weight is float16, not float32"),
    "not finite": (changed(not_finite), "downsample.0.weight holds numbers that are not finite"),
}


class Reduced:
    def __reduce__(self) -> Any:
        return os.mkdir, ("ran",)


def one_tensor(value: bytes) -> Callable[[pathlib.Path], object]:
    return lambda path: zipped(path, program({"conv1.weight": value}), {"0": bytes(16)})


def bare(pickled: bytes) -> Callable[[pathlib.Path], object]:
    return lambda path: zipped(path, pickled, {"0": bytes(16)})


def compressed(path: pathlib.Path) -> None:
    """64 MB of zeros, of which a hundred thousand bytes are in the file."""
    zipped(path, program({}), {"0": bytes(2**26)}, zipfile.ZIP_DEFLATED)


def tar(path: pathlib.Path) -> None:
    path.write_bytes(b"storages".ljust(257, b"\0") + b"ustar\x0000".ljust(255, b"\0"))


FLOATS = storage("Float", "0", 4)
BEYOND = "does not fit its storage of 4 numbers"
HOSTILE: dict[str, tuple[Callable[[pathlib.Path], object], str]] = {
    "os.system": (
        one_tensor(call(f"{os.name}.system", "mkdir ran")),
        f"it names {os.name}.system, which is not run",
    ),
    "__reduce__": (
        bare(pickle.dumps(Reduced(), 2)),
        f"it names {os.name}.mkdir, which is not run",
    ),
    "__reduce__, newer": (
        bare(pickle.dumps(Reduced(), 4)),
        "its pickle has the instruction FRAME",
    ),
    "eval": (
        one_tensor(call("builtins.eval", "__import__('os').mkdir('ran')")),
        "it names builtins.eval",
    ),
    "an attribute of torch": (one_tensor(call("torch.serialization.load", "x")), "it names torch."),
    "changes a function": (
        bare(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}" + code("make") + b"Nsb."),
        "it changes what it may only use",
    ),
    "changes a storage": (
        bare(b"\x80\x02" + FLOATS + b"}" + code("numbers") + b"Nsb."),
        "it changes what it may only use",
    ),
    "shape": (one_tensor(tensor(FLOATS, (2**20, 2**20), (2**20, 1))), BEYOND),
    "huge shape": (one_tensor(tensor(FLOATS, (2**70,), (1,))), "that are no whole numbers"),
    "stride of 0": (one_tensor(tensor(FLOATS, (2**20, 2**20), (0, 0))), BEYOND),
    "stride beyond": (one_tensor(tensor(FLOATS, (2, 2), (3, 1))), BEYOND),
    "stride below 0": (one_tensor(tensor(FLOATS, (2,), (-1,), 1)), "no whole numbers"),
    "offset": (one_tensor(tensor(FLOATS, (2,), (1,), 3)), BEYOND),
    "storage": (
        one_tensor(tensor(storage("Float", "0", 2**50), (2**50,), (1,))),
        r"storage '0' of 1125899906842624 float32 has 16 bytes in the file",
    ),
    "absent storage": (one_tensor(tensor(storage("Float", "7", 4), (4,), (1,))), "has 0 bytes in"),
    "memo": (
        bare(b"\x80\x02}r" + struct.pack("<I", 2**32 - 1) + b"."),
        "its pickle remembers 4294967295 things",
    ),
    "bytearray": (
        bare(b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"."),
        "is damaged or no file of weights",
    ),
    "text of 4 GB": (bare(b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"."), "is damaged or no"),
    "compressed": (compressed, "its parts are compressed"),
    "no dict": (bare(b"\x80\x02K\x01."), "it is no dict"),
    "no tensor": (one_tensor(code("text")), r"'conv1.weight' is no array \(str\)"),
    "bare pickle": (
        lambda path: path.write_bytes(pickle.dumps(Reduced())),
        r"is a bare pickle, .* run: python -c \"import torch, safetensors.torch",
    ),
    "tar": (tar, r"is a tar file, .* if you trust the file, run: python -c .*weights_only=False"),
}


@pytest.mark.parametrize("wrong", [*WRONG, *HOSTILE])
def test_what_is_wrong_is_one_line_and_nothing_else(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    write, said = (WRONG | HOSTILE)[wrong]
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "net.pth"
    write(path)
    create = models.create
    monkeypatch.setattr(models, "create", lambda spec: create({**spec, **SMALL}))
    tracemalloc.start()
    with pytest.raises(UserError, match=said) as caught:
        convert.convert("torchvision", path, NAME, tmp_path / "run")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["net.pth"]
    assert most < MOST_MEMORY


def test_parts_that_share_bytes_are_refused(tmp_path: pathlib.Path) -> None:
    """Two names of the directory for one part: read twice, they would be more than the file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a/data.pkl", program({}))
        archive.writestr("a/data/0", bytes(1000))
        for key in range(1, 50):
            info = archive.getinfo("a/data/0")
            copied = zipfile.ZipInfo(f"a/data/{key}")
            for field in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(copied, field, getattr(info, field))
            archive.filelist.append(copied)
    path = tmp_path / "net.pth"
    path.write_bytes(content.getvalue())
    with pytest.raises(UserError, match="its parts are larger than the file"):
        torch_file.read(path)
