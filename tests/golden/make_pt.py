"""Golden files of the readers of weights: what torch writes, and the same tensors as safetensors.

    python tests/golden/make_pt.py         writes tests/golden/pt/

    state.pt        a state dict of views, shared storages and all element types;   state.safetensors
    checkpoint.pt   a training checkpoint whose state_dict is that of tiny.pt, protocol 4
    script.pt       a TorchScript module of submodules, buffers and lists;          tiny.safetensors
    nested.pt       dicts, lists and tuples in each other, integer keys;            nested.safetensors
    one.pt          a single tensor
    legacy.pt       the format of before PyTorch 1.6
    module.pt       a whole module, pickled: names that are not read
    ../../fuzz/corpus/pickle/*.pkl      data.pkl of some of them
    sharded/        a folder of two shards and their index, the tensors of tiny.safetensors
"""
import collections
import json
import os
import struct
import zipfile

import torch

HERE = os.path.dirname(os.path.abspath(__file__)) + "/pt"
PICKLES = os.path.dirname(os.path.abspath(__file__)) + "/../fuzz/corpus/pickle"
TYPES = {torch.uint8: "U8", torch.bool: "U8", torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32",
         torch.float64: "F64", torch.int32: "I32", torch.int64: "I64"}


def safetensors(path, tensors):
    header, body = {}, b""
    for name, tensor in tensors.items():
        dense = tensor.detach().contiguous().clone()
        raw = bytes(dense.reshape(-1).view(torch.uint8).tolist()) if dense.numel() else b""
        header[name] = {"dtype": TYPES[tensor.dtype], "shape": list(tensor.shape),
                        "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(f"{HERE}/{path}", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + body)


class Inner(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = torch.nn.Linear(4, 6).half()
        self.norm = torch.nn.LayerNorm(4)
        self.register_buffer("mask", torch.full((3, 3), float("-inf")).triu(1))

    def forward(self, x):
        return self.attn(self.norm(x).half())


class Tiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.names = ["a", "b"]
        self.sizes = [3, 4]
        self.scales = [0.5, 1.5]
        self.ratio = 1.25
        self.logit_scale = torch.nn.Parameter(torch.tensor(2.6592))
        self.proj = torch.nn.Parameter(torch.randn(5, 4).t())
        self.register_buffer("input_resolution", torch.tensor(224))
        self.visual = Inner()
        self.blocks = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2).half())

    def forward(self, x):
        return self.visual(x) * self.logit_scale


def state():
    base = torch.randn(6, 8)
    return collections.OrderedDict([
        ("dense", torch.randn(3, 4)),
        ("transposed", base.t()),
        ("cut", base[1:5, ::3]),
        ("row", base[2]),
        ("expanded", torch.randn(3, 1).expand(3, 5)),
        ("permuted", torch.randn(2, 3, 4, 5).permute(3, 0, 2, 1)),
        ("channels_last", torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)),
        ("scalar", torch.tensor(3.5)),
        ("empty", torch.zeros(0, 3)),
        ("half", torch.tensor([0.0, -0.0, 1.0, 6e-8, 6.1e-5, 65504.0, float("inf"), 0.333]).half()),
        ("half_strided", torch.randn(4, 6).half()[:, 1::2]),
        ("bf16", torch.tensor([1.0, -2.5, 3e38, 1e-40, 0.1]).bfloat16()),
        ("double", torch.randn(3, 2, dtype=torch.float64).t()),
        ("int64", torch.tensor([[-1, 2], [1 << 40, -(1 << 62)]]).t()),
        ("int32", torch.tensor([5, -6], dtype=torch.int32)),
        ("bytes", torch.arange(6, dtype=torch.uint8).reshape(2, 3)),
        ("flags", torch.tensor([True, False, True])),
        ("parameter", torch.nn.Parameter(torch.randn(2, 2))),
    ])


def main():
    torch.manual_seed(6)
    os.makedirs(f"{HERE}/sharded", exist_ok=True)
    os.makedirs(PICKLES, exist_ok=True)
    tensors = state()
    torch.save(tensors, f"{HERE}/state.pt")
    safetensors("state.safetensors", tensors)

    model = Tiny().eval()
    weights = model.state_dict()
    torch.jit.save(torch.jit.script(model), f"{HERE}/script.pt")
    safetensors("tiny.safetensors", weights)
    optimizer = torch.optim.Adam(model.parameters(), eps=1e-3)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.save({"epoch": 3, "name": "tiny", "state_dict": weights, "loss": 0.25, "none": None,
                "optimizer": optimizer.state_dict()}, f"{HERE}/checkpoint.pt", pickle_protocol=4)

    one = torch.randn(4, 3)
    nested = {"visual": {"proj": one.t(), "blocks": [one[0], (one[1], 7, one[2])]}, "steps": 1 << 40, "minus": -3,
              5: one[3], "size": one.shape, "big": 70000, "device": torch.device("cpu"), "raw": "\u00e9t\u00e9"}
    torch.save(nested, f"{HERE}/nested.pt", pickle_protocol=5)
    safetensors("nested.safetensors", {"visual.proj": one.t(), "visual.blocks.0": one[0], "visual.blocks.1.0": one[1],
                                       "visual.blocks.1.2": one[2], "5": one[3]})
    torch.save(one, f"{HERE}/one.pt")
    torch.save(weights, f"{HERE}/legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(torch.nn.Linear(2, 2), f"{HERE}/module.pt")

    for name in ("state", "script", "checkpoint", "nested", "module"):
        with zipfile.ZipFile(f"{HERE}/{name}.pt") as archive, open(f"{PICKLES}/{name}.pkl", "wb") as file:
            file.write(archive.read(f"{name}/data.pkl"))

    names = list(weights)
    shards = [names[0::2], names[1::2]]
    places = {}
    for i, part in enumerate(shards):
        shard = f"model-{i + 1:05d}-of-00002.safetensors"
        safetensors(f"sharded/{shard}", {name: weights[name] for name in part})
        places.update({name: shard for name in part})
    with open(f"{HERE}/sharded/model.safetensors.index.json", "w") as file:
        json.dump({"metadata": {"total_size": 1}, "weight_map": places}, file, indent=1)
        file.write("\n")


main()
