"""Writes tests/golden/detectors.txt: a small model's outputs and what scikit-learn, SciPy and NumPy
make of them.

    python tests/golden/detectors.py > tests/golden/detectors.txt

The file: "sizes bank queries dim proj classes", then "NAME count values..." for each array:
the inputs bank, labels, h, z, prototypes, logits (float32 values), and the results knn_1, knn_7,
knn_60, prototype, msp, maxlogit, energy, vote, vote_share, nearest, nearest_share,
argmax.
"""

import numpy as np
from scipy.special import logsumexp, softmax
from sklearn.neighbors import NearestNeighbors

BANK, QUERIES, DIM, PROJ, CLASSES = 60, 25, 16, 8, 4


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def show(name, values):
    values = np.asarray(values, dtype=np.float64).reshape(-1)
    print(name, len(values), " ".join(f"{v:.17g}" for v in values))


def main():
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(CLASSES, DIM))
    labels = rng.integers(0, CLASSES, BANK)
    bank = (centres[labels] * 2 + rng.normal(size=(BANK, DIM))).astype(np.float32)
    bank[17] = bank[4] * np.float32(2)  # the same direction twice: a tie
    h = (centres[rng.integers(0, CLASSES, QUERIES)] + rng.normal(size=(QUERIES, DIM)))
    h = h.astype(np.float32)
    z = unit(rng.normal(size=(QUERIES, PROJ))).astype(np.float32)
    prototypes = unit(rng.normal(size=(CLASSES, PROJ))).astype(np.float32)
    logits = (rng.normal(size=(QUERIES, CLASSES)) * 20).astype(np.float32)
    logits[3] = [1000, 999, -1000, 0]
    logits[4] = [-1000, -1000, -1000, -1000]
    print("sizes", BANK, QUERIES, DIM, PROJ, CLASSES)
    for name, x in (("bank", bank), ("labels", labels), ("h", h), ("z", z),
                    ("prototypes", prototypes), ("logits", logits)):
        show(name, x)
    search = NearestNeighbors(n_neighbors=BANK, algorithm="brute")
    search.fit(unit(bank.astype(np.float64)))
    distance, index = search.kneighbors(unit(h.astype(np.float64)))
    for k in (1, 7, BANK):
        show(f"knn_{k}", -distance[:, k - 1] ** 2)
    cosine = z.astype(np.float64) @ prototypes.astype(np.float64).T
    wide = logits.astype(np.float64)
    show("prototype", cosine.max(1))
    show("msp", softmax(wide, axis=1).max(1))
    show("maxlogit", wide.max(1))
    show("energy", logsumexp(wide, axis=1))
    winners, shares = [], []
    for row in index[:, :50]:
        votes = np.bincount(labels[row], minlength=CLASSES)
        tied = np.flatnonzero(votes == votes.max())
        winners.append(next(label for label in labels[row] if label in tied))
        shares.append(votes.max() / 50)
    show("vote", winners)
    show("vote_share", shares)
    show("nearest", cosine.argmax(1))
    show("nearest_share", softmax(cosine / 0.1, axis=1).max(1))
    show("argmax", wide.argmax(1))


main()
