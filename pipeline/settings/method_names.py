"""What methods are called: in metrics.json, in the names of run folders, and in tables."""

from pydantic import ValidationError

from cache import Manifest
from pipeline.settings import Settings
from pipeline.settings.stage1 import Stage1
from pipeline.settings.stage3 import AUGMENTATIONS, HEADS, Retrain

SPELT = {
    "balanced-softmax": "balanced softmax",
    "bbn": "BBN",
    "cb": "CB",
    "ce": "CE",
    "cutmix": "CutMix",
    "cutout": "Cutout",
    "drw": "DRW",
    "ema": "EMA",
    "fine-tune": "fine-tuning",
    "label-smoothing": "label smoothing",
    "ldam": "LDAM",
    "muon": "Muon",
    "new-block": "new block",
    "randaugment": "RandAugment",
    "remix": "Remix",
    "sam": "SAM",
    "swa": "SWA",
    "trivialaugment": "TrivialAugment",
}
"""Methods as the literature writes them, where that differs from the name in `configs/methods/`."""
RECORDED = ("backbone", "stage1")
"""The sections of a cache's settings that name its stage 1."""


def stage1_method(settings: Settings) -> str:
    """`ce`, `mixup`, `ldam-drw`, `mixup+sam` …: the methods of `configs/methods/` that make these settings."""
    return "+".join(["-".join(_trained(settings)), *_added(settings)])


def stage1_label(manifest: Manifest) -> str:
    """`mixup + SAM (stage 1)`: the method of a cache's backbone; `frozen resnet50 (stage 1)` of one that is taken as it is;
    `classifier (stage 1)` where none is recorded."""
    recorded = manifest.provenance.settings
    if "stage1" not in recorded:
        return "classifier (stage 1)"
    try:
        settings = Settings.model_validate({name: recorded[name] for name in RECORDED if name in recorded})
    except ValidationError:  # of another version
        return "classifier (stage 1)"
    if settings.stage1.epochs == 0:
        shifted = " + shifted BN" if manifest.identity.bn == "shifted" else ""
        return f"frozen {settings.backbone.full_name}{shifted} (stage 1)"
    decay = f"weight decay {settings.stage1.weight_decay:g}"
    added = [decay if name == "weight-decay" else SPELT.get(name, name) for name in _added(settings)]
    added += ["shifted BN"] if manifest.identity.bn == "shifted" else []
    return " + ".join(["-".join(SPELT.get(name, name) for name in _trained(settings)), *added]) + " (stage 1)"


def _trained(settings: Settings) -> list[str]:
    """Network, loss, mixing and class weights, as far as they are not the plain ones."""
    stage1 = settings.stage1
    loss = "balanced-softmax" if stage1.loss == "logit-adjusted" and stage1.loss_tau == 1 else stage1.loss
    parts = ["bbn"] if settings.backbone.ending == "bbn" else []
    parts += [loss] if loss != "ce" else []
    parts += [stage1.mixing] if stage1.mixing != "none" else []
    parts = parts or ["ce"]
    return parts + (
        [{"class-balanced": "cb"}.get(stage1.reweight, stage1.reweight)] if stage1.reweight != "none" else []
    )


def _added(settings: Settings) -> list[str]:
    """What goes with any network, loss or mixing: averaging, SAM, label smoothing, stronger augmentation …"""
    stage1 = settings.stage1
    chosen = {
        "new-block": settings.backbone.ending == "new-block",
        "label-smoothing": stage1.label_smoothing > 0,
        stage1.policy: stage1.policy != "none",
        "cutout": stage1.cutout > 0,
        "sam": stage1.sam_rho > 0,
        stage1.optimizer: stage1.optimizer != "sgd",
        "fine-tune": stage1.body_factor < 1,
        stage1.averaging: stage1.averaging != "none",
        "weight-decay": stage1.weight_decay != Stage1().weight_decay,
    }
    return [name for name, there in chosen.items() if there]


def stage3_method(settings: Retrain) -> str:
    """`crt+stg`, `lws`, `logit-adjustment`, …: the head, and the augmentation where there is one."""
    if not settings.is_trained or settings.augmentation == "none":
        return settings.head
    return f"{settings.head}+{settings.augmentation}"


def label(method: str, stage1: str) -> str:
    """The arm's name as people say it; that of stage 1 is given."""
    if method == "stage1":
        return stage1
    head, _, augmentation = method.partition("+")
    return " ".join([HEADS.get(head, head), AUGMENTATIONS.get(augmentation, augmentation)]).strip()
