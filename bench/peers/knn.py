"""What PyTorch takes for the 300th neighbour of 1,000 queries among 50,000 rows of 512, unit rows:
matrix product and topk in float32, the exact answer to compare with.

    python knn.py [--precision fp32] [--threads N] [--rounds R]

Prints one JSON line.
"""
import argparse
import json
import time

import torch
import torch.nn.functional as F


def prepare():
    torch.manual_seed(0)
    bank = F.normalize(torch.randn(50000, 512))
    queries = F.normalize(torch.randn(1000, 512))
    return lambda: 2 - 2 * (queries @ bank.T).topk(300, dim=1).values[:, -1]


def best_ms(run, rounds, clock=time.perf_counter):
    best = float("inf")
    for _ in range(rounds + 1):
        began = clock()
        run()
        best = min(best, 1e3 * (clock() - began))
    return best


def measure(name, prepare_run, precision_choices=("fp32",)):
    parser = argparse.ArgumentParser()
    parser.add_argument("--precision", choices=precision_choices, default="fp32")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with torch.no_grad():
        value = best_ms(prepare_run(), arguments.rounds)
    print(json.dumps({"name": name, "precision": arguments.precision, "value": value, "unit": "ms",
                      "peer": "PyTorch " + torch.__version__,
                      "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    measure("knn", prepare)
