"""Neighbours, synthesis, linear layers and SGD: PyTorch and oodbench in turn, and their ratios.

    python bench/peers/ood.py [--program build/oodbench] [--threads N] [--rounds R] [--cpu-time]

Every round runs one side after the other, so that both meet the same load; the least time of each
counts (--cpu-time: the least processor time of one thread a side, for a busy machine).  Our neighbours are measured with float32 products (AVX-512 or AVX2) and, where the
processor has them, with bfloat16 products; the answers of both are the same.
"""
import argparse
import json
import subprocess
import time

import torch
import torch.nn.functional as F

import knn
import synthesis


def linear(n, inputs, outputs):
    x, w, b = torch.randn(n, inputs), torch.randn(outputs, inputs), torch.randn(outputs)
    return lambda: F.linear(x, w, b).relu_()


def sgd():
    """torch.optim.SGD's fused step after the gradient's norm, without scaling by it."""
    weights = torch.nn.Parameter(torch.zeros(11173962))
    weights.grad = torch.zeros(11173962)
    optimiser = torch.optim.SGD([weights], lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4,
                                fused=True)

    def step():
        weights.grad.norm()
        optimiser.step()

    return step


def ours(program, threads, isa, cpu_time):
    command = [program, "--json", "--threads", str(threads), "--runs", "3"]
    if cpu_time:
        command += ["--cpu-time"]
    if isa:
        command += ["--isa", isa]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        return None
    found = json.loads(answer.stdout)
    return {(row["name"], row["shape"]): row["value"] for row in found["results"]}, found["isa"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default="build/oodbench")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpu-time", action="store_true")
    arguments = parser.parse_args()
    if arguments.cpu_time:
        arguments.threads = 1
    clock = time.thread_time if arguments.cpu_time else time.perf_counter
    torch.set_num_threads(arguments.threads)
    peers = {
        ("kth_neighbour", "1000 x 50000 x 512, k 300"): knn.prepare(),
        ("synthesise", "10 x 1000 x 512, k 300, noise 600"): synthesis.prepare(),
        ("linear forward", "1000 x 512 -> 1024"): linear(1000, 512, 1024),
        ("linear forward", "512 x 512 -> 512"): linear(512, 512, 512),
        ("linear forward", "512 x 512 -> 128"): linear(512, 512, 128),
        ("norm and sgd", "11,173,962 (ResNet-18)"): sgd(),
    }
    best = {}
    for _ in range(arguments.rounds):
        with torch.no_grad():
            for key, run in peers.items():
                value = knn.best_ms(run, 3, clock)
                best["peer", key] = min(value, best.get(("peer", key), value))
        for asked in (None, "avx512", "avx2"):
            answer = ours(arguments.program, arguments.threads, asked,
                          arguments.cpu_time)
            if not answer:
                continue
            values, isa = answer
            for key, value in values.items():
                best[isa, key] = min(value, best.get((isa, key), value))
    print(f"PyTorch {torch.__version__}, {arguments.threads} threads; least of "
          f"{arguments.rounds} rounds, ms")
    for key in peers:
        for isa in dict.fromkeys(side for side, _ in best if side != "peer"):
            if (isa, key) not in best:
                continue
            print(f"{key[0]:16} {key[1]:36} {isa:11} peer {best['peer', key]:9.2f}  "
                  f"npos {best[isa, key]:9.2f}  ratio {best['peer', key] / best[isa, key]:6.2f}")


if __name__ == "__main__":
    main()
