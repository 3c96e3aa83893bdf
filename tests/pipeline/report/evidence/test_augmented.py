"""What the generator makes of tail samples."""

import torch

from pipeline.augment.tail import tail_of
from pipeline.comparing.divergence import divergence, example_class, sample_transformations
from pipeline.report.evidence import _tail
from pipeline.report.evidence.augmented import class_level, sample_level, some_rows
from pipeline.stg import trained as stg_file


def test_some_rows_are_of_the_classes_and_no_more_than_asked_for():
    labels = torch.tensor([0, 1, 1, 1, 2, 2])
    rows = some_rows(labels, [1, 2], 2, 0, "example")
    assert torch.bincount(labels[rows]).tolist() == [0, 2, 2]
    assert torch.equal(rows, some_rows(labels, [1, 2], 2, 0, "example"))
    assert len(some_rows(labels, [], 2, 0, "example")) == 0


def test_tail_rows_are_moved_and_the_rest_of_each_is_kept(runs, about):
    tail = tail_of(
        about.settings, runs.cache, stg_file.load(next(runs.runs.glob("*/stg-*")), runs.cache, "standard")[0]
    )
    assert tail.classes == [4, 3, 2]  # by their training rows, 6, 12 and 30
    assert example_class(tail) == 4
    rows = (tail.train.labels_N == 4).nonzero()[:, 0]
    before = tail.train.gather(0, rows)
    for make in (sample_level, class_level):
        moved = make(tail, rows, "example")
        share = float((moved != before).double().mean())
        assert 0.2 < share < 0.8  # Eq. 4 with a threshold of 0.5
        assert torch.equal(moved, make(tail, rows, "example"))
    samples = sample_transformations(tail)
    assert (samples.tail_class, len(samples.rows)) == (4, 5)
    assert set(samples.nearest) <= set(tail.trained.heads)
    assert (samples.kl_SS.diagonal() == 0).all()


def test_the_report_and_the_preset_show_the_same_table(runs, about, evidence):
    table = divergence(about.settings, runs.cache, next(runs.runs.glob("*/stg-*")))
    shown = evidence.divergence
    assert (table.rows, table.tail_class) == (list(shown.rows), runs.cache.classes[shown.tail_class])
    assert table.nearest == [runs.cache.classes[c] for c in shown.nearest]
    assert table.divergences == shown.kl_SS.tolist()


def test_a_generator_of_other_coordinates_is_left_out_with_the_reason(about, monkeypatch):
    monkeypatch.setattr("pipeline.report.evidence.coordinates_of", lambda *_: "supported")
    tail, reason = _tail(about)
    assert tail is None
    assert reason.startswith("What the generator makes of tail samples is not shown: STG ")
    assert reason.endswith(
        ": learnt in standard coordinates, wanted supported; run train-stg, then retrain, with one setting of coordinates."
    )
