"""Stage 1's objective: today's default to the bit, every other against the formula of its paper or code, in numpy."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.settings import Settings
from pipeline.training.mixing import Mix
from pipeline.training.objective import Objective

COUNTS = torch.tensor([5000, 300, 120, 20, 6])
ROWS, CLASSES = 16, 5


def made(ending="plain", **stage1):
    return Settings.model_validate({"backbone": {"ending": ending}, "stage1": {"mixing": "none", **stage1}})


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, 3, 4, 4, generator=g)
    weight = torch.randn(48, CLASSES, generator=g) / 5
    labels = torch.randint(CLASSES, (ROWS,), generator=g)
    return x, labels, lambda images: images.flatten(1) @ weight


PARTNER = torch.randperm(ROWS, generator=torch.Generator().manual_seed(1))


def mix(x, labels, share=0.5, centre=(0.4, 0.7)):
    return Mix(x[PARTNER], labels[PARTNER], share, centre)


def _nll(logits, labels):
    z = logits.double().numpy()
    z = z - z.max(axis=1, keepdims=True)
    return -(z - np.log(np.exp(z).sum(axis=1, keepdims=True)))[np.arange(len(z)), labels.numpy()]


def _effective(beta=0.9999):
    """Class weights as in the LDAM code."""
    raw = (1 - beta) / (1 - np.power(beta, COUNTS.numpy()))
    return raw / raw.sum() * CLASSES


def _found(settings, batch, epoch=0, share=0.5):
    x, labels, model = batch
    return Objective(settings, COUNTS)(model, x, labels, epoch, mix(x, labels, share))


def test_the_default_is_mixup_as_it_was_to_the_bit(batch):
    x, labels, model = batch
    settings = Settings()
    assert settings.stage1.mixing == "mixup"
    logits = model(x.lerp(x[PARTNER], 1 - 0.3))
    was = 0.3 * F.cross_entropy(logits, labels) + (1 - 0.3) * F.cross_entropy(logits, labels[PARTNER])
    assert torch.equal(_found(settings, batch, 150, 0.3), was)
    assert torch.equal(_found(made(), batch), F.cross_entropy(model(x), labels))


def test_mixup_is_cross_entropy_with_mixed_labels(batch):
    x, labels, model = batch
    images = 0.3 * x + 0.7 * x[PARTNER]
    wanted = 0.3 * _nll(model(images), labels) + 0.7 * _nll(model(images), labels[PARTNER])
    assert float(_found(made(mixing="mixup"), batch, 0, 0.3)) == pytest.approx(wanted.mean(), rel=1e-5)


@pytest.mark.parametrize(("epoch", "weighted"), [(0, False), (159, False), (160, True), (199, True)])
def test_ce_drw_weights_the_mean_from_epoch_160_on(batch, epoch, weighted):
    x, labels, model = batch
    weights = _effective()[labels.numpy()] if weighted else np.ones(ROWS)
    wanted = (weights * _nll(model(x), labels)).sum() / weights.sum()
    assert float(_found(made(reweight="drw"), batch, epoch)) == pytest.approx(wanted, rel=1e-5)


def test_class_balanced_weights_all_epochs(batch):
    assert torch.equal(_found(made(reweight="class-balanced"), batch, 0), _found(made(reweight="drw"), batch, 180))


def test_focal_drw_has_the_weights_inside_p(batch):
    x, labels, model = batch
    weighted = _effective()[labels.numpy()] * _nll(model(x), labels)
    wanted = ((1 - np.exp(-weighted)) ** 1.0 * weighted).mean()
    assert float(_found(made(loss="focal", reweight="drw"), batch, 160)) == pytest.approx(wanted, rel=1e-5)


def test_ldam_drw_takes_the_margin_off_the_cosine(batch):
    x, labels, model = batch
    cosines = model(x).clamp(-1, 1)
    margins = 1 / np.sqrt(np.sqrt(COUNTS.double().numpy()))
    margins = margins * (0.5 / margins.max())
    moved = cosines.double().clone()
    moved[torch.arange(ROWS), labels] -= torch.from_numpy(margins)[labels]
    weights = _effective()[labels.numpy()]
    wanted = (weights * _nll(30 * moved, labels)).sum() / weights.sum()
    scaled = (x, labels, lambda images: 30 * model(images).clamp(-1, 1))
    assert float(_found(made(loss="ldam", reweight="drw"), scaled, 160)) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("tau", [1.0, 0.5])
def test_logit_adjusted_adds_the_prior(batch, tau):
    x, labels, model = batch
    prior = COUNTS.double() / COUNTS.sum()
    wanted = _nll(model(x) + tau * prior.log(), labels).mean()
    assert float(_found(made(loss="logit-adjusted", loss_tau=tau), batch)) == pytest.approx(wanted, rel=1e-5)


def test_label_smoothing_shares_a_tenth_among_all_classes(batch):
    x, labels, model = batch
    every = np.mean([_nll(model(x), torch.full_like(labels, c)) for c in range(CLASSES)], axis=0)
    wanted = (0.9 * _nll(model(x), labels) + 0.1 * every).mean()
    assert float(_found(made(label_smoothing=0.1), batch)) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("epoch", [0, 160])
def test_remix_drw(batch, share, epoch):
    """Row by row as Chou et al. state it, in the weighted mean of CE-DRW."""
    x, labels, model = batch
    logits = model(share * x + (1 - share) * x[PARTNER])
    other = labels[PARTNER]
    weights = _effective() if epoch == 160 else np.ones(CLASSES)
    total = norm = 0.0
    seen = set()
    for i, (y, partner) in enumerate(zip(labels.tolist(), other.tolist(), strict=True)):
        ratio, own = COUNTS[y].item() / COUNTS[partner].item(), share
        if ratio >= 3 and share < 0.5:
            own = 0.0
        elif ratio <= 1 / 3 and 1 - share < 0.5:
            own = 1.0
        seen.add(own)
        row = logits[i : i + 1]
        total += own * weights[y] * _nll(row, labels[i : i + 1])[0]
        total += (1 - own) * weights[partner] * _nll(row, other[i : i + 1])[0]
        norm += own * weights[y] + (1 - own) * weights[partner]
    assert seen == {0.2: {0.0, 0.2}, 0.5: {0.5}, 0.8: {0.8, 1.0}}[share]
    found = _found(made(mixing="remix", reweight="drw"), batch, epoch, share)
    assert float(found) == pytest.approx(total / norm, rel=1e-5)


@pytest.mark.parametrize("centre", [(0.5, 0.5), (0.0, 0.99)])
def test_cutmix_pastes_a_box_and_counts_its_pixels(centre):
    seen = []

    def model(images):
        seen.append(images)
        return images.mean((2, 3))

    x, labels = torch.rand(ROWS, 3, 12, 8), torch.arange(ROWS) % 3
    found = Objective(made(mixing="cutmix"), COUNTS[:3])(model, x, labels, 0, mix(x, labels, 0.36, centre))
    # Yun et al.'s code: sides 0.8 of the image's, halved and truncated, clipped at the border
    half_h, half_w = int(12 * math.sqrt(0.64)) // 2, int(8 * math.sqrt(0.64)) // 2
    cy, cx = int(centre[0] * 12), int(centre[1] * 8)
    inside = np.zeros((12, 8), dtype=bool)
    inside[np.clip(cy - half_h, 0, 12) : np.clip(cy + half_h, 0, 12), np.clip(cx - half_w, 0, 8) : cx + half_w] = True
    wanted = torch.where(torch.from_numpy(inside), x[PARTNER], x)
    assert torch.equal(seen[0], wanted)
    own = 1 - inside.mean()
    logits = wanted.mean((2, 3))
    losses = own * _nll(logits, labels) + (1 - own) * _nll(logits, labels[PARTNER])
    assert float(found) == pytest.approx(losses.mean(), rel=1e-5)


@pytest.mark.parametrize("epoch", [0, 100, 199])
def test_bbn_moves_from_the_first_half_to_the_second(batch, epoch):
    x, labels, model = batch
    shares = []

    def forward(images, share):
        shares.append(float(share))
        assert torch.equal(images, torch.cat([x, x[PARTNER]]))
        return model(images[:ROWS])

    found = Objective(made("bbn"), COUNTS)(forward, x, labels, epoch, mix(x, labels))
    own = 1 - ((epoch + 1 - 1) / 200) ** 2
    assert shares == [pytest.approx(own)]
    wanted = own * _nll(model(x), labels) + (1 - own) * _nll(model(x), labels[PARTNER])
    assert float(found) == pytest.approx(wanted.mean(), rel=1e-5)


def test_settings_that_do_not_go_together():
    with pytest.raises(ValueError, match=r"label_smoothing is for stage1\.loss=ce, found loss focal; set either back"):
        made(loss="focal", label_smoothing=0.1)
    with pytest.raises(ValueError, match=r"mixes none, found stage1\.mixing=mixup; set stage1\.mixing=none"):
        made("bbn", mixing="mixup")
