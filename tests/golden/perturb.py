"""Writes tests/golden/perturb.txt: two small ResNets' logits of images and of images moved by ODIN's
step, by PyTorch's autograd in float64.

    python tests/golden/perturb.py > tests/golden/perturb.txt

Weights and images are hash noise (hash32, as in step.py), so that the file holds results alone:
"CASE plain values...", "CASE moved values..." ([4][5] logits each), "CASE score values..." ([4]).
The names of the parameters, in our order, say what the networks are.
"""

import sys

import numpy as np
import torch
import torch.nn.functional as F

N, CLASSES, WIDTH = 4, 5, 8
EPSILON, TEMPERATURE = 0.0014, 1000.0
STD = (0.25, 0.2, 0.3)
CASES = {"small": {"side": 8, "large": False, "feature": 0},
         "large": {"side": 20, "large": True, "feature": 12}}


def hash32(stream, count):
    i = np.arange(count, dtype=np.uint64) + np.uint64(stream) * np.uint64(1000003) + np.uint64(1)
    u = (i * np.uint64(2654435761)) & np.uint64(0xFFFFFFFF)
    u ^= u >> np.uint64(15)
    u = (u * np.uint64(2246822519)) & np.uint64(0xFFFFFFFF)
    u ^= u >> np.uint64(13)
    return ((u >> np.uint64(8)).astype(np.float64) * 2.0 ** -22 - 2.0).astype(np.float32)


class Net:
    def __init__(self, large, feature):
        self.large, self.feature, self.values, self.count = large, feature, {}, 0
        self.unit_shapes("conv1", "bn1", 3, WIDTH, 7 if large else 3)
        c = WIDTH
        for stage in range(3):  # resnet-small: one basic block a stage
            out = WIDTH << stage
            if stage:
                self.unit_shapes(f"layer{stage + 1}.down", f"layer{stage + 1}.downbn", c, out, 1)
            self.unit_shapes(f"layer{stage + 1}.conv1", f"layer{stage + 1}.bn1", c, out, 3)
            self.unit_shapes(f"layer{stage + 1}.conv2", f"layer{stage + 1}.bn2", out, out, 3)
            c = out
        self.dim = feature or c
        if feature:
            self.linear_shapes("feature", c, feature)
        self.linear_shapes("fc", self.dim, CLASSES)

    def add(self, name, shape):
        u = hash32(300 + self.count, int(np.prod(shape))).astype(np.float64).reshape(shape)
        self.count += 1
        if len(shape) == 4:
            u *= np.sqrt(1.5 / (shape[0] * shape[2] * shape[3]))
        elif len(shape) == 2:
            u *= 2 / np.sqrt(shape[1])
        elif name.endswith("running_var"):
            u = 1.0 + 0.25 * u
        elif name.endswith("weight"):
            u = 1.0 + 0.2 * u
        else:
            u *= 0.1
        self.values[name] = torch.tensor(u.astype(np.float32).astype(np.float64))

    def unit_shapes(self, conv, norm, c, out, kernel):
        self.add(conv + ".weight", (out, c, kernel, kernel))
        for part in ("weight", "bias", "running_mean", "running_var"):
            self.add(f"{norm}.{part}", (out,))

    def linear_shapes(self, name, c, out):
        self.add(name + ".weight", (out, c))
        self.add(name + ".bias", (out,))

    def unit(self, x, conv, norm, stride):
        w = self.values[conv + ".weight"]
        v = [self.values[f"{norm}.{p}"] for p in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(F.conv2d(x, w, stride=stride, padding=w.shape[2] // 2), *v)

    def linear(self, name, x):
        return F.linear(x, self.values[name + ".weight"], self.values[name + ".bias"])

    def __call__(self, x):
        x = F.relu(self.unit(x, "conv1", "bn1", 2 if self.large else 1))
        if self.large:
            x = F.max_pool2d(x, 3, 2, 1)
        for s in (1, 2, 3):
            stride = 1 if s == 1 else 2
            side = self.unit(x, f"layer{s}.down", f"layer{s}.downbn", stride) if s > 1 else x
            y = F.relu(self.unit(x, f"layer{s}.conv1", f"layer{s}.bn1", stride))
            x = F.relu(self.unit(y, f"layer{s}.conv2", f"layer{s}.bn2", 1) + side)
        x = x.mean((2, 3))
        return self.linear("fc", F.relu(self.linear("feature", x)) if self.feature else x)


def show(case, name, values):
    print(case, name, " ".join(f"{v:.17g}" for v in values.detach().reshape(-1).tolist()))


def main():
    for case, settings in CASES.items():
        side = settings["side"]
        net = Net(settings["large"], settings["feature"])
        x = torch.tensor(hash32(100, N * 3 * side * side).astype(np.float64).reshape(N, 3, side, side))
        x.requires_grad_()
        plain = net(x)
        loss = F.cross_entropy(plain / TEMPERATURE, plain.argmax(1), reduction="sum")
        (slope,) = torch.autograd.grad(loss, x)
        step = torch.where(slope >= 0, 1.0, -1.0) / torch.tensor(STD, dtype=torch.float64)[:, None, None]
        moved = net(x - EPSILON * step)
        show(case, "plain", plain)
        show(case, "moved", moved)
        show(case, "score", F.softmax(moved / TEMPERATURE, dim=1).max(1).values)
        print(case, "smallest slope", slope.abs().min().item(), file=sys.stderr)


main()
