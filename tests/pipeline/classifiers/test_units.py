"""No unit and no offset of the features matters: every head and every augmentation of the registers, on rows in other units.

FeatureAug alone is not free of an offset: it reads maps of a ReLU network, in which 0 means that nothing was found.
"""

import pytest
import torch

from pipeline.augment import UNCHANGED, augmentation_for
from pipeline.classifiers.kinds import KINDS, kind
from pipeline.classifiers.mean_shift import mean_shift
from pipeline.classifiers.problem import Problem
from pipeline.features import Features, Maps
from pipeline.settings import STG, Retrain, Settings
from pipeline.settings.stage3 import AUGMENTATIONS, TRAINED
from pipeline.stg.fit import fit, head_rows
from pipeline.stg.statistics import split_statistics
from pipeline.stg.trained import TrainedSTG

COUNTS = torch.tensor((60, 40, 9, 5))
STAGE2 = STG(head_classes=2, epochs=4, batch_size=32)
ARMS = [(head, "none") for head in KINDS] + [("crt", name) for name in AUGMENTATIONS]
SPREAD = torch.tensor([1.0, 0.2, 4.0, 1.0, 1.0, 2.0])
UNITS = {"a hundredth": (0.01, 0.0), "a hundredfold": (100.0, 0.0), "1,000 spreads away": (1.0, 1000.0)}
CASES = [(*arm, unit) for arm in ARMS for unit in UNITS if (arm[1], unit) != ("feature-aug", "1,000 spreads away")]


def rows(counts, seed):
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(len(counts), 6, generator=torch.Generator().manual_seed(0)) * 2
    labels = torch.repeat_interleave(torch.arange(len(counts)), counts)
    return (centres[labels] + torch.randn(len(labels), 6, generator=g)) * SPREAD, labels


def predicted(head, augmentation, scale, spreads):
    """What a classifier learnt in these units says of test rows in these units."""
    offset = spreads * SPREAD
    features, labels = rows(COUNTS, 1)
    weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(2)) / (SPREAD * scale)
    bias = -weight @ (offset * scale)
    # Four places whose mean is the feature.
    places = torch.randn(len(labels), 6, 4, generator=torch.Generator().manual_seed(4)) * SPREAD[:, None]
    places = (features + offset)[:, :, None] + places - places.mean(dim=2, keepdim=True)
    maps = Maps(places * scale, weight, bias)
    train = Features(((features + offset) * scale)[None], labels, COUNTS, maps=maps).standardised()
    assert train.coordinates is not None
    stage1 = train.coordinates.unfold(weight, bias)
    retrain = Retrain(head=head, augmentation=augmentation, epochs=6, batch_size=32, learning_rate=0.01, hidden=16)
    settings = Settings(stg=STAGE2, retrain=retrain)
    trained = None
    if augmentation == "stg":
        head_features = head_rows(train, ("a", "b", "c", "d"), STAGE2, 0)
        stg, _, _ = fit(head_features, STAGE2, 0)
        trained = TrainedSTG(stg, head_features.heads, split_statistics(head_features.fit, 2).mean_CD)
    shift = mean_shift(retrain, train, unseen=True) if augmentation == "transfer" else None
    augment = augmentation_for(settings, train, stage1, trained, shift) if head in TRAINED else UNCHANGED
    classifier = kind(head)(Problem(retrain, train, [0], stage1, augment, True, False, None, "balanced", "toy")).folded(
        train.coordinates
    )
    tested, _ = rows(torch.tensor([50, 50, 50, 50]), 3)
    return classifier.logits((tested + offset) * scale)[0].argmax(dim=1)


@pytest.mark.parametrize(("head", "augmentation", "unit"), CASES)
def test_the_unit_of_the_features_does_not_matter(head, augmentation, unit):
    wanted = predicted(head, augmentation, 1.0, 0.0)
    assert len(wanted.unique()) > 1
    assert float((predicted(head, augmentation, *UNITS[unit]) == wanted).float().mean()) >= 0.99
