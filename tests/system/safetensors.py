"""Reads and writes .safetensors files: {name: (dtype, shape, bytes)}. Debian packages no such
module."""
import json
import struct

import numpy


def read(path):
    with open(path, "rb") as file:
        data = file.read()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    body = data[8 + length:]
    return {name: (entry["dtype"], entry["shape"], body[slice(*entry["data_offsets"])])
            for name, entry in header.items() if name != "__metadata__"}


def array(tensor):
    dtype, shape, data = tensor
    kinds = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BOOL": "?"}
    return numpy.frombuffer(data, kinds[dtype]).reshape(shape)


def write(path, tensors):
    """The reverse of read."""
    header, offset = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        end = offset + len(data)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.writelines(data for _, _, data in tensors.values())
