"""LDAM and GCL against their formulas, and the linear classifier that decides as they do."""

import math

import pytest
import torch
from toy_heads import COUNTS, toy_problem, toy_rows, toy_step

from pipeline.classifiers import cosine
from pipeline.classifiers.kinds import kind
from pipeline.classifiers.linear import from_classifier
from pipeline.classifiers.step import Step
from pipeline.rng import generator


def begun(problem, replicas=2):
    heads = cosine.begin(problem, from_classifier(*problem.stage1, replicas))
    torch.testing.assert_close(heads.weight_RCD.norm(dim=2), torch.ones(replicas, 3))
    return heads


def cosines(heads, step, r):
    x, w = step.inputs_RBD[r].double(), heads.weight_RCD[r].detach().double()
    return torch.tensor([[float(a @ c / (a.norm() * c.norm())) for c in w] for a in x])


@pytest.mark.parametrize("number", [7, 8])
def test_ldam_has_margins_and_in_the_last_fifth_weights(number):
    problem = toy_problem("ldam", (0, 1), margin=0.4, cosine_scale=10.0, reweight_beta=0.9)
    heads, step = begun(problem), toy_step(number=number)
    margins = [0.4 * (n / min(COUNTS)) ** -0.25 for n in COUNTS]
    weights = [(1 - 0.9) / (1 - 0.9**n) for n in COUNTS]
    wanted = 0.0
    for r in range(2):
        losses, total = [], []
        for row, y in zip(cosines(heads, step, r), step.labels_RB[r].tolist(), strict=True):
            row[y] -= margins[y]
            weight = weights[y] if number == 8 else 1.0
            losses.append(-weight * float(torch.log_softmax(10 * row, dim=0)[y]))
            total.append(weight)
        wanted += sum(losses) / sum(total)
    assert float(cosine.ldam(problem)(heads, step)) == pytest.approx(wanted, rel=1e-5)


def test_gcl_clouds_every_class_by_its_rarity_and_focuses():
    problem = toy_problem("gcl", (4, 5), margin=0.1, cosine_scale=20.0, cloud=0.5, focal_gamma=1.0)
    heads, step = begun(problem), toy_step()
    size = [math.log(max(COUNTS) / n) / math.log(max(COUNTS) / min(COUNTS)) for n in COUNTS]
    assert size == pytest.approx(cosine.cloud_sizes(torch.tensor(COUNTS)).tolist(), rel=1e-5)
    assert (size[0], size[2]) == (0.0, 1.0)
    wanted = 0.0
    for r, seed in enumerate((4, 5)):
        noise = torch.randn(16, 3, generator=generator(seed, "retrain", "cloud"))
        rows = []
        for i, y in enumerate(step.labels_RB[r].tolist()):
            row = cosines(heads, step, r)[i]
            for c in range(3):
                row[c] -= 0.5 * min(abs(float(noise[i, c]) / 3), 1.0) * size[c]
            row[y] -= 0.1
            p = float(torch.softmax(20 * row, dim=0)[y])
            rows.append(-(1 - p) * math.log(p))
        wanted += sum(rows) / len(rows)
    assert float(cosine.gcl(problem)(heads, step)) == pytest.approx(wanted, rel=1e-4)


def test_gcl_takes_no_gradient_of_its_focus():
    """The authors' focal_loss multiplies by (1 - p.detach()) ** gamma."""
    gradients = []
    for gamma in (1.0, 0.0):
        problem = toy_problem("gcl", (4,), margin=0.1, cosine_scale=20.0, cloud=0.0, focal_gamma=gamma)
        heads, step = begun(problem, 1), toy_step(replicas=1)
        heads.weight_RCD.requires_grad_(True)
        row = Step(step.inputs_RBD[:, :1], step.labels_RB[:, :1], step.number, step.of)
        (gradient,) = torch.autograd.grad(cosine.gcl(problem)(heads, row), heads.weight_RCD)
        gradients.append(gradient)
    margin = 0.1 * torch.nn.functional.one_hot(row.labels_RB[0], 3)
    p = torch.softmax(20 * (cosines(heads, row, 0) - margin), dim=1)[0, row.labels_RB[0, 0]]
    torch.testing.assert_close(gradients[0], float(1 - p) * gradients[1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("head", ["ldam", "gcl"])
def test_what_is_saved_is_linear_and_decides_the_same(head):
    problem = toy_problem(head, (0, 1), epochs=3, learning_rate=0.05)
    classifier = kind(head)(problem)
    features = toy_rows(seed=3).features_VND[0]
    assert set(classifier.tensors()) == {"weight", "bias"}
    assert classifier.logits(features).shape == (2, len(features), 3)
    heads = cosine.CosineHeads(classifier.weight_RCD, 30.0)
    found = classifier.logits(features).argmax(dim=2)
    assert torch.equal(found, heads.cosines(features.expand(2, -1, -1)).argmax(dim=2))
    mean = problem.train.features_VND[0].norm(dim=1).mean()
    torch.testing.assert_close(classifier.weight_RCD.norm(dim=2), torch.full((2, 3), 30.0 / float(mean)))
