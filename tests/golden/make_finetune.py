"""Golden truth of fine-tuning CLIP: transformers' image tower (tests/golden/clip/hf) in float64.

    python tests/golden/make_finetune.py       writes tests/golden/clip/finetune.safetensors

Both blocks, the layer norm behind them and the projection are trained with the outlier head, as
tests/jobs/test_finetune_golden.c does with npos. Tokens, noise, ring rows and the head's start come from step.py's integer
hash; the file has T, the picks, every gradient of one step, the losses of it over plain cosines, and 50 steps' losses.
"""
import os
import re

import numpy as np
import torch
import torch.nn.functional as F
import transformers

import step
from step import CLASSES, MOMENTUM_32, RING, hash32

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "clip")
N, FEW, ROWS, WIDTH, DIM, HEAD = 16, 11, 10, 32, 24, 8
STEPS, OPEN_FROM, ALPHA, DECAY, LR, HEAD_LR = 50, 10, 0.1, 1e-4, 0.1, 0.01


def f32(x):
    return float(np.float32(x))


def tokens(number, n):
    """Half precision, as a store of tokens keeps them; a row of each sequence tells its class."""
    x = hash32(600 + number, N * ROWS * WIDTH).reshape(N, ROWS, WIDTH) * np.float32(0.5)
    for i, label in enumerate(step.LABELS):
        x[i, 3, label] += np.float32(2)
    return torch.tensor(x.astype(np.float16).astype(np.float64))[:n]


class State:
    def __init__(self):
        model = transformers.CLIPModel.from_pretrained(f"{HERE}/hf").double()
        self.layers = model.vision_model.encoder.layers
        self.norm, self.projection = model.vision_model.post_layernorm, model.visual_projection
        self.values = {n: p for n, p in model.named_parameters()
                       if n.startswith(("vision_model.encoder.", "vision_model.post_layernorm.", "visual_projection."))}
        for i, (name, shape) in enumerate({"phi.0.weight": (HEAD, DIM), "phi.0.bias": (HEAD,), "phi.2.weight": (1, HEAD),
                                           "phi.2.bias": (1,)}.items()):
            start = hash32(700 + i, int(np.prod(shape))).reshape(shape) * np.float32(0.25)
            self.values[name] = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
        heads = [p for n, p in self.values.items() if n.startswith("phi.")]
        body = [p for n, p in self.values.items() if not n.startswith("phi.")]
        groups = [{"params": body, "lr": f32(LR)}, {"params": heads, "lr": f32(HEAD_LR)}]
        self.sgd = torch.optim.SGD(groups, lr=f32(LR), momentum=MOMENTUM_32, weight_decay=f32(DECAY), nesterov=True)
        self.ring, self.count = step.start_rings(DIM).float().double(), list(step.COUNTS)
        self.text = F.normalize(torch.tensor(hash32(800, CLASSES * DIM).reshape(CLASSES, DIM), dtype=torch.float64), dim=1)
        self.text = self.text.float().double()

    def embed(self, x):
        for layer in self.layers:
            x = layer(x, None)
            x = x[0] if isinstance(x, tuple) else x
        return self.projection(self.norm(x[:, 0]))

    def phi(self, h):
        v = self.values
        return F.linear(F.relu(F.linear(h, v["phi.0.weight"], v["phi.0.bias"])), v["phi.2.weight"], v["phi.2.bias"])[:, 0]


def one_step(s, number, opened, margins, n=N, plain=False):
    s.sgd.zero_grad()
    labels = torch.tensor(step.LABELS[:n])
    h = s.embed(tokens(number, n))
    l = F.normalize(h, dim=1) @ s.text.T
    logits = l / f32(0.1) if plain else l / (l.norm(dim=1, keepdim=True) + 1e-7) / 8
    out = {"h": h.detach(), "ce": F.cross_entropy(logits, labels)}
    loss = out["ce"]
    for j, y in enumerate(labels.tolist()):
        s.ring[y, s.count[y] % RING] = h[j].detach()
        s.count[y] += 1
    if opened:
        outliers, _, out["picks"] = step.synthesise(s.ring, number, margins, False)
        target = torch.cat([torch.ones(n), torch.zeros(len(outliers))]).double()
        out["open"] = F.binary_cross_entropy_with_logits(s.phi(torch.cat([h, outliers])), target)
        loss = loss + f32(ALPHA) * out["open"]
    loss.backward()
    out["grads"] = {k: v.grad.clone() for k, v in s.values.items() if v.grad is not None}
    out["norm"] = torch.sqrt(sum(g.square().sum() for g in out["grads"].values()))
    s.sgd.step()
    return out


def own_names(tensors):
    """Queries, keys and values stacked."""
    out = {}
    for name, value in tensors.items():
        part = re.match(r"(.*\.self_attn\.)([qkv])_proj\.(.*)", name)
        name = f"{part[1]}qkv_proj.{part[3]}" if part else name
        out.setdefault(name, {})[part[2] if part else ""] = value
    return {k: torch.cat([v["q"], v["k"], v["v"]]) if "q" in v else v[""] for k, v in out.items()}


def main():
    margins = []
    s = State()
    out = one_step(s, 0, True, margins)
    file = {"text": s.text, "h": out["h"], "picks": np.array(out["picks"]), "losses": np.array(step.losses_of(out))}
    file.update({f"grad.{n}": g for n, g in own_names(out["grads"]).items()})
    file["plain.losses"] = np.array(step.losses_of(one_step(State(), 0, False, margins, plain=True)))
    s, rows, picks = State(), [], []
    for i in range(STEPS):
        out = one_step(s, i, i >= OPEN_FROM, margins, FEW if i % 7 == 6 else N)
        rows.append(step.losses_of(out))
        picks.append(out.get("picks", [[0, 1]] * CLASSES))
    file["curve.losses"], file["curve.picks"], file["curve.ring"] = np.array(rows), np.array(picks), s.ring
    for n in ("visual_projection.weight", "vision_model.post_layernorm.bias", "phi.0.weight"):
        file[f"curve.{n}"] = s.values[n]
    step.write(f"{HERE}/finetune.safetensors", file)
    print(f"smallest gap between a kept candidate and the next: {min(margins):.2g}")
    print(np.array(rows)[::7])


if __name__ == "__main__":
    main()
