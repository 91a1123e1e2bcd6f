"""Small networks for sequences: attention, recurrence, layer norms, shared towers."""

import torch
from torch import nn
from torch.nn import functional

from .convolutional_networks import N_CLASSES


def layer_norm_mlp():
    return nn.Sequential(
        nn.Linear(6, 12),
        nn.LayerNorm(12),
        nn.GELU(),
        nn.Linear(12, 10),
        nn.RMSNorm(10),
        nn.Tanh(),
        nn.Linear(10, N_CLASSES),
    )


class TransformerEncoder(nn.Module):
    def __init__(self, norm_first=False):
        super().__init__()
        self.embed = nn.Linear(5, 16)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(16, 4, 20, batch_first=True, norm_first=norm_first)
            for _ in range(2)
        )
        self.fc = nn.Linear(16, N_CLASSES)

    def forward(self, x):
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.fc(x.mean(1))


class FusedAttention(nn.Module):
    def __init__(self, width, n_heads):
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        n, length, width = x.shape
        qkv = self.qkv(x).reshape(n, length, 3, self.n_heads, width // self.n_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * (width // self.n_heads) ** -0.5).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(n, length, width))


class Block(nn.Module):
    def __init__(self, width, n_heads, hidden):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = FusedAttention(width, n_heads)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.drop(self.fc2(functional.gelu(self.fc1(self.norm2(x)))))


class ViT(nn.Module):
    def __init__(self, width=12):
        super().__init__()
        self.patch = nn.Conv2d(3, width, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, 5, width))
        self.blocks = nn.Sequential(Block(width, 3, 20), Block(width, 3, 20))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, N_CLASSES)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


class GPTBlock(nn.Module):
    def __init__(self, width, n_heads):
        super().__init__()
        self.n_heads, self.width = n_heads, width
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 24), nn.GELU(approximate="tanh"))
        self.out = nn.Linear(24, width)
        self.register_buffer("mask", torch.tril(torch.ones(6, 6)).view(1, 1, 6, 6))

    def forward(self, x):
        n, length, width = x.size()
        parts = self.attn(self.norm1(x)).split(self.width, dim=2)
        q, k, v = (
            part.view(n, length, self.n_heads, width // self.n_heads).transpose(1, 2)
            for part in parts
        )
        scores = (q @ k.transpose(-2, -1)) / (k.size(-1) ** 0.5)
        scores = scores.masked_fill(self.mask[:, :, :length, :length] == 0, float("-inf"))
        y = functional.softmax(scores, dim=-1) @ v
        x = x + self.proj(y.transpose(1, 2).contiguous().view(n, length, width))
        return x + self.out(self.mlp(self.norm2(x)))


class GPT(nn.Module):
    """The last layer has the weight of the first."""

    def __init__(self, width=12):
        super().__init__()
        self.tokens = nn.Embedding(11, width)
        self.positions = nn.Embedding(6, width)
        self.blocks = nn.ModuleList([GPTBlock(width, 2), GPTBlock(width, 2)])
        self.norm = nn.LayerNorm(width)
        self.decoder = nn.Linear(width, 11, bias=False)
        self.decoder.weight = self.tokens.weight

    def forward(self, tokens):
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.tokens(tokens) + self.positions(places)
        for block in self.blocks:
            x = block(x)
        return self.decoder(self.norm(x))


class GroupedQueryAttention(nn.Module):
    """Rotary halves aside, a block of the Llama kind: RMS norms and a gated feed-forward."""

    def __init__(self, width=12):
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.q, self.k = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.v, self.o = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.norm2 = nn.RMSNorm(width)
        self.gate, self.up = nn.Linear(width, 20, bias=False), nn.Linear(width, 20, bias=False)
        self.down = nn.Linear(20, width, bias=False)

    def forward(self, x):
        y = self.norm(x)
        q, k, v = (f(y).unflatten(-1, (3, 4)).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).flatten(2))
        y = self.norm2(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(5, 12)
        self.blocks = nn.Sequential(GroupedQueryAttention(), GroupedQueryAttention())
        self.head = nn.Linear(12, N_CLASSES)

    def forward(self, x):
        return self.head(self.blocks(self.embed(x)))


class Recurrent(nn.Module):
    def __init__(self, kind, **settings):
        super().__init__()
        self.embed = nn.Linear(4, 6)
        self.rnn = kind(6, 8, batch_first=True, **settings)
        self.fc = nn.Linear(16 if settings.get("bidirectional") else 8, 10)
        self.head = nn.Linear(10, N_CLASSES)

    def forward(self, x):
        y, _ = self.rnn(functional.relu(self.embed(x)))
        return self.head(functional.relu(self.fc(y[:, -1])))


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.tower = nn.Sequential(nn.Linear(5, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU())
        self.head, self.sum = nn.Linear(8, 2), nn.Linear(8, 1)

    def forward(self, left, right):
        left, right = self.tower(left), self.tower(right)
        return self.head((left - right).abs()), self.sum(functional.relu(left + right))
