"""`doctor` as a user calls it, and versions against those that the project asks for."""

import tomllib
from pathlib import Path

import pytest
from conftest import ROOT

from pipeline.machine import doctor


def test_a_sound_machine(coattail, tmp_path):
    done = coattail("doctor", "--json", COATTAIL_STORES=str(tmp_path / "s"), COATTAIL_RUNS=str(tmp_path / "r"))
    assert done.code == 0, done.err
    assert done.json["healthy"]
    names = [check["name"] for check in done.json["checks"]]
    assert names[:2] == ["python", "coattail"]
    assert {"torch", "zarr", "polars", "obstore", "device", "threads", "umask", "stores", "runs rename"} < set(names)
    assert not (tmp_path / "s").exists()


def test_what_fails_makes_the_exit_code(coattail, tmp_path):
    (tmp_path / "file").write_text("")
    done = coattail("doctor", COATTAIL_STORES=str(tmp_path / "file" / "s"))
    assert (done.code, done.err) == (1, "")
    lines = [line.strip() for line in done.out.splitlines()]
    at = next(number for number, line in enumerate(lines) if line.startswith("fail"))
    found = f"fail stores {tmp_path}/file/s: cannot be written ({tmp_path}/file is a file)"
    assert lines[at].split() == found.split()
    assert lines[at + 1] == "-> make it writable, or set COATTAIL_STORES to a folder that is"


def test_every_dependency_is_compared(monkeypatch):
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    versions = {one.split(">=")[0]: one.split(">=")[1] for one in wanted}
    versions |= {"numpy": "1.26.4", "torch": "2.10.0+cu130", "polars": "10.0", "zarr": "3.0.8rc1"}
    monkeypatch.setattr(doctor, "version", lambda name: versions[name])
    found = {check.name: check for check in doctor.version_checks()}
    assert set(versions) <= set(found)
    assert [(check.name, check.found, check.remedy) for check in found.values() if check.state == "fail"] == [
        ("numpy", "1.26.4, wanted 2.0 or newer", "pip install 'numpy>=2.0'")
    ]


def test_a_library_that_is_missing(monkeypatch):
    def missing(name):
        raise doctor.PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", missing)
    found = next(check for check in doctor.version_checks() if check.name == "zarr")
    assert (found.state, found.found, found.remedy) == (
        "fail", "not installed, wanted 3.0.8 or newer", "pip install 'zarr>=3.0.8'",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("cores", "wanted", "load", "state"),
    [({0, 1}, None, 0.5, "ok"), ({0, 1}, None, 3.0, "warn"), ({0, 1}, "1", 3.0, "ok"), ({0, 1}, "8", 0.0, "warn")],
)
def test_threads(monkeypatch, cores, wanted, load, state):
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda pid: cores)
    monkeypatch.setattr(doctor.os, "getloadavg", lambda: (load, load, load))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if wanted:
        monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert doctor._threads().state == state


def test_a_device_that_does_not_work(monkeypatch):
    def broken(name):
        raise RuntimeError("CUDA driver version is insufficient\nmore")

    monkeypatch.setattr("pipeline.machine.device.device_of", broken)
    found = doctor._device()
    assert (found.state, found.found) == ("fail", "torch does not work (CUDA driver version is insufficient)")


@pytest.mark.parametrize(("mixes", "state"), [(True, "warn"), (False, "ok")])
def test_a_safetensors_that_mixes_numbers_up(monkeypatch, mixes, state):
    monkeypatch.setattr(doctor, "mixes_up_strided", lambda: mixes)
    check = next(check for check in doctor.diagnose(Path("stores"), Path("runs")) if check.name == "x.T in safetensors")
    assert (check.state, bool(check.remedy)) == (state, mixes)
