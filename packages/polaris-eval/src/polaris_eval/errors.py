"""What a user of this package can get wrong."""


class EvalError(Exception):
    """Base of the errors below; the command line prints it as one sentence and exits with 2."""


class SettingError(EvalError, ValueError):
    """A setting of an evaluation is outside what it can be."""


class BenchmarkError(EvalError, ValueError):
    """A benchmark is unknown, cannot be had, or is named twice."""


class UnscorableError(EvalError, ValueError):
    """No problem of a benchmark has a reference that the grader can read."""


class ScoresFileError(EvalError, ValueError):
    """There are no scores at a place, or they cannot be read."""


class MixedProblemsError(EvalError, ValueError):
    """Two evaluations are of different problems."""


class CompletionsFileError(EvalError, ValueError):
    """A file of completions from elsewhere cannot be used."""
