"""Arms by name, on rows held out as in a fit without them; the committee of the likeliest; hard data; any unit."""

import pytest
import torch

from pipeline.classifiers import candidates, committee, held_out
from pipeline.classifiers.candidates import PLAIN, Logistic
from pipeline.classifiers.discriminant import LDA, Transfer
from pipeline.classifiers.logistic import fit_logistic
from pipeline.classifiers.selection import stratified_folds
from pipeline.classifiers.whitening import fit_whitening

ARMS = [
    PLAIN,
    Logistic(0.003, transfer=None),
    Logistic(),
    Logistic(0.1, 0.5, 2.0),
    LDA,
    Transfer(),
    Transfer(corrected=True),
]


def rows(counts: list[int], width: int = 5, seed: int = 0, spread: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    centre = torch.randn(len(counts), width, generator=torch.Generator().manual_seed(100))
    return centre[labels] + spread * torch.randn(len(labels), width, generator=g), labels


def test_arms_have_names_of_their_own():
    assert [candidates.name(arm) for arm in ARMS] == [
        "logistic l2=0.03 tau=1 columns",
        "logistic l2=0.003 tau=1 transfer k=log",
        "logistic l2=0.03 tau=1",
        "logistic l2=0.1 tau=0.5 transfer k=2",
        "lda r=0.6",
        "transfer r=0.6 k=3",
        "transfer r=0.6 k=3 corrected",
    ]
    for metric in ("balanced", "accuracy"):
        grid = committee.arms(metric)
        assert len({candidates.name(arm) for arm in grid}) == len(grid)


def test_a_plain_arm_is_logistic_regression_on_columns_less_the_log_prior():
    features, labels = rows([12, 6, 3])
    coordinates = fit_whitening(features, labels, 3, shrinkage=None)
    found = fit_logistic(coordinates.apply(features), labels, 3, [0.03])
    wanted = coordinates.apply(features) @ found.weight_FSCD[0, 0].T + found.bias_FSC[0, 0]
    wanted = wanted - torch.tensor([12 / 21, 6 / 21, 3 / 21]).log()
    weight, bias = candidates.fit(PLAIN, features, labels, 3)
    torch.testing.assert_close(features @ weight.T + bias, wanted, rtol=1e-4, atol=1e-4)


def test_scores_of_rows_held_out_are_those_of_a_fit_without_them():
    features, labels = rows([20, 10, 5, 1])
    fold = stratified_folds(labels, 4, 5)
    scores = candidates.held_out(ARMS, features, labels, 4, fold)
    assert set(scores) == set(ARMS)
    for arm in (PLAIN, Logistic(0.1, 0.5, 2.0)):
        out = fold == 2
        weight, bias = candidates.fit(arm, features[~out], labels[~out], 4)
        # Arms that are only compared stop further from the minimum.
        wanted = (features[out] @ weight.T + bias).softmax(dim=1)
        torch.testing.assert_close(scores[arm][fold[fold >= 0] == 2].softmax(dim=1), wanted, rtol=0, atol=0.03)
    assert all(len(scores_of_arm) == 35 for scores_of_arm in scores.values())


def test_a_committee_is_the_average_its_members_make():
    features, labels = rows([20, 10, 5, 2, 1])
    elected = committee.elect(features, labels, 5)
    assert sum(elected.members.values()) == pytest.approx(1)
    assert elected.on == "5-fold cross-validation"
    weight, bias = 0, 0
    for arm, share in elected.members.items():
        member_weight, member_bias = candidates.fit(arm, features, labels, 5)
        temperature = elected.choice.scores[candidates.name(arm)].temperature
        weight, bias = weight + share / temperature * member_weight, bias + share / temperature * member_bias
    torch.testing.assert_close(elected.weight_CD, weight, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(elected.bias_C, bias, rtol=1e-3, atol=1e-3)
    assert torch.equal(elected.weight_CD, committee.elect(features, labels, 5).weight_CD)


def test_the_likeliest_arm_stands_alone_where_held_out_rows_say_so_beyond_two_standard_errors(monkeypatch):
    good = Logistic(0.01)
    poor = [Logistic(0.01, tau=4 + step / 10) for step in range(9)]  # the rarest class is predicted nearly always
    monkeypatch.setattr(committee, "arms", lambda metric: [good, *poor])
    monkeypatch.setattr(committee, "USUAL", ())
    features, labels = rows([400, 100, 30], spread=0.8)
    elected = committee.elect(features, labels, 3)
    assert elected.members == {good: 1.0}
    assert elected.score == elected.choice.scores[candidates.name(good)]
    weight, bias = candidates.fit(good, features, labels, 3)
    torch.testing.assert_close(elected.weight_CD * elected.score.temperature, weight, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(elected.bias_C * elected.score.temperature, bias, rtol=1e-3, atol=1e-3)


def test_it_says_more_of_new_rows_than_chance_and_val_rows_decide_where_there_are_any():
    features, labels = rows([40, 20, 10, 4], spread=0.7)
    new, new_labels = rows([50] * 4, seed=1, spread=0.7)
    elected = committee.elect(features, labels, 4)
    accuracy = float(((new @ elected.weight_CD.T + elected.bias_C).argmax(dim=1) == new_labels).double().mean())
    assert accuracy > 0.7
    by_val = committee.elect(features, labels, 4, val=(new, new_labels))
    assert by_val.on == "val"
    assert by_val.score.accuracy == pytest.approx(
        100 * float(((new @ by_val.weight_CD.T + by_val.bias_C).argmax(dim=1) == new_labels).double().mean()), abs=2
    )


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_no_unit_and_no_offset_changes_a_prediction(scale):
    features, labels = rows([30, 12, 6, 2, 1])
    new, _ = rows([40] * 5, seed=1)
    offset = 1000 * features.double().std(dim=0)

    def moved(raw: torch.Tensor) -> torch.Tensor:
        return ((raw.double() + offset) * scale).float()

    for train in (
        lambda x: committee.elect(x, labels, 5),
        *(lambda x, a=arm: candidates.fit(a, x, labels, 5) for arm in ARMS),
    ):
        plain, other = train(features), train(moved(features))
        if isinstance(plain, committee.Committee):
            plain, other = (plain.weight_CD, plain.bias_C), (other.weight_CD, other.bias_C)
        wanted = (new.double() @ plain[0].double().T + plain[1]).argmax(dim=1)
        found = (moved(new).double() @ other[0].double().T + other[1]).argmax(dim=1)
        assert float((wanted == found).double().mean()) >= 0.985


@pytest.mark.parametrize("counts", [[1, 1, 1], [5, 0, 2], [6], [198, 1, 1], [2, 1], [3, 3]])
@pytest.mark.parametrize("width", [1, 30])
@pytest.mark.parametrize("metric", ["balanced", "accuracy"])
def test_hard_data_is_defined(counts, width, metric):
    features, labels = rows(counts, width)
    constant = torch.ones_like(features)
    for tried in (torch.cat([features, constant], dim=1), features[:1].expand_as(features).clone()):
        elected = committee.elect(tried, labels, len(counts), metric)
        scores = tried @ elected.weight_CD.T + elected.bias_C
        assert not bool(torch.isnan(scores).any())
        assert bool(torch.isfinite(scores.max(dim=1).values).all())
        assert bool((scores[:, torch.tensor(counts) == 0] == -torch.inf).all())


def test_where_every_class_has_one_row_the_usual_arm_speaks_alone():
    features, labels = rows([1, 1, 1])
    elected = committee.elect(features, labels, 3)
    assert elected.members == {committee.USUAL[0]: 1.0}
    assert (elected.score, elected.choice, elected.on) == (None, None, "nothing: no class has two rows")


@pytest.mark.parametrize(("metric", "held"), [("balanced", [4, 4, 2]), ("accuracy", [9, 3, 0])])
def test_where_scores_would_fill_memory_fewer_rows_are_held_out(metric, held):
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor([80, 20, 2]))
    fold = stratified_folds(labels, 3, 5)
    thinned = held_out._thinned(fold, labels, 12, metric)
    kept = thinned >= 0
    assert torch.equal(thinned[kept], fold[kept])
    assert torch.bincount(labels[kept], minlength=3).tolist() == held
    assert torch.equal(held_out._thinned(fold, labels, 102, metric), fold)


def test_many_classes_are_elected_for_without_a_table_of_all_pairs(monkeypatch):
    labels = torch.arange(600) % 300
    features = torch.randn(600, 2, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(held_out, "MANY_CLASSES", 200)
    monkeypatch.setattr(committee, "arms", lambda metric: [Logistic(0.1), Transfer()])
    elected = committee.elect(features, labels, 300)
    assert list(elected.members) == [Logistic(0.1)]
    assert bool(torch.isfinite(elected.weight_CD).all())
    monkeypatch.setattr(held_out, "WORK", 1)
    assert committee.elect(features, labels, 300).members == {committee.USUAL[1]: 1.0}
