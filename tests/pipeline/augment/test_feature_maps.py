"""FeatureAug against its published form: Grad-CAM by autograd, and maps fused place by place."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import toy_caches as toys

from cache import CacheWriter, FeatureCache, Provenance
from pipeline.augment import feature_maps
from pipeline.augment.kinds import KINDS, Draw
from pipeline.classifiers import train_classifier
from pipeline.comparing.arms import named
from pipeline.errors import DataError
from pipeline.features import Features, Maps, last_maps
from pipeline.settings import Settings

COUNTS = torch.tensor([30, 20, 40, 5, 3])
HEADS = [0, 1, 2]
WIDTH, PLACES = 6, 9


@pytest.fixture
def train():
    """Post-ReLU maps of 98 rows in two views, the second one's features apart, and a classifier of five classes."""
    g = torch.Generator().manual_seed(0)
    labels = torch.repeat_interleave(torch.arange(5), COUNTS)
    labels = labels[torch.randperm(len(labels), generator=g)]
    maps = Maps(
        (torch.randn(len(labels), WIDTH, PLACES, generator=g) + 0.3).relu(),
        torch.randn(5, WIDTH, generator=g),
        torch.randn(5, generator=g),
    )
    features = maps.maps_NDP.mean(dim=2)
    return Features(torch.stack([features, features + 9]), labels, COUNTS, maps=maps)


def settings_of(**retrain):
    return Settings.model_validate(
        {"retrain": {"neighbour_classes": 1, **retrain}, "stg": {"head_classes": len(HEADS)}}
    )


def draw_of(train, flat_S1, seed=0):
    g = torch.Generator().manual_seed(seed)
    rows = len(train.maps.maps_NDP)
    uniform = torch.rand(*flat_S1.shape, feature_maps.numbers(train), generator=g)
    labels = torch.empty(rows, dtype=torch.long)
    labels[torch.arange(rows) if train.rows_N is None else train.rows_N] = train.labels_N
    features = train.every().gather(flat_S1 // rows, flat_S1 % rows)
    return Draw(features, labels[flat_S1 % rows], flat_S1, torch.empty(0), uniform)


def _reference_grad_cam(map_DP, weight_CD, bias_C, c):
    """Selvaraju et al., 2017, Eq. 1 and 2, on the layer before average pooling, then scaled to [0, 1]."""
    map_DP = map_DP.double().clone().requires_grad_(True)
    logits_C = weight_CD.double() @ map_DP.mean(dim=1) + bias_C.double()
    (gradient_DP,) = torch.autograd.grad(logits_C[c], map_DP)
    cam_P = (gradient_DP.mean(dim=1)[:, None] * map_DP.detach()).sum(dim=0).relu().numpy()
    return (cam_P - cam_P.min()) / (cam_P.max() - cam_P.min()) if cam_P.max() > cam_P.min() else 0 * cam_P


def _reference_fused(tail_DP, tail_cam_P, head_DP, head_cam_P, mask_P):
    """The published code, place by place: the tail's foreground, the head's background, 0 elsewhere; then the mean."""
    fused = np.zeros(tail_DP.shape)
    for place in range(tail_DP.shape[1]):
        if mask_P[place] and tail_cam_P[place] > 0.8:
            fused[:, place] = tail_DP[:, place]
        if not mask_P[place] and head_cam_P[place] < 0.2:
            fused[:, place] = head_DP[:, place]
    return fused.mean(axis=1)


def test_class_activation_is_grad_cam(train):
    maps, labels = train.maps, train.labels_N
    found = feature_maps.activation(maps.maps_NDP, maps.weight_CD[labels]).numpy()
    for row in range(len(labels)):
        wanted = _reference_grad_cam(maps.maps_NDP[row], maps.weight_CD, maps.bias_C, int(labels[row]))
        np.testing.assert_allclose(found[row], wanted, atol=1e-5)
    assert feature_maps.activation(torch.ones(1, WIDTH, PLACES), torch.ones(1, WIDTH)).tolist() == [[0.0] * PLACES]


def test_confusing_classes_have_the_highest_mean_score(train):
    scores = (train.maps.maps_NDP.mean(dim=2) @ train.maps.weight_CD.T + train.maps.bias_C).softmax(dim=1)
    found = feature_maps.confusing(train, train.maps, HEADS, 2)
    for c in range(5):
        mean_H = scores[train.labels_N == c].mean(dim=0)[HEADS]
        assert found[c].tolist() == [HEADS[position] for position in mean_H.argsort(descending=True)[:2]]


@pytest.mark.parametrize("selected", [False, True])
def test_a_fused_row_is_a_published_one_of_some_row_of_its_confusing_class(train, selected):
    chosen = train.select(torch.arange(1, 98, 2)) if selected else train
    coordinates = chosen.standardised().coordinates
    chosen = replace(chosen, coordinates=coordinates)
    maps = chosen.maps
    rows = chosen.rows_N if selected else torch.arange(98)
    tail = rows[chosen.labels_N >= 3]
    flat = torch.cat([tail, 98 + tail])[None]  # of both views: the map is the clean image's
    draw = draw_of(chosen, flat)
    made = feature_maps.feature_aug(settings_of(fused_rows=1.0), chosen)(draw)[0]
    near_C = feature_maps.confusing(chosen, maps, HEADS, 1)[:, 0]
    for position, row in enumerate(flat[0] % 98):
        label = int(draw.labels_SB[0, position])
        choice, places = draw.uniform_SBD[0, position, :4], draw.uniform_SBD[0, position, 4:]
        head = int(near_C[label])
        candidates = rows[chosen.labels_N == head]
        other = candidates[int(choice[2] * len(candidates))]
        cams = [
            _reference_grad_cam(maps.maps_NDP[of], maps.weight_CD, maps.bias_C, c)
            for of, c in ((row, label), (other, head))
        ]
        wanted = _reference_fused(
            maps.maps_NDP[row].numpy(), cams[0], maps.maps_NDP[other].numpy(), cams[1], (places > choice[3]).numpy()
        )
        raw = made[position] * coordinates.scale_D + coordinates.offset_D
        np.testing.assert_allclose(raw.numpy(), wanted, atol=1e-5)


def test_heads_and_a_share_of_the_tail_stay_as_they_are(train):
    flat = torch.arange(98).repeat(200)[None]
    draw = draw_of(train, flat)
    changed = (feature_maps.feature_aug(settings_of(), train)(draw) != draw.features_SBD).any(dim=2)[0]
    tail = draw.labels_SB[0] >= 3
    assert not changed[~tail].any()
    assert torch.equal(changed[tail], (draw.uniform_SBD[0, tail, 0] < 0.75))
    nothing = feature_maps.feature_aug(settings_of(fused_rows=0.0), train)(draw)
    assert torch.equal(nothing, draw.features_SBD)


def test_every_confusing_class_and_row_is_drawn(train):
    """With thresholds of 1 and above, and a head's map of its row number, the fused feature tells which row it is from."""
    numbered = torch.arange(98.0)[:, None, None].expand(-1, WIDTH, PLACES).contiguous()
    numbered[:, :, 0] += 0.01  # a place with contrast, so that the others are background
    marked = replace(train, maps=replace(train.maps, maps_NDP=numbered, weight_CD=torch.ones(5, WIDTH)))
    row = int((train.labels_N == 4).nonzero()[0, 0])
    draw = draw_of(marked, torch.full((1, 5000), row))
    draw.uniform_SBD[..., 3] = 1.0  # every place from the head
    made = feature_maps.feature_aug(settings_of(fused_rows=1.0, neighbour_classes=2), marked)(draw)[0]
    found = (made[:, 0] * PLACES / (PLACES - 1)).round().long()
    near = feature_maps.confusing(marked, marked.maps, HEADS, 2)[4]
    wanted = torch.isin(train.labels_N, near).nonzero()[:, 0]
    assert torch.equal(found.unique(), wanted)
    share = (train.labels_N[found] == near[0]).float().mean()
    assert float(share) == pytest.approx(0.5, abs=0.03)


@pytest.fixture
def mapped(tmp_path):
    """A cache of 50 rows in three classes, whose features are the means of its maps."""
    return write(tmp_path / "mapped", (2, 2))


def write(stores, maps, classifier=True):
    identity = toys.identity(maps=maps, classes=("cat", "dog", "owl"))
    with CacheWriter(stores, identity, Provenance(name="toy"), rows_per_chunk=8) as writer:
        toys.fill(writer)
        if not classifier:
            writer._classifier = None
        return FeatureCache.open(writer.publish())


def aug(**retrain):
    chosen = {"augmentation": "feature-aug", "steps": 20, "views": False, **retrain}
    return Settings.model_validate({"retrain": chosen, "stg": {"head_classes": 1}})


def test_training_repeats_and_needs_the_maps(mapped):
    one, again, plain = (
        train_classifier(aug(**changes), mapped, [0, 1], None).tensors()
        for changes in ({}, {}, {"augmentation": "none"})
    )
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["weight"], plain["weight"])
    stored = last_maps(mapped, "test")
    np.testing.assert_array_equal(stored.maps_NDP, mapped.maps("train").reshape(50, toys.WIDTH, 4))


def test_what_is_missing_is_said_in_one_line(mapped, tmp_path):
    for cache, reason, left_out in (
        (
            write(tmp_path / "plain", None),
            "wants feature maps, {where} holds none; extract it again with --set extract.maps=true",
            "the cache holds no feature maps: extract it with extract.maps=true",
        ),
        (
            write(tmp_path / "no classifier", (2, 2), classifier=False),
            "wants the stage-1 classifier, {where} holds none; choose another retrain.augmentation",
            "the cache holds no stage-1 classifier",
        ),
    ):
        with pytest.raises(DataError) as error:
            train_classifier(aug(start="fresh"), cache, [0], None)
        where = f"cache {cache.key[:12]}"
        assert str(error.value) == f"retrain.augmentation=feature-aug: {reason.format(where=where)}"
        arms, missing = named(Settings(), cache, ["crt+feature-aug"])
        assert (arms, [one.reason for one in missing]) == ([], [left_out])
    with pytest.raises(DataError) as error:
        last_maps(mapped, "retrain.augmentation=feature-aug", ram_limit=1e-6)
    assert str(error.value) == (
        "retrain.augmentation=feature-aug: wanted at most 0.0 GiB of feature maps in RAM, found 0.0 GiB in "
        f"cache {mapped.key[:12]}; raise ram_limit"
    )


def test_the_register_draws_what_the_augmentation_reads(train):
    kind = KINDS["feature-aug"]
    assert (kind.draws_noise, kind.draws_uniform) == (False, True)
    assert kind.uniforms is not None
    assert kind.uniforms(train) == 4 + PLACES
