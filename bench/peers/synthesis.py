"""What PyTorch takes for the synthesis of one step at CIFAR-10's sizes, all classes batched, float32.

    python synthesis.py [--precision fp32] [--threads N] [--rounds R]

For each of 10 classes a ring of 1,000 rows of 512: the 300th-nearest distance of every row, two of
the 200 farthest rows, 600 shared noise vectors around each, the 200 of them farthest from the
normalised ring.  Prints one JSON line.
"""
import torch
import torch.nn.functional as F

from knn import measure

CLASSES, RING, DIM, K = 10, 1000, 512, 300
SELECT, PICK, NOISE, KEEP, SIGMA = 200, 2, 600, 200, 0.1


def kth_distance(queries, rows):
    cosines = torch.bmm(queries, rows.transpose(1, 2))
    return 2 - 2 * cosines.topk(K, dim=2).values[..., -1]


def prepare():
    torch.manual_seed(0)
    ring = torch.randn(CLASSES, RING, DIM)
    each_class = torch.arange(CLASSES)[:, None]

    def step():
        unit = F.normalize(ring, dim=2)
        farthest = kth_distance(unit, unit).topk(SELECT, dim=1).indices
        drawn = torch.rand(CLASSES, SELECT).argsort(dim=1)[:, :PICK]
        centres = ring[each_class, farthest.gather(1, drawn)]
        noise = SIGMA * torch.randn(NOISE, DIM)
        candidates = (centres[:, :, None] + noise).reshape(CLASSES, PICK * NOISE, DIM)
        distance = kth_distance(F.normalize(candidates, dim=2), unit)
        kept = distance.view(CLASSES, PICK, NOISE).topk(KEEP, dim=2).indices
        kept = kept + torch.arange(PICK)[None, :, None] * NOISE
        return candidates[each_class, kept.view(CLASSES, PICK * KEEP)]

    return step


if __name__ == "__main__":
    measure("synthesis", prepare)
