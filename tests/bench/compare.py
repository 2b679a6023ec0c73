#!/usr/bin/python3
"""One gd step in attnprune, NumPy and PyTorch: the same step, the same threads, in turn.

    tests/bench/compare.py [--build build/release] [--rounds 7] [--threads 1,2] [--size NAME ...] [--keep-memory]

For each size it prints the time of a step (median of the rounds), how many times longer NumPy and
PyTorch take, and the share of the sgemm rate that the step reaches, counting the operations of a
naive step (math.md: fused 4 n d (n + d) a batch; projections 4 n d (H + H_kv) d_h + 6 H n^2 d_h).
sgemm is OpenBLAS on 512 x 512 x 512, on all threads at once, in attnprune's process, measured in the same
rounds. All three use the same OpenBLAS, so OPENBLAS_CORETYPE, where it is set, rules them all.

NumPy and PyTorch take memory anew at every step, and glibc gives it back to the system at its discretion: then
page faults rule their time, on some machines by a factor of ten. --keep-memory tells glibc to keep it, which few
users know to do; attnprune takes none in a step and is not affected.

Debian packages: python3-numpy python3-torch libopenblas0-pthread.
"""
import argparse
import ctypes
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy
import torch


class Size:
    def __init__(self, name, d, n, k, heads=0, kv_heads=0):
        self.name, self.d, self.n, self.k, self.heads, self.kv_heads = name, d, n, k, heads, kv_heads
        self.dim = d // heads if heads else d

    def operations(self):
        if not self.heads:
            return self.k * 4 * self.n * self.d * (self.n + self.d)
        both = (self.heads + self.kv_heads) * self.dim
        return self.k * (4 * self.n * self.d * both + 6 * self.heads * self.n**2 * self.dim)


SIZES = [
    Size("fused d=64 n=128 k=16", 64, 128, 16),
    Size("fused d=64 n=128 k=64", 64, 128, 64),
    Size("fused d=2048 n=512 k=2", 2048, 512, 2),
    Size("projections d=128 8h/4kv n=128 k=16", 128, 128, 16, 8, 4),
    Size("projections d=2048 32h/8kv n=512 k=2", 2048, 512, 2, 32, 8),
]
LAMBDA, MOMENTUM, ETA, THETA = 0.05, 0.9, 1e-3, 10000.0


def make_data(size, folder):
    rng = numpy.random.default_rng(1)
    draw = lambda shape, deviation: rng.normal(0, deviation, shape).astype(numpy.float32)
    data = {"x": draw((size.k, size.n, size.d), 1)}
    if size.heads:
        data["w_q"] = draw((size.heads * size.dim, size.d), size.d**-0.5)
        data["w_k"] = draw((size.kv_heads * size.dim, size.d), size.d**-0.5)
    else:
        data["w"] = draw((size.d, size.d), 1 / size.d)
    for name, array in data.items():
        numpy.save(folder / f"{name}.npy", array)
    return data


def rope_angles(size):
    half = size.dim // 2
    frequencies = THETA ** (-2 * numpy.arange(half) / size.dim)
    angles = numpy.outer(numpy.arange(size.n), frequencies)
    return numpy.cos(angles).astype(numpy.float32), numpy.sin(angles).astype(numpy.float32)


class NumpyStep:
    """What a careful user writes: batched products, the formulas of Theorem 5.3, float32."""

    def __init__(self, size, data):
        self.size, self.x = size, data["x"]
        self.weights = [data[name] for name in (("w_q", "w_k") if size.heads else ("w",))]
        self.masks = [numpy.ones_like(w) for w in self.weights]
        self.velocities = [numpy.zeros_like(w) for w in self.weights]
        self.forbidden = numpy.triu(numpy.full((size.n, size.n), -numpy.inf, numpy.float32), 1)
        if size.heads:
            self.cos, self.sin = rope_angles(size)
            self.scale = numpy.float32(size.dim**-0.5)
        self.f = self.attention(self.weights)[0]

    def softmax(self, logits):
        logits += self.forbidden
        logits -= logits.max(axis=-1, keepdims=True)
        numpy.exp(logits, out=logits)
        logits /= logits.sum(axis=-1, keepdims=True)
        return logits

    def rotate(self, heads, sign=1):
        half = self.size.dim // 2
        a, b, sin = heads[..., :half], heads[..., half:], sign * self.sin
        return numpy.concatenate([a * self.cos - b * sin, a * sin + b * self.cos], axis=-1)

    def split(self, rows, heads):  # (k, n, heads * dim) to (k, heads, n, dim)
        return rows.reshape(self.size.k, self.size.n, heads, -1).transpose(0, 2, 1, 3)

    def attention(self, weights):
        size = self.size
        if not size.heads:
            return self.softmax((self.x @ weights[0]) @ self.x.transpose(0, 2, 1)), None, None
        q = self.rotate(self.split(self.x @ weights[0].T, size.heads))
        k = self.rotate(self.split(self.x @ weights[1].T, size.kv_heads))
        q = q.reshape(size.k, size.kv_heads, -1, size.n, size.dim)
        return self.softmax((q @ k[:, :, None].swapaxes(-1, -2)) * self.scale), q, k

    def loss_and_gradients(self, weights):
        size = self.size
        f, q, k = self.attention(weights)
        c = f - self.f
        loss = 0.5 * float(numpy.vdot(c, c))
        p = c * f
        p -= p.sum(axis=-1, keepdims=True) * f
        if not size.heads:
            z = (p @ self.x).reshape(-1, size.d)
            return loss, [self.x.reshape(-1, size.d).T @ z]
        p *= self.scale
        d_q = (p @ k[:, :, None]).reshape(size.k, size.heads, size.n, size.dim)
        d_k = (p.swapaxes(-1, -2) @ q).sum(axis=2)
        x = self.x.reshape(-1, size.d)
        stack = lambda heads: self.rotate(heads, -1).transpose(0, 2, 1, 3).reshape(len(x), -1)
        return loss, [stack(d_q).T @ x, stack(d_k).T @ x]

    def loss(self):
        return self.loss_and_gradients([numpy.float32(0.9) * w for w in self.weights])[0]

    def step(self):
        pruned = [m * w for m, w in zip(self.masks, self.weights)]
        _, gradients = self.loss_and_gradients(pruned)
        for w, m, v, g in zip(self.weights, self.masks, self.velocities, gradients):
            v *= MOMENTUM
            v += (w * g + LAMBDA * m) / self.size.k
            m -= ETA * v


class TorchStep:
    """What a PyTorch user writes: the forward pass, and backward() for the rest."""

    def __init__(self, size, data):
        self.size, self.x = size, torch.from_numpy(data["x"])
        self.weights = [torch.from_numpy(data[name])
                        for name in (("w_q", "w_k") if size.heads else ("w",))]
        self.masks = [torch.ones_like(w, requires_grad=True) for w in self.weights]
        self.velocities = [torch.zeros_like(w) for w in self.weights]
        self.forbidden = torch.triu(torch.full((size.n, size.n), -torch.inf), 1)
        if size.heads:
            self.cos, self.sin = (torch.from_numpy(a) for a in rope_angles(size))
        with torch.no_grad():
            self.f = self.attention(self.weights)

    def rotate(self, heads):
        half = self.size.dim // 2
        a, b = heads[..., :half], heads[..., half:]
        return torch.cat([a * self.cos - b * self.sin, a * self.sin + b * self.cos], dim=-1)

    def attention(self, weights):
        size = self.size
        if not size.heads:
            logits = (self.x @ weights[0]) @ self.x.transpose(1, 2)
        else:
            split = lambda rows, heads: rows.view(size.k, size.n, heads, size.dim).transpose(1, 2)
            q = self.rotate(split(self.x @ weights[0].T, size.heads))
            k = self.rotate(split(self.x @ weights[1].T, size.kv_heads))
            k = k.repeat_interleave(size.heads // size.kv_heads, dim=1)
            logits = (q @ k.transpose(2, 3)) * size.dim**-0.5
        return torch.softmax(logits + self.forbidden, dim=-1)

    def attention_loss(self, weights):
        return 0.5 * (self.attention(weights) - self.f).square().sum()

    def loss(self):
        with torch.no_grad():
            return float(self.attention_loss([0.9 * w for w in self.weights]))

    def step(self):
        loss = self.attention_loss([m * w for m, w in zip(self.masks, self.weights)])
        loss = loss + 0.5 * LAMBDA * sum(m.square().sum() for m in self.masks)
        loss.backward()
        with torch.no_grad():
            for m, v in zip(self.masks, self.velocities):
                v.mul_(MOMENTUM).add_(m.grad, alpha=1 / self.size.k)
                m.sub_(v, alpha=ETA)
                m.grad = None


class AttnpruneStep:
    def __init__(self, program, folder, size, threads):
        self.process = subprocess.Popen(
            [program, f"--folder={folder}", f"--heads={size.heads}", f"--kv_heads={size.kv_heads}",
             f"--threads={threads}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if not answer:
            raise SystemExit(f"step_timer died at \"{command}\"")
        return answer

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def seconds_of(step, count):
    start = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - start) / count


def in_a_row(seconds):  # as many as take some 0.2 s
    return max(1, min(200, int(0.2 / seconds)))


def check_losses(size, losses):
    reference = losses["NumPy"]
    for name, loss in losses.items():
        if abs(loss - reference) > 1e-3 * abs(reference):
            raise SystemExit(f"{size.name}: {name} has the loss {loss}, NumPy {reference}: not the same step")


def compare(size, threads, rounds, program):
    torch.set_num_threads(threads)
    set_numpy_threads(threads)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        data = make_data(size, folder)
        ours = AttnpruneStep(program, folder, size, threads)
        theirs = {"NumPy": NumpyStep(size, data), "PyTorch": TorchStep(size, data)}
        check_losses(size, {"attnprune": float(ours.ask("loss")),
                            **{name: step.loss() for name, step in theirs.items()}})
        counts = {name: in_a_row(seconds_of(step.step, 2)) for name, step in theirs.items()}
        count = in_a_row(float(ours.ask("step 2")))
        times, rates = {"attnprune": [], "NumPy": [], "PyTorch": []}, []
        for _ in range(rounds):
            rates.append(float(ours.ask("sgemm 20")))
            times["attnprune"].append(float(ours.ask(f"step {count}")))
            for name, step in theirs.items():
                times[name].append(seconds_of(step.step, counts[name]))
        ours.close()
    # Ratios within a round: the machine's speed changes between rounds.
    ratio = lambda name: statistics.median(b / a for a, b in zip(times["attnprune"], times[name]))
    share = statistics.median(size.operations() / t / r for t, r in zip(times["attnprune"], rates))
    return {"seconds": statistics.median(times["attnprune"]), "NumPy": ratio("NumPy"),
            "PyTorch": ratio("PyTorch"), "share": share, "rate": statistics.median(rates)}


def set_numpy_threads(threads):
    ctypes.CDLL("libopenblas.so.0").openblas_set_num_threads(threads)


def blas_kernels():
    name = ctypes.CDLL("libopenblas.so.0").openblas_get_corename
    name.restype = ctypes.c_char_p
    return name().decode()


KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_MMAP_THRESHOLD_": str(1 << 40)}


def keep_memory():  # glibc reads these when a program starts
    if KEEP_MEMORY.items() <= os.environ.items():
        return
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **KEEP_MEMORY})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/release", help="build folder with bin/step_timer")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--size", action="append", help="only sizes whose name has this in it")
    parser.add_argument("--keep-memory", action="store_true", help="glibc keeps what NumPy and PyTorch free")
    args = parser.parse_args()
    if args.keep_memory:
        keep_memory()
    program = str(pathlib.Path(args.build) / "bin" / "step_timer")
    print(f"OpenBLAS kernels, of all three: {blas_kernels()}; NumPy {numpy.__version__}, "
          f"PyTorch {torch.__version__}; medians of {args.rounds} rounds"
          f"{', freed memory kept' if args.keep_memory else ''}")
    print("| size | threads | a step, ms | NumPy takes | PyTorch takes | sgemm, GFLOP/s | share of sgemm |")
    print("|---|---|---|---|---|---|---|")
    for size in SIZES:
        if args.size and not any(part in size.name for part in args.size):
            continue
        for threads in map(int, args.threads.split(",")):
            r = compare(size, threads, args.rounds, program)
            print(f"| {size.name} | {threads} | {1e3 * r['seconds']:.3g} | {r['NumPy']:.2f} x | "
                  f"{r['PyTorch']:.2f} x | {r['rate'] / 1e9:.0f} | {r['share']:.2f} |", flush=True)


if __name__ == "__main__":
    main()
