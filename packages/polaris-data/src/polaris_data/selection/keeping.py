"""Rules of a curriculum: keep what has some value in a column, or what is solved neither too rarely nor too often."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

from polaris_data.errors import SettingError
from polaris_data.problems.columns import find, parse_where
from polaris_data.profile.attempts import Attempt, Evidence, pool
from polaris_data.records import Problem

ColumnValues = Mapping[str, Mapping[str, str | None]]
"""The values of some columns as text: by the column's name, then by the problem's id; ``None`` where it has none."""

_SOURCE = "source"
_NUM_SHOWN = 8
"""Values of a column that a message shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Keep what has one of some values in a column, such as the levels of a stage; asks for no evidence."""

    name: ClassVar[str] = "keep"

    column: str
    """``source``, or any other column that the problems brought along."""

    values: tuple[str, ...]
    """As text; at least one."""

    @property
    def reason(self) -> str:
        """Why a problem is out."""
        return f"{self.column} is not {' or '.join(self.values)}"

    def dropped(self, problem_ids: Iterable[str], columns: ColumnValues) -> list[str]:
        """Return the ids that this rule drops; those without a value are among them."""
        found = columns[self.column]
        return [problem_id for problem_id in problem_ids if found[problem_id] not in self.values]

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> "Keep":
        """Read the table of a rule: ``column`` and ``values``.

        Raises:
            SettingError: If something is missing, unknown or of another kind.
        """
        values: Any = data.get("values")
        texts = [str(each) for each in cast("list[Any]", values)] if isinstance(values, list | tuple) else []
        if set(data) != {"column", "values"} or not isinstance(data["column"], str) or not texts:
            raise SettingError(f"{dict(data)!r}; expected 'column' and a list of 'values', or a line keep COLUMN=A,B")
        return cls(column=data["column"], values=tuple(texts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """Keep a band of difficulty: drop what is solved less often than one share or more often than another."""

    name: ClassVar[str] = "between"

    low: float
    """Kept from here, included; from 0 to 1."""

    high: float
    """Kept up to here, included; from ``low`` to 1."""

    by: Literal["mean", "latest"] = "mean"
    """The share of correct completions over all attempts, or in the latest."""

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1:
            raise SettingError(f"low is {self.low!r} and high {self.high!r}; expected shares, 0 <= low <= high <= 1")

    @property
    def reason(self) -> str:
        """Why a problem is out."""
        return f"{self.by} accuracy not between {self.low:g} and {self.high:g}"

    def dropped(self, evidence: Evidence, *, seed: int) -> list[str]:
        """Return the ids that this rule drops."""
        return [each for each, attempts in evidence.items() if not self.low <= self._accuracy(attempts) <= self.high]

    def _accuracy(self, attempts: Sequence[Attempt]) -> float:
        pooled = pool(attempts[-1:] if self.by == "latest" else attempts)
        return pooled.num_correct / pooled.num_samples


def table_of_line(line: str) -> dict[str, Any] | None:
    """Return the table of a rule with a line of its own form: ``keep level=Level 3,Level 4``, and ``accuracy between
    0.1 0.8``, or ``None`` for a line ``NAME SETTING=VALUE ...``.

    Raises:
        SettingError: If such a line is not whole.
    """
    words = line.split()
    if words[:1] == [Keep.name]:
        rest = line.strip().removeprefix(Keep.name).strip()
        try:
            column, values = parse_where(rest)
        except SettingError:
            raise SettingError(f"rule 'keep': {rest!r}; write it as keep COLUMN=VALUE,VALUE") from None
        return {"rule": Keep.name, "column": column.strip(), "values": [value.strip() for value in values]}
    if words[:2] == ["accuracy", "between"]:
        try:
            low, high = map(float, words[2:4])
        except ValueError:
            raise SettingError(f"rule {line!r}: write it as accuracy between LOW HIGH, e.g. 0.1 0.8") from None
        return {"rule": Between.name, "low": low, "high": high} | dict(word.split("=", 1) for word in words[4:])
    return None


class ColumnsAsked:
    """What the problems of a set have in the columns that rules name, collected while the set goes by.

    Attributes:
        values: Of these columns.
    """

    def __init__(self, rules: Iterable[object]) -> None:
        """Collect nothing yet.

        Args:
            rules: Of any kind.
        """
        self._rules = [rule for rule in rules if isinstance(rule, Keep)]
        self._names = {_SOURCE}
        self.values: dict[str, dict[str, str | None]] = {rule.column: {} for rule in self._rules}

    def add(self, problem: Problem) -> None:
        """Note what one problem has."""
        for name, values in self.values.items():
            value = problem.source or None if name == _SOURCE else find(problem.extra, name)
            values[problem.problem_id] = None if value is None else str(value)
        if self._rules:
            self._names.update(problem.extra)

    def check(self) -> list[str]:
        """Return a note on values that no problem has.

        Raises:
            SettingError: If no problem has a column, with those that there are.
        """
        notes: list[str] = []
        for rule in self._rules:
            found = sorted({value for value in self.values[rule.column].values() if value is not None})
            if not found:
                names = ", ".join(map(repr, sorted(self._names)))
                raise SettingError(f"rule 'keep': no problem has a column {rule.column!r}; the columns are {names}")
            if missing := [value for value in rule.values if value not in found]:
                shown = ", ".join(map(repr, found[:_NUM_SHOWN])) + (", ..." if len(found) > _NUM_SHOWN else "")
                notes.append(f"no problem has {rule.column} {' or '.join(map(repr, missing))}; the values are {shown}")
        return notes
