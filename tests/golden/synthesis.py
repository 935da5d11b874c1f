"""Golden files of the synthesis: NPOS with given noise and picks, and VOS' fit, in float64.

    python tests/golden/synthesis.py      writes tests/golden/synthesis_*.npy

NPOS case: desc = (k, select, pick, noise, keep, sigma, authors), ring [classes][ring][dim], noise,
picks; out: boundary [classes][pick], outliers [classes*pick*keep][dim].
The case `drawn` has noise and picks drawn by Philox (seed 12345, step 7) as tensor/device.h says.
VOS: desc = (draws, keep), ring, outliers [classes*keep][dim]: draws by Philox (same seed and step),
ranked by torch's log_prob under the class's Gaussian, covariance with 1e-4 on its diagonal.
"""
import os

import numpy as np
import torch
import torch.nn.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))


def save(name, array, dtype):
    np.save(f"{HERE}/synthesis_{name}.npy", np.ascontiguousarray(array, dtype=dtype))


SEED, STEP, BOUNDARY, NOISE, GAUSS = 12345, 7, 4, 5, 6


def philox(purpose, item, index):
    """Philox-4x32-10 with base/philox.h's counter and key."""
    mask = 0xFFFFFFFF
    c = [index, item, STEP & mask, STEP >> 32]
    k = [SEED & mask, (SEED >> 32) ^ (purpose * 0x9E3779B1 & mask)]
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & mask, (p0 >> 32) ^ c[3] ^ k[1], p0 & mask]
        k = [(k[0] + 0x9E3779B9) & mask, (k[1] + 0xBB67AE85) & mask]
    return c


def normals(purpose, item, dim):
    row = []
    for index in range((dim + 3) // 4):
        words = philox(purpose, item, index)
        for a, b in (words[:2], words[2:]):
            radius = np.sqrt(-2 * np.log(((a >> 8) + 1) * 2.0**-24))
            angle = 2 * np.pi * (b >> 8) * 2.0**-24
            row += [radius * np.cos(angle), radius * np.sin(angle)]
    return row[:dim]


def drawn_picks(classes, select, pick):
    picks = []
    for c in range(classes):
        order = list(range(select))
        for j in range(pick):
            other = j + (philox(BOUNDARY, c, j)[0] * (select - j) >> 32)
            order[j], order[other] = order[other], order[j]
        picks.append(order[:pick])
    return np.array(picks)


def vos(ring, draws, keep):
    classes, size, dim = ring.shape
    mean = ring.mean(1)
    centred = (ring - mean[:, None]).reshape(-1, dim)
    covariance = centred.T @ centred / (classes * size) + 1e-4 * torch.eye(dim)
    factor = torch.linalg.cholesky(covariance)
    kept = []
    for c in range(classes):
        eps = torch.tensor([normals(GAUSS, c * draws + s, dim) for s in range(draws)])
        points = mean[c] + eps @ factor.T
        gauss = torch.distributions.MultivariateNormal(mean[c], covariance)
        kept.append(points[falling(-gauss.log_prob(points))[:keep]])
    return torch.cat(kept)


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
             "drawn": (3, 32, 18, 6, 10, 3, 25, 6, 0.1, 0, 0, 0),
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
        if name == "drawn":
            noise = torch.tensor([normals(NOISE, l, dim) for l in range(count)])
            picks = drawn_picks(classes, select, pick)
        boundary, outliers = synthesise(ring.double(), noise.double(), picks, k, select, pick, keep,
                                        sigma, bool(authors))
        save(f"{name}_desc", [k, select, pick, count, keep, sigma, authors], np.float64)
        save(f"{name}_ring", ring, np.float32)
        save(f"{name}_noise", noise, np.float32)
        save(f"{name}_picks", picks, np.int32)
        save(f"{name}_boundary", boundary, np.int32)
        save(f"{name}_outliers", outliers, np.float64)
    ring = torch.randn(3, 30, 10) + 1
    save("vos_desc", [50, 4], np.float64)
    save("vos_ring", ring, np.float32)
    save("vos_outliers", vos(ring.double(), 50, 4), np.float64)


main()
