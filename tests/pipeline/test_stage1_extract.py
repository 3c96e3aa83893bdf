"""Extraction: what a cache holds is what the frozen backbone gives, however it was interrupted."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import small

from cache import CacheCorrupt, CacheInvalid, CacheWriter, FeatureCache
from pipeline.artefacts import tensors as checkpoint
from pipeline.backbones import build
from pipeline.backbones.backbone import Backbone
from pipeline.backbones.maps import map_size
from pipeline.errors import ConfigError, LineageError
from pipeline.images.dataset import load
from pipeline.images.pixels import RamImages
from pipeline.images.transforms.recipe import PLAIN, Recipe, draw
from pipeline.machine.device import on_this_machine
from pipeline.rng import derive, generator
from pipeline.samplers import RowSampler
from pipeline.settings import Settings
from pipeline.stage1_backbone import BackboneRun, train_backbone
from pipeline.stage1_extract import extract


def extracting(**changes):
    return small().model_copy(update={"extract": small().extract.model_copy(update={"views": 2, **changes})})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train_backbone(small(epochs=1), tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def extracted(run, tmp_path_factory):
    return FeatureCache.open(extract(extracting(dtype="float32"), run, tmp_path_factory.mktemp("stores")))


def _features(run, pixels):
    """Features of uint8 images (N, 3, S, S) by the textbook, in float64."""
    model = build("resnet20", 10)
    model.load_state_dict(checkpoint.load(run.folder / "backbone.safetensors")[0])
    data = small().data
    mean, std = (torch.tensor(values).double().view(3, 1, 1) for values in (data.mean, data.std))
    with torch.inference_mode():
        return model.eval().double().backbone((pixels.double() / 255 - mean) / std).numpy()


def _pixels(split):
    return torch.cat(list(split.images.batches([torch.arange(len(split))], PLAIN, 0)))


def test_a_cache_holds_every_split_train_with_views(run, extracted):
    dataset = load(small())
    assert extracted.classes == dataset.classes
    assert extracted.views("train") == ["clean", "view-01", "view-02"]
    assert extracted.views("test") == ["clean"]
    assert extracted.counts().tolist() == dataset.counts()
    for name, split in dataset.splits.items():
        rows = extracted.rows(name)
        assert extracted.labels(name).tolist() == split.labels_N.tolist()
        assert rows["sample_id"].to_list() == split.sample_ids
        assert rows["class_name"].to_list() == [dataset.classes[label] for label in split.labels_N]
    assert extracted.manifest.identity.weights == run.digest
    assert extracted.manifest.provenance.name == "small"
    # what the backbone was trained with is its own run's, not the extracting config's
    made_with = extracting(dtype="float32").model_copy(update={"stage1": on_this_machine(small(epochs=1)).stage1})
    assert made_with.model_dump(mode="json") == dict(extracted.manifest.provenance.settings)


def test_clean_features_are_the_frozen_backbone_s(run, extracted):
    for name, split in load(small()).splits.items():
        np.testing.assert_allclose(extracted.features(name), _features(run, _pixels(split)), rtol=1e-4, atol=1e-4)


def test_the_mean_of_a_cached_map_is_the_cached_feature(run, extracted, tmp_path):
    mapped = FeatureCache.open(extract(extracting(dtype="float32", maps=True), run, tmp_path))
    assert mapped.manifest.identity.maps == (2, 2)
    for split in mapped.splits:
        maps_NDhw = mapped.maps(split)
        assert maps_NDhw.shape == (*mapped.features(split).shape, 2, 2)
        np.testing.assert_allclose(maps_NDhw.mean(axis=(2, 3)), mapped.features(split), rtol=1e-5, atol=1e-5)
        for view in extracted.views(split):
            np.testing.assert_array_equal(mapped.features(split, view), extracted.features(split, view))
    assert mapped.key != extracted.key


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        (
            {"layers": ("layer2", "pooled")},
            "extract.maps: wanted extract.layers=pooled, the mean of the last map, found layer2+pooled; leave one of them out",
        ),
        (
            {},
            "extract.maps: wanted a backbone whose feature is the mean of its last map, a resnet or efficientnet-lite0, found "
            "resnet20; set extract.maps=false",
        ),
    ],
)
def test_maps_that_cannot_be_had_are_refused(changes, error):
    with pytest.raises(ConfigError) as caught:
        map_size(extracting(maps=True, **changes), Backbone())
    assert str(caught.value) == error


def test_a_view_is_the_training_augmentation_of_its_own_seed(run, extracted):
    train = load(small()).splits["train"]
    padded = torch.nn.functional.pad(_pixels(train), (1, 1, 1, 1))
    found = {}
    for view in ("view-01", "view-02"):
        draws = draw(Recipe("crop"), len(train), 8, derive(0, "view", view), 0)
        crops = [
            padded[row, :, top : top + 8, left : left + 8]
            for row, (top, left) in enumerate(zip(draws.top_N.tolist(), draws.left_N.tolist(), strict=True))
        ]
        found[view] = extracted.features("train", view)
        np.testing.assert_allclose(found[view], _features(run, torch.stack(crops)), rtol=1e-4, atol=1e-4)
    assert not np.allclose(found["view-01"], found["view-02"])


def test_views_of_the_test_split_are_moved_images_and_the_other_arrays_stay(run, extracted, tmp_path):
    cache = FeatureCache.open(extract(extracting(dtype="float32", test_views=2), run, tmp_path))
    assert (cache.views("train"), cache.views("test")) == (["clean", "view-01", "view-02"], ["clean", "view-01"])
    for split, view in (("train", "view-02"), ("test", "clean")):
        assert np.array_equal(cache.features(split, view), extracted.features(split, view))
    padded = torch.nn.functional.pad(_pixels(load(small()).splits["test"]), (1, 1, 1, 1))
    wanted = _features(run, padded[:, :, :8, :8])
    np.testing.assert_allclose(cache.features("test", "view-01"), wanted, rtol=1e-4, atol=1e-4)


def test_stage_1_s_classifier_lies_in_the_cache(run, extracted):
    tensors, _ = checkpoint.load(run.folder / "backbone.safetensors")
    classifier = extracted.classifier()
    assert np.array_equal(classifier["weight"], tensors["classifier.weight"].numpy())
    assert np.array_equal(classifier["bias"], tensors["classifier.bias"].numpy())
    logits = extracted.features("test") @ classifier["weight"].T + classifier["bias"]
    accuracy = 100 * (logits.argmax(axis=1) == extracted.labels("test")).mean()
    assert accuracy == pytest.approx(run.metrics["accuracy"])


def test_half_precision_is_the_rounded_feature(run, extracted, tmp_path):
    half = FeatureCache.open(extract(extracting(), run, tmp_path))
    assert half.features("train").dtype == np.float16
    assert np.array_equal(half.features("train"), extracted.features("train").astype(np.float16))


def test_an_equal_key_recomputes_nothing_and_batches_do_not_count(run, tmp_path, monkeypatch):
    first = extract(extracting(), run, tmp_path)

    def never(*_arguments):
        raise AssertionError("images were asked for")

    monkeypatch.setattr(RamImages, "batches", never)
    assert extract(extracting(batch_size=7), run, tmp_path) == first
    with pytest.raises(AssertionError, match="images were asked for"):
        extract(extracting(views=3), run, tmp_path)


def test_a_damaged_cache_is_not_called_done(run, tmp_path):
    path = extract(extracting(views=0), run, tmp_path)
    chunk = path / "features.zarr/test/clean/c/0/0"
    content = chunk.read_bytes()
    chunk.write_bytes(content[:99] + bytes([content[99] ^ 1]) + content[100:])
    with pytest.raises(CacheCorrupt) as caught:
        extract(extracting(views=0), run, tmp_path)
    assert str(caught.value) == (
        f"{chunk}: its sha256 is not the manifest's; `cache rm` it, then pull, extract or import it again"
    )


def test_an_interrupted_extraction_goes_on_and_equals_an_uninterrupted_one(run, tmp_path, monkeypatch):
    whole = extract(extracting(), run, tmp_path / "whole")
    write, written = CacheWriter.write, []

    def stopping(self, shard, features):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(shard.view)
        write(self, shard, features)

    monkeypatch.setattr(CacheWriter, "write", stopping)
    with pytest.raises(KeyboardInterrupt):
        extract(extracting(), run, tmp_path / "stopped")
    monkeypatch.setattr(
        CacheWriter, "write", lambda self, shard, features: written.append(shard.view) or write(self, shard, features)
    )
    resumed = extract(extracting(), run, tmp_path / "stopped")
    assert written == ["clean", "view-01", "view-02", "clean"]
    assert resumed.name == whole.name
    inventories = [FeatureCache.open(path).manifest.inventory for path in (whole, resumed)]
    assert inventories[0] == inventories[1]


def test_no_views_without_augmentation(run, tmp_path):
    plain = extracting().model_copy(update={"stage1": small(augmentation="none").stage1})
    cache = FeatureCache.open(extract(plain, run, tmp_path))
    assert cache.views("train") == ["clean"]
    assert cache.manifest.identity.view_transform == {}


def test_policy_and_cutout_make_views_and_enter_the_identity(run, extracted, tmp_path):
    changed = small(augmentation="none", policy="randaugment", cutout=2).stage1
    cache = FeatureCache.open(extract(extracting().model_copy(update={"stage1": changed}), run, tmp_path))
    assert cache.views("train") == extracted.views("train")
    assert cache.key != extracted.key
    assert cache.manifest.identity.view_transform == {
        "crop": "none",
        "policy": "randaugment",
        "operations": 2,
        "magnitude": 9,
        "cutout": 2,
    }
    assert not np.array_equal(cache.features("train", "view-01"), cache.features("train", "clean"))
    assert extracted.manifest.identity.view_transform == {"crop": "padded", "padding": 1, "flip": False}


def test_tensors_that_do_not_fit_are_refused(run, tmp_path):
    other = extracting().model_copy(update={"backbone": small().backbone.model_copy(update={"name": "resnet18"})})
    with pytest.raises(LineageError) as error:
        extract(other, run, tmp_path)
    text = str(error.value)
    assert text.startswith(f"backbone {run.folder}: tensors of resnet20 do not fit resnet18 (")
    assert text.endswith("; set backbone.name to what was trained")
    assert "\n" not in text


def test_a_backbone_of_other_classes_is_dumped_without_its_classifier(run, tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for row in range(2):
            file = io.BytesIO()
            Image.new("RGB", (8, 8), (row, 9, 200)).save(file, "PNG")
            (tmp_path / "images" / name / f"{row}.png").write_bytes(file.getvalue())
    images = str(tmp_path / "images")
    data = {**small().data.model_dump(), "source": "folder", "train": images, "test": images}
    settings = Settings.model_validate({**extracting().model_dump(), "data": data, "longtail": {"profile": "natural"}})
    cache = FeatureCache.open(extract(settings, BackboneRun(run.folder, run.digest, run.metrics), tmp_path / "stores"))
    assert cache.classes == ("a", "b")
    assert cache.classifier() is None
    assert cache.manifest.identity.weights != run.digest
    assert cache.rows("train")["path"].to_list() == ["a/0.png", "a/1.png", "b/0.png", "b/1.png"]
    assert "trained on other classes; its features are dumped without its classifier" in capsys.readouterr().err


def test_a_feature_that_is_not_finite_is_never_stored(run, tmp_path):
    tensors, metadata = checkpoint.load(run.folder / "backbone.safetensors")
    tensors["backbone.bn1.weight"][:] = 3e38
    (tmp_path / "run").mkdir()
    checkpoint.save(tmp_path / "run" / "backbone.safetensors", tensors, metadata)
    with pytest.raises(
        CacheInvalid, match=r"^train/clean, row 0 \(sample 'digits#\d+'\), layer pooled: the feature is not"
    ):
        extract(extracting(), BackboneRun(tmp_path / "run", checkpoint.digest(tensors), {}), tmp_path / "stores")
    assert not [path for path in (tmp_path / "stores").iterdir() if path.name != ".staging"]


def test_shifted_statistics_are_the_mean_over_class_balanced_batches(run, extracted, tmp_path):
    shifted = FeatureCache.open(extract(extracting(dtype="float32", bn="shifted"), run, tmp_path))
    assert shifted.manifest.identity.bn == "shifted"
    assert shifted.manifest.identity.weights == extracted.manifest.identity.weights
    assert shifted.key != extracted.key
    # the first normalisation by hand: statistics of its input over the drawn images, which are one batch here
    split = load(small()).splits["train"]
    rows = RowSampler(torch.from_numpy(split.labels_N)).draw((len(split),), generator(0, "batchnorm", "balanced"))
    (pixels,) = split.images.batches([rows], Recipe("crop"), derive(0, "batchnorm", "balanced"))
    model = build("resnet20", 10)
    model.load_state_dict(checkpoint.load(run.folder / "backbone.safetensors")[0])
    data = small().data
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.mean, data.std))
    batch = (pixels.float() / 255 - mean) / std
    # all rows are one batch, so its own statistics are the mean over batches; the variance unbiased
    statistics = {}
    for name, layer in model.backbone.named_modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.register_forward_hook(
                lambda _layer, inputs, _output, name=name: statistics.update(
                    {name: (inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3)))}
                )
            )
    with torch.no_grad():
        model.train()(batch)
    model.eval()
    for name, (mean_C, variance_C) in statistics.items():
        layer = model.backbone.get_submodule(name)
        layer.running_mean.copy_(mean_C)
        layer.running_var.copy_(variance_C)
    with torch.no_grad():
        test = (_pixels(load(small()).splits["test"]).float() / 255 - mean) / std
        wanted = model.backbone(test).numpy()
    np.testing.assert_allclose(shifted.features("test"), wanted, rtol=1e-3, atol=1e-3)
    assert not np.allclose(extracted.features("test"), wanted, rtol=1e-2)


@pytest.mark.parametrize("ending", ["bbn", "new-block"])
def test_endings_train_and_are_dumped(ending, tmp_path):
    changes = {"backbone": {"name": "resnet20", "ending": ending}}
    settings = Settings.model_validate({**small(epochs=1, mixing="none").model_dump(), **changes})
    done = train_backbone(settings, tmp_path / "run")
    cache = FeatureCache.open(extract(settings, done, tmp_path / "stores"))
    assert cache.manifest.identity.backbone == f"resnet20-{ending}"
    assert cache.features("train").shape[1] == {"bbn": 128, "new-block": 64}[ending]
    logits = cache.features("test").astype(np.float32) @ cache.classifier()["weight"].T + cache.classifier()["bias"]
    accuracy = 100 * (logits.argmax(axis=1) == cache.labels("test")).mean()
    assert accuracy == pytest.approx(done.metrics["accuracy"], abs=1.0)


def test_a_cosine_classifier_decides_alike_as_a_linear_one(tmp_path):
    settings = small(epochs=1, mixing="none", loss="ldam", reweight="drw")
    done = train_backbone(settings, tmp_path / "run")
    assert done.metrics["method"] == "ldam-drw"
    dumped = settings.model_copy(update={"extract": settings.extract.model_copy(update={"dtype": "float32"})})
    cache = FeatureCache.open(extract(dumped, done, tmp_path / "stores"))
    found = cache.classifier()
    tensors, _ = checkpoint.load(done.folder / "backbone.safetensors")
    features, weight = cache.features("test"), tensors["classifier.weight"].numpy()
    cosines = (features / np.linalg.norm(features, axis=1, keepdims=True)) @ (
        weight / np.linalg.norm(weight, axis=1, keepdims=True)
    ).T
    logits = features @ found["weight"].T + found["bias"]
    assert not found["bias"].any()
    assert (logits.argmax(axis=1) == cosines.argmax(axis=1)).all()
    # per row, the logits are 30 cosines up to the feature's norm over the mean norm in training
    norm = np.linalg.norm(features, axis=1, keepdims=True) / tensors["classifier.norm"].item()
    np.testing.assert_allclose(logits, 30 * cosines * norm, rtol=1e-3, atol=1e-3)
