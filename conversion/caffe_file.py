"""Files of Caffe: weights (`.caffemodel`) and mean images (`.binaryproto`), read and written.

Both are protocol buffers. The few fields needed are declared here by their numbers in Caffe's
schema (src/caffe/proto/caffe.proto), and everything else is skipped. A file is data alone: nothing
in it is run, and a length is compared with the bytes that are there before anything is allocated.
"""

import dataclasses
import math
import pathlib
import struct
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from errors import UserError

# How a value is stored: protocol buffers' wire types.
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
SIZES = {FIXED64: 8, FIXED32: 4}

# NetParameter. Layers of version 1 were written until 2014.
NET_NAME, NET_LAYERS_V1, NET_LAYERS_V2 = 1, 2, 100
# V1LayerParameter and LayerParameter: the numbers of the layer's name and of its blobs.
NAME_AND_BLOBS = {NET_LAYERS_V1: (4, 6), NET_LAYERS_V2: (1, 7)}
V0_LAYER = 1  # inside a layer of version 1: the format of 2013
# BlobProto. The four sizes (num, channels, height, width) are older than `shape`.
BLOB_SIZES, BLOB_DATA, BLOB_SHAPE, BLOB_DOUBLES = (1, 2, 3, 4), 5, 7, 8
SHAPE_DIM = 1  # BlobShape
MOST_AXES = 32  # Caffe's own limit

Field = tuple[int, int, int | memoryview]  # number, wire type, value


class Malformed(ValueError):
    """Bytes that are no protocol buffer of the declared fields."""


@dataclasses.dataclass(frozen=True)
class CaffeNet:
    """The name of a network, and the blobs (float32) of its layers that have some."""

    name: str
    layers: Mapping[str, Sequence[np.ndarray]]


def read_net(path: pathlib.Path) -> CaffeNet:
    """The weights in a `.caffemodel`, layers of version 1 or 2. Raises UserError, one line."""
    layers: dict[str, list[np.ndarray]] = {}
    name = ""
    try:
        for number, wire, value in _fields(_content(path)):
            if number == NET_NAME:
                name = _text(wire, value)
            elif number in NAME_AND_BLOBS:
                layer, blobs = _layer(number, _bytes(wire, value))
                if layer in layers and blobs:
                    raise Malformed(f"two layers are called {layer!r}")
                if blobs:
                    layers[layer] = blobs
    except Malformed as error:
        raise UserError(f"{path}: is damaged or no .caffemodel: {error}") from None
    if not layers:
        raise UserError(f"{path}: holds no weights; is it a .caffemodel?")
    return CaffeNet(name, layers)


def read_mean(path: pathlib.Path) -> np.ndarray:
    """The mean image in a `.binaryproto`: float32 [channels, H, W], blue first.

    Raises UserError, one line.
    """
    try:
        mean = _blob(_content(path))
    except Malformed as error:
        raise UserError(f"{path}: is damaged or no .binaryproto: {error}") from None
    mean = mean.reshape(mean.shape[1:] if mean.ndim == 4 and mean.shape[0] == 1 else mean.shape)
    if mean.ndim != 3 or not mean.size:
        raise UserError(f"{path}: is no mean image: its shape is {mean.shape}, not (3, H, W)")
    return mean


def write_net(path: pathlib.Path, net: CaffeNet) -> None:
    """Writes a `.caffemodel` of version 2, whole or not. Raises UserError if it cannot."""
    name_number, blobs_number = NAME_AND_BLOBS[NET_LAYERS_V2]
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(_chunk(NET_NAME, net.name.encode()))
            for layer, blobs in net.layers.items():
                parts = [_chunk(name_number, layer.encode())]
                parts += [_chunk(blobs_number, _encoded(blob)) for blob in blobs]
                file.write(_chunk(NET_LAYERS_V2, b"".join(parts)))
        partial.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None


def _content(path: pathlib.Path) -> memoryview:
    try:
        return memoryview(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def _layer(version: int, content: memoryview) -> tuple[str, list[np.ndarray]]:
    """The name and the blobs of one layer."""
    name_number, blobs_number = NAME_AND_BLOBS[version]
    name, blobs = "", []
    for number, wire, value in _fields(content):
        if number == name_number:
            name = _text(wire, value)
        elif number == blobs_number:
            try:
                blobs.append(_blob(_bytes(wire, value)))
            except Malformed as error:
                raise Malformed(f"blob {len(blobs)} of layer {name!r}: {error}") from None
        elif version == NET_LAYERS_V1 and number == V0_LAYER:
            raise Malformed(
                "its layers are of Caffe's format of 2013; Caffe's upgrade_net_proto_binary "
                "turns it into a newer one"
            )
    return name, blobs


def _blob(content: memoryview) -> np.ndarray:
    """One array, float32; Caffe too rounds a blob of doubles when it reads one into float."""
    sizes, shape = dict.fromkeys(BLOB_SIZES, 0), None
    chunks: dict[int, list[memoryview]] = {BLOB_DATA: [], BLOB_DOUBLES: []}
    for number, wire, value in _fields(content):
        if number in sizes:
            sizes[number] = _size(_integer(wire, value))
        elif number == BLOB_SHAPE:
            shape = _dimensions(_bytes(wire, value))
        elif number in chunks:
            # A packed array may be stored in several chunks, or unpacked, number by number.
            unpacked = FIXED32 if number == BLOB_DATA else FIXED64
            if wire not in (LENGTH, unpacked) or isinstance(value, int):
                raise Malformed(f"field {number} is not an array")
            chunks[number].append(value)
    dims = tuple(sizes.values()) if shape is None else shape
    number = BLOB_DATA if chunks[BLOB_DATA] else BLOB_DOUBLES
    kind = np.dtype("<f4" if number == BLOB_DATA else "<f8")
    stored: memoryview | bytes
    stored = chunks[number][0] if len(chunks[number]) == 1 else b"".join(chunks[number])
    if len(stored) != math.prod(dims) * kind.itemsize:
        raise Malformed(
            f"has {len(stored)} bytes of numbers, its shape {dims} needs "
            f"{math.prod(dims) * kind.itemsize}"
        )
    return np.frombuffer(stored, kind).astype(np.float32, copy=False).reshape(dims)


def _dimensions(content: memoryview) -> tuple[int, ...]:
    dims: list[int] = []
    for number, wire, value in _fields(content):
        if number == SHAPE_DIM:
            if wire == VARINT:
                dims.append(_size(_integer(wire, value)))
            else:
                packed, place = _bytes(wire, value), 0
                while place < len(packed) and len(dims) <= MOST_AXES:
                    size, place = _varint(packed, place)
                    dims.append(_size(size))
        if len(dims) > MOST_AXES:
            raise Malformed(f"has more than {MOST_AXES} axes")
    return tuple(dims)


def _size(value: int) -> int:
    if value >= 2**63:  # negative, in two's complement
        raise Malformed("has a negative size")
    return value


def _fields(content: memoryview) -> Iterator[Field]:
    """The fields of one message, in the order of the bytes; values are views of them."""
    place = 0
    while place < len(content):
        tag, place = _varint(content, place)
        number, wire = tag >> 3, tag & 7
        if number == 0 or wire not in (VARINT, FIXED64, LENGTH, FIXED32):
            raise Malformed(f"no field can begin with {tag} at byte {place} of its message")
        value: int | memoryview
        if wire == VARINT:
            value, place = _varint(content, place)
        else:
            if wire == LENGTH:
                length, place = _varint(content, place)
            else:
                length = SIZES[wire]
            if length > len(content) - place:
                raise Malformed(
                    f"field {number} needs {length} bytes, {len(content) - place} are left"
                )
            value, place = content[place : place + length], place + length
        yield number, wire, value


def _varint(content: memoryview, place: int) -> tuple[int, int]:
    """A whole number, 7 bits a byte, lowest first; and the place after it."""
    value = 0
    for index in range(10):
        if place + index >= len(content):
            raise Malformed("it ends within a number")
        byte = content[place + index]
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value & 2**64 - 1, place + index + 1
    raise Malformed("a number is longer than 10 bytes")


def _integer(wire: int, value: int | memoryview) -> int:
    if wire != VARINT or not isinstance(value, int):
        raise Malformed("a size is not a whole number")
    return value


def _bytes(wire: int, value: int | memoryview) -> memoryview:
    if wire != LENGTH or isinstance(value, int):
        raise Malformed("a message, text or array has no length")
    return value


def _text(wire: int, value: int | memoryview) -> str:
    try:
        return bytes(_bytes(wire, value)).decode()
    except UnicodeDecodeError:
        raise Malformed("a name is not text") from None


def _encoded(blob: np.ndarray) -> bytes:
    """A BlobProto of float32."""
    dims = b"".join(_number(size) for size in blob.shape)
    return _chunk(BLOB_SHAPE, _chunk(SHAPE_DIM, dims)) + _chunk(
        BLOB_DATA, np.ascontiguousarray(blob, "<f4").tobytes()
    )


def _chunk(number: int, content: bytes) -> bytes:
    return _number(number << 3 | LENGTH) + _number(len(content)) + content


def _number(value: int) -> bytes:
    low, rest = value & 127, value >> 7
    return struct.pack("B", low) if not rest else struct.pack("B", low | 128) + _number(rest)
