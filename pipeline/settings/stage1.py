"""[data], [longtail], [backbone], [stage1], [extract]: what a cache comes from."""

from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.settings.section import NonNegative, Positive, Section, Share

# Upper bounds far above any use: a number from a file that somebody else wrote is refused before memory is taken for it.
Epochs = Annotated[int, Field(ge=0, le=100_000)]
Batch = Annotated[int, Field(ge=1, le=1 << 20)]
Rows = Annotated[int, Field(ge=0, lt=1 << 40)]
"""A number of images; a cache holds fewer than 2^40."""
Pixels = Annotated[int, Field(ge=1, le=4096)]


TEST_VIEWS = {"none": 1, "crop": 5, "crop-flip": 10, "resized-crop": 10}
"""The most views of a test image, by `stage1.augmentation`: it is moved where training crops, and mirrored where it mirrors."""
_ADDED: dict[str, Any] = {"body_factor": 1.0, "optimizer": "sgd", "muon_rate": 0.02, "muon_decay": 0.1}
"""Settings of [stage1] that came after runs were made, at what was done before."""


class Data(Section):
    """Where images and labels come from. Paths may hold `~`, `$VARIABLE` and, for Parquet, `*`."""

    source: Literal[
        "digits", "parquet", "cifar10", "cifar100", "folder", "list", "table", "npz", "webdataset", "inaturalist",
        "imagenet-lt", "places-lt",
    ] = "digits"  # fmt: skip
    train: str = ""
    """Parquet files, a folder of class folders, a list file, a table of paths (CSV, TSV, JSON lines, Parquet), arrays
    (.npz, .npy), WebDataset's tar files, or the folder of a published data set's own files (CIFAR, iNaturalist, …)."""
    val: str = ""
    test: str = ""
    """Empty: `test_share` of each training class is held out before the long-tailed draw."""
    test_share: Share = 0.2
    val_share: Share = 0.0
    """Where `val` is empty: this share of each class of the long-tailed training images, rounded and at least one, is held out as
    the split `val`. No stage trains on it; heads are chosen on it. A class of one image keeps it for training."""
    root: str = ""
    """Folder that the paths of a list file or a table are relative to; empty: the folder that the file lies in, of a published
    data set the one that `train` names."""
    classes: tuple[str, ...] = ()
    """Class names in label order, where the source has none; for `list`, may stay empty."""
    image_column: str = "image"
    label_column: str = "label"
    split_column: str = ""
    """Column of a table that says train, val or test; empty: one of the usual names, such as split, where there is one."""
    image_size: Pixels = 32
    """Pixels a side at which the backbone sees an image."""
    interpolation: Literal["bilinear", "bicubic", "lanczos"] = "bilinear"
    """How pixels are computed where an image is made smaller or larger."""
    fit: Literal["crop", "stretch"] = "crop"
    """How an image that is no square becomes one: its centre is cut out, or the whole is stretched."""
    mean: tuple[NonNegative, ...] = (0.4914, 0.4822, 0.4465)
    std: tuple[Positive, ...] = (0.2023, 0.1994, 0.2010)
    download: bool = False
    on_bad: Literal["fail", "skip"] = "fail"
    """An image that cannot be decoded: stop and name it, or leave it out and list it."""
    bad_limit: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Under `on_bad = "skip"`: the largest share of a split's images that may be left out."""
    ram_limit: Annotated[float, Field(gt=0, le=1 << 20)] = 4.0
    """GiB of decoded uint8 images that may be held in RAM; above it images are decoded as they are used."""
    decoded: Literal["auto", "ram", "disk", "no"] = "auto"
    """Where decoded images are kept, at the size that the backbone sees: `ram`; `disk`, a memory-mapped file in the folder of
    caches, which later runs find again; `no`: they are decoded each time they are used. `auto`: `ram` up to `ram_limit`, else
    `no`. Pixels are the same. A resized crop is cut from the whole photograph, of which nothing is kept."""
    workers: Annotated[int, Field(ge=0, le=1024)] = 2

    def transform(self) -> dict[str, Any]:
        """What a run's key has of how an image becomes the backbone's input; what came later, where it is not what was done."""
        later = {"interpolation": "bilinear", "fit": "crop"}
        values = self.model_dump(mode="json", include={"image_size", "mean", "std", *later})
        return {name: value for name, value in values.items() if later.get(name) != value}


class LongTail(Section):
    """The imbalance that is drawn from the training split; the test split is never touched."""

    profile: Literal["exponential", "natural"] = "natural"
    """`natural` takes the training split as it is; `exponential` draws `imbalance_factor` from it."""
    imbalance_factor: Annotated[float, Field(ge=1)] = 100.0
    draw: Literal["shuffle", "cao"] = "shuffle"
    """`cao`: numpy's legacy `seed(0)` shuffle, class by class, as the LDAM code draws CIFAR-LT."""
    n_max: Rows = 0
    """Size of the largest class after the draw; 0: the largest profile that every class can fill."""
    many_above: Rows = 0
    few_below: Rows = 0
    """Many-shot classes have more training images, few-shot ones fewer. 0: 100 and 20, or the thirds of the classes by size
    where no class has more than 100."""


class Backbone(Section):
    """The network that turns an image into a feature."""

    name: str = "resnet32"
    weights: str = ""
    """'' for random, a .safetensors file, torchvision's entry, such as 'IMAGENET1K_V2', open_clip's tag, or for `timm:NAME` and
    efficientnet-lite0 'pretrained'."""
    ending: Literal["plain", "bbn", "new-block"] = "plain"
    """`bbn`: the last block twice, with features side by side (BBN); `new-block`: one more block, all before it frozen
    (MiSLAS's Places-LT)."""

    @property
    def full_name(self) -> str:
        """The name with its ending, such as resnet32-bbn."""
        return self.name if self.ending == "plain" else f"{self.name}-{self.ending}"


class Stage1(Section):
    """Backbone training (paper, section 4.1)."""

    epochs: Epochs = 200
    """0: the backbone is taken as it is, with its `weights`, and without a classifier."""
    batch_size: Batch = 128
    """Images of a step, counted over all processes and parts that share it."""
    optimizer: Literal["sgd", "muon"] = "sgd"
    """`muon`: the weights of the backbone's convolutions and linear layers are moved by Muon (Jordan et al., 2024), with a rate
    and a decay of their own and a momentum of 0.95, all others by SGD with Nesterov's momentum. For short trainings of small
    networks from scratch. Its own arithmetic grows with the cube of the width: 3 % of a step of ResNet-32, but a step of
    ResNet-50 on images of 32 pixels takes 4.6 times as long as with SGD."""
    muon_rate: Positive = 0.02
    """Muon's rate where SGD's is `learning_rate`; the schedule moves both."""
    muon_decay: NonNegative = 0.1
    """Muon's weight decay: a step at rate r multiplies weights by 1 - r `muon_decay`."""
    learning_rate: Positive = 0.1
    momentum: Share = 0.9
    weight_decay: NonNegative = 2e-4
    """Of what SGD moves, as part of the gradient."""
    schedule: Literal["steps", "cosine", "one-cycle"] = "steps"
    """`steps` and `cosine` follow a linear warm-up. `one-cycle` rises to `learning_rate` in the first 30 % of the steps and
    falls to nothing in the others, for trainings of few epochs."""
    warmup_epochs: Annotated[float, Field(ge=0, le=100_000)] = 5.0
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.8, 0.9)
    """Shares of `epochs` (0.8, not 160) after which the rate is multiplied by `gamma`: 160 and 180 of 200."""
    gamma: Positive = 0.1
    loss: Literal["ce", "focal", "ldam", "logit-adjusted"] = "ce"
    """`ldam` brings a cosine classifier; `logit-adjusted` at `loss_tau` 1 is the balanced softmax."""
    label_smoothing: Share = 0.0
    focal_gamma: NonNegative = 1.0
    ldam_margin: Positive = 0.5
    """Margin of the smallest class; larger classes have smaller ones."""
    cosine_scale: Positive = 30.0
    loss_tau: NonNegative = 1.0
    reweight: Literal["none", "class-balanced", "drw"] = "none"
    """Class weights by effective numbers: none, in all epochs, or deferred to those after `drw_start`."""
    reweight_beta: Share = 0.9999
    drw_start: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Share of `epochs` after which classes are weighted: 160 of 200."""
    mixing: Literal["none", "mixup", "remix", "cutmix"] = "mixup"
    mixup_alpha: Positive = 1.0
    """Both parameters of the Beta distribution that the share of a mixed image is drawn from."""
    remix_kappa: Annotated[float, Field(ge=1)] = 3.0
    remix_tau: Annotated[float, Field(ge=0, le=1)] = 0.5
    sam_rho: NonNegative = 0.0
    """Radius of sharpness-aware minimisation; 0: none. It doubles the work of a step."""
    averaging: Literal["none", "ema", "swa"] = "none"
    """The weights that are kept: the last step's, an exponential average over steps, the mean over epochs after `swa_start`."""
    ema_decay: Share = 0.999
    swa_start: Annotated[float, Field(ge=0, lt=1)] = 0.8
    augmentation: Literal["none", "crop", "crop-flip", "resized-crop"] = "crop-flip"
    policy: Literal["none", "trivialaugment", "randaugment"] = "none"
    """Operations drawn for each image after the crop. TrivialAugment was tuned on nothing; RandAugment's two numbers were
    tuned on full, balanced data sets."""
    randaugment_operations: Annotated[int, Field(ge=1, le=100)] = 2
    randaugment_magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    """2 and 9 are for ResNet-50 on full ImageNet (Cubuk et al., 2020), on torchvision's scale, where 30 is strongest."""
    cutout: Annotated[int, Field(ge=0, le=4096)] = 0
    """Pixels a side of a blanked square, 0: none; 16 for CIFAR-10 and 8 for CIFAR-100, chosen on the full sets."""
    amp: Literal["auto", "off", "bf16", "fp16"] = "auto"
    """Number format of the network's arithmetic; weights stay float32. `auto`: bf16 where the device computes in it at speed
    and images have at least 32 pixels a side, else float32 (`off`). The run records what it was."""
    accumulate: Batch = 1
    """Parts that a batch goes through the network in, where memory is short; batch normalisation sees a part at a time."""
    body_factor: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Learning rate of the backbone over that of the classifier; below 1 for a backbone that begins with good weights."""
    sync_batchnorm: bool = False
    """Under torchrun on CUDA: batch normalisation over all processes' parts of a batch."""
    channels_last: bool = True
    compile: bool = False
    device: str = "auto"
    checkpoint_minutes: NonNegative = 10.0
    """Minutes between checkpoints within an epoch. Every epoch is saved at its end besides."""

    def keyed(self) -> dict[str, Any]:
        """What a run's key is made of: what decides the weights. A setting that came later is left out where it is at what
        was done before, so older keys hold."""
        values = self.model_dump(mode="json", exclude={"device", "compile", "checkpoint_minutes"})
        return {name: value for name, value in values.items() if name not in _ADDED or value != _ADDED[name]}


class Extract(Section):
    """What is dumped from the frozen backbone."""

    layers: Annotated[tuple[str, ...], Field(min_length=1, max_length=16)] = ("pooled",)
    """Which outputs are the feature, side by side: `pooled`, the last one, or modules of the network by their path, such as
    `layer3`, each the mean over its places or tokens, with `:max` the maximum, with `:first` the first token."""
    views: Annotated[int, Field(ge=0, le=99)] = 4
    """Augmented views of each training image, beside the clean one."""
    view_policy: Literal["training", "flip-crop", "trivialaugment", "randaugment"] = "training"
    """How those are drawn: as stage 1 augments; by its crop and flip alone; or by its crop and flip, then these operations."""
    test_views: Annotated[int, Field(ge=1, le=max(TEST_VIEWS.values()))] = 1
    """Views of each test and val image, the clean one among them. The others are mirrored and moved, in the same way for every
    image; `retrain.test_views` averages over them."""
    dtype: Literal["float16", "float32"] = "float16"
    batch_size: Batch = 256
    amp: Literal["auto", "off", "bf16", "fp16"] = "off"
    bn: Literal["plain", "shifted"] = "plain"
    """`shifted`: batch-norm statistics are estimated again under class-balanced sampling (MiSLAS)."""
    maps: bool = False
    """Whether the last feature map (D, h, w) of each clean image is kept too, for the augmentation `feature-aug`; in h x w times
    the space of the feature. For resnets and efficientnet-lite0."""
