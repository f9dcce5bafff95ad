"""What a user of this package can get wrong."""


class DataError(Exception):
    """Base of the errors below; the command line prints it as one sentence and exits with 2."""


class ProblemFileError(DataError, ValueError):
    """A file of problems or profiles is missing, malformed, or empty."""


class SettingError(DataError, ValueError):
    """An option is out of range."""


class MissingExtraError(DataError, ImportError):
    """A command needs a package that is not installed."""


class OtherRunError(DataError, ValueError):
    """An output belongs to a run with other settings."""
