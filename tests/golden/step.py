"""Golden truth of the training step: PyTorch computes in float64 what tests/ood/test_step_golden.c computes with npos.

    python tests/golden/step.py            writes tests/golden/step/{start,npos,kin,variants}.safetensors

The network is resnet-small (width 8, 3x3 stem, 3 channels, side 16), the step that of the method: 8 images in two
views, 3 classes.  Views, noise and ring rows come from an integer hash that the C test repeats (hash32); what
needs a file: the starting values, the picks, the state after one step, the losses of ten.  float64 throughout, so that the file's
own error is far below the tolerance; --margins prints how far the discrete choices are from a tie.
"""
import json
import os
import struct
import sys

import numpy as np
import torch
import torch.nn.functional as F

N, BATCH, CLASSES, SIDE, DIM, PROJ, HEAD = 16, 8, 3, 16, 32, 16, 8
RING, K, SELECT, PICK, NOISE, KEEP, SIGMA = 12, 5, 6, 2, 20, 3, 0.1
TAU, PROTO_M, W_DISP, W_COMP, ALPHA = 0.1, 0.95, 0.5, 1.0, 0.1
LR, HEAD_LR, MOMENTUM, DECAY = 0.002, 0.05, 0.9, 5e-3
STEPS, OPEN_FROM = 10, 2
LABELS = [0, 1, 2, 0, 1, 2, 0, 0] * 2
SEED, VOS_DRAWS, VOS_KEEP = 1, 50, 4
COUNTS = [12, 17, 30]
ZERO_ROW = 11  # of every class under compat authors: a row of the emptied queue that no push of the step reaches
VARIANTS = {"authors": {"authors": True}, "clip": {"clip": 2.0}, "feature": {"feature": 24},
            "bare": {"projection": False}, "imagenet": {"feature": 24, "projection": False}}


def hash32(stream, count):
    """count float32 in [-2, 2), exact: steps of 2^-22."""
    i = np.arange(count, dtype=np.uint64) + np.uint64(stream) * np.uint64(1000003) + np.uint64(1)
    u = (i * np.uint64(2654435761)) & np.uint64(0xFFFFFFFF)
    u ^= u >> np.uint64(15)
    u = (u * np.uint64(2246822519)) & np.uint64(0xFFFFFFFF)
    u ^= u >> np.uint64(13)
    return ((u >> np.uint64(8)).astype(np.float64) * 2.0 ** -22 - 2.0).astype(np.float32)


def views(step):
    """Hash noise; the channel that is the label's number is lifted by 1."""
    x = hash32(100 + step, N * 3 * SIDE * SIDE).reshape(N, 3, SIDE, SIDE)
    for i, label in enumerate(LABELS):
        x[i, label] += 1.0
    return torch.tensor(x, dtype=torch.float64)


def noise(step, dim):
    return torch.tensor(hash32(200 + step, NOISE * dim).reshape(NOISE, dim), dtype=torch.float64)


def choose(step, c, ranked, authors):
    """PICK ranks of class c.  Rows that are each other's k-th neighbour are exactly as far: ranks next to such a tie are
    passed over, since rounding may swap them.  For the authors' code the zero row, infinitely far, is picked too."""
    free = [r for r in range(SELECT) if all(abs(ranked[r] - ranked[o]) > 1e-3 * ranked[r] for o in (r - 1, r + 1) if o >= 0)]
    assert len(free) >= PICK, f"step {step}, class {c}: only ranks {free} are untied"
    if authors:
        return [0, free[1 + c % (len(free) - 1)]]
    first = (step + 2 * c + 1) % len(free)
    second = (first + 1 + (step + c) % (len(free) - 1)) % len(free)
    return [free[first], free[second]]


# ---- the model: names of torchvision's ResNet --------------------------------------------------------------------

BLOCKS = [("layer1.0", 8, 8, 1), ("layer2.0", 8, 16, 2), ("layer3.0", 16, 32, 2)]


def shapes(classifier, dim=DIM, projection=True):
    out = {}

    def unit(conv, norm, c, out_c, kernel):
        out[f"encoder.{conv}.weight"] = (out_c, c, kernel, kernel)
        for end in ("weight", "bias", "running_mean", "running_var"):
            out[f"encoder.{norm}.{end}"] = (out_c,)

    def linear(name, c, out_c):
        out[f"{name}.weight"] = (out_c, c)
        out[f"{name}.bias"] = (out_c,)

    unit("conv1", "bn1", 3, 8, 3)
    for name, c, out_c, stride in BLOCKS:
        if stride != 1:
            unit(f"{name}.downsample.0", f"{name}.downsample.1", c, out_c, 1)
        unit(f"{name}.conv1", f"{name}.bn1", c, out_c, 3)
        unit(f"{name}.conv2", f"{name}.bn2", out_c, out_c, 3)
    if dim != DIM:
        linear("encoder.feature", DIM, dim)
    if projection:
        linear("head.0", dim, dim)
        linear("head.2", dim, PROJ)
    linear("phi.0", dim, HEAD)
    linear("phi.2", HEAD, 1)
    if classifier:
        linear("fc", DIM, CLASSES)
    return out


def start_values(all_shapes, proj):
    """float32 values that exercise every term: no scale is 1, no shift is 0."""
    out = {}
    for i, (name, shape) in enumerate(all_shapes.items()):
        count = int(np.prod(shape))
        u = hash32(300 + i, count).astype(np.float64).reshape(shape)  # deviation 2/sqrt(3)
        if len(shape) == 4:
            u *= np.sqrt(1.5 / (shape[0] * shape[2] * shape[3]))
        elif len(shape) == 2:
            u *= 0.5 / np.sqrt(shape[1])
        elif name.endswith("running_var"):
            u = 1.0 + 0.25 * u
        elif name.endswith("weight"):
            u = 1.0 + 0.2 * u
        else:
            u *= 0.1
        out[name] = u.astype(np.float32)
    mu = hash32(400, CLASSES * proj).astype(np.float64).reshape(CLASSES, proj)
    out["mu"] = (mu / np.linalg.norm(mu, axis=1, keepdims=True)).astype(np.float32)
    return out


def start_rings(dim):
    return 0.6 + 0.25 * torch.tensor(hash32(500, CLASSES * RING * dim).reshape(CLASSES, RING, dim), dtype=torch.float64)


class State:
    def __init__(self, method, feature=0, projection=True, authors=False, clip=0.0):
        self.method, self.authors, self.clip = method, authors, clip
        self.dim = feature or DIM
        self.projection = projection
        start = start_values(shapes(True, self.dim, projection), PROJ if projection else self.dim)
        self.start = dict(start)
        self.mu = torch.tensor(start.pop("mu"), dtype=torch.float64)
        used = shapes(method == "ce", self.dim, projection)
        drop = {"ce": ("head.", "phi."), "cider": ("phi.",), "npos": (), "vos": ()}[method]
        self.values = {n: torch.tensor(start[n], dtype=torch.float64) for n in used if not n.startswith(drop or "-")}
        self.train = [n for n in self.values if "running" not in n]
        self.velocity = {n: torch.zeros_like(self.values[n]) for n in self.train}
        self.ring = start_rings(self.dim).float().double()
        if authors:
            self.ring[:, ZERO_ROW] = 0
        self.count = list(COUNTS)

    def unit(self, x, conv, norm, stride):
        v = self.values
        weight = v[f"encoder.{conv}.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2)
        return F.batch_norm(x, v[f"encoder.{norm}.running_mean"], v[f"encoder.{norm}.running_var"],
                            v[f"encoder.{norm}.weight"], v[f"encoder.{norm}.bias"], True, 0.1, 1e-5)

    def encoder(self, x):
        x = F.relu(self.unit(x, "conv1", "bn1", 1))
        for name, _, _, stride in BLOCKS:
            side = self.unit(x, f"{name}.downsample.0", f"{name}.downsample.1", stride) if stride != 1 else x
            y = F.relu(self.unit(x, f"{name}.conv1", f"{name}.bn1", stride))
            x = F.relu(self.unit(y, f"{name}.conv2", f"{name}.bn2", 1) + side)
        x = x.mean((2, 3))
        return x if self.dim == DIM else F.relu(self.linear("encoder.feature", x))

    def project(self, h):
        return F.normalize(self.linear("head.2", F.relu(self.linear("head.0", h))) if self.projection else h, dim=1)

    def linear(self, name, x):
        return F.linear(x, self.values[f"{name}.weight"], self.values[f"{name}.bias"])


def kth(rows, ring, authors):
    """Squared distances of unit rows to their K-th nearest of the ring's; the authors' zero rows are far from everything."""
    far = torch.cdist(rows, ring, compute_mode="donot_use_mm_for_euclid_dist").square()
    if authors:
        far[:, (ring == 0).all(1)] = float("inf")
        far[(rows == 0).all(1)] = float("inf")
    return far.sort(1).values[:, K - 1]


def synthesise(ring, step, margins, authors):
    """The method's four steps; per class: boundary rows and kept candidates, farthest first."""
    outliers, boundary, picks = [], [], []
    eps = noise(step, ring.shape[2]).to(ring.dtype)
    sigma = float(np.float32(SIGMA))
    for c in range(CLASSES):
        unit = F.normalize(ring[c], dim=1)
        own = kth(unit, unit, authors)
        order = torch.argsort(own, descending=True, stable=True)
        picked = choose(step, c, own[order].tolist(), authors)
        picks.append(picked)
        rows = order[picked]
        boundary += rows.tolist()
        v = ring[c, rows][:, None] + sigma * eps  # [PICK][NOISE][dim]
        far = torch.stack([kth(F.normalize(u, dim=1), unit, authors) for u in v])
        if authors:  # their (PICK, NOISE) distances, read as if they lay (NOISE, PICK)
            far = far.reshape(NOISE, PICK).T
        for b in range(PICK):
            best = torch.argsort(far[b], descending=True, stable=True)
            ranked = far[b][best]
            margins.append(((ranked[:KEEP] - ranked[1:KEEP + 1]) / ranked[:KEEP]).min().item())
            outliers.append(v[b, best[:KEEP]])
    return torch.cat(outliers), boundary, picks


def philox(seed, purpose, step, item, index):
    """src/base/philox.h: four words of stream (seed, purpose, step, item)."""
    mask = 0xFFFFFFFF
    c = [index, item, step & mask, step >> 32]
    k0, k1 = seed & mask, (seed >> 32) ^ (purpose * 0x9E3779B1 & mask)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k0, p1 & mask, (p0 >> 32) ^ c[3] ^ k1, p0 & mask]
        k0, k1 = (k0 + 0x9E3779B9) & mask, (k1 + 0xBB67AE85) & mask
    return c


def normals(purpose, step, item, count):
    out = []
    for index in range(0, count, 4):
        words = philox(SEED, purpose, step, item, index // 4)
        for a, b in (words[:2], words[2:]):
            radius = np.sqrt(-2.0 * np.log(((a >> 8) + 1.0) * 2.0 ** -24))
            angle = 2.0 * np.pi * (b >> 8) * 2.0 ** -24
            out += [radius * np.cos(angle), radius * np.sin(angle)]
    return out[:count]


def draw_gaussians(ring, step, margins):
    """VOS: per class N(mean of its ring, S + 1e-4 I), S over all classes; the VOS_KEEP least likely of VOS_DRAWS."""
    mean = ring.mean(1)
    centred = (ring - mean[:, None]).reshape(-1, DIM)
    root = torch.linalg.cholesky(centred.T @ centred / len(centred) + 1e-4 * torch.eye(DIM, dtype=torch.float64))
    outliers = []
    for c in range(CLASSES):
        draws = range(c * VOS_DRAWS, (c + 1) * VOS_DRAWS)
        eps = torch.tensor([normals(6, step, item, DIM) for item in draws], dtype=torch.float64)
        length = eps.square().sum(1)  # x = mean + root eps has log-likelihood const - |eps|^2 / 2
        order = torch.argsort(length, descending=True, stable=True)
        ranked = length[order]
        margins.append(((ranked[:VOS_KEEP] - ranked[1:VOS_KEEP + 1]) / ranked[:VOS_KEEP]).min().item())
        outliers.append(mean[c] + eps[order[:VOS_KEEP]] @ root.T)
    return torch.cat(outliers)


def one_step(s, step, opened, margins):
    for name in s.train:
        s.values[name] = s.values[name].detach().requires_grad_(True)
    h = s.encoder(views(step))
    labels = torch.tensor(LABELS)
    out = {"h": h.detach()}
    if s.method == "ce":
        loss = out["ce"] = F.cross_entropy(s.linear("fc", h), labels)
    else:
        z = s.project(h)
        m = float(np.float32(PROTO_M))
        tau = float(np.float32(TAU))
        mu = list(s.mu)
        for j, y in enumerate(LABELS):
            mu[y] = F.normalize(m * mu[y] + (1 - m) * z[j], dim=0)
        mu = torch.stack(mu)
        others = ~torch.eye(CLASSES, dtype=torch.bool)
        cosines = (mu @ mu.T / tau)[others].reshape(CLASSES, CLASSES - 1)
        out["disp"] = (torch.logsumexp(cosines, 1) - np.log(CLASSES - 1)).mean()
        out["comp"] = tau / 0.07 * F.cross_entropy(z @ mu.detach().T / tau, labels)
        loss = W_DISP * out["disp"] + W_COMP * out["comp"]
        s.mu = mu.detach()
        out["z"] = z.detach()
    if s.method in ("npos", "vos"):
        for j, y in enumerate(LABELS):
            s.ring[y, s.count[y] % RING] = h[j].detach()
            s.count[y] += 1
        out["open"] = torch.zeros(())
        if opened:
            if s.method == "vos":
                outliers = draw_gaussians(s.ring, step, margins)
            else:
                outliers, out["boundary"], out["picks"] = synthesise(s.ring, step, margins, s.authors)
            out["outliers"] = outliers
            logit = s.linear("phi.2", F.relu(s.linear("phi.0", torch.cat([h, outliers])))).squeeze(1)
            target = torch.cat([torch.ones(N), torch.zeros(len(outliers))]).to(h.dtype)
            out["open"] = F.binary_cross_entropy_with_logits(logit, target)
            loss = loss + float(np.float32(ALPHA)) * out["open"]
    loss.backward()
    out["grads"] = {n: s.values[n].grad for n in s.train if s.values[n].grad is not None}
    out["norm"] = torch.sqrt(sum(g.square().sum() for g in out["grads"].values()))
    if s.clip:
        clipped_update(s, out["grads"])
        return out
    for n, g in out["grads"].items():
        w = s.values[n].detach()
        g = g + float(np.float32(DECAY)) * w
        v = s.velocity[n] = MOMENTUM_32 * s.velocity[n] + g
        rate = float(np.float32(HEAD_LR if n.startswith("phi.") else LR))
        s.values[n] = w - rate * (g + MOMENTUM_32 * v)
    return out


def clipped_update(s, grads):
    """PyTorch's own clipping and SGD."""
    out = {n: s.values[n].detach().clone() for n in grads}
    for n, value in out.items():
        value.grad = grads[n].clone()
    heads = [v for n, v in out.items() if n.startswith("phi.")]
    body = [v for n, v in out.items() if not n.startswith("phi.")]
    torch.nn.utils.clip_grad_norm_(body + heads, s.clip)
    torch.optim.SGD([{"params": body, "lr": LR}, {"params": heads, "lr": HEAD_LR}], lr=LR, momentum=MOMENTUM,
                    weight_decay=DECAY, nesterov=True).step()
    s.values.update(out)


MOMENTUM_32 = float(np.float32(MOMENTUM))


def half_errors(exact):
    """How far PyTorch's own bf16 (encoder under autocast, the rest in float32) is from the exact gradients."""
    s = State("npos")
    s.values = {n: v.float() for n, v in s.values.items()}
    s.velocity = {n: v.float() for n, v in s.velocity.items()}
    s.mu, s.ring = s.mu.float(), s.ring.float()
    encoder = s.encoder

    def half(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return encoder(x.float()).float()

    s.encoder = half
    grads = one_step(s, 0, True, [])["grads"]
    return {n: ((grads[n].double() - g).norm() / g.norm()).item() for n, g in exact.items()}


def write(path, tensors):
    header, at, body = {}, 0, []
    for name, value in tensors.items():
        if isinstance(value, torch.Tensor):
            value = value.detach().numpy()
        value = np.asarray(value)
        value = value.astype("<i4" if value.dtype.kind == "i" else "<f4")
        data = value.tobytes()
        header[name] = {"dtype": "I32" if value.dtype.kind == "i" else "F32", "shape": list(value.shape),
                        "data_offsets": [at, at + len(data)]}
        at += len(data)
        body.append(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(body))


def losses_of(out):
    """In the order of npi_loss; what the step has not is 0."""
    return [float(torch.as_tensor(out.get(n, 0.0)).detach()) for n in ("disp", "comp", "open", "ce", "norm")]


def variants(margins):
    """Starting values only where they are not those of start.safetensors; of gradients and results the small ones."""
    out, base = {}, start_values(shapes(True), PROJ)
    for name, options in VARIANTS.items():
        s = State("npos", **options)
        for n, v in s.start.items():
            if not n.startswith("fc.") and (n not in base or not np.array_equal(base[n], v)):
                out[f"{name}.start.{n}"] = v
        step = one_step(s, 0, True, margins)
        out[f"{name}.losses"] = np.array(losses_of(step))
        for n in ("picks", "boundary", "outliers", "z"):
            out[f"{name}.{n}"] = torch.as_tensor(step[n])
        out[f"{name}.mu"] = s.mu
        for n, g in step["grads"].items():
            if g.numel() <= 300 or n.startswith("encoder.feature."):
                out[f"{name}.grad.{n}"] = g
        for n in s.train if s.clip else ():
            if s.values[n].numel() <= 300:
                out[f"{name}.after.{n}"] = s.values[n]
    return out


def main():
    torch.manual_seed(0)
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "step")
    os.makedirs(folder, exist_ok=True)
    margins = []
    write(os.path.join(folder, "start.safetensors"), start_values(shapes(True), PROJ))

    s = State("npos")
    out = one_step(s, 0, True, margins)
    file = {"picks": np.array(out["picks"]), "losses": np.array(losses_of(out)), "mu": s.mu, "ring": s.ring, "count": np.array(s.count),
            "h": out["h"], "z": out["z"], "outliers": out["outliers"], "boundary": np.array(out["boundary"])}
    file.update({f"grad.{n}": g for n, g in out["grads"].items()})
    file.update({f"half.{n}": np.array([e]) for n, e in half_errors(out["grads"]).items()})
    file.update({f"after.{n}": v for n, v in s.values.items()})
    s = State("npos")
    rows, picks = [], []
    for i in range(STEPS):
        out = one_step(s, i, i >= OPEN_FROM, margins)
        rows.append(losses_of(out))
        picks.append(out.get("picks", [[0, 1]] * CLASSES))
    file["ten.picks"] = np.array(picks)
    file["ten.losses"] = np.array(rows)
    file["ten.mu"] = s.mu
    file["ten.ring"] = s.ring
    for n in ("encoder.conv1.weight", "encoder.layer3.0.bn2.running_var", "head.2.weight", "phi.0.weight"):
        file[f"ten.{n}"] = s.values[n]
    write(os.path.join(folder, "npos.safetensors"), file)

    kin = {}
    for method in ("cider", "vos", "ce"):
        s = State(method)
        out = one_step(s, 0, method == "vos", margins)
        kin[f"{method}.losses"] = np.array(losses_of(out))
        if method == "vos":
            kin["vos.outliers"] = out["outliers"]
        for n, g in out["grads"].items():
            if g.numel() <= 1200:
                kin[f"{method}.grad.{n}"] = g
    write(os.path.join(folder, "kin.safetensors"), kin)
    write(os.path.join(folder, "variants.safetensors"), variants(margins))
    if "--margins" in sys.argv:
        print("smallest relative gap between a kept candidate and the next: %.3g" % min(margins))
        print(np.array(rows))


if __name__ == "__main__":
    main()
