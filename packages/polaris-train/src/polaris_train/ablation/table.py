"""The rows of an ablation: what each arm scores, and what it changes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polaris_train.ablation.arms import BASELINE, Arm
from polaris_train.ablation.contrast import Contrast, Table, contrast
from polaris_train.ablation.results import RunResult, Shares


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An arm on a benchmark."""

    arm: Arm

    mean: Contrast
    """``mean@k``."""

    to_plain: Contrast | None
    """Minus plain GRPO or, where a recipe declares its arms, the first model."""

    before: Arm | None
    """The nearest arm before it that was run."""

    to_before: Contrast | None
    """Minus that arm."""

    yarn: Contrast | None
    """``mean@k`` of the same models with YaRN."""

    to_yarn: Contrast | None
    """What YaRN changes."""


def arm_tables(known: Mapping[str, Arm], results: Mapping[str, Sequence[RunResult]]) -> dict[str, list[Row]]:
    """Return the rows of each benchmark, the first model's before all.

    Args:
        known: The arms by name, in the order of the table.
        results: Of those that were run.
    """
    first = next(iter(results.values()))[0]
    return {name: list(_rows(name, known, results)) for name in first.final}


def reference(known: Mapping[str, Arm]) -> Arm:
    """Return the arm that every other is compared with."""
    return known.get("plain", BASELINE)


def _rows(benchmark: str, known: Mapping[str, Arm], results: Mapping[str, Sequence[RunResult]]) -> Iterator[Row]:
    problems = _scored(benchmark, results)
    finals = {name: _table([run.final for run in runs], benchmark, problems) for name, runs in results.items()}
    finals[BASELINE.name] = _table([run.start for run in next(iter(results.values()))], benchmark, problems)
    against = finals.get(reference(known).name)
    yield Row(
        arm=BASELINE,
        mean=contrast(finals[BASELINE.name]),
        to_plain=None,
        before=None,
        to_before=None,
        yarn=None,
        to_yarn=None,
    )
    for name in (name for name in known if name in results):
        arm, own = known[name], finals[name]
        before = _before(arm, known, results)
        read_out = [run.yarn for run in results[name] if run.yarn is not None]
        longer = _table(read_out, benchmark, problems) if len(read_out) == len(own) else None
        yield Row(
            arm=arm,
            mean=contrast(own),
            to_plain=contrast(own, against) if against is not None and name != "plain" else None,
            before=before,
            to_before=None if before is None else contrast(own, finals[before.name]),
            yarn=None if longer is None else contrast(longer),
            to_yarn=None if longer is None else contrast(longer, own),
        )


def _scored(benchmark: str, results: Mapping[str, Sequence[RunResult]]) -> list[str]:
    """Return the problems that every evaluation scored."""
    runs = [run for each in results.values() for run in each]
    shares = [found[benchmark] for run in runs for found in (run.start, run.final, run.yarn) if found is not None]
    return [problem for problem in shares[0] if all(problem in each for each in shares)]


def _table(shares: Sequence[Shares], benchmark: str, problems: Sequence[str]) -> Table:
    return [[each[benchmark][problem] for problem in problems] for each in shares]


def _before(arm: Arm, known: Mapping[str, Arm], results: Mapping[str, Any]) -> Arm | None:
    name = arm.before
    while name is not None and name not in results:
        name = known[name].before
    return None if name is None else known[name]


def found(difference: Contrast | None) -> str:
    """Say what a difference shows, by its interval over seeds."""
    if difference is None or difference.seeds is None:
        return ""
    low, high = difference.seeds
    return "helps" if low > 0 else "harms" if high < 0 else "not shown"
