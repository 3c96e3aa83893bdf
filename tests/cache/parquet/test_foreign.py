"""Parquet files that others wrote: what every writer's becomes is counted before it is decoded, and bombs are refused."""

import io

import numpy as np
import polars as pl
import pytest

from cache.errors import CacheInvalid
from cache.exchange.formats.parquet_files import open_parquet
from cache.parquet import foreign, pages
from cache.parquet.pages import Unfit

FRAME = pl.DataFrame(
    {
        "image": [{"bytes": bytes([n]) * 60, "path": None if n % 3 else f"{n}.png"} for n in range(50)],
        "features": [[float(n)] * 8 for n in range(50)],
        "ragged": [[n] * (n % 3) for n in range(50)],
        "label": [n % 2 for n in range(50)],
        "name": [f"name {n}" for n in range(50)],
    }
).with_columns(pl.col("features").cast(pl.Array(pl.Float32, 8)))


@pytest.fixture
def small_base(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bombs of a few MiB are as good as large ones."""
    monkeypatch.setattr(foreign, "BASE_BYTES", 1 << 20)


@pytest.mark.parametrize("compression", ["uncompressed", "snappy", "gzip", "brotli", "lz4", "zstd"])
@pytest.mark.parametrize("group", [7, 50])
def test_files_of_any_codec_and_nesting_are_read(tmp_path, compression, group):
    path = tmp_path / "x.parquet"
    FRAME.write_parquet(path, compression=compression, row_group_size=group)
    foreign.check(path, ratio=64)
    plain = FRAME.write_parquet(buffer := io.BytesIO(), compression="uncompressed") or buffer.getvalue()
    assert 50 * 60 <= foreign.decoded_bytes(path.read_bytes()) <= 4 * len(plain) + 50 * 40 * pages.VALUE_BYTES


def test_statistics_that_hold_whole_images(tmp_path, small_base):
    """Older writers, polars 1.34 among them, do not shorten them, neither in the footer nor in the headers of pages."""
    draw = np.random.default_rng(0)
    frame = pl.DataFrame({"image": [draw.bytes(300_000) for _ in range(6)]})
    frame.write_parquet(tmp_path / "x.parquet", row_group_size=2, statistics="full")
    foreign.check(tmp_path / "x.parquet", ratio=1)


@pytest.mark.parametrize("rows", [0, 1])
def test_hardly_any_row(tmp_path, rows):
    FRAME.head(rows).write_parquet(tmp_path / "x.parquet")
    foreign.check(tmp_path / "x.parquet", ratio=64)


@pytest.mark.parametrize(
    "frame",
    [
        pl.DataFrame({"image": [bytes([n]) * (1 << 20) for n in range(4)]}),
        pl.DataFrame({"label": np.zeros(200_000, np.int64)}),
        pl.DataFrame({"features": np.zeros((1000, 400), np.float32)}),
    ],
    ids=["compressed", "run lengths", "lists"],
)
def test_a_bomb_is_refused_before_it_is_decoded(tmp_path, small_base, monkeypatch, frame):
    path = tmp_path / "x.parquet"
    frame.write_parquet(path, compression="zstd", statistics=False)
    monkeypatch.setattr(pl, "scan_parquet", lambda *_, **__: pytest.fail("decoded"))
    limit = (1 << 20) + 64 * path.stat().st_size
    with pytest.raises(
        Unfit, match=rf"^wanted at most {limit} bytes once decoded of {path.stat().st_size} in the file, found \d+$"
    ):
        foreign.check(path, ratio=64)
    monkeypatch.setattr("cache.exchange.formats.parquet_files.RATIO", 64)
    with pytest.raises(CacheInvalid) as error:
        open_parquet(path, "")
    assert str(error.value).startswith(
        f"{path}: not Parquet, or damaged (wanted at most {limit} bytes once decoded of {path.stat().st_size} in the file, found "
    )
    assert str(error.value).endswith("); save or copy the file again")


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b"x" * 1000, b"PAR1" + b"\xff" * 8 + b"PAR1"]
)
def test_what_is_no_parquet(tmp_path, content):
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(Unfit):
        foreign.check(tmp_path / "x.parquet", ratio=64)


def test_any_damage_of_the_footer_is_refused_or_harmless(tmp_path):
    path = tmp_path / "x.parquet"
    FRAME.write_parquet(path, row_group_size=20)
    whole = path.read_bytes()
    length = int.from_bytes(whole[-8:-4], "little")
    limit, draws, refused = foreign.allowed_bytes(len(whole), 64), np.random.default_rng(0), 0
    for place in range(len(whole) - 8 - length, len(whole) - 8):
        damaged = bytearray(whole)
        damaged[place] = draws.integers(256)
        try:
            assert foreign.decoded_bytes(bytes(damaged)) >= 0
        except Unfit:
            refused += 1
    assert refused > length // 4
    assert limit > foreign.decoded_bytes(whole)
