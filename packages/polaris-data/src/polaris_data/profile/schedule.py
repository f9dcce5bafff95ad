"""Which problem is sampled next, and which has been sampled enough.

With a `Settling`, the problems are put into a random but fixed order and cut into cohorts, each several times larger
than the one before. The rule of a cohort is fitted to the final counts of all cohorts before it, in the first one
sampling stops only where it makes no difference. So the samples of a problem depend on the counts alone, never on
the order in which answers arrive, and a run that was killed ends with the same profile.

An engine is kept busy meanwhile: the first samples are drawn of every problem, whatever its rule will be, while
those on which a rule depends go first.
"""

import hashlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from polaris_data.errors import SettingError
from polaris_data.profile.adaptive import Cell, Settling, fit_population, settled_cells
from polaris_data.records import Difficulty

FIRST_COHORT = 128
"""Problems whose sampling stops only where it makes no difference, and to which the first rule is fitted."""

GROWTH = 8
"""Problems of one cohort and all before it, to those of the cohorts before it."""


@dataclass(slots=True)
class _Cohort:
    num_open: int
    """Problems that are not settled."""

    sampled: list[str] = field(default_factory=list[str])
    """Problems whose counts have changed and were not looked at."""


class Schedule:
    """Hands out problems to be sampled and takes what came of it.

    Attributes:
        tallies: What is known of each problem that was sampled.
        at_a_time: Samples that are drawn of a problem before its counts are looked at.
        settled: Problems that needed no more samples when the schedule was made.
    """

    def __init__(
        self,
        problem_ids: Sequence[str],
        *,
        num_samples: int,
        settling: Settling | None = None,
        drawn: Iterable[Difficulty] = (),
    ) -> None:
        """Plan the sampling of distinct problems.

        Args:
            problem_ids: In the order in which they are sampled, unless they are sampled adaptively.
            num_samples: Samples of each problem, or with ``settling`` the most of them.
            settling: When to stop early; ``None`` draws all samples of a problem at once.
            drawn: What earlier runs drew of these problems, any number of records for each.

        Raises:
            SettingError: If ``num_samples`` is not positive, or no multiple of those drawn at a time.
        """
        self.at_a_time = settling.at_a_time if settling else num_samples
        if num_samples < 1:
            raise SettingError(f"num_samples is {num_samples}; give 1 or more")
        if num_samples % self.at_a_time:
            raise SettingError(
                f"{num_samples} samples cannot be drawn {self.at_a_time} at a time; give a divisor of it"
            )
        self._num_samples, self._settling = num_samples, settling
        self.tallies: dict[str, Difficulty] = {}
        for each in drawn:
            self._count(each)
        self._settled_cells: Counter[Cell] = Counter()
        self._rule = settled_cells(num_samples, settling or Settling(error=0), None)
        self._cohorts: deque[_Cohort] = deque()
        self._cohort_of: dict[str, _Cohort] = {}
        self._queue: deque[str] = deque()
        for members in _in_cohorts(problem_ids) if settling else [problem_ids]:
            cohort = _Cohort(len(members), [each for each in members if each in self.tallies])
            self._cohorts.append(cohort)
            self._cohort_of |= dict.fromkeys(members, cohort)
            self._queue.extend(each for each in members if each not in self.tallies)
        self.settled = self._look()

    def __bool__(self) -> bool:
        """Whether a problem waits to be sampled."""
        return bool(self._queue)

    def draw(self) -> Iterator[str]:
        """Hand out problems until none waits; one that comes back unsettled meanwhile is handed out again."""
        while self._queue:
            yield self._queue.popleft()

    def add(self, drawn: Difficulty) -> list[Difficulty]:
        """Take what was drawn of a problem, and return the problems that are settled by it."""
        self._count(drawn)
        self._cohort_of[drawn.problem_id].sampled.append(drawn.problem_id)
        return self._look()

    def _count(self, drawn: Difficulty) -> None:
        earlier = self.tallies.get(drawn.problem_id)
        self.tallies[drawn.problem_id] = pooled(earlier, drawn) if earlier else drawn

    def _look(self) -> list[Difficulty]:
        """Settle what the rules so far can settle, and queue the rest of the first open cohort."""
        settled: list[Difficulty] = []
        while self._cohorts:
            cohort = self._cohorts[0]
            while cohort.sampled:
                problem_id = cohort.sampled.pop()
                tally = self.tallies[problem_id]
                if (cell := (tally.num_samples, tally.num_correct)) in self._rule:
                    self._settled_cells[cell] += 1
                    cohort.num_open -= 1
                    settled.append(tally)
                elif len(self._cohorts) > 1:  # A later rule depends on it.
                    self._queue.appendleft(problem_id)
                else:
                    self._queue.append(problem_id)
            if cohort.num_open:
                break
            self._cohorts.popleft()
            if self._cohorts and self._settling:
                population = fit_population(self._settled_cells)
                self._rule = settled_cells(self._num_samples, self._settling, population)
        return settled


def pooled(one: Difficulty, other: Difficulty) -> Difficulty:
    """Return what two sets of samples say about the same problem together."""
    num_samples = one.num_samples + other.num_samples
    return Difficulty(
        problem_id=one.problem_id,
        num_samples=num_samples,
        num_correct=one.num_correct + other.num_correct,
        num_truncated=one.num_truncated + other.num_truncated,
        mean_tokens=(_num_tokens(one) + _num_tokens(other)) / num_samples,
    )


def _num_tokens(difficulty: Difficulty) -> int:
    """Return a whole number again, exact as far as integers are exact in floats."""
    return round((difficulty.mean_tokens or 0.0) * difficulty.num_samples)


def _in_cohorts(problem_ids: Sequence[str]) -> Iterator[list[str]]:
    """Cut the problems into cohorts, each a random choice that depends on nothing but the ids."""
    shuffled = sorted(problem_ids, key=lambda each: hashlib.blake2b(each.encode(), digest_size=8).digest())
    start, end = 0, FIRST_COHORT
    while start < len(shuffled):
        yield shuffled[start:end]
        start, end = end, end * GROWTH
