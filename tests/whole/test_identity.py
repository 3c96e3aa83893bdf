"""The key changes when, and only when, something that changes rows does: every setting is of one of three kinds."""

import io
import typing
from pathlib import Path

import polars as pl
import pytest
from PIL import Image
from small_runs import small

from cache.explain import explain
from pipeline.artefacts import folders as runs
from pipeline.artefacts import tensors as checkpoint
from pipeline.backbones import build, build_for
from pipeline.backbones.maps import map_size
from pipeline.errors import DataError
from pipeline.images.dataset import load
from pipeline.settings import Settings, problems
from pipeline.settings.made_by import INDIFFERENT
from pipeline.stage1_backbone import NAME, finished, stage1_key
from pipeline.stage1_extract import extract
from pipeline.stage1_identity import _identity, identity_wanted

ROWS = {
    "seed": "identity.views_seed",
    "data.test_share": "identity.splits.test.rows",
    "data.val_share": "identity.splits.train.rows",
    "data.classes": "identity.classes[0]",
    "data.image_size": "identity.transform.size",
    "data.mean": "identity.transform.mean[0]",
    "data.std": "identity.transform.std[2]",
    "data.interpolation": "identity.transform.interpolation",
    "data.fit": "identity.transform.fit",
    "longtail.profile": "identity.splits.train.rows",
    "longtail.imbalance_factor": "identity.splits.train.rows",
    "longtail.draw": "identity.splits.train.samples",
    "longtail.n_max": "identity.splits.train.rows",
    "backbone.name": "identity.backbone",
    "backbone.ending": "identity.backbone",
    "stage1.augmentation": "identity.view_transform",
    "stage1.policy": "identity.view_transform.policy",
    "stage1.cutout": "identity.view_transform.cutout",
    "extract.views": "identity.splits.train.views",
    "extract.view_policy": "identity.view_transform.policy",
    "extract.test_views": "identity.splits.test.views",
    "extract.dtype": "identity.dtype",
    "extract.amp": "identity.autocast",
    "extract.bn": "identity.bn",
    "extract.layers": "identity.layer",
    "extract.maps": "identity.maps",
}
"""Settings that change rows by themselves, and a field of the identity that says so."""
FILES = {"source", "train", "val", "test", "root", "image_column", "label_column", "split_column"}
"""Of `data`: which files are read, and how. What they hold changes rows, where they lie does not."""
WORK = {
    "name", "ram_limit", "data.download", "data.on_bad", "data.bad_limit", "data.ram_limit", "data.decoded", "data.workers",
    "longtail.many_above", "longtail.few_below", "stage1.device", "stage1.compile", "stage1.checkpoint_minutes", "extract.batch_size",
}  # fmt: skip
"""How the work is done, or what is made of the rows afterwards, as in all of `stg` and `retrain`."""

OTHERS = {
    "name": "other",
    "data.classes": tuple(f"digit {number}" for number in range(10)),
    "data.mean": (0.1, 0.4822, 0.4465),
    "data.std": (0.2023, 0.1994, 0.5),
    "longtail.profile": "natural",
    "longtail.n_max": 11,
    "longtail.many_above": 9,
    "longtail.few_below": 4,
    "backbone.name": "resnet32",
    "backbone.weights": "other",
    "backbone.ending": "new-block",
    "stage1.augmentation": "crop-flip",
    "stage1.milestones": (0.5,),
    "stage1.amp": "bf16",
    "stage1.device": "cpu",
    "extract.amp": "bf16",
    "extract.view_policy": "trivialaugment",
    "extract.layers": ("pooled", "layer2"),
}
"""Other values, where one cannot be told from the setting's type."""


def through_weights(key: str) -> bool:
    """All other settings of stage 1 change rows by the weights that they lead to."""
    return key == "backbone.weights" or (key.startswith("stage1.") and key not in {*ROWS, *WORK})


def changed(settings: Settings, key: str) -> Settings:
    """The settings with another value of this one."""
    section, _, name = key.rpartition(".")
    part = getattr(settings, section) if section else settings
    before, kind = getattr(part, name), type(part).model_fields[name].annotation
    if key in OTHERS:
        after = OTHERS[key]
    elif typing.get_origin(kind) is typing.Literal:
        after = next(value for value in typing.get_args(kind) if value != before)
    else:
        new = {bool: lambda: not before, int: lambda: before + 1, float: lambda: before / 2 + 0.013, str: lambda: "x"}
        after = before[:-1] if isinstance(before, tuple) else new[type(before)]()
    assert after != before
    raw = settings.model_dump()
    (raw[section] if section else raw)[name] = after
    return Settings.model_validate(raw)


def identity(settings: Settings, dataset=None):
    """What would be extracted with these settings by a backbone of given weights."""
    maps = map_size(settings, build_for(settings, 10).backbone) if settings.extract.maps else None
    return _identity(settings, dataset or load(settings), "0" * 64, 64, maps)


@pytest.fixture(scope="module")
def base():
    settings = small()
    dataset = load(settings)
    return settings, identity(settings, dataset), stage1_key(settings, dataset)


def keys(wanted) -> list[str]:
    return [key for key in problems.valid_keys() if wanted(key)]


def later(key: str) -> bool:
    return key.startswith(("stg.", "retrain.", "choice.", "evaluate.")) or key in ("coordinates", "device")


def test_every_setting_is_of_one_kind():
    for key in problems.valid_keys():
        section, _, name = key.rpartition(".")
        files = section == "data" and name in FILES
        kinds = (key in ROWS, files, key in WORK, through_weights(key), later(key))
        assert sum(kinds) == 1, f"{key}: does it change rows? Say so here, and see that the identity has it"


@pytest.mark.parametrize("key", ROWS)
def test_what_changes_rows_changes_the_key_and_is_named(base, key):
    _, before, _ = base
    after = identity(changed(base[0], key))
    assert after.key() != before.key()
    found = [difference.field for difference in explain(before, after)]
    assert [field for field in found if field.startswith(ROWS[key])], found


@pytest.mark.parametrize("key", keys(through_weights))
def test_what_changes_weights_makes_another_backbone_and_nothing_else(base, key):
    settings, before, trained = base
    after = changed(settings, key)
    dataset = load(settings)
    assert identity(after, dataset) == before
    assert stage1_key(after, dataset) != trained


@pytest.mark.parametrize("key", sorted(WORK))
def test_how_the_work_is_done_changes_no_key(base, key):
    settings, before, trained = base
    after = changed(settings, key)
    dataset = load(after)
    assert identity(after, dataset) == before
    assert stage1_key(after, dataset) == trained


def test_a_cache_is_found_whatever_says_only_how_the_work_is_done():
    assert {*INDIFFERENT, "name", "ram_limit"} == WORK


def test_stages_2_and_3_change_no_key(base):
    settings, before, trained = base
    for key in keys(later):
        try:
            settings = changed(settings, key)
        except ValueError:  # some exclude each other
            continue
    assert settings.stg != base[0].stg
    assert settings.retrain != base[0].retrain
    dataset = load(settings)
    assert identity(settings, dataset) == before
    assert stage1_key(settings, dataset) == trained


def test_shifted_statistics_are_of_augmented_images_also_without_views(base):
    settings = Settings.model_validate(base[0].model_dump() | {"extract": {"views": 0, "bn": "shifted"}})
    before, after = identity(settings), identity(changed(settings, "stage1.augmentation"))
    assert {difference.field for difference in explain(before, after)} == {"identity.view_transform.flip"}


def test_views_of_another_policy_beside_shifted_statistics_tell_of_both_recipes(base):
    raw = base[0].model_dump()
    views = {"views": 1, "bn": "shifted", "view_policy": "trivialaugment"}
    settings = Settings.model_validate(raw | {"extract": views})
    before, after = identity(settings), identity(changed(settings, "stage1.policy"))
    assert {difference.field for difference in explain(before, after)} == {"identity.view_transform.statistics"}


@pytest.mark.parametrize("name", ["operations", "magnitude"])
def test_randaugment_s_numbers_change_the_key_too_where_it_is_the_policy(base, name):
    raw = base[0].model_dump()
    settings = Settings.model_validate(raw | {"stage1": raw["stage1"] | {"policy": "randaugment"}})
    before, after = identity(settings), identity(changed(settings, f"stage1.randaugment_{name}"))
    assert {difference.field for difference in explain(before, after)} == {f"identity.view_transform.{name}"}


def png(*colour: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


def hub(folder: Path) -> dict[str, str]:
    """Two Parquet files of two images a class, with a second column of images and of labels."""
    folder.mkdir()
    for number, name in enumerate(("train", "test")):
        images = [png(number, row, 200) for row in range(4)]
        columns = {"image": images, "other": images[::-1], "label": [0, 1, 0, 1], "kind": [1, 0, 1, 0]}
        pl.DataFrame(columns).write_parquet(folder / f"{name}.parquet")
    return {"source": "parquet", "train": f"{folder}/train.parquet", "test": f"{folder}/test.parquet"}


def listed(folder: Path, green: int) -> dict[str, str]:
    """Four images, named by a list file."""
    (folder / "images").mkdir(parents=True)
    for row in range(4):
        (folder / f"images/{row}.png").write_bytes(png(row, green, 200))
    (folder / "list.txt").write_text("".join(f"images/{row}.png {row % 2}\n" for row in range(4)))
    return {"source": "list", "train": f"{folder}/list.txt", "test": f"{folder}/list.txt", "root": str(folder)}


def of(data: dict) -> Settings:
    raw = small().model_dump()
    return Settings.model_validate(raw | {"data": raw["data"] | data, "longtail": {"profile": "natural"}})


def test_what_files_hold_changes_the_key_and_where_they_lie_does_not(tmp_path):
    data = hub(tmp_path / "hub")
    before = identity(of(data))
    assert identity(of(hub(tmp_path / "moved"))) == before
    changes = {
        "source": {"source": "digits", "train": ""},
        "train": {"train": data["test"]},
        "test": {"test": data["train"]},
        "val": {"val": data["test"]},
        "image_column": {"image_column": "other"},
        "label_column": {"label_column": "kind"},
    }
    found = [identity(of(data | change)).key() for change in changes.values()]
    assert len({before.key(), *found}) == 1 + len(changes)
    one = listed(tmp_path / "one", 7)
    before = identity(of(one))
    assert identity(of(listed(tmp_path / "same", 7))) == before
    other = identity(of(one | {"root": listed(tmp_path / "other", 8)["root"]}))
    assert {difference.field for difference in explain(before, other)} == {
        "identity.splits.train.content",
        "identity.splits.test.content",
    }
    assert {*changes, "root", "split_column"} == FILES  # a split column is of tables


@pytest.fixture
def trained(tmp_path) -> Settings:
    """Settings whose backbone lies in the runs folder, as if it were trained."""
    settings = small()
    dataset = load(settings)
    key = stage1_key(settings, dataset)
    folder = runs.run_folder(tmp_path / "runs", settings.name, "backbone", key)
    runs.start(folder, settings)
    text = {"classes": '["' + '", "'.join(dataset.classes) + '"]', "key": key}
    tensors = build("resnet20", 10).state_dict()
    checkpoint.save(folder / NAME, tensors, text)
    figures = {"method": "mixup", "backbone": "resnet20", "epochs": 3, "digest": checkpoint.digest(tensors)}
    runs.write_json(folder / "metrics.json", figures)
    return settings


def test_a_config_s_identity_is_that_of_the_cache_it_extracts(trained, tmp_path):
    wanted = identity_wanted(trained, tmp_path / "runs")
    assert not (tmp_path / "stores").exists()
    path = extract(trained, finished(trained, tmp_path / "runs"), tmp_path / "stores")
    assert path.name == wanted.key()
    single = identity_wanted(changed(trained, "extract.dtype"), tmp_path / "runs")
    assert [str(difference) for difference in explain(wanted, single)] == ["identity.dtype: 'float16' | 'float32'"]


def test_a_config_without_its_backbone_is_said_to_lack_it(trained, tmp_path):
    with pytest.raises(DataError) as caught:
        identity_wanted(changed(trained, "stage1.epochs"), tmp_path / "runs")
    assert str(caught.value).startswith(f"backbone {tmp_path / 'runs'}/small/backbone-")
    assert str(caught.value).endswith(": not trained to its end; run train-backbone with the same --config and --set")
