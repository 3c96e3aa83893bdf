"""What was found in labels, as a page with images."""

import json

import numpy as np
import pytest
from html_page import ParsedPage
from in_process import run
from PIL import Image
from reported import HOSTILE, reported

from pipeline.inspecting.label_errors import LabelFindings, SharedRow, SuspiciousRow
from pipeline.report import label_page as module
from pipeline.report.html import html
from pipeline.report.label_page import label_page
from pipeline.settings import Settings
from tests.support import toy_caches


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return reported(tmp_path_factory.mktemp("labels"), HOSTILE, arms=(("stage1", "none"),)).cache


def test_hostile_names_are_text_and_plain_rows_stand_without_images(cache):
    row = SuspiciousRow(row=0, sample_id=HOSTILE[2] * 9, label=HOSTILE[0], taken_for=HOSTILE[4], margin=-0.5)
    shared = SharedRow(split="test", row=1, sample_id=HOSTILE[1], train_row=2, train_sample_id="a", same_label=False)
    findings = LabelFindings(suspicious=(row,), negative=1, shared=(shared,), in_two_splits=1, confused=(), unranked=2)
    page = label_page(cache, Settings(), findings)
    assert page.sections[0].text.endswith("The features were imported without images, so none can be shown.")
    assert page.summary.endswith(
        "Rows of other splits that are a training row, or all but equal to one: 1. Not judged: 2 rows that are the only one "
        "of their class."
    )
    parsed = ParsedPage(html([page]))
    assert parsed.wrong == []
    parsed.check_nothing_is_fetched_or_listens()
    parsed.check_names_are_text()
    assert "<script>alert(1)</script>" in parsed.text
    assert "img" not in parsed.tags


def test_each_image_stands_over_its_own_row(cache, monkeypatch):
    asked = []

    def thumbnails(_cache, _settings, rows):
        asked.extend(rows)
        return [f"{split} {row}".encode() for split, row in rows], ""

    monkeypatch.setattr(module, "thumbnails", thumbnails)
    suspicious = tuple(
        SuspiciousRow(row=row, sample_id=f"id-{row}", label="cat", taken_for="dog", margin=-0.25) for row in (4, 2)
    )
    pair = SharedRow(split="val", row=7, sample_id="v-7", train_row=9, train_sample_id="t-9", same_label=False)
    findings = LabelFindings(
        suspicious=suspicious, negative=2, shared=(pair,), in_two_splits=1, confused=(), unranked=0
    )
    page = label_page(cache, Settings(), findings)
    assert asked == [("train", 4), ("train", 2), ("val", 7), ("train", 9)]
    assert [(image.content, image.text) for section in page.sections for image in section.gallery] == [
        (b"train 4", "cat, looks like dog (-0.25): id-4"),
        (b"train 2", "cat, looks like dog (-0.25): id-2"),
        (b"val 7", "val: v-7"),
        (b"train 9", "its training row, OF ANOTHER LABEL: t-9"),
    ]


def test_inspect_writes_the_page_with_the_images_of_a_folder(monkeypatch, tmp_path):
    """Light and dark squares; one dark one lies among the light ones."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for split, counts in (("train", (14, 9)), ("test", (4, 4))):
        for label, (name, count) in enumerate(zip(("dark", "light"), counts, strict=True)):
            for number in range(count):
                shade = 200 if label and not (split == "train" and number == 0) else 40
                pixels = np.clip(draw.normal(shade, 12, (12, 12, 3)), 0, 255).astype(np.uint8)
                path = tmp_path / "photos" / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    made = run(monkeypatch, "train-backbone", "--config", "photos", "--set", "backbone.name=resnet20",
               "--set", "data.image_size=12", "--set", "stage1.epochs=1", "--json", "-q")  # fmt: skip
    assert made.code == 0, made.err
    key = json.loads(made.out)["cache"][:12]
    done = run(monkeypatch, "inspect", "--cache", key, "--html", "out/labels.html", "--json")
    assert done.code == 0, done.err
    assert done.json["html"] == "out/labels.html"
    parsed = ParsedPage((tmp_path / "out" / "labels.html").read_text())
    assert parsed.wrong == []
    listed = len(done.json["labels"]["suspicious"]) + 2 * len(done.json["labels"]["shared"])
    assert parsed.tags.count("img") == listed > 0
    assert done.json["labels"]["suspicious"][0]["sample_id"] in parsed.text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["digits-lt", "--html", "x.html"], "--html is for --cache: it shows which labels of cached rows may be wrong"),
        (
            ["--cache", "KEY", "--html", "x.html", "--no-labels"],
            "--html and --no-labels: the page shows what was found",
        ),
        (["--cache", "KEY", "--html", "."], "--html .: wanted a file, found a folder; give a name that ends in .html"),
    ],
)
def test_what_cannot_be_written_is_one_line_before_labels_are_looked_at(monkeypatch, tmp_path, arguments, text):
    path = toy_caches.make(tmp_path)
    monkeypatch.setattr("pipeline.inspecting.label_errors.label_findings", lambda cache: pytest.fail("too late"))
    done = run(monkeypatch, "inspect", *(str(path) if word == "KEY" else word for word in arguments))
    assert done.code == 2
    assert text in done.err
    assert done.out == ""


def test_the_home_folder_of_a_page_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    path = toy_caches.make(tmp_path / "stores")
    done = run(monkeypatch, "inspect", "--cache", str(path), "--html=~/labels.html", "--json")
    assert done.code == 0, done.err
    assert (tmp_path / "home" / "labels.html").is_file()
    assert not (tmp_path / "~").exists()
