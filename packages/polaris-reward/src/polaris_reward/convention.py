"""What counts as an answer, and when it counts as right."""

from dataclasses import dataclass

from polaris_reward.errors import SettingsError

MAX_ANSWER_CHARS = 2_000
"""No hand-written answer comes near; a longer one is an attempt to stall the parser."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """Rules for finding and judging answers."""

    name: str = "default"
    """Name under which results are reported."""

    require_think: bool = False
    """A response without ``</think>`` has no answer, as in the published recipe."""

    require_box: bool = False
    r"""Only ``\boxed{}`` holds an answer; else a final-answer phrase may, or the last value of the text."""

    strict_integers: bool = False
    """A whole number is to be given as a numeral: ``2^{10}`` is not accepted for ``1024``."""

    float_digits: int | None = 15
    """A decimal of at least this many significant digits stands for the number it was printed from."""

    tolerance: float | None = None
    """Largest relative error of a number; ``None`` for none: ``3.14`` is not pi."""

    max_answer_chars: int = MAX_ANSWER_CHARS
    """A longer answer is rejected unread."""

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        if self.max_answer_chars < 1:
            raise SettingsError(f"max_answer_chars is {self.max_answer_chars!r}; give 1 or more")
        if self.tolerance is not None and not 0 <= self.tolerance < 1:
            raise SettingsError(f"tolerance is {self.tolerance!r}; give a relative error from 0 to 1, or None")
        if self.float_digits is not None and self.float_digits < 6:
            raise SettingsError(f"float_digits is {self.float_digits!r}; give 6 or more, or None")


DEFAULT = Convention()
"""Any answer that a reader would find, wherever it stands."""

BOXED = Convention(name="boxed", require_box=True)
"""Only boxes: for training and for prompts that ask for a box."""

POLARIS_V1 = Convention(
    name="polaris-v1", require_think=True, require_box=True, strict_integers=True, float_digits=None
)
"""The published rule: a closed think section, then the last box; with the mathematics right."""

CONVENTIONS = {convention.name: convention for convention in (DEFAULT, BOXED, POLARIS_V1)}
"""The named ones, by name."""

Policy, POLICIES = Convention, CONVENTIONS
"""Earlier names: elsewhere in this field, and in polaris-train, a policy is the model that is trained."""


def convention_named(name: str) -> Convention:
    """Return one of `CONVENTIONS`.

    Raises:
        SettingsError: If there is none of this name.
    """
    if name not in CONVENTIONS:
        raise SettingsError(f"unknown policy {name!r}; choose one of {', '.join(map(repr, CONVENTIONS))}")
    return CONVENTIONS[name]
