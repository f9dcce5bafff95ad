"""Finding a grader by name, so that this package depends on none."""

import importlib
from contextlib import AbstractContextManager
from importlib.metadata import entry_points
from typing import Any

from polaris_rollout.errors import SettingError

ENTRY_POINTS = "polaris_rollout.graders"
"""Entry-point group: a package that carries a grader names a function there, as `open_grader` describes it."""


def open_grader(name: str) -> AbstractContextManager[Any]:
    """Open a grader: a context manager that gives a `polaris_rollout.temperature.measure.GradeMany`.

    Args:
        name: A carried grader such as ``polaris`` (polaris-reward), or ``MODULE:FUNCTION`` where the function takes
            nothing and returns such a context manager.

    Raises:
        SettingError: If there is none of that name.
    """
    carried = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if name in carried:
        return carried[name].load()()
    module, colon, function = name.partition(":")
    if colon:
        try:
            return getattr(importlib.import_module(module), function)()
        except (ImportError, AttributeError) as error:
            raise SettingError(f"--grader {name!r} cannot be loaded: {error}") from error
    raise SettingError(
        f"no grader {name!r}: pip install polaris-reward for 'polaris', or give MODULE:FUNCTION"
        + (f"; carried are {sorted(carried)}" if carried else "")
    )
