"""Batched classifiers and their optimisers, against torch's own, one replica at a time."""

import pytest
import torch

from pipeline.classifiers import linear as heads
from pipeline.classifiers.linear import LinearHeads, ReplicaOptimizer


def test_logits_are_scale_times_linear():
    weight, bias, scale = torch.randn(3, 4, 5), torch.randn(3, 4), torch.rand(3, 4)
    features = torch.randn(3, 6, 5)
    found = LinearHeads(weight, bias, scale).logits(features)
    for r in range(3):
        torch.testing.assert_close(found[r], scale[r] * (features[r] @ weight[r].T + bias[r]))


def test_folded_gives_the_same_logits():
    batched = LinearHeads(torch.randn(2, 4, 5), torch.randn(2, 4), torch.rand(2, 4))
    weight, bias = batched.folded()
    features = torch.randn(2, 6, 5)
    plain = LinearHeads(weight, bias, torch.ones(2, 4))
    torch.testing.assert_close(plain.logits(features), batched.logits(features))


@pytest.mark.parametrize(("kind", "weight_decay"), [("adam", 0.0), ("adam", 0.01), ("sgd", 0.0), ("sgd", 0.01)])
def test_optimizer_equals_torchs_for_each_replica(kind, weight_decay):
    rates = [0.1, 0.003]
    start = torch.randn(2, 3, 4)
    ours = start.clone()
    optimizer = ReplicaOptimizer([ours], kind, momentum=0.9, weight_decay=weight_decay)
    theirs = [start[r].clone().requires_grad_() for r in range(2)]
    make = {
        "adam": lambda p, lr: torch.optim.Adam([p], lr=lr, weight_decay=weight_decay),
        "sgd": lambda p, lr: torch.optim.SGD([p], lr=lr, momentum=0.9, weight_decay=weight_decay),
    }[kind]
    reference = [make(parameter, rate) for parameter, rate in zip(theirs, rates, strict=True)]
    for step in range(12):
        gradient = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(step))
        optimizer.step([gradient], [torch.tensor(rates)])
        for r in range(2):
            theirs[r].grad = gradient[r]
            reference[r].step()
    torch.testing.assert_close(ours, torch.stack([parameter.detach() for parameter in theirs]), atol=1e-6, rtol=1e-5)


def test_the_fused_kernel_of_large_classifiers_gives_the_formulas_numbers(monkeypatch):
    rates, start = torch.tensor([0.1, 0.003]), torch.randn(2, 3, 4)
    trained = []
    for limit in (0, heads.FUSED):
        monkeypatch.setattr(heads, "FUSED", limit)
        trained.append(start.clone())
        optimizer = ReplicaOptimizer([trained[-1]], "adam", weight_decay=0.01)
        for step in range(5):
            # As autograd leaves it for some heads: another order of the axes in memory.
            gradient = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(step)).transpose(1, 2)
            optimizer.step([gradient], [rates])
    torch.testing.assert_close(*trained, atol=1e-6, rtol=1e-5)
    assert not torch.equal(trained[0], start)


def test_the_gradients_of_the_logits_are_autograds():
    weight, bias, features = torch.randn(2, 4, 5), torch.randn(2, 4), torch.randn(2, 6, 5)
    gradients = []
    for logits in (
        lambda w, b, x: LinearHeads(w, b, torch.ones(2, 4)).logits(x),
        lambda w, b, x: torch.einsum("rbd,rcd->rbc", x, w) + b[:, None],
    ):
        inputs = [tensor.clone().requires_grad_() for tensor in (weight, bias, features)]
        gradients.append(torch.autograd.grad(logits(*inputs).square().sum(), inputs))
    for ours, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, wanted)
    assert gradients[0][0].is_contiguous()  # in the order of the weights: an optimiser reads both in step


def test_unknown_optimizer():
    with pytest.raises(ValueError, match="unknown kind 'lion'; wanted adam or sgd"):
        ReplicaOptimizer([], "lion")


def test_fresh_heads_depend_on_their_own_seed_alone():
    both = heads.fresh(4, 9, [3, 8])
    torch.testing.assert_close(both.weight_RCD[1:], heads.fresh(4, 9, [8]).weight_RCD, atol=0, rtol=0)
    assert not torch.equal(both.weight_RCD[0], both.weight_RCD[1])
    assert float(both.weight_RCD.abs().max()) <= 1 / 3


def test_copies_of_a_classifier_do_not_share_memory():
    weight, bias = torch.randn(3, 2), torch.randn(3)
    copies = heads.from_classifier(weight, bias, 2)
    copies.weight_RCD[0] += 1
    assert torch.equal(copies.weight_RCD[1], weight)
