"""The processes that train one model together under torchrun, and how they exchange values."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.errors import PipelineError, TrainingError
from pipeline.machine.rank import rank, world

PATIENCE = timedelta(hours=1)
"""How long a process waits for the others: the first one measures the test split meanwhile. One that dies is noticed at once."""
_JOINED = count()
WORDS_OF_LOSS = ("gloo", "nccl", "peer", "connection", "timed out", "timeout", "store")


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """A context in which the processes of torchrun can exchange values. For a process alone it does nothing.

    Raises TrainingError where another process is lost.
    """
    if world() == 1:
        yield
        return
    try:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        store, _, _ = next(dist.rendezvous("env://", timeout=PATIENCE))
        # Joined again, processes must not find the addresses of the last time.
        store = dist.PrefixStore(f"coattail/{next(_JOINED)}", store)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank(), world_size=world(), timeout=PATIENCE)
        yield
        dist.destroy_process_group()
    except PipelineError:
        raise
    except RuntimeError as error:
        text = str(error).splitlines()[0]
        if not isinstance(error, dist.DistError) and not any(word in text.lower() for word in WORDS_OF_LOSS):
            raise
        raise TrainingError(
            f"process {rank()} of {world()}: lost another process ({text}); run the same command again, it goes on"
        ) from None


def leads() -> bool:
    """Whether this process writes, prints and logs: the first, or the only one."""
    return rank() == 0


def agree(value: bool, device: torch.device) -> bool:
    """The first process's value, in every process; each must call this at the same point."""
    if world() == 1:
        return value
    decision = torch.tensor([value], dtype=torch.int64, device=device)
    dist.broadcast(decision, src=0)
    return bool(decision.item())


def total(values: Tensor) -> Tensor:
    """The sum over all processes, in every process."""
    if world() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def speaks_first() -> bool:
    """Whether this process is the first of its group to report a failure; the others' would be echoes of it."""
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        store = dist.TCPStore(
            os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timeout=timedelta(seconds=5), is_master=False
        )
        return store.add(f"coattail/failed/{attempt}", 1) == 1
    except (KeyError, ValueError, RuntimeError):
        # Without torchrun's store, which outlives its processes, nobody knows of the others.
        return True
