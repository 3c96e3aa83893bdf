"""What a user of the pipeline can get wrong, one line each: what, wanted, found, where, remedy."""


class PipelineError(Exception):
    """Base of every error that a stage raises for its user; `cli.py` prints it as one line and exits with 1."""


class ConfigError(PipelineError, ValueError):
    """Settings that do not hold: unknown key, wrong type, missing file. `cli.py` exits with 2."""


class DataError(PipelineError, ValueError):
    """Images, labels or classes that a stage cannot work with."""


class LineageError(PipelineError, ValueError):
    """An artefact made from something else than what it is used with."""


class TrainingError(PipelineError, RuntimeError):
    """Training that cannot go on, such as a loss that is not finite."""
