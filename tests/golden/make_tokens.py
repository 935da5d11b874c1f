"""Golden files of tokens in torch's files: number k of image i is ((20 i + k) mod 97 - 48) / 16.

    python tests/golden/make_tokens.py         writes tests/golden/tokens/

    feature.pt, target.pt     three images of five rows of four numbers, float32; labels 2, 0, 2
    classes/cat/a.pt, b.pt    the same images, one a file: float16 [5][4], float64 [1][5][4]
    classes/dog/c.pt          float32 [5][1][4]
    classes/empty/            a class without images does not count
"""
import os

import torch

HERE = os.path.dirname(os.path.abspath(__file__)) + "/tokens"


def image(i):
    return ((torch.arange(20) + 20 * i) % 97 - 48).float().div(16).reshape(5, 4)


for folder in ("cat", "dog", "empty"):
    os.makedirs(f"{HERE}/classes/{folder}", exist_ok=True)
torch.save(torch.stack([image(i) for i in range(3)]), f"{HERE}/feature.pt")
torch.save(torch.tensor([2, 0, 2]), f"{HERE}/target.pt")
torch.save(image(0).half(), f"{HERE}/classes/cat/a.pt")
torch.save(image(1).double()[None], f"{HERE}/classes/cat/b.pt")
torch.save(image(2)[:, None], f"{HERE}/classes/dog/c.pt")
with open(f"{HERE}/classes/empty/note.txt", "w") as file:
    file.write("no tokens\n")
