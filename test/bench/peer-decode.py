"""The peer of `mod bench --decode` on a GPU: the dense model in PyTorch, decoding like gpt-fast.

torch.compile, one CUDA graph per token, static caches in bf16, masked scaled_dot_product_attention over the whole cache,
sampling on the device; prompt 512, 256 new tokens, random weights:

    python3 test/bench/peer-decode.py d768l12t2048b1v32768 d768l12t2048b64v32768

One JSON line per shape: shape, step_ms (median of five times 255 tokens), tokens_per_s over all sequences.
"""
import json
import re
import sys
import time

import torch
import torch.nn.functional as F

PROMPT, NEW = 512, 256


def weight(*shape):
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16) * 0.02


def norm(x, gain):
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6)).to(x.dtype) * gain


class Decoder:
    def __init__(self, D, layers, batch, vocab):
        self.heads, self.size, self.batch = max(1, round(D / 64)), D // max(1, round(D / 64)), batch
        slots = PROMPT + NEW
        ones = lambda: torch.ones(D, device="cuda", dtype=torch.bfloat16)
        self.embedding = weight(vocab, D)
        self.layers = [
            {
                "norms": (ones(), ones()),
                "qkv": weight(3 * D, D),
                "out": weight(D, D),
                "up": weight(4 * D, D),
                "down": weight(D, 4 * D),
                "cache": [weight(batch, self.heads, slots, self.size) for _ in "kv"],
            }
            for _ in range(layers)
        ]
        self.gain = ones()
        angles = torch.arange(slots, device="cuda")[:, None] * 10000.0 ** (
            -torch.arange(0, self.size, 2, device="cuda") / self.size
        )
        self.cos, self.sin = (torch.cat([f(angles)] * 2, -1).bfloat16() for f in (torch.cos, torch.sin))
        self.mask = torch.ones(slots, slots, device="cuda", dtype=torch.bool).tril()

    def rotate(self, x, cos, sin):
        a, b = x.chunk(2, -1)
        return x * cos + torch.cat([-b, a], -1) * sin

    def step(self, token, position):  # token [B], position [1] → next token [B]
        x = self.embedding[token]
        cos, sin, mask = self.cos[position], self.sin[position], self.mask[position][None, None]
        for layer in self.layers:
            q, k, v = (
                part.view(self.batch, self.heads, 1, self.size)
                for part in F.linear(norm(x, layer["norms"][0]), layer["qkv"]).chunk(3, -1)
            )
            for cache, new in zip(layer["cache"], (self.rotate(k, cos, sin), v)):
                cache.index_copy_(2, position, new)
            attended = F.scaled_dot_product_attention(self.rotate(q, cos, sin), *layer["cache"], attn_mask=mask)
            x = x + F.linear(attended.reshape(self.batch, -1), layer["out"])
            hidden = F.gelu(F.linear(norm(x, layer["norms"][1]), layer["up"]), approximate="tanh")
            x = x + F.linear(hidden, layer["down"])
        logits = F.linear(norm(x, self.gain), self.embedding).float()
        # Sampling by exponential noise needs no cumulative sum and no host synchronization.
        return (F.softmax(logits, -1) / torch.empty_like(logits).exponential_()).argmax(-1)


def measure(shape):
    sizes = {key: int(value) for key, value in re.findall(r"([a-z])(\d+)", shape)}
    decoder = Decoder(sizes["d"], sizes["l"], sizes["b"], sizes["v"])
    token = torch.zeros(sizes["b"], device="cuda", dtype=torch.long)
    position = torch.full((1,), PROMPT, device="cuda")
    compiled = torch.compile(decoder.step, fullgraph=True)

    def one():
        token.copy_(compiled(token, position))
        position.add_(1)

    with torch.no_grad():
        stream = torch.cuda.Stream()
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            for _ in range(3):
                one()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            one()
        times = []
        for _ in range(6):  # the first one is a warm-up
            position.fill_(PROMPT)
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(NEW - 1):
                graph.replay()
            torch.cuda.synchronize()
            times.append((time.perf_counter() - start) / (NEW - 1))
    step = sorted(times[1:])[2]
    return {"shape": shape, "step_ms": step * 1000, "tokens_per_s": sizes["b"] / step}


if __name__ == "__main__":
    for shape in sys.argv[1:]:
        print(json.dumps(measure(shape)), flush=True)
        torch._dynamo.reset()
        torch.cuda.empty_cache()
