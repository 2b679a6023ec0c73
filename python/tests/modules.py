"""GPT-2 and BERT in plain torch, with transformers' names and maths; Llama is examples/tiny_llama."""
import numpy
import torch
from torch import nn
from torch.nn import functional

from attnprune import safetensors
from conftest import MODELS, config_of
from examples import tiny_llama


def attend(q, k, v, heads, causal):
    """Heads of (k, n, d) inputs side by side; softmax(q k' / sqrt(head_dim)) v."""
    batch, n, width = q.shape
    q, k, v = (x.view(batch, n, heads, width // heads).transpose(1, 2) for x in (q, k, v))
    logits = q @ k.transpose(2, 3) / (width // heads) ** 0.5
    if causal:
        logits = logits + torch.full((n, n), float("-inf")).triu(1)
    return (logits.softmax(-1) @ v).transpose(1, 2).reshape(batch, n, width)


class Conv1D(nn.Module):
    """y = x W + b, W being (in, out)."""

    def __init__(self, out, size):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(size, out)), nn.Parameter(torch.zeros(out))

    def forward(self, x):
        return x @ self.weight + self.bias


class Gpt2Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.c_attn = Conv1D(3 * config.n_embd, config.n_embd)
        self.c_proj = Conv1D(config.n_embd, config.n_embd)
        self.heads = config.n_head

    def forward(self, x):
        return self.c_proj(attend(*self.c_attn(x).chunk(3, -1), self.heads, True))


class Gpt2Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.c_fc = Conv1D(4 * config.n_embd, config.n_embd)
        self.c_proj = Conv1D(config.n_embd, 4 * config.n_embd)

    def forward(self, x):
        x = self.c_fc(x)
        return self.c_proj(0.5 * x * (1 + torch.tanh((2 / numpy.pi) ** 0.5 * (x + 0.044715 * x ** 3))))


class Gpt2Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn, self.mlp = Gpt2Attention(config), Gpt2Mlp(config)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Gpt2(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.transformer = nn.Module()
        self.transformer.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.transformer.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.transformer.h = nn.ModuleList(Gpt2Block(config) for _ in range(config.n_layer))
        self.transformer.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)

    def forward(self, input_ids, attention_mask=None):
        top = self.transformer
        x = top.wte(input_ids) + top.wpe.weight[:input_ids.shape[1]]
        for block in top.h:
            x = block(x)
        return top.ln_f(x) @ top.wte.weight.t()


class BertLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        size = config.hidden_size
        inner = nn.Module()
        inner.query, inner.key, inner.value = (nn.Linear(size, size) for _ in range(3))
        self.attention, self.intermediate, self.output = nn.Module(), nn.Module(), nn.Module()
        self.attention.self = inner
        self.attention.output = nn.Module()
        self.attention.output.dense = nn.Linear(size, size)
        self.attention.output.LayerNorm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.intermediate.dense = nn.Linear(size, config.intermediate_size)
        self.output.dense = nn.Linear(config.intermediate_size, size)
        self.output.LayerNorm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.heads = config.num_attention_heads

    def forward(self, x):
        inner = self.attention.self
        a = attend(inner.query(x), inner.key(x), inner.value(x), self.heads, False)
        x = self.attention.output.LayerNorm(x + self.attention.output.dense(a))
        return self.output.LayerNorm(x + self.output.dense(functional.gelu(self.intermediate.dense(x))))


class Bert(nn.Module):
    """Its hidden states, without a head."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.bert = nn.Module()
        embeddings = self.bert.embeddings = nn.Module()
        size = config.hidden_size
        embeddings.word_embeddings = nn.Embedding(config.vocab_size, size)
        embeddings.position_embeddings = nn.Embedding(config.max_position_embeddings, size)
        embeddings.token_type_embeddings = nn.Embedding(config.type_vocab_size, size)
        embeddings.LayerNorm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.bert.encoder = nn.Module()
        self.bert.encoder.layer = nn.ModuleList(BertLayer(config)
                                                for _ in range(config.num_hidden_layers))

    def forward(self, input_ids, attention_mask=None):
        top = self.bert.embeddings
        x = top.LayerNorm(top.word_embeddings(input_ids) + top.token_type_embeddings.weight[0]
                          + top.position_embeddings.weight[:input_ids.shape[1]])
        for layer in self.bert.encoder.layer:
            x = layer(x)
        return x


def weights_of(name):
    file = safetensors.File(MODELS / name / "model.safetensors")
    return {tensor: torch.from_numpy(file.array(tensor).copy()) for tensor in file.names}


def golden(name):
    """The golden model of that name, with its weights."""
    model = {"llama": tiny_llama.Llama, "gpt2": Gpt2, "bert": Bert}[name](config_of(name))
    wanted = model.state_dict()
    model.load_state_dict({key: value for key, value in weights_of(name).items() if key in wanted})
    return model


def skeleton(name):
    """A golden model's modules by the names of its tensors, and its config: nothing that runs."""
    top = nn.Module()
    top.config = config_of(name)
    for tensor, value in weights_of(name).items():
        *path, last = tensor.split(".")
        module = top
        for part in path:
            if not hasattr(module, part):
                module.add_module(part, nn.Module())
            module = getattr(module, part)
        module.register_parameter(last, nn.Parameter(value))
    return top
