"""A finished classifier as one file for use without coattail, and how near its probabilities come to the run's own."""

import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from cache.disk import durable
from pipeline.errors import ConfigError, DataError
from pipeline.exporting.deployable import ABOUT, About, Deployable, example

ROWS = 2
"""Of the example that a graph is traced with. Of 1, torch would take the number of rows for fixed."""


def _as_onnx(model: Deployable, about: About) -> bytes:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"--to onnx: wants {', '.join(missing)}; install coattail with the extra onnx: coattail[onnx]"
        )
    noisy = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    levels = [logger.level for logger in noisy]
    try:
        for logger in noisy:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                model,
                (example(about, ROWS),),
                input_names=[about.takes],
                output_names=["probabilities"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
    finally:
        for logger, level in zip(noisy, levels, strict=True):
            logger.setLevel(level)
    if program is None:
        raise DataError("--to onnx: torch gave no graph")
    proto = program.model_proto
    proto.metadata_props.add(key=ABOUT, value=about.model_dump_json())
    proto.metadata_props.add(key="classes", value=json.dumps(about.classes))
    return proto.SerializeToString()


def _as_torch_export(model: Deployable, about: About) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            model, (example(about, ROWS),), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False
        )
        content = io.BytesIO()
        extra = {f"{ABOUT}.json": about.model_dump_json(), "classes.json": json.dumps(about.classes)}
        torch.export.save(program, content, extra_files=extra)
    return content.getvalue()


def _as_safetensors(model: Deployable, about: About) -> bytes:
    import safetensors.torch

    plain = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    return safetensors.torch.save(plain, {ABOUT: about.model_dump_json(), "classes": json.dumps(about.classes)})


WRITERS: dict[str, tuple[str, Callable[[Deployable, About], bytes]]] = {
    "onnx": (".onnx", _as_onnx),
    "safetensors": (".safetensors", _as_safetensors),
    "torch-export": (".pt2", _as_torch_export),
}
"""Value of --to -> the file's suffix, and what makes its content."""


def write_model(model: Deployable, about: About, kind: str, path: Path) -> None:
    """Write the model, whole or not at all.

    Raises ConfigError for a kind that there is not or a package that is missing, DataError for a network that cannot be traced.
    """
    if kind not in WRITERS:
        raise ConfigError(f"--to {kind}: wanted one of {', '.join(WRITERS)}")
    try:
        content = WRITERS[kind][1](model, about)
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"--to {kind}: {about.backbone[:80]} cannot be traced ({reason}); try --to safetensors"
        ) from None
    durable.replace(path, content)


def save_card(path: Path, content: str) -> None:
    """Write a model card's text, whole or not at all."""
    durable.replace(path, content.encode("utf-8", "backslashreplace"))
