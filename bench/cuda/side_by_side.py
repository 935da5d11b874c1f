"""PyTorch and npos on the same GPU, in turn, and the ratios of their best times.

    python bench/cuda/side_by_side.py [--yardstick FILE] [--npos build/npos] [--device cuda:0]
                                      [--rounds N] [--only NAME,...] [--json FILE]

Every round runs each side once, one after the other, each in a process of its own, so that both meet the same clock and
temperature and the whole memory; the best of the rounds counts, and the worst ratio of a round is told beside it.

  step, step-open   a whole training step of the cifar10 recipe before and after start_epoch: FILE is a PyTorch program
                    that prints "before start_epoch MS, after MS"; without one these rows are left out
  inference         ResNet-18, 1,000 images of 32x32 as bytes, as a CUDA graph, by torch.compile where that is faster
  knn               the 300th neighbour of 10,000 among 50,000 rows of 512: products in TF32 or float32, then topk
  synthesis         the outliers of one step, 10 classes with rings of 1,000, as a CUDA graph
  clip-encoder      CLIP ViT-B/16's embeddings of 256 images, as a CUDA graph, by torch.compile where that is faster; this
                    row and those below are run where --only names them
  clip-features     the same, blocks 0 to 9 alone
  clip-blocks       blocks 10 and 11, 800 images, forward and backward; PyTorch runs all rows of both

The peer computes in the precision that is fastest for it; npos in bf16 where that is its default, knn exactly.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
STEPS, OTHERS = ("step", "step-open"), ("inference", "knn", "synthesis")
CLIP = ("clip-encoder", "clip-features", "clip-blocks")
RATES = ("inference", "clip-encoder", "clip-features")  # more is better


# ---- the peers: each in a child, `--peer NAME` -----------------------------------------------------------


def recorded(run):
    """A CUDA graph of one call."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def best_seconds(run, calls=10, rounds=20):
    """Of one call, in runs of `calls` without waiting between."""
    import torch

    best = float("inf")
    for _ in range(rounds + 2):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(calls):
            run()
        torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - began) / calls)
    return best


def fastest(variants):
    """(seconds, name) of the variants that run at all."""
    found = []
    for name, make in variants.items():
        try:
            found.append((best_seconds(make()), name))
        except Exception as error:  # a compiler may be missing; another variant remains
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
    return min(found)


def peer_inference(images=1000):
    import torch
    import encoder

    network = encoder.resnet18().cuda().to(memory_format=torch.channels_last).eval()
    pixels = torch.randint(0, 256, (images, 3, 32, 32), dtype=torch.uint8, device="cuda")
    pixels = pixels.contiguous(memory_format=torch.channels_last)

    def plain(x):
        with torch.autocast("cuda", torch.bfloat16):
            return network((x.float() / 255 - 0.5) / 0.25)

    def compiled():
        function = torch.compile(plain, mode="max-autotune-no-cudagraphs")
        return lambda: function(pixels)

    with torch.no_grad():
        seconds, how = fastest({
            "compiled, recorded": lambda: recorded(compiled()),
            "recorded": lambda: recorded(lambda: plain(pixels)),
        })
    return images / seconds, how


def peer_knn(queries=10000, rows=50000):
    import torch
    import torch.nn.functional as F

    bank = F.normalize(torch.randn(rows, 512, device="cuda"))
    asked = F.normalize(torch.randn(queries, 512, device="cuda"))

    def in_parts(part, tf32):
        def run():
            torch.backends.cuda.matmul.allow_tf32 = tf32
            return torch.cat([(asked[i:i + part] @ bank.T).topk(300, dim=1).values[:, -1]
                              for i in range(0, queries, part)])
        return run

    with torch.no_grad():
        seconds, how = fastest({
            f"{'TF32' if tf32 else 'fp32'}, {part} at a time": lambda part=part, tf32=tf32: in_parts(part, tf32)
            for part in (1000, 2500, 10000) for tf32 in (True, False)
        })
    return 1e3 * seconds, how


def peer_synthesis():
    import torch
    import synthesis

    def make(tf32):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        return recorded(synthesis.prepare())

    torch.set_default_device("cuda")
    with torch.no_grad():
        seconds, how = fastest({"TF32": lambda: make(True), "fp32": lambda: make(False)})
    return 1e3 * seconds, how


def clip_images(layers, images=256):
    import torch
    import clip

    tower = clip.Tower().cuda().to(torch.bfloat16).eval()
    pixels = torch.randn(images, 3, 224, 224, device="cuda", dtype=torch.bfloat16)
    plain = (lambda x: tower(x)) if layers == 12 else (lambda x: tower.tokens(x, layers))

    def compiled():
        function = torch.compile(plain)
        return lambda: function(pixels)

    with torch.no_grad():
        seconds, how = fastest({
            "compiled, recorded": lambda: recorded(compiled()),
            "recorded": lambda: recorded(lambda: plain(pixels)),
        })
    return images / seconds, how


def peer_clip_encoder():
    return clip_images(12)


def peer_clip_features():
    return clip_images(10)


def peer_clip_blocks(images=800):
    import torch
    import clip

    tokens = torch.randn(images, 197, 768, device="cuda", dtype=torch.bfloat16)
    gradient = torch.randn(images, 768, device="cuda")

    def make(compiled, cast):
        last = clip.Last().cuda()
        last = last if cast else last.to(torch.bfloat16)
        function = torch.compile(last) if compiled else last

        def run():
            last.zero_grad(set_to_none=True)
            with torch.autocast("cuda", torch.bfloat16, enabled=cast):
                h = function(tokens)
            h.backward(gradient.to(h.dtype))
        return run

    seconds, how = fastest({
        f"{'compiled' if compiled else 'eager'}, {'float32 weights' if cast else 'bf16 weights'}":
            lambda compiled=compiled, cast=cast: make(compiled, cast)
        for compiled in (True, False) for cast in (True, False)
    })
    return 1e3 * seconds, how


# ---- both sides ------------------------------------------------------------------------------------------


def run(command):
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode != 0:
        sys.exit(f"side_by_side: {' '.join(command)}: exit status {answer.returncode}\n{answer.stderr[-2000:]}")
    return answer.stdout


def peers(arguments, names):
    """{name: (value, how)}"""
    found = {}
    if any(name in STEPS for name in names):
        text = run([sys.executable, arguments.yardstick])
        match = re.search(r"before start_epoch ([0-9.]+), after ([0-9.]+)", text)
        if not match:
            sys.exit(f"side_by_side: {arguments.yardstick} printed no 'before start_epoch MS, after MS':\n{text}")
        found.update({name: (float(match[1 + i]), "one CUDA graph") for i, name in enumerate(STEPS)})
    for name in names:
        if name in OTHERS + CLIP:
            answer = json.loads(run([sys.executable, __file__, "--peer", name]).splitlines()[-1])
            found[name] = (answer["value"], answer["how"])
    return found


def ours(arguments, names):
    text = run([arguments.npos, "bench", "--device", arguments.device, "--only", ",".join(names), "--json", "-"])
    return {row["name"]: (row["value"], f"{row['precision']}: {row['shape']}") for row in json.loads(text)["results"]}


def ratio(name, peer, own):
    return own / peer if name in RATES else peer / own


def best(name, values):
    return max(values) if name in RATES else min(values)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--yardstick")
    parser.add_argument("--npos", default=os.path.join(HERE, "../../build/npos"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only")
    parser.add_argument("--json")
    parser.add_argument("--peer", choices=OTHERS + CLIP, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        sys.path.insert(0, os.path.join(HERE, "../peers"))
        value, how = globals()["peer_" + arguments.peer.replace("-", "_")]()
        print(json.dumps({"value": value, "how": how}))
        return
    names = arguments.only.split(",") if arguments.only else list(STEPS + OTHERS)
    for name in names:
        if name not in STEPS + OTHERS + CLIP:
            sys.exit(f"side_by_side: '{name}' is not known; rows: {', '.join(STEPS + OTHERS + CLIP)}")
    if not arguments.yardstick:
        names = [name for name in names if name not in STEPS]
    if ":" in arguments.device:  # both sides see the one GPU
        os.environ["CUDA_VISIBLE_DEVICES"] = arguments.device.split(":")[1]
        arguments.device = "cuda"
    rounds = []
    for i in range(arguments.rounds):
        print(f"round {i + 1} of {arguments.rounds}", file=sys.stderr)
        rounds.append((peers(arguments, names), ours(arguments, names)))
    rows = []
    for name in names:
        theirs, mine = [r[0][name][0] for r in rounds], [r[1][name][0] for r in rounds]
        rows.append({"name": name, "unit": "images/s" if name in RATES else "ms",
                     "pytorch": best(name, theirs), "npos": best(name, mine),
                     "ratio": ratio(name, best(name, theirs), best(name, mine)),
                     "worst": min(ratio(name, a, b) for a, b in zip(theirs, mine)),
                     "pytorch_how": rounds[-1][0][name][1], "npos_how": rounds[-1][1][name][1]})
    print(f"{'':13} {'PyTorch':>10} {'npos':>10} {'':8} {'ratio':>6} {'worst':>6}")
    for row in rows:
        print(f"{row['name']:13} {row['pytorch']:10.2f} {row['npos']:10.2f} {row['unit']:8} {row['ratio']:6.2f}"
              f" {row['worst']:6.2f}  PyTorch: {row['pytorch_how']}; npos: {row['npos_how']}")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"schema": 1, "rounds": arguments.rounds, "results": rows}, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()
