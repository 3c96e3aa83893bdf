"""The key changes when, and only when, the identity does; no bit of a manifest can change unnoticed."""

import json

import pytest
import toy_caches as toys

from cache import CacheInvalid, Identity, Provenance, SplitIdentity, catalog
from cache import manifest as manifests

CHANGES = {
    "kind": "imported",
    "classes": ("dog", "cat", "owl"),
    "weights": toys.digest("other weights"),
    "backbone": "resnet20",
    "layer": "layer3",
    "width": 16,
    "transform": {"size": 32, "interpolation": "bicubic", "mean": [0.5]},
    "view_transform": {"crop": 2},
    "views_seed": 1,
    "bn": "shifted",
    "autocast": "bf16",
    "dtype": "float32",
    "maps": (2, 3),
}
SPLIT_CHANGES = {"rows": 49, "samples": toys.digest("order"), "content": toys.digest("pixels"), "views": 2}


def test_every_field_of_the_identity_is_tried():
    assert {*CHANGES, "format", "splits"} == set(Identity.model_fields)
    assert set(SPLIT_CHANGES) == set(SplitIdentity.model_fields)


@pytest.mark.parametrize("field", CHANGES)
def test_a_changed_field_changes_the_key(field):
    assert toys.identity(**{field: CHANGES[field]}).key() != toys.identity().key()


@pytest.mark.parametrize("field", SPLIT_CHANGES)
def test_a_changed_split_changes_the_key(field):
    splits = dict(toys.identity().splits)
    splits["train"] = splits["train"].model_copy(update={field: SPLIT_CHANGES[field]})
    assert toys.identity(splits=splits).key() != toys.identity().key()


def test_the_order_of_mappings_does_not_change_the_key():
    found = toys.identity()
    assert toys.identity(splits=dict(reversed(found.splits.items()))).key() == found.key()
    assert toys.identity(transform=dict(reversed(found.transform.items()))).key() == found.key()


def test_the_key_is_pinned():
    """A change here makes every published cache a stranger: it needs a new format number."""
    assert toys.identity().key() == "cb38e80ceb1ba5a8ce30ab01c82b101047ed8309038fd9b10af0714581116ca0"


def test_provenance_does_not_change_the_key(tmp_path):
    one = toys.make(tmp_path / "a", author="ann", batch_size=1, settings={"x": 1.5})
    other = toys.make(tmp_path / "b", author="bob", batch_size=2)
    assert one.name == other.name


def test_it_survives_its_file(cache_path):
    content = (cache_path / "manifest.json").read_bytes()
    assert manifests.to_bytes(manifests.parse(content)) == content


def test_every_flipped_bit_is_refused(cache_path):
    file = cache_path / "manifest.json"
    content = file.read_bytes()
    for position in range(0, len(content), 7):
        for bit in (0, 5):
            changed = bytearray(content)
            changed[position] ^= 1 << bit
            with pytest.raises(ValueError, match=r".+"):
                manifests.parse(bytes(changed))


@pytest.mark.parametrize("spelling", ["5e-5", "0.00005", "5.0e-05", "50e-6", "1e999"])
def test_a_number_has_one_spelling(tmp_path, spelling):
    """Two encoders read a manifest back, and they spell small numbers differently: only json's spelling is ours."""
    content = (
        toys.make(tmp_path, settings={"stage1": {"rate": 5e-05, "decay": 0.0002}}) / "manifest.json"
    ).read_bytes()
    assert content.count(b'"rate": 5e-05,') == 1
    assert manifests.parse(content).provenance.settings == {"stage1": {"rate": 5e-05, "decay": 0.0002}}
    with pytest.raises(ValueError, match=f"wanted the number .*, found it as {spelling}: it was edited"):
        manifests.parse(content.replace(b"5e-05", spelling.encode()))


@pytest.mark.parametrize(
    "change", [(b" ", b""), (b"\n", b"\r\n"), (b"dog", b"d\\u006fg"), (b'"key"', b'"key": "x",\n "key"')]
)
def test_what_reads_alike_is_refused(cache_path, change):
    """Spaces, ends of lines, escapes and fields given twice: the values agree, the bytes do not."""
    with pytest.raises(ValueError, match="its checksum is not that of its content; it was edited or damaged"):
        manifests.parse((cache_path / "manifest.json").read_bytes().replace(*change, 1))


@pytest.mark.parametrize("file", ["../escape", "/etc/passwd", "rows/../../x.parquet", "rows/train.parquet/", "extra"])
def test_an_inventory_names_only_files_of_the_identity(cache_path, file):
    raw = json.loads((cache_path / "manifest.json").read_bytes())
    raw["inventory"][-1]["file"] = file
    with pytest.raises(CacheInvalid, match="the inventory is not the list of files that the identity asks for"):
        catalog.parse_manifest(json.dumps(raw).encode(), "there")


def test_a_huge_row_count_is_refused_before_anything_is_listed(cache_path):
    train = toys.identity().splits["train"].model_copy(update={"rows": 2**39})
    found = toys.identity(splits={"train": train})
    with pytest.raises(ValueError, match="the inventory is not the list"):
        manifests.build(
            key=found.key(),
            identity=found,
            provenance=Provenance(name="bomb"),
            rows_per_chunk=1,
            counts={"train": (2**39, 0, 0)},
            inventory=(),
        )


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"[" * 100_000, b'{"key": NaN}', b"\xff\xfe", b'"x"'])
def test_strange_json_is_one_line(content):
    with pytest.raises(
        CacheInvalid,
        match=r"^there: not a manifest of format 1: [^\n]+; `cache rm` it, then pull, extract or import it again$",
    ):
        catalog.parse_manifest(content, "there")


@pytest.mark.parametrize("counts", [[-1, 34, 17], [2**70, 17, 33 - 2**70], [True, 16, 33]])
def test_counts_are_counts(cache_path, counts):
    raw = json.loads((cache_path / "manifest.json").read_bytes())
    raw["counts"]["train"] = counts
    (cache_path / "manifest.json").write_text(json.dumps(raw, indent=1))
    with pytest.raises(CacheInvalid, match=r"manifest of format 1: (counts\.train|its checksum)"):
        catalog.read_manifest(cache_path)


@pytest.mark.parametrize(
    "content",
    [
        b'{"identity":{' + b",".join(b'"%d":1' % number for number in range(300_000)) + b"}}",
        b"[" + b"[]," * 300_000 + b"[]]",
        b"[" + b'"a",' * 2_200_000 + b'"a"]',
        b"[" + b"1," * 9_000_000 + b"1]",
    ],
    ids=["fields", "lists", "texts", "values"],
)
def test_what_would_cost_too_much_is_not_parsed(content, monkeypatch):
    monkeypatch.setattr(json, "loads", lambda *_, **__: pytest.fail("parsed"))
    with pytest.raises(CacheInvalid) as caught:
        catalog.parse_manifest(content, "x")
    assert str(caught.value) == (
        "x: not a manifest of format 1: more than 262144 fields, 2097152 texts or 8388608 values; "
        "`cache rm` it, then pull, extract or import it again"
    )


@pytest.mark.parametrize(
    ("part", "name"), [("identity", "transform"), ("identity", "view_transform"), ("provenance", "settings")]
)
def test_fields_of_no_shape_of_their_own_are_counted_before_the_key_is_computed(part, name, monkeypatch):
    """To write seven million numbers as canonical JSON takes seconds, at every listing of the place."""
    monkeypatch.setattr(manifests, "canonical", lambda _: pytest.fail("computed"))
    for value in ({"a": [[0] * 40_000, [0] * 40_000]}, {str(number): 0 for number in range(80_000)}):
        with pytest.raises(CacheInvalid) as caught:
            catalog.parse_manifest(json.dumps({part: {name: value}}).encode(), "x")
        assert str(caught.value) == (
            f"x: not a manifest of format 1: {part}.{name}: more than 65536 values; "
            "`cache rm` it, then pull, extract or import it again"
        )


def test_a_million_classes_are_not_too_many():
    names = ",\n ".join(f'"class {number}: of [some] kind"' for number in range(1 << 20)).encode()
    manifests._check_bounds(b'{"classes": [' + names + b'], "counts": [' + b"1,\n" * (4 << 20) + b"1]}")


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("provenance.batch_size", lambda raw: raw["provenance"].update(batch_size=-1)),
        ("provenance.batch_size", lambda raw: raw["provenance"].update(batch_size=2**70)),
        ("inventory.0.size", lambda raw: raw["inventory"][0].update(size=2**70)),
        ("identity.views_seed", lambda raw: raw["identity"].update(views_seed=2**70)),
        ("identity.backbone", lambda raw: raw["identity"].update(backbone="x" * 10**6)),
        ("identity.classes.1", lambda raw: raw["identity"].update(classes=["a", "b" * 10**6, "c"])),
        ("provenance.name", lambda raw: raw["provenance"].update(name="x" * 10**6)),
        ("provenance.author", lambda raw: raw["provenance"].update(author="x" * 10**6)),
    ],
)
def test_numbers_and_names_have_bounds(cache_path, field, change):
    """Whoever forged the manifest made its key and checksum fit."""
    raw = json.loads((cache_path / "manifest.json").read_text())
    change(raw)
    raw["key"] = toys.hashlib.sha256(manifests.canonical(raw["identity"])).hexdigest()
    raw["checksum"] = manifests._checksum(raw)
    with pytest.raises(CacheInvalid) as caught:
        catalog.parse_manifest(manifests._text(raw), "x")
    assert str(caught.value).startswith(f"x: not a manifest of format 1: {field}: ")
    assert len(str(caught.value)) < 300


def test_a_name_that_is_too_long_is_one_line():
    with pytest.raises(CacheInvalid) as caught:
        manifests.provenance(name="x" * 5000)
    assert str(caught.value) == "name of the cache: String should have at most 4096 characters; nothing is written"
