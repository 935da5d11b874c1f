"""Golden files of tokens, blocks, layer norm and the cosine losses: PyTorch in float64, its own
nn.MultiheadAttention, nn.LayerNorm and nn.Linear, gradients by autograd.

    python tests/golden/make_blocks.py         writes tests/golden/blocks_*.npy

Block cases: width 16, 2 heads, 3 sequences of 5 rows, MLP of 64; input_x, input_params and input_dz
are shared (first_only takes row 0 of dz); params and grads are flat, in the order of
npi_block_params.  Out of each case: z, dx, grads.
"""
import os

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

HERE = os.path.dirname(os.path.abspath(__file__))
N, T, WIDTH, HEADS, HIDDEN = 3, 5, 16, 2, 64


def save(name, array, dtype=np.float32):
    if isinstance(array, torch.Tensor):
        array = array.detach().numpy()
    np.save(f"{HERE}/blocks_{name}.npy", np.ascontiguousarray(array, dtype=dtype))


def rounded(*shape, scale=1.0):
    """Normal values that float32 holds exactly."""
    return (scale * torch.randn(*shape)).float().double()


class Block(nn.Module):
    def __init__(self, act, causal):
        super().__init__()
        self.ln_1 = nn.LayerNorm(WIDTH)
        self.attn = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.ln_2 = nn.LayerNorm(WIDTH)
        self.fc1, self.fc2 = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        self.act = act
        self.mask = nn.Transformer.generate_square_subsequent_mask(T).double() if causal else None

    def ordered(self):
        return [self.ln_1.weight, self.ln_1.bias, self.attn.in_proj_weight, self.attn.in_proj_bias,
                self.attn.out_proj.weight, self.attn.out_proj.bias, self.ln_2.weight,
                self.ln_2.bias, self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias]

    def forward(self, x):
        u = self.ln_1(x)
        y = x + self.attn(u, u, u, need_weights=False, attn_mask=self.mask)[0]
        return y + self.fc2(self.act(self.fc1(self.ln_2(y))))


def quick_gelu(x):
    return x * torch.sigmoid(1.702 * x)


def flat(tensors):
    return torch.cat([t.reshape(-1) for t in tensors])


def blocks():
    start = rounded(N, T, WIDTH)
    dz = rounded(N, T, WIDTH)
    params = None
    cases = {"whole": (quick_gelu, False, False), "causal": (quick_gelu, True, False),
             "first": (quick_gelu, False, True), "first_causal": (quick_gelu, True, True),
             "gelu": (F.gelu, False, False)}
    for name, (act, causal, first) in cases.items():
        block = Block(act, causal).double()
        if params is None:
            params = [rounded(*p.shape, scale=0.3) for p in block.ordered()]
            for gamma in (params[0], params[6]):
                gamma += 1.0
            params = [p.float().double() for p in params]
        with torch.no_grad():
            for p, value in zip(block.ordered(), params):
                p.copy_(value)
        x = start.clone().requires_grad_()
        z = block(x)
        dz_of = dz
        if first:
            z, dz_of = z[:, :1], dz[:, :1]
        z.backward(dz_of)
        save(f"{name}_z", z)
        save(f"{name}_dx", x.grad)
        save(f"{name}_grads", flat([p.grad for p in block.ordered()]))
    save("input_x", start)
    save("input_dz", dz)
    save("input_params", flat(params))


def embeddings():
    """Images 2 x 3 x 4 x 6 in patches of 2, width 8; texts 2 x 4 of a vocabulary of 7."""
    image, weight = rounded(2, 3, 4, 6), rounded(8, 3, 2, 2, scale=0.3)
    token, positions = rounded(8), rounded(7, 8)
    norm = nn.LayerNorm(8).double()
    with torch.no_grad():
        norm.weight.copy_(rounded(8))
        norm.bias.copy_(rounded(8))
    patches = F.conv2d(image, weight, stride=2).flatten(2).transpose(1, 2)
    rows = torch.cat([token.expand(2, 1, 8), patches], 1) + positions
    for name, value in {"pixels": image, "weight": weight, "class": token, "positions": positions,
                        "gamma": norm.weight, "beta": norm.bias, "tokens": norm(rows)}.items():
        save(f"image_{name}", value)
    ids, table, places = torch.randint(0, 7, (2, 4)), rounded(7, 8), rounded(5, 8)
    save("text_ids", ids, np.int32)
    save("text_table", table)
    save("text_positions", places)
    save("text_tokens", F.embedding(ids, table) + places[:4])


def layer_norm():
    x, dy = (rounded(6, 24) + 2.0).float().double().requires_grad_(), rounded(6, 24)
    norm = nn.LayerNorm(24).double()
    with torch.no_grad():
        norm.weight.copy_(rounded(24))
        norm.bias.copy_(rounded(24))
    y = norm(x)
    y.backward(dy)
    for name, value in {"x": x, "gamma": norm.weight, "beta": norm.bias, "dy": dy, "y": y,
                        "dx": x.grad, "dgamma": norm.weight.grad, "dbeta": norm.bias.grad}.items():
        save(f"norm_{name}", value)


def cosine_losses():
    start = (torch.rand(9, 12) * 2 - 1).float().double()
    labels = torch.randint(0, 12, (9,))
    save("cosines_l", start)
    save("cosines_labels", labels, np.int32)
    for name, divide in {"scaled": lambda l: l / 0.1,
                         "logitnorm": lambda l: l / (l.norm(dim=1, keepdim=True) + 1e-7) / 8,
                         "sharp": lambda l: l / (l.norm(dim=1, keepdim=True) + 1e-7) / 0.04}.items():
        l = start.clone().requires_grad_()
        loss = F.cross_entropy(divide(l), labels)
        loss.backward()
        save(f"{name}_loss", [loss.item()])
        save(f"{name}_dl", l.grad)


def main():
    torch.manual_seed(5)
    blocks()
    embeddings()
    layer_norm()
    cosine_losses()


main()
