"""Labels that may be wrong, found by what was planted."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from pipeline.classifiers.selection import stratified_folds
from pipeline.errors import DataError
from pipeline.inspecting.label_errors import LABEL_FOLDS, LISTED, _confused, label_findings, out_of_sample
from pipeline.report.label_findings import shared_table
from tests.support import in_process

CLASSES = ("ants", "bees", "birds", "cats", "lonely")


class _Toy:
    """What `label_findings` asks of a cache: arrays in its place."""

    def __init__(self, splits):
        import polars as pl

        self.key, self.classes, self.splits = "0123456789abcdef", CLASSES, list(splits)
        self._splits = splits
        self._frames = {
            name: pl.DataFrame({"sample_id": [f"{name}-{row}" for row in range(len(labels_N))], "label": labels_N})
            for name, (_, labels_N) in splits.items()
        }

    def rows(self, split):
        return self._frames[split]

    def labels(self, split):
        return self._splits[split][1]

    def features(self, split):
        return self._splits[split][0]


def _rows(counts=(60, 30, 30, 12, 1), seed=0):
    """ants and bees lie close; the others apart."""
    draw = np.random.default_rng(seed)
    centres = np.array([[0, 0, 0], [1.6, 0, 0], [0, 9, 0], [0, 0, 9], [9, 9, 9]], dtype=np.float32)
    labels_N = np.repeat(np.arange(5), counts)
    return (draw.normal(size=(len(labels_N), 3)) + centres[labels_N]).astype(np.float32), labels_N


def test_planted_labels_shared_rows_and_close_classes_come_first():
    features_ND, labels_N = _rows()
    flipped = {95: 3, 121: 2}  # a bird called a cat, a cat called a bird
    for row, label in flipped.items():
        labels_N[row] = label
    test_ND, test_labels_N = _rows(seed=1)
    test_ND[4], test_labels_N[4] = features_ND[100] + 1e-5, 0
    test_ND[50], test_labels_N[50] = features_ND[50], labels_N[50]
    findings = label_findings(_Toy({"train": (features_ND, labels_N), "test": (test_ND, test_labels_N)}))
    assert {row.row for row in findings.suspicious[:2]} == set(flipped)
    assert {(row.label, row.taken_for) for row in findings.suspicious[:2]} == {("cats", "birds"), ("birds", "cats")}
    assert [row.margin for row in findings.suspicious] == sorted(row.margin for row in findings.suspicious)
    assert all(-1 <= row.margin < 0 for row in findings.suspicious)
    assert [(pair.sample_id, pair.train_sample_id, pair.same_label) for pair in findings.shared] == [
        ("test-4", "train-100", False),
        ("test-50", "train-50", True),
    ]
    assert (findings.confused[0].first, findings.confused[0].second) == ("ants", "bees")
    assert findings.unranked == 1
    assert all(row.label != "lonely" for row in findings.suspicious)


def test_rows_in_two_splits_are_counted_beyond_those_that_are_listed():
    features_ND, labels_N = _rows(counts=(100, 80, 60, 20, 0))
    findings = label_findings(_Toy({"train": (features_ND, labels_N), "test": (features_ND, labels_N)}))
    assert (len(findings.shared), findings.in_two_splits) == (LISTED, 260)
    assert shared_table(findings, 10).title == "260 rows of other splits are all but equal to a training row"


def test_a_row_is_judged_by_a_classifier_that_did_not_see_it():
    features_ND, labels_N = _rows(counts=(20, 15, 15, 10, 0))
    fold_N = stratified_folds(torch.from_numpy(labels_N), 5, LABEL_FOLDS).numpy()
    probabilities_NC = out_of_sample(features_ND, labels_N, 5)
    kept = fold_N != 2
    scaler = StandardScaler().fit(features_ND[kept])
    model = LogisticRegression(class_weight="balanced").fit(scaler.transform(features_ND[kept]), labels_N[kept])
    expected = model.predict_proba(scaler.transform(features_ND[~kept]))
    assert np.allclose(probabilities_NC[~kept][:, :4], expected, atol=1e-6)
    assert (probabilities_NC[:, 4] == 0).all()


def test_a_class_of_one_row_is_hard_to_tell_from_none():
    """Its row was judged by nothing, and the others are not held against it."""
    features_ND, labels_N = _rows(counts=(20, 15, 15, 10, 1))
    lone = len(labels_N) - 1
    assert (out_of_sample(features_ND, labels_N, 5)[lone] == 0).all()
    taken_N = labels_N.copy()
    taken_N[:3], taken_N[lone] = 4, 0  # three ants taken for the lonely one, and the lonely one for an ant
    taken_N[21] = 0
    assert [(pair.first, pair.second, pair.rows) for pair in _confused(CLASSES, labels_N, taken_N)] == [
        ("ants", "bees", 1)
    ]


def test_one_class_alone_cannot_be_judged():
    features_ND, labels_N = _rows(counts=(9, 0, 0, 0, 1))
    with pytest.raises(DataError, match=r"cache 0123456789ab: wanted two classes of at least 2 training rows"):
        label_findings(_Toy({"train": (features_ND, labels_N)}))


def test_inspect_says_it_as_tables_and_in_json(monkeypatch, tmp_path):
    from tests.support import toy_caches

    path = toy_caches.make(tmp_path)
    ended = in_process.run(monkeypatch, "inspect", "--json", "--cache", str(path))
    assert ended.code == 0, ended.err
    labels = ended.json["labels"]
    assert labels["negative"] == len(labels["suspicious"]) > 0
    first = labels["suspicious"][0]
    text = in_process.run(monkeypatch, "inspect", "--cache", str(path)).out
    assert f"{first['sample_id']}" in text
    assert f"{labels['negative']} training rows look more like another class" in text
    quiet = in_process.run(monkeypatch, "inspect", "--json", "--no-labels", "--cache", str(path))
    assert "labels" not in quiet.json
    wrong = in_process.run(monkeypatch, "inspect", "--labels", "digits-lt")
    assert (wrong.code, "--labels is for --cache" in wrong.err) == (2, True)
