#!/usr/bin/env python3
"""Draws docs/results/steady.svg from the runs beside it: how the loss falls, and where seeds end.

    docs/results/picture.py
"""
import json
import os

HERE = os.path.dirname(os.path.abspath(__file__))
RUNS = [("paper's recipe", "cifar10-100e-", (0, 1, 2), "#c0392b"), ("CIDER", "cifar10-100e-cider-", (0, 1, 2), "#7f8c8d"),
        ("VOS", "cifar10-100e-vos-", (0, 1, 2), "#b7950b"), ("clipped", "cifar10-100e-clipped-", (0, 1, 2), "#2471a3"),
        ("held 2 epochs", "cifar10-100e-held2-", (0, 1, 2), "#7d3c98"), ("cifar10-steady", "cifar10-steady-", (0, 1, 2), "#1e8449")]
LOSSES = ("paper's recipe", "clipped", "held 2 epochs", "cifar10-steady")
YARDSTICK = {"dtd": 87.60, "tin": 84.30, "mnist": 88.57}
W, H, TOP, BOTTOM = 1080, 400, 50, 350


def text(x, y, words, size=12, anchor="middle", colour="#333", more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}" {more}>{words}</text>'


def line(x1, y1, x2, y2, colour="#ccc", more=""):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" {more}/>'


def losses(x0, x1):
    low, high, out = -0.5, 8.0, []
    y = lambda v: BOTTOM - (v - low) / (high - low) * (BOTTOM - TOP)
    x = lambda epoch: x0 + epoch / 40 * (x1 - x0)
    for v in range(0, 9, 2):
        out += [line(x0, y(v), x1, y(v)), text(x0 - 8, y(v) + 4, v, anchor="end")]
    out += [text(x(e), BOTTOM + 18, e) for e in range(0, 41, 10)]
    for name, prefix, seeds, colour in RUNS:
        for seed in seeds if name in LOSSES else ():
            with open(f"{HERE}/{prefix}seed{seed}/log.jsonl") as file:
                rows = [json.loads(row) for row in file][:40]
            points = " ".join(f"{x(r['epoch'] + 1):.1f},{y(r['loss']):.1f}" for r in rows)
            out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6" opacity="0.85"/>')
    return out + [text((x0 + x1) / 2, TOP - 22, "loss, before outliers come (epoch 40)", 14), text((x0 + x1) / 2, BOTTOM + 38, "epoch")]


def seeds_of(x0, x1):
    low, high, out = 76.0, 95.0, []
    y = lambda v: BOTTOM - (v - low) / (high - low) * (BOTTOM - TOP)
    width = (x1 - x0) / 3
    for v in range(76, 96, 4):
        out += [line(x0, y(v), x1, y(v)), text(x0 - 8, y(v) + 4, v, anchor="end")]
    for s, ood in enumerate(YARDSTICK):
        left = x0 + s * width
        out += [text(left + width / 2, BOTTOM + 18, ood),
                line(left + 10, y(YARDSTICK[ood]), left + width - 10, y(YARDSTICK[ood]), "#333", 'stroke-dasharray="5 4"')]
        for k, (_, prefix, seeds, colour) in enumerate(RUNS):
            for seed in seeds:
                with open(f"{HERE}/{prefix}seed{seed}/eval.json") as file:
                    knn = next(r for r in json.load(file)["results"] if r["score"] == "knn")
                value = 100 * next(o["auroc"] for o in knn["ood"] if o["name"] == ood)
                out.append(f'<circle cx="{left + (k + 0.8) * width / (len(RUNS) + 0.6):.1f}" cy="{y(value):.1f}" r="5" fill="{colour}" opacity="0.8"/>')
    return out + [text((x0 + x1) / 2, TOP - 22, "AUROC of the k-NN score, a dot a seed (dashes: PyTorch's mean of four)", 14)]


def main():
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {W} {H + 30}" font-family="sans-serif">',
             f'<rect width="{W}" height="{H + 30}" fill="white"/>', *losses(50, 430), *seeds_of(510, 1060)]
    for k, (name, _, _, colour) in enumerate(RUNS):
        x = 60 + k * 170
        parts += [f'<circle cx="{x}" cy="{H + 12}" r="5" fill="{colour}"/>', text(x + 10, H + 16, name, anchor="start")]
    with open(f"{HERE}/steady.svg", "w") as file:
        file.write("\n".join(parts + ["</svg>"]) + "\n")


if __name__ == "__main__":
    main()
