"""The scores of a sweep against what it varied."""

from pipeline.report.evidence.grid import scores_by_setting
from pipeline.sweeping.record import GridPlace, SweepResult


def place(method, score, chosen=False, **values):
    values = {key.replace("_", "."): value for key, value in values.items()}
    mean = {"accuracy": 50.0, "balanced_accuracy": 40.0, "many": 60.0, "medium": None, "few": 20.0, "ece": 5.0}
    return GridPlace(
        method=method, settings="0" * 12, values={"method": method, **values}, seeds=[0, 1], score=score, mean=mean,
        seconds=2.0, chosen=chosen, runs=[f"/runs/toy/{method}-0", f"/runs/toy/{method}-1"],
    )  # fmt: skip


def swept(*places, varied=("method", "seed", "retrain.strength"), **changes):
    values = {
        "file": "grid.toml", "dataset": "toy", "cache": "0123456789abcdef", "selected_on": "val", "metric": "balanced",
        "why_not": None, "warning": None, "varied": list(varied), "points": 2 * len(places), "places": list(places),
        "failures": [],
    }  # fmt: skip
    return SweepResult.model_validate({**values, **changes})


def test_two_varied_settings_are_a_line_for_each_value_of_the_other():
    result = swept(
        place("crt+stg", 70.0, retrain_strength=1.5),
        place("crt+stg", 72.0, True, retrain_strength=0.5),
        place("lws+stg", 60.0, retrain_strength=0.5),
        place("crt", 65.0),
    )
    (drawing,) = scores_by_setting(result)
    assert (drawing.setting, drawing.told_apart_by, drawing.ticks, drawing.logarithmic) == (
        "retrain.strength",
        "method",
        (),
        False,
    )
    stg, lws, crt = drawing.series
    assert stg.points == ((1.5, 70.0, False), (0.5, 72.0, True))
    assert stg.line == ((0.5, 72.0), (1.5, 70.0))
    assert (lws.name, lws.line, lws.level) == ("lws+stg", ((0.5, 60.0),), None)
    assert (crt.name, crt.points, crt.level) == ("crt", (), 65.0)


def test_of_three_each_line_is_the_mean_over_the_others():
    result = swept(
        *(place("crt+noise", 10.0 * a + b, retrain_noise=a, retrain_epochs=b) for a in (0.1, 1.0) for b in (1, 3)),
        varied=["method", "retrain.noise", "retrain.epochs"],
    )
    noise, epochs = scores_by_setting(result)
    assert noise.series[0].line == ((0.1, 3.0), (1.0, 12.0))
    assert epochs.series[0].line == ((1.0, 6.5), (3.0, 8.5))
    assert (noise.logarithmic, epochs.logarithmic) == (True, False)


def test_values_that_are_no_numbers_stand_in_a_row():
    result = swept(
        *(place("crt", score, stg_loss=value) for value, score in (("mse", 1.0), (True, 2.0))), varied=["stg.loss"]
    )
    (drawing,) = scores_by_setting(result)
    assert drawing.ticks == ("mse", "true")
    assert drawing.series[0].points == ((0.0, 1.0, False), (1.0, 2.0, False))
    assert drawing.told_apart_by == ""


def test_methods_alone_are_drawn_and_seeds_alone_are_not():
    (drawing,) = scores_by_setting(swept(place("crt", 1.0), place("lda", 2.0), varied=["method", "seed"]))
    assert (drawing.setting, drawing.ticks) == ("method", ("crt", "lda"))
    assert scores_by_setting(swept(place("crt", 1.0), varied=["seed"])) == ()


def test_where_nothing_was_chosen_the_test_split_is_shown():
    result = swept(place("crt", None), place("lda", None), varied=["method"], selected_on=None)
    assert [y for _, y, _ in scores_by_setting(result)[0].series[0].points] == [40.0, 40.0]


def test_more_lines_than_colours_are_one():
    places = [place("crt", 1.0, retrain_noise=float(n), retrain_epochs=n % 2) for n in range(11)]
    noise, epochs = scores_by_setting(swept(*places, varied=["retrain.noise", "retrain.epochs"]))
    assert len(noise.series) == 2
    assert (len(epochs.series), epochs.told_apart_by) == (1, "")
