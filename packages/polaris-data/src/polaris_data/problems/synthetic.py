"""Seeded arithmetic problems with a difficulty knob, for runs without any download.

A problem is a chain of additions, subtractions and multiplications on the numbers 1 to 9; its
level is the number of operations. The split of a problem is a function of its text, so training and
held-out problems cannot overlap, whatever the seeds.
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from typing import Literal

from polaris_data.records import Problem

MAX_LEVEL = 8
MAX_VALUE = 9
HELD_OUT_SHARE = 0.2

Split = Literal["train", "held-out"]
Style = Literal["direct", "partial", "worked", "checked"]

_MAX_TRIES = 10_000
"""Draws for one more problem of a level before it is taken to have no more."""

_NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivan", "June")
_THINGS = ("apples", "books", "cards", "coins", "marbles", "pens", "shells", "stamps")
_TIMES = {2: "twice", 3: "three times", 4: "four times", 5: "five times"}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a chain, applied to the running value."""

    sign: Literal["+", "-", "*"]
    operand: int

    def apply(self, value: int) -> int:
        """Return the next running value."""
        match self.sign:
            case "+":
                return value + self.operand
            case "-":
                return value - self.operand
            case "*":
                return value * self.operand


@dataclass(frozen=True, slots=True)
class Chain:
    """An arithmetic problem: a start and the operations applied to it, one after the other."""

    start: int
    operations: tuple[Operation, ...]

    @property
    def values(self) -> tuple[int, ...]:
        """The start and every running value; the last one is the answer."""
        values = [self.start]
        for operation in self.operations:
            values.append(operation.apply(values[-1]))
        return tuple(values)

    @property
    def answer(self) -> int:
        """The result of the last operation."""
        return self.values[-1]


ALL_LEVELS = tuple(range(1, MAX_LEVEL + 1))


def parse_levels(text: str | None) -> tuple[int, ...]:
    """Read levels such as ``1,1,2,3``; ``None`` is every level.

    Raises:
        ValueError: If one is no whole number.
    """
    if text is None:
        return ALL_LEVELS
    if not all(part.strip().isdecimal() for part in text.split(",")):
        raise ValueError("give whole numbers with commas between them, as in 1,1,2,3")
    return tuple(map(int, text.split(",")))


def synthetic_problems(
    num_problems: int, *, seed: int, split: Split, levels: tuple[int, ...] = ALL_LEVELS
) -> list[Problem]:
    """Generate distinct problems, the levels taking turns; a level that is named twice has twice the turns.

    The same arguments give the same problems; a longer list begins with the shorter one. Every problem
    carries its level and a fully worked solution in ``extra``.

    Raises:
        ValueError: If a level is outside 1..``MAX_LEVEL``, or there are not that many problems.
    """
    _check_levels(levels)
    rng = random.Random(seed)
    sources = {level: generate_chains(rng, split=split, levels=(level,)) for level in levels}
    problems: dict[str, Problem] = {}
    for level in islice(cycle(levels), num_problems):
        new = ((question, chain) for question, chain in islice(sources[level], _MAX_TRIES) if question not in problems)
        question, chain = next(new, (None, None))
        if question is None or chain is None:
            raise ValueError(f"level {level} has no more problems after {len(problems)}; ask for fewer")
        problems[question] = _to_problem(question, chain)
    return list(problems.values())


def generate_chains(
    rng: random.Random, *, split: Split, levels: tuple[int, ...] = ALL_LEVELS
) -> Iterator[tuple[str, Chain]]:
    """Yield questions of one split with their chains, without end, the levels taking turns.

    Raises:
        ValueError: If a level is outside 1..``MAX_LEVEL``.
    """
    _check_levels(levels)
    while True:
        for level in levels:
            question, chain = _draw(rng, level)
            while split_of(question) != split:
                question, chain = _draw(rng, level)
            yield question, chain


def split_of(question: str) -> Split:
    """Return the split that a question belongs to: a fixed function of its text."""
    bucket = int.from_bytes(hashlib.sha256(question.encode()).digest()[:8]) / 2**64
    return "held-out" if bucket < HELD_OUT_SHARE else "train"


def write_solution(
    chain: Chain, style: Style = "worked", *, slip_at: int | None = None, underline: bool = False
) -> str:
    r"""Write an answer to a chain, ending in ``\boxed{}``.

    ``direct`` only states the result, ``partial`` works out the first half of the operations, ``worked``
    all of them, ``checked`` works them out twice.

    Args:
        chain: The problem.
        style: How much of the work is shown.
        slip_at: For ``checked``: the operation whose result is written wrong at first (and carried on)
            and put right by the check.
        underline: Put every step into ``\underline{}``, which marks it as an intermediate result.
    """
    work = partial(_work, chain, underline=underline)
    match style:
        case "direct":
            lines: list[str] = []
        case "partial":
            lines = work()[: len(chain.operations) // 2]
        case "worked":
            lines = work()
        case "checked":
            lines = [*work(slip_at=slip_at), "Check:", *work()]
    return "\n".join([*lines, rf"\boxed{{{chain.answer}}}"])


def _check_levels(levels: tuple[int, ...]) -> None:
    if outside := [level for level in levels if not 1 <= level <= MAX_LEVEL]:
        raise ValueError(f"levels {outside} are outside 1..{MAX_LEVEL}")


def _to_problem(question: str, chain: Chain) -> Problem:
    return Problem(
        problem_id=f"synthetic-{hashlib.sha256(question.encode()).hexdigest()[:12]}",
        question=question,
        references=(str(chain.answer),),
        source="polaris_data.synthetic",
        extra={"level": len(chain.operations), "solution": write_solution(chain)},
    )


def _work(chain: Chain, *, slip_at: int | None = None, underline: bool = False) -> list[str]:
    value, lines = chain.start, list[str]()
    for index, operation in enumerate(chain.operations):
        result = operation.apply(value) + (index == slip_at)
        step = f"{value}{operation.sign}{operation.operand}={result}"
        lines.append(rf"\underline{{{step}}}" if underline else step)
        value = result
    return lines


def _draw(rng: random.Random, level: int) -> tuple[str, Chain]:
    start = value = rng.randint(2, MAX_VALUE)
    operations: list[Operation] = []
    for _ in range(level):
        choices = [Operation("+", rng.randint(1, MAX_VALUE - value))] if value < MAX_VALUE else []
        if value > 1:
            choices.append(Operation("-", rng.randint(1, value - 1)))
        if 2 * value <= MAX_VALUE:
            choices.append(Operation("*", rng.randint(2, min(5, MAX_VALUE // value))))
        operations.append(rng.choice(choices))
        value = operations[-1].apply(value)
    chain = Chain(start, tuple(operations))
    return rng.choice((_as_expression, _as_instructions, _as_story))(rng, chain), chain


def _as_expression(rng: random.Random, chain: Chain) -> str:
    del rng
    text = str(chain.start)
    for index, operation in enumerate(chain.operations):
        text = f"({text})" if index else text
        text = f"{text}{operation.sign}{operation.operand}"
    return f"Compute {text}."


def _as_instructions(rng: random.Random, chain: Chain) -> str:
    del rng
    words = {"+": "Add", "-": "Subtract", "*": "Multiply by"}
    steps = " ".join(f"{words[operation.sign]} {operation.operand}." for operation in chain.operations)
    return f"Start with {chain.start}. {steps} What is the result?"


def _as_story(rng: random.Random, chain: Chain) -> str:
    name, things = rng.choice(_NAMES), rng.choice(_THINGS)
    sentences = [f"{name} has {chain.start} {things}."]
    for operation in chain.operations:
        match operation.sign:
            case "+":
                sentences.append(f"{name} gets {operation.operand} more.")
            case "-":
                sentences.append(f"{name} gives away {operation.operand}.")
            case "*":
                sentences.append(f"Soon there are {_TIMES[operation.operand]} as many.")
    return " ".join([*sentences, f"How many {things} does {name} have now?"])
