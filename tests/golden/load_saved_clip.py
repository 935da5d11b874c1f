"""Opens what npi_clip_save wrote with transformers and open_clip, which must give the same embeddings of images.

    NPOS_KEEP_CLIP=FOLDER build/test_clip_save
    python tests/golden/load_saved_clip.py FOLDER
"""
import json
import os
import sys

import numpy as np
import open_clip
import torch
import transformers
from safetensors.torch import load_file

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "clip")
INTEGERS = ("input_resolution", "context_length", "vocab_size")  # OpenAI's, which open_clip's builder takes out too


def open_clips(folder, config, **settings):
    model = open_clip.CLIP(config["embed_dim"], open_clip.CLIPVisionCfg(**config["vision_cfg"]),
                           open_clip.CLIPTextCfg(**config["text_cfg"]), **settings)
    state = load_file(f"{folder}/open_clip_model.safetensors")
    model.load_state_dict({k: v for k, v in state.items() if k not in INTEGERS})
    return model.eval()


def main(kept):
    pixels = torch.tensor(np.load(f"{HERE}/pixels.npy"))
    theirs = transformers.CLIPModel.from_pretrained(f"{kept}/0")
    with open(f"{kept}/1/open_clip_config.json") as file:
        config = json.load(file)["model_cfg"]
    with torch.no_grad():
        a = theirs.visual_projection(theirs.vision_model(pixels).pooler_output)
        b = open_clips(f"{kept}/1", config).encode_image(pixels)
        error = ((a - b).abs().max() / a.abs().max()).item()
        vision = dict(layers=2, width=64, mlp_ratio=1, patch_size=4, image_size=12)
        text = dict(context_length=9, vocab_size=load_file(f"{kept}/2/open_clip_model.safetensors")
                    ["token_embedding.weight"].shape[0], width=64, heads=1, layers=1, mlp_ratio=0.75)
        c = open_clips(f"{kept}/2", {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}, quick_gelu=True)
        assert c.encode_image(pixels).isfinite().all()
    print(f"transformers and open_clip differ by {error:.1e}")
    assert error < 1e-5
    before = np.load(f"{HERE}/hf_images.npy")
    assert np.abs(a.numpy() - before).max() > 0.1, "the tuned values are not there"


if __name__ == "__main__":
    main(sys.argv[1])
