r"""CORE: what a wrong response earns for the intermediate results that it shares with right ones (POLARIS V2).

Responses put important intermediate results into ``\underline{}``. The right ones of a problem agree on many of them,
and the results that enough of them underline are the problem's consensus. A wrong response earns the share of the
consensus that it underlines, at most a half; a right one earns 1, whatever it underlines.

Where this differs from what was published, it is to leave nothing to copy or to guess: results that stand in the
question or are its answer count for nobody, more underlines than the consensus has results make each of them worth
less, and a response without an answer earns nothing. Results are compared by the grader's equality as far as it is
decided in this process, so that the same responses always earn the same.

References:
    An et al., "POLARIS V2" (consensus offline reward estimation), the group's post of 2026-03-18.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from polaris_reward.convention import BOXED
from polaris_reward.equality.comparison import compare
from polaris_reward.errors import SettingsError
from polaris_reward.finding.references import reference_answer
from polaris_reward.records import Outcome

MAX_REWARD = 0.5
"""Of a wrong response, as published."""

MIN_COUNT = 2
"""Right responses that must have underlined a result before it counts: what a single one does may be its own way."""

MAX_RESULTS = 64
"""Of one response, and of what is remembered of a problem; the first ones."""

MAX_CHARS = 200
"""Of a result; longer ones are derivations."""

_TOKEN = re.compile(r"\\underline\s*\{|\\.|[{}]", re.DOTALL)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def underlined(text: str) -> list[str]:
    r"""Return what is in each closed ``\underline{}`` of a text, in order; one inside another is part of it."""
    found: list[str] = []
    depth, start, outer = 0, 0, 0
    for token in _TOKEN.finditer(text):
        kind = token[0]
        if kind == "}":
            if depth and depth == outer:
                found.append(text[start : token.start()].strip())
                outer = 0
            depth = max(depth - 1, 0)
        elif kind == "{" or len(kind) > 2:
            depth += 1
            if kind != "{" and not outer:
                start, outer = token.end(), depth
    return found


def intermediate_results(text: str, *, question: str, references: Sequence[str]) -> list[str]:
    """Return the different results that a response underlines, without what it was told and what it was asked for.

    Args:
        text: The response.
        question: Results that stand in it are copies.
        references: Results that equal one are answers, not intermediate.
    """
    answers = [answer for reference in references if (answer := reference_answer(reference))]
    found: list[str] = []
    for result in underlined(text):
        if len(found) == MAX_RESULTS:
            break
        if not 0 < len(result) <= MAX_CHARS or _same_as_any(result, found):
            continue
        if not _is_copied(result, question) and not _same_as_any(result, answers):
            found.append(result)
    return found


@dataclass(frozen=True, slots=True)
class Consensus:
    """What right responses to one problem have underlined."""

    counts: tuple[tuple[str, int], ...] = ()
    """Each result, as it was first spelled, and how many responses underlined it."""

    def grown(self, results: Sequence[str]) -> "Consensus":
        """Return it after one more right response.

        Args:
            results: Of the response, all different.
        """
        counts = [(known, count + _same_as_any(known, results)) for known, count in self.counts]
        known = [result for result, _ in self.counts]
        new = [(result, 1) for result in results if not _same_as_any(result, known)]
        return Consensus((*counts, *new)[:MAX_RESULTS])

    def results(self, *, min_count: int = MIN_COUNT) -> list[str]:
        """Return the results that at least so many responses underlined."""
        return [result for result, count in self.counts if count >= min_count]


def overlap(results: Sequence[str], agreed: Sequence[str]) -> float | None:
    """Return the share of a consensus that a response underlines; ``None`` where there is no consensus.

    ``|P & S| / max(|S|, |P|)``; published is ``|P & S| / |S|``, which underlining everything brings to 1.

    Args:
        results: ``P``, all different.
        agreed: ``S``, all different.
    """
    if not agreed:
        return None
    return sum(_same_as_any(each, results) for each in agreed) / max(len(agreed), len(results))


class CoreReward:
    """Rewards responses group by group, with consensus sets that grow by every right one.

    Attributes:
        known: The consensus of each problem that had a right response which underlined something.
    """

    def __init__(self, known: Mapping[str, Consensus] | None = None, *, min_count: int = MIN_COUNT) -> None:
        """Start with what is known.

        Args:
            known: By problem; nothing at first, or what an earlier run or offline responses left.
            min_count: Right responses that must have underlined a result before it counts.

        Raises:
            SettingsError: If that is less than 1.
        """
        if min_count < 1:
            raise SettingsError(f"min_count is {min_count!r}; give 1 or more")
        self.known = dict(known or {})
        self._min_count = min_count

    def __call__(
        self, responses: Sequence[str], outcomes: Sequence[Outcome], *, problem_id: str, question: str,
        references: Sequence[str],
    ) -> list[float]:  # fmt: skip
        """Return 1 for each right response, what `overlaps` is worth for each wrong one, and else 0."""
        found = self.overlaps(responses, outcomes, problem_id=problem_id, question=question, references=references)
        return [
            1.0 if outcome is Outcome.CORRECT else process_reward(share)
            for outcome, share in zip(outcomes, found, strict=True)
        ]

    def overlaps(
        self, responses: Sequence[str], outcomes: Sequence[Outcome], *, problem_id: str, question: str,
        references: Sequence[str],
    ) -> list[float | None]:  # fmt: skip
        """Let the right responses of a group speak, then return what each wrong one shares with the consensus.

        Args:
            responses: To one problem.
            outcomes: What the grader said of each.
            problem_id: Names the consensus.
            question: Of the problem.
            references: Of the problem.

        Returns:
            `overlap` where the outcome is ``INCORRECT``; ``None`` for all others, and without a consensus.
        """
        every = [intermediate_results(each, question=question, references=references) for each in responses]
        consensus = self.known.get(problem_id, Consensus())
        for results, outcome in zip(every, outcomes, strict=True):
            if outcome is Outcome.CORRECT and results:
                consensus = self.known[problem_id] = consensus.grown(results)
        agreed = consensus.results(min_count=self._min_count)
        return [
            overlap(results, agreed) if outcome is Outcome.INCORRECT else None
            for results, outcome in zip(every, outcomes, strict=True)
        ]


def process_reward(share: float | None) -> float:
    """Return what a wrong response earns for what it shares: as much, at most `MAX_REWARD`."""
    return min(MAX_REWARD, share or 0.0)


def _is_copied(result: str, question: str) -> bool:
    """Whether a result, or each side of an equation, stands in the question or is one of its numbers."""
    sides = [side.strip(" $") for side in result.split("=")]
    numbers = dict.fromkeys(_NUMBER.findall(question))
    return _stands_in(result, question) or all(
        _stands_in(side, question) or _same_as_any(side, numbers) for side in sides
    )


@lru_cache(maxsize=8_192)
def _stands_in(result: str, question: str) -> bool:
    """Whether a text has a result in it, spaces aside, and not as a part of a longer number or word."""
    spelled = r"\s*".join(re.escape(letter) for letter in result if not letter.isspace())
    return bool(spelled) and bool(re.search(rf"(?<![\w.]){spelled}(?!\w|\.\d)", question))


def _same_as_any(result: str, others: Iterable[str]) -> bool:
    others = list(others)
    return result in others or any(compare(result, other, BOXED).outcome is Outcome.CORRECT for other in others)
