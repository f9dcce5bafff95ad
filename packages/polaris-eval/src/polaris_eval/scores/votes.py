"""Metrics over several completions of one problem: pass@k, majority votes, and choosing by a score.

All are exact: none draws subsets at random.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from fractions import Fraction


def pass_at_k(correct: Sequence[bool], k: int) -> float:
    """Return the probability that at least one of ``k`` completions is correct, without bias.

    ``1 - C(n - c, k) / C(n, k)``: the share of all subsets of ``k`` of the ``n`` completions, ``c`` of them correct,
    that hold a correct one.

    Args:
        correct: What was correct among the completions of one problem.
        k: Completions that are looked at.

    Raises:
        ValueError: If ``k`` is not between 1 and the number of completions.

    References:
        Chen et al., "Evaluating Large Language Models Trained on Code", 2021. https://arxiv.org/abs/2107.03374
    """
    _require_subset(len(correct), k)
    return 1 - math.comb(len(correct) - sum(correct), k) / math.comb(len(correct), k)


def g_pass_at_k(correct: Sequence[bool], k: int, share: float) -> float:
    """Return the probability that at least this share of ``k`` completions is correct (``G-Pass@k`` at a threshold).

    ``sum over j >= ceil(share * k) of C(c, j) C(n - c, k - j) / C(n, k)``: the share of all subsets of ``k`` of the
    ``n`` completions, ``c`` of them correct, that hold so many correct ones. A share of 1 asks for all of them; one
    small enough to ask for a single one is `pass_at_k`.

    Args:
        correct: What was correct among the completions of one problem.
        k: Completions that are looked at.
        share: Of these, above 0 and at most 1.

    Raises:
        ValueError: If ``k`` is not between 1 and the number of completions, or the share is out of range.

    References:
        Liu et al., "Are Your LLMs Capable of Stable Reasoning?", 2024. https://arxiv.org/abs/2412.13147
    """
    _require_subset(len(correct), k)
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; give a number above 0, at most 1")
    return _tail(correct, k, math.ceil(Fraction(share).limit_denominator(10**6) * k))


def mean_g_pass_at_k(correct: Sequence[bool], k: int) -> float:
    """Return ``mG-Pass@k``: `g_pass_at_k` over the thresholds from 1/2 to 1, as their paper adds it up.

    ``2 / k * sum over i from ceil(k / 2) + 1 to k of G-Pass@k(i / k)``: 1 where everything is correct, for even ``k``.

    Raises:
        ValueError: If ``k`` is not between 1 and the number of completions.
    """
    _require_subset(len(correct), k)
    return 2 / k * math.fsum(_tail(correct, k, least) for least in range(math.ceil(k / 2) + 1, k + 1))


def majority_at_k(votes: Sequence[Hashable | None], winner: Hashable | None, k: int) -> float:
    """Return the probability that a majority vote of ``k`` completions gives the correct answer.

    The mean over all subsets of ``k`` of the ``n`` completions. The answer with the most votes wins; where several
    have the most, one of them is drawn, so the correct one counts for its share of the tie. A completion without an
    answer (``None``) does not vote, and a subset without a vote is wrong.

    Args:
        votes: For each completion of one problem, the class of its answer; equivalent answers have the same.
        winner: The class of the correct answer; ``None`` when no completion gave it.
        k: Completions that vote.

    Raises:
        ValueError: If ``k`` is not between 1 and the number of completions.

    References:
        Wang et al., "Self-Consistency Improves Chain of Thought Reasoning", 2022. https://arxiv.org/abs/2203.11171
    """
    _require_subset(len(votes), k)
    counts = Counter(vote for vote in votes if vote is not None)
    num_right = counts.pop(winner, 0) if winner is not None else 0
    num_silent = sum(vote is None for vote in votes)
    subsets = [0] * (1 + len(counts))  # in which the correct answer wins or ties, by the number of others it ties with
    for most in range(1, min(num_right, k) + 1):
        ways = _ways(list(counts.values()), num_silent, most=most, size=k - most)
        for tied, count in enumerate(ways):
            subsets[tied] += math.comb(num_right, most) * count
    won = sum((Fraction(count, 1 + tied) for tied, count in enumerate(subsets)), Fraction(0))
    return float(won / math.comb(len(votes), k))


def weighted_vote(votes: Sequence[Hashable | None], weights: Sequence[float], winner: Hashable | None) -> float:
    """Return 1 if the answer with the largest sum of weights is the correct one, its share where sums are equal.

    Args:
        votes: For each completion of one problem, the class of its answer, or ``None``.
        weights: Of the votes: what another model or the completion's own probability says of it.
        winner: The class of the correct answer.
    """
    sums: dict[Hashable, float] = {}
    for vote, weight in zip(votes, weights, strict=True):
        if vote is not None:
            sums[vote] = sums.get(vote, 0.0) + weight
    best = [vote for vote, total in sums.items() if total == max(sums.values())]
    return (winner in best) / len(best) if best else 0.0


def best_of(correct: Sequence[bool], scores: Sequence[float]) -> float:
    """Return 1 if the completion with the highest score is correct, the share of correct ones where several have it.

    Args:
        correct: What was correct among the completions of one problem.
        scores: Of the completions.
    """
    best = [right for right, score in zip(correct, scores, strict=True) if score == max(scores)]
    return sum(best) / len(best)


def _tail(correct: Sequence[bool], k: int, least: int) -> float:
    """Return the share of subsets of ``k`` that hold at least so many correct completions."""
    right = sum(correct)
    wrong = len(correct) - right
    subsets = sum(math.comb(right, each) * math.comb(wrong, k - each) for each in range(least, min(right, k) + 1))
    return subsets / math.comb(len(correct), k)


def _ways(counts: Sequence[int], num_silent: int, *, most: int, size: int) -> list[int]:
    """Count the subsets in which no wrong answer has more than ``most`` votes.

    Args:
        counts: Votes for each wrong answer.
        num_silent: Completions without an answer.
        most: Votes for the correct answer.
        size: Completions in the subset besides those.

    Returns:
        The number of subsets in which 0, 1, ... wrong answers have ``most`` votes.
    """
    ways = {(0, 0): 1}  # (completions taken, answers tied) -> subsets
    for count in counts:
        taken: dict[tuple[int, int], int] = {}
        for (used, tied), number in ways.items():
            for more in range(min(count, most, size - used) + 1):
                key = used + more, tied + (more == most)
                taken[key] = taken.get(key, 0) + number * math.comb(count, more)
        ways = taken
    result = [0] * (len(counts) + 1)
    for (used, tied), number in ways.items():
        if size - used <= num_silent:
            result[tied] += number * math.comb(num_silent, size - used)
    return result


def _require_subset(num_completions: int, k: int) -> None:
    if not 1 <= k <= num_completions:
        raise ValueError(f"k is {k}, but there are {num_completions} completions; give 1 to {num_completions}")
