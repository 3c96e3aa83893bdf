"""LFME: distillation, how long an expert teaches, which rows come first; experts know their group alone."""

import math

import pytest
import torch
from toy_heads import toy_problem, toy_rows, toy_step

from pipeline.classifiers import lfme
from pipeline.classifiers.kinds import kind
from pipeline.classifiers.linear import from_classifier

COUNTS = (150, 120, 40, 30, 8, 6)


def test_distillation_is_the_divergence_at_temperature_2():
    g = torch.Generator().manual_seed(0)
    student, expert = torch.randn(2, 5, 4, generator=g), torch.randn(2, 5, 4, generator=g)
    for r in range(2):
        wanted = 0.0
        for i in range(5):
            p, q = torch.softmax(expert[r, i] / 2, dim=0), torch.softmax(student[r, i] / 2, dim=0)
            wanted += float((p * (p / q).log()).sum()) / 5
        assert float(lfme.distillation(student, expert)[r]) == pytest.approx(wanted, rel=1e-4)


def test_an_expert_teaches_less_as_the_student_comes_near():
    found = lfme.teaching(torch.tensor([0.1, 0.3, 0.6, 0.9, 1.0]), torch.tensor([0.9] * 5))
    torch.testing.assert_close(found, torch.tensor([1.0, 0.6 / 0.63, 0.3 / 0.63, 0.0, 0.0]))


def test_rows_that_the_experts_are_sure_of_come_first():
    bounds = torch.tensor([[[0.2, 0.1]], [[0.8, 0.1]]])
    confidence, labels = torch.tensor([[0.2, 0.5, 0.8, 0.1]]), torch.tensor([[0, 0, 0, 1]])
    found = lfme.selection(confidence, labels, bounds, torch.tensor([0.25, 0.5]))
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.625, 1.0, 1.0]]))
    assert (lfme.FLOORS["few"], lfme.FLOORS["many"]) == (1.0, 12 / 230)


def test_each_group_has_an_expert_for_its_classes_alone():
    problem = toy_problem("lfme", (0, 1), train=toy_rows(COUNTS), steps=80, optimizer="sgd", learning_rate=0.1)
    experts = lfme.fit_experts(problem)
    assert [expert.classes_G.tolist() for expert in experts] == [[0, 1], [2, 3], [4, 5]]
    assert [list(expert.heads.weight_RCD.shape) for expert in experts] == [[2, 2, 5]] * 3
    assert all(float(expert.accuracy_R.min()) > 0.8 for expert in experts)


def test_the_loss_is_cross_entropy_of_chosen_rows_and_what_the_experts_say():
    problem = toy_problem("lfme", train=toy_rows(COUNTS), steps=5, optimizer="sgd", learning_rate=0.01)
    heads = from_classifier(*problem.stage1, 1)
    step = toy_step(replicas=1, number=0, of=10, classes=6)
    experts = lfme.fit_experts(problem)
    objective = lfme.objective(problem)
    found = float(objective(heads, step))
    logits = heads.logits(step.inputs_RBD)[0]
    rows = problem.train.features_VND[0]
    floors = [12 / 230, 12 / 230, 12 / 53, 12 / 53, 1.0, 1.0]

    def sure(inputs, y):
        expert = experts[y // 2]
        return torch.softmax(inputs @ expert.heads.weight_RCD[0].T + expert.heads.bias_RC[0], dim=-1)[..., y % 2]

    told = 0.0
    for i, y in enumerate(step.labels_RB[0].tolist()):
        known = sure(rows[problem.train.labels_N == y], y)
        share = float((sure(step.inputs_RBD[0, i], y) - known.min()) / (known.max() - known.min()))
        factor = floors[y] + (1 - floors[y]) * min(max(share, 0.0), 1.0)
        told -= float(torch.log_softmax(factor * logits[i], dim=0)[y]) / 16
    for group, expert in enumerate(experts):
        inside = torch.isin(problem.train.labels_N, expert.classes_G)
        own = (rows[inside] @ problem.stage1[0].T + problem.stage1[1]).argmax(dim=1)  # among all classes
        right = [
            float((own[problem.train.labels_N[inside] == c] == c).float().mean()) for c in (2 * group, 2 * group + 1)
        ]
        student, teacher = sum(right) / 2, float(expert.accuracy_R)
        weight = 1.0 if student < 0.3 * teacher else max(0.0, (teacher - student) / (0.7 * teacher))
        taught = expert.heads.logits(step.inputs_RBD)
        told += weight * float(lfme.distillation(logits[None][..., expert.classes_G], taught))
    assert math.isclose(found, told, rel_tol=1e-4)


def test_it_trains():
    problem = toy_problem("lfme", (0, 1), train=toy_rows(COUNTS), steps=80, optimizer="sgd", learning_rate=0.1)
    test = toy_rows([30] * 6, seed=3)
    found = kind("lfme")(problem).logits(test.features_VND[0]).argmax(dim=2)
    assert float((found == test.labels_N).float().mean()) > 0.6
