#!/usr/bin/python3
"""Writes gradients.safetensors beside each golden model, by central differences in float64.

    model_gradients.py ORACLE MODELS [NAME ...]

ORACLE: the folder of llm_oracle.py, the NumPy forward pass by which the golden models were made. MODELS:
tests/data/models. The scalar is the sum of -log p(next token) over tokens 0 ... n - 2; of a masked model a random
linear function of the last hidden state. Stored, of the tokens of expected.safetensors: hidden.L, the gradient in
the input of layer L (of the last: in the last layer's output), and layer.L.MAP, in the output of each linear map, of
tokens 1, 4, 7, ... only.

The oracle is used as it is: a bias of one row a token perturbs a map's output, and the layers from L on are a model
whose embedding is the hidden state that enters L.
"""
import copy
import os
import sys
import zlib

import numpy as np

STEP = 1e-5
ROWS = slice(1, None, 3)


class LayersFrom:
    """Names of the layers behind the first few, counted from 0."""

    def __init__(self, pattern, first):
        self.pattern, self.first = pattern, first

    def format(self, index):
        return self.pattern.format(index + self.first)


class Model:
    def __init__(self, oracle, folder):
        config, self.tensors = oracle.load(folder)
        self.oracle, self.options = oracle, oracle.options(config)
        expected = oracle.safetensors_np.load(os.path.join(folder, "expected.safetensors"))
        self.ids = expected["input_ids"]
        self.hidden = oracle.forward(self.options, self.tensors, self.ids)["hidden"]
        seed = zlib.crc32(os.path.basename(folder).encode())
        self.functional = np.random.default_rng(seed).standard_normal(self.hidden[-1].shape)

    def scalar_from(self, layer, hidden, biases):
        o, tensors = copy.copy(self.options), dict(self.tensors, **biases)
        if o.tied:
            weights = self.oracle._Weights(tensors, o.prefix)
            o.tied, tensors[o.head + ".weight"] = False, weights.get(o.embed)
        o.layer, o.n_layers = LayersFrom(o.layer, layer), o.n_layers - layer
        o.windows = o.windows[layer:]
        o.rope_layers = o.rope_layers and o.rope_layers[layer:]
        o.embed, o.embed_scale, tensors["hidden"] = "hidden", 1.0, hidden
        o.position = o.token_type = o.embed_norm = o.project_in = None
        out = self.oracle.forward(o, tensors, np.arange(len(hidden)), not o.causal)
        if not o.causal:
            return float((self.functional * out["hidden"][-1]).sum())
        return self.oracle.mean_loss(out["logits"], self.ids) * (len(self.ids) - 1)

    def gradient_in_hidden(self, layer):
        return differences(np.array(self.hidden[layer]), slice(None),
                           lambda x: self.scalar_from(layer, x, {}))

    def gradient_in_map(self, layer, role):
        """At the output of one tensor, which may hold several maps."""
        o = self.options
        name = o.layer.format(layer) + o.linear[role]
        weights = self.oracle._Weights(self.tensors, o.prefix)
        weight, bias = weights.get(name + ".weight"), weights.find(name + ".bias")
        if bias is None:
            bias = np.zeros(weight.shape[1 if o.conv1d else 0])
        key = name + ".bias"
        if key not in self.tensors and key.removeprefix(o.prefix) in self.tensors:
            key = key.removeprefix(o.prefix)
        rows = np.tile(bias, (len(self.ids), 1))
        return differences(rows, ROWS,
                           lambda b: self.scalar_from(layer, self.hidden[layer], {key: b}))[ROWS]

    def parts(self, role, gradient):
        """{map: its columns} of a tensor's output."""
        o, n = self.options, len(gradient)
        if role == "gate_up":
            return dict(zip(("gate", "up"), np.split(gradient, 2, 1)))
        if role != "qkv":
            return {role: gradient}
        if not o.grouped:
            bounds = [o.heads * o.dh, (o.heads + o.kv) * o.dh]
            return dict(zip("qkv", np.split(gradient, bounds, 1)))
        group = o.heads // o.kv
        grouped = gradient.reshape(n, o.kv, group + 2, o.dh)
        split = grouped[:, :, :group], grouped[:, :, group], grouped[:, :, group + 1]
        return {part: g.reshape(n, -1) for part, g in zip("qkv", split)}

    def gradients(self):
        out = {}
        for layer in range(self.options.n_layers + 1):
            out[f"hidden.{layer}"] = self.gradient_in_hidden(layer)
        for layer in range(self.options.n_layers):
            for role in self.options.linear:
                for part, g in self.parts(role, self.gradient_in_map(layer, role)).items():
                    out[f"layer.{layer}.{part}"] = g
        return {name: np.ascontiguousarray(g, np.float32) for name, g in out.items()}


def differences(x, rows, scalar):
    """Central differences of scalar(x) in the entries of some rows of x; 0 in the others."""
    gradient = np.zeros_like(x)
    for i in np.arange(len(x))[rows]:
        for j in range(x.shape[1]):
            at = x[i, j]
            x[i, j] = at + STEP
            above = scalar(x)
            x[i, j] = at - STEP
            gradient[i, j] = (above - scalar(x)) / (2 * STEP)
            x[i, j] = at
    return gradient


def main(oracle_folder, models, *names):
    sys.path.insert(0, oracle_folder)
    import llm_oracle
    for name in names or sorted(os.listdir(models)):
        folder = os.path.join(models, name)
        if os.path.isdir(folder):
            gradients = Model(llm_oracle, folder).gradients()
            llm_oracle.safetensors_np.save(os.path.join(folder, "gradients.safetensors"), gradients)
            print(name, *(f"{key}:{np.linalg.norm(g):.3g}" for key, g in gradients.items()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
