"""What a worker of a sweep leaves on its disk."""

import subprocess
import sys
from pathlib import Path

from conftest import ROOT


def test_the_caches_that_a_worker_pulled_are_gone_with_it():
    code = "from pipeline.sweeping.work import _stores; print(_stores())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    place = Path(done.stdout.strip())
    assert place.name.startswith("coattail-stores-")
    assert not place.exists()
    assert done.stderr == ""
