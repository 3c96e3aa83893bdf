"""Whole numbers of all stages have upper bounds, so that a recorded 10^9 is refused before memory is taken for it."""

import pytest

from pipeline.errors import ConfigError
from pipeline.settings.load import load
from pipeline.settings.stage1 import Data, Extract, LongTail, Stage1
from pipeline.settings.stage2 import STG
from pipeline.settings.stage3 import Retrain

SECTIONS = {"data": Data, "longtail": LongTail, "stage1": Stage1, "extract": Extract, "stg": STG, "retrain": Retrain}
WHOLE = [
    f"{section}.{name}"
    for section, model in SECTIONS.items()
    for name, field in model.model_fields.items()
    if field.annotation is int
]


def test_there_are_some():
    assert {
        "data.workers",
        "data.image_size",
        "longtail.n_max",
        "stage1.epochs",
        "extract.batch_size",
        "retrain.seeds",
        "stg.memory",
    } <= set(WHOLE)


@pytest.mark.parametrize("name", WHOLE)
def test_every_whole_number_is_bounded(name, tmp_path):
    with pytest.raises(ConfigError, match=rf"^--set: {name}: .*(less than|at most|wanted).*") as error:
        load(overrides=[f"{name}={10**15}"])
    assert "\n" not in str(error.value)
    section, field = name.split(".")
    (tmp_path / "config.toml").write_text(f"[{section}]\n{field} = {10**15}\n")
    with pytest.raises(ConfigError, match=field):
        load(str(tmp_path / "config.toml"))


@pytest.mark.parametrize("text", ["stg.hidden=[1099511627776]", f"stg.hidden={[2.0] * 17}"])
def test_a_generator_has_a_bounded_size(text):
    with pytest.raises(ConfigError, match=r"^--set: stg\.hidden"):
        load(overrides=[text])
