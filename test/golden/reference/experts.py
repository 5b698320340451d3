"""Golden cases of models with experts, by an independent PyTorch implementation in float64.

    python experts.py        writes ../moe, ../mode-staged and ../mode-integrated; needs torch and safetensors

Written from the conventions of src/model/config.ts and the papers (Raposo et al. 2024, section 4.3; Fedus et al. 2022,
section 2): slots are given out token by token in plain loops, gradients are autograd's. The tests need the files that it
left, not Python.
"""
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent.parent
BATCH, STEPS = 4, 10
SHAPE = dict(vocab_size=32, d_model=16, n_layers=2, n_heads=2, d_ff=24, sequence_length=16, tie_embeddings=True)
ROUTING = dict(frequency=2, capacity=0.5, router='learned', gate='raw', aux_loss_weight=0.0, predictor_hidden=8)
EXPERTS = dict(count=3, no_ops=0, capacity_factor=1.0, balance_loss_weight=0.05, balance_no_ops=True)
CASES = {
    'moe': dict(seed=1, routing=None, experts={**EXPERTS, 'count': 4}),
    'mode-staged': dict(seed=2, routing=ROUTING, experts=EXPERTS),
    'mode-integrated': dict(seed=3, routing=None, experts={**EXPERTS, 'no_ops': 2, 'balance_no_ops': False}),
}


def weights(c, generator):
    """Every tensor of the checkpoint, far from initialisation so that every path matters."""
    D, FF, V, w = c['d_model'], c['d_ff'], c['vocab_size'], {}
    normal = lambda *shape, std=0.3: torch.randn(*shape, generator=generator, dtype=torch.float64) * std
    gain = lambda: 1 + normal(D, std=0.1)
    w['tok_embed.weight'] = normal(V, D, std=0.5)
    for i in range(c['n_layers']):
        at = f'blocks.{i}.'
        w[at + 'attn_norm.weight'] = gain()
        for p in 'qkvo': w[at + f'attn.{p}_proj.weight'] = normal(D, D)
        w[at + 'mlp_norm.weight'] = gain()
        e = c['experts']
        w[at + 'mlp.router.weight'] = normal(e['count'] + e['no_ops'], D)
        for j in range(e['count']):
            w[at + f'mlp.experts.{j}.up_proj.weight'] = normal(FF, D)
            w[at + f'mlp.experts.{j}.down_proj.weight'] = normal(D, FF)
        if routed(c, i):
            P = c['routing']['predictor_hidden']
            w[at + 'router.weight'] = normal(1, D)
            w[at + 'predictor.fc1.weight'], w[at + 'predictor.fc1.bias'] = normal(P, D), normal(P)
            w[at + 'predictor.fc2.weight'], w[at + 'predictor.fc2.bias'] = normal(1, P), normal(1)
    w['final_norm.weight'] = gain()
    # Both sides begin with the same float32 numbers.
    return {name: value.float().double().requires_grad_() for name, value in w.items()}


def routed(c, i):
    f = c['routing'] and c['routing']['frequency']
    return bool(f) and i % f == f - 1


def selected(c): return math.floor(c['routing']['capacity'] * c['sequence_length'] + 0.5)


def slots(c, i):
    e, n = c['experts'], selected(c) if routed(c, i) else c['sequence_length']
    return max(1, min(n, math.ceil(e['capacity_factor'] * n / (e['count'] + e['no_ops']) - 1e-9)))


def norm(x, gain): return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * gain


def rotated(x, positions):
    """x [n, H, K]: pairs (i, i + K/2) turned by position · 10000^(-2i/K)."""
    half = x.shape[-1] // 2
    angle = positions[:, None, None].double() * 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


def attention(x, w, at, heads, positions):
    n, D = x.shape
    h = norm(x, w[at + 'attn_norm.weight'])
    q, k, v = [(h @ w[at + f'attn.{p}_proj.weight'].T).view(n, heads, D // heads) for p in 'qkv']
    q, k = rotated(q, positions), rotated(k, positions)
    scores = torch.einsum('nhk,mhk->hnm', q, k) / math.sqrt(D // heads)
    scores = scores.masked_fill(~torch.ones(n, n, dtype=torch.bool).tril(), float('-inf'))
    out = torch.einsum('hnm,mhk->nhk', scores.softmax(-1), v).reshape(n, D)
    return out @ w[at + 'attn.o_proj.weight'].T


def experts(h, w, c, i):
    """The MLP of one sequence's tokens h [n, D] → what it adds [n, D], its balance loss, tokens by choice and those taken."""
    e, at = c['experts'], f'blocks.{i}.mlp.'
    choices = e['count'] + e['no_ops']
    p = (h @ w[at + 'router.weight'].T).softmax(-1)
    chosen, taken, rows = [0] * choices, [0] * e['count'], []
    for t in range(len(h)):
        best = int(p[t].argmax())
        chosen[best] += 1
        if best >= e['count'] or taken[best] == slots(c, i):
            rows.append(torch.zeros_like(h[t]))
            continue
        taken[best] += 1
        expert = at + f'experts.{best}.'
        hidden = F.gelu(w[expert + 'up_proj.weight'] @ h[t], approximate='tanh')
        rows.append(p[t, best] * (w[expert + 'down_proj.weight'] @ hidden))
    m = choices if e['balance_no_ops'] else e['count']
    f = torch.tensor(chosen[:m], dtype=torch.float64) / max(1, sum(chosen[:m]))
    mass = p[:, :m].sum(0)
    balance = m * (f * mass / mass.sum()).sum()
    return torch.stack(rows), balance, chosen, taken


def branch(x, w, c, i, positions):
    """f(x) of one sequence's tokens, and what its experts tell."""
    at = f'blocks.{i}.'
    a = attention(x, w, at, c['n_heads'], positions)
    m, *told = experts(norm(x + a, w[at + 'mlp_norm.weight']), w, c, i)
    return a + m, told


def forward(w, c, tokens, mode='topk'):
    """tokens [B, T] → logits [B, T, V], losses by kind, selected tokens a routed block, expert counts a block."""
    B, T = tokens.shape
    logits, out = [], {'balance': [], 'predictor': [], 'selected': {}, 'counts': {}, 'part': {}}
    for b in range(B):
        x, positions = w['tok_embed.weight'][tokens[b].long()], torch.arange(T)
        for i in range(c['n_layers']):
            at = f'blocks.{i}.'
            if not routed(c, i):
                f, told = branch(x, w, c, i, positions)
                x = x + f
            else:
                r = (x @ w[at + 'router.weight'].T).squeeze(-1)
                hidden = x.detach() @ w[at + 'predictor.fc1.weight'].T + w[at + 'predictor.fc1.bias']
                guess = F.gelu(hidden, approximate='tanh') @ w[at + 'predictor.fc2.weight'].T + w[at + 'predictor.fc2.bias']
                guess = guess.squeeze(-1)
                if mode == 'topk':
                    order = sorted(range(T), key=lambda t: (-r[t].item(), t))[:selected(c)]
                    own = torch.tensor(sorted(order))
                    label = torch.zeros(T, dtype=torch.float64).index_fill(0, own, 1.0)
                    out['predictor'].append(F.binary_cross_entropy_with_logits(guess, label))
                else:
                    own = (guess if mode == 'predictor' else r).gt(0).nonzero().squeeze(-1)
                out['selected'].setdefault(i, []).append(own)
                out['part'].setdefault(i, []).append(len(own) / T)
                if len(own) == 0: continue
                f, told = branch(x[own], w, c, i, own)
                x = x.index_add(0, own, r[own, None] * f)
            balance, chosen, taken = told
            out['balance'].append(balance)
            out['counts'].setdefault(i, []).append(chosen + taken)
        logits.append(norm(x, w['final_norm.weight']) @ w['tok_embed.weight'].T)
    # A mean over sequences, a sum over blocks.
    out['balance'], out['predictor'] = sum(out['balance']) / B, sum(out['predictor']) / B
    return torch.stack(logits), out


def losses(w, c, rows):
    inputs, targets = rows[:, :-1], rows[:, 1:].long()
    logits, out = forward(w, c, inputs)
    lm = F.cross_entropy(logits.reshape(-1, c['vocab_size']), targets.reshape(-1))
    return lm, lm + out['predictor'] + c['experts']['balance_loss_weight'] * out['balance'], logits, out


def gradients(w, total):
    found = torch.autograd.grad(total, list(w.values()), allow_unused=True)  # an expert may get no token
    return {n: torch.zeros_like(v) if g is None else g for (n, v), g in zip(w.items(), found)}


def global_norm(g): return math.sqrt(sum(float(value.pow(2).sum()) for value in g.values()))


def ten_steps(w, c, train, rate=1e-3, decay=0.1):
    """AdamW, betas 0.9 and 0.95, eps 1e-8, decay on tensors of two or more dimensions, clipping at 1."""
    w = {name: value.detach().clone().requires_grad_() for name, value in w.items()}
    mean, square, trace = {n: 0.0 for n in w}, {n: 0.0 for n in w}, []
    for step, rows in enumerate(train, 1):
        lm, total, *_ = losses(w, c, rows)
        g = gradients(w, total)
        size = global_norm(g)
        trace.append({'loss_lm': lm.item(), 'grad_norm': size})
        scale = min(1.0, 1.0 / (size + 1e-6))
        for n, value in w.items():
            d = g[n] * scale
            mean[n] = 0.9 * mean[n] + 0.1 * d
            square[n] = 0.95 * square[n] + 0.05 * d * d
            change = (mean[n] / (1 - 0.9**step)) / ((square[n] / (1 - 0.95**step)).sqrt() + 1e-8)
            kept = value.detach() * (1 - rate * decay if value.dim() >= 2 else 1)
            w[n] = (kept - rate * change).requires_grad_()
    return trace


def write(name, case):
    c = {**SHAPE, 'routing': case['routing'], 'experts': case['experts']}
    generator = torch.Generator().manual_seed(case['seed'])
    w = weights(c, generator)
    draw = lambda *shape: torch.randint(c['vocab_size'], shape, generator=generator, dtype=torch.int32)
    tokens, train = draw(BATCH, c['sequence_length'] + 1), draw(STEPS, BATCH, c['sequence_length'] + 1)
    lm, total, logits, out = losses(w, c, tokens)
    g = gradients(w, total)
    tensors = {'tokens': tokens, 'train_tokens': train, 'logits_topk': logits.detach()}
    for j, rows in enumerate(out['selected'].values()): tensors[f'selected.{j}'] = torch.stack(rows).int()
    for i, rows in out['counts'].items(): tensors[f'expert_counts.{i}'] = torch.tensor(rows, dtype=torch.float64).T
    expected = {'loss_lm': lm.item(), 'loss_total': total.item(), 'loss_balance': out['balance'].item()}
    for mode in ['predictor', 'threshold'] if c['routing'] else []:
        causal, parts = forward(w, c, tokens[:, :-1], mode)
        tensors[f'logits_{mode}'] = causal.detach()
        expected[f'participation_{mode}'] = [sum(rows) / BATCH for rows in parts['part'].values()]
    expected['grad_norm'] = global_norm(g)
    expected['ten_steps_adamw_lr1e-3_wd0.1_clip1'] = ten_steps(w, c, train)
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    stored = lambda t: (t.float() if t.dtype == torch.float64 else t).contiguous()
    save_file({n: stored(t) for n, t in {**tensors, **{f'grad.{n}': t for n, t in g.items()}}.items()}, folder / 'tensors.safetensors')
    save_file({n: stored(t.detach()) for n, t in w.items()}, folder / 'weights.safetensors')
    (folder / 'config.json').write_text(json.dumps({'format': 'mod-checkpoint-1', 'model': c}, indent=1) + '\n')
    (folder / 'expected.json').write_text(json.dumps(expected, indent=1) + '\n')
    print(name, expected['loss_lm'], {i: torch.tensor(rows).sum(0).tolist() for i, rows in out['counts'].items()})


if __name__ == '__main__':
    for name, case in CASES.items(): write(name, case)
