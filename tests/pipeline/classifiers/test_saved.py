"""Every head's classifier, read from its file again, gives the bits that it was measured with."""

import pickle
import re

import pytest
import torch
from conftest import Blobs, write_cache

from pipeline import retrain
from pipeline.artefacts import tensors as checkpoint
from pipeline.classifiers import train_classifier
from pipeline.classifiers.kinds import KINDS
from pipeline.classifiers.neighbours import Votes
from pipeline.classifiers.saved import ARCHITECTURES, from_tensors
from pipeline.errors import DataError
from pipeline.predict import predictor_of
from pipeline.settings.load import load
from pipeline.stage3_record import RetrainResult, saved_classifier
from pipeline.stage3_retrain import evaluate_run


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Classes of very different sizes, one of them without training rows, in a unit of their own."""
    return write_cache(tmp_path_factory.mktemp("stores"), Blobs(counts=(30, 12, 5, 0, 1), scale=50.0))


def settings(head):
    quick = ["retrain.augmentation=none", "retrain.steps=6", "stg.head_classes=2", "retrain.hidden=8"]
    return load(overrides=[f"retrain.head={head}", *quick]).settings


@pytest.mark.parametrize("head", sorted(KINDS))
def test_every_head_is_read_again_as_it_was_measured(cache, tmp_path, head):
    trained = train_classifier(settings(head), cache, [0, 1], None)
    checkpoint.save(tmp_path / "c.safetensors", trained.tensors())
    tensors, _ = checkpoint.load(tmp_path / "c.safetensors")
    again = from_tensors(tensors, trained.prior_power)
    features = torch.from_numpy(cache.features("test"))
    wanted = trained.logits(features)
    assert torch.equal(again.logits(features), wanted)
    assert (again.architecture, again.width) == (trained.architecture, features.shape[1])
    assert (again.architecture == "linear") == (head not in ARCHITECTURES)
    torch.testing.assert_close(again.only([len(wanted) - 1]).logits(features), wanted[-1:])
    shift = torch.arange(5.0)
    torch.testing.assert_close(again.moved(shift).only([0]).logits(features)[0], wanted[0] + shift)
    assert torch.equal(pickle.loads(pickle.dumps(again)).logits(features), wanted)  # noqa: S301


def test_oltr_that_never_came_to_its_memory_is_saved_without_it(cache):
    one_step = settings("oltr").model_copy(update={"retrain": settings("oltr").retrain.model_copy(update={"steps": 1})})
    trained = train_classifier(one_step, cache, [0], None)
    features = torch.from_numpy(cache.features("test"))
    assert int(trained.tensors()["memory"]) == 0
    assert torch.equal(from_tensors(trained.tensors(), 0.0).logits(features), trained.logits(features))


def test_a_file_of_an_earlier_version_is_named(cache, tmp_path):
    folder, result = retrain(settings("knn"), cache, tmp_path)
    kept = {
        name: tensor
        for name, tensor in checkpoint.load(folder / "classifier.safetensors")[0].items()
        if name in ("rows", "labels")
    }
    checkpoint.save(folder / "classifier.safetensors", kept)
    old = RetrainResult.model_validate({**result.model_dump(), "digest": checkpoint.digest(kept)})
    (folder / "metrics.json").write_text(old.model_dump_json())
    assert saved_classifier(folder, old) is None
    said = (
        f"{folder}/classifier.safetensors: of an earlier version, which did not keep all of this head; delete the folder and "
        "run retrain again"
    )
    for use in (lambda: predictor_of(folder), lambda: evaluate_run(folder, cache, "test")):
        with pytest.raises(DataError) as error:
            use()
        assert str(error.value) == said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rows": torch.zeros(3)}, "rows: wanted float32 of 2 dimensions, found float32 [3]"),
        ({"rows": torch.zeros(3, 2).double()}, "rows: wanted float32 of 2 dimensions, found float64 [3, 2]"),
        ({"labels": torch.zeros(4).long()}, "labels: wanted length 3 for N of N, found int64 [4]"),
        ({"labels": torch.tensor([0, 1, 9])}, "labels: wanted 0 to 1, found others"),
        ({"labels": torch.tensor([0, 1, -1])}, "labels: wanted 0 to 1, found others"),
        ({"neighbours": torch.tensor(4)}, "neighbours: wanted 1 to 3, the rows, found 4"),
        ({"factor": torch.ones(3)}, "factor: wanted length 2 for D of D, found float32 [3]"),
    ],
)
def test_tensors_that_do_not_fit_together_are_refused(changes, said):
    whole = {"rows": torch.zeros(3, 2), "labels": torch.tensor([0, 1, 1]), "bias": torch.zeros(2)}
    whole |= {"neighbours": torch.tensor(1), "offset": torch.zeros(2), "factor": torch.ones(2)}
    assert Votes(whole).sizes == {"N": 3, "D": 2, "C": 2}
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        Votes({**whole, **changes})
