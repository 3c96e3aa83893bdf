"""Presets: each row of the paper's tables runs at the settings that its method was published with."""

import pytest
from conftest import Blobs, write_cache

from pipeline.comparing.presets import PRESETS, available_presets, preset_arms, read_preset
from pipeline.errors import ConfigError
from pipeline.settings.files import read_toml
from pipeline.settings.load import load

TABLES = [name for name in available_presets() if name.startswith("paper-")]


def arms_of(name, cache, settings=None):
    arms, _ = preset_arms(read_preset(name), settings or load(overrides=["stg.head_classes=2"]).settings, cache)
    return {arm.name: arm for arm in arms}


@pytest.mark.parametrize("name", TABLES)
def test_every_row_names_a_method_that_there_is(name, cache):
    _, left_out = preset_arms(read_preset(name), load().settings, cache)
    allowed = ("wants a cache whose stage 1 is ", "the cache holds no ")
    assert [lost.reason for lost in left_out if not lost.reason.startswith(allowed)] == []


def test_a_row_has_the_settings_of_its_config(cache):
    arms = arms_of("paper-table4", cache, load(overrides=["retrain.learning_rate=0.5", "retrain.steps=3"]).settings)
    for row, config in (("OLTR", "oltr"), ("OLTR-LFME", "lfme")):
        values = read_toml(PRESETS.parent / "methods" / f"{config}.toml")["retrain"]
        own = arms[row].settings.retrain.model_dump(mode="json")
        assert {name: own[name] for name in values} == values
    assert [row.config for row in read_preset("paper-table4").arm if row.name == "FeatureAug"] == ["feature-aug"]


def test_a_row_may_have_other_settings_at_another_imbalance(stores):
    preset = read_preset("paper-table2")
    smoothing = {}
    for factor in (103, 50, 10):
        cache = write_cache(stores, Blobs(counts=(factor, 5, 1)))
        rows = {row.name: row.model_copy(update={"stage1": None}) for row in preset.arm}
        arms, _ = preset_arms(preset.model_copy(update={"arm": [rows["MiSLAS"]]}), load().settings, cache)
        own = arms[0].settings.retrain
        smoothing[factor] = (own.smoothing_head, own.smoothing_tail, own.classifier_factor)
    assert smoothing == {103: (0.4, 0.1, 0.2), 50: (0.3, 0.0, 0.1), 10: (0.2, 0.0, 0.1)}


def test_a_row_is_a_method_or_a_config(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.comparing.presets.PRESETS", tmp_path)
    (tmp_path / "own.toml").write_text('title = "own"\nbaseline = "crt"\n[[arm]]\nname = "neither"\n')
    with pytest.raises(ConfigError) as error:
        read_preset("own")
    assert str(error.value) == (
        f"{tmp_path / 'own.toml'}: arm.0: Value error, neither: wanted a method, such as crt+stg, or a config, such as mislas; "
        "one of the two"
    )
