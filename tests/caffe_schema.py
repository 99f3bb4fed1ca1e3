"""Caffe's messages for Google's protobuf library, to write files that our reader did not write.

Field numbers and types are those of Caffe's src/caffe/proto/caffe.proto.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("google.protobuf", reason="protobuf is not installed")

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

FIELD = descriptor_pb2.FieldDescriptorProto
ONE, MANY = FIELD.LABEL_OPTIONAL, FIELD.LABEL_REPEATED
# message -> (field, number, type or message, label); arrays are packed where MANY numbers are.
SCHEMA: dict[str, tuple[tuple[str, int, Any, Any], ...]] = {
    "BlobShape": (("dim", 1, FIELD.TYPE_INT64, MANY),),
    "BlobProto": (
        ("num", 1, FIELD.TYPE_INT32, ONE),
        ("channels", 2, FIELD.TYPE_INT32, ONE),
        ("height", 3, FIELD.TYPE_INT32, ONE),
        ("width", 4, FIELD.TYPE_INT32, ONE),
        ("data", 5, FIELD.TYPE_FLOAT, MANY),
        ("diff", 6, FIELD.TYPE_FLOAT, MANY),
        ("shape", 7, "BlobShape", ONE),
        ("double_data", 8, FIELD.TYPE_DOUBLE, MANY),
    ),
    "LayerParameter": (
        ("name", 1, FIELD.TYPE_STRING, ONE),
        ("type", 2, FIELD.TYPE_STRING, ONE),
        ("bottom", 3, FIELD.TYPE_STRING, MANY),
        ("blobs", 7, "BlobProto", MANY),
        ("phase", 10, FIELD.TYPE_INT32, ONE),
    ),
    "V1LayerParameter": (
        ("layer", 1, "LayerParameter", ONE),  # V0LayerParameter: its name too has number 1
        ("bottom", 2, FIELD.TYPE_STRING, MANY),
        ("name", 4, FIELD.TYPE_STRING, ONE),
        ("type", 5, FIELD.TYPE_INT32, ONE),
        ("blobs", 6, "BlobProto", MANY),
        ("blobs_lr", 7, FIELD.TYPE_FLOAT, MANY),
    ),
    "NetParameter": (
        ("name", 1, FIELD.TYPE_STRING, ONE),
        ("layers", 2, "V1LayerParameter", MANY),
        ("input", 3, FIELD.TYPE_STRING, MANY),
        ("input_dim", 4, FIELD.TYPE_INT32, MANY),
        ("layer", 100, "LayerParameter", MANY),
    ),
}
UNPACKED = ("blobs_lr", "input_dim")


def _messages() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="c", syntax="proto2")
    for message, fields in SCHEMA.items():
        made = file.message_type.add(name=message)
        for name, number, kind, label in fields:
            if isinstance(kind, str):
                made.field.add(
                    name=name, number=number, label=label, type_name=f".c.{kind}",
                    type=FIELD.TYPE_MESSAGE,
                )  # fmt: skip
                continue
            added = made.field.add(name=name, number=number, label=label, type=kind)
            if label == MANY and kind != FIELD.TYPE_STRING and name not in UNPACKED:
                added.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = message_factory.GetMessageClassesForFiles(["caffe.proto"], pool)
    return {name.removeprefix("c."): message for name, message in found.items()}


MESSAGES = _messages()


def blob(array: np.ndarray, *, old: bool = False, doubles: bool = False) -> Any:
    """A BlobProto; old: with four sizes in place of a shape."""
    made = MESSAGES["BlobProto"]()
    (made.double_data if doubles else made.data).extend(array.ravel().tolist())
    if old:
        sizes = (1,) * (4 - array.ndim) + array.shape
        made.num, made.channels, made.height, made.width = sizes
    else:
        made.shape.dim.extend(array.shape)
    return made


def net(name: str, layers: Mapping[str, Sequence[np.ndarray]], *, old: bool = False) -> bytes:
    """A .caffemodel, of version 1 if `old`, with layers without weights in between."""
    made = MESSAGES["NetParameter"](name=name, input=["data"], input_dim=[1, 3, 224, 224])
    for layer, arrays in layers.items():
        if old:
            made.layers.add(name=f"relu_{layer}", type=18, bottom=[layer])
            kept = made.layers.add(name=layer, type=4, bottom=["data"], blobs_lr=[1.0, 2.0])
        else:
            made.layer.add(name=f"relu_{layer}", type="ReLU", bottom=[layer])
            kept = made.layer.add(name=layer, type="Convolution", bottom=["data"], phase=1)
        kept.blobs.extend([blob(array, old=old) for array in arrays])
    return made.SerializeToString()
