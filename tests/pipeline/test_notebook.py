"""What a notebook needs, on the sample that the repository brings."""

import re
import runpy
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from pipeline import notebook
from pipeline.errors import ConfigError

SAMPLE = Path(__file__).parents[2] / "configs" / "samples" / "cifar100-lt"


@pytest.fixture(scope="module")
def cache():
    return notebook.open_cache(SAMPLE)


def test_the_lines_of_the_docstring_run(tmp_path, monkeypatch):
    monkeypatch.setenv("COATTAIL_RUNS", str(tmp_path))
    monkeypatch.chdir(SAMPLE.parents[2])
    code = [line for line in notebook.__doc__.splitlines()[1:] if line]
    assert len(code) <= 10
    (tmp_path / "lines.py").write_text("\n".join(code))
    spoken = runpy.run_path(str(tmp_path / "lines.py"), {"torch": torch})
    assert spoken["features_ND"].shape == (len(spoken["labels_N"]), spoken["rows"]["features"].dtype.size)
    assert spoken["figures"]["method"].to_list() == ["ncm", "lda", "logistic"]
    own = spoken["figures"].filter(pl.col("method") == "lda")["accuracy"].item()
    assert own == pytest.approx(spoken["result"].accuracy)


def test_the_lines_of_the_readme_run(tmp_path, monkeypatch):
    monkeypatch.setenv("COATTAIL_RUNS", str(tmp_path))
    monkeypatch.chdir(SAMPLE.parents[2])
    blocks = re.findall(r"^```python\n(.*?)^```$", Path("README.md").read_text(), re.DOTALL | re.MULTILINE)
    (code,) = (block for block in blocks if "notebook" in block)
    assert len(code.split("\n")) <= 12
    (tmp_path / "lines.py").write_text(code)
    spoken = runpy.run_path(str(tmp_path / "lines.py"))
    assert len(spoken["rows"]) == len(spoken["cache"].labels("test"))
    assert spoken["result"].method == "lda"
    assert (spoken["folder"] / "metrics.json").is_file()


def test_one_row_is_the_same_in_numpy_torch_and_polars(cache):
    features_ND, labels_N = cache.features("test"), cache.labels("test")
    dataset, frame = notebook.FeatureDataset(cache, "test"), notebook.feature_frame(cache, "test")
    assert len(dataset) == len(frame) == len(labels_N)
    for row in (0, 7, len(labels_N) - 1):
        values_D, label = dataset[row]
        assert values_D.dtype == torch.float32
        assert (values_D.numpy() == features_ND[row].astype(np.float32)).all()
        assert frame["features"][row].to_list() == values_D.tolist()
        assert label == labels_N[row]
        assert frame["class"][row] == cache.classes[label]


def test_the_figure_has_a_mark_for_each_class(cache, tmp_path):
    _, result = notebook.retrain(cache, tmp_path, head="ncm")
    marks = notebook.accuracy_figure(cache, [result]).axes[0].collections[0].get_offsets()
    assert np.allclose(marks[:, 0], cache.counts("train"))
    assert np.allclose(marks[:, 1], result.per_class)


def test_a_setting_that_there_is_not_is_named(cache):
    with pytest.raises(ConfigError, match=r"retrain: no setting heads; wanted of head, augmentation, .*, or seed"):
        notebook.retrain(cache, heads="lda")
