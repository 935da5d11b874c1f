"""Golden files of the synthesis: NPOS with given noise and picks, and VOS' fit, in float64.

    python tests/golden/synthesis.py      writes tests/golden/synthesis_*.npy

NPOS case: desc = (k, select, pick, noise, keep, sigma, authors), ring [classes][ring][dim], noise,
picks; out: boundary [classes][pick], outliers [classes*pick*keep][dim].
VOS: ring, mean [classes][dim], covariance [dim][dim] with 1e-4 on its diagonal, factor (Cholesky),
eps [draws][dim] standard normals, order [classes][draws]: draws from the least likely by torch's
own log_prob of mean + factor eps.
"""
import os

import numpy as np
import torch
import torch.nn.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))


def save(name, array, dtype):
    np.save(f"{HERE}/synthesis_{name}.npy", np.ascontiguousarray(array, dtype=dtype))


def kth(queries, bank, k, absent):
    distance = ((queries[:, None] - bank[None]) ** 2).sum(-1)
    distance[:, absent] = np.inf
    return distance.sort(1).values[:, k - 1]


def falling(values):
    return sorted(range(len(values)), key=lambda i: (-round(values[i].item(), 12), i))


def synthesise(ring, noise, picks, k, select, pick, keep, sigma, authors):
    boundary, outliers = [], []
    for rows, ranks in zip(ring, picks):
        zero = (rows == 0).all(1)
        absent = zero & authors
        unit = F.normalize(rows, dim=1)
        own = kth(unit, unit, k, absent)
        own[absent] = np.inf
        chosen = [falling(own)[:select][rank] for rank in ranks]
        candidates = [rows[b] + sigma * noise for b in chosen]
        distance = torch.cat([kth(F.normalize(v, dim=1), unit, k, absent) for v in candidates])
        by_row = distance.view(-1, pick).T if authors else distance.view(pick, -1)
        boundary.append(chosen)
        for v, d in zip(candidates, by_row):
            outliers.append(v[falling(d)[:keep]])
    return np.array(boundary), torch.cat(outliers)


def main():
    torch.manual_seed(5)
    cases = {"plain": (3, 40, 24, 6, 12, 2, 30, 5, 0.1, 0, 0, 0),
             "one": (2, 20, 16, 5, 5, 1, 20, 1, 0.1, 0, 0, 0),
             "single": (1, 4, 8, 4, 1, 1, 1, 1, 0.3, 0, 0, 0),
             "ties": (2, 24, 16, 5, 12, 3, 16, 4, 0.2, 0, 1, 0),
             "zeros": (2, 24, 16, 4, 10, 2, 16, 4, 0.1, 0, 0, 1),
             "authors": (3, 40, 24, 6, 12, 2, 30, 5, 0.1, 1, 0, 1)}
    for name, (classes, size, dim, k, select, pick, count, keep, sigma, authors, ties,
               zeros) in cases.items():
        ring = torch.randn(classes, size, dim)
        ring[:, :, 0] += 2
        if ties:  # every row twice: each pair has one distance, the lower row comes first
            ring[:, size // 2:] = ring[:, :size // 2]
        if zeros:
            ring[:, 3::9] = 0
        noise = torch.randn(count, dim)
        if ties:
            noise[count // 2:] = noise[:count // 2]
        picks = np.stack([np.random.default_rng(c).permutation(select)[:pick]
                          for c in range(classes)])
        boundary, outliers = synthesise(ring.double(), noise.double(), picks, k, select, pick, keep,
                                        sigma, bool(authors))
        save(f"{name}_desc", [k, select, pick, count, keep, sigma, authors], np.float64)
        save(f"{name}_ring", ring, np.float32)
        save(f"{name}_noise", noise, np.float32)
        save(f"{name}_picks", picks, np.int32)
        save(f"{name}_boundary", boundary, np.int32)
        save(f"{name}_outliers", outliers, np.float64)


main()
