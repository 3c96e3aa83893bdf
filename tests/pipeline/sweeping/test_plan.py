"""Sweep files: lists, ranges, methods, and what is wrong with one."""

import pytest

from pipeline.errors import ConfigError
from pipeline.settings import Settings
from pipeline.sweeping.plan import MOST_POINTS, points, read_sweep


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "sweep.toml"
        path.write_text(text)
        return read_sweep(path)

    return write


def test_lists_and_ranges(written):
    swept = written(
        'config = "digits-lt"\ncache = "abc"\nmethods = ["crt", "lda"]\nseed = { from = 0, to = 3 }\n'
        "[retrain]\nstrength = [0.5, 1.5]\nbatch_size = 256\nthreshold = { from = 0.1, to = 0.5, step = 0.2 }\n"
        'learning_rate = { from = 1e-4, to = 1e-2, steps = 3, scale = "log" }\nneighbours = { from = 1, to = 9, steps = 3 }\n'
        "[stg]\nhidden = [2.0, 2.0]\n"
    )
    assert (swept.config, swept.cache) == ("digits-lt", "abc")
    assert swept.axes == {
        "method": ["crt", "lda"],
        "seed": [0, 1, 2, 3],
        "retrain.strength": [0.5, 1.5],
        "retrain.batch_size": [256],
        "retrain.threshold": [0.1, 0.3, 0.5],
        "retrain.learning_rate": [1e-4, 1e-3, 1e-2],
        "retrain.neighbours": [1, 5, 9],
        "stg.hidden": [[2.0, 2.0]],
    }
    assert written("[stg]\nhidden = [[2.0], [1.0, 1.0]]").axes == {"stg.hidden": [[2.0], [1.0, 1.0]]}


def test_points_are_the_grid_without_what_a_method_does_not_use(written):
    swept = written(
        'methods = ["crt", "crt+noise", "lda"]\n[retrain]\nnoise = [0.1, 0.5]\nlearning_rate = [0.01, 0.1]\nshrinkage = [0.2, 0.4]'
    )
    found = [point.values for point in points(swept, Settings())]
    rates, key = (0.01, 0.1), "retrain.learning_rate"
    assert found == [
        *({"method": "crt", key: rate} for rate in rates),
        *({"method": "crt+noise", "retrain.noise": noise, key: rate} for noise in (0.1, 0.5) for rate in rates),
        *({"method": "lda", "retrain.shrinkage": value} for value in (0.2, 0.4)),
    ]


def test_a_point_has_the_settings_of_its_place(written):
    swept = written(
        "seed = [3]\n[retrain]\nhead = ['lws', 'generalized']\naugmentation = 'noise'\nnoise = 0.2\n[stg]\nmemory=[600]"
    )
    found = points(swept, Settings())
    assert [(point.settings.retrain.head, point.settings.seed) for point in found] == [("lws", 3), ("generalized", 3)]
    assert {point.settings.retrain.noise for point in found} == {0.2}
    assert str(found[0]) == "retrain.head=lws"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "[retrain]\ntest_views = [1, 4]",
            "retrain.test_views: wanted one value, found 1, 4: figures of different numbers of views are not comparable; make a "
            "sweep of each",
        ),
        ("[retrain]\nnoise = []", "retrain.noise: wanted one value at least, found an empty list"),
        (
            "[retrain]\nnoise = { from = 2, to = 1 }",
            "retrain.noise: wanted from <= to, a step above 0, and steps for a log scale, found {'from': 2, 'to': 1}",
        ),
        (
            "[retrain]\nnoise = { from = 0, to = 1, steps = 3, scale = 'log' }",
            'retrain.noise: wanted scale = "linear", or "log" between positive numbers, '
            "found {'from': 0, 'to': 1, 'steps': 3, 'scale': 'log'}",
        ),
        (
            "[retrain]\nnoise = { from = 0, to = 1, steps = 1000000000000 }",
            f"retrain.noise: steps: wanted a whole number from 1 to {MOST_POINTS}, found 1000000000000",
        ),
        (
            "[retrain]\nnoise = { from = 0, to = 1, steps = -3 }",
            f"retrain.noise: steps: wanted a whole number from 1 to {MOST_POINTS}, found -3",
        ),
        (
            "[retrain]\nnoise = { from = nan, to = 1 }",
            "retrain.noise: wanted finite numbers, found {'from': nan, 'to': 1}",
        ),
        (
            "[retrain]\nnoise = { from = 0.1, to = 1e308, step = 1e-300 }",
            "wanted at most 10,000 points, found 10,001; try fewer values",
        ),
        ("methods = 'crt'", """methods: wanted a list such as ["crt", "crt+stg"], found 'crt'"""),
        ("cache = 3", "cache: wanted a name in quotes, found 3"),
        (f"seed = {{ from = 0, to = {MOST_POINTS} }}", "wanted at most 10,000 points, found 10,001; try fewer values"),
    ],
)
def test_what_is_wrong_with_a_file(written, tmp_path, text, problem):
    with pytest.raises(ConfigError) as error:
        written(text)
    assert str(error.value) == f"{tmp_path / 'sweep.toml'}: {problem}"


def test_an_axis_that_no_point_uses_is_refused(written, tmp_path):
    with pytest.raises(ConfigError) as error:
        points(
            written("methods = ['ncm', 'crt']\n[retrain]\nstrength = [1.0, 2.0]\nlearning_rate = [0.1, 0.2]"),
            Settings(),
        )
    assert str(error.value) == (
        f"{tmp_path / 'sweep.toml'}: retrain.strength: has no effect here: no point's head and augmentation use it; leave it out"
    )


def test_a_combination_that_does_not_hold_is_named(written, tmp_path):
    swept = written("[retrain]\nhead = ['crt', 'logit-adjusted']\nsampling = ['balanced']")
    with pytest.raises(ConfigError) as error:
        points(swept, Settings())
    assert str(error.value).startswith("at retrain.head=logit-adjusted, retrain.sampling=balanced: ")
    with pytest.raises(ConfigError, match=r"at retrain.nois=0.1: .*unknown key"):
        points(written("[retrain]\nnois = [0.1]"), Settings())
