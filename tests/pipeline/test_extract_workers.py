"""Extraction by several processes: the same cache whatever their number, one line of output, and nobody waits for the dead."""

import json
import os
import subprocess
import sys

import pytest
import toy_caches as toys
from conftest import ROOT
from small_runs import small

from cache import CacheWriter, FeatureCache
from cache.format import layout
from pipeline.settings.files import to_toml
from pipeline.stage1_backbone import train_backbone
from pipeline.stage1_extract import extract


def several(views=2):
    return small(epochs=1).model_copy(update={"extract": small().extract.model_copy(update={"views": views})})


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    """Shards of 16 rows: the 62 images of train make four a view."""
    monkeypatch.setattr(layout, "CHUNK_BYTES", 16 * 64 * 2)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train_backbone(several(), tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def process(monkeypatch):
    """Makes this process one of several."""

    def one(rank, world):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(world))

    return one


def files(path):
    """Every file but the manifest, which says when it was made."""
    return {name: content for name, content in toys.snapshot(path).items() if name != layout.MANIFEST}


@pytest.fixture(scope="module")
def alone(run, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "CHUNK_BYTES", 16 * 64 * 2)
        return files(extract(several(), run, tmp_path_factory.mktemp("alone")))


@pytest.mark.parametrize("world", [2, 4, 40])
def test_any_number_of_processes_makes_the_same_files(run, alone, process, tmp_path, monkeypatch, world):
    """40 processes are more than there are shards."""
    written = []
    write = CacheWriter.write
    monkeypatch.setattr(
        CacheWriter, "write", lambda self, shard, rows: written.append(shard) or write(self, shard, rows)
    )
    for rank in reversed(range(world)):
        process(rank, world)
        path = extract(several(), run, tmp_path)
        assert (path is None) == (rank > 0)
    assert files(path) == alone
    assert len(written) == len(set(written))


def test_the_first_process_does_what_one_that_died_has_left(run, alone, process, tmp_path, monkeypatch):
    def dying(self, shard, features):
        raise KeyboardInterrupt

    process(1, 2)
    with monkeypatch.context() as patch:
        patch.setattr(CacheWriter, "write", dying)
        with pytest.raises(KeyboardInterrupt):
            extract(several(), run, tmp_path)
    process(0, 2)
    assert files(extract(several(), run, tmp_path)) == alone
    process(1, 2)  # a process that comes late finds the work done
    assert extract(several(), run, tmp_path) is None


def torchrun(folder, processes, *arguments, script=ROOT / "cli.py"):
    """The command, in so many processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", "0"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COATTAIL_")}
    return subprocess.run(
        [*command, str(script), *arguments],
        cwd=folder, env=clean | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_torchrun_prints_one_result(run, tmp_path):
    (tmp_path / "small.toml").write_text(to_toml(several()))
    done = torchrun(tmp_path, 2, "extract", "--config", "small.toml", "--backbone", str(run.folder), "--json")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    whole = FeatureCache.open(extract(several(), run, tmp_path / "alone"))
    path = f"{tmp_path}/stores/{whole.key}"
    assert json.loads(done.stdout) == {"cache": whole.key, "path": path}
    cache = FeatureCache.open(tmp_path / path)
    for split, view in (("train", "clean"), ("train", "view-01"), ("train", "view-02"), ("test", "clean")):
        assert cache.features(split, view).tobytes() == whole.features(split, view).tobytes()


TWICE = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import cli
from cache.format import layout
for number, rows in enumerate(map(int, sys.argv.pop(1).split(","))):
    layout.CHUNK_BYTES = rows * 64 * 2
    sys.argv[sys.argv.index("--config") + 1] = f"{number}.toml"
    try:
        cli.main()
    except SystemExit as end:
        assert not end.code
"""
"""Two extractions in one set of processes, of so many rows a shard; starting them takes most of the time."""


def test_four_processes_of_torchrun_share_many_shards_and_few(run, tmp_path):
    """Sixteen rows a shard make four and more a view; then there is one a split, and two processes have nothing to do."""
    wanted = []
    for number, (settings, rows) in enumerate([(several(), 16), (several(views=0), 1000)]):
        (tmp_path / f"{number}.toml").write_text(to_toml(settings))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(layout, "CHUNK_BYTES", rows * 64 * 2)
            wanted.append(extract(settings, run, tmp_path / "alone"))
    (tmp_path / "twice.py").write_text(TWICE)
    arguments = ["extract", "--config", "0.toml", "--backbone", str(run.folder), "--json"]
    done = torchrun(tmp_path, 4, str(ROOT), "16,1000", *arguments, script=tmp_path / "twice.py")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["cache"] for line in done.stdout.splitlines()] == [path.name for path in wanted]
    for path in wanted:
        assert files(tmp_path / "stores" / path.name) == files(path)
    shards = [len(list(path.rglob("c/*/0"))) for path in wanted]
    assert shards[0] > 4 > shards[1] == 2
