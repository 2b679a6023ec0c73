""".safetensors files: tensors as views of the mapped file, and a writer that holds no tensor."""
from __future__ import annotations

import json
import math
import mmap
import os
import pathlib
import shutil
import struct
from typing import Any, BinaryIO, Union

import numpy as np

from attnprune import tensors
from attnprune.security import refuse
from attnprune.tensors import Tensor
from attnprune.v1 import job_pb2

Path = Union[str, "os.PathLike[str]"]
_WHOLE = {"U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I64": "<i8", "U64": "<u8",
          "BOOL": "?"}
_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I32": 4}


class File:
    """An open file. `names` in its order; what `entry` and `tensor` give is read when it is used."""

    def __init__(self, path: Path) -> None:
        self.path = pathlib.Path(path)
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < 8:
                refuse("path", f"must be a .safetensors file, got {path}, which has {size} bytes")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        (length,) = struct.unpack("<Q", self._map[:8])
        if length > size - 8:
            refuse("path", f"must be a .safetensors file, got {path}, whose header does not end")
        self.body = 8 + length
        try:
            self._header: dict[str, Any] = json.loads(self._map[8:self.body])
        except ValueError as error:
            refuse("path", f"must be a .safetensors file, got {path}, whose header is not JSON: {error}")
        self._header.pop("__metadata__", None)

    @property
    def names(self) -> list[str]:
        return list(self._header)

    def span(self, name: str) -> tuple[int, int]:
        """Where the tensor's bytes begin and end in the file."""
        begin, end = self._entry(name)["data_offsets"]
        return self.body + begin, self.body + end

    def _entry(self, name: str) -> dict[str, Any]:
        if name not in self._header:
            refuse("name", f"must be a tensor of {self.path}, which has {', '.join(self.names)}; "
                           f"got {name}")
        entry: dict[str, Any] = self._header[name]
        return entry

    def tensor(self, name: str, label: str = "") -> Tensor:
        """As it is in the file, called `label` or else `name`."""
        entry = self._entry(name)
        begin, end = self.span(name)
        width = _SIZES.get(entry["dtype"])
        if width is None:
            refuse("name", f"must be a tensor of {', '.join(_SIZES)}, got {name} of {entry['dtype']}")
        if end - begin != width * math.prod(entry["shape"]) or end > len(self._map):
            refuse("name", f"must have bytes for its shape in {self.path}, got {name}")
        return tensors.make(memoryview(self._map)[begin:end], job_pb2.DType.Value(entry["dtype"]),
                            entry["shape"], label or name)

    def array(self, name: str) -> Any:
        """As numpy; bfloat16 as the same float32."""
        entry, (begin, end) = self._entry(name), self.span(name)
        if entry["dtype"] in _WHOLE:
            return np.frombuffer(self._map[begin:end], _WHOLE[entry["dtype"]]).reshape(entry["shape"])
        one = self.tensor(name)
        return tensors.array(one.ref, one.data)

    def tensors(self) -> list[Tensor]:
        return [self.tensor(name) for name in self.names]


def write_header(file: BinaryIO, entries: list[tuple[str, str, list[int]]]) -> None:
    """entries: (name, dtype, shape), in the order in which their bytes follow."""
    header: dict[str, Any] = {}
    offset = 0
    for name, dtype, shape in entries:
        end = offset + _SIZES[dtype] * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)


def write(path: Path, values: dict[str, Any]) -> None:
    """Of numpy arrays and torch tensors by name."""
    made = [tensors.tensor(value, name) for name, value in values.items()]
    with open(path, "wb") as file:
        write_header(file, [(one.ref.name, job_pb2.DType.Name(one.ref.dtype), list(one.ref.shape))
                            for one in made])
        for one in made:
            file.write(one.data)


class RowWriter:
    """Batches of one input, appended as they come; at most one is held.

    Sequences of one length that follow each other become one tensor (k, n, d), of at most `limit`
    bytes. The first is called `name`, the others `name`.1, .2 and so on.
    """

    def __init__(self, path: Path, name: str, limit: int = 1 << 30) -> None:
        self.path, self._name, self._limit = pathlib.Path(path), name, limit
        self._part = self.path.with_suffix(".part")
        self._file = open(self._part, "wb")  # noqa: SIM115  (close() does)
        self._shapes: list[list[int]] = []
        self._dtype = ""

    def add(self, value: Any) -> None:
        """value: (n, d) or (k, n, d)."""
        array, bf16 = (tensors.numpy_of_torch(value) if tensors.is_torch(value) else (value, False))
        array = array.reshape((-1, *array.shape[-2:]))
        dtype = "BF16" if bf16 else f"F{8 * array.dtype.itemsize}"
        if self._dtype not in ("", dtype):
            refuse("batches", f"must all be of one type, got {self._dtype} and then {dtype}")
        self._dtype = dtype
        row = array[0].nbytes
        if (not self._shapes or self._shapes[-1][1:] != list(array.shape[1:])
                or (self._shapes[-1][0] + len(array)) * row > self._limit):
            self._shapes.append([0, *array.shape[1:]])
        self._shapes[-1][0] += len(array)
        self._file.write(memoryview(array).cast("B"))

    def close(self) -> None:
        """Writes the file whole. Without a batch there is none."""
        self._file.close()
        if self._shapes:
            names = [self._name] + [f"{self._name}.{i}" for i in range(1, len(self._shapes))]
            with open(self.path, "wb") as file, open(self._part, "rb") as part:
                write_header(file, [(name, self._dtype, shape)
                                    for name, shape in zip(names, self._shapes)])
                shutil.copyfileobj(part, file, 1 << 20)
        self._part.unlink()
