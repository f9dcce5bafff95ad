"""Word problems of one and two steps of arithmetic, for `real_model.py`.

    python examples/word_problems.py

Seeded, in a dozen wordings. Which side a problem is on follows from its arithmetic alone, so that no held-out problem
asks a calculation that training has, in whatever words; the two sides are as large as they are asked for.
"""

import hashlib
import random

from polaris_data import Problem

HELD_OUT_SHARE = 0.3
"""Of all calculations, those that are never trained on."""

NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Julia", "Leo", "Mia", "Tom")
THINGS = ("apples", "books", "buttons", "cards", "coins", "cookies", "marbles", "pencils", "shells", "stickers")

TEMPLATES = (
    ("{name} has {a} {things}. A friend gives {name} {b} more. How many {things} does {name} have now?", "a + b"),
    ("There are {a} {things} in one box and {b} {things} in another box. How many {things} are there in all?", "a + b"),
    ("{name} had {p} {things} and lost {b} of them. How many {things} are left?", "p - b"),
    ("A shop has {p} {things}. It sells {b} of them today. How many {things} does it still have?", "p - b"),
    ("There are {m} bags with {n} {things} in each bag. How many {things} are there in total?", "m * n"),
    ("One box of {things} costs {n} dollars. How many dollars do {m} boxes cost?", "m * n"),
    ("{name} had {a} {things}, bought {b} more and found another {n}. How many does {name} have now?", "a + b + n"),
    ("{name} has {a} {things}. {name} buys {b} more and then gives away {n}. How many are left?", "a + b - n"),
    ("{name} had {p} {things}, lost {b} of them and then found {n}. How many does {name} have now?", "p - b + n"),
    ("{name} has {m} boxes with {n} {things} each, and {b} loose {things}. How many {things} is that?", "m * n + b"),
    ("{name} buys {m} packs of {n} {things} and gives {k} {things} away. How many {things} remain?", "m * n - k"),
    (
        "A train has {p} passengers. {b} get off at the first stop and {k} at the second. How many are left?",
        "p - b - k",
    ),
)
"""What is asked, and the calculation it asks: two steps from the seventh on."""


def word_problems(num: int, *, seed: int, held_out: bool) -> list[Problem]:
    """Return so many problems of one side, all different, every wording equally often.

    ``extra`` of each has ``calculation``, with its numbers, and ``steps``, 1 or 2.
    """
    random_numbers = random.Random(seed)
    problems: dict[str, Problem] = {}
    while len(problems) < num:
        problem = _draw(random_numbers, *TEMPLATES[len(problems) % len(TEMPLATES)])
        if is_held_out(str(problem.extra["calculation"])) == held_out:
            problems.setdefault(problem.question, problem)
    return list(problems.values())


def is_held_out(calculation: str) -> bool:
    """Tell which side every problem with this calculation is on."""
    digest = hashlib.sha256(calculation.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < HELD_OUT_SHARE


def _draw(random_numbers: random.Random, text: str, formula: str) -> Problem:
    b = random_numbers.randint(2, 15)
    k = random_numbers.randint(2, 7)
    numbers = {
        "a": random_numbers.randint(5, 30),
        "b": b,
        "k": k,
        "m": random_numbers.randint(4, 9),
        "n": random_numbers.randint(2, 9),
        "p": b + k + random_numbers.randint(3, 20),  # something stays after b and k are gone
    }
    question = text.format(name=random_numbers.choice(NAMES), things=random_numbers.choice(THINGS), **numbers)
    calculation = " ".join(str(numbers.get(part, part)) for part in formula.split())
    return Problem(
        problem_id=hashlib.sha256(question.encode()).hexdigest()[:16],
        question=question,
        references=(str(eval(calculation)),),  # our own formula
        source="word problems",
        extra={"calculation": calculation, "steps": len(formula.split()) // 2},
    )


if __name__ == "__main__":
    for shown in word_problems(len(TEMPLATES), seed=0, held_out=False):
        print(f"{shown.question}  {shown.extra['calculation']} = {shown.references[0]}")
