#!/usr/bin/python3
"""What a run costs over its bare methods, and what a second worker gains in independent order, in turn on one machine.

    tests/bench/run_workers.py [--build build/release] [--folder /var/tmp/llama-8] [--layers 8] [--rows 8] [--tokens 512]
                               [--method sparsegpt] [--rounds 3]

Makes a random bf16 model of llama's form (1,024 features, 4,096 in its MLP) where the folder lacks it. A round is

- bare: the library, sequential order, 2 threads (`whole_model`);
- run: the same as a run of `attnprune-server --workers 1 --threads-per-job 2`, from its start to its end;
- one, two: a run in independent order with so many workers of one thread each.

Prints seconds and the medians of run / bare and one / two. Needs the benches (ATTNPRUNE_BUILD_BENCHMARKS) and python3-numpy.
"""
import argparse
import datetime
import json
import pathlib
import statistics
import struct
import subprocess
import tempfile
import time

import numpy

D, HEADS, FFN, VOCAB = 1024, 16, 4096, 4096


def shapes(layers):
    out = {"model.embed_tokens.weight": (VOCAB, D), "model.norm.weight": (D,)}
    for i in range(layers):
        p = f"model.layers.{i}."
        out |= {p + f"self_attn.{m}_proj.weight": (D, D) for m in "qkvo"}
        out |= {p + "mlp.gate_proj.weight": (FFN, D), p + "mlp.up_proj.weight": (FFN, D), p + "mlp.down_proj.weight": (D, FFN),
                p + "input_layernorm.weight": (D,), p + "post_attention_layernorm.weight": (D,)}
    return out


def write(path, dtype, tensors):
    header, offset = {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": dtype, "shape": values.shape, "data_offsets": [offset, offset + values.nbytes]}
        offset += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(values.tobytes() for values in tensors.values()))


def make(args):
    args.folder.mkdir(parents=True, exist_ok=True)
    config = {"model_type": "llama", "hidden_size": D, "num_hidden_layers": args.layers, "num_attention_heads": HEADS,
              "num_key_value_heads": HEADS, "intermediate_size": FFN, "vocab_size": VOCAB, "rms_norm_eps": 1e-5,
              "max_position_embeddings": 4096, "rope_theta": 10000.0, "tie_word_embeddings": True}
    (args.folder / "config.json").write_text(json.dumps(config))
    rng = numpy.random.default_rng(0)
    weights = {}
    for name, shape in shapes(args.layers).items():
        values = numpy.ones(shape, "f4") if len(shape) == 1 else rng.standard_normal(shape, "f4") * 0.02
        weights[name] = (values.view("u4") >> 16).astype("u2")
    write(args.folder / "model.safetensors", "BF16", weights)
    ids = rng.integers(0, VOCAB, (args.rows, args.tokens), "i4")
    write(args.folder / "calibration.safetensors", "I32", {"tokens": ids})
    write(args.folder / "held_out.safetensors", "I32", {"tokens": ids[:1, :2]})


def bare(args):
    told = subprocess.run([args.build / "bin/whole_model", f"--model={args.folder}", f"--methods={args.method}", "--sparsities=0.5",
                           "--threads=2"], check=True, capture_output=True, text=True).stdout
    return float(told.rstrip(" |\n").rsplit("|", 1)[1])


def run(args, workers, threads, order):
    with tempfile.TemporaryDirectory(dir="/var/tmp") as data:
        port = pathlib.Path(data) / "port"
        server = subprocess.Popen([args.build / "bin/attnprune-server", "--data-dir", data + "/data", "--listen", "127.0.0.1:0",
                                   "--port-file", port, "--http-listen", "", "--workers", str(workers), "--threads-per-job",
                                   str(threads)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while not port.exists() or not port.read_text().strip():
                time.sleep(0.05)
            address = "127.0.0.1:" + port.read_text().strip()
            told = subprocess.run([args.build / "bin/attnprune", "submit", "--run", "--server", address, "--model", args.folder,
                                   "--tokens", args.folder / "calibration.safetensors", "--sparsity", "0.5", "--method",
                                   args.method, "--order", order, "--watch", "--json"],
                                  check=True, capture_output=True, text=True).stdout
        finally:
            server.terminate()
            server.wait()
    told = json.loads(told)
    moment = lambda text: datetime.datetime.fromisoformat(text.rstrip("Z")[:26])
    return (moment(told["endTime"]) - moment(told["startTime"])).total_seconds()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build/release"))
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("/var/tmp/llama-8"))
    for name, value in (("layers", 8), ("rows", 8), ("tokens", 512), ("rounds", 3)):
        parser.add_argument("--" + name, type=int, default=value)
    parser.add_argument("--method", default="sparsegpt")
    args = parser.parse_args()
    make(args)
    rounds = []
    for _ in range(args.rounds):
        rounds.append((bare(args), run(args, 1, 2, "sequential"), run(args, 1, 1, "independent"), run(args, 2, 1, "independent")))
        print("bare {:.1f} s, run {:.1f} s; one worker {:.1f} s, two {:.1f} s".format(*rounds[-1]), flush=True)
    print(f"run / bare {statistics.median(r / b for b, r, _, _ in rounds):.3f}, "
          f"one / two {statistics.median(one / two for _, _, one, two in rounds):.2f}")


if __name__ == "__main__":
    main()
