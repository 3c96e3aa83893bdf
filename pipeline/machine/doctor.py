"""Whether this machine can run the stages: versions, device, threads, and the folders of caches and runs."""

import os
import platform
import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from cache.disk.doctor import Check, folder_checks, umask_check
from cache.exchange.formats.safetensors_files import mixes_up_strided
from pipeline.artefacts.authorship import coattail_version
from pipeline.settings.files import CONFIGS

PYTHON = "3.11"
REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*>=\s*([0-9.]+)")


def diagnose(stores: Path, runs: Path) -> list[Check]:
    """Every check; those of the machine first, then the folders'."""
    folders = [*folder_checks("stores", stores), *folder_checks("runs", runs)]
    return [*version_checks(), _safetensors(), _device(), _threads(), umask_check(), *folders]


def version_checks() -> list[Check]:
    """Python, coattail and each library that it asks for, against the lowest version that it works with."""
    running = platform.python_version()
    python = _compared("python", running, PYTHON, f"install Python {PYTHON} or newer")
    return [python, Check("coattail", "ok", coattail_version()), *(_library(*pair) for pair in _requirements())]


def document(checks: list[Check]) -> dict[str, Any]:
    """What `--json` prints; `healthy` where nothing failed."""
    return {"healthy": not failed(checks), "checks": [vars(check) for check in checks]}


def failed(checks: list[Check]) -> bool:
    """Whether something essential is not there."""
    return any(check.state == "fail" for check in checks)


def text(checks: list[Check]) -> str:
    """A line a check, and the remedy under what is not well."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.state:<4}  {check.name:<{width}}  {check.found}")
        lines += [f"{'':<4}  {'':<{width}}  -> {check.remedy}"] if check.remedy else []
    return "\n".join(lines)


def _requirements() -> list[tuple[str, str]]:
    """Names and lower bounds: the project file's beside the source, else the installed distribution's."""
    project = CONFIGS.parent / "pyproject.toml"
    if project.is_file():
        wanted = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
    else:
        try:
            wanted = [line for line in requires("coattail") or [] if "extra ==" not in line]
        except PackageNotFoundError:
            return []
    return [(match[1], match[2]) for match in map(REQUIREMENT.match, wanted) if match]


def _library(name: str, wanted: str) -> Check:
    remedy = f"pip install '{name}>={wanted}'"
    try:
        return _compared(name, version(name), wanted, remedy)
    except PackageNotFoundError:
        return Check(name, "fail", f"not installed, wanted {wanted} or newer", remedy)


def _compared(name: str, installed: str, wanted: str, remedy: str) -> Check:
    if _numbers(installed) < _numbers(wanted):
        return Check(name, "fail", f"{installed}, wanted {wanted} or newer", remedy)
    return Check(name, "ok", installed)


def _numbers(text: str) -> tuple[int, ...]:
    """The numbers of a release: `2.14.1+cu130` -> (2, 14, 1). Zeros at the end are dropped, so 2.10.0 equals 2.10."""
    match = re.match(r"\d+(\.\d+)*", text)
    numbers = [int(part) for part in match[0].split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _device() -> Check:
    """Whether the accelerator that stage 1 would use multiplies matrices correctly. A machine with a CPU alone passes."""
    try:
        import torch

        from pipeline.machine.device import device_of

        device = device_of("auto")
        square = torch.ones(8, 8, device=device)
        if float((square @ square).sum()) != 512.0:
            return Check("device", "fail", f"{device}: 8x8 ones multiplied give a wrong product", "use another device")
    except Exception as error:  # a broken driver or library raises whatever it likes
        reason = str(error).split("\n")[0] or type(error).__name__
        return Check("device", "fail", f"torch does not work ({reason})", "reinstall torch for this machine's driver")
    if device.type == "cpu":
        return Check("device", "ok", "cpu: stages 2 and 3 want no more; stage 1 on large images wants an accelerator")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return Check("device", "ok", f"{device}: {name}")


def _safetensors() -> Check:
    """Whether safetensors.numpy writes arrays that are not contiguous correctly. coattail itself writes no such arrays."""
    if not mixes_up_strided():
        return Check("x.T in safetensors", "ok", "written as it is")
    text = "safetensors.numpy mixes up the numbers of arrays that are not contiguous (x.T, x[:, ::2])"
    return Check("x.T in safetensors", "warn", text, "save np.ascontiguousarray(x) where you write features yourself")


def _threads() -> Check:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS")
    threads = f"{usable} cores, {f'OMP_NUM_THREADS={wanted}' if wanted else 'OMP_NUM_THREADS not set'}"
    if wanted and wanted.isdecimal() and int(wanted) > usable:
        return Check("threads", "warn", threads, f"export OMP_NUM_THREADS={usable}: more threads than cores are slower")
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if not wanted and busy > usable:
        return Check("threads", "warn", f"{threads}, load {busy:.1f}", "on a busy machine: export OMP_NUM_THREADS=1")
    return Check("threads", "ok", threads)
