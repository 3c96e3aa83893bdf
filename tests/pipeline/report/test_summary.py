"""The first paragraph of a report."""

from dataclasses import replace

from pipeline.report.lineage import changed_settings, chosen, commands, lineage
from pipeline.report.summary import in_words
from pipeline.settings import Settings


def test_it_says_what_happened_to_which_classes(evidence):
    method, baseline = evidence.method.result, evidence.baseline.result
    text = in_words(evidence)
    assert f"cRT + STG is right on {method.accuracy:.1f} % of the rows" in text
    assert f"classifier (stage 1) on {baseline.accuracy:.1f} %." in text
    few = text.partition("the 2 few-shot classes ")[2].partition(" %")[0]
    assert few.endswith(f"{method.few:.1f}")
    assert few.split()[0] in ("rise", "fall", "stay")
    gained = sum(b > a for a, b in zip(baseline.per_class, method.per_class, strict=True))
    assert f"{gained} classes gain" in text
    assert f"(ECE), that of classifier (stage 1) by {baseline.ece:.1f}." in text
    assert text.isprintable()


def test_one_arm_is_compared_with_nothing(evidence):
    alone = replace(evidence, about=replace(evidence.about, baseline=None))
    text = in_words(alone)
    assert "gain" not in text
    assert "None" not in text


def test_the_lineage_names_what_it_was_made_from(about, runs):
    found = dict(lineage(about))
    assert found["feature cache"] == f"{runs.cache.key} (extracted, float32)"
    assert found["backbone run"] == "not at hand"
    assert found["generator run"].startswith("runs/toy/stg-")
    assert found["seeds"] == "0, 1"
    assert all(text.isprintable() for text in found.values())
    assert (
        chosen(about)
        == "cRT + STG of its last epoch was asked for, or no run of auto chose another; the test split chose nothing"
    )
    assert [line.split()[1] for line in commands(about)] == ["train-stg", "retrain", "report"]


def test_settings_are_listed_where_they_are_not_the_default():
    assert changed_settings(Settings()) == []
    found = changed_settings(
        Settings.model_validate({"stg": {"epochs": 7}, "stage1": {"amp": "off"}, "data": {"train": "a\x1bb"}})
    )
    assert found == [("data.train", "a\\x1bb", "(empty)"), ("stage1.amp", "off", "auto"), ("stg.epochs", "7", "0")]
