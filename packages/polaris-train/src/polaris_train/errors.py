"""What a user of this package can get wrong."""


class TrainError(Exception):
    """Base of the errors below; the command line prints it as one sentence and exits with 2."""


class RecipeError(TrainError, ValueError):
    """A recipe, stage or override is wrong; all mistakes are reported at once."""


class RunFolderError(TrainError, ValueError):
    """A run folder lacks what a stage needs, or is in use."""
