"""Files of torchvision's state dicts without torch: a .pth as torch.save writes it, and others."""

import pathlib
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from drawn import drawn

import models
from conversion.sources import SOURCES
from conversion.table import give

Arrays = dict[str, np.ndarray]
SOURCE = SOURCES["torchvision"]
SMALL = {"width": 0.0625, "input": 64}
NAMES_OF_TYPES = {"float32": "Float", "float16": "Half", "float64": "Double", "int64": "Long"}


def network_of(name: str) -> models.Network:
    side = 224 if name.startswith("alexnet") else SMALL["input"]
    return models.create({"name": name, **SMALL, "input": side})


def state_of(name: str, seed: int = 0) -> Arrays:
    network = network_of(name)
    return give(SOURCE.rows(name, network), drawn(network, seed))


def code(value: Any) -> bytes:
    """Instructions that put a value on the pickle's stack; bytes are instructions themselves."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int):
        number = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(number)]) + number
    return b"(" + b"".join(map(code, value)) + b"t"


def call(name: str, *arguments: Any) -> bytes:
    module, _, function = name.rpartition(".")
    return f"c{module}\n{function}\n".encode() + code(arguments) + b"R"


def storage(kind: str, key: str, count: int) -> bytes:
    return code(("storage", f"ctorch\n{kind}Storage\n".encode(), key, "cpu", count)) + b"Q"


def tensor(kept: bytes, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    hooks = call("collections.OrderedDict")
    return call("torch._utils._rebuild_tensor_v2", kept, offset, size, stride, False, hooks)


def program(values: Mapping[str, bytes]) -> bytes:
    """A state dict, with the versions of modules that torch keeps as an attribute."""
    items = b"".join(code(name) + value for name, value in values.items())
    versions = b"}" + code("_metadata") + call("collections.OrderedDict") + b"s"
    return b"\x80\x02" + call("collections.OrderedDict") + b"(" + items + b"u" + versions + b"b."


def zipped(
    path: pathlib.Path,
    pickled: bytes,
    storages: Mapping[str, bytes],
    method: int = zipfile.ZIP_STORED,
) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        for key, content in storages.items():
            archive.writestr(f"archive/data/{key}", content)
        archive.writestr("archive/version", "3\n")


def pth(path: pathlib.Path, arrays: Arrays) -> None:
    values, storages = {}, {}
    for number, (name, array) in enumerate(arrays.items()):
        key = str(number)
        storages[key] = array.tobytes()
        strides = tuple(step // array.itemsize for step in array.copy().strides)
        kept = storage(NAMES_OF_TYPES[str(array.dtype)], key, array.size)
        values[name] = tensor(kept, array.shape, strides)
    zipped(path, program(values), storages)
