"""Threads that wait for work sleep, so that several commands can share a machine; a user's own choice stands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import Blobs, write_cache

from pipeline.machine.threads import NARROW, SHORT_STEP, same_bits, shared_where_long
from pipeline.settings.load import load
from pipeline.stage2_stg import train_stg

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = "import sys, cli, os; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"


@pytest.mark.parametrize(("own", "wanted"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_the_wait_policy(own, wanted):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": own} if own else {}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [wanted, "False"], "set before torch is loaded"


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_a_generator_has_the_same_bits_whatever_the_number_of_threads(tmp_path, threads):
    cache = write_cache(tmp_path / "stores", Blobs(counts=(600, 500, 30), width=64))
    settings = load(overrides=["stg.epochs=2", "stg.head_classes=2"]).settings
    digests = set()
    for count in (1, 2, 3):
        threads(count)
        digests.add(train_stg(settings, cache, tmp_path / str(count))[1].digest)
        assert torch.get_num_threads() == count
    assert len(digests) == 1


@pytest.mark.parametrize(("width", "wanted"), [(NARROW, 1), (NARROW + 1, 2)])
def test_wide_features_keep_their_threads(threads, width, wanted):
    threads(2)
    with same_bits(width):
        assert torch.get_num_threads() == wanted
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("numbers", "wanted"), [(SHORT_STEP, 1), (SHORT_STEP + 1, 2)])
def test_a_short_step_is_not_shared(threads, numbers, wanted):
    threads(2)
    with shared_where_long(numbers):
        assert torch.get_num_threads() == wanted
    assert torch.get_num_threads() == 2
