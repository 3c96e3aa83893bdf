"""The feature cache at real sizes: reading against np.load, peak memory, bounded memory, opening, listing, growth.

python tests/benchmarks/bench_cache.py [--sizes 115846x2048 1280000x512] [--folder /tmp] [--quick]
python tests/benchmarks/bench_cache.py --bounded 1048576x512 --ram-limit 1
python tests/benchmarks/bench_cache.py --growth

Writes synthetic caches below --folder and deletes them. Rates are the median of alternating reads in one process.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cache import CacheWriter, FeatureCache, Identity, Provenance, SplitIdentity
from cache import manifest as manifests
from cache.disk import opening as files
from cache.format import layout
from cache.format.layout import view_names
from cache.identity import samples_digest
from cache.manifest import Entry
from cache.staging.sealing import rows_bytes
from cache.verify import verify
from pipeline.longtail import class_counts

ROOT = Path(__file__).resolve().parents[2]
CLASSES = 100


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def identity(rows: int, width: int, views: int, tested: int = 2000, **changes: object) -> Identity:
    splits = {
        name: SplitIdentity(
            rows=count, samples=samples_digest(ids(count)), content=digest(name), views=views if name == "train" else 0
        )
        for name, count in (("train", rows), ("test", tested))
    }
    fields = {
        "classes": tuple(f"class {c}" for c in range(CLASSES)),
        "splits": splits,
        "weights": digest("weights"),
        "backbone": "synthetic",
        "layer": "none",
        "width": width,
        "transform": {},
        "view_transform": {},
        "views_seed": 0,
    }
    return Identity(**(fields | changes))


def ids(rows: int) -> list[str]:
    return [f"{row:010d}" for row in range(rows)]


def make(stores: Path, found: Identity) -> tuple[Path, float]:
    """A cache of random features with a long tail of 100 classes, and the seconds that writing it took."""
    random = np.random.default_rng(0)
    started = time.perf_counter()
    with CacheWriter(stores, found, Provenance(name="synthetic")) as writer:
        for split, one in found.splits.items():
            counts = np.array(class_counts(one.rows, CLASSES, 100), dtype=float)
            labels = np.sort(random.choice(CLASSES, one.rows, p=counts / counts.sum()))
            random.shuffle(labels)
            frame = pl.DataFrame({"row": np.arange(one.rows), "sample_id": ids(one.rows), "label": labels})
            writer.write_rows(split, frame)
            # One block of random numbers, moved along for each shard: drawing them all would take longer than writing.
            block = random.standard_normal((writer.chunk, found.width), dtype=np.float32).astype(found.dtype)
            for number, view in enumerate(view_names(one.views)):
                for shard in writer.pending(split, view):
                    moved = np.roll(block, 7 * shard.index + number, axis=1)[: shard.stop - shard.start]
                    writer.write(shard, moved)
        weight = random.standard_normal((CLASSES, found.width), dtype=np.float32) / found.width**0.5
        writer.write_classifier({"weight": weight, "bias": np.zeros(CLASSES)})
        return writer.publish(), time.perf_counter() - started


def forget(path: Path) -> None:
    """Drop the pages of a file, or of every file in a folder, from the system's cache."""
    for file in [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    started = clock()
    result = work()
    taken = clock() - started
    del result
    return taken


def reading(folder: Path, rows: int, width: int, repeats: int) -> None:
    path, written = make(folder / "stores", identity(rows, width, 0))
    cache = FeatureCache.open(path)
    size = rows * width * 2
    flat = folder / "flat.npy"
    np.save(flat, cache.features("train"))
    # Only one of the two splits in RAM at a time.
    ways = {"np.load": lambda: np.load(flat, allow_pickle=False), "cache": lambda: cache.features("train")}
    warm: dict[str, list[float]] = {name: [] for name in ways}
    cold: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats):
        for name, read in ways.items():
            if repeat == 0:
                read()
            warm[name].append(seconds(read))
    busy = {name: median(seconds(read, time.process_time) for _ in range(repeats)) for name, read in ways.items()}
    for _ in range(2):
        for name, read in ways.items():
            forget(flat if name == "np.load" else path)
            cold[name].append(seconds(read))
    print(f"{rows:,} x {width}, float16, {size / 1e9:.2f} GB, {len(cache.manifest.inventory)} files")
    print(
        f"  written at {size / 1e6 / written:,.0f} MB/s; open {1000 * seconds(lambda: FeatureCache.open(path)):.0f} ms"
    )
    for text, taken in (("warm", warm), ("cold", cold)):
        rate = {name: size / 1e6 / median(times) for name, times in taken.items()}
        ratio = median(a / b for a, b in zip(taken["np.load"], taken["cache"], strict=True))
        print(
            f"  {text}: np.load {rate['np.load']:,.0f} MB/s, cache, verified {rate['cache']:,.0f} MB/s: {ratio:.2f}x"
            f"{'  (at least 0.25x)' if text == 'warm' else ''}"
        )
    print(f"  warm, in processor time, which other jobs disturb less: {busy['np.load'] / busy['cache']:.2f}x")
    found = child("load", path, 1000.0)
    print(f"  peak memory of loading it into tensors: {found['peak'] / size:.2f}x the split  (at most 1.3x)")
    flat.unlink()


def bounded(folder: Path, rows: int, width: int, ram_limit: float) -> None:
    """Stages 2 and 3 on a clean view and three augmented ones: in RAM (twice the limit where it is short), and in the limit."""
    path, written = make(folder / "stores", identity(rows, width, 3))
    size = 4 * rows * width * 2
    print(
        f"stages 2 and 3 on {rows:,} x {width}, 4 views, {size / 2**30:.2f} GiB, written at {size / 1e6 / written:,.0f} MB/s"
    )
    checked = seconds(lambda: verify(path))
    print(f"  verify, every byte: {checked:.0f} s, {size / 1e6 / checked:,.0f} MB/s")
    found = []
    fits = size < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 3
    for limit in (1000.0 if fits else 2 * ram_limit, ram_limit):
        one = child("train", path, limit)
        found.append(one)
        print(
            f"  ram_limit {limit:g} GiB: peak anonymous {one['anonymous'] / 2**30:.2f} GiB, peak resident with mapped pages "
            f"{one['peak'] / 2**30:.2f} GiB, {one['seconds']:.0f} s"
        )
    print(f"  equal bits: {found[0]['digests'] == found[1]['digests']}")


def child(what: str, path: Path, ram_limit: float) -> dict:
    """What a process of its own did, and the memory that it took beyond its imports, in bytes."""
    environment = os.environ | {"COATTAIL_STORES": str(path.parent)}
    command = [sys.executable, __file__, "--child", what, str(path), str(ram_limit)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def status(name: str) -> int:
    """A field of /proc/self/status, in bytes."""
    text = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name}:"))


def as_child(what: str, path: Path, ram_limit: float) -> None:
    from pipeline import features, retrain
    from pipeline.progress import set_verbosity
    from pipeline.settings.load import load
    from pipeline.stage2_stg import train_stg

    set_verbosity(0)
    cache = FeatureCache.open(path)
    cache.labels("test")  # polars takes its threads' memory at the first read
    peaks = {"VmRSS": 0, "RssAnon": 0}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            for name in peaks:
                peaks[name] = max(peaks[name], status(name))

    before = {name: status(name) for name in peaks}
    watcher = threading.Thread(target=watch)
    watcher.start()
    started, digests = time.perf_counter(), []
    if what == "load":
        features.load(cache, ram_limit=ram_limit)
    else:
        small = [
            "stg.epochs=1",
            "stg.hidden=[0.25]",
            "stg.head_classes=5",
            "retrain.epochs=1",
            "retrain.batch_size=1024",
        ]
        settings = load(overrides=[*small, f"ram_limit={ram_limit}"]).settings
        with tempfile.TemporaryDirectory() as runs:
            digests = [stage(settings, cache, Path(runs))[1].digest for stage in (train_stg, retrain)]
    taken = time.perf_counter() - started
    done.set()
    watcher.join()
    print(
        json.dumps(
            {
                "peak": peaks["VmRSS"] - before["VmRSS"],
                "anonymous": peaks["RssAnon"] - before["RssAnon"],
                "seconds": taken,
                "digests": digests,
            }
        )
    )


def listing(folder: Path, caches: int) -> None:
    """`cache ls` as a process, interpreter start included."""
    stores = folder / "many"
    for number in range(caches):
        make(stores, identity(50, 8, 0, tested=20, views_seed=number))
    command = [sys.executable, str(ROOT / "cli.py"), "cache", "ls", "--json"]
    environment = os.environ | {"COATTAIL_STORES": str(stores)}
    before = os.times()
    taken = [
        seconds(lambda: subprocess.run(command, env=environment, check=True, capture_output=True)) for _ in range(7)
    ]
    after = os.times()
    busy = (after.children_user + after.children_system - before.children_user - before.children_system) / 7
    print(f"`cache ls` of {caches} caches, a process: {median(taken):.2f} s, of these {busy:.2f} s of a CPU")


def growth(folder: Path) -> None:
    """What a cache of one split without views takes, from the layout and the manifest; opened with files that are holes."""
    print("rows     D      bytes   chunks  a file  files  of MiB  manifest MB  parse s  check s  list requests")
    for exponent in range(5, 10):
        for width in (64, 512, 2048):
            rows, found = 10**exponent, "float16"
            chunk = layout.rows_per_chunk(width, found)
            split = SplitIdentity(rows=rows, samples=digest("samples"), content=digest("train"))
            one = identity(1, width, 0).model_copy(update={"splits": {"train": split}})
            shard = layout.chunks_per_shard(one, chunk)
            manifest = manifests.build(
                key=one.key(),
                identity=one,
                provenance=Provenance(name="synthetic"),
                rows_per_chunk=chunk,
                chunks_per_shard=shard,
                counts={"train": (rows - CLASSES + 1, *[1] * (CLASSES - 1))},
                inventory=tuple(
                    entry(file, min(rows, chunk * shard) * width * 2) for file in layout.files(one, chunk, shard)
                ),
            )
            content = manifests.to_bytes(manifest)
            parsing = seconds(lambda content=content: manifests.parse(content))
            with tempfile.TemporaryDirectory(dir=folder) as root:
                for item in manifest.inventory:
                    file = Path(root) / item.file
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.touch()
                    os.truncate(file, item.size)
                sizes = [(item.file, item.size) for item in manifest.inventory]
                checking = seconds(lambda root=root, sizes=sizes: files.check(Path(root), sizes))
            count = len(manifest.inventory)
            print(
                f"10^{exponent} {width:6} {rows * width * 2 / 1e9:8.2f} GB {layout.chunks(rows, chunk):8,} {shard:4} {count:9,}"
                f" {min(rows, chunk * shard) * width * 2 / 2**20:7.1f} {len(content) / 1e6:9.2f} {parsing:11.3f} {checking:8.3f}"
                f" {layout.chunks(count + 1, 1000):8}"
            )
    rows = 1_000_000
    frame = pl.DataFrame({"row": np.arange(rows), "sample_id": ids(rows), "label": np.arange(rows) % CLASSES})
    print(
        f"rows/<split>.parquet: {len(rows_bytes(frame)) / rows:.1f} bytes a row, {frame.estimated_size() / rows:.0f} in RAM"
    )


def entry(file: str, size: int) -> Entry:
    return Entry(file=file, size=size, sha256=digest(file), crc32c=digest(file)[:8] if layout.chunk_of(file) else "")


def size_of(text: str) -> tuple[int, int]:
    rows, width = text.split("x")
    return int(rows), int(width)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", type=size_of)
    parser.add_argument("--bounded", type=size_of, metavar="ROWSxD")
    parser.add_argument("--ram-limit", type=float, default=1.0, help="GiB of the bounded mode")
    parser.add_argument("--caches", type=int, default=200, help="how many `cache ls` lists; 0: none")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where the caches are made; by default the system's temporary one")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--growth", action="store_true", help="only the table of what large caches take")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        what, path, limit = options.child
        as_child(what, Path(path), float(limit))
        return
    if options.growth:
        growth(options.folder)
        return
    sizes, tight, limit, caches = options.sizes, options.bounded, options.ram_limit, options.caches
    if sizes is None:
        sizes = [] if tight else [(115_846, 2048), (1_280_000, 512)]
    if options.quick:
        sizes, tight, limit, caches = [(20_000, 512)], (20_000, 64), 0.001, 5
    for rows, width in sizes:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            reading(Path(folder), rows, width, options.repeats)
    if tight:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            bounded(Path(folder), *tight, limit)
    if caches:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            listing(Path(folder), caches)


if __name__ == "__main__":
    main()
