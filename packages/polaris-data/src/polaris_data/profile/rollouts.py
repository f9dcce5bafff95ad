"""What a profile has drawn and how each answer was graded, kept in one folder.

Needs the extra ``profile``. The completions are the truth: each group is in the store before it is graded, and what is
not in the store was never drawn. The grades are derived from them, the counts of the profile from the grades; where a
kill came in between, what is missing is made up for by grading, and nothing is drawn again.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from polaris_rollout import Group, SamplingParams
from polaris_rollout.store import RolloutStore, read_store
from polaris_rollout.temperature import stored_diversity

from polaris_data.files.journal import Journal
from polaris_data.profile.grades import GRADES_NAME, GradedAnswers, from_record
from polaris_data.profile.lengths import AnswerDiversity
from polaris_data.records import Difficulty

_GRADED_AT_ONCE = 16
"""Groups that are in memory while the grades of an earlier run are made up for."""

Numbered = tuple[int, Group]
"""A group, after the number of its first completion among those of the problem."""


class ProfileRollouts:
    """The completions of one profile and their grades; a context manager, for one writer at a time.

    Attributes:
        folder: Where they are: a `polaris_rollout.store.RolloutStore` with ``grades.jsonl`` in it.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], params: SamplingParams) -> None:
        """Open a folder, and recover what a killed run left.

        Args:
            folder: Created if there is none.
            settings: Of the profile; they claim the folder.
            params: What completions are drawn with.

        Raises:
            StoreError: If the folder belongs to other settings, is being written to, or is damaged.
        """
        self.folder = folder
        self._store = RolloutStore(folder, settings)
        self._params = params
        self._grades = Journal(folder / GRADES_NAME)

    def __enter__(self) -> Self:
        self._store.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._store.__exit__(kind, value, traceback)

    @property
    def problem_ids(self) -> Collection[str]:
        """Problems of which something was drawn."""
        return self._store.finished

    def append(self, first_sample: int, group: Group) -> None:
        """Keep a group that was just drawn; once this returns, a kill cannot lose it."""
        self._store.append(group, self._params, first_sample=first_sample)

    def add_grades(self, graded: Iterable[GradedAnswers]) -> None:
        """Keep the grades of groups that were appended."""
        self._grades.extend([asdict(each) for each in graded])

    def recover(self, grade: Callable[[Sequence[Numbered]], Iterable[GradedAnswers]]) -> list[Difficulty]:
        """Return what is known of every group in the store, grading those of problems whose grades are not all there.

        Grades of what is not in the store are forgotten: it is not a kill that loses completions, but a disk may.
        """
        graded = [from_record(record) for record in self._grades.records]
        num_graded = Counter[str]()
        for each in graded:
            num_graded[each.problem_id] += len(each.outcomes)
        num_drawn = self._store.num_samples
        unsure = {each for each in num_drawn | num_graded if num_drawn[each] != num_graded[each]}
        if unsure:
            graded = [each for each in graded if each.problem_id not in unsure]
            self._grades.replace([asdict(each) for each in graded])
            ungraded = _numbered(read_store(self.folder, problem_ids=unsure))
            while batch := list(islice(ungraded, _GRADED_AT_ONCE)):
                made_up = list(grade(batch))
                self.add_grades(made_up)
                graded += made_up
        return [each.to_difficulty() for each in graded]

    def finish(self, positions: Mapping[str, int]) -> None:
        """Give the grades their name, in the order of the problems."""
        self._grades.finish(lambda record: (positions[record["problem_id"]], record["first_sample"]))


def answer_diversity(folder: Path, profile: Iterable[Difficulty]) -> AnswerDiversity | None:
    """Measure how different the answers of a profile are, of some of its problems; the store is streamed.

    Args:
        folder: With its completions.
        profile: Whose problems are measured.

    Returns:
        ``None`` where too few problems have as many answers as are compared: 4, or 2 where none has 4.

    Raises:
        StoreError: If the store is damaged.
    """
    drawn = {each.problem_id: each.num_samples for each in profile}
    num_samples = 4 if max(drawn.values()) >= 4 else 2
    enough = [problem_id for problem_id, drawn_of_it in drawn.items() if drawn_of_it >= num_samples]
    found = stored_diversity(folder, enough, num_samples=num_samples)
    if found is None:
        return None
    expected = found.expected
    return AnswerDiversity(
        value=expected.value,
        low=expected.low,
        high=expected.high,
        published=found.published if len(set(drawn.values())) == 1 else None,
        num_problems=found.num_problems,
        num_samples=found.num_samples,
        num_tokens=found.num_tokens,
    )


def _numbered(groups: Iterable[Group]) -> Iterator[Numbered]:
    num_before = Counter[str]()
    for group in groups:
        yield num_before[group.problem_id], group
        num_before[group.problem_id] += len(group.completions)
