#!/usr/bin/env python3
"""How fast numpy is uploaded, beside the C++ client, in turns: python_upload.py BIN [MIB]

PYTHONPATH must have the package. The times are those of UploadTensor in the server's log.
"""
import pathlib
import re
import subprocess
import sys
import tempfile

import attnprune
import numpy
from attnprune import safetensors

TURNS = 5


def milliseconds(log, value):
    """That the server was at the upload of `value`."""
    digest = attnprune.tensor(value).ref.sha256
    found = re.search(rf"rpc=UploadTensor code=OK milliseconds=([0-9.]+) tensor={digest}", log)
    return float(found[1])


def main(programs, mib):
    random = numpy.random.default_rng(0)
    server = programs / "attnprune-server"
    with tempfile.TemporaryDirectory() as folder, attnprune.local(server=server) as client:
        weights, inputs = f"{folder}/w.safetensors", f"{folder}/x.npy"
        safetensors.write(weights, {name: random.standard_normal((8, 1024)).astype("f4") for name in "qk"})
        command = [programs / "attnprune", "submit", "--server", client.target, "--weights", weights,
                   "--q", "q", "--k", "k", "--heads", "1", "--calibration", inputs, "--method", "magnitude"]
        for _ in range(TURNS):
            values = random.standard_normal((mib, 256, 1024)).astype("f4")
            numpy.save(inputs, values)
            name = subprocess.run(command, check=True, text=True, capture_output=True).stdout.strip()
            client.cancel_job(name)
            client.upload(values + 1, progress=False)
            cpp, own = (milliseconds(client.log(), value) for value in (values, values + 1))
            print(f"C++ {mib * 1000 / cpp:.0f} MiB/s, Python {mib * 1000 / own:.0f} MiB/s: {cpp / own:.0%}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 256)
