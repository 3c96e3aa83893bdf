"""Feature maps: arrays of the same format, checked, shared and exported as features are; caches without them stay as they were."""

import json

import numpy as np
import pytest
import toy_caches as toys
import zarr
from pydantic import ValidationError, create_model
from safetensors.numpy import load_file

from cache import CacheCorrupt, CacheInvalid, CacheWriter, FeatureCache, Identity, Provenance
from cache import sharing as remote
from cache.exchange.contents import read_dataset
from cache.exchange.exporting import export
from cache.exchange.request import Request
from cache.explain import explain
from cache.format import layout
from cache.identity import Part
from cache.prune import prune
from cache.remove import rm
from cache.sharing import pull
from cache.sharing import push as share
from cache.verify import verify

PLACES = (2, 2)
KEY_BEFORE_MAPS = "cb38e80ceb1ba5a8ce30ab01c82b101047ed8309038fd9b10af0714581116ca0"
"""The key of the toy cache, as it was before the format had maps."""


@pytest.fixture(params=["avgpool", "relu"])
def mapped(request, tmp_path):
    """Chunks of 8 rows of a view and of 2 rows of maps; those of relu are compressed."""
    return toys.make(tmp_path / "stores", toys.identity(layer=request.param, maps=PLACES))


def test_a_round_trip_is_exact_and_plain_zarr_reads_it(mapped):
    cache = FeatureCache.open(mapped)
    group = zarr.open_group(mapped / "features.zarr", mode="r")
    for split, rows in toys.ROWS.items():
        wanted = toys.expected(cache.manifest.identity, split, "maps")
        assert wanted.shape == (rows, toys.WIDTH, *PLACES)
        np.testing.assert_array_equal(cache.maps(split), wanted)
        np.testing.assert_array_equal(cache.maps(split, 3, 8), wanted[3:8])
        np.testing.assert_array_equal(group[f"{split}/maps"][:], wanted)
        np.testing.assert_array_equal(cache.features(split), toys.expected(cache.manifest.identity, split, "clean"))
    assert cache.views("train") == ["clean", "view-01"]
    assert len(list((mapped / "features.zarr/train/maps").rglob("c/*/0/0/0"))) == 50 / 2
    assert group["train/maps"].metadata.dimension_names == ("row", "feature", "height", "width")
    assert verify(mapped).findings == ()


def test_maps_are_in_the_key_and_caches_without_them_keep_theirs(mapped, tmp_path):
    assert toys.identity().key() == KEY_BEFORE_MAPS
    assert "maps" not in (toys.make(tmp_path / "plain") / "manifest.json").read_text()
    assert toys.identity(maps=PLACES).key() != toys.identity(maps=(1, 4)).key() != KEY_BEFORE_MAPS
    found = explain(toys.identity(), toys.identity(maps=PLACES))
    assert [str(difference) for difference in found] == ["identity.maps: nothing | [2, 2]"]


def test_a_version_that_knows_no_maps_refuses_them_by_name(mapped):
    """An identity forbids fields that it does not know; this one stands for a version before there were maps."""
    raw = json.loads((mapped / "manifest.json").read_text())["identity"]
    fields = {name: (field.annotation, field) for name, field in Identity.model_fields.items() if name != "maps"}
    before = create_model("Before", __base__=Part, **fields)
    with pytest.raises(ValidationError, match="maps\n  Extra inputs are not permitted"):
        before.model_validate(raw)
    del raw["maps"]
    before.model_validate(raw)


def test_a_cache_without_maps_says_how_to_have_them(tmp_path):
    cache = FeatureCache.open(toys.make(tmp_path))
    with pytest.raises(CacheInvalid) as error:
        cache.maps("train")
    assert str(error.value) == (
        f"cache {cache.key[:12]}: wanted feature maps, found features alone; extract with --set extract.maps=true"
    )


def test_damage_is_found_by_reading_and_named_by_verify(mapped):
    file = layout.chunk_file("train", "maps", 3)
    assert file == "features.zarr/train/maps/c/3/0/0/0"
    content = bytearray((mapped / file).read_bytes())
    content[20] ^= 1
    (mapped / file).write_bytes(content)
    with pytest.raises(CacheCorrupt, match=r"maps/c/3/0/0/0 \(rows 6 to 7\): "):
        FeatureCache.open(mapped).maps("train")
    [finding] = verify(mapped).findings
    assert (finding.file, finding.split, finding.view, finding.start, finding.stop) == (file, "train", "maps", 6, 8)


@pytest.mark.parametrize("swapped", [(0, 1), (2, 5)])
def test_chunks_that_changed_places_are_noticed(tmp_path, swapped):
    path = toys.make(tmp_path, toys.identity(maps=PLACES))
    one, other = (path / layout.chunk_file("train", "maps", index) for index in swapped)
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    with pytest.raises(CacheCorrupt, match="its checksum is not the manifest's: it is damaged or holds other rows"):
        FeatureCache.open(path).maps("train")


def test_an_interrupted_extraction_goes_on_and_several_workers_share_it(mapped, tmp_path):
    identity = FeatureCache.open(mapped).manifest.identity
    with CacheWriter(tmp_path / "parts", identity, Provenance(name="toy"), rows_per_chunk=8) as writer:
        assert toys.fill(writer, 20) == 20
        with pytest.raises(CacheInvalid, match=r"features of train/maps, rows 12 to 14: not written"):
            writer.publish()
    for worker in range(2):
        with CacheWriter(
            tmp_path / "parts", identity, Provenance(name="toy"), rows_per_chunk=8, worker=worker, workers=2
        ) as writer:
            toys.fill(writer)
            path = writer.publish_if_last()
    assert toys.snapshot(path) == toys.snapshot(mapped)


def test_a_map_that_does_not_fit_is_refused_with_its_row(tmp_path):
    identity = toys.identity(maps=PLACES)
    with CacheWriter(tmp_path, identity, Provenance(name="toy"), rows_per_chunk=8) as writer:
        writer.write_rows("train", toys.frame("train", 50))
        shard = next(writer.pending("train", "maps"))
        maps = np.zeros((2, toys.WIDTH, *PLACES), np.float32)
        maps[1, 3, 0, 1] = 70_000
        with pytest.raises(CacheInvalid) as error:
            writer.write(shard, maps)
        assert str(error.value).startswith("train/maps, row 1 (sample 'train-0001'), layer avgpool: 70000 does not fit")
        with pytest.raises(CacheInvalid, match=r"train/maps, rows 0 to 2: wanted \(2, 8, 2, 2\), found \(2, 32\)"):
            writer.write(shard, maps.reshape(2, -1))


def test_a_forged_shape_is_refused_before_memory_is_taken():
    with pytest.raises(ValueError, match="maps of 268435456 bytes, at most 67108864 wanted"):
        toys.identity(maps=(4096, 4096))


def test_what_is_pushed_is_pulled_with_its_maps(mapped, tmp_path):
    place = remote.at(str(tmp_path / "team"))
    assert share.push(mapped, place).state == "pushed"
    pull.pull(pull.find(place, mapped.name), tmp_path / "yours")
    assert toys.snapshot(tmp_path / "yours" / mapped.name) == toys.snapshot(mapped)
    assert verify(tmp_path / "yours" / mapped.name).findings == ()


def test_exports_have_the_maps_and_an_import_of_them_says_that_it_leaves_them_out(mapped, tmp_path):
    cache = FeatureCache.open(mapped)
    wanted = cache.maps("train")
    for name in ("a.npz", "a.safetensors", "folder"):
        export(cache, tmp_path / name)
    with np.load(tmp_path / "a.npz") as arrays:
        np.testing.assert_array_equal(arrays["train/maps"], wanted)
    np.testing.assert_array_equal(load_file(tmp_path / "a.safetensors")["train/maps"], wanted)
    np.testing.assert_array_equal(np.load(tmp_path / "folder/train/maps.npy"), wanted)
    dataset = read_dataset(Request((("", tmp_path / "a.npz"),)))
    assert any(note.startswith("not used: ") and "maps" in note for note in dataset.notes)


def test_parquet_leaves_maps_out_and_says_so(mapped, tmp_path):
    cache = FeatureCache.open(mapped)
    assert export(cache, tmp_path / "a.parquet").left_out == ("classifier", "maps")
    with pytest.raises(CacheInvalid, match="Parquet has no place for feature maps; choose another format"):
        export(cache, tmp_path / "b.parquet", views=("maps",))


def test_a_cache_with_maps_is_pruned_and_removed_as_any_other(mapped):
    (listed,) = prune(mapped.parent, older_than=-1)
    assert listed.kept == ""
    rm(mapped)
    assert not mapped.exists()


def test_a_damaged_cache_with_maps_is_mended_by_pulling_again(mapped, tmp_path):
    place = remote.at(str(tmp_path / "team"))
    share.push(mapped, place)
    wanted = toys.snapshot(mapped)
    (mapped / layout.chunk_file("train", "maps", 3)).write_bytes(b"damaged")
    pull.pull(pull.find(place, mapped.name), mapped.parent)
    assert toys.snapshot(mapped) == wanted
