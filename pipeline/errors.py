"""Errors that the pipeline raises for its users. A message is one line: what is wrong, wanted, found, where, remedy."""


class PipelineError(Exception):
    """Base of every error that a stage raises for its user; `cli.py` prints it as one line and exits with 1."""


class ConfigError(PipelineError, ValueError):
    """Invalid settings: an unknown key, a wrong type, a missing file. `cli.py` exits with 2.

    Each problem is a line of its own.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.lines = problems


class DataError(PipelineError, ValueError):
    """Images, labels or classes that a stage cannot work with."""


class LineageError(PipelineError, ValueError):
    """An artefact is used with a cache or run that it was not made from."""


class TrainingError(PipelineError, RuntimeError):
    """Training that cannot go on, such as a loss that is not finite."""


def out_of_memory(error: BaseException) -> str:
    """The advice for an error that says that the device or the machine ran out of memory; "" for any other error."""
    reason = " ".join(str(error).split()) or "nothing is left"
    # torch's own error by its name: most commands of the cache do without torch.
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if not named and "can't allocate memory" not in reason:
        return ""
    accelerator = type(error).__name__ == "OutOfMemoryError"
    return (
        f"out of memory ({reason[:120]}); raise stage1.accumulate or lower stage1.batch_size; elsewhere lower "
        f"extract.batch_size, retrain.seeds or ram_limit{'; in stages 2 and 3 set device=cpu' if accelerator else ''}"
    )


def line_of(error: BaseException) -> str:
    """An error as one line: the advice of `out_of_memory`, else its text, else its name."""
    return out_of_memory(error) or " ".join(str(error).split()) or type(error).__name__
