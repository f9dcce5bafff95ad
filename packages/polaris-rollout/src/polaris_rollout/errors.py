"""What a user of this package can get wrong."""


class RolloutError(Exception):
    """Base of the errors below; the command line prints it as one sentence and exits with 2."""


class EngineMissingError(RolloutError, ImportError):
    """No sampling engine is installed."""


class ModelError(RolloutError, ValueError):
    """A model folder cannot be used."""


class PromptTooLongError(RolloutError, ValueError):
    """Prompts leave no room for an answer within the context."""


class StoreError(RolloutError, ValueError):
    """An output folder holds something else."""


class SettingError(RolloutError, ValueError):
    """An option is out of range."""


class EndpointError(RolloutError, ConnectionError):
    """A server cannot be used, or none is left."""


class ParityError(RolloutError, ArithmeticError):
    """An engine's log-probabilities are not those of the model it is said to hold."""


class EngineDiedError(RolloutError, RuntimeError):
    """A process that held an engine has ended."""
