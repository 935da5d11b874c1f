"""Writes tests/golden/metrics.txt: score sets and what scikit-learn and NumPy say of them.

    python tests/golden/metrics.py > tests/golden/metrics.txt

AUROC, the average precisions, the openood protocol's curves and the intervals' Clopper-Pearson come
from scikit-learn and SciPy.  Outlier Exposure's FPR and ODIN's measures have no package: they are
written here a second time, in NumPy over thresholds, independently of the C code's counts.
scikit-learn refuses infinities, so it is given ranks, which leave every measure as it is.

The file: for each case  "case NAME n m", a line of n ID scores, a line of m OOD scores (float64 as
hexadecimal), then for each protocol "PROTOCOL fpr95 auroc aupr_in aupr_out", then
"delong lo hi" (nan: not defined).  At the end "cp k n lo hi" lines: Clopper-Pearson at 95%.
"""

import warnings

import numpy as np
from scipy.stats import beta, norm
from sklearn.metrics import (auc, average_precision_score, precision_recall_curve, roc_auc_score,
                             roc_curve)

warnings.simplefilter("error")


def ranks(i, o):
    both = np.concatenate([i, o])
    r = np.unique(both, return_inverse=True)[1].reshape(-1).astype(float)
    return r[:len(i)], r[len(i):]


def oe_fpr(i, o):
    """FPR at the candidate threshold whose TPR is nearest 0.95; Outlier Exposure's definition."""
    thresholds = np.unique(np.concatenate([i, o]))[::-1]
    tpr = np.array([np.sum(i >= t) / len(i) for t in thresholds])
    fpr = np.array([np.sum(o >= t) / len(o) for t in thresholds])
    last = int(np.argmax(tpr == 1.0))
    tpr, fpr = tpr[:last + 1][::-1], fpr[:last + 1][::-1]
    return fpr[np.argmin(np.abs(tpr - 0.95))]


def odin(i, o):
    """FPR95 and both AUPRs as ODIN's script defines them."""
    threshold = np.sort(i)[round(0.05 * len(i))]
    fpr95 = np.sum(o > threshold) / len(o)
    cuts = np.unique(np.concatenate([i, o]))
    tp = np.array([len(i)] + [np.sum(i > c) for c in cuts], dtype=float)
    fp = np.array([len(o)] + [np.sum(o > c) for c in cuts], dtype=float)
    den = tp + fp
    keep = np.concatenate([[True], den > 0, [True]])
    y = np.concatenate([[0.5], tp / np.where(den > 0, den, 1), [0.0]])
    x = np.concatenate([[1.0], tp / tp[0], [0.0]])
    aupr_in = -np.trapezoid(y[keep], x[keep])
    den = tp[0] - tp + fp[0] - fp
    keep = np.concatenate([[True], den > 0, [True]])
    y = np.concatenate([[0.0], (fp[0] - fp) / np.where(den > 0, den, 1), [0.5]])
    x = np.concatenate([[1.0], fp / fp[0], [0.0]])
    aupr_out = np.trapezoid(y[keep], 1.0 - x[keep])
    return fpr95, aupr_in, aupr_out


def delong(i, o):
    if len(i) < 2 or len(o) < 2:
        return np.nan, np.nan
    v10 = np.array([np.mean((a > o) + 0.5 * (a == o)) for a in i])
    v01 = np.array([np.mean((i > b) + 0.5 * (i == b)) for b in o])
    a = v10.mean()
    if a in (0.0, 1.0):
        return np.nan, np.nan
    s = np.sqrt(np.var(v10, ddof=1) / len(i) + np.var(v01, ddof=1) / len(o))
    z = norm.ppf(0.975)
    return max(0.0, a - z * s), min(1.0, a + z * s)


def show(*values):
    return " ".join(f"{v:.17g}" for v in values)


def case(name, i, o):
    i, o = np.asarray(i, dtype=np.float64), np.asarray(o, dtype=np.float64)
    print("case", name, len(i), len(o))
    print(" ".join(float(v).hex() for v in i))
    print(" ".join(float(v).hex() for v in o))
    i, o = ranks(i, o)
    is_id = np.concatenate([np.ones(len(i)), np.zeros(len(o))])
    s = np.concatenate([i, o])
    auroc = roc_auc_score(is_id, s)
    print("oe", show(oe_fpr(i, o), auroc, average_precision_score(is_id, s),
                     average_precision_score(1 - is_id, -s)))
    fpr, tpr, _ = roc_curve(1 - is_id, -s)
    areas = []
    for label, score in ((is_id, s), (1 - is_id, -s)):
        p, r, _ = precision_recall_curve(label, score)
        areas.append(auc(r, p))
    print("openood", show(fpr[np.argmax(tpr >= 0.95)], auroc, *areas))
    f, a, b = odin(i, o)
    print("knn-ood", show(f, auroc, a, b))
    print("delong", show(*delong(i, o)))


def main():
    rng = np.random.default_rng(20261123)
    inf = np.inf
    case("one-right", [1.0], [0.0])
    case("one-wrong", [0.0], [1.0])
    case("one-tied", [2.0], [2.0])
    case("one-id", [0.5], [0.1, 0.5, 0.9, 0.2])
    case("one-ood", [0.1, 0.5, 0.9, 0.2], [0.5])
    case("all-equal", [3.25] * 7, [3.25] * 5)
    case("parted", np.arange(20) + 100.0, np.arange(13) + 0.0)
    case("parted-wrong", np.arange(20) + 0.0, np.arange(13) + 100.0)
    case("two-values", [1, 1, 0, 1, 1, 0, 1], [0, 1, 0, 0, 1])
    case("infinite", [inf, inf, 1, 2, -inf, 3], [-inf, -inf, 1, inf, 0])
    case("signed-zero", [0.0, -0.0, 1.0], [-0.0, 0.0, -1.0])
    case("huge", [1e308, -1e308, 5e-324], [-1e308, 0.0, 1e-320])
    # TPR steps that lie around 0.95: many sizes of the ID set
    for n in list(range(2, 41)) + [50, 59, 60, 61, 70, 90, 110]:
        case(f"steps-{n}", rng.permutation(n) + 0.25, rng.integers(0, n, 9) + 0.5)
    for n in (10, 20, 30, 40, 60, 100):
        case(f"ties-{n}", rng.integers(0, 6, n), rng.integers(-2, 4, n + 3))
        case(f"straight-{n}", np.repeat(np.arange(5), n // 5), np.repeat(np.arange(5), n // 5))
        case(f"long-straight-{n}", np.arange(n), np.arange(n))
    case("normal", rng.normal(1.5, 1, 400), rng.normal(0, 1, 300))
    case("normal-rounded", np.round(rng.normal(1.5, 1, 400), 1),
         np.round(rng.normal(0, 1, 300), 1))
    case("parted-200", np.arange(200) + 100.0, np.arange(60) + 0.0)
    case("wrong-polarity", rng.normal(-1, 1, 150), rng.normal(0, 1, 100))
    case("float32", rng.normal(2, 1, 200).astype(np.float32),
         rng.normal(0, 2, 200).astype(np.float32))
    for k, n in ((0, 1), (1, 1), (0, 10), (10, 10), (1, 10), (5, 10), (95, 100), (9500, 10000),
                 (0, 10000), (10000, 10000), (1, 100000), (49870, 100000), (1216000, 1280000)):
        lo = 0.0 if k == 0 else beta.ppf(0.025, k, n - k + 1)
        hi = 1.0 if k == n else beta.ppf(0.975, k + 1, n - k)
        print("cp", k, n, show(lo, hi))


main()
