"""OLTR's memory and centroids against the paper's formulas; the two halves of its training."""

import pytest
import torch
from toy_heads import WIDTH, toy_problem, toy_rows, toy_step

from pipeline.classifiers import oltr
from pipeline.classifiers.kinds import kind
from pipeline.classifiers.linear import from_classifier


def begun(problem):
    heads = oltr.begin(problem, from_classifier(*problem.stage1, len(problem.seeds)))
    heads.centroids_RCF.copy_(torch.rand(heads.centroids_RCF.shape, generator=torch.Generator().manual_seed(8)))
    return heads


def test_a_feature_is_joined_by_what_it_remembers_and_scaled_by_its_reach():
    problem, step = toy_problem("oltr", (0, 1), hidden=7), toy_step()
    heads = begun(problem)
    heads.with_memory = True
    found = heads.logits(step.inputs_RBD)
    for r in range(2):
        for i, row in enumerate(step.inputs_RBD[r]):
            v = (heads.feature_weight_RFD[r] @ row + heads.feature_bias_RF[r]).clamp(min=0)
            o = torch.softmax(heads.plain_weight_RCF[r] @ v + heads.plain_bias_RC[r], dim=0)
            m = sum(o[c] * heads.centroids_RCF[r, c] for c in range(3))
            e = torch.tanh(heads.selector_weight_RFF[r] @ v + heads.selector_bias_RF[r])
            reach = 10 / min(float((v - heads.centroids_RCF[r, c]).norm()) for c in range(3))
            x = reach * (v + e * m)
            x = x * (x.norm() / (1 + x.norm())) / x.norm()
            weight = heads.class_weight_RCF[r]
            wanted = torch.stack([16 * x @ (w / w.norm()) for w in weight])
            torch.testing.assert_close(found[r, i], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("unit", [0.1, 3.0])
def test_centroids_are_drawn_to_their_own_rows_and_apart_from_others(unit):
    g = torch.Generator().manual_seed(0)
    features, centroids = torch.rand(1, 6, 7, generator=g), unit * torch.randn(1, 3, 7, generator=g)
    labels = torch.tensor([[0, 1, 2, 0, 1, 0]])
    own, others = 0.0, 0.0
    for v, y in zip(features[0], labels[0].tolist(), strict=True):
        own += 0.5 * float((v - centroids[0, y]).square().sum()) / 6
        others += sum(float((v - centroids[0, c]).square().sum()) for c in range(3) if c != y) / (6 * 3)
    wanted = own + 0.01 * max(0.0, 10 - others)
    assert (others < 10) == (unit == 0.1)
    assert float(oltr.centroid_loss(features, labels, centroids)) == pytest.approx(wanted, rel=1e-5)


def test_centroids_start_from_class_means_at_half_time():
    problem = toy_problem("oltr", hidden=7)
    heads, objective = begun(problem), oltr.objective(problem)
    step = toy_step(replicas=1, number=4, of=10)
    plain = torch.nn.functional.cross_entropy(heads.logits(step.inputs_RBD)[0], step.labels_RB[0])
    torch.testing.assert_close(objective(heads, step), plain)
    assert not heads.with_memory
    step = toy_step(replicas=1, number=5, of=10)
    loss = objective(heads, step)
    assert heads.with_memory
    features = heads.features(problem.train.features_VND)[0]
    for c in range(3):
        wanted = features[problem.train.labels_N == c].mean(dim=0)
        torch.testing.assert_close(heads.centroids_RCF[0, c], wanted, rtol=1e-4, atol=1e-5)
    told = torch.nn.functional.cross_entropy(heads.logits(step.inputs_RBD)[0], step.labels_RB[0])
    kept = oltr.centroid_loss(heads.features(step.inputs_RBD), step.labels_RB, heads.centroids_RCF)
    torch.testing.assert_close(loss, told + 0.01 * kept[0])


def test_centroids_learn_by_their_own_loss_alone():
    """The authors' classifier is given `centroids.data`: what it says of a row does not move them."""
    problem, step = toy_problem("oltr", hidden=7), toy_step(replicas=1, number=5, of=10)
    heads, objective = begun(problem), oltr.objective(problem)
    objective(heads, step)  # the centroids start
    heads.centroids_RCF.requires_grad_(True)
    (found,) = torch.autograd.grad(objective(heads, step), heads.centroids_RCF)
    kept = oltr.centroid_loss(heads.features(step.inputs_RBD), step.labels_RB, heads.centroids_RCF)
    (wanted,) = torch.autograd.grad(0.01 * kept.sum(), heads.centroids_RCF)
    torch.testing.assert_close(found, wanted)


def test_it_learns_and_is_saved_with_all_its_parts():
    problem = toy_problem("oltr", (0, 1), hidden=16, steps=200, optimizer="sgd", learning_rate=0.05, start="fresh")
    classifier = kind("oltr")(problem)
    test = toy_rows((40, 40, 40), seed=4)
    logits = classifier.logits(test.features_VND[0])
    assert logits.shape == (2, 120, 3)
    assert float((logits.argmax(dim=2) == test.labels_N).float().mean()) > 0.8
    assert classifier.network.sizes == {"R": 2, "F": 16, "D": WIDTH, "C": 3}
    assert int(classifier.tensors()["memory"]) == 1
    assert {name: list(tensor.shape[1:]) for name, tensor in classifier.tensors().items()} == {
        "feature_weight": [16, WIDTH],
        "feature_bias": [16],
        "plain_weight": [3, 16],
        "plain_bias": [3],
        "selector_weight": [16, 16],
        "selector_bias": [16],
        "class_weight": [3, 16],
        "centroids": [3, 16],
        "memory": [],
        "offset": [],
        "factor": [],
    }
