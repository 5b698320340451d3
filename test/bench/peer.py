"""The peer of `mod bench` on a GPU: the same model and training step in optimized PyTorch.

torch.compile, bf16 autocast, scaled_dot_product_attention, fused AdamW, clipping; shapes in the syntax of `mod bench --shape`:

    python3 test/bench/peer.py d768l12t2048b32v32768 d768l12t2048b32v32768c0.125f2

One JSON line per shape: shape, step_ms (median of five times four steps), peak_bytes, busy (share of the step in kernels).
"""
import json
import math
import re
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn


def parse(shape):
    found = {key: float(value) for key, value in re.findall(r"([a-z])(\d+(?:\.\d+)?)", shape)}
    sizes = {key: int(found[key]) for key in "dltbv"}
    sizes["h"] = int(found.get("h", max(1, round(sizes["d"] / 64))))
    return sizes, int(found.get("f", 0)), found.get("c", 1.0)


class RMSNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6)
        return (wide * scale).to(x.dtype) * self.weight.to(x.dtype)


class Branch(nn.Module):
    """attention(norm(x)), then mlp(norm(x + attention)); a block adds their sum."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.attn_norm, self.mlp_norm = RMSNorm(width), RMSNorm(width)
        # Three products: with one, the backward pass would concatenate three gradients first.
        self.q, self.k, self.v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def rotate(self, x, positions):  # x [B, H, n, K], positions [B, n]
        # Recomputes the angles for q and k: shared ones would be written to memory, and a step takes an eighth longer.
        half = x.shape[-1] // 2
        rates = 10000.0 ** (-torch.arange(0, 2 * half, 2, device=x.device, dtype=torch.float32) / (2 * half))
        angles = positions[:, None, :, None].to(torch.float32) * rates
        cos, sin = torch.cat([angles.cos()] * 2, -1).to(x.dtype), torch.cat([angles.sin()] * 2, -1).to(x.dtype)
        return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin

    def forward(self, x, positions):
        batch, n, width = x.shape
        size = width // self.heads
        normed = self.attn_norm(x)
        q, k, v = (
            projection(normed).view(batch, n, self.heads, size).transpose(1, 2)
            for projection in (self.q, self.k, self.v)
        )
        q, k = self.rotate(q, positions), self.rotate(k, positions)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        a = self.out(attended.transpose(1, 2).reshape(batch, n, width))
        return a + self.down(F.gelu(self.up(self.mlp_norm(x + a)), approximate="tanh"))


class Model(nn.Module):
    def __init__(self, sizes, frequency, capacity):
        super().__init__()
        D = sizes["d"]
        self.k = math.floor(capacity * sizes["t"] + 0.5)
        self.routed = [frequency > 0 and i % frequency == frequency - 1 for i in range(sizes["l"])]
        self.embedding = nn.Embedding(sizes["v"], D)
        self.blocks = nn.ModuleList(Branch(D, sizes["h"]) for _ in self.routed)
        self.routers = nn.ModuleList(nn.Linear(D, 1, bias=False) if r else nn.Identity() for r in self.routed)
        self.predictors = nn.ModuleList(
            nn.Sequential(nn.Linear(D, 64), nn.GELU(approximate="tanh"), nn.Linear(64, 1)) if r else nn.Identity()
            for r in self.routed
        )
        self.norm = RMSNorm(D)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens, targets):
        x = self.embedding(tokens).to(torch.bfloat16)
        batch, length, width = x.shape
        positions = torch.arange(length, device=x.device).expand(batch, -1)
        loss = 0.0
        for i, block in enumerate(self.blocks):
            if not self.routed[i]:
                x = x + block(x, positions)
                continue
            with torch.autocast("cuda", enabled=False):
                r = self.routers[i](x.float()).squeeze(-1)  # [B, T]
            chosen = r.topk(self.k, -1).indices.sort(-1).values
            rows = chosen[..., None].expand(-1, -1, width)
            update = block(x.gather(1, rows), positions.gather(1, chosen))
            mask = torch.zeros_like(r).scatter(1, chosen, 1.0)
            logits = self.predictors[i](x.detach()).squeeze(-1).float()
            loss = loss + F.binary_cross_entropy_with_logits(logits, mask)
            x = x.scatter_add(1, rows, r.gather(1, chosen)[..., None].to(x.dtype) * update)
        logits = F.linear(self.norm(x), self.embedding.weight)
        return loss + F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def measure(shape):
    sizes, frequency, capacity = parse(shape)
    torch.manual_seed(0)
    model = Model(sizes, frequency, capacity).cuda()
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.95), eps=1e-8, fused=True)
    compiled = torch.compile(model)
    data = torch.randint(0, sizes["v"], (sizes["b"], sizes["t"] + 1), device="cuda")

    def step():
        with torch.autocast("cuda", torch.bfloat16):
            loss = compiled(data[:, :-1], data[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(4):
        step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(4):
            step()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / 4)
    step_ms = sorted(times)[2] * 1000
    peak = torch.cuda.max_memory_allocated()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(2):
            step()
        torch.cuda.synchronize()
    kernels = sum(event.self_device_time_total for event in profile.key_averages()) / 2000
    return {"shape": shape, "step_ms": step_ms, "peak_bytes": peak, "busy": kernels / step_ms}


if __name__ == "__main__":
    torch.set_float32_matmul_precision("high")
    for shape in sys.argv[1:]:
        print(json.dumps(measure(shape)), flush=True)
        torch._dynamo.reset()
        torch.cuda.empty_cache()
