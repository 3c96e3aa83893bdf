"""Heads and augmentations, one row each: what people call it, what makes it, which settings it uses. Nothing here imports torch.

`made_by` names a file and what lies in it: `trained.under_the_prior` is that function of `pipeline/classifiers/trained.py`.
"""

from dataclasses import dataclass, field

from pipeline.settings.stage2 import STG

TRAINING = (
    "augmentation", "start", "sampling", "views", "epochs", "steps", "batch_size", "optimizer", "learning_rate",
    "momentum", "weight_decay", "schedule", "warmup_steps", "seeds",
)  # fmt: skip
"""Settings of `retrain` that every head uses that is trained step by step."""
SEED = frozenset({"seed"})
"""What a head uses that draws something at random."""
FOR_ALL = ("test_views",)
"""Settings of `retrain` that every head uses, trained or computed."""
BORROWING = ("head_classes", "head_above", "head_share_limit", "head_share", "similarity")
"""Settings of `stg` that say which class lends to which, with or without a generator."""
EQUATIONS = ("strength", "threshold", "augmented")
"""Settings of `retrain` in Eq. 3 and 4."""


@dataclass(frozen=True)
class Head:
    """How features become a classifier."""

    label: str
    """What people call it."""
    made_by: str
    """In `pipeline/classifiers/`: a function of a Problem; for a head that is trained, a Training or a loss."""
    uses: frozenset[str]
    """Dotted keys of the settings that it uses."""
    trained: bool = False
    """Whether it is trained step by step, on features that may be augmented."""
    prior_aware: bool = False
    """Whether its loss corrects the training prior; class-balanced sampling would correct it twice."""
    reads_val: bool = False
    """Whether it uses labelled rows of a `val` split, where a cache has one."""
    compared: bool = True
    """Whether every comparison has it. Dear ones are compared where they are named."""


@dataclass(frozen=True)
class Augmented:
    """How the features of a training step are changed. What does it stands in `pipeline/augment/kinds.py`."""

    label: str
    uses: frozenset[str] = field(default=frozenset())
    compared: bool = True
    """Whether it is an arm of every comparison."""
    reads_maps: bool = False
    """Whether it wants the feature maps of the cache, which `extract.maps` keeps, and the stage-1 classifier."""


def _retrain(*names: str) -> frozenset[str]:
    return frozenset(f"retrain.{name}" for name in names)


def _computed(label: str, made_by: str, *uses: str, draws: bool = False) -> Head:
    return Head(label, made_by, _retrain(*uses) | (SEED if draws else frozenset()))


def _choosing(label: str, made_by: str, *uses: str) -> Head:
    # It deals the training rows to folds at random.
    return Head(label, made_by, _retrain(*uses) | {"choice.metric"} | SEED, reads_val=True)


def _trained(
    label: str,
    made_by: str,
    *uses: str,
    prior_aware: bool = False,
    reads_val: bool = False,
    compared: bool = True,
    starts_anew: bool = False,
) -> Head:
    training = [name for name in TRAINING if name != "start" or not starts_anew]
    return Head(label, made_by, _retrain(*training, *uses) | SEED, True, prior_aware, reads_val, compared)


_CALIBRATION = _retrain("neighbour_classes", "spread", "covariance")
_FUSION = _retrain("neighbour_classes", "specific_above", "generic_below", "fused_rows")
_BORROWED = frozenset(f"stg.{name}" for name in BORROWING if name != "similarity")
HEADS: dict[str, Head] = {
    "stage1": _computed("stage 1", "post_hoc.stage1"),
    "logit-adjustment": _computed("logit adjustment", "post_hoc.adjusted", "tau"),
    "tau-norm": _computed("tau-normalisation", "post_hoc.tau_norm", "tau"),
    "scaling": _choosing("vector scaling", "computed.scaling"),
    "ncm": _computed("nearest class mean", "post_hoc.ncm", "distance"),
    "knn": _computed("nearest neighbours", "computed.knn", "neighbours"),
    "ridge": _computed("random ridge", "computed.ridge", draws=True),
    "logistic": _choosing("logistic regression", "computed.logistic", "l2", "tau"),
    "lda": _choosing("LDA", "computed.lda", "shrinkage"),
    "transfer": _choosing("LDA, means transferred", "computed.transfer", "shrinkage", "transfer"),
    "auto": _choosing("auto", "computed.auto"),
    "crt": _trained("cRT", "trained.cross_entropy"),
    "lws": _trained("LWS", "trained.LWS"),
    "generalized": _trained(
        "generalised classifier", "trained.GENERALIZED", "classifier_factor", "smoothing_head", "smoothing_tail"
    ),
    "logit-adjusted": _trained("logit-adjusted loss", "trained.under_the_prior", "tau", prior_aware=True),
    "balanced-softmax": _trained("balanced softmax", "weighted.balanced_softmax", prior_aware=True),
    "class-balanced": _trained("class-balanced weights", "weighted.class_balanced", "reweight_beta", prior_aware=True),
    "focal": _trained("focal loss", "weighted.focal", "focal_gamma"),
    "ldam": _trained(
        "LDAM", "cosine.LDAM", "margin", "cosine_scale", "reweight_beta", "reweight_start", prior_aware=True
    ),
    "gcl": _trained("GCL", "cosine.GCL", "margin", "cosine_scale", "cloud", "focal_gamma"),
    "isda": _trained("ISDA", "isda.ISDA", "semantic_strength", "covariance"),
    "metasaug": _trained(
        "MetaSAug",
        "metasaug.METASAUG",
        "semantic_strength",
        "meta_rate",
        "reweight_beta",
        prior_aware=True,
        reads_val=True,
        compared=False,
    ),
    "marc": _trained("MARC", "marc.MARC", "reweight_power", prior_aware=True),
    "disalign": _trained("DisAlign", "disalign.DISALIGN", "reweight_power", prior_aware=True),
    "max-norm": _trained("MaxNorm", "max_norm.MAX_NORM", "max_norm", "reweight_beta", prior_aware=True),
    "oltr": _trained("OLTR", "oltr.OLTR", "hidden", compared=False, starts_anew=True),
    "lfme": _trained("LFME", "lfme.LFME", compared=False),
}
"""Every head. `pipeline/classifiers/kinds.py` takes up what each names."""

REVISIONS = dict.fromkeys(
    ("disalign", "gcl", "lda", "lfme", "logistic", "max-norm", "oltr", "scaling", "transfer", "+transfer"), 2
) | dict.fromkeys(("auto", "knn", "ridge"), 3)
"""Heads, and augmentations behind a +, that give other figures than in an earlier version, or keep more in their file. The number
is in a run's key, so that what the earlier version made is not taken for what this one makes."""

AUGMENTATIONS: dict[str, Augmented] = {
    "none": Augmented(""),
    "dropout": Augmented("+ dropout", _retrain("dropout")),
    "noise": Augmented("+ noise", _retrain("noise")),
    "transfer": Augmented("+ transferred means", _retrain("borrow", "shrinkage")),
    "closed-form": Augmented("+ closed form", _retrain(*EQUATIONS) | {f"stg.{name}" for name in BORROWING}),
    "stg": Augmented("+ STG", _retrain(*EQUATIONS) | {f"stg.{name}" for name in STG.model_fields}),
    "h2t": Augmented("+ H2T", _retrain("fused"), compared=False),
    "class-gaussian": Augmented("+ class Gaussians", compared=False),
    "distribution-calibration": Augmented("+ distribution calibration", _CALIBRATION | _BORROWED, compared=False),
    "tailcalibx": Augmented("+ TailCalibX", _CALIBRATION, compared=False),
    "feature-aug": Augmented("+ FeatureAug", _FUSION | _BORROWED, compared=False, reads_maps=True),
}
"""Every augmentation."""
