"""The script of a model card: some 20 lines of Python that run an exported file without coattail."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.exporting.deployable import LINEAR, About

IMAGE_SCRIPT = """\
import json, sys
import numpy as np
from PIL import Image, ImageOps
{imports}

def pixels(path):
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
{square}

{load}
for path in sys.argv[1:]:
    probabilities = {call}
    best = int(probabilities.argmax())
    print(f"{{path}}: {{classes[best]}} {{probabilities[best]:.3f}}")
"""
CROPPED = """\
    width, height = image.size
    if min(width, height) != {resize}:  # the shorter side becomes {resize} pixels
        short = min(width, height)
        image = image.resize((int({resize} * width / short), int({resize} * height / short)), Image.Resampling.{mode})
    left, top = (round((side - {size}) / 2) for side in image.size)
    return np.array(image.crop((left, top, left + {size}, top + {size})))[None]"""
STRETCHED = """\
    if image.size != ({size}, {size}):  # the whole image becomes a square
        image = image.resize(({size}, {size}), Image.Resampling.{mode})
    return np.array(image)[None]"""
FEATURE_SCRIPT = """\
import json, sys
import numpy as np
{imports}

{load}
features = np.load(sys.argv[1]).astype(np.float32)  # (rows, {width})
for row in features:
    probabilities = {call}
    best = int(probabilities.argmax())
    print(f"{{classes[best]}} {{probabilities[best]:.3f}}")
"""
LOADS = {
    ".onnx": (
        "import onnxruntime",
        'session = onnxruntime.InferenceSession("{file}")\n'
        'classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])',
        'session.run(None, {{"{takes}": {row}}})[0][0]',
    ),
    ".pt2": (
        "import torch",
        'extra = {{"classes.json": ""}}\n'
        'model = torch.export.load("{file}", extra_files=extra).module()\n'
        'classes = json.loads(extra["classes.json"])',
        "model(torch.from_numpy({row})).numpy()[0]",
    ),
}
"""The suffix of a file -> what its script imports, how it is loaded, and the probabilities of one row."""
TENSOR_SCRIPT = """\
import json, sys
import numpy as np
from safetensors import safe_open

# The network itself is not in the file: this takes its features, (rows, {width}), such as coattail's caches hold.
with safe_open("{file}", framework="numpy") as file:
    t = {{name: file.get_tensor(name) for name in file.keys() if not name.startswith("backbone.")}}
    classes = json.loads(file.metadata()["classes"])
features = np.load(sys.argv[1]).astype(np.float32)
{scores}
powers = np.exp(logits - logits.max(axis=2, keepdims=True))
for probabilities in (powers / powers.sum(axis=2, keepdims=True)).mean(axis=0):
    best = int(probabilities.argmax())
    print(f"{{classes[best]}} {{probabilities[best]:.3f}}")
"""
SCORES = {
    "linear": 'logits = features[None] @ t["weight_RDC"] + t["bias_R1C"]',
    "knn": """\
far = (t["head.rows"] ** 2).sum(axis=1) - 2 * x @ t["head.rows"].T
nearest = np.argsort(far, axis=1)[:, : int(t["head.neighbours"])]
counts = np.bincount(t["head.labels"], minlength=len(classes))
votes = np.zeros((len(x), len(classes)))
for row, labels in enumerate(t["head.labels"][nearest]):
    np.add.at(votes[row], labels, 1 / counts[labels])
scores = (np.log((votes / votes.sum(axis=1, keepdims=True)).clip(1e-6)) + t["head.bias"])[None]""",
    "ridge": """\
scores = (np.maximum(x @ t["head.projection"], 0) @ t["head.weight"] + t["head.bias"])[None]""",
    "disalign": """\
plain = x @ t["head.weight"].transpose(0, 2, 1) + t["head.bias"][:, None]
sure = t["head.confidence_weight"][..., None]
sure = 1 / (1 + np.exp(-(x @ sure + t["head.confidence_bias"][:, None])))
aligned = t["head.logit_scale"][:, None] * plain + t["head.logit_shift"][:, None]
scores = sure * aligned + (1 - sure) * plain""",
    "oltr": """\
def affine(inputs, name):
    return inputs @ t[f"head.{name}_weight"].transpose(0, 2, 1) + t[f"head.{name}_bias"][:, None]

v = np.maximum(affine(x, "feature"), 0)
scores = affine(v, "plain")
if t["head.memory"]:
    share, centroids = np.exp(scores - scores.max(axis=2, keepdims=True)), t["head.centroids"]
    share = share / share.sum(axis=2, keepdims=True)
    far = np.linalg.norm(v[:, :, None] - centroids[:, None], axis=3).min(axis=2)[..., None]
    joined = 10 / far.clip(1e-3) * (v + np.tanh(affine(v, "selector")) * (share @ centroids))
    joined = joined / (1 + np.linalg.norm(joined, axis=2, keepdims=True))
    weight = t["head.class_weight"] / np.linalg.norm(t["head.class_weight"], axis=2, keepdims=True)
    scores = 16 * joined @ weight.transpose(0, 2, 1)""",
}
"""The lines that compute logits (seeds, rows, classes) in a safetensors file's script, by the classifier's architecture. Those of
classifiers that are no linear map stand between the features' coordinates and the temperature."""
NOT_LINEAR = """\
x = (features - t["head.offset"]) * t["head.factor"]
{scores}
logits = scores / {temperature} + t["shift_C"]"""


def script_of(about: About, path: Path) -> str:
    """Some 20 lines of Python that run the file on images, or on features, without coattail."""
    name = path.name.replace("\\", "\\\\").replace('"', '\\"')
    if path.suffix == ".safetensors":
        return TENSOR_SCRIPT.format(file=name, width=about.width, scores=_scores(about))
    imports, load, call = LOADS[path.suffix]
    row = "pixels(path)" if about.takes == "pixels" else "row[None]"
    text = IMAGE_SCRIPT if about.takes == "pixels" else FEATURE_SCRIPT
    return text.format(
        imports=imports,
        load=load.format(file=name),
        call=call.format(takes=about.takes, row=row),
        width=about.width,
        square=_square(about.transform) if about.takes == "pixels" else "",
    )


def _square(transform: Mapping[str, Any]) -> str:
    """The lines of the script that make an image a square, as the cache's identity says."""
    lines = STRETCHED if transform.get("fit") == "stretch" else CROPPED
    mode = str(transform.get("interpolation", "bilinear")).upper()
    return lines.format(size=transform["size"], resize=transform["resize"], mode=mode)


def _scores(about: About) -> str:
    scores = SCORES[about.architecture]
    return scores if about.architecture == LINEAR else NOT_LINEAR.format(scores=scores, temperature=about.temperature)
