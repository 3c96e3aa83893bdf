"""Which cache a command means: the one named, or the one that a config's settings made."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cache import FeatureCache, Manifest, catalog
from pipeline.artefacts import folders
from pipeline.commands.backbone_option import read_with_backbone
from pipeline.commands.options import Options
from pipeline.errors import ConfigError, DataError, PipelineError
from pipeline.settings import Settings, load
from pipeline.settings.files import CONFIGS, config_paths
from pipeline.settings.files import available as config_names
from pipeline.settings.made_by import DRAW, FROM_IMAGES, INDIFFERENT
from pipeline.settings.paths import home_expanded
from pipeline.settings.problems import with_new_names
from pipeline.settings.suggesting import did_you_mean

MADE_BY = ("seed", "data", "longtail", "backbone", "stage1", "extract")
"""The sections of settings that a cache's rows come from. Those of stages 2 and 3 do not touch it."""


def resolve_settings(options: Options, base: tuple[str, dict[str, Any]] | None = None) -> load.Resolved:
    """The settings that the command line means; `base` where it names no config.

    A folder or table of images in place of a config is described by what lies there; methods may follow it, as they may a
    config's name: photos/+balanced-softmax. Raises ConfigError, and DataError where nothing lies there that is read.
    """
    place, added = _place_and_methods(options.config or "")
    discovered = None if not place else _images_at(place)
    config, values = (added or None, discovered) if discovered else (options.config, base)

    def read(chosen: Iterable[str], preset: Iterable[str]) -> load.Resolved:
        return load.load(config, options.overrides, options.seed, values, chosen, preset)

    # What a cache records is complete: its weights have nothing to add.
    recorded = base is not None and not discovered
    own = discovered[0] if discovered else _source(config, values)
    return read_with_backbone(read, options, None if recorded else own)


def _source(config: str | None, values: tuple[str, dict[str, Any]] | None) -> str:
    """What the origins of a config's own values say."""
    if config is not None:
        return str(config_paths(config)[0] or config)
    return values[0] if values else "default"


def _place_and_methods(reference: str) -> tuple[str, str]:
    """A reference without the methods that follow it, and those: `photos/`, `+balanced-softmax`.

    A file's or folder's name may itself hold a `+`; the longest name that is there is taken.
    """
    folder, slash, last = reference.rpartition("/")
    words = last.split("+")
    for count in range(len(words), 0, -1):
        place = folder + slash + "+".join(words[:count])
        if place and _is_there(place):
            return place, "".join(f"+{word}" for word in words[count:])
    return reference, ""


def _is_there(place: str) -> bool:
    try:
        return home_expanded("config", place).exists()
    except OSError:
        return False


def _images_at(reference: str) -> tuple[str, dict[str, Any]] | None:
    """The settings of the folder or file of images that a reference names; None where it names a config."""
    if reference.endswith(".toml") or reference in config_names():
        return None
    path = home_expanded("config", reference)
    try:
        is_there = path.is_dir() or (path.is_file() and path.suffix)
    except OSError:
        return None
    if not is_there:
        return None
    from pipeline.images.discovery import is_data, settings_found

    return (reference, settings_found(path)) if is_data(path) else None


def settings_and_cache(
    config: str | None, overrides: Iterable[str], seed: int | None, cache: str | None, stores: Path
) -> tuple[Settings, FeatureCache]:
    """As `resolved_with_cache`, without a command line."""
    resolved, opened = resolved_with_cache(Options(config, tuple(overrides), seed), cache, stores)
    return resolved.settings, opened


def resolved_with_cache(options: Options, cache: str | None, stores: Path) -> tuple[load.Resolved, FeatureCache]:
    """Settings from a config, or else those the cache was made with; the cache named, or else the config's own.

    Of a cache that is named, the settings that its rows come from are those recorded with it, whatever the config says.
    A cache in a bucket (s3://, gs:// or az://BUCKET/FOLDER/KEY) is pulled into `stores` once.

    Raises ConfigError for settings that do not hold, DataError where no cache, or none of these settings, is there.
    """
    if cache is None:
        resolved = resolve_settings(options)
        return resolved, FeatureCache.open(_made_by(resolved.settings, stores))
    opened = FeatureCache.open(_named(cache, stores))
    if options.config is None:
        return resolve_settings(options, load.recorded_settings(opened.manifest)), opened
    alone = options.config.startswith("+")  # a method over what the cache records
    resolved = resolve_settings(options, load.recorded_settings(opened.manifest) if alone else None)
    return replace(resolved, settings=_as_made(resolved.settings, opened.manifest)), opened


def _as_made(settings: Settings, manifest: Manifest) -> Settings:
    """The settings with those sections that the cache records as what its rows come from, so that config.toml is true."""
    recorded = manifest.provenance.settings
    values = settings.model_dump(mode="json")
    for section in FROM_IMAGES:
        values[section] = recorded.get(section, values[section])
    if isinstance(draw := recorded.get("longtail"), dict):
        values["longtail"] |= {key: value for key, value in draw.items() if f"longtail.{key}" in DRAW}
    try:
        return Settings.model_validate_json(json.dumps(with_new_names(values)), strict=True)
    except ValueError:  # a record of another version
        return settings


def _named(cache: str, stores: Path) -> Path:
    if "://" not in cache:
        return catalog.resolve(stores, cache).absolute()
    from pipeline.commands.cache_progress import here  # obstore, which most commands do not need

    return here(cache, stores)


def _made_by(settings: Settings, stores: Path) -> Path:
    from pipeline.machine.device import on_this_machine  # torch, which commands that name a cache may do without

    wanted = on_this_machine(settings).model_dump(mode="json", include=set(MADE_BY))
    others: list[str] = []
    for path, manifest in catalog.manifests(stores):
        recorded = manifest.provenance.settings
        differing = _differences(wanted, recorded)
        if not differing:
            return path
        if manifest.provenance.name == settings.name:
            others.append(
                f"{path.name[:12]} differs in {', '.join(differing[:3])}{', …' if len(differing) > 3 else ''}"
            )
    if others and (moved := _by_key(settings, stores)):
        return moved
    detail = f" ({'; '.join(others[:3])})" if others else ""
    raise DataError(
        f"config {settings.name}: no cache in {stores} was made with these settings{detail}; "
        "run train-backbone with the same --config and --set, or name one with --cache"
    )


def _by_key(settings: Settings, stores: Path) -> Path | None:
    """The cache that `extract` would name now, wherever the images lay when it was made. None where the backbone is not
    trained, the images are not at hand, or there is no such cache."""
    from pipeline.stage1_identity import identity_wanted

    data = settings.data.model_copy(update={"download": False})
    try:
        key = identity_wanted(settings.model_copy(update={"data": data}), folders.runs_folder()).key()
    except PipelineError:
        return None
    return catalog.published(stores, key)


def _differences(wanted: dict[str, Any], recorded: dict[str, Any]) -> list[str]:
    differing: list[str] = []
    # A setting that came after a cache was made did then what its default does now.
    defaults = Settings().model_dump(mode="json")
    for section, values in wanted.items():
        if not isinstance(values, dict):
            differing += [section] if recorded.get(section) != values else []
            continue
        other = defaults[section] | (recorded.get(section) or {})
        differing += [f"{section}.{key}" for key, value in values.items() if other.get(key) != value]
    return [key for key in differing if key not in INDIFFERENT]


SAMPLES = CONFIGS / "samples"


def available() -> list[str]:
    """Names that `demo --sample` takes."""
    return sorted(path.parent.name for path in SAMPLES.glob("*/manifest.json"))


def sample_path(name: str) -> Path:
    """The folder of the sample cache called `name`. Raises ConfigError, with the closest name, where there is none."""
    if name in available():
        return SAMPLES / name
    hint = did_you_mean(name, available())
    raise ConfigError(f"sample {name!r}: no such sample; {hint}wanted one of: {', '.join(available()) or '(none)'}")
