"""What PyTorch takes for the encoder row of `npos bench`: ResNet-18 with the 3x3 stem, 64 images of
32x32, forward and backward in training mode, without the optimiser.

    python encoder.py [--precision fp32|bf16] [--threads N] [--rounds R]

bf16 is autocast; both memory formats are tried and the faster one counts.  Prints one JSON line.
"""
import argparse
import json
import time

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Identity()
        if stride > 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        return torch.relu(self.main(x) + self.shortcut(x))


def resnet18():
    layers = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
    inputs = 64
    for outputs in (64, 128, 256, 512):
        layers += [Block(inputs, outputs, 2 if outputs > 64 else 1), Block(outputs, outputs, 1)]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def best_ms(precision, memory_format, rounds):
    network = resnet18().to(memory_format=memory_format).train()
    images = torch.randn(64, 3, 32, 32).to(memory_format=memory_format)
    gradient = torch.randn(64, 512)
    best = float("inf")
    for _ in range(rounds + 2):
        network.zero_grad(set_to_none=True)
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            rows = network(images)
        rows.float().backward(gradient)
        best = min(best, 1e3 * (time.perf_counter() - began))
    return best


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    formats = (torch.contiguous_format, torch.channels_last)
    value = min(best_ms(arguments.precision, each, arguments.rounds) for each in formats)
    print(json.dumps({"name": "encoder", "precision": arguments.precision, "value": value,
                      "unit": "ms", "peer": "PyTorch " + torch.__version__,
                      "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
