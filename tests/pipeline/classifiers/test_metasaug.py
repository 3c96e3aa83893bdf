"""MetaSAug: the covariances' meta step against finite differences; which rows are the meta set."""

import pytest
import torch
from toy_heads import toy_problem, toy_rows, toy_step

from pipeline.classifiers import isda, metasaug
from pipeline.classifiers.kinds import kind
from pipeline.classifiers.linear import from_classifier
from pipeline.rng import generator
from pipeline.samplers import RowSampler

COUNTS = (60, 20, 6)


def training_loss(weight, bias, step, covariance, ratio):
    """Cross entropy of Eq. 7's logits, weighted by class, row by row, float64."""
    per_class = [(1 - 0.9) / (1 - 0.9**n) for n in COUNTS]
    total, weights = 0.0, 0.0
    for row, y in zip(step.inputs_RBD[0].double(), step.labels_RB[0].tolist(), strict=True):
        spread = torch.stack([((w - weight[y]).square() * covariance[y]).sum() for w in weight])
        total = total - per_class[y] * torch.log_softmax(weight @ row + bias + 0.5 * ratio * spread, dim=0)[y]
        weights += per_class[y]
    return total / weights


def meta_loss(covariance, weight, bias, step, ratio, meta, rows, rate):
    weight, bias = (tensor.clone().requires_grad_() for tensor in (weight, bias))
    slope = torch.autograd.grad(training_loss(weight, bias, step, covariance, ratio), (weight, bias))
    weight, bias = weight - rate * slope[0], bias - rate * slope[1]
    logits = meta.features_VND[0, rows].double() @ weight.T + bias
    return torch.nn.functional.cross_entropy(logits, meta.labels_N[rows])


def test_the_covariances_move_down_the_meta_loss():
    meta = toy_rows((9, 9, 9), seed=5)
    settings = {
        "semantic_strength": 0.6,
        "meta_rate": 3.0,
        "reweight_beta": 0.9,
        "learning_rate": 0.5,
        "batch_size": 16,
    }
    problem = toy_problem("metasaug", (7,), val=meta, **settings)
    heads = from_classifier(*problem.stage1, 1)
    for tensor in (heads.weight_RCD, heads.bias_RC):
        tensor.requires_grad_()
    objective = metasaug.objective(problem)
    first, second = toy_step(0, replicas=1, number=0), toy_step(1, replicas=1, number=5)
    objective(heads, first)
    found = float(objective(heads, second).detach())

    running = isda.RunningCovariances(1, 3, 5)
    running.update(first.inputs_RBD, first.labels_RB)
    covariance = running.covariance[0].double()
    weight, bias = (tensor.double() for tensor in problem.stage1)
    source, sampler = generator(7, "retrain", "meta"), RowSampler(meta.labels_N)
    sampler.draw((16,), source)
    rows = sampler.draw((16,), source)
    slope = torch.zeros_like(covariance)
    for c in range(3):
        for d in range(5):
            step = torch.zeros_like(covariance)
            step[c, d] = 1e-5
            values = [
                meta_loss(covariance + sign * step, weight, bias, second, 0.3, meta, rows, 0.5) for sign in (1, -1)
            ]
            slope[c, d] = (values[0] - values[1]).detach() / 2e-5
    moved = covariance - 3.0 * slope
    wanted = float(training_loss(weight, bias, second, moved, 0.3))
    assert found == pytest.approx(wanted, rel=1e-4)
    assert abs(wanted - float(training_loss(weight, bias, second, covariance, 0.3))) > 1e-4


def test_the_meta_set_is_val_else_training_rows_that_are_then_not_trained_on():
    val = toy_rows((9, 9, 9), seed=5)
    assert metasaug.prepare(toy_problem("metasaug", val=val)).val is val
    train = toy_rows((200, 60, 6))
    prepared = metasaug.prepare(toy_problem("metasaug", train=train))
    assert prepared.train.counts_C.tolist() == [160, 48, 5]
    assert prepared.val.counts_C.tolist() == [40, 12, 1]
    assert set(prepared.train.rows_N.tolist()).isdisjoint(prepared.val.rows_N.tolist())


def test_where_too_few_can_be_held_out_all_rows_are_both():
    train = toy_rows((5, 4, 3))
    prepared = metasaug.prepare(toy_problem("metasaug", train=train))
    assert prepared.train is prepared.val is train


def test_it_trains():
    problem = toy_problem(
        "metasaug", (0, 1), val=toy_rows((9, 9, 9), seed=5), steps=10, optimizer="sgd", learning_rate=0.1
    )
    classifier = kind("metasaug")(problem)
    assert bool(torch.isfinite(classifier.weight_RCD).all())
    assert not torch.equal(classifier.weight_RCD[0], classifier.weight_RCD[1])
