"""Writes tests/golden/detectors.txt: a small model's outputs and what scikit-learn, SciPy and NumPy
make of them.

    python tests/golden/detectors.py > tests/golden/detectors.txt

The file: "sizes bank queries dim proj classes", then "NAME count values..." for each array:
the inputs bank, labels, h, z, prototypes, logits (float32 values), and the results knn_1, knn_7,
knn_60, prototype, msp, maxlogit, energy, vote, vote_share, nearest, nearest_share,
argmax; then the classifier's weight and bias (float32 values), head_logits, and the results gen, react,
ash, she, vim, mahalanobis, relative_mahalanobis, written here by the papers' equations over SciPy's
pseudo-inverses and NumPy's percentile.  For these the sixth
feature of bank and h is 0, a direction without variance.
"""

import numpy as np
from scipy.linalg import pinvh
from scipy.special import logsumexp, softmax
from sklearn.neighbors import NearestNeighbors

BANK, QUERIES, DIM, PROJ, CLASSES = 60, 25, 16, 8, 4


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def show(name, values):
    values = np.asarray(values, dtype=np.float64).reshape(-1)
    print(name, len(values), " ".join(f"{v:.17g}" for v in values))


def mahalanobis(x, centred, means):
    precision = pinvh(centred.T @ centred / len(centred))
    d = x[:, None, :] - means[None]
    return np.einsum("ncd,de,nce->nc", d, precision, d).min(1)


def fitted(rng, bank, labels, h):
    """Detectors that are fitted, or that need the classifier's weights."""
    weight = rng.normal(size=(CLASSES, DIM)).astype(np.float32)
    bias = rng.normal(size=CLASSES).astype(np.float32)
    show("weight", weight)
    show("bias", bias)
    w, b, t, x = (a.astype(np.float64) for a in (weight, bias, bank, h))
    t[:, 5] = x[:, 5] = 0  # a dead feature: the covariance is singular
    logits, train = x @ w.T + b, t @ w.T + b
    show("head_logits", logits.astype(np.float32))
    p = np.sort(softmax(logits.astype(np.float32).astype(np.float64), axis=1), axis=1)[:, ::-1]
    show("gen", -np.sum(p[:, :100] ** 0.1 * (1 - p[:, :100]) ** 0.1, axis=1))
    cut = np.percentile(t, 90)
    show("react", logsumexp(np.minimum(x, cut) @ w.T + b, axis=1))
    shaped = np.zeros_like(x)
    keep = DIM - int(np.round(DIM * 90 / 100.0))
    for row, to in zip(x, shaped):
        best = np.argsort(-row, kind="stable")[:keep]
        to[best] = row[best] * np.exp(row.sum() / row[best].sum())
    show("ash", logsumexp(shaped @ w.T + b, axis=1))
    right = train.argmax(1) == labels
    patterns = np.array([t[(labels == c) & (right if (right & (labels == c)).any() else True)].mean(0)
                         for c in range(CLASSES)])
    show("she", np.sum(x * patterns[logits.argmax(1)], axis=1))
    origin = -np.linalg.pinv(w) @ b
    moved = t - origin
    _, vectors = np.linalg.eigh(moved.T @ moved / len(t))
    residual = vectors[:, : DIM - DIM // 2]  # eigh ascends: the smallest
    alpha = train.max(1).mean() / np.linalg.norm(moved @ residual, axis=1).mean()
    show("vim", logsumexp(logits, axis=1)
         - alpha * np.linalg.norm((x - origin) @ residual, axis=1))
    means = np.array([t[labels == c].mean(0) for c in range(CLASSES)])
    near = mahalanobis(x, t - means[labels], means)
    show("mahalanobis", -near)
    overall = t.mean(0, keepdims=True)
    show("relative_mahalanobis", mahalanobis(x, t - overall, overall) - near)


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
    fitted(rng, bank, labels, h)


main()
