"""The rows of an ablation: what each arm scores, and what it changes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polaris_train.ablation.arms import ARMS, Arm
from polaris_train.ablation.contrast import Contrast, Table, contrast
from polaris_train.ablation.results import RunResult, Shares


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An arm on a benchmark."""

    arm: Arm

    mean: Contrast
    """``mean@k``."""

    to_plain: Contrast | None
    """Minus plain GRPO."""

    before: Arm | None
    """The nearest arm before it that was run."""

    to_before: Contrast | None
    """Minus that arm."""

    yarn: Contrast | None
    """``mean@k`` of the same models with YaRN."""

    to_yarn: Contrast | None
    """What YaRN changes."""


def arm_tables(results: Mapping[str, Sequence[RunResult]]) -> dict[str, list[Row]]:
    """Return the rows of each benchmark."""
    first = next(iter(results.values()))[0]
    return {name: list(_rows(name, results)) for name in first.final}


def _rows(benchmark: str, results: Mapping[str, Sequence[RunResult]]) -> Iterator[Row]:
    problems = _scored(benchmark, results)
    finals = {name: _table([run.final for run in runs], benchmark, problems) for name, runs in results.items()}
    for name in (name for name in ARMS if name in results):
        arm, own = ARMS[name], finals[name]
        before = _before(arm, results)
        read_out = [run.yarn for run in results[name] if run.yarn is not None]
        longer = _table(read_out, benchmark, problems) if len(read_out) == len(own) else None
        yield Row(
            arm=arm,
            mean=contrast(own),
            to_plain=contrast(own, finals["plain"]) if "plain" in finals and name != "plain" else None,
            before=before,
            to_before=None if before is None else contrast(own, finals[before.name]),
            yarn=None if longer is None else contrast(longer),
            to_yarn=None if longer is None else contrast(longer, own),
        )


def _scored(benchmark: str, results: Mapping[str, Sequence[RunResult]]) -> list[str]:
    """Return the problems that every evaluation scored."""
    runs = [run for each in results.values() for run in each]
    shares = [found[benchmark] for run in runs for found in (run.final, run.yarn) if found is not None]
    return [problem for problem in shares[0] if all(problem in each for each in shares)]


def _table(shares: Sequence[Shares], benchmark: str, problems: Sequence[str]) -> Table:
    return [[each[benchmark][problem] for problem in problems] for each in shares]


def _before(arm: Arm, results: Mapping[str, Any]) -> Arm | None:
    name = arm.before
    while name is not None and name not in results:
        name = ARMS[name].before
    return None if name is None else ARMS[name]


def found(difference: Contrast | None) -> str:
    """Say what a difference shows, by its interval over seeds."""
    if difference is None or difference.seeds is None:
        return ""
    low, high = difference.seeds
    return "helps" if low > 0 else "harms" if high < 0 else "not shown"
