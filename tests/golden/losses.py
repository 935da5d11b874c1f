"""Golden files of the losses: PyTorch in float64, gradients by autograd.

    python tests/golden/losses.py         writes tests/golden/losses_*.npy

Case a, b, c: z [n][dim], mu [classes][dim], labels [n] (-1 where a sample has none), desc =
(momentum, tau, disp_weight, comp_weight); out: new prototypes, (L_disp, L_comp), dz.  ce and bce:
logits, labels or (n_in,), loss, dlogits.
"""
import os

import numpy as np
import torch
import torch.nn.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))


def save(name, array, dtype=np.float64):
    np.save(f"{HERE}/losses_{name}.npy", np.ascontiguousarray(array, dtype=dtype))


def contrast(z, mu, labels, momentum, tau, disp_weight, comp_weight):
    rows = list(mu)
    for sample, label in zip(z, labels.tolist()):
        if label >= 0:
            rows[label] = F.normalize(momentum * rows[label] + (1 - momentum) * sample, dim=0)
    new = torch.stack(rows)
    classes = len(rows)
    exps = torch.exp(new @ new.T / tau) * (1 - torch.eye(classes, dtype=new.dtype))
    disp = torch.log(exps.sum(1) / (classes - 1)).mean()
    there = labels >= 0
    comp = tau / 0.07 * F.cross_entropy(z[there] @ new.detach().T / tau, labels[there])
    (disp_weight * disp + comp_weight * comp).backward()
    return new.detach(), torch.stack([disp.detach(), comp.detach()])


def main():
    torch.manual_seed(3)
    cases = {"a": (60, 10, 128, 0.95, 0.1, 0.5, 1.0, False),
             "b": (40, 3, 16, 0.5, 0.1, 0.5, 1.0, True),
             "c": (25, 2, 5, 0.9, 0.2, 2.0, 0.3, True)}
    for name, (n, classes, dim, *desc, none) in cases.items():
        z = F.normalize(torch.randn(n, dim), dim=1).double().requires_grad_()
        mu = F.normalize(torch.randn(classes, dim), dim=1).double()
        labels = torch.randint(0, classes, (n,))
        if none:
            labels[::5] = -1
        save(f"{name}_z", z.detach(), np.float32)
        save(f"{name}_mu", mu, np.float32)
        save(f"{name}_labels", labels, np.int32)
        save(f"{name}_desc", desc)
        new, losses = contrast(z, mu, labels, *desc)
        save(f"{name}_new", new)
        save(f"{name}_losses", losses)
        save(f"{name}_dz", z.grad)
    logits = (3 * torch.randn(17, 10)).double().requires_grad_()
    labels = torch.randint(0, 10, (17,))
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    save("ce_logits", logits.detach(), np.float32)
    save("ce_labels", labels, np.int32)
    save("ce_losses", [loss.item()])
    save("ce_dlogits", logits.grad)
    logits = (4 * torch.randn(50)).double().requires_grad_()
    target = (torch.arange(50) < 20).double()
    loss = F.binary_cross_entropy_with_logits(logits, target)
    loss.backward()
    save("bce_logits", logits.detach(), np.float32)
    save("bce_losses", [loss.item()])
    save("bce_dlogits", logits.grad)


main()
