#!/usr/bin/env python3
"""CLIP of true size beside transformers: image and text embeddings and every gradient of a fine-tuning step.

    bench/peers/clip_parity.py --build build [--device cpu] [--tiny] [--vocabulary bpe_simple_vocab_16e6.txt.gz] [--out F.txt]

A ViT-B/16 with random weights is saved as Hugging Face's folder.  npos embeds images (npos import, npos embed) and class
names (npos text) and takes one step (clipstep: blocks 10 and 11, LogitNorm, synthesis from full rings, R_open), in fp32 and
bf16; transformers does so in float32 (float64 for the step) on the CPU or GPU.  Printed is |a - b| / |b|: per embedding the worst row, per
parameter the whole gradient.  fp32 must stay below 1e-3, or the exit status is 1; bf16 stands beside PyTorch's autocast.
"""
import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from safetensors.numpy import load_file, save_file


CLASSES, RING, K, SELECT, PICK, NOISE, KEEP, HEAD = 10, 400, 100, 60, 3, 150, 2, 32
NAMES = ["tench", "great white shark", "hen", "ostrich", "goldfinch", "junco", "robin", "jay", "magpie", "kite"]


def relative(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-300))


def worst_row(a, b):
    return max(relative(x, y) for x, y in zip(a, b))


def make_model(folder, tiny, words):
    torch.manual_seed(1)
    vision = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, image_size=224,
                  patch_size=16, hidden_act="quick_gelu")
    text = dict(hidden_size=512, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=8, vocab_size=49408,
                max_position_embeddings=77, hidden_act="quick_gelu", bos_token_id=49406, eos_token_id=49407)
    if tiny:
        vision.update(hidden_size=128, intermediate_size=512, num_attention_heads=2, image_size=64)
        text.update(hidden_size=64, intermediate_size=256, num_hidden_layers=2, num_attention_heads=1)
    model = transformers.CLIPModel(transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=512)).eval()
    for name, p in model.named_parameters():
        if "norm" in name or "layrnorm" in name:
            p.data = (1.0 if name.endswith("weight") else 0.0) + 0.1 * torch.randn_like(p)
        elif p.ndim >= 2 and "embedding" not in name:
            p.data = torch.randn_like(p) / p[0].numel() ** 0.5
        else:
            p.data = 0.1 * torch.randn_like(p)
    model.save_pretrained(folder)
    if words:
        make_words(words, folder)
    return model


def make_words(path, folder):
    """OpenAI's list of merges as transformers' vocab.json and merges.txt."""
    lines = gzip.open(path).read().decode().split("\n")[1:49152 - 256 - 2 + 1]
    bytes_ = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    letters = [chr(b) for b in bytes_] + [chr(256 + i) for i in range(256 - len(bytes_))]
    entries = letters + [x + "</w>" for x in letters] + ["".join(x.split()) for x in lines]
    entries += ["<|startoftext|>", "<|endoftext|>"]
    with open(f"{folder}/vocab.json", "w") as file:
        json.dump({x: i for i, x in enumerate(entries)}, file)
    with open(f"{folder}/merges.txt", "w") as file:
        file.write("#version: 0.2\n" + "\n".join(lines) + "\n")


def images(size, count=8):
    rng = np.random.default_rng(1)
    return np.stack([np.clip(rng.normal(128, 60, (size, size, 3)) * 0.3 + rng.integers(0, 180, 3), 0, 255)
                     for _ in range(count)]).astype(np.uint8)


def run(*words):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit("failed: " + " ".join(words) + "\n" + done.stdout)


def embeddings_image(model, pixels, precision, device):
    p = model.config.vision_config
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    x = ((torch.tensor(pixels).float() / 255 - mean) / std).permute(0, 3, 1, 2).to(device)
    with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
        h = model.visual_projection(model.vision_model(pixel_values=x).pooler_output)
    return h.float().cpu().numpy()


def text_directions(model, folder, device):
    tokenizer = transformers.CLIPTokenizer(f"{folder}/vocab.json", f"{folder}/merges.txt")
    rows = []
    for name in NAMES:
        ids = tokenizer([f"a photo of a {name}.", f"a bad photo of the {name}."], padding="max_length", max_length=77,
                        return_tensors="pt").input_ids.to(device)
        with torch.no_grad():
            e = model.text_projection(model.text_model(input_ids=ids).pooler_output)
        rows.append(F.normalize(F.normalize(e, dim=1).mean(0), dim=0).cpu().numpy())
    return np.stack(rows)


def make_inputs(model, path, device, n):
    """Tokens that enter block 10 in float16, rings around what these blocks make of them."""
    torch.manual_seed(2)
    v = model.vision_model
    rows = v.embeddings.position_embedding.num_embeddings
    x = torch.randn(n, rows, model.config.vision_config.hidden_size, device=device).half()
    dim = 512
    with torch.no_grad():
        h = through(model, x.float())
    ring = h.mean(0) + 0.5 * h.std() * torch.randn(CLASSES, RING, dim, device=device)
    phi = {"phi.0.weight": torch.randn(HEAD, dim) / dim ** 0.5, "phi.0.bias": 0.1 * torch.randn(HEAD),
           "phi.2.weight": torch.randn(1, HEAD) / HEAD ** 0.5, "phi.2.bias": 0.1 * torch.randn(1)}
    file = {"tokens": x, "text": F.normalize(torch.randn(CLASSES, dim), dim=1), "ring": ring.cpu(),
            "noise": torch.randn(NOISE, dim), "labels": torch.arange(n).int() % CLASSES,
            "picks": torch.stack([torch.randperm(SELECT)[:PICK] for _ in range(CLASSES)]).int(), **phi}
    file = {k: np.ascontiguousarray(t.cpu().numpy()) for k, t in file.items()}
    file.update({k: np.array([value], np.int32) for k, value in {"k": K, "select": SELECT, "keep": KEEP}.items()})
    save_file(file, path)
    return file


def through(model, x):
    for layer in model.vision_model.encoder.layers[10:]:
        x = layer(x, None)
        x = x[0] if isinstance(x, tuple) else x
    return model.visual_projection(model.vision_model.post_layernorm(x[:, 0]))


def synthesise(ring, noise, picks):
    """METHOD: the kept candidates of each class, boundary row by boundary row."""
    out = []
    for c in range(CLASSES):
        unit = F.normalize(ring[c], dim=1)
        far = torch.cdist(unit, unit).square().topk(K, dim=1, largest=False).values[:, -1]
        boundary = far.topk(SELECT).indices[picks[c].long()]
        for b in boundary:
            v = ring[c, b] + float(np.float32(0.1)) * noise
            d = torch.cdist(F.normalize(v, dim=1), unit).square().topk(K, dim=1, largest=False).values[:, -1]
            out.append(v[d.topk(KEEP).indices])
    return torch.cat(out)


def step_of(model, file, device, precision):
    """Losses, h and gradients; float64, or bf16 by autocast over float32 weights."""
    half = precision == "bf16"
    kind = torch.float32 if half else torch.float64
    model = model.to(device, kind)
    get = lambda name: torch.tensor(file[name]).to(device)
    phi = {k: get(k).to(kind).requires_grad_() for k in file if k.startswith("phi.")}
    labels, text, ring = get("labels").long(), get("text").to(kind), get("ring").to(kind)
    model.zero_grad()
    with torch.autocast(device, torch.bfloat16, enabled=half):
        h = through(model, get("tokens").to(kind))
    h = h.to(kind)
    cosine = F.normalize(h, dim=1) @ text.T
    ce = F.cross_entropy(cosine / (cosine.norm(dim=1, keepdim=True) + 1e-7) / 8, labels)
    with torch.no_grad():
        count = [0] * CLASSES
        for j, y in enumerate(labels.tolist()):
            ring[y, count[y] % RING] = h[j]
            count[y] += 1
        v = synthesise(ring.float() if half else ring, get("noise").to(ring.dtype), get("picks"))
    s = F.linear(F.relu(F.linear(torch.cat([h, v.to(kind)]), phi["phi.0.weight"], phi["phi.0.bias"])), phi["phi.2.weight"],
                 phi["phi.2.bias"])[:, 0]
    target = torch.cat([torch.ones(len(h)), torch.zeros(len(v))]).to(device, kind)
    risk = F.binary_cross_entropy_with_logits(s, target)
    (ce + float(np.float32(0.1)) * risk).backward()
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    grads.update({n: p.grad for n, p in phi.items()})
    seen = {"h": h.detach().cpu().numpy(), "ce": float(ce.detach()), "open": float(risk.detach())}
    return seen, stacked({n: g.double().cpu().numpy() for n, g in grads.items()})


def stacked(grads):
    """Queries, keys and values as one parameter, as npos has them."""
    out = {}
    for name, value in grads.items():
        if "q_proj" in name:
            out[name.replace("q_proj", "qkv_proj")] = np.concatenate([grads[name.replace("q_proj", x + "_proj")] for x in "qkv"])
        elif "k_proj" not in name and "v_proj" not in name:
            out[name] = value
    return out


def compare_step(mine, theirs, grads, say, label, limit):
    out = {"h": worst_row(mine["h"], theirs["h"]), "CE": relative(mine["losses"][3], theirs["ce"]),
           "R_open": relative(mine["losses"][2], theirs["open"])}
    for name, value in mine.items():
        if not name.startswith("grad."):
            continue
        expected = grads[name[5:]]
        out[name.replace(".", " ", 1)] = relative(value, expected.reshape(value.shape))
    worst = max(out, key=out.get)
    say(f"{label:34} h {out['h']:.1e}  CE {out['CE']:.1e}  R_open {out['R_open']:.1e}  "
        f"{len(out) - 3} gradients, the worst {out[worst]:.1e} ({worst})")
    return out[worst] < limit


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--vocabulary")
    parser.add_argument("--out")
    a = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    device = "cuda" if a.device.startswith("cuda") else "cpu"
    lines, good = [], True

    def say(line):
        lines.append(line)
        print(line, flush=True)

    work = tempfile.TemporaryDirectory()
    folder, npos = work.name + "/clip", a.build + "/npos"
    model = make_model(folder, a.tiny, a.vocabulary)
    model = model.to(device)
    side = model.config.vision_config.image_size
    say(f"transformers {transformers.__version__}, torch {torch.__version__}, {torch.cuda.get_device_name() if device == 'cuda' else 'CPU'}; "
        f"image tower {model.config.vision_config.hidden_size} wide, {side} pixels; npos on {a.device}")
    text = None
    if a.vocabulary:
        with open(work.name + "/classes.txt", "w") as file:
            file.write("\n".join(NAMES) + "\n")
        with open(work.name + "/templates.txt", "w") as file:
            file.write("a photo of a {}.\na bad photo of the {}.\n")
        expected = text_directions(model, folder, device)
        for precision in ("fp32", "bf16"):
            run(npos, "text", "--clip", folder, "--classes", work.name + "/classes.txt", "--templates",
                work.name + "/templates.txt", "--out", f"{work.name}/t-{precision}.safetensors", "--device", a.device,
                "--precision", precision)
            text = load_file(f"{work.name}/t-{precision}.safetensors")["text"]
            error = worst_row(text, expected)
            say(f"{precision + ': class directions':34} {error:.1e}")
            good &= precision != "fp32" or error < 1e-3
        pixels = images(side)
        np.save(work.name + "/set.npy", pixels)
        exact = embeddings_image(model, pixels, "fp32", device)
        half = embeddings_image(model, pixels, "bf16", device)
        for precision in ("fp32", "bf16"):
            runs = f"{work.name}/run-{precision}"
            run(npos, "import", folder, "--text", f"{work.name}/t-fp32.safetensors", "--out", runs, "--device", a.device)
            run(npos, "embed", runs, "--data", work.name + "/set.npy", "--out", work.name + "/h.npy", "--device", a.device,
                "--precision", precision)
            error = worst_row(np.load(work.name + "/h.npy"), exact)
            beside = f"  (autocast {worst_row(half, exact):.1e})" if precision == "bf16" else ""
            say(f"{precision + ': image embeddings':34} {error:.1e}{beside}")
            good &= precision != "fp32" or error < 1e-3
    file = make_inputs(model, work.name + "/in.safetensors", device, 32)
    theirs, grads = step_of(model, file, device, "fp32")
    for precision in ("fp32", "bf16"):
        run(a.build + "/clipstep", "--clip", folder, "--in", work.name + "/in.safetensors", "--out",
            work.name + "/out.safetensors", "--device", a.device, "--precision", precision, "--open")
        mine = load_file(work.name + "/out.safetensors")
        good &= compare_step(mine, theirs, grads, say, f"{precision}: step", 1e-3) or precision != "fp32"
    half, half_grads = step_of(model, file, device, "bf16")
    peer = {"losses": [0, 0, half["open"], half["ce"]], "h": half["h"], **{f"grad.{n}": g for n, g in half_grads.items()}}
    compare_step(peer, theirs, grads, say, "PyTorch's autocast bf16: step", 1)
    if a.out:
        with open(a.out, "w") as out:
            out.write("\n".join(lines) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
