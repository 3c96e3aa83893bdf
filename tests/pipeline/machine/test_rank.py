"""Which process of how many this is."""

import pytest

from pipeline.errors import ConfigError
from pipeline.machine import rank as ranks


@pytest.fixture
def environment(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)

    def put(**values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return put


def test_a_process_alone(environment):
    environment(SLURM_PROCID="0", SLURM_NTASKS="4")
    assert (ranks.rank(), ranks.world(), ranks.local_rank()) == (0, 1, 0)
    environment(RANK="", WORLD_SIZE="")
    assert (ranks.rank(), ranks.world()) == (0, 1)


def test_one_of_several(environment):
    environment(RANK="5", WORLD_SIZE="8", LOCAL_RANK="1")
    assert (ranks.rank(), ranks.world(), ranks.local_rank()) == (5, 8, 1)


def test_what_does_not_agree_is_refused(environment):
    environment(RANK="2", WORLD_SIZE="2")
    with pytest.raises(ConfigError) as caught:
        ranks.rank()
    assert str(caught.value) == "RANK=2: wanted 0 to 1, WORLD_SIZE being 2; set both or neither"
    environment(RANK="-1")
    with pytest.raises(ConfigError) as caught:
        ranks.rank()
    assert str(caught.value) == "RANK=-1: wanted a number from 0; unset it, or start with torchrun"
