"""Settings: every problem at once, exact texts, and the origin of each value."""

import tomllib

import pytest

from pipeline.errors import ConfigError
from pipeline.settings import Settings
from pipeline.settings.files import CONFIGS, available, methods, to_toml
from pipeline.settings.load import load
from pipeline.settings.method_names import stage1_method
from pipeline.settings.register import HEADS


def _problems(*args, **kwargs):
    with pytest.raises(ConfigError) as error:
        load(*args, **kwargs)
    return str(error.value).splitlines()


@pytest.mark.parametrize("name", ["digits-lt", "cifar10-lt", "cifar100-lt", "imagenet-lt", "places-lt"])
def test_every_config_loads_and_carries_its_name(name):
    assert name in available()
    assert load(name).settings.name == name


def test_paper_settings_are_the_defaults_for_cifar():
    settings = load("cifar10-lt").settings
    assert (settings.stage1.epochs, settings.stage1.learning_rate, settings.stage1.weight_decay) == (200, 0.1, 2e-4)
    assert [share * settings.stage1.epochs for share in settings.stage1.milestones] == [160, 180]
    assert (settings.stg.learning_rate, settings.stg.memory) == (1e-3, 1200)
    assert (settings.retrain.strength, settings.retrain.threshold, settings.retrain.learning_rate) == (1.5, 0.5, 1e-3)
    assert load("cifar100-lt").settings.retrain.learning_rate == 1e-4


@pytest.mark.parametrize("method", methods())
def test_every_method_goes_with_every_config_and_changes_its_own_keys(method):
    path = CONFIGS / "methods" / f"{method}.toml"
    own = tomllib.loads(path.read_text())
    for name in available():
        resolved = load(f"{name}+{method}")
        assert resolved.settings.name == name
        for section, values in own.items():
            for key, value in values.items():
                found = getattr(getattr(resolved.settings, section), key)
                assert (list(found) if isinstance(found, tuple) else found) == value
                assert resolved.origins[f"{section}.{key}"] == str(path)
        assert resolved.settings.data == load(name).settings.data


@pytest.mark.parametrize(
    "method",
    [
        "ce",
        "mixup",
        "ce-drw",
        "focal-drw",
        "ldam-drw",
        "remix-drw",
        "mixup-drw",
        "bbn",
        "cutmix",
        "ce-cb",
        "mixup+label-smoothing+trivialaugment+cutout+sam+ema+weight-decay",
        "ce+randaugment+swa",
        "balanced-softmax+sam",
    ],
)
def test_a_method_s_name_is_the_one_in_metrics(method):
    assert stage1_method(load(f"cifar10-lt+{method}").settings) == method


@pytest.mark.parametrize("config", ["cifar100-lt", "imagenet-lt"])
def test_strong_is_short_for_its_three_methods(config):
    assert load(f"{config}+strong").settings == load(f"{config}+balanced-softmax+trivialaugment+weight-decay").settings


def test_methods_are_put_one_over_the_other_and_set_over_all():
    stage1 = load("imagenet-lt+ldam-drw+sam", ["stage1.ldam_margin=0.3"]).settings.stage1
    assert (stage1.loss, stage1.sam_rho, stage1.ldam_margin, stage1.epochs) == ("ldam", 0.05, 0.3, 180)


def test_a_method_goes_with_one_s_own_file_even_below_a_plus(tmp_path):
    (tmp_path / "c++").mkdir()
    path = tmp_path / "c++" / "own.toml"
    path.write_text("[stage1]\nepochs = 3\n")
    stage1 = load(f"{path}+bbn").settings.stage1
    assert (stage1.epochs, stage1.milestones) == (3, (0.6, 0.8))
    assert load(str(path)).settings.stage1.mixing == "mixup"


def test_dots_in_a_value_are_no_key(tmp_path):
    name = ".".join("abcdefghijkl")
    (tmp_path / "own.toml").write_text(f'[data]\nsource = "folder"\ntrain = "{name}"  # {name}\n')
    assert load(str(tmp_path / "own.toml")).settings.data.train == str(tmp_path / name)


def test_unknown_method():
    assert _problems("cifar10-lt+ldam-dwr") == [
        f"method 'ldam-dwr': no such method; did you mean ldam-drw? wanted one of: {', '.join(methods())}"
    ]


def test_unknown_key_names_the_closest():
    assert _problems(overrides=["stage1.epoch=20"]) == [
        "--set: stage1.epoch: unknown key, found 20; did you mean stage1.epochs?"
    ]


def test_key_without_its_section_is_found():
    assert _problems(overrides=["strength=2"]) == [
        "--set: strength: unknown key, found 2; did you mean retrain.strength?"
    ]


def test_unknown_key_unlike_any():
    assert _problems(overrides=["stage1.qqqqqq=1"]) == [
        "--set: stage1.qqqqqq: unknown key, found 1; `config show` lists the keys"
    ]


def test_wrong_type_names_file_key_wanted_and_found(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text('[stage1]\nepochs = "twenty"\n')
    assert _problems(str(path)) == [f"{path}: stage1.epochs: wanted a valid integer, found 'twenty'"]


def test_every_problem_is_reported_at_once(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text("[stage1]\nepochs = -1\nlr = 1\n[retrain]\nstrength = nan\n")
    found = _problems(str(path), ["retrain.head=svm", "no-equals-sign"])
    heads = [f"'{name}'" for name in HEADS]
    assert found == [
        "--set no-equals-sign: wanted section.key=value, such as stage1.epochs=20",
        f"{path}: stage1.epochs: wanted greater than or equal to 0, found -1",
        f"{path}: stage1.lr: unknown key, found 1; did you mean stage1.learning_rate?",
        f"--set: retrain.head: wanted {', '.join(heads[:-1])} or {heads[-1]}, found 'svm'",
        f"{path}: retrain.strength: wanted a finite number, found nan",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("retrain.tau=-1", "wanted 'auto' or a number greater than or equal to 0, found -1"),
        ("retrain.l2=0", "wanted 'auto' or a number greater than 0, found 0"),
        ("retrain.shrinkage=1.5", "wanted 'auto' or a number less than or equal to 1, found 1.5"),
        ("retrain.transfer=likely", "wanted 'auto' or a valid number, found 'likely'"),
        ("retrain.l2=nan", "wanted 'auto' or a finite number, found nan"),
    ],
)
def test_a_strength_is_a_number_or_auto(text, problem):
    assert _problems(overrides=[text]) == [f"--set: {text.partition('=')[0]}: {problem}"]
    key = text.partition("=")[0].rpartition(".")[2]
    assert getattr(load(overrides=[f"retrain.{key}=auto"]).settings.retrain, key) == "auto"
    assert getattr(load(overrides=[f"retrain.{key}=0.5"]).settings.retrain, key) == 0.5


def test_missing_config_file():
    names = ", ".join(available())
    assert _problems("no/such.toml") == [
        f"config file no/such.toml: no such file; give a path to a TOML file or one of: {names}"
    ]


def test_misspelt_config_name():
    assert _problems("cifar10lt")[0].startswith("config 'cifar10lt': no such name; did you mean cifar10-lt? wanted one")


def test_broken_toml_names_file_and_line(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text("[stage1\n")
    assert _problems(str(path))[0].startswith(f"config file {path}: not valid TOML: ")
    assert "line 1" in _problems(str(path))[0]


def test_overlapping_groups():
    assert _problems(overrides=["longtail.many_above=100", "longtail.few_below=500"]) == [
        "settings: longtail.few_below must not exceed longtail.many_above + 1, or a class is both many and few"
    ]


def test_origins_name_file_option_and_default(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text("[stage1]\nepochs = 3\nbatch_size = 8\n")
    resolved = load(str(path), ["stage1.batch_size=16"], seed=7)
    assert resolved.settings.stage1.batch_size == 16
    assert resolved.origins["stage1.epochs"] == str(path)
    assert resolved.origins["stage1.batch_size"] == "--set"
    assert resolved.origins["seed"] == "--seed"
    assert "stage1.momentum" not in resolved.origins


@pytest.mark.parametrize("name", [None, *["digits-lt", "places-lt"]])
def test_written_settings_read_back_equal(name, tmp_path):
    settings = load(name).settings
    path = tmp_path / "again.toml"
    path.write_text(to_toml(settings))
    assert load(str(path)).settings == settings
    assert Settings.model_validate(tomllib.loads(to_toml(settings, load(name).origins))) is not None


def test_text_with_quotes_survives_writing(tmp_path):
    settings = load(overrides=['data.train=/a "b"/ü\\c']).settings
    path = tmp_path / "again.toml"
    path.write_text(to_toml(settings))
    assert load(str(path)).settings.data.train == '/a "b"/ü\\c'
