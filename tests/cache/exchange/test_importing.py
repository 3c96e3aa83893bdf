"""What is imported, what is refused and in which words, and that content alone names the cache."""

import json
import re
import struct
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import load_file, save_file

from cache import CacheInvalid, FeatureCache, Provenance, verify
from cache.errors import CacheStorage
from cache.exchange.contents import read_dataset
from cache.exchange.formats import safetensors_files
from cache.exchange.formats.parquet_files import open_parquet
from cache.exchange.importing import digest, write
from cache.exchange.request import Request, named_path
from cache.format import layout

N, D = 7, 3
FEATURES = np.arange(N * D, dtype=np.float32).reshape(N, D) / 8
LABELS = np.array([0, 1, 2, 0, 1, 2, 0])
LIST = pl.List(pl.Float32)
IDS = np.array([f"photo-{row}é" for row in range(N)])


def request(*sources: Path | tuple[str, Path], **rest) -> Request:
    pairs = tuple(one if isinstance(one, tuple) else ("", one) for one in sources)
    return Request(pairs, **rest)


def imported(stores: Path, found: Request) -> FeatureCache:
    return FeatureCache.open(write(stores, digest(read_dataset(found)), Provenance(name="toy")))


def npz(path: Path, **arrays_by_name: np.ndarray) -> Path:
    np.savez(path, **arrays_by_name)
    return path


def refused(found: Request) -> str:
    with pytest.raises(CacheInvalid) as caught:
        digest(read_dataset(found))
    text = str(caught.value)
    assert "\n" not in text
    return text


def _npz(folder: Path, order: str = "C", byte_order: str = "<") -> Request:
    features = np.asarray(FEATURES, dtype=f"{byte_order}f4", order=order)
    return request(npz(folder / "all.npz", features=features, labels=LABELS.astype(">i2"), sample_ids=IDS))


def _compressed(folder: Path) -> Request:
    np.savez_compressed(folder / "all.npz", X_train=FEATURES, y_train=LABELS.astype(np.uint8), ids_train=IDS)
    return request(folder / "all.npz")


def _npy(folder: Path, order: str = "C") -> Request:
    np.save(folder / "x.npy", np.asarray(FEATURES, order=order))
    (folder / "y.txt").write_text("\n".join(map(str, LABELS)))
    np.save(folder / "i.npy", IDS)
    return request(("train", folder / "x.npy"), labels=(("", folder / "y.txt"),), ids=(("train", folder / "i.npy"),))


def _safetensors(folder: Path) -> Request:
    text = np.frombuffer("\0".join(IDS).encode(), np.uint8)
    tensors = {"embeddings": FEATURES, "targets": LABELS.astype(np.int32), "ids": text}
    save_file(tensors, folder / "all.safetensors", {"text": "ids"})
    return request(folder / "all.safetensors")


def test_what_the_installed_safetensors_does_to_arrays_that_are_not_contiguous(tmp_path, monkeypatch):
    transposed = np.asfortranarray(FEATURES)
    save_file({"x": transposed, "y": LABELS}, tmp_path / "a.safetensors")
    wrong = not np.array_equal(load_file(tmp_path / "a.safetensors")["x"], FEATURES)
    assert safetensors_files.mixes_up_strided() == wrong
    for mixes in (True, False):
        monkeypatch.setattr(safetensors_files, "mixes_up_strided", lambda mixes=mixes: mixes)
        notes = read_dataset(request(tmp_path / "a.safetensors")).notes
        assert [note for note in notes if "which is installed here" in note] == ([
            f"{tmp_path}/a.safetensors: safetensors.numpy {version('safetensors')}, which is installed here, writes arrays that "
            "are not contiguous (x.T, x[:, ::2]) with their numbers mixed up; if it wrote such arrays here, save "
            "np.ascontiguousarray(x) and import again"
        ] if mixes else [])  # fmt: skip


def _parquet(folder: Path, dtype: pl.DataType = LIST, **options) -> Request:
    frame = pl.DataFrame({"embedding": pl.Series(FEATURES.tolist(), dtype=dtype), "label": LABELS, "sample_id": IDS})
    frame.with_columns(split=pl.lit("training")).write_parquet(folder / "all.parquet", **options)
    return request(folder / "all.parquet")


def _folder(folder: Path) -> Request:
    (folder / "own/train").mkdir(parents=True)
    (folder / "own/readme.md").write_text("not an array")
    for name, array in {"features": FEATURES, "labels": LABELS, "ids": IDS}.items():
        np.save(folder / "own/train" / f"{name}.npy", array)
    return request(folder / "own")


WAYS = {
    "npz": _npz,
    "npz in Fortran order": lambda folder: _npz(folder, "F"),
    "npz big-endian": lambda folder: _npz(folder, byte_order=">"),
    "npz compressed": _compressed,
    "npy": _npy,
    "npy in Fortran order": lambda folder: _npy(folder, "F"),
    "safetensors": _safetensors,
    "parquet list": _parquet,
    "parquet array": lambda folder: _parquet(folder, pl.Array(pl.Float32, D)),
    "parquet row groups": lambda folder: _parquet(folder, row_group_size=2),
    "folder": _folder,
}


@pytest.mark.parametrize("way", WAYS)
def test_equal_content_makes_an_equal_cache(tmp_path, monkeypatch, way):
    reference = imported(tmp_path / "stores", _npz(tmp_path))
    monkeypatch.setattr("cache.exchange.source.BLOCK_BYTES", 24)  # two rows at a time
    monkeypatch.setattr("cache.exchange.formats.parquet_files.BLOCK_BYTES", 48)
    (tmp_path / "own way").mkdir()
    cache = imported(tmp_path / "other", WAYS[way](tmp_path / "own way"))
    assert cache.key == reference.key
    assert (cache.manifest.identity.kind, cache.classes) == ("imported", ("0", "1", "2"))
    np.testing.assert_array_equal(cache.features("train"), FEATURES)
    assert cache.features("train").dtype == np.float32
    np.testing.assert_array_equal(cache.labels("train"), LABELS)
    assert cache.rows("train")["sample_id"].to_list() == IDS.tolist()
    assert verify.verify(cache.path).sound


def test_any_difference_of_content_makes_another_key(tmp_path):
    changed = FEATURES.copy()
    changed[6, 2] = -changed[6, 2]
    weight = np.ones((3, D))
    ways = [
        {"features": FEATURES, "labels": LABELS},
        {"features": changed, "labels": LABELS},
        {"features": FEATURES.astype(np.float16), "labels": LABELS},
        {"features": FEATURES, "labels": LABELS[::-1]},
        {"features": FEATURES, "labels": LABELS, "ids": IDS},
        {"features": FEATURES, "labels": LABELS, "classes": np.array(["a", "b", "c"])},
        {"features": FEATURES, "labels": LABELS, "classifier/weight": weight},
        {"features": FEATURES, "labels": LABELS, "classifier/weight": weight, "classifier/bias": np.ones(3)},
        {"features": FEATURES, "labels": LABELS, "view-01": FEATURES},
    ]
    keys = [
        digest(read_dataset(request(npz(tmp_path / f"{number}.npz", **way)))).identity.key()
        for number, way in enumerate(ways)
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("dtype", "stored"), [("float16", "float16"), (">f2", "float16"), ("float32", "float32"), ("float64", "float32")]
)
def test_dtypes_stay_as_they_are_and_float64_becomes_float32(tmp_path, dtype, stored):
    features = (FEATURES / 3).astype(dtype)
    dataset = read_dataset(request(npz(tmp_path / "a.npz", x=features, y=LABELS)))
    assert dataset.rounded == (dtype == "float64")
    cache = imported(tmp_path, request(tmp_path / "a.npz"))
    assert cache.manifest.identity.dtype == stored
    np.testing.assert_array_equal(cache.features("train"), features.astype(stored))


def test_bfloat16_becomes_float32_exactly(tmp_path):
    bits = np.arange(N * D, dtype=np.uint16).reshape(N, D) * 700 + 3
    header = {
        "x": {"dtype": "BF16", "shape": [N, D], "data_offsets": [0, 2 * N * D]},
        "y": {"dtype": "I64", "shape": [N], "data_offsets": [2 * N * D, 2 * N * D + 8 * N]},
    }
    text = json.dumps(header).encode()
    content = struct.pack("<Q", len(text)) + text + bits.tobytes() + LABELS.tobytes()
    (tmp_path / "a.safetensors").write_bytes(content)
    found = imported(tmp_path, request(tmp_path / "a.safetensors")).features("train")
    np.testing.assert_array_equal(found.view(np.uint32), bits.astype(np.uint32) << 16)


def test_one_file_may_hold_all_splits_and_class_names(tmp_path):
    frame = pl.DataFrame(
        {"x": FEATURES.tolist(), "label": ["owl", "cat", "owl", "dog", "cat", "owl", "cat"], "split": list("abababa")},
    ).with_columns(pl.col("split").replace({"a": "train", "b": "val"}))
    frame.write_parquet(tmp_path / "a.parquet")
    dataset = read_dataset(request(tmp_path / "a.parquet"))
    assert dataset.classes == ("cat", "dog", "owl")
    assert {split: table.labels_N.tolist() for split, table in dataset.splits.items()} == {
        "train": [2, 2, 0, 0], "val": [0, 1, 2],
    }  # fmt: skip
    cache = imported(tmp_path, request(tmp_path / "a.parquet"))
    np.testing.assert_array_equal(cache.features("val"), FEATURES[1::2])
    assert cache.rows("val")["sample_id"].to_list() == ["1", "3", "5"]


@pytest.mark.parametrize("form", ["json", "object", "txt", "npy"])
def test_class_names_from_a_file(tmp_path, form):
    names = ["crane", "crane", "maillot"]
    file = tmp_path / {"json": "c.json", "object": "c.json", "txt": "c.txt", "npy": "c.npy"}[form]
    if form == "npy":
        np.save(file, np.array(names))
    else:
        objects = json.dumps({str(c): name for c, name in enumerate(names)})
        file.write_text({"json": json.dumps(names), "object": objects, "txt": "\n".join(names)}[form])
    source = npz(tmp_path / "a.npz", x=FEATURES, y=LABELS)
    assert read_dataset(request(source, classes=file)).classes == tuple(names)


def test_names_may_be_said(tmp_path):
    source = npz(tmp_path / "a.npz", layer4=FEATURES, features=FEATURES[:, :2], fine=LABELS, labels=LABELS * 0)
    dataset = read_dataset(request(source, names={"features": "layer4", "labels": "fine"}))
    assert (dataset.width, dataset.splits["train"].labels_N.tolist()) == (D, LABELS.tolist())


def _two_splits(path: Path, labels: str, test_labels: str, rows: int = 4, **more: np.ndarray) -> Path:
    """A file as people keep them: `train` and `test` are the features, the labels have the names given here."""
    arrays = {"train": FEATURES, labels: LABELS, "test": FEATURES[:rows], test_labels: LABELS[:rows]}
    return npz(path, **arrays, **more)


@pytest.mark.parametrize(
    ("labels", "test_labels"), [("y", "yt"), ("ytrain", "ytest"), ("y_train", "gt"), ("trainy", "testy")]
)
def test_features_called_by_their_split_and_labels_by_their_length(tmp_path, labels, test_labels):
    path = _two_splits(tmp_path / "a.npz", labels, test_labels)
    dataset = read_dataset(request(path))
    assert dataset.splits["train"].labels_N.tolist() == LABELS.tolist()
    assert dataset.splits["test"].labels_N.tolist() == LABELS[:4].tolist()
    assert dataset.notes == (
        f"train: features {path}[train] (7, 3), labels {path}[{labels}]",
        f"test: features {path}[test] (4, 3), labels {path}[{test_labels}]",
    )


@pytest.mark.parametrize(
    ("rows", "more"), [(4, {"other": LABELS[3:]}), (4, {"val": FEATURES[:4]})], ids=["two arrays", "two splits"]
)
def test_labels_by_length_are_not_guessed(tmp_path, rows, more):
    path = _two_splits(tmp_path / "a.npz", "y", "yt", rows, **more)
    assert refused(request(path)).startswith("split test: no labels among train (7, 3) float32, y (7,) int64, ")
    assert refused(request(path)).endswith(
        "; name them labels or y, say --column test/labels=NAME, or give --labels test=FILE"
    )


def test_a_column_of_one_split_may_be_said(tmp_path):
    path = _two_splits(tmp_path / "a.npz", "y", "yt", other=LABELS[3:])
    dataset = read_dataset(request(path, names={"test/labels": "yt"}))
    assert dataset.splits["train"].labels_N.tolist() == LABELS.tolist()
    assert dataset.splits["test"].labels_N.tolist() == LABELS[:4].tolist()
    sources = (("train", path), ("test", npz(tmp_path / "b.npz", x=FEATURES, y=LABELS, yt=LABELS * 0)))
    dataset = read_dataset(request(*sources, names={"test/labels": "yt", "train/features": "train"}))
    assert dataset.splits["train"].labels_N.tolist() == LABELS.tolist()
    assert dataset.splits["test"].labels_N.tolist() == [0] * N


def test_arrays_that_are_not_used_are_named(tmp_path):
    path = npz(tmp_path / "a.npz", x=FEATURES, y=LABELS, xt=FEATURES[:4], yt=LABELS[:4])
    dataset = read_dataset(request(path))
    assert list(dataset.splits) == ["train"]
    assert dataset.notes[-1] == (
        "not used: xt (4, 3) float32, yt (4,) int64; give --column SPLIT/ROLE=NAME for one that belongs to a split"
    )
    dataset = read_dataset(request(path, names={"test/features": "xt", "test/labels": "yt"}))
    assert dataset.splits["test"].labels_N.tolist() == LABELS[:4].tolist()
    assert not any("not used" in note for note in dataset.notes)


def test_a_file_of_one_split_that_has_another_s_arrays_too(tmp_path):
    both = npz(tmp_path / "a.npz", X_train=FEATURES, y_train=LABELS, X_test=FEATURES[:4], y_test=LABELS[:4])
    dataset = read_dataset(request(("train", both), ("test", both)))
    assert [len(dataset.splits[split].labels_N) for split in ("train", "test")] == [N, 4]
    only = npz(tmp_path / "b.npz", val_features=FEATURES[:4], val_labels=LABELS[:4])
    assert len(read_dataset(request(("train", both), ("test", only))).splits["test"].labels_N) == 4


@pytest.mark.parametrize(
    ("text", "found"),
    [("train=a.npz", ("train", "a.npz")), ("validation=b", ("val", "b")), ("a.npz", ("", "a.npz")), ("./x=1/a", ("", "./x=1/a"))],
)  # fmt: skip
def test_a_split_is_named_before_its_path(text, found):
    split, path = named_path(text)
    assert (split, path) == (found[0], Path(found[1]))


@pytest.mark.parametrize("text", ["", "train="])
def test_a_path_is_wanted(text):
    with pytest.raises(CacheInvalid) as caught:
        named_path(text)
    assert str(caught.value) == f"{text or 'an empty path'}: wanted SPLIT=PATH, or a path"


def test_class_names_among_other_arrays(tmp_path):
    source = npz(tmp_path / "a.npz", x=FEATURES, y=LABELS)
    names = npz(tmp_path / "names.npz", other=LABELS, class_names=np.array(["a", "b", "c"]))
    assert read_dataset(request(source, classes=names)).classes == ("a", "b", "c")
    other = npz(tmp_path / "other.npz", a=LABELS, b=np.array(["a", "b", "c"]))
    assert read_dataset(request(source, classes=other, names={"classes": "b"})).classes == ("a", "b", "c")
    assert refused(request(source, classes=source)) == (
        f"{source}: no classes among x (7, 3) float32, y (7,) int64; say which with --column classes=NAME"
    )


def _features(value: float, dtype=np.float32) -> np.ndarray:
    features = FEATURES.astype(dtype)
    features[4, 1] = value
    return features


REFUSED = [
    ({"x": _features(np.nan)}, "[x]: row 4 (id '4'): feature 1 is nan; wanted finite numbers: leave the row out"),
    ({"x": _features(-np.inf)}, "[x]: row 4 (id '4'): feature 1 is -inf; wanted finite numbers: leave the row out"),
    ({"x": _features(1e300, float)}, "[x]: row 4 (id '4'): 1e+300 does not fit float32; scale the features"),
    ({"x": LABELS[:, None]}, "[x]: wanted features of float16, float32, float64 or bfloat16, found int64"),
    ({"x": FEATURES[None]}, "[x]: wanted (rows, features), found (1, 7, 3); pool to one feature vector a row"),
    ({"x": FEATURES[:0]}, "[x]: wanted at least one row and one feature, found (0, 3)"),
    ({"y": LABELS[:5]}, "[y]: wanted 7 labels, one for each row of {}[x], found (5,)"),
    ({"y": LABELS - 1}, "[y]: row 0: label -1, wanted 0 to 1048575; "
     "-1 often marks rows without a label (3 here): leave them out, or number the classes from 0"),
    ({"y": LABELS - 2}, "[y]: row 0: label -2, wanted 0 to 1048575"),
    ({"y": LABELS + 1, "classes": np.array(["a", "b", "c"])},
     "[y]: row 2: label 3, wanted 0 to 2; the labels begin at 1: subtract 1 from all"),
    ({"y": np.full((N, 3), 0.4)}, "[y]: wanted one label a row, or one-hot rows of a single 1 and zeros, found (7, 3); "
     "make labels of scores with scores.argmax(axis=1)"),
    ({"y": LABELS << 40}, "[y]: row 1: label 1099511627776, wanted 0 to 1048575"),
    ({"y": LABELS / 1}, "[y]: wanted labels as whole numbers or text, found float64; save labels.astype(int)"),
    ({"classes": np.array(["a", "b"])}, "[y]: row 2: label 2, wanted 0 to 1"),
    ({"ids": np.array(list("abcdefa"))}, "[ids]: id 'a' stands twice (rows 0 and 6); ids are unique in a split"),
    ({"ids": IDS[:2]}, "[ids]: wanted 7 ids, one for each row of {}[x], found (2,)"),
    ({"test_x": FEATURES[:, :2], "test_y": LABELS}, "[test_x]: wanted 3 features a row as in {}[x], found 2"),
    ({"view-01": FEATURES[:2]}, "[view-01]: wanted 7 rows as in {}[x], found 2"),
    ({"features": FEATURES}, "[features]: may be the train features, and so may {}[x]; say which with --column features=NAME"),
    ({"weight": FEATURES}, "[weight]: wanted weight (3, 3) and bias (3,), one row a class, found (7, 3) and none"),
    (
        {"y": LABELS.astype(object)},
        "[y]: an array of Python objects, which can run code when it is read; "
        "save numbers as numbers and text with array.astype(str)",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("change", "text"), REFUSED, ids=[text[:40] for _, text in REFUSED])
def test_what_does_not_hold_is_named(tmp_path, change, text):
    path = npz(tmp_path / "a.npz", **({"x": FEATURES, "y": LABELS} | change))
    assert refused(request(path)) == f"{path}{text.format(path)}"


def test_missing_splits_features_and_labels(tmp_path):
    path = npz(tmp_path / "a.npz", x=FEATURES)
    assert refused(request(path)) == (
        "split train: no labels among x (7, 3) float32; "
        "name them labels or y, say --column train/labels=NAME, or give --labels train=FILE"
    )
    path = npz(tmp_path / "b.npz", layer4=FEATURES, n=LABELS)
    assert refused(request(path)) == (
        "no features among layer4 (7, 3) float32, n (7,) int64; "
        "name them features, embeddings or x, or say --column features=NAME"
    )
    path = npz(tmp_path / "c.npz", x=FEATURES, y=LABELS)
    assert refused(request(("test", path))) == "no split train, found test; name its file with train=FILE"
    assert refused(request(path, names={"feature": "x"})) == (
        "--column feature: wanted a role of features, labels, ids, split, classes, weight, bias, or SPLIT/ROLE"
    )


def test_text_labels_are_looked_up(tmp_path):
    path = npz(tmp_path / "a.npz", x=FEATURES, y=np.array(list("abcabcd")), classes=np.array(list("cba")))
    assert refused(request(path)) == f"{path}[y]: row 6: label 'd' is none of the 3 classes of {path}[classes]"


def _huge_header(shape: tuple[int, ...]) -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


DAMAGED = {
    "empty.npy": (b"", r"not a NumPy array, or damaged \(.*\); save or copy the file again"),
    "empty.npz": (b"", r"not a \.npz file, or damaged \(.*\); save or copy it again"),
    "empty.safetensors": (b"", r"not safetensors, or damaged \(.*\); save or copy the file again"),
    "empty.parquet": (b"", r"not Parquet, or damaged \(.*\); save or copy the file again"),
    "huge.npy": (
        _huge_header((1 << 40, 1 << 20)),
        r"wanted 4611686018427388032 bytes for \(1099511627776, 1048576\) of float32, found 128; save or copy the file again",
    ),
    "huge.safetensors": (struct.pack("<Q", 1 << 60) + b"{}", r"not safetensors, or damaged \(.*\); save or .*"),
    "model.pt": (b"PK", r"a pickle, which can run code when it is read; save the arrays as \.npz or \.safetensors instead"),
    "data.csv": (b"1,2", r"wanted \.npy, \.npz, \.safetensors, \.parquet, or a folder of them, found \.csv"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_and_foreign_files(tmp_path, name):
    content, text = DAMAGED[name]
    path = tmp_path / name
    path.write_bytes(content)
    assert re.fullmatch(re.escape(f"{path}: ") + text, refused(request(("train", path))))


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors", ".parquet"])
def test_every_truncation_is_one_line(tmp_path, suffix):
    features = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    path, labels = tmp_path / f"a{suffix}", np.arange(40) % 3
    if suffix == ".npy":
        np.save(path, features)
        np.save(tmp_path / "y.npy", labels)
    elif suffix == ".npz":
        np.savez_compressed(path, x=features, y=labels)
    elif suffix == ".safetensors":
        save_file({"x": features, "y": labels}, path)
    else:
        pl.DataFrame({"x": features, "y": labels}).write_parquet(path)
    extra = {"labels": (("", tmp_path / "y.npy"),)} if suffix == ".npy" else {}
    content = path.read_bytes()
    assert digest(read_dataset(request(path, **extra))).identity.width == 8
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        assert refused(request(path, **extra)).startswith(str(path))


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("cache.exchange.formats.numpy_files.BOMB_BYTES", 1 << 20)
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros((3000, 100), np.float32), y=np.zeros(3000, np.int64))
    size = zipfile.ZipFile(path).infolist()[0].compress_size
    assert refused(request(path)) == (
        f"{path}[x]: {size} bytes that would grow to 1200128; save it without compression"
    )


def test_ragged_and_missing_rows_of_parquet(tmp_path):
    rows = FEATURES.tolist()
    path = tmp_path / "a.parquet"
    pl.DataFrame({"x": [*rows[:5], [1.0, 2.0], rows[6]], "y": LABELS}).write_parquet(path)
    assert refused(request(path)) == f"{path}[x]: row 5: wanted 3 numbers as in the first row, found 2"
    pl.DataFrame({"x": [*rows[:5], None, rows[6]], "y": LABELS}).write_parquet(path)
    assert refused(request(path)).startswith(f"{path}[x]: row 5 (id '5'): feature 0 is nan")
    pl.DataFrame({"x": rows, "y": [0, None, 1, 0, 0, 0, 0]}).write_parquet(path)
    assert refused(request(path)) == f"{path}[y]: row 1 holds nothing; fill it, or leave the row out"


def test_a_file_that_changes_while_it_is_read(tmp_path):
    path = tmp_path / "x.npy"
    found = _npy(tmp_path)
    digested = digest(read_dataset(found))
    np.save(path, FEATURES + 1)
    with pytest.raises(CacheStorage) as caught:
        write(tmp_path / "stores", digested, Provenance(name="toy"))
    assert str(caught.value) == f"{path}: changed while it was read; when it is whole, run the same command again"
    assert imported(tmp_path / "stores", found).features("train")[0, 0] == 1


def test_an_interrupted_import_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("cache.format.layout.CHUNK_BYTES", 2 * D * 4)
    found = _npz(tmp_path)
    digested, seen = digest(read_dataset(found)), []

    def stop(rows: int) -> None:
        seen.append(rows)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "stores", digested, Provenance(name="toy"), stop)
    begun = sorted((tmp_path / "stores/.staging").rglob("c/*/0"))
    times = [file.stat().st_mtime_ns for file in begun]
    assert len(begun) == 2
    path = write(tmp_path / "stores", digested, Provenance(name="toy"))
    kept = [path / file.relative_to(file.parents[5]) for file in begun]
    assert [file.stat().st_mtime_ns for file in kept] == times
    np.testing.assert_array_equal(FeatureCache.open(path).features("train"), FEATURES)
    assert write(tmp_path / "stores", digested, Provenance(name="again")) == path


@given(
    features=arrays.arrays(
        st.sampled_from([np.float16, np.float32]),
        st.tuples(st.integers(1, 9), st.integers(1, 5)),
        elements={"allow_nan": False, "allow_infinity": False},
    ),
    size=st.integers(1, 12),
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_stored_bits_are_the_file_s_bits(tmp_path, monkeypatch, features, size):
    monkeypatch.setattr("cache.format.layout.CHUNK_BYTES", size * features.itemsize)
    monkeypatch.setattr("cache.exchange.source.BLOCK_BYTES", 3 * size)
    np.savez(tmp_path / "a.npz", x=features, y=np.zeros(len(features), np.int64))
    cache = imported(tmp_path / "stores", request(tmp_path / "a.npz"))
    assert cache.features("train").tobytes() == features.tobytes()


def test_an_import_into_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "CHUNK_BYTES", 2 * D * 4)
    monkeypatch.setattr(layout, "MANY_CHUNKS", 3)
    monkeypatch.setattr(layout, "CHUNKS_PER_SHARD", 3)
    cache = imported(tmp_path / "stores", _npz(tmp_path))
    assert (cache.manifest.rows_per_chunk, cache.manifest.chunks_per_shard) == (2, 3)
    np.testing.assert_array_equal(cache.features("train"), FEATURES)
    assert verify.verify(cache.path).findings == ()


def test_parquet_whose_path_is_no_utf_8(tmp_path):
    path = tmp_path / "\udcff.parquet"
    pl.DataFrame({"features": [[1.0]], "label": [0]}).write_parquet(tmp_path / "x.parquet")
    (tmp_path / "x.parquet").rename(path)
    with pytest.raises(CacheInvalid, match=r"\\udcff\.parquet'; rename the file, or link to it$"):
        open_parquet(path, "")
