"""MARC's margins against the paper's formula, and folded."""

import torch
from toy_heads import COUNTS, toy_problem, toy_step

from pipeline.classifiers import marc
from pipeline.classifiers.kinds import TRAININGS, kind
from pipeline.classifiers.linear import LinearHeads, from_classifier


def heads_of(problem):
    heads = marc.begin(problem, from_classifier(*problem.stage1, 2))
    g = torch.Generator().manual_seed(3)
    heads.scale_RC.copy_(torch.rand(2, 3, generator=g))
    heads.shift_RC.copy_(torch.randn(2, 3, generator=g))
    return heads


def test_each_logit_is_scaled_and_moved_by_its_weights_norm():
    problem, step = toy_problem("marc"), toy_step()
    heads = heads_of(problem)
    weight, bias = problem.stage1
    for r in range(2):
        for c in range(3):
            margin = step.inputs_RBD[r] @ weight[c] + bias[c]
            wanted = heads.scale_RC[r, c] * margin + heads.shift_RC[r, c] * weight[c].norm()
            torch.testing.assert_close(heads.logits(step.inputs_RBD)[r, :, c], wanted)
    classifier = marc.finish(heads, problem)
    found = LinearHeads(classifier.weight_RCD, classifier.bias_RC, torch.ones(2, 3)).logits(step.inputs_RBD)
    torch.testing.assert_close(found, heads.logits(step.inputs_RBD))


def test_the_loss_weighs_a_class_by_its_count_to_the_minus_1_2():
    logits, labels = (
        torch.randn(1, 6, 3, generator=torch.Generator().manual_seed(0)),
        torch.tensor([[0, 1, 2, 0, 1, 0]]),
    )
    found = marc.reweighted(toy_problem("marc").settings, torch.tensor(COUNTS))(logits, labels)
    weight = torch.tensor([COUNTS[y] ** -1.2 for y in labels[0].tolist()])
    rows = -logits[0].log_softmax(dim=1)[range(6), labels[0]]
    torch.testing.assert_close(found, (weight * rows).sum() / weight.sum())


def test_it_lifts_what_is_rare_and_leaves_the_classifiers_directions():
    problem = toy_problem("marc", steps=60, learning_rate=0.05, optimizer="sgd")
    classifier = kind("marc")(problem)
    weight, _ = problem.stage1
    cosine = torch.nn.functional.cosine_similarity(classifier.weight_RCD[0], weight, dim=1)
    torch.testing.assert_close(cosine.abs(), torch.ones(3))
    assert TRAININGS["marc"].wants_trained
    assert problem.settings.sampled == "instance"
