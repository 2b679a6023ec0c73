"""Tensors as the server keeps them: bytes with a type, a shape and a digest; from and to numpy and
torch."""
from __future__ import annotations

import dataclasses
import hashlib
import math
from typing import Any

import numpy as np

from attnprune.security import refuse
from attnprune.v1 import job_pb2

_NUMPY = {job_pb2.F64: "<f8", job_pb2.F32: "<f4", job_pb2.F16: "<f2", job_pb2.I32: "<i4"}
_DTYPES = {np.dtype(kind): dtype for dtype, kind in _NUMPY.items()}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """What can be uploaded. `data` are its bytes, row-major and little-endian."""

    ref: job_pb2.TensorRef
    data: memoryview


def make(data: Any, dtype: int, shape: Any, name: str = "") -> Tensor:
    """Of bytes that are there; takes their digest."""
    view = memoryview(data).cast("B")
    ref = job_pb2.TensorRef(sha256=hashlib.sha256(view).hexdigest(), dtype=dtype,  # type: ignore[arg-type]
                            shape=[int(size) for size in shape], name=name)
    return Tensor(ref, view)


def is_torch(value: Any) -> bool:
    """A torch.Tensor, without a need for torch."""
    return hasattr(value, "detach") and hasattr(value, "data_ptr")


def tensor(value: Any, name: str = "") -> Tensor:
    """Of a numpy array, a torch tensor (bfloat16 too) or a Tensor. Its bytes are copied only where
    they are not contiguous; they must stay as they are until they are uploaded."""
    if isinstance(value, Tensor):
        return value
    if is_torch(value):
        return _of_torch(value, name)
    array = np.asarray(value)
    if array.dtype.name == "bfloat16":  # of ml_dtypes
        return make(np.ascontiguousarray(array).view("<u2"), job_pb2.BF16, array.shape, name)
    dtype = _DTYPES.get(array.dtype.newbyteorder("<"))
    if dtype is None:
        refuse(name or "tensor", "must be of float64, float32, float16, bfloat16 or int32, got "
                                 f"{array.dtype}")
    return make(np.ascontiguousarray(array, array.dtype.newbyteorder("<")), dtype, array.shape, name)


def numpy_of_torch(value: Any) -> tuple[np.ndarray[Any, Any], bool]:
    """Its values, and whether they are the bits of bfloat16, which numpy does not have."""
    value = value.detach().cpu().contiguous()
    if str(value.dtype) == "torch.bfloat16":
        import torch

        return value.view(torch.int16).numpy().view("<u2"), True
    return value.numpy(), False


def _of_torch(value: Any, name: str) -> Tensor:
    array, bf16 = numpy_of_torch(value)
    if bf16:
        return make(array, job_pb2.BF16, array.shape, name)
    return tensor(array, name)


def array(ref: job_pb2.TensorRef, data: Any) -> np.ndarray[Any, Any]:
    """Of downloaded bytes: a mask as bool, True being kept; bfloat16 as the same float32."""
    shape = tuple(ref.shape)
    if ref.dtype == job_pb2.BITMASK:
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
        return bits[:math.prod(shape)].reshape(shape).astype(bool)
    if ref.dtype == job_pb2.BF16:
        halves = np.frombuffer(data, "<u2").astype(np.uint32)
        return (halves << 16).view(np.float32).reshape(shape)
    return np.frombuffer(data, _NUMPY[ref.dtype]).reshape(shape)
