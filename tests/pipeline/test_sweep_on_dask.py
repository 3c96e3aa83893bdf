"""A sweep on a Dask cluster whose two workers have the cache's address and no folder of ours."""

import os

import pytest
from conftest import write_cache

from cache import sharing
from cache.sharing import push
from pipeline.settings.load import load
from pipeline.sweep import Sweep, sweep
from pipeline.sweeping.plan import points, read_sweep
from pipeline.sweeping.spread import Workers

distributed = pytest.importorskip("distributed", reason="dask is an extra: pip install 'coattail[dask]'")

TEXT = 'methods = ["crt+stg", "lda"]\nseed = [0, 1]'


@pytest.mark.filterwarnings("ignore")
def test_workers_that_share_no_disk_send_the_run_folders_back(s3, stores, tmp_path, monkeypatch):
    cache = write_cache(stores)
    place = sharing.at(s3.url)
    push.push(cache.path, place)
    path = tmp_path / "sweep.toml"
    path.write_text(TEXT)
    swept = read_sweep(path)
    settings = load(overrides=["retrain.epochs=1", "stg.epochs=1", "stg.head_classes=2"]).settings
    grid = points(swept, settings)
    _, here = sweep(Sweep(swept, grid, cache, str(cache.path), tmp_path / "here"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    own = os.environ | {"PYTHONPATH": os.getcwd()}
    monkeypatch.chdir(elsewhere)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, env=own, scheduler_port=0
    ) as cluster:
        workers = Workers(2, "dask", cluster.scheduler_address)
        address = f"{s3.url.rstrip('/')}/{cache.key}"
        _, there = sweep(Sweep(swept, grid, cache, address, tmp_path / "there", workers))
    strip = {"places": {"__all__": {"runs", "seconds"}}}
    assert there.model_dump(exclude=strip) == here.model_dump(exclude=strip)
    assert len(list((tmp_path / "there").glob("*/*/metrics.json"))) == 4 + 2  # points and generators
