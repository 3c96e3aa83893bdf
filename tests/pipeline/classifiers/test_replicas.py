"""Stage 3's batched training: each replica alone, against a plain loop, and lambda -> 0."""

from itertools import islice

import pytest
import torch
from torch.nn import functional

from pipeline import losses
from pipeline.augment.kinds import Augmentation, class_strength, kind, mix, transform
from pipeline.augment.transfer import from_closed_form, from_generator, nearest_head, nearest_heads
from pipeline.classifiers import budget
from pipeline.classifiers import linear as heads
from pipeline.classifiers.kinds import TRAININGS
from pipeline.classifiers.replicas import _inputs, train_heads
from pipeline.classifiers.step import of_logits
from pipeline.errors import ConfigError, TrainingError
from pipeline.features import Features
from pipeline.rng import generator
from pipeline.samplers import RowSampler
from pipeline.settings.stage3 import Retrain
from pipeline.stg.generator import SemanticTransformationGenerator
from pipeline.stg.statistics import closed_form, head_statistics

COUNTS = (80, 30, 10)


@pytest.fixture
def train():
    g = torch.Generator().manual_seed(0)
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor(COUNTS))
    centres = torch.randn(3, 8, generator=g) * 2
    features = centres[labels] + torch.randn(2, len(labels), 8, generator=g)
    return Features(features, labels, torch.tensor(COUNTS))


def _closed_form(train):
    statistics = head_statistics(train, [0])
    nearest = torch.cat([nearest_head(view, statistics.mean_CD) for view in train.features_VND])
    beta = class_strength(train.counts_C)
    beta[0] = 0
    return Augmentation(kind("closed-form"), from_closed_form(nearest, statistics), beta)


def _none(name="none"):
    shift = torch.randn(3, 8, generator=torch.Generator().manual_seed(7))
    return Augmentation(kind(name), None, torch.zeros(3), shift if name == "transfer" else None)


def _train(train, settings, seeds=(0,), augmentation=None, variants=None):
    variants = variants or [settings]
    start = heads.fresh(3, 8, list(seeds) * len(variants))
    training = TRAININGS[settings.head]
    tensors, loss = training.tensors(start, settings), of_logits(training.loss(settings, train.counts_C))
    steps = budget.steps_of(settings, len(train.labels_N))
    return train_heads(
        train, start, tensors, loss, variants, seeds, augmentation or _none(settings.augmentation), steps
    )


BASE = Retrain(augmentation="none", epochs=3, batch_size=32, learning_rate=0.01)


def test_one_replica_equals_a_plain_training_loop(train):
    """torch.nn.Linear and torch.optim.Adam on the rows and views that the generators give."""
    found = _train(train, BASE, [4])
    start = heads.fresh(3, 8, [4])
    linear = torch.nn.Linear(8, 3)
    with torch.no_grad():
        linear.weight.copy_(start.weight_RCD[0])
        linear.bias.copy_(start.bias_RC[0])
    optimizer = torch.optim.Adam(linear.parameters(), lr=0.01)
    rows = RowSampler(train.labels_N).draw((12, 32), generator(4, "retrain", "rows"))
    views = torch.randint(2, (12, 32), generator=generator(4, "retrain", "views"))
    for k in range(12):
        loss = functional.cross_entropy(linear(train.features_VND[views[k], rows[k]]), train.labels_N[rows[k]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(found.weight_RCD[0], linear.weight.detach(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.bias_RC[0], linear.bias.detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["none", "noise", "dropout", "transfer", "closed-form"])
def test_a_replica_does_not_depend_on_its_neighbours(train, name):
    settings = BASE.model_copy(update={"augmentation": name})
    augmentation = _closed_form(train) if name == "closed-form" else _none(name)
    together = _train(train, settings, [1, 2, 3], augmentation)
    alone = _train(train, settings, [2], augmentation)
    torch.testing.assert_close(together.weight_RCD[1], alone.weight_RCD[0], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(together.weight_RCD[0], together.weight_RCD[1])


@pytest.mark.parametrize("name", ["none", "noise", "dropout", "transfer", "closed-form"])
def test_the_same_seed_gives_the_same_bits(train, name):
    settings = BASE.model_copy(update={"augmentation": name})
    augmentation = _closed_form(train) if name == "closed-form" else _none(name)
    first, again = (_train(train, settings, [1, 2], augmentation) for _ in range(2))
    assert torch.equal(first.weight_RCD, again.weight_RCD)
    assert torch.equal(first.bias_RC, again.bias_RC)


def test_lambda_zero_is_the_plain_classifier_to_the_last_bit(train):
    plain = _train(train, BASE)
    settings = BASE.model_copy(update={"augmentation": "closed-form", "strength": 0.0})
    assert torch.equal(_train(train, settings, augmentation=_closed_form(train)).weight_RCD, plain.weight_RCD)
    settings = settings.model_copy(update={"strength": 1.0})
    assert not torch.equal(_train(train, settings, augmentation=_closed_form(train)).weight_RCD, plain.weight_RCD)


def test_small_lambda_approaches_the_plain_classifier(train):
    plain = _train(train, BASE).weight_RCD
    away = []
    for strength in (1.0, 0.1, 0.01):
        settings = BASE.model_copy(update={"augmentation": "closed-form", "strength": strength})
        away.append(float((_train(train, settings, augmentation=_closed_form(train)).weight_RCD - plain).norm()))
    assert away[0] > away[1] > away[2]
    assert away[2] < 0.05 * away[0]


def test_variants_trained_side_by_side_equal_those_trained_alone(train):
    settings = BASE.model_copy(update={"augmentation": "closed-form"})
    variants = [
        settings.model_copy(update={"strength": s, "learning_rate": lr}) for s, lr in ((0.5, 0.01), (2.0, 0.03))
    ]
    together = _train(train, settings, [1, 2], _closed_form(train), variants)
    for v, variant in enumerate(variants):
        alone = _train(train, variant, [1, 2], _closed_form(train))
        torch.testing.assert_close(together.weight_RCD[2 * v : 2 * v + 2], alone.weight_RCD, atol=1e-6, rtol=1e-5)


def test_variants_that_shape_the_program_are_refused(train):
    with pytest.raises(ConfigError) as error:
        _train(train, BASE, variants=[BASE, BASE.model_copy(update={"epochs": 4})])
    assert str(error.value) == (
        "variants trained side by side differ in retrain.epochs; "
        "only learning_rate, strength, threshold, dropout, noise, tau, smoothing_head, smoothing_tail may differ"
    )


def _drawn(seed, steps=5, batch=32, views=2, width=8, sampler=None):
    """Rows, views, normal and uniform numbers of a seed's first steps, each drawn at once."""
    rows = (sampler or RowSampler(torch.repeat_interleave(torch.arange(3), torch.tensor(COUNTS)))).draw(
        (steps, batch), generator(seed, "retrain", "rows")
    )
    view = torch.randint(views, (steps, batch), generator=generator(seed, "retrain", "views"))
    noise = torch.randn(steps, batch, width, generator=generator(seed, "retrain", "noise"))
    return rows, view, noise, torch.rand(steps, batch, width, generator=generator(seed, "retrain", "uniform"))


@pytest.mark.parametrize("name", ["closed-form", "noise", "dropout", "transfer"])
def test_a_step_sees_what_equations_3_and_4_say(train, name):
    settings = [
        BASE.model_copy(update={"augmentation": name, "strength": s, "threshold": t}) for s, t in ((0.5, 0.5), (2, 0.2))
    ]
    augmentation = _closed_form(train) if name == "closed-form" else _none(name)
    # The draws of five steps are made together, and the third is looked at.
    rows_SKB, views_SKB, noise_SKBD, uniform_SKBD = map(torch.stack, zip(*map(_drawn, (3, 4)), strict=True))
    inputs, labels = next(islice(_inputs(train, settings[0], settings, [3, 4], augmentation, 5), 2, None))
    statistics = head_statistics(train, [0])
    for r, (v, s) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        rows, views = rows_SKB[s, 2], views_SKB[s, 2]
        features = train.features_VND[views, rows]
        wanted = features
        if name == "closed-form":
            mean, variance = closed_form(features, torch.zeros(32, dtype=torch.long), statistics)
            strength = settings[v].strength * class_strength(train.counts_C)[train.labels_N[rows]]
            augmented = transform(features, mean, variance, strength, noise_BD=noise_SKBD[s, 2])
            mixed = mix(features, augmented, settings[v].threshold, uniform_BD=uniform_SKBD[s, 2])
            wanted = torch.where((train.labels_N[rows] == 0)[:, None], features, mixed)
        elif name == "noise":
            wanted = features + 0.5 * noise_SKBD[s, 2]
        elif name == "transfer":
            wanted = features + augmentation.shift_CD[train.labels_N[rows]]
        else:
            wanted = torch.where(uniform_SKBD[s, 2] >= 0.3, features / 0.7, 0.0)
        torch.testing.assert_close(inputs[r], wanted, atol=1e-5, rtol=1e-5)
        assert torch.equal(labels[r], train.labels_N[rows])


@pytest.mark.parametrize("batch", [32, 33])
@pytest.mark.parametrize("threads", [1, 2])
def test_seeds_draw_the_same_however_many_are_augmented_at_a_time(train, monkeypatch, batch, threads):
    settings = BASE.model_copy(update={"augmentation": "noise", "batch_size": batch})
    sampler = RowSampler(train.labels_N)
    wanted = [_drawn(seed, 5, batch, sampler=sampler) for seed in range(3)]
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    for at_a_time in (1, 2 * batch * 8, 1 << 20):
        monkeypatch.setattr("pipeline.classifiers.replicas.AT_A_TIME", at_a_time)
        monkeypatch.setattr("pipeline.classifiers.draws.AT_A_TIME", at_a_time)
        steps = list(_inputs(train, settings, [settings], [0, 1, 2], _none("noise"), 5))
        for k, (inputs, labels) in enumerate(steps):
            for s, (rows, views, noise, _) in enumerate(wanted):
                features = train.features_VND[views[k], rows[k]]
                assert torch.equal(inputs[s], features + 0.5 * noise[k])
                assert torch.equal(labels[s], train.labels_N[rows[k]])


def test_lws_trains_the_scale_alone(train):
    start = heads.fresh(3, 8, [0])
    trained = _train(train, BASE.model_copy(update={"head": "lws"}))
    assert torch.equal(trained.weight_RCD, start.weight_RCD)
    assert torch.equal(trained.bias_RC, start.bias_RC)
    assert not torch.equal(trained.scale_RC, start.scale_RC)


def test_generalized_trains_classifier_slower_than_scale_with_label_aware_smoothing(train):
    settings = BASE.model_copy(
        update={"head": "generalized", "optimizer": "sgd", "momentum": 0.0, "epochs": 1, "batch_size": 120}
    )
    start = heads.fresh(3, 8, [0])
    trained = _train(train, settings)
    rows = RowSampler(train.labels_N).draw((1, 120), generator(0, "retrain", "rows"))[0]
    views = torch.randint(2, (1, 120), generator=generator(0, "retrain", "views"))[0]
    weight, bias, scale = (t[0].clone().requires_grad_() for t in (start.weight_RCD, start.bias_RC, start.scale_RC))
    logits = scale * (train.features_VND[views, rows] @ weight.T + bias)
    smoothing = losses.smoothing_by_class(train.counts_C, 0.4, 0.1)
    losses.label_aware_smoothing(logits, train.labels_N[rows], smoothing).backward()
    torch.testing.assert_close(trained.weight_RCD[0], weight.detach() - 0.2 * 0.01 * weight.grad)
    torch.testing.assert_close(trained.scale_RC[0], scale.detach() - 0.01 * scale.grad)


def test_a_diverged_loss_names_step_and_rate(train):
    broken = Features(train.features_VND * 1e38, train.labels_N, train.counts_C)
    with pytest.raises(TrainingError) as error:
        _train(broken, BASE.model_copy(update={"learning_rate": 10.0}))
    assert str(error.value) == (
        "retrain: the loss is not finite by step 12 of 12 at rate 10; lower retrain.learning_rate or retrain.strength"
    )


def test_selected_rows_borrow_as_they_do_among_all(train):
    stg = SemanticTransformationGenerator(8, 2)
    nearest = nearest_heads("l2", None, train, torch.stack([torch.zeros(8), torch.ones(8)]), [0, 1])
    selected = train.select(torch.arange(70, 120))
    own = nearest_heads("l2", None, selected, torch.stack([torch.zeros(8), torch.ones(8)]), [0, 1])
    views, rows = torch.tensor([[0, 1, 1]]), torch.tensor([[1, 15, 49]])
    flat = selected.flat(views, rows)
    assert torch.equal(own[flat], nearest[flat])
    features = selected.gather(views, rows)
    both = [from_generator(stg, part, near, part.labels_N > 0) for part, near in ((train, nearest), (selected, own))]
    torch.testing.assert_close(both[1](features, flat), both[0](features, flat))


def test_generator_table_equals_the_generator_run_live(train, monkeypatch):
    stg = SemanticTransformationGenerator(8, 1)
    nearest, augmented = torch.zeros(240, dtype=torch.long), train.labels_N > 0
    index = (torch.arange(240).view(2, 120)[:, 85:]).reshape(2, 35)
    features = train.features_VND.view(240, 8)[index]
    table = from_generator(stg, train, nearest, augmented)(features, index)
    monkeypatch.setattr("pipeline.augment.transfer.TABLE_LIMIT", 0)
    live = from_generator(stg, train, nearest, augmented)(features, index)
    torch.testing.assert_close(table, live)
    tail = train.labels_N == 2
    shifts, _ = from_generator(stg, train, nearest, tail)(features, index)
    is_tail = tail[index % 120]
    torch.testing.assert_close(shifts[is_tail], table[0][is_tail])
    assert not shifts[~is_tail].any()
