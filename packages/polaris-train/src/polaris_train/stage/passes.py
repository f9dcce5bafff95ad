"""The order in which a stage goes over its problems: which of them each step has.

A pass goes over all problems once, in an order of its own. Where a recipe says so, a second pass over the hard ones of
them follows before the next. Everything is a function of the step and of what the steps before it saw.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from polaris_data import Problem
from polaris_rollout import derive_seed

Seen = dict[int, Mapping[str, tuple[int, int]]]
"""Correct completions and all of them, by the problem's id, of each step counted from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What a step is a part of."""

    problems: Sequence[Problem]
    """That are gone over."""

    step: int
    """Of the steps that go over these: passes over all problems are counted through, each of the others for itself."""

    seed: int
    """Of its order."""


def pass_of(problems: Sequence[Problem], seen: Seen, *, step: int, num_problems: int, below: float, seed: int) -> Pass:
    """Return the pass that a step is a part of.

    Args:
        problems: Of the stage; at least one step's worth.
        seen: What the steps before saw.
        step: Counted from 1.
        num_problems: Of each step; what is left over at the end of a pass is left out of it.
        below: Problems that were solved in a smaller share of a pass's attempts are gone over again after it; 0: none.
        seed: Of the stage.
    """
    length = len(problems) // num_problems
    if not below:
        return Pass(problems=problems, step=step, seed=seed)
    first = 1
    for number in count():
        if step < first + length:
            return Pass(problems=problems, step=number * length + step - first + 1, seed=seed)
        hard = _hard(problems, seen, range(first, first + length), below=below)
        first += length
        again = len(hard) // num_problems
        if step < first + again:
            return Pass(problems=hard, step=step - first + 1, seed=derive_seed(seed, "revisit", number))
        first += again
    raise AssertionError("passes do not end")


def seen_in(log: Path) -> Seen:
    """Read what the steps of a stage saw from its visit log, if there is one; a line that was cut short is left out."""
    seen: dict[int, dict[str, tuple[int, int]]] = {}
    lines = log.read_bytes().splitlines(keepends=True) if log.exists() else []
    for record in (json.loads(line) for line in lines if line.endswith(b"\n")):
        counts = record["num_correct"], record["num_samples"]
        seen.setdefault(record["step"], {})[record["problem_id"]] = counts
    return dict(seen)


def draw_problems(problems: Sequence[Problem], *, step: int, num_problems: int, seed: int) -> list[Problem]:
    """Return the problems of a step: every epoch a new order, its last incomplete batch left out.

    A function of the step alone, so a resumed run continues in the middle of an epoch without any state.
    """
    position = sampler_position(len(problems), step=step, num_problems=num_problems, seed=seed)
    order = list(range(len(problems)))
    random.Random(position["permutation_seed"]).shuffle(order)
    return [problems[i] for i in order[position["cursor"] : position["cursor"] + num_problems]]


def sampler_position(size: int, *, step: int, num_problems: int, seed: int) -> dict[str, int]:
    """Return where a step begins: the epoch, the problems of it already drawn, and the seed of its order.

    Args:
        size: Problems in the set.
        step: Counted from 1.
        num_problems: Of each step.
        seed: Of the stage.
    """
    epoch, index = divmod(step - 1, size // num_problems)
    return {"epoch": epoch, "cursor": index * num_problems, "permutation_seed": derive_seed(seed, "epoch", epoch)}


def _hard(problems: Sequence[Problem], seen: Seen, steps: range, *, below: float) -> list[Problem]:
    """Return the problems that were solved in a smaller share of the attempts of some steps, in their order."""
    counts: dict[str, tuple[int, int]] = {}
    for step in steps:
        for name, (right, all_of) in seen[step].items():
            before = counts.get(name, (0, 0))
            counts[name] = before[0] + right, before[1] + all_of
    return [each for each in problems if (found := counts.get(each.problem_id)) and found[0] < below * found[1]]
