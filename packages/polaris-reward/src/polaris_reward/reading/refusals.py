"""Why a text is not read, or not compared."""


class Unreadable(Exception):
    """The text is not in the notation that is understood here."""


class Unsupported(Unreadable):
    """The text uses a command that is not understood here, but may be elsewhere."""


class TooLarge(Exception):
    """The text, or a number in it, passes a bound."""


class TooMuchWork(TooLarge):
    """What it would take passes a bound."""
