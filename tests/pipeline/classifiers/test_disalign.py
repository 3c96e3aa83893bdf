"""DisAlign's logits against the paper's formula; what is saved gives the same."""

import torch
from toy_heads import WIDTH, toy_problem, toy_rows, toy_step

from pipeline.classifiers import disalign
from pipeline.classifiers.kinds import kind
from pipeline.classifiers.linear import from_classifier


def test_logits_are_adjusted_as_far_as_the_rows_confidence_lets_them():
    problem, step = toy_problem("disalign", (0, 1)), toy_step()
    heads = disalign.begin(problem, from_classifier(*problem.stage1, 2))
    torch.testing.assert_close(heads.logits(step.inputs_RBD), heads.fixed.logits(step.inputs_RBD))
    g = torch.Generator().manual_seed(3)
    heads.scale_RC.copy_(torch.rand(2, 3, generator=g))
    heads.shift_RC.copy_(torch.randn(2, 3, generator=g))
    weight, bias = problem.stage1
    found = heads.logits(step.inputs_RBD)
    for r in range(2):
        for i, row in enumerate(step.inputs_RBD[r]):
            plain = weight @ row + bias
            sure = 1 / (1 + torch.exp(-(heads.direction_RD[r] @ row + heads.offset_R1[r])))
            wanted = sure * (heads.scale_RC[r] * plain + heads.shift_RC[r]) + (1 - sure) * plain
            torch.testing.assert_close(found[r, i], wanted)


def test_it_is_saved_with_its_confidence_and_scores_every_replica():
    classifier = kind("disalign")(toy_problem("disalign", (0, 1), steps=20, optimizer="sgd", learning_rate=0.1))
    tensors = classifier.tensors()
    assert {name: list(tensor.shape) for name, tensor in tensors.items()} == {
        "weight": [2, 3, WIDTH],
        "bias": [2, 3],
        "logit_scale": [2, 3],
        "logit_shift": [2, 3],
        "confidence_weight": [2, WIDTH],
        "confidence_bias": [2, 1],
        "offset": [WIDTH],
        "factor": [WIDTH],
    }
    features = toy_rows(seed=2).features_VND[0]
    logits = classifier.logits(features)
    plain = torch.einsum("rcd,bd->rbc", tensors["weight"], features) + tensors["bias"][:, None]
    sure = torch.sigmoid(torch.einsum("rd,bd->rb", tensors["confidence_weight"], features) + tensors["confidence_bias"])
    aligned = tensors["logit_scale"][:, None] * plain + tensors["logit_shift"][:, None]
    torch.testing.assert_close(logits, plain + sure[..., None] * (aligned - plain))
    assert not torch.equal(logits[0], logits[1])
