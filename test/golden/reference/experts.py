"""Golden cases of models with experts, by an independent PyTorch implementation in float64.

    python experts.py        writes ../moe, ../mode-staged and ../mode-integrated; needs torch and safetensors

Written from the conventions of src/model/config.ts and the papers (Raposo et al. 2024, section 4.3; Fedus et al. 2022,
section 2): slots are assigned token by token in plain loops, gradients are computed by autograd. The tests read the files,
not Python.
"""
import math

import torch
import torch.nn.functional as F

from mod import (GOLDEN, adamw_steps, capacity, draw_tokens, draw_weights, forward, global_norm, gradients, is_routed,
                 lm_loss, participation, save_json, save_tensors)

SHAPE = dict(vocab_size=32, d_model=16, n_layers=2, n_heads=2, d_ff=24, sequence_length=16, tie_embeddings=True)
ROUTING = dict(frequency=2, capacity=0.5, router='learned', gate='raw', aux_loss_weight=0.0, predictor_hidden=8)
EXPERTS = dict(count=3, no_ops=0, capacity_factor=1.0, balance_loss_weight=0.05, balance_no_ops=True)
CASES = {
    'moe': dict(seed=1, routing=None, experts={**EXPERTS, 'count': 4}),
    'mode-staged': dict(seed=2, routing=ROUTING, experts=EXPERTS),
    'mode-integrated': dict(seed=3, routing=None, experts={**EXPERTS, 'no_ops': 2, 'balance_no_ops': False}),
}


def expert_weights(at, c, normal):
    D, FF, e = c['d_model'], c['d_ff'], c['experts']
    yield at + 'router.weight', normal(e['count'] + e['no_ops'], D)
    for j in range(e['count']):
        yield f'{at}experts.{j}.up_proj.weight', normal(FF, D)
        yield f'{at}experts.{j}.down_proj.weight', normal(D, FF)


def slots(c, i):
    e, n = c['experts'], capacity(c) if is_routed(c, i) else c['sequence_length']
    return max(1, min(n, math.ceil(e['capacity_factor'] * n / (e['count'] + e['no_ops']) - 1e-9)))


def experts(h, w, c, i):
    """The MLP of one sequence: h [n, D] → [n, D], and its balance loss, tokens by choice and tokens that each expert processed."""
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
    return torch.stack(rows), (balance, chosen + taken)


def losses(w, c, rows):
    """rows [B, T + 1] → LM loss, the loss whose gradient is taken, logits, balance loss, trace."""
    logits, trace = forward(w, c, rows[:, :-1], mlp=experts)
    lm = lm_loss(logits, rows)
    # A mean over sequences, a sum over blocks.
    balance = sum(loss for records in trace.mlp.values() for loss, _ in records) / len(rows)
    return lm, lm + trace.predictor_loss + c['experts']['balance_loss_weight'] * balance, logits, balance, trace


def write(name, case):
    c = {**SHAPE, 'routing': case['routing'], 'experts': case['experts']}
    generator = torch.Generator().manual_seed(case['seed'])
    w = draw_weights(c, generator, expert_weights)
    tokens, train = draw_tokens(c, generator)
    lm, total, logits, balance, trace = losses(w, c, tokens)
    g = gradients(w, total)
    tensors = {'tokens': tokens, 'train_tokens': train, 'logits_topk': logits}
    for j, rows in enumerate(trace.selected.values()): tensors[f'selected.{j}'] = torch.stack(rows).int()
    for i, records in trace.mlp.items():
        tensors[f'expert_counts.{i}'] = torch.tensor([counts for _, counts in records], dtype=torch.float64).T
    expected = {'loss_lm': lm.item(), 'loss_total': total.item(), 'loss_balance': balance.item()}
    for mode in ['predictor', 'threshold'] if c['routing'] else []:
        tensors[f'logits_{mode}'], causal = forward(w, c, tokens[:, :-1], mode, mlp=experts)
        expected[f'participation_{mode}'] = participation(causal, c['sequence_length'])
    expected['grad_norm'] = global_norm(g)
    expected['ten_steps_adamw_lr1e-3_wd0.1_clip1'] = adamw_steps(w, train, lambda w, rows: losses(w, c, rows))[0]
    folder = GOLDEN / name
    folder.mkdir(exist_ok=True)
    save_tensors({**tensors, **{f'grad.{n}': t for n, t in g.items()}}, folder / 'tensors.safetensors')
    save_tensors(w, folder / 'weights.safetensors')
    save_json({'format': 'mod-checkpoint-1', 'model': c}, folder / 'config.json')
    save_json(expected, folder / 'expected.json')
    print(name, expected['loss_lm'])


if __name__ == '__main__':
    for name, case in CASES.items(): write(name, case)
