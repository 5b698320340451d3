"""A checkpoint of `mod` as a PyTorch module: dense, Mixture-of-Depths in its routing modes, experts.

    from model import load
    model = load('path/to/checkpoint')
    logits = model(tokens, routing='predictor')

Raposo et al. 2024, Mixture-of-Depths (arXiv 2404.02258); experts: Fedus et al. 2022, section 2. Shapes: B sequences,
T tokens, D = d_model, H heads, K = D / H head size, F = d_ff, V vocabulary, k selected tokens, E experts, C choices:
experts and no-ops.
"""
import json
import math
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

ROUTING_MODES = ('topk', 'predictor', 'threshold', 'quantile')
GATES = {'raw': lambda r: r, 'sigmoid': torch.sigmoid}


class RMSNorm(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


def rotate(x: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021): pairs (i, i + K/2) of each head by t · 10000^(-2i/K). x (B, H, T, K)"""
    T, half = x.shape[-2], x.shape[-1] // 2
    frequency = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)  # (K/2)
    angle = torch.arange(T)[:, None] * frequency  # (T, K/2)
    cos, sin = angle.cos().to(x), angle.sin().to(x)
    a, b = x.chunk(2, -1)  # (B, H, T, K/2) each
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)  # (B, H, T, K)


class Attention(nn.Module):
    def __init__(self, c: dict):
        super().__init__()
        D, self.heads = c['d_model'], c['n_heads']
        self.multiplier = c.get('attention_multiplier', 1 / math.sqrt(D // self.heads))
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(D, D, bias=False) for _ in range(4))

    def forward(self, x: Tensor, selected: Tensor) -> Tensor:
        """Causal, every token at its own position, among the selected tokens alone. x (B, T, D), selected (B, T) bool"""
        B, T, D = x.shape
        split = lambda y: y.view(B, T, self.heads, D // self.heads).transpose(1, 2)
        q, k, v = rotate(split(self.q_proj(x))), rotate(split(self.k_proj(x))), split(self.v_proj(x))  # (B, H, T, K)
        scores = q @ k.transpose(-1, -2) * self.multiplier  # (B, H, T, T)
        causal = torch.ones(T, T, dtype=torch.bool, device=x.device).tril()
        visible = causal & selected[:, None, None, :]  # (B, 1, T, T)
        itself = torch.eye(T, dtype=torch.bool, device=x.device)  # so that no row is empty
        weights = scores.masked_fill(~(visible | itself), float('-inf')).softmax(-1)  # (B, H, T, T)
        return self.o_proj((weights @ v).transpose(1, 2).reshape(B, T, D))  # (B, T, D)


class MLP(nn.Module):
    def __init__(self, c: dict):
        super().__init__()
        self.up_proj = nn.Linear(c['d_model'], c['d_ff'], bias=False)
        self.down_proj = nn.Linear(c['d_ff'], c['d_model'], bias=False)

    def forward(self, x: Tensor, selected: Tensor) -> Tensor:
        return self.down_proj(F.gelu(self.up_proj(x), approximate='tanh'))  # (B, T, D)


class Experts(nn.Module):
    """Token choice, top-1: a token goes to its likeliest expert if that has a slot left, scaled by its probability."""

    def __init__(self, c: dict, tokens: int):
        super().__init__()
        e = c['experts']
        choices = e['count'] + e['no_ops']
        self.router = nn.Linear(c['d_model'], choices, bias=False)
        self.experts = nn.ModuleList(MLP(c) for _ in range(e['count']))
        slots = math.ceil(e['capacity_factor'] * tokens / choices * (1 - 1e-12))
        self.slots = max(1, min(tokens, slots))  # of each expert in a sequence of which the block processes `tokens`

    def forward(self, x: Tensor, selected: Tensor) -> Tensor:
        probability, choice = self.router(x).softmax(-1).max(-1)  # (B, T), (B, T)
        out = torch.zeros_like(x)  # (B, T, D): a no-op adds nothing
        for j, expert in enumerate(self.experts):
            chosen = selected & (choice == j)  # (B, T)
            taken = chosen & (chosen.cumsum(1) <= self.slots)  # (B, T): slots fill in the order of the tokens
            out = torch.where(taken[..., None], probability[..., None] * expert(x, selected), out)
        return out


class Predictor(nn.Module):
    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate='tanh')).squeeze(-1)  # (B, T)


class Block(nn.Module):
    def __init__(self, c: dict, index: int):
        super().__init__()
        D, T, routing = c['d_model'], c['sequence_length'], c['routing']
        routed = routing is not None and index % routing['frequency'] == routing['frequency'] - 1
        self.routing = routing if routed else None
        self.multiplier = c.get('residual_multiplier', 1.0)  # ρ
        self.tokens = math.floor(routing['capacity'] * T + 0.5) if routed else T  # k, or T
        self.attn_norm, self.attn = RMSNorm(D), Attention(c)
        self.mlp_norm, self.mlp = RMSNorm(D), Experts(c, self.tokens) if c['experts'] else MLP(c)
        if routed and routing['router'] == 'learned':
            self.router = nn.Linear(D, 1, bias=False)
            if routing['predictor_hidden']: self.predictor = Predictor(D, routing['predictor_hidden'])

    def select(self, x: Tensor, r: Tensor, mode: str) -> Tensor:
        """Which tokens the block processes. x (B, T, D), r (B, T) → (B, T) bool"""
        if mode == 'predictor': return self.predictor(x) > 0
        if mode == 'threshold': return r > 0
        if mode == 'quantile': return r > self.threshold
        best = r.sort(dim=-1, descending=True, stable=True).indices[:, :self.tokens]  # (B, k), ties: lower position
        return torch.zeros_like(r, dtype=torch.bool).scatter(1, best, True)

    def forward(self, x: Tensor, mode: str) -> Tensor:
        """x (B, T, D) → (B, T, D)"""
        if self.routing is None:
            return x + self.branch(x, torch.ones_like(x[..., 0], dtype=torch.bool))
        if self.routing['router'] == 'random': r = torch.randn_like(x[..., 0])  # (B, T)
        else: r = self.router(x).squeeze(-1)  # (B, T)
        selected = self.select(x, r, mode)  # (B, T)
        gate = GATES[self.routing['gate']](r)[..., None]  # (B, T, 1)
        return torch.where(selected[..., None], x + gate * self.branch(x, selected), x)  # equation 1

    def branch(self, x: Tensor, selected: Tensor) -> Tensor:
        """f(x) = a + ρ·mlp(norm(x + a)) with a = ρ·attention(norm(x)). Computed for all T tokens, not only the selected."""
        a = self.multiplier * self.attn(self.attn_norm(x), selected)  # (B, T, D)
        return a + self.multiplier * self.mlp(self.mlp_norm(x + a), selected)  # (B, T, D)


class Transformer(nn.Module):
    def __init__(self, c: dict):
        super().__init__()
        self.config = c
        self.tok_embed = nn.Embedding(c['vocab_size'], c['d_model'])
        self.blocks = nn.ModuleList(Block(c, i) for i in range(c['n_layers']))
        self.final_norm = RMSNorm(c['d_model'])
        self.lm_head = nn.Linear(c['d_model'], c['vocab_size'], bias=False)
        if c['tie_embeddings']: self.lm_head.weight = self.tok_embed.weight

    def forward(self, tokens: Tensor, routing: str = 'topk') -> Tensor:
        """tokens (B, T) → logits (B, T, V); `topk` is the training pass, the other modes are causal."""
        if routing not in ROUTING_MODES: raise ValueError(f'routing: {routing}: one of {", ".join(ROUTING_MODES)}')
        x = self.tok_embed(tokens)  # (B, T, D)
        for block in self.blocks: x = block(x, routing)
        return self.config.get('logits_multiplier', 1.0) * self.lm_head(self.final_norm(x))  # (B, T, V)


def load(checkpoint: str, device: str = 'cpu') -> Transformer:
    """The model of a checkpoint folder: config.json and weights.safetensors. float32, in evaluation mode."""
    folder = Path(checkpoint)
    config = json.loads((folder / 'config.json').read_text())
    if config.get('format') != 'mod-checkpoint-1': raise ValueError(f'{folder}: not a mod-checkpoint-1')
    model = Transformer(config['model'])
    weights = load_file(folder / 'weights.safetensors')
    if config['model']['tie_embeddings']: weights['lm_head.weight'] = weights['tok_embed.weight']
    for i, block in enumerate(model.blocks):  # the running quantile of r in training; older checkpoints have none
        threshold = weights.pop(f'blocks.{i}.router.threshold', None)
        if threshold is not None: block.register_buffer('threshold', threshold, persistent=False)
    model.load_state_dict(weights)  # raises an error if a tensor is missing, unknown or of another shape
    return model.to(device).eval()
