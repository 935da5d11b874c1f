"""A checkpoint as NPOS's authors save it when they fine-tune CLIP, and what their network says.

    python tests/golden/make_authors_clip.py      writes tests/golden/clip/authors.pt, authors_h.npy, authors_phi.npy

The module is written anew from the names that their file has: transformer_resblocks.block0 (the last block of
tests/golden/clip/words, which has one), ln_post, proj, outlier_MLP. Its blocks are OpenAI's: queries, keys and values
in one product, QuickGELU. As on their GPU the matrices are float16 and the rest float32; the golden values are
computed from these rounded values in float64, for the images of zero_shot_images.npy.
"""
import os
from collections import OrderedDict

import numpy as np
import torch
from torch import nn
import transformers

HERE = os.path.dirname(os.path.abspath(__file__)) + "/clip"
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(OrderedDict(c_fc=nn.Linear(width, hidden), gelu=QuickGELU(), c_proj=nn.Linear(hidden, width)))

    def forward(self, x):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class Tuned(nn.Module):
    def __init__(self, width, heads, hidden, projection):
        super().__init__()
        self.ln_post = nn.LayerNorm(width)
        self.transformer_resblocks = nn.Sequential(OrderedDict(block0=Block(width, heads, hidden)))
        self.proj = nn.Parameter(torch.randn(width, projection) * 0.2)
        self.outlier_MLP = nn.Sequential(nn.Linear(projection, 7), nn.ReLU(), nn.Linear(7, 1))

    def forward(self, tokens):
        return self.ln_post(self.transformer_resblocks(tokens)[:, 0]) @ self.proj


torch.manual_seed(3)
clip = transformers.CLIPModel.from_pretrained(HERE + "/words").double().eval()
config = clip.config.vision_config
tuned = Tuned(config.hidden_size, config.num_attention_heads, config.intermediate_size, clip.config.projection_dim)
for name, p in tuned.named_parameters():
    p.data = torch.randn_like(p) * 0.3 + (1 if "ln_" in name and name.endswith("weight") else 0)
state = {name: p.data.half() if p.ndim > 1 and "outlier" not in name else p.data for name, p in tuned.named_parameters()}
torch.save(OrderedDict(state), HERE + "/authors.pt")

tuned.load_state_dict({name: p.float() for name, p in state.items()})
tuned = tuned.double().eval()
pixels = torch.from_numpy(np.load(HERE + "/zero_shot_images.npy")).double().permute(0, 3, 1, 2) / 255
pixels = (pixels - torch.tensor(MEAN).double()[:, None, None]) / torch.tensor(STD).double()[:, None, None]
with torch.no_grad():
    vision = clip.vision_model
    h = tuned(vision.pre_layrnorm(vision.embeddings(pixels)))
    np.save(HERE + "/authors_h.npy", h.numpy())
    np.save(HERE + "/authors_phi.npy", tuned.outlier_MLP(h)[:, 0].numpy())
print(h.shape, os.path.getsize(HERE + "/authors.pt"))
