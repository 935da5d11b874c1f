"""CLIP ViT-B/16's image tower on processors, as npos bench's clip-encoder: images of 224x224 to embeddings, the fastest of
batches of 4 and 16, as written and compiled.  Weights and images are random; in bf16 all of the model is."""
import argparse
import json
import time

import torch

import clip


def best_rate(run, images, rounds):
    best = float("inf")
    for _ in range(rounds + 1):
        began = time.perf_counter()
        run(images)
        best = min(best, time.perf_counter() - began)
    return len(images) / best


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    kind = torch.bfloat16 if arguments.precision == "bf16" else torch.float32
    tower = clip.Tower().eval().to(kind)
    value, how = 0.0, ""
    with torch.inference_mode():
        for name, run in (("as written", tower), ("compiled", torch.compile(tower))):
            for count in (4, 16):
                try:
                    rate = best_rate(run, torch.randn(count, 3, 224, 224).to(kind), arguments.rounds)
                except Exception:  # no compiler, for instance
                    continue
                if rate > value:
                    value, how = rate, f"{name}, batches of {count}"
    print(json.dumps({"name": "clip-encoder", "precision": arguments.precision, "value": value, "unit": "images/s",
                      "peer": f"PyTorch {torch.__version__}, {how}", "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
