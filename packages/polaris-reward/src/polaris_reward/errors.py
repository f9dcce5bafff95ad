"""What a user of this package can get wrong; model output is never among it."""


class RewardError(Exception):
    """Base of the errors below; the command line prints it as one sentence and exits with 2."""


class ReferencesError(RewardError, ValueError):
    """References are missing, or are not a string or a list of strings."""


class ResponseError(RewardError, TypeError):
    """A response is not a string: nothing a model wrote, but a missing value for example."""


class SettingsError(RewardError, ValueError):
    """A convention or a grader was given a value that makes no sense."""


class GraderClosedError(RewardError, RuntimeError):
    """A grader was used after it had been closed."""


class WorkerStartError(RewardError, RuntimeError):
    """The worker process cannot start, so that nothing beyond plain numbers can be graded."""


class CircuitBreakerError(RewardError, RuntimeError):
    """Too many answers of a batch timed out or had a rejected reference: rewards would be noise."""


class RowsFileError(RewardError, ValueError):
    """A file of responses or problems is missing, malformed, or empty."""


def brief(value: object, most: int = 60) -> str:
    """Return a value as messages show it: at most so many characters."""
    shown = repr(value)
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."
