"""The held-out loss of a checkpoint on a file of tokens, in nats per token, as `mod eval` computes it.

    python examples/pytorch/evaluate.py CHECKPOINT TOKENS.bin --routing predictor
"""
import argparse

import numpy as np
import torch
import torch.nn.functional as F

from model import ROUTING_MODES, Transformer, load

SHARDS = {20240520: '<u2', 20240801: '<u4'}  # magic number of an llm.c shard → type of its tokens
HEADER_BYTES = 1024


def read_tokens(path: str, token_bytes: int) -> torch.Tensor:
    """An llm.c shard, or bare little-endian tokens of 1 or 2 bytes. → (N)"""
    data = open(path, 'rb').read()
    magic = int.from_bytes(data[:4], 'little')
    if magic in SHARDS: tokens = np.frombuffer(data, SHARDS[magic], offset=HEADER_BYTES)
    else: tokens = np.frombuffer(data, {1: 'u1', 2: '<u2'}[token_bytes])
    return torch.from_numpy(tokens.astype(np.int64))


@torch.no_grad()
def evaluate(model: Transformer, tokens: torch.Tensor, routing: str = 'topk', batch: int = 16) -> float:
    """Mean loss over windows of T tokens, stride T, targets shifted by one. tokens (N)"""
    T, device = model.config['sequence_length'], model.lm_head.weight.device
    count = (len(tokens) - 1) // T
    if count < 1: raise ValueError(f'{len(tokens)} tokens: one sequence needs {T + 1}')
    inputs, targets = tokens[:count * T].view(count, T), tokens[1:count * T + 1].view(count, T)
    total = 0.0
    for x, y in zip(inputs.split(batch), targets.split(batch)):  # (B, T) each
        logits = model(x.to(device), routing)  # (B, T, V)
        losses = F.cross_entropy(logits.flatten(0, 1), y.to(device).flatten(), reduction='none')  # (B·T)
        total += losses.double().sum().item()
    return total / (count * T)


def main() -> None:
    parser = argparse.ArgumentParser(description='Held-out loss of a checkpoint, in nats per token.')
    parser.add_argument('checkpoint', help='a folder with config.json and weights.safetensors')
    parser.add_argument('tokens', help='an llm.c shard, or bare tokens')
    parser.add_argument('--routing', nargs='+', choices=ROUTING_MODES, default=['topk'], metavar='MODE',
                        help='one or more of topk, predictor, threshold, quantile (default: topk)')
    parser.add_argument('--token-bytes', type=int, choices=(1, 2), default=2, help='of bare tokens (default: 2)')
    parser.add_argument('--device', default='cpu', help='cpu, cuda, ... (default: cpu)')
    options = parser.parse_args()
    model = load(options.checkpoint, options.device)
    tokens = read_tokens(options.tokens, options.token_bytes)
    for routing in options.routing: print(f'{routing} {evaluate(model, tokens, routing):.9g}')


if __name__ == '__main__': main()
