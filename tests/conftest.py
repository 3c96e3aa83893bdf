"""Shared fixtures: a small cache, made as any other is made; the command line as a user calls it; real images, where they are."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import numpy as np
import polars as pl
import pytest
from object_store import ObjectStore, fresh_bucket, served

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as cli.py does; before torch is loaded

from cache import CacheWriter, FeatureCache, Identity, Provenance, SplitIdentity
from cache.identity import samples_digest

ROOT = Path(__file__).resolve().parent.parent
# No test fails because others keep the machine busy.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes are said in every test, also after one that ran a command with -q in this process or interrupted one."""
    from pipeline.progress import INTERRUPTED

    monkeypatch.setattr("pipeline.progress._verbosity", 1)
    monkeypatch.setattr("pipeline.progress._interrupted", INTERRUPTED)


def digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Blobs:
    """Gaussian classes around seeded centres, head classes first; the centres of tail classes lie near a head's."""

    counts: Sequence[int] = (150, 120, 30, 12, 6)
    width: int = 12
    views: int = 1
    seed: int = 0
    test_rows: int = 20
    scale: float = 1.0

    def classifier(self) -> dict[str, np.ndarray]:
        """What a backbone trained on the long tail would have: linear discriminants with the training prior."""
        centres = self.scale * np.random.default_rng(self.seed).normal(size=(len(self.counts), self.width))
        weight = centres / (0.6 * self.scale) ** 2
        prior = np.log(np.maximum(self.counts, 0.1) / np.sum(self.counts))
        return {"weight": weight, "bias": prior - 0.5 * (weight * centres).sum(axis=1)}

    def split(self, counts: Sequence[int], purpose: int) -> tuple[np.ndarray, np.ndarray]:
        centres = np.random.default_rng(self.seed).normal(size=(len(counts), self.width))
        labels = np.repeat(np.arange(len(counts)), counts)
        draw = np.random.default_rng([self.seed, purpose])
        return self.scale * (centres[labels] + 0.6 * draw.normal(size=(len(labels), self.width))), labels


def write_cache(
    stores: Path,
    blobs: Blobs = Blobs(),
    settings: dict | None = None,
    classifier: bool = True,
    classes: tuple[str, ...] | None = None,
    name: str = "blobs",
    val: bool = False,
    test_views: int = 1,
) -> FeatureCache:
    """Publish the blobs' train and test splits, and with `val` a third one, as a cache and open it.

    Each view has every feature .1 further than the view before.
    """
    tests = [blobs.test_rows] * len(blobs.counts)
    data = {"train": blobs.split(blobs.counts, 1), "test": blobs.split(tests, 2)}
    data |= {"val": blobs.split(tests, 3)} if val else {}
    views = {"train": blobs.views, "test": test_views - 1, "val": test_views - 1}
    classes = classes or tuple(f"class-{c}" for c in range(len(blobs.counts)))
    identity = Identity(
        classes=classes,
        splits={
            name: SplitIdentity(
                rows=len(labels),
                samples=samples_digest(_ids(name, labels)),
                content=digest(blobs, name),
                views=views[name],
            )
            for name, (_, labels) in data.items()
        },
        weights=digest(blobs, "weights"),
        backbone="blobs",
        layer="avgpool",
        width=blobs.width,
        transform={},
        view_transform={},
        views_seed=0,
        dtype="float32",
    )
    with CacheWriter(stores, identity, Provenance(name=name, settings=settings or {})) as writer:
        for name, (features, labels) in data.items():
            rows = {"row": range(len(labels)), "sample_id": _ids(name, labels), "label": labels}
            writer.write_rows(name, pl.DataFrame(rows))
            for view in range(views[name] + 1):
                moved = features + 0.1 * view
                for shard in writer.pending(name, "clean" if view == 0 else f"view-{view:02d}"):
                    writer.write(shard, moved[shard.start : shard.stop])
        if classifier:
            writer.write_classifier(blobs.classifier())
        return FeatureCache.open(writer.publish())


def _ids(split: str, labels: np.ndarray) -> list[str]:
    return [f"{split}-{row}" for row in range(len(labels))]


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    return tmp_path / "stores"


@pytest.fixture
def cache(stores: Path) -> FeatureCache:
    return write_cache(stores)


@dataclass(frozen=True)
class Done:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        return json.loads(self.out)


@pytest.fixture
def coattail(tmp_path: Path) -> Callable[..., Done]:
    """Calls the command in a process of its own, in a folder of its own, and returns what it left."""

    def call(*arguments: str, **environment: str) -> Done:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("COATTAIL_")}
        done = subprocess.run(
            [sys.executable, str(ROOT / "cli.py"), *arguments],
            cwd=tmp_path, env=clean | environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture(scope="session")
def s3_server() -> Iterator[tuple[str, int]]:
    with served() as address:
        yield address


@pytest.fixture
def s3(s3_server: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """A bucket of one's own on a real S3 API over HTTP, behind a proxy that breaks what it is told to."""
    with fresh_bucket(s3_server, monkeypatch) as store:
        yield store


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with cifar10/ and cifar100/ as Parquet; the test is skipped where there is none."""
    folder = os.environ.get("COATTAIL_DATA")
    if not folder:
        pytest.skip("real images are wanted: set COATTAIL_DATA to a folder with cifar10/ and cifar100/ as Parquet")
    return Path(folder)
