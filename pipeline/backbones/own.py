"""A backbone of the user's own. It runs the user's code, so only the command line may name it, never a file."""

import importlib
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor, nn

from pipeline.backbones.ready_made import Given
from pipeline.backbones.source import source_digest
from pipeline.errors import ConfigError, DataError, out_of_memory

_DIGESTS: dict[str, str] = {}
"""Name of a module that this process imported here -> the digest of its source when it was first imported."""


class Own(Given):
    """The user's module as a backbone. An error that it raises becomes one line."""

    def __init__(self, module: nn.Module, width: int, reference: str, source: str) -> None:
        super().__init__(module, width)
        self.reference = reference
        self.source = source
        """sha256, hex, as `source_digest` takes it."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D). Raises DataError where the module raises, or gives something else for this batch."""
        try:
            with _printing_to_stderr():
                features = self.module(x)
        except (Exception, SystemExit) as error:  # whatever somebody's code may raise
            if out_of_memory(error):
                raise
            raise DataError(
                f"--backbone-module {self.reference}: raised {_reason(error)} for {len(x)} images; correct the module"
            ) from None
        if _shape(features) != (len(x), self.width):
            raise DataError(
                f"--backbone-module {self.reference}: wanted features {(len(x), self.width)} of {len(x)} images, found "
                f"{_kind(features)}; correct the module"
            )
        return features


def own_module(reference: str, size: int) -> Own:
    """`module:attribute` imported from the working folder: an nn.Module, or a function that returns one, giving (B, D).

    `size` is the side, in pixels, of the images that it is tried with. It runs the caller's code, so `reference` must come
    from the command line. Raises ConfigError for what cannot be imported, raises, or is no such module.
    """
    attribute, source = _imported(reference)
    try:
        with _printing_to_stderr():
            module = attribute() if callable(attribute) and not isinstance(attribute, nn.Module) else attribute
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"--backbone-module {reference}: wanted an nn.Module, or what returns one without arguments, found {_reason(error)}"
        ) from None
    if not isinstance(module, nn.Module):
        raise ConfigError(f"--backbone-module {reference}: wanted an nn.Module, found {type(module).__name__}")
    features = _tried(module, reference, size)
    shape = _shape(features)
    if len(shape) != 2 or shape[0] != 2 or shape[1] < 1:
        raise ConfigError(
            f"--backbone-module {reference}: wanted features (B, D), D 1 or more, found {_kind(features)} of 2 images"
        )
    return Own(module, shape[1], reference, source)


def _imported(reference: str) -> tuple[object, str]:
    """The attribute and the digest of its module's source."""
    name, colon, attribute = reference.partition(":")
    if not (colon and attribute.isidentifier() and all(part.isidentifier() for part in name.split("."))):
        raise ConfigError(f"--backbone-module {reference}: wanted module:attribute, such as mine:build")
    before = name in sys.modules
    sys.path.insert(0, str(Path.cwd()))
    try:
        with _printing_to_stderr():
            module = importlib.import_module(name)
            value = getattr(module, attribute)
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"--backbone-module {reference}: wanted module:attribute that can be imported from {Path.cwd()}, found "
            f"{_reason(error)}"
        ) from None
    finally:
        sys.path.pop(0)
    source = source_digest(module)
    if before and _DIGESTS.get(name, source) != source:
        raise ConfigError(
            f"--backbone-module {reference}: its source has changed since this process imported it; start a new process"
        )
    _DIGESTS[name] = source
    return value, source


def _tried(module: nn.Module, reference: str, size: int) -> object:
    """The module's output for two black images."""
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    try:
        if not all(isinstance(value, Tensor) for value in module.state_dict().values()):
            raise TypeError("a state_dict that does not hold tensors alone")
        with torch.inference_mode(), _printing_to_stderr():
            return module.eval()(torch.zeros(2, 3, size, size, device=device))
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"--backbone-module {reference}: wanted features (B, D) of 2 images of {size} x {size} pixels, found {_reason(error)}"
        ) from None


def _printing_to_stderr() -> redirect_stdout[TextIO]:
    """What the user's code prints goes to stderr: stdout may hold one JSON document and nothing else."""
    return redirect_stdout(sys.stderr)


def _shape(features: object) -> tuple[int, ...]:
    return tuple(features.shape) if isinstance(features, Tensor) else ()


def _kind(features: object) -> str:
    return f"shape {tuple(features.shape)}" if isinstance(features, Tensor) else f"a {type(features).__name__}"


def _reason(error: BaseException) -> str:
    """An error's type and its words, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
