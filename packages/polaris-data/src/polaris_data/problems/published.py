"""Pass rates that data sets publish with their problems, as evidence of how hard these are."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from polaris_data.errors import ProblemFileError
from polaris_data.files.journal import claim_output, write_text
from polaris_data.problems.columns import bare_name, find
from polaris_data.problems.reading import content_hash, iterate_problems
from polaris_data.records import Difficulty

_RATE = re.compile(r"(?:solve|pass|success|correct)rate|^(?:mean)?accuracy$|^avgcorrect$")
"""Names of columns that hold a published pass rate, without case and punctuation: ``llama8b_solve_rate``."""

TRIES_COLUMNS = ("num_samples", "num_rollouts", "n_samples", "n_rollouts", "num_generations", "num_attempts", "n")
"""Where the number of tries may stand."""

CORRECT_COLUMNS = ("num_correct", "n_correct", "correct_count", "num_passed", "num_solved")
"""Where the number of solved tries may stand."""


def write_published_profile(path: Path, problems: Path) -> int:
    """Write the pass rates that imported problems bring with them as a profile; see `published_rate`.

    How many answers were truncated and how long they were is not published: both are written as 0.

    Returns:
        How many problems have a published pass rate.

    Raises:
        ProblemFileError: If none has one.
        OtherRunError: If the file belongs to another run.
    """
    settings = {
        "command": "polaris-data import",
        "problems": content_hash(iterate_problems(problems)),
        "published": "difficulty",
    }
    records = [
        Difficulty(
            problem_id=problem.problem_id, num_samples=found[1], num_correct=found[0], num_truncated=0, mean_tokens=0.0
        )
        for problem in iterate_problems(problems)
        if (found := published_rate(problem.extra)) is not None
    ]
    if not records:
        raise ProblemFileError(
            f"{problems}: no problem has a 'difficulty' such as '3/8', or a 'solve_rate' with 'num_samples' beside it, "
            "so there is no profile"
        )
    claim_output(path, settings)
    write_text(path, "".join(json.dumps(asdict(record)) + "\n" for record in records))
    return len(records)


def published_rate(extra: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return how often a problem was solved and in how many tries, as its columns say; ``None`` where they do not.

    ``difficulty`` may be ``3/8``; ``num_correct`` may stand beside ``num_samples``, or the one column of a rate from 0
    to 1 beside the number of tries (`TRIES_COLUMNS`), without which a rate is no evidence. A rate that is no multiple
    of one over that number is rounded to the nearest.
    """
    rates = [value for name, value in extra.items() if _RATE.search(bare_name(name)) and value is not None]
    published = rates[0] if len(rates) == 1 else None
    texts = (str(value) for value in (find(extra, "difficulty"), published))
    if found := next(filter(None, (re.fullmatch(r"(\d+)/(\d+)", text) for text in texts)), None):
        correct, tries = int(found[1]), int(found[2])
    else:
        tries, correct = _number(find(extra, *TRIES_COLUMNS)), _number(find(extra, *CORRECT_COLUMNS))
        rate = _number(published)
        if tries is None or not tries.is_integer():
            return None
        if correct is None and rate is not None and 0 <= rate <= 1:
            correct = round(rate * tries)
        if correct is None or correct != int(correct):
            return None
    return (int(correct), int(tries)) if 0 <= correct <= tries > 0 else None


def _number(value: Any) -> float | None:
    """Return a number that may be written as text."""
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None
