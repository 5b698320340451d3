"""Golden cases of dense and Mixture-of-Depths models, by an independent PyTorch implementation in float64.

    python mod.py                        compares every case of CASES with the files in its folder
    python mod.py --write CASE...        rewrites what is expected of a case, from its config, weights and tokens
    python mod.py --draw SEED CASE...    draws weights and tokens for the config.json of a folder first, then writes

Written from the paper (Raposo et al. 2024, section 3) and the conventions of src/model/config.ts: one sequence at a time,
gradients by autograd. The tests read the files, not Python. Needs torch, numpy and safetensors.
"""
import argparse
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

GOLDEN = Path(__file__).resolve().parent.parent
CASES = ['baseline', 'mod-raw-f2', 'mod-raw-f2-head64', 'complete-mod-raw-f2', 'mod-sigmoid-f1-aux-untied']
BATCH, STEPS, EVAL_WINDOWS = 4, 10, 8
torch.set_num_threads(1)  # the tensors are small
GATES = {'raw': lambda r: r, 'sigmoid': torch.sigmoid}
BASES = {'complete-mod-raw-f2': {'d_model': 16, 'n_layers': 2, 'n_heads': 1}}  # of cases under `parametrization: complete`


# The model. w: a checkpoint's tensors by name; c: `model` of its config.json; T, D, H, F, V as in that; n: tokens of a
# sequence that a block processes.

def is_routed(c, i):
    f = c['routing'] and c['routing']['frequency']
    return bool(f) and i % f == f - 1


def capacity(c):
    """Tokens of a sequence that a routed block selects: k = floor(C·T + 0.5)."""
    return math.floor(c['routing']['capacity'] * c['sequence_length'] + 0.5)


def rms_norm(x, gain):
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * gain


def rotate(x, positions, precision):
    """x [n, H, K]: rotates the pairs (i, i + K/2) by position · 10000^(-2i/K); the angles have `precision`."""
    half = x.shape[-1] // 2
    frequency = 10000.0 ** (-torch.arange(half, dtype=precision) / half)  # [K/2]
    angle = positions[:, None, None].to(precision) * frequency  # [n, 1, K/2]
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def attention(x, w, c, at, positions, precision):
    """x [n, D] → [n, D]: causal among these n tokens."""
    n, D = x.shape
    heads = c['n_heads']
    q, k, v = [(x @ w[f'{at}{p}_proj.weight'].T).view(n, heads, D // heads) for p in 'qkv']  # [n, H, K]
    q, k = rotate(q, positions, precision), rotate(k, positions, precision)
    scores = torch.einsum('nhk,mhk->hnm', q, k) * c.get('attention_multiplier', 1 / math.sqrt(D // heads))
    scores = scores.masked_fill(~torch.ones(n, n, dtype=torch.bool).tril(), float('-inf'))
    out = torch.einsum('hnm,mhk->nhk', scores.softmax(-1), v).reshape(n, D)
    return out @ w[f'{at}o_proj.weight'].T


def dense_mlp(h, w, c, i):
    """h [n, D] → [n, D], and None for the record."""
    at = f'blocks.{i}.mlp.'
    return F.gelu(h @ w[at + 'up_proj.weight'].T, approximate='tanh') @ w[at + 'down_proj.weight'].T, None


def branch(x, w, c, i, positions, mlp, precision):
    """
    What block i adds: f(x) = a + ρ·mlp(norm(x + a)) with a = ρ·attention(norm(x)), ρ the residual multiplier.
    x [n, D] → [n, D], record of the MLP.
    """
    at = f'blocks.{i}.'
    normed = rms_norm(x, w[at + 'attn_norm.weight'])
    multiplier = c.get('residual_multiplier', 1)
    a = multiplier * attention(normed, w, c, at + 'attn.', positions, precision)
    m, record = mlp(rms_norm(x + a, w[at + 'mlp_norm.weight']), w, c, i)
    return a + multiplier * m, record


def predictor_logits(x, w, at):
    """x [T, D] → [T]. No gradient reaches x."""
    hidden = F.gelu(x.detach() @ w[at + 'fc1.weight'].T + w[at + 'fc1.bias'], approximate='tanh')
    return (hidden @ w[at + 'fc2.weight'].T + w[at + 'fc2.bias']).squeeze(-1)


def select(mode, r, predicted, k):
    """Positions that a routed block processes, ascending. r, predicted [T]."""
    if mode == 'topk':  # ties go to the lower position, those that only rounding breaks included
        order = sorted(range(len(r)), key=lambda t: (-round(r[t].item(), 12), t))
        return torch.tensor(sorted(order[:k]))
    return (predicted if mode == 'predictor' else r).gt(0).nonzero().squeeze(-1)


def forward(w, c, tokens, mode='topk', mlp=dense_mlp, precision=torch.float64):
    """
    tokens [B, T] → logits [B, T, V] and a trace: router_loss and predictor_loss, each a mean over tokens and a sum over
    blocks; for each routed block a list with one entry per sequence: selected positions, and accuracy of the predictor;
    for each block the records of its MLP.
    """
    B, T = tokens.shape
    trace = SimpleNamespace(router_loss=0.0, predictor_loss=0.0, selected={}, accuracy={}, mlp={})
    logits = []
    for b in range(B):
        x, positions = w['tok_embed.weight'][tokens[b].long()], torch.arange(T)  # [T, D], [T]
        for i in range(c['n_layers']):
            at = f'blocks.{i}.'
            if not is_routed(c, i):
                f, record = branch(x, w, c, i, positions, mlp, precision)
                x = x + f
            else:
                routing = c['routing']
                r = (x @ w[at + 'router.weight'].T).squeeze(-1)  # [T]
                predicted = predictor_logits(x, w, at + 'predictor.') if routing['predictor_hidden'] else None
                own = select(mode, r, predicted, capacity(c))  # [n]
                trace.selected.setdefault(i, []).append(own)
                if mode == 'topk':
                    member = torch.zeros(T, dtype=x.dtype).index_fill(0, own, 1.0)
                    trace.router_loss += F.binary_cross_entropy_with_logits(r, member) / B
                    if predicted is not None:
                        trace.predictor_loss += F.binary_cross_entropy_with_logits(predicted, member) / B
                        agreed = (predicted > 0) == (member > 0)
                        trace.accuracy.setdefault(i, []).append(agreed.double().mean().item())
                if len(own) == 0: continue
                f, record = branch(x[own], w, c, i, own, mlp, precision)
                x = x.index_add(0, own, GATES[routing['gate']](r[own])[:, None] * f)
            trace.mlp.setdefault(i, []).append(record)
        head = w['tok_embed.weight'] if c['tie_embeddings'] else w['lm_head.weight']
        logits.append(c.get('logits_multiplier', 1) * rms_norm(x, w['final_norm.weight']) @ head.T)
    return torch.stack(logits), trace


# Losses, gradients and the optimizer.

def lm_loss(logits, rows):
    """Mean over tokens. logits [B, T, V], rows [B, T + 1]"""
    return F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten().long())


def losses(w, c, rows, precision=torch.float64):
    """rows [B, T + 1] → LM loss, the loss whose gradient is taken, logits, trace."""
    logits, trace = forward(w, c, rows[:, :-1], precision=precision)
    lm = lm_loss(logits, rows)
    weight = c['routing']['aux_loss_weight'] if c['routing'] else 0.0
    return lm, lm + weight * trace.router_loss + trace.predictor_loss, logits, trace


def gradients(w, total):
    found = torch.autograd.grad(total, list(w.values()), allow_unused=True)  # an expert may have no token
    return {name: torch.zeros_like(v) if g is None else g for (name, v), g in zip(w.items(), found)}


def global_norm(g):
    return math.sqrt(sum(float(value.pow(2).sum()) for value in g.values()))


def standard_rules(w):
    """For each tensor what it is initialised with, the factor of its learning rate, and its weight decay."""
    return {n: {'rate_factor': 1.0, 'weight_decay': 0.1 if value.dim() >= 2 else 0.0} for n, value in w.items()}


def complete_rules(w, c, base):
    """The same under `complete`: CompleteP with α = 1 (arXiv 2505.01618, table 1) and muP (arXiv 2203.03466, table 8)."""
    m, layers = c['d_model'] / base['d_model'], base['n_layers']
    hidden = {'init_std': 0.02 / math.sqrt(m), 'rate_factor': 1 / m, 'weight_decay': 0.1 * m}
    residual = {**hidden, 'init_std': 0.02 / math.sqrt(2 * layers) / math.sqrt(m)}
    router = {**hidden, 'init_std': 0.02 / m}
    fixed = {'init_std': 0.02, 'rate_factor': 1.0, 'weight_decay': 0.1}
    vector = {'init_std': None, 'rate_factor': 1.0, 'weight_decay': 0.0}

    def rule(name, dimensions):
        if dimensions < 2: return vector
        if any(part in name for part in ('tok_embed', 'lm_head', 'predictor.fc2')): return fixed
        if 'router' in name or 'predictor.fc1' in name: return router
        return residual if name.endswith(('o_proj.weight', 'down_proj.weight')) else hidden

    return {name: rule(name, value.dim()) for name, value in w.items()}


def adamw_steps(w, train_tokens, loss, rules=None, epsilon=1e-8, rate=1e-3):
    """
    LM loss and gradient norm of each step, and the weights after the last: AdamW, betas 0.9 and 0.95, decoupled decay,
    clipping at 1; by default decay 0.1 on tensors of two or more dimensions. `loss(w, rows)` returns the LM loss and the
    total first.
    """
    rules = rules or standard_rules(w)
    w = {name: value.detach().clone().requires_grad_() for name, value in w.items()}
    mean, square, trace = {n: 0.0 for n in w}, {n: 0.0 for n in w}, []
    for step, rows in enumerate(train_tokens, 1):
        lm, total, *_ = loss(w, rows)
        g = gradients(w, total)
        norm = global_norm(g)
        trace.append({'loss_lm': lm.item(), 'grad_norm': norm})
        scale = min(1.0, 1.0 / (norm + 1e-6))
        for n, value in w.items():
            d = g[n] * scale
            mean[n] = 0.9 * mean[n] + 0.1 * d
            square[n] = 0.95 * square[n] + 0.05 * d * d
            change = (mean[n] / (1 - 0.9**step)) / ((square[n] / (1 - 0.95**step)).sqrt() + epsilon)
            own = rate * rules[n]['rate_factor']
            w[n] = (value.detach() * (1 - own * rules[n]['weight_decay']) - own * change).requires_grad_()
    return trace, w


def flops_per_pass(c):
    """Forward FLOPs of one sequence under top-k (Hoffmann et al. 2022, appendix F), those of the logits separately."""
    T, D, blocks = c['sequence_length'], c['d_model'], 0
    for i in range(c['n_layers']):
        n = capacity(c) if is_routed(c, i) else T
        blocks += 8 * n * D * D + 4 * n * n * D + 3 * c['n_heads'] * n * n + 4 * n * D * c['d_ff']
        P = c['routing']['predictor_hidden'] if is_routed(c, i) else 0
        blocks += 2 * T * D * is_routed(c, i) + 2 * T * (D * P + P)
    return {'blocks_and_routers': blocks, 'logits': 2 * T * D * c['vocab_size']}


# Cases: what is expected, drawn, written and compared.

def number(value):
    """The number in a tensor of one element; a number is returned unchanged."""
    return torch.as_tensor(value).item()


def modes(c):
    """The routing modes of a case."""
    if not c['routing']: return ['topk']
    return ['topk', 'predictor', 'threshold'] if c['routing']['predictor_hidden'] else ['topk', 'threshold']


def participation(trace, T):
    """Share of the tokens that each routed block processes."""
    return [sum(map(len, rows)) / (len(rows) * T) for rows in trace.selected.values()]


def expect(w, c, tokens, train_tokens, heldout, base=None, precision=torch.float64):
    """
    The tensors of tensors.safetensors, expected.json and expected_eval.json of a case; base: the base shape of a case under
    `parametrization: complete`.
    """
    T = c['sequence_length']
    lm, total, logits, trace = losses(w, c, tokens, precision)
    g = gradients(w, total)
    tensors = {'tokens': tokens, 'train_tokens': train_tokens, 'logits_topk': logits.detach()}
    for j, rows in enumerate(trace.selected.values()): tensors[f'selected.{j}'] = torch.stack(rows).int()
    tensors.update({f'grad.{name}': value for name, value in g.items()})
    expected = {
        'loss_lm': lm.item(),
        'loss_router_bce_sum': number(trace.router_loss),
        'loss_predictor_bce_sum': number(trace.predictor_loss),
        'loss_total': total.item(),
        'grad_norm': global_norm(g),
    }
    windows = torch.stack([heldout[i * T:i * T + T + 1] for i in range((len(heldout) - 1) // T)])  # [N, T + 1]
    evaluations = {}
    with torch.no_grad():
        for mode in modes(c):
            if mode != 'topk':
                causal, parts = forward(w, c, tokens[:, :-1], mode, precision=precision)
                tensors[f'logits_{mode}'] = causal
                expected[f'loss_lm_{mode}'] = lm_loss(causal, tokens).item()
                expected[f'participation_{mode}'] = participation(parts, T)
            logits, parts = forward(w, c, windows[:, :-1], mode, precision=precision)
            evaluations[mode] = {'loss': lm_loss(logits, windows).item(), 'participation': participation(parts, T)}
            if parts.accuracy:
                evaluations['predictor_accuracy'] = [sum(rows) / len(rows) for rows in parts.accuracy.values()]
    rules = complete_rules(w, c, base) if base else None
    epsilon = 1e-8 / (c['d_model'] / base['d_model'] * c['n_layers'] / base['n_layers']) if base else 1e-8
    steps, after = adamw_steps(w, train_tokens, lambda w, rows: losses(w, c, rows, precision), rules, epsilon)
    expected['ten_steps_adamw_lr1e-3_wd0.1_clip1'] = steps
    if base:
        expected.update(base=base, rules=rules)
        tensors.update({f'after.{name}': value for name, value in after.items()})
    evaluation = {'windows': len(windows), 'eval': evaluations, 'flops_per_pass_topk': flops_per_pass(c)}
    return tensors, expected, evaluation


def dense_mlp_weights(at, c, normal):
    yield at + 'up_proj.weight', normal(c['d_ff'], c['d_model'])
    yield at + 'down_proj.weight', normal(c['d_model'], c['d_ff'])


def draw_weights(c, generator, mlp_weights=dense_mlp_weights):
    """Every tensor of the checkpoint, far from initialisation so that every path matters."""
    D, V, w = c['d_model'], c['vocab_size'], {}
    normal = lambda *shape, std=0.3: torch.randn(*shape, generator=generator, dtype=torch.float64) * std
    gain = lambda: 1 + normal(D, std=0.1)
    w['tok_embed.weight'] = normal(V, D, std=0.5)
    for i in range(c['n_layers']):
        at = f'blocks.{i}.'
        w[at + 'attn_norm.weight'] = gain()
        for p in 'qkvo': w[at + f'attn.{p}_proj.weight'] = normal(D, D)
        w[at + 'mlp_norm.weight'] = gain()
        w.update(mlp_weights(at + 'mlp.', c, normal))
        if not is_routed(c, i): continue
        w[at + 'router.weight'] = normal(1, D)
        P = c['routing']['predictor_hidden']
        if P:
            w[at + 'predictor.fc1.weight'], w[at + 'predictor.fc1.bias'] = normal(P, D), normal(P)
            w[at + 'predictor.fc2.weight'], w[at + 'predictor.fc2.bias'] = normal(1, P), normal(1)
    w['final_norm.weight'] = gain()
    if not c['tie_embeddings']: w['lm_head.weight'] = normal(V, D)
    return trainable({name: value.float() for name, value in w.items()})


def draw_tokens(c, generator):
    """tokens [B, T + 1], train_tokens [10, B, T + 1]"""
    draw = lambda *shape: torch.randint(c['vocab_size'], shape, generator=generator, dtype=torch.int32)
    return draw(BATCH, c['sequence_length'] + 1), draw(STEPS, BATCH, c['sequence_length'] + 1)


def trainable(w):
    """Tensors that require gradients, in float64, from the float32 numbers that the program reads."""
    return {name: value.double().requires_grad_() for name, value in w.items()}


def save_tensors(tensors, path):
    """Saves tensors; float64 is stored as float32."""
    stored = lambda t: (t.detach().float() if t.dtype == torch.float64 else t).contiguous()
    save_file({name: stored(value) for name, value in tensors.items()}, path)


def save_json(value, path):
    path.write_text(json.dumps(value, indent=1) + '\n')


def read_json(path):
    return json.loads(path.read_text())


def inputs(folder):
    """Weights, config, tokens, train_tokens and held-out tokens of a case's folder."""
    stored = load_file(folder / 'tensors.safetensors')
    w = trainable(load_file(folder / 'weights.safetensors'))
    heldout = torch.from_numpy(np.fromfile(folder / 'tokens.bin', '<u2').astype(np.int32))
    return w, read_json(folder / 'config.json')['model'], stored['tokens'], stored['train_tokens'], heldout


def write(folder, w, c, tokens, train_tokens, heldout):
    tensors, expected, evaluation = expect(w, c, tokens, train_tokens, heldout, BASES.get(folder.name))
    save_tensors(tensors, folder / 'tensors.safetensors')
    save_json(expected, folder / 'expected.json')
    save_json(evaluation, folder / 'expected_eval.json')


def draw(folder, seed):
    c = read_json(folder / 'config.json')['model']
    generator = torch.Generator().manual_seed(seed)
    w = draw_weights(c, generator)
    tokens, train_tokens = draw_tokens(c, generator)
    heldout = torch.randint(c['vocab_size'], (EVAL_WINDOWS * c['sequence_length'] + 1,), generator=generator)
    save_tensors(w, folder / 'weights.safetensors')
    heldout.numpy().astype('<u2').tofile(folder / 'tokens.bin')
    write(folder, w, c, tokens, train_tokens, heldout)


def error(found, stored):
    """max|Δ| / max|stored|; of integers: 0 if all are equal."""
    found, stored = torch.as_tensor(found, dtype=torch.float64), torch.as_tensor(stored, dtype=torch.float64)
    if found.shape != stored.shape: return math.inf
    largest = stored.abs().max().item() if stored.numel() else 0.0
    return (found - stored).abs().max().item() / (largest or 1.0) if stored.numel() else 0.0


def flat(value, name=''):
    """The numbers of a JSON value, by path."""
    if not isinstance(value, (dict, list)): return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {path: number for key, item in items for path, number in flat(item, f'{name}/{key}').items()}


KINDS = {  # names of tensors and paths of numbers, by their beginnings
    'logits': 'logits', 'selected tokens': 'selected', 'gradients': 'grad.', 'weights after': 'after.', 'rules': '/rules',
    'losses': '/loss', 'gradient norm': '/grad_norm', 'participation': '/participation',
    'ten steps': '/ten_steps', 'evaluation': '/eval', 'FLOPs': '/flops',
}


def compare(folder, precision):
    """The largest error of each kind between the files of a case's folder and what is expected."""
    tensors, *numbers = expect(*inputs(folder), BASES.get(folder.name), precision)
    stored = load_file(folder / 'tensors.safetensors')
    pairs = {name: (tensors.get(name), value) for name, value in stored.items()}
    for name, value in zip(['expected.json', 'expected_eval.json'], numbers):
        found = flat(value)
        pairs.update({path: (found.get(path), number) for path, number in flat(read_json(folder / name)).items()})
    errors = {}
    for kind, prefix in KINDS.items():
        own = [pair for name, pair in pairs.items() if name.startswith(prefix)]
        known = [pair for pair in own if pair != (None, None)]  # no deviation: not drawn
        if known: errors[kind] = max(math.inf if found is None else error(found, value) for found, value in known)
    return errors


def main():
    parser = argparse.ArgumentParser(description='Compares golden cases with this reference, or writes them.')
    parser.add_argument('--write', action='store_true', help='write what is expected from weights and tokens')
    parser.add_argument('--draw', type=int, metavar='SEED', help='draw weights and tokens, then write')
    parser.add_argument('cases', nargs='*', metavar='CASE', help='a folder of test/golden; default: all')
    options = parser.parse_args()
    for name in options.cases or CASES:
        folder = GOLDEN / name
        if options.draw is not None: draw(folder, options.draw)
        elif options.write: write(folder, *inputs(folder))
        else:
            print(f'{name:<26} float64 angles  float32 angles')
            exact, rounded = [compare(folder, precision) for precision in (torch.float64, torch.float32)]
            for kind, value in exact.items(): print(f'  {kind:<24} {value:14.1e}  {rounded[kind]:14.1e}')


if __name__ == '__main__': main()
