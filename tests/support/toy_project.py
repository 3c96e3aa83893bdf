"""A folder in which the commands of README, the pages and --help run: caches, runs and images, tiny, under the names used there."""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from in_process import Ended, run
from PIL import Image
from toy_images import write_parquet

QUICK = ("--set", "stage1.epochs=1", "--set", "stg.epochs=2", "--set", "retrain.epochs=1")
CLASSES = ("cat", "dog")
IMAGES = {"train": 6, "test": 3, "labelled": 2}
"""Images of each class in each folder below photos/."""
OWN = '[data]\nsource = "folder"\ntrain = "photos/train"\ntest = "photos/test"\nimage_size = 8\n'
OWN += '[backbone]\nname = "resnet20"\n[stage1]\nepochs = 1\n'
SWEEP = 'cache = "KEY"\nmethods = ["lda", "ncm"]\n'
FILES = re.compile(r"^```(?:toml|python)\n(# (\S+\.\w+)\n.*?)^```$", re.DOTALL | re.MULTILINE)
"""A fenced block that names its file in its first line."""


FENCED = re.compile(r"^```\w*\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def commands_of(text: str) -> list[str]:
    """The lines of fenced blocks that call coattail, without what is behind a #."""
    blocks = "\n".join(FENCED.findall(text))
    return [line.partition(" #")[0].strip() for line in blocks.splitlines() if line.startswith("coattail ")]


@dataclass(frozen=True)
class ToyProject:
    """`keys`: what stands in the texts for a cache's key -> the key here."""

    place: Path
    keys: dict[str, str]
    ran: set[str] = field(default_factory=set)
    """Commands that ended well: of two texts that have the same one, it runs for the first."""

    def enter(self, patch: pytest.MonkeyPatch) -> None:
        """Make it the working folder, with its own stores and runs, and the toy images in place of CIFAR."""
        patch.chdir(self.place)
        patch.setenv("COATTAIL_STORES", str(self.place / "stores"))
        patch.setenv("COATTAIL_RUNS", str(self.place / "runs"))
        patch.setenv("COATTAIL_DATA", str(self.place / "data"))

    def write_files(self, text: str) -> list[Path]:
        """The files that a text shows, written as they stand there, but for the length of stage 1; and the sweeps' files."""
        for name in ("sweep.toml", "strengths.toml"):
            (self.place / name).write_text(SWEEP.replace("KEY", self.keys["6806"]))
        paths = []
        for content, name in FILES.findall(text):
            paths.append(self.place / name)
            paths[-1].write_text(re.sub(r"^epochs = \d+$", "epochs = 1", content, flags=re.MULTILINE))
        return paths

    def words(self, command: str) -> list[str]:
        """The words of a command after `coattail`, with this project's keys and run folders in place of the text's."""
        folder = next(iter(sorted(self.place.glob("runs/own/lda-*"))))
        words = []
        for word in shlex.split(command)[1:]:
            word = re.sub(r"runs/own/lda-0123456789ab|\bRUN\b", str(folder), word)
            for name, key in self.keys.items():
                word = re.sub(rf"(?<![\w-]){name}(?![\w-])", key if name == "KEY" else key[:12], word)
            words.append(word)
        return words

    def run(self, patch: pytest.MonkeyPatch, command: str, *more: str) -> Ended:
        return run(patch, *self.words(command), *more)


def toy_project(place: Path, patch: pytest.MonkeyPatch) -> ToyProject:
    """Made by the commands themselves: a cache of digits (6806), one of imported features (4189) and of images (802e)."""
    project = ToyProject(place, {})
    project.enter(patch)
    (place / "place").mkdir()
    (place / "own.toml").write_text(OWN)
    _write_images(place)
    _write_features(place)
    commands = {
        "6806": ("train-backbone", "--config", "digits-lt", *QUICK),
        "4189": ("cache", "import", "flowers.npz", "--name", "flowers"),
        "802e": ("train-backbone", "--config", "own.toml"),
    }
    for name, words in commands.items():
        made = run(patch, *words, "--json", "-q")
        assert made.code == 0, made.err
        project.keys[name] = made.json["cache" if "cache" in made.json else "key"]
    project.keys["KEY"] = project.keys["6806"]
    project.write_files("")
    for key in (project.keys["6806"], project.keys["802e"]):
        made = run(patch, "retrain", "--cache", key, "--head", "lda", "-q")
        assert made.code == 0, made.err
    return project


def _write_images(place: Path) -> None:
    """photos/ with folders of classes and one of new images; a CIFAR-100 of four images a class."""
    draw = np.random.default_rng(0)

    def image(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(path)

    for split, count in IMAGES.items():
        for name in CLASSES:
            for number in range(count):
                image(place / "photos" / split / name / f"{number}.png")
    for number in range(3):
        image(place / "photos" / "new" / f"{number}.png")
    for split, count in (("train", 3), ("test", 1)):
        labels = [number % 100 for number in range(100 * count)]
        write_parquet(place / "data" / "cifar100" / f"{split}-0.parquet", labels, first=count)


def _write_features(place: Path) -> None:
    """flowers.npz with the arrays train, y, test, yt; train.npz and test.npz with features and labels."""
    draw = np.random.default_rng(0)
    centres_CD = 2 * draw.normal(size=(6, 8))

    def rows(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels_N = np.arange(count) % 6
        return (centres_CD[labels_N] + draw.normal(size=(count, 8))).astype(np.float32), labels_N

    train, test = rows(48), rows(24)
    np.savez(place / "flowers.npz", train=train[0], y=train[1], test=test[0], yt=test[1])
    for name, (features_ND, labels_N) in (("train", train), ("test", test)):
        np.savez(place / f"{name}.npz", features=features_ND, labels=labels_N)
