"""The command line within this process: quicker than a process of its own, and with the streams one wants."""

import io
import json
import signal
import sys
from dataclasses import dataclass

import pytest

import cli


@dataclass(frozen=True)
class Ended:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        return json.loads(self.out)


def run(patch: pytest.MonkeyPatch, *arguments: str, encoding: str = "utf-8") -> Ended:
    """Call `coattail` with streams of this encoding, strict as a terminal's; what `cli.main` does not catch goes on."""
    streams = {
        name: io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True) for name in ("stdout", "stderr")
    }
    before = signal.getsignal(signal.SIGTERM)
    code: object = 0
    with patch.context() as inner:
        inner.setattr(sys, "argv", ["coattail", *arguments])
        for name, stream in streams.items():
            inner.setattr(sys, name, stream)
        try:
            cli.main()
        except SystemExit as stopped:
            code = stopped.code
        finally:
            signal.signal(signal.SIGTERM, before)
    texts = [stream.buffer.getvalue().decode(encoding) for stream in streams.values()]
    return Ended(int(code or 0), *texts)
