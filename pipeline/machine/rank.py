"""Which process of how many this is: RANK, WORLD_SIZE and LOCAL_RANK, as torchrun sets them or a batch script may. Pure.

SLURM's own variables are not read: a script that sbatch starts has SLURM_NTASKS set though it runs once.
`RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS LOCAL_RANK=$SLURM_LOCALID` under srun says the same to everybody.
"""

import os

from pipeline.errors import ConfigError


def rank() -> int:
    """0 to `world()` - 1; 0 for a process alone. Raises ConfigError for variables that do not agree."""
    number = _number("RANK", 0)
    if number >= world():
        raise ConfigError(f"RANK={number}: wanted 0 to {world() - 1}, WORLD_SIZE being {world()}; set both or neither")
    return number


def world() -> int:
    """How many processes share the work; 1 for a process alone. Raises ConfigError where it is no number."""
    return max(1, _number("WORLD_SIZE", 1))


def local_rank() -> int:
    """Which of this machine's processes, and so which of its accelerators. Raises ConfigError where it is no number."""
    return _number("LOCAL_RANK", 0)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(f"{name}={text}: wanted a number from 0; unset it, or start with torchrun")
    return int(text)
