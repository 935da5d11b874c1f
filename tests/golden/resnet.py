"""Names and shapes of torchvision's ResNets without their classifier, one "model name shape" a line.

    python tests/golden/resnet.py > tests/golden/resnet.txt
"""
import torchvision

for model in ("resnet18", "resnet34", "resnet50", "resnet101"):
    for name, value in getattr(torchvision.models, model)().state_dict().items():
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked"):
            print(model, name, *value.shape)
