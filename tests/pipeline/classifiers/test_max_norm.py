"""MaxNorm: the limit, the projection, the loss as the authors' code has it."""

import pytest
import torch
from toy_heads import COUNTS, toy_problem, toy_step

from pipeline.classifiers import max_norm
from pipeline.classifiers.kinds import kind
from pipeline.classifiers.linear import from_classifier


def test_the_limit_lies_between_the_norms_that_training_starts_from():
    problem = toy_problem("max-norm", max_norm=0.25)
    heads = max_norm.begin(problem, from_classifier(*problem.stage1, 2))
    norms = problem.stage1[0].norm(dim=1)
    limit = float(norms.min() + 0.25 * (norms.max() - norms.min()))
    torch.testing.assert_close(heads.limit_R1, torch.full((2, 1), limit))
    heads.project()
    wanted = torch.stack([w if w.norm() <= limit else w * limit / w.norm() for w in problem.stage1[0]])
    torch.testing.assert_close(heads.weight_RCD[1], wanted)


def test_the_loss_is_the_weighted_binary_cross_entropy_of_the_softmax():
    problem, step = toy_problem("max-norm", reweight_beta=0.9), toy_step()
    heads = max_norm.begin(problem, from_classifier(*problem.stage1, 2))
    found = float(max_norm.objective(problem)(heads, step))
    weight = torch.tensor([(1 - 0.9) / (1 - 0.9**n) for n in COUNTS])
    weight = weight * 3 / weight.sum()
    wanted = 0.0
    for r in range(2):
        p = torch.softmax(heads.logits(step.inputs_RBD)[r], dim=1).double()
        for i, y in enumerate(step.labels_RB[r].tolist()):
            entries = [-p[i, c].log() if c == y else -(1 - p[i, c]).log() for c in range(3)]
            wanted += float(weight[y] * sum(entries)) / (16 * 3)
    assert found == pytest.approx(wanted, rel=1e-5)


def test_weights_are_projected_after_each_epoch():
    problem = toy_problem("max-norm", batch_size=16)
    an_epoch = -(-len(problem.train.labels_N) // 16)
    objective = max_norm.objective(problem)
    for number in range(2 * an_epoch + 1):
        heads = max_norm.begin(problem, from_classifier(*problem.stage1, 2))
        objective(heads, toy_step(number=number, of=100))
        longer = bool((heads.weight_RCD.norm(dim=2) > heads.limit_R1 * 1.0001).any())
        assert longer == (number not in (an_epoch, 2 * an_epoch))


def test_no_class_is_longer_than_the_limit_in_the_end():
    problem = toy_problem("max-norm", steps=40, optimizer="sgd", learning_rate=1.0)
    norms = problem.stage1[0].norm(dim=1)
    classifier = kind("max-norm")(problem)
    limit = float(norms.min() + 0.1 * (norms.max() - norms.min()))
    assert float(classifier.weight_RCD.norm(dim=2).max()) <= limit * 1.0001
