"""Writes tests/golden/paired.txt: what SciPy and NumPy say of pairs of runs.

    python tests/golden/paired.py > tests/golden/paired.txt

"tails t df p" lines: SciPy's two-sided tails of Student's t; "quantile tails df t" lines.
"pairs n", then n values of one method, n of the other, then mean, lo, hi, p of the differences by
scipy.stats.ttest_rel.  "scores n m", then two models' n ID and m OOD scores of the same images
(hexadecimal): a's ID, a's OOD, b's ID, b's OOD; then "auroc a b", and "delong lo hi": the 95%
interval of b - a by the covariance of DeLong, DeLong, Clarke-Pearson (Biometrics 1988), written out
here over all pairs of images.
"""

import numpy as np
from scipy import stats
from sklearn.metrics import roc_auc_score


def show(*values):
    return " ".join(f"{v:.17g}" for v in values)


def placements(i, o):
    v10 = np.array([np.mean((a > o) + 0.5 * (a == o)) for a in i])
    v01 = np.array([np.mean((i > b) + 0.5 * (i == b)) for b in o])
    return v10, v01


def main():
    rng = np.random.default_rng(7)
    for t, df in ((0.0, 1), (1.0, 1), (-2.5, 2), (4.3, 3), (0.01, 9), (12.0, 9), (3.0, 200)):
        print("tails", show(t), df, show(2 * stats.t.sf(abs(t), df)))
    for tails, df in ((0.05, 1), (0.05, 2), (0.05, 3), (0.01, 4), (0.5, 7), (0.05, 100)):
        print("quantile", show(tails), df, show(stats.t.isf(tails / 2, df)))
    for n in (2, 3, 5, 12):
        a, b = rng.normal(0.6, 0.1, n), rng.normal(0.5, 0.1, n)
        test = stats.ttest_rel(b, a)
        interval = test.confidence_interval(0.95)
        print("pairs", n)
        print(show(*a))
        print(show(*b))
        print(show((b - a).mean(), interval.low, interval.high, test.pvalue))
    for n, m, noise in ((150, 120, 0.3), (200, 90, 1.0)):
        i, o = rng.normal(1.5, 1, n), rng.normal(0, 1, m)
        models = [(i + rng.normal(0, noise, n), o + rng.normal(0, noise, m)) for _ in range(2)]
        models[1] = tuple(np.round(x, 1) for x in models[1])  # ties
        print("scores", n, m)
        for model in models:
            for values in model:
                print(" ".join(float(v).hex() for v in values))
        is_id = np.concatenate([np.ones(n), np.zeros(m)])
        areas = [roc_auc_score(is_id, np.concatenate(model)) for model in models]
        print("auroc", show(*areas))
        placed = [placements(*model) for model in models]
        s10 = np.cov(placed[0][0], placed[1][0])
        s01 = np.cov(placed[0][1], placed[1][1])
        s = s10 / n + s01 / m
        half = stats.norm.ppf(0.975) * np.sqrt(s[0, 0] + s[1, 1] - 2 * s[0, 1])
        difference = areas[1] - areas[0]
        print("delong", show(difference - half, difference + half))


main()
