"""`--backbone NAME`: a backbone by its short name, and the settings that its weights bring along."""

import functools
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import click

from pipeline.commands.options import Options
from pipeline.settings import Settings, load

_MODULE = "module:"
HELP = (
    "A ready-made backbone: efficientnet-lite0, resnet50 and others of torchvision, timm:NAME, open_clip:NAME, "
    "file:WEIGHTS.safetensors, or module:MODULE:ATTRIBUTE, which runs your code."
)
DESCRIBED = ("data.image_size", "data.mean", "data.std", "data.interpolation")
"""The settings that a description of weights gives."""
_EPOCHS = "stage1.epochs"

Read = Callable[[Iterable[str], Iterable[str]], load.Resolved]
"""Reads the settings with these texts of options, and with these presets."""


def backbone_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--backbone`, which the command gets as `options.backbone`."""

    @functools.wraps(command)
    def with_backbone(backbone: str | None, options: Options, **arguments: Any) -> Any:
        return command(options=replace(options, backbone=backbone), **arguments)

    return click.option("--backbone", metavar="NAME", help=HELP)(with_backbone)


def module_of(options: Options) -> str | None:
    """`module:attribute` of `--backbone module:…`; None for another backbone."""
    text = options.backbone or ""
    return text.removeprefix(_MODULE) if text.startswith(_MODULE) else None


def refuse_module(options: Options) -> None:
    """Raise click.UsageError where a plan is wanted of a backbone whose code would have to run."""
    if module_of(options) is not None:
        raise click.UsageError(f"--dry-run runs nothing, and --backbone {options.backbone} would; leave one out")


def read_with_backbone(read: Read, options: Options, source: str | None) -> load.Resolved:
    """The settings with the backbone of `--backbone`, and with what its weights say where the user has not said it.

    `source` is what the config's own values came from. With `--backbone` its values of `data` that are about the network's
    input, and its epochs, are taken as those of its own backbone, so they give way; a backbone with weights is then taken as
    it is. None for settings that a cache records: they stay.
    """
    if options.backbone is None or module_of(options) is not None:
        resolved = read(options.chosen, options.preset)
        return resolved if source is None else _described(resolved, source=None)
    from pipeline.backbones.described import FILE, short_name
    from pipeline.backbones.networks import check_name

    own = read(options.chosen, options.preset).settings.backbone.name if options.backbone.startswith(FILE) else ""
    name, weights = short_name(options.backbone, own)
    texts = (f"backbone.name={json.dumps(name)}", f"backbone.weights={json.dumps(weights)}")
    resolved = read((*options.chosen, *texts), (*options.preset, "backbone.ending=plain"))
    check_name(name, weights)
    return resolved if source is None else _described(resolved, source)


def _described(resolved: load.Resolved, source: str | None) -> load.Resolved:
    """The settings with those of DESCRIBED that nobody set, or that `source` set, as the weights say."""
    backbone = resolved.settings.backbone

    def is_free(key: str) -> bool:
        return resolved.origins.get(key) in (None, source)

    if not backbone.weights or not any(map(is_free, (*DESCRIBED, *([_EPOCHS] if source else [])))):
        return resolved
    from pipeline.backbones.described import input_of

    wanted_input = input_of(backbone.name, backbone.weights)
    said = {f"data.{key}": value for key, value in wanted_input.settings().items()} if wanted_input else {}
    said |= {_EPOCHS: 0} if source else {}
    taken = {key: value for key, value in said.items() if is_free(key)}
    values = resolved.settings.model_dump(mode="json")
    changed = {key: value for key, value in taken.items() if _value(values, key) != json.loads(json.dumps(value))}
    for key, value in taken.items():
        section, _, name = key.partition(".")
        values[section][name] = value
    if changed:
        _say(backbone.name, backbone.weights, changed)
    origins = resolved.origins | dict.fromkeys(taken, f"weights of {backbone.name}")
    return replace(resolved, settings=Settings.model_validate_json(json.dumps(values), strict=True), origins=origins)


def _value(values: dict[str, Any], key: str) -> Any:
    section, _, name = key.partition(".")
    return values[section][name]


def _say(name: str, weights: str, changed: dict[str, Any]) -> None:
    from pipeline.progress import note

    ending = ""
    if _EPOCHS in changed:
        ending = f"; {_EPOCHS}=0, so it is taken as it is and not trained"
    texts = [f"{key}={_text(value)}" for key, value in changed.items() if key != _EPOCHS]
    said = f"{', '.join(texts)}, as its weights say" if texts else "ready made"
    note(f"backbone {name}, weights {weights}: {said}{ending}; --set changes it")


def _text(value: Any) -> str:
    return f"[{', '.join(f'{item:.4g}' for item in value)}]" if isinstance(value, tuple) else str(value)
