"""`coattail cache …`: what it lists, finds, compares and takes away, with its exit codes."""

import json

import pytest
import toy_caches as toys
from in_process import run

from cache import FeatureCache, catalog
from cache.explain import explain
from pipeline.commands import cache_text as tables


@pytest.fixture
def key(stores):
    return toys.make(stores).name


def _one_line(done, code, text):
    assert (done.code, done.out, done.err) == (code, "", f"coattail: {text}\n")


def test_ls_lists_what_is_there_half_there_and_damaged(coattail, stores, key):
    damaged = toys.make(stores, toys.identity(dtype="float32"))
    (damaged / "manifest.json").write_bytes(b"{}")
    half = "ab" * 32
    for name in (half, "abc"):
        (stores / ".staging" / name).mkdir(parents=True)
    done = coattail("cache", "ls", "--json")
    assert done.code == 0, done.err
    assert {one["key"]: one["state"] for one in done.json} == {
        key: "published", damaged.name: "damaged", half: "incomplete", "abc": "foreign",
    }  # fmt: skip
    assert (done.json[0]["rows"], done.json[0]["width"], done.json[0]["views"]) == (70, 8, 1)
    lines = [line.split() for line in coattail("cache", "ls").out.splitlines()]
    assert ["key", "data", "set", "backbone", "rows", "D", "views", "size", "age", "state"] in lines
    assert [key[:12], "toy", "resnet32", "70", "8", "1"] in [line[:6] for line in lines]


def test_ls_of_nothing(coattail, tmp_path):
    assert coattail("cache", "ls").out == f"no caches in {tmp_path}/stores\n"
    assert coattail("cache", "ls", "--json").json == []


def test_show_describes_and_its_json_is_the_manifest_without_its_files(coattail, stores, key):
    found = coattail("cache", "show", key[:6], "--json").json
    manifest = json.loads((stores / key / "manifest.json").read_bytes())
    assert found["files"] == len(manifest.pop("inventory"))
    assert manifest.items() <= found.items()
    text = coattail("cache", "show", key[:6]).out
    assert "split train 50 rows, 16 to 17 a class; clean, view-01\n" in text


def test_verify_says_sound_or_names_the_rows_and_exits_with_1(coattail, stores, key):
    done = coattail("cache", "verify", key)
    assert (done.code, done.out.split(" (")[0]) == (0, f"{key[:12]}: sound")
    file = "features.zarr/train/clean/c/2/0"
    chunk = bytearray((stores / key / file).read_bytes())
    chunk[0] ^= 1
    (stores / key / file).write_bytes(chunk)
    done = coattail("cache", "verify", key)
    assert done.code == 1
    assert done.out.splitlines()[0] == (
        f"{stores}/{key}: {file} (train/clean, rows 16 to 23): its sha256 is not the manifest's"
    )
    done = coattail("cache", "verify", key, "--json")
    assert coattail("cache", "verify", key).out.splitlines()[-1].startswith(f"{key[:12]}: 1 finding (")
    assert (done.code, done.json[0]["sound"], done.json[0]["findings"][0]["start"]) == (1, False, 16)
    assert coattail("cache", "verify", key, "--quick").code == 0
    parts = [coattail("cache", "verify", key, "--subset", f"{part}/3").code for part in (1, 2, 3)]
    assert sorted(parts) == [0, 0, 1]


def test_verify_called_wrongly(coattail, key):
    for part in ("1", "6/5"):
        done = coattail("cache", "verify", key, "--subset", part)
        _one_line(done, 2, f"--subset {part}: wanted I/N with 1 <= I <= N, such as 1/5")
    assert "exclude each other" in coattail("cache", "verify", key, "--quick", "--full").err
    assert coattail("cache", "verify", key, "--quick", "--full").code == 2
    assert "did you mean verify?" in coattail("cache", "verfiy", key).err


def test_explain_names_fields(coattail, stores, key):
    other = toys.make(stores, toys.identity(dtype="float32")).name
    done = coattail("cache", "explain", key, other)
    assert done.out.splitlines() == [
        "same images, same weights, other number format",
        f"{key[:12]} | {other[:12]}",
        "identity.dtype: 'float16' | 'float32'",
    ]
    assert coattail("cache", "explain", key, key).out == "no differences: the same rows\n"
    assert coattail("cache", "explain", key, other, "--json").json == [
        {"field": "identity.dtype", "left": "float16", "right": "float32"}
    ]


def test_explain_takes_a_config_in_place_of_the_other_cache(coattail, tmp_path, key):
    assert "another cache or --config is wanted, one of the two" in coattail("cache", "explain", key).err
    done = coattail("cache", "explain", key, "--config", "digits-lt")
    assert done.code == 1
    assert f"coattail: backbone {tmp_path}/runs/digits-lt/backbone-" in done.err
    assert done.err.endswith(": not trained to its end; run train-backbone with the same --config and --set\n")


def test_rm_asks_somebody_or_wants_yes(coattail, stores, key):
    done = coattail("cache", "rm", key)
    assert done.code == 2
    assert f"nobody to ask whether to delete {stores}/{key}; give --yes" in done.err
    cache = FeatureCache.open(stores / key)
    _one_line(
        coattail("cache", "rm", key, "--yes"),
        1,
        f"{stores}/{key}: in use; wait until whoever reads it is done, then try again",
    )
    del cache
    assert coattail("cache", "rm", key, "--yes", "--json").json.keys() == {f"{stores}/{key}"}
    assert not (stores / key).exists()
    done = coattail("cache", "rm", key, "--yes")
    _one_line(done, 1, f"cache {key}: neither a cache's folder nor the start of a key in {stores}; found none")


def test_rm_of_a_cache_in_a_bucket_is_refused_without_talk_of_pulling_it(coattail):
    done = coattail("cache", "rm", "s3://team/features/0123abcd", "--yes")
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith(
        "Error: s3://team/features/0123abcd: caches on this machine are deleted; for one in a bucket, use the store's own tools\n"
    )


def test_prune_deletes_on_yes(coattail, stores, key):
    spared = toys.make(stores, toys.identity(dtype="float32")).name
    assert coattail("cache", "prune").out == "nothing to prune\n"
    done = coattail("cache", "prune", "--older-than", "nan")
    assert (done.code, done.err.splitlines()[-1]) == (
        2, "Error: Invalid value for '--older-than': nan is no finite number.",
    )  # fmt: skip
    older = ("cache", "prune", "--older-than", "0", "--keep", spared[:8])
    done = coattail(*older)
    assert done.out.endswith("published 0 days ago): would be deleted\nnothing is deleted without --yes\n")
    assert (stores / key).exists()
    assert coattail(*older, "--yes").out.endswith("published 0 days ago): deleted\n")
    assert [path.name for path in stores.iterdir() if path.name != ".staging"] == [spared]


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 << 29, "1.5 GiB"), (1 << 50, "1024.0 TiB")]
)
def test_sizes(count, text):
    assert tables.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (59, "59 s"), (60, "1 min"), (7200, "2 h"), (200_000, "2 d")]
)
def test_ages(seconds, text):
    assert tables.age(seconds) == text


@pytest.mark.parametrize(
    ("changes", "sentence", "last"),
    [
        ({"weights": toys.digest("other")}, "same images, other weights", "identity.weights"),
        ({"classes": ("cat", "dog", "emu")}, "other images, same weights", "identity.classes[2]"),
        ({"transform": {"size": 64}}, "same images, same weights, other transform", "identity.transform.mean"),
        ({"views": 0}, "same images, same weights, other views", "identity.splits.train.views"),
        ({"maps": (2, 2)}, "same images, same weights, other feature maps", "identity.maps"),
        (
            {"weights": toys.digest("other"), "bn": "shifted", "views_seed": 3},
            "same images, other weights, other views, other batch normalisation",
            "identity.weights",
        ),
    ],
)
def test_explain_begins_with_a_sentence_and_ends_with_digests(changes, sentence, last):
    fields = explain(toys.identity(), toys.identity(**changes))
    lines = tables.differences(fields, "a" * 64, "b" * 64)
    assert lines[:2] == [sentence, "aaaaaaaaaaaa | bbbbbbbbbbbb"]
    assert lines[-1].startswith(f"{last}: ")


def test_of_imports_it_speaks_of_rows_and_a_classifier():
    fields = explain(toys.identity(kind="imported"), toys.identity(kind="imported", weights=toys.digest("other")))
    assert tables.differences(fields, "a", "b", imported=True)[0] == "same rows, other classifier"


def test_an_age_that_nobody_knows_is_not_said():
    """A bucket does not say when what cannot be read was written; 1970 is no answer."""
    (table,) = tables.listings([catalog.Listing("x" * 64, "s3://a/x", "damaged", 0, 0.0)], "s3://a", 2e9)
    assert table.rows[0][-2:] == ("", "damaged")


def test_the_same_rows_made_otherwise(stores, tmp_path):
    one = catalog.read_manifest(toys.make(stores, author="ann", backbone_run="x"))
    other = catalog.read_manifest(toys.make(tmp_path / "others", author="bob", backbone_run="y"))
    lines = tables.differences(explain(one, other), one.key, other.key)
    assert lines[0] == "the same rows; what is recorded beside them differs"
    assert [line.partition(":")[0] for line in lines[2:]] == ["provenance.author", "provenance.backbone_run"]


def test_ls_gives_whole_keys_where_asked_and_a_pipe_has_no_width(stores, key, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "20")
    short, whole = (run(monkeypatch, "cache", "ls", *more).out.splitlines() for more in ([], ["--long"]))
    assert (short[4].split()[:2], whole[4].split()[:2]) == ([key[:12], "toy"], [key, "toy"])
    assert (len(short), len(whole)) == (5, 5)


def test_whole_paths_are_printed_wherever_a_command_starts(stores, key, monkeypatch):
    monkeypatch.chdir(stores)
    place = stores / ".." / "place"
    assert run(monkeypatch, "cache", "ls", ".").out.splitlines()[0] == f"caches in {stores}"
    assert run(monkeypatch, "cache", "show", key).out.splitlines()[1] == f"path        {stores}/{key}"
    assert run(monkeypatch, "cache", "push", "../place", f"./{key}").out.startswith(f"{place}/{key}: pushed (")
    assert run(monkeypatch, "cache", "pull", "../place", key).out.startswith(f"{stores}/{key}: already there (")
    assert run(monkeypatch, "cache", "rm", "--yes", f"../place/{key}").out.startswith(f"deleted {place}/{key} (")
