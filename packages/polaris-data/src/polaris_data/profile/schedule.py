"""Which problem is sampled next, and which has been sampled enough.

The samples of a problem depend on its own counts alone, never on the order in which answers arrive, and a run that was
killed ends with the same profile.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from polaris_data.errors import SettingError
from polaris_data.profile.adaptive import Settling, settled_cells
from polaris_data.records import Difficulty


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
            problem_ids: In the order in which they are first sampled.
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
        self.tallies: dict[str, Difficulty] = {}
        for each in drawn:
            self._count(each)
        self._settled_cells = settled_cells(num_samples, settling or Settling())
        self.settled = [tally for problem_id, tally in self.tallies.items() if self._is_settled(problem_id)]
        settled_ids = {each.problem_id for each in self.settled}
        left = [each for each in problem_ids if each not in settled_ids]
        self._queue = deque(sorted(left, key=lambda each: each in self.tallies))

    def __bool__(self) -> bool:
        """Whether a problem waits to be sampled."""
        return bool(self._queue)

    def draw(self) -> Iterator[str]:
        """Hand out problems until none waits; one that comes back unsettled meanwhile is handed out again."""
        while self._queue:
            yield self._queue.popleft()

    def add(self, drawn: Difficulty) -> list[Difficulty]:
        """Take what was drawn of a problem, and return it if it is settled by that."""
        self._count(drawn)
        if self._is_settled(drawn.problem_id):
            return [self.tallies[drawn.problem_id]]
        self._queue.append(drawn.problem_id)
        return []

    def _count(self, drawn: Difficulty) -> None:
        earlier = self.tallies.get(drawn.problem_id)
        self.tallies[drawn.problem_id] = pooled(earlier, drawn) if earlier else drawn

    def _is_settled(self, problem_id: str) -> bool:
        tally = self.tallies[problem_id]
        return (tally.num_samples, tally.num_correct) in self._settled_cells


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
