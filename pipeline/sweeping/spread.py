"""Where a sweep's tasks are done: in this process, in processes of this machine (joblib), or on a Dask cluster."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import joblib

from pipeline.errors import ConfigError, PipelineError
from pipeline.progress import silently
from pipeline.sweeping.work import Outcome, Task, perform


@dataclass(frozen=True)
class Workers:
    """How many processes, and whose."""

    jobs: int = 1
    backend: str = "joblib"
    scheduler: str | None = None
    """Address of a Dask scheduler, such as tcp://10.0.0.1:8786."""

    @property
    def share_the_disk(self) -> bool:
        return self.backend == "joblib"


def check_workers(workers: Workers) -> None:
    """Raises ConfigError where a scheduler is missing, or Dask is not installed."""
    if workers.backend == "joblib":
        if workers.scheduler is not None:
            raise ConfigError("--scheduler is for --backend dask")
        return
    if workers.scheduler is None:
        raise ConfigError("--backend dask wants --scheduler ADDRESS, such as tcp://10.0.0.1:8786")
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise ConfigError("--backend dask wants Dask, which is not installed; pip install 'coattail[dask]'") from None


def spread(tasks: Sequence[Task], workers: Workers) -> Iterator[tuple[int, list[Outcome]]]:
    """(which task, its outcomes) as they are done, in any order. Closing the iterator stops what has not begun."""
    cores = os.cpu_count() or 1
    if not tasks:
        return
    if workers.share_the_disk and (workers.jobs == 1 or len(tasks) == 1):
        for number, task in enumerate(tasks):
            with silently(len(tasks) > 1):  # of one task, its own progress is shown
                outcomes = perform(task)
            yield number, outcomes
        return
    threads = max(1, cores // workers.jobs) if workers.share_the_disk else 0
    calls = [
        joblib.delayed(_numbered)(perform, number, replace(task, threads=threads)) for number, task in enumerate(tasks)
    ]
    with _backend(workers, threads):
        yield from joblib.Parallel(n_jobs=workers.jobs, return_as="generator_unordered", batch_size=1)(calls)


def _numbered(work: Callable[[Task], list[Outcome]], number: int, task: Task) -> tuple[int, list[Outcome]]:
    with silently():
        return number, work(task)


def _backend(workers: Workers, threads: int) -> AbstractContextManager[object]:
    if workers.share_the_disk:
        return joblib.parallel_config(backend="loky", inner_max_num_threads=threads) if threads else nullcontext()
    from distributed import Client

    try:
        client = Client(workers.scheduler, set_as_default=False, timeout="20s")
    except (OSError, ValueError) as error:
        raise PipelineError(
            f"--scheduler {workers.scheduler}: no Dask scheduler answers there ({error}); start one with `dask scheduler`, and "
            "workers with `dask worker ADDRESS`"
        ) from None
    return joblib.parallel_config(backend="dask", client=client, wait_for_workers_timeout=20)
