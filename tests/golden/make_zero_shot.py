"""Golden files of a zero-shot CLIP run: what transformers says of images beside classes.

    python tests/golden/make_zero_shot.py         writes tests/golden/clip/zero_shot_*.npy

    zero_shot_images.npy    six images of the size of tests/golden/clip/words, uint8, of which the model and its T
                            (words_text.npy) are taken
    zero_shot_h.npy         image embeddings (float64), of pixels normalised with OpenAI's statistics
    zero_shot_cosines.npy   their cosines with T
    zero_shot_mcm.npy       largest softmax of the cosines
"""
import os

import numpy as np
import torch
import transformers

HERE = os.path.dirname(os.path.abspath(__file__)) + "/clip"
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]

images = np.random.default_rng(5).integers(0, 256, (6, 12, 12, 3), dtype=np.uint8)
model = transformers.CLIPModel.from_pretrained(HERE + "/words").double().eval()
text = torch.from_numpy(np.load(HERE + "/words_text.npy")).double()
pixels = torch.from_numpy(images).double().permute(0, 3, 1, 2) / 255
pixels = (pixels - torch.tensor(MEAN).double()[:, None, None]) / torch.tensor(STD).double()[:, None, None]
with torch.no_grad():
    h = model.visual_projection(model.vision_model(pixels).pooler_output)
cosines = torch.nn.functional.normalize(h) @ text.T
np.save(HERE + "/zero_shot_images.npy", images)
np.save(HERE + "/zero_shot_h.npy", h.numpy())
np.save(HERE + "/zero_shot_cosines.npy", cosines.numpy())
np.save(HERE + "/zero_shot_mcm.npy", cosines.softmax(1).max(1).values.numpy())
print(cosines)
