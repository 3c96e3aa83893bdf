"""ISDA: running covariances are those of all rows, the loss is the paper's, more of it as training goes on."""

import pytest
import torch
from toy_heads import WIDTH, toy_problem, toy_rows, toy_step

from pipeline.classifiers import isda
from pipeline.classifiers.kinds import kind
from pipeline.classifiers.linear import from_classifier
from pipeline.errors import ConfigError


@pytest.mark.parametrize("full", [False, True])
def test_running_covariances_are_those_of_all_rows_together(full):
    covariances = isda.RunningCovariances(2, 3, WIDTH, full)
    steps = [toy_step(seed) for seed in range(4)]
    for step in steps:
        covariances.update(step.inputs_RBD + 5.0, step.labels_RB)
    for r in range(2):
        rows = torch.cat([step.inputs_RBD[r] + 5.0 for step in steps])
        labels = torch.cat([step.labels_RB[r] for step in steps])
        for c in range(3):
            wanted = torch.cov(rows[labels == c].T, correction=0)
            wanted = wanted if full else wanted.diagonal()
            torch.testing.assert_close(covariances.covariance[r, c], wanted, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(covariances.mean_RCD[r, c], rows[labels == c].mean(dim=0))


def test_a_class_that_was_not_seen_has_no_spread():
    covariances = isda.RunningCovariances(1, 3, WIDTH)
    covariances.update(torch.randn(1, 4, WIDTH), torch.tensor([[0, 0, 2, 2]]))
    assert torch.equal(covariances.covariance[0, 1], torch.zeros(WIDTH))
    assert bool((covariances.covariance[0, 0] > 0).all())


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_the_loss_is_equation_7_with_the_batch_taken_in(covariance):
    problem = toy_problem("isda", (0, 1), semantic_strength=0.8, covariance=covariance)
    heads, step = from_classifier(*problem.stage1, 2), toy_step(number=5, of=10)
    found = isda.objective(problem)(heads, step)
    weight, bias = problem.stage1
    wanted = 0.0
    for r in range(2):
        rows, labels = step.inputs_RBD[r], step.labels_RB[r]
        for row, y in zip(rows, labels.tolist(), strict=True):
            sigma = torch.cov(rows[labels == y].T, correction=0)
            sigma = sigma if covariance == "full" else torch.diag(sigma.diagonal())
            spread = torch.stack([(w - weight[y]) @ sigma @ (w - weight[y]) for w in weight])
            wanted -= torch.log_softmax(weight @ row + bias + 0.5 * 0.8 * 0.5 * spread, dim=0)[y] / len(rows)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_without_strength_it_is_crt_to_rounding():
    same = {"steps": 15, "optimizer": "sgd", "learning_rate": 0.1}
    plain = kind("crt")(toy_problem("crt", **same))
    off = kind("isda")(toy_problem("isda", semantic_strength=0.0, **same))
    on = kind("isda")(toy_problem("isda", semantic_strength=5.0, **same))
    torch.testing.assert_close(off.weight_RCD, plain.weight_RCD)
    assert not torch.allclose(on.weight_RCD, plain.weight_RCD, atol=1e-3)


def test_full_covariances_that_want_too_much_are_refused(monkeypatch):
    monkeypatch.setattr(isda, "LIMIT", 100)
    with pytest.raises(ConfigError) as error:
        isda.objective(toy_problem("isda", covariance="full", train=toy_rows()))
    assert str(error.value) == (
        "retrain.covariance=full: 3 classes of width 5 and 1 seeds want 0 GiB; set retrain.covariance=diagonal"
    )
