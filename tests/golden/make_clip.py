"""Golden files of CLIP: tiny models in the layouts of others, and what transformers computes with them.

    pip install torch transformers open_clip_torch
    python tests/golden/make_clip.py         writes tests/golden/clip/

    openai.pt       TorchScript in OpenAI's layout, float16, QuickGELU, heads of 64
    hf/             Hugging Face's folder, GELU, four heads of 8 and two of 12
    open_clip/      the same weights as hf/, as open_clip's parallel training writes them: below state_dict, named module.*
    words/          Hugging Face's folder with vocab.json and merges.txt, of a text tower that is read alone;
                    words_text.npy: the mean over two templates of normalised embeddings, normalised
    *.npy           pixels, ids and places of <end>, and transformers' embeddings (float64)

transformers and open_clip must agree here before anything is written.
"""
import json
import os
import re

import numpy as np
import open_clip
import torch
import transformers

HERE = os.path.dirname(os.path.abspath(__file__)) + "/clip"
VOCABULARY, CONTEXT, PROJECTION, PATCH, SIDE = 50, 9, 24, 4, 12


def config(width, heads, hidden, act, layers, text_width, text_heads, text_hidden):
    shared = dict(hidden_act=act)
    return transformers.CLIPConfig(
        text_config=dict(hidden_size=text_width, intermediate_size=text_hidden, num_hidden_layers=layers[1],
                         num_attention_heads=text_heads, vocab_size=VOCABULARY, max_position_embeddings=CONTEXT,
                         bos_token_id=VOCABULARY - 2, eos_token_id=VOCABULARY - 1, **shared),
        vision_config=dict(hidden_size=width, intermediate_size=hidden, num_hidden_layers=layers[0],
                           num_attention_heads=heads, image_size=SIDE, patch_size=PATCH, **shared),
        projection_dim=PROJECTION)


def random_model(settings, seed, half):
    torch.manual_seed(seed)
    model = transformers.CLIPModel(settings).eval()
    for name, value in model.named_parameters():
        if "norm" in name and name.endswith("weight"):
            value.data = 1 + 0.3 * torch.randn_like(value)
        elif value.ndim >= 2 and "embedding" not in name:
            value.data = torch.randn_like(value) * 1.2 / value[0].numel() ** 0.5
        else:
            value.data = 0.4 * torch.randn_like(value)
        if half:
            value.data = value.data.half().float()
    return model


def openai_names(state):
    """transformers' names to OpenAI's; q, k and v stacked, projections transposed."""
    out, parts = {}, {}
    rules = [(r"^vision_model\.embeddings\.class_embedding$", "visual.class_embedding"),
             (r"^vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
             (r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.positional_embedding"),
             (r"^vision_model\.pre_layrnorm\.", "visual.ln_pre."),
             (r"^vision_model\.post_layernorm\.", "visual.ln_post."),
             (r"^vision_model\.encoder\.layers\.", "visual.transformer.resblocks."),
             (r"^text_model\.encoder\.layers\.", "transformer.resblocks."),
             (r"^text_model\.embeddings\.token_embedding\.", "token_embedding."),
             (r"^text_model\.embeddings\.position_embedding\.weight$", "positional_embedding"),
             (r"^text_model\.final_layer_norm\.", "ln_final."), (r"\.layer_norm(\d)\.", r".ln_\1."),
             (r"\.mlp\.fc1\.", ".mlp.c_fc."), (r"\.mlp\.fc2\.", ".mlp.c_proj."),
             (r"\.self_attn\.out_proj\.", ".attn.out_proj.")]
    for name, value in state.items():
        if name == "visual_projection.weight":
            out["visual.proj"] = value.t().contiguous()
        elif name == "text_projection.weight":
            out["text_projection"] = value.t().contiguous()
        else:
            for pattern, to in rules:
                name = re.sub(pattern, to, name)
            part = re.match(r"(.*)\.self_attn\.([qkv])_proj\.(weight|bias)", name)
            if part:
                parts.setdefault(f"{part[1]}.attn.in_proj_{part[3]}", {})[part[2]] = value
            else:
                out[name] = value
    for name, part in parts.items():
        out[name] = torch.cat([part["q"], part["k"], part["v"]])
    return out


class Node(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def torch_script(state, path):
    root = Node()
    for name, value in state.items():
        at = root
        *folders, last = name.split(".")
        for folder in folders:
            if folder not in dict(at.named_children()):
                at.add_module(folder, Node())
            at = getattr(at, folder)
        if value.is_floating_point():
            at.register_parameter(last, torch.nn.Parameter(value, requires_grad=False))
        else:
            at.register_buffer(last, value)
    torch.jit.script(root).save(path)


def near(what, a, b):
    error = ((a - b).abs().max() / b.abs().max()).item()
    print(f"{what}: {error:.2e}")
    assert error < 1e-5, what


def open_clip_embeddings(model, pixels, ids):
    with torch.no_grad():
        return model.eval().float().encode_image(pixels), model.encode_text(ids)


def embeddings(model, pixels, ids):
    model = model.double()
    with torch.no_grad():
        vision = model.visual_projection(model.vision_model(pixels.double()).pooler_output)
        text = model.text_projection(model.text_model(ids).pooler_output)
    return vision, text


def byte_letters():
    """OpenAI's table: printable Latin-1 stands for itself, the other bytes are U+0100 and on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    letters = {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(others)}
    return [letters[b] for b in plain + others]


def words():
    folder = f"{HERE}/words"
    os.makedirs(folder, exist_ok=True)
    letters = byte_letters()
    merges = [("p", "h"), ("o", "t"), ("ph", "ot"), ("phot", "o</w>"), ("o", "f</w>"), ("c", "a"), ("ca", "t</w>")]
    tokens = letters + [x + "</w>" for x in letters] + [a + b for a, b in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    with open(f"{folder}/vocab.json", "w") as file:
        file.write(json.dumps({token: i for i, token in enumerate(tokens)}) + "\n")
    with open(f"{folder}/merges.txt", "w") as file:
        file.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    settings = config(8, 1, 8, "quick_gelu", (1, 2), 16, 2, 32)
    settings.text_config.vocab_size, settings.text_config.max_position_embeddings = len(tokens), 40
    settings.text_config.bos_token_id, settings.text_config.eos_token_id = len(tokens) - 2, len(tokens) - 1
    model = random_model(settings, 3, False)
    model.save_pretrained(folder)
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    model, rows = model.double(), []
    for name in ("cat", "Snow leopard", "café"):
        ids = tokenizer([f"a photo of a {name}.", f"the {name}"], padding=True, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            h = model.text_projection(model.text_model(ids).pooler_output)
        mean = torch.nn.functional.normalize(h, dim=1).mean(0)
        rows.append(mean / mean.norm())
    save("words_text", torch.stack(rows).numpy())


def save(name, array):
    np.save(f"{HERE}/{name}.npy", array)


def main():
    os.makedirs(HERE + "/hf", exist_ok=True)
    os.makedirs(HERE + "/open_clip", exist_ok=True)
    torch.manual_seed(7)
    pixels = torch.randn(3, 3, SIDE, SIDE)
    ids = torch.randint(1, VOCABULARY - 2, (4, CONTEXT))
    ends = torch.tensor([8, 3, 5, 1])
    for row, end in enumerate(ends):
        ids[row, 0], ids[row, end], ids[row, end + 1:] = VOCABULARY - 2, VOCABULARY - 1, 0
    save("pixels", pixels.numpy())
    save("ids", ids.int().numpy())
    save("ends", ends.int().numpy())

    model = random_model(config(64, 1, 64, "quick_gelu", (2, 1), 64, 1, 48), 1, True)
    state = openai_names({k: v for k, v in model.state_dict().items()})
    theirs = open_clip.CLIP(PROJECTION, open_clip.CLIPVisionCfg(layers=2, width=64, mlp_ratio=1, patch_size=PATCH,
                                                                image_size=SIDE),
                            open_clip.CLIPTextCfg(context_length=CONTEXT, vocab_size=VOCABULARY, width=64, heads=1,
                                                  layers=1, mlp_ratio=0.75), quick_gelu=True)
    theirs.load_state_dict(state)
    seen = open_clip_embeddings(theirs, pixels, ids)
    expected = embeddings(model, pixels, ids)
    near("openai, images", seen[0], expected[0])
    near("openai, texts", seen[1], expected[1])
    state = {k: v.half() for k, v in state.items()}
    for name, number in (("input_resolution", SIDE), ("context_length", CONTEXT), ("vocab_size", VOCABULARY)):
        state[name] = torch.tensor(number)
    torch_script(state, f"{HERE}/openai.pt")
    save("openai_images", expected[0].numpy())
    save("openai_texts", expected[1].numpy())

    model = random_model(config(32, 4, 64, "gelu", (2, 2), 24, 2, 48), 2, False)
    model.save_pretrained(f"{HERE}/hf")
    state = openai_names(model.state_dict())
    vision = dict(layers=2, width=32, head_width=8, mlp_ratio=2.0, patch_size=PATCH, image_size=SIDE)
    text = dict(context_length=CONTEXT, vocab_size=VOCABULARY, width=24, heads=2, layers=2, mlp_ratio=2.0)
    theirs = open_clip.CLIP(PROJECTION, open_clip.CLIPVisionCfg(**vision), open_clip.CLIPTextCfg(**text))
    theirs.load_state_dict(state)
    seen = open_clip_embeddings(theirs, pixels, ids)
    torch.save({"epoch": 3, "name": "tiny", "state_dict": {"module." + k: v for k, v in theirs.state_dict().items()}},
               f"{HERE}/open_clip/open_clip_pytorch_model.bin")
    with open(f"{HERE}/open_clip/open_clip_config.json", "w") as file:
        json.dump({"model_cfg": {"embed_dim": PROJECTION, "vision_cfg": vision, "text_cfg": text},
                   "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}, file, indent=2)
        file.write("\n")
    expected = embeddings(model, pixels, ids)
    near("open_clip, images", seen[0], expected[0])
    near("open_clip, texts", seen[1], expected[1])
    save("hf_images", expected[0].numpy())
    save("hf_texts", expected[1].numpy())
    words()


if __name__ == "__main__":
    main()
