"""Damaged answers of every kind: whatever comes in, an outcome comes out, and nothing is left behind."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from polaris_reward import Grader, Outcome

SEEDS = (
    # numbers and expressions
    "7", "-12", "1,234", "0.125", "3.2e-5", "50\\%", "0.\\overline{3}", "\\frac{3}{4}", "\\dfrac{-3}{4}", "\\frac34",
    "1\\frac{1}{2}", "22/7", "2^{10}", "5!", "10^{6}", "2\\sqrt{3}", "\\sqrt[3]{2}", "3\\pi", "e^{i\\pi}", "3+4i",
    "\\binom{10}{3}", "\\log_2 8", "\\sin\\frac{\\pi}{6}", "|x-1|", "\\lfloor 3.7 \\rfloor", "1010_2",
    "x^2+2x+1", "(x+1)^2", "\\frac{x^2-1}{x-1}", "a_1 + a_2", "2\\cdot 3 \\times 5", "n(n+1)/2", "1 \\pm \\sqrt{2}",
    # several values
    "(1, 2)", "\\left( 3, \\frac{\\pi}{2} \\right)", "1, 2, 3", "\\{1, 2\\}", "\\{x : x > 0\\}", "\\emptyset",
    "[0, 1)", "(-\\infty, 2] \\cup (3, \\infty)", "x \\in [-2, 7]", "\\mathbb{R} \\setminus \\{0\\}",
    "\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "\\begin{vmatrix} a & b \\\\ c & d \\end{vmatrix}",
    "\\begin{cases} x, & x > 0 \\\\ -x, & x \\le 0 \\end{cases}",
    # relations
    "x = 5", "y = 2x + 3", "x^2 + y^2 = 1", "x > 3", "1 < x \\leq 2", "x \\neq 0", "x=1, y=2", "f(x) = x + 1",
    "x \\equiv 3 \\pmod 7",
    # units, dates, words
    "5 \\text{ cm}^2", "90^\\circ", "\\$18.90", "4{:}30 \\text{ p.m.}", "12 \\text{ March } 2024", "2024-03-14",
    "\\text{(C)}", "\\text{Evelyn}", "even", "7 \\text{ or } 8",
    # calculus, which only the worker knows
    "\\int_0^1 x^2 \\, dx", "\\sum_{n=1}^{10} n", "\\lim_{x\\to 0} \\frac{\\sin x}{x}", "\\frac{d}{dx} x^3",
    "\\prod_{k=1}^{5} k",
    # not LaTeX
    "½", "√2 ∪ ∅", "−3", "x² + y²", "π/4", "７", "\u200b5", "sqrt(2)/2", "10**6", "2*x + 1", "__import__('os')",
    # truncated, nested
    "\\frac{1}{", "\\sqrt{", "\\left(", "\\begin{pmatrix} 1 &", "{{{{5}}}}", "((((x))))", "\\boxed{\\boxed{3}}",
    "\\frac{\\frac{\\frac{1}{2}}{3}}{4}", "x^{x^{x^x}}", "", " ", "\\",
    # prose and think sections
    "<think>It may be \\boxed{3}.</think> So it is \\boxed{4}.", "<think> hmm \\boxed{5}", "</think>",
    "The answer is 12.", "First \\boxed{1}, then \\boxed{2}", "\\fbox{9}", "**Final answer:** $x = 3$",
    "Hence $$\\frac{1}{2}$$",
)  # fmt: skip

ALPHABET = "0123456789+-*/^_=<>!%&|~.,:;'\"#$@()[]{}\\ \n\tabcdefinoxyzπ∞√∪½²−∅\u200b\ud800\x00"
WRAPPERS = (
    "\\boxed{%s}", "$%s$", "(%s)", "\\{%s\\}", "{%s}", "\\frac{%s}{%s}", "\\sqrt{%s}", "(%s)^{%s}", "[%s, %s]",
    "\\text{%s}", "\\left(%s\\right)", "\\begin{pmatrix} %s & %s \\end{pmatrix}", "<think>%s</think>%s",
    "\\int %s \\, dx", "\\sum_{n=1}^{%s} %s", "%s!", "(%s)!", "%s = %s", "%s, %s", "-%s",
)  # fmt: skip
RESPONSES = ("\\boxed{%s}", "So it is $\\boxed{%s}$.", "<think>\n\n</think>\\boxed{%s}", "Answer: %s", "%s")

BATCH = 1_000
DEADLINE_S = 2.0
MAX_GROWTH_BYTES = 150 * 2**20


def damage_characters(text: str, rng: random.Random) -> str:
    characters = list(text)
    for _ in range(rng.randint(1, 4)):
        place = rng.randint(0, len(characters))
        # Replaces, deletes, or inserts.
        characters[place : place + rng.randint(0, 2)] = rng.choice(ALPHABET) * rng.randint(0, 1)
    return "".join(characters)


def truncate(text: str, rng: random.Random) -> str:
    cut = rng.randint(0, len(text))
    return text[:cut] if rng.random() < 0.7 else text[cut:]


def splice(text: str, rng: random.Random) -> str:
    other = rng.choice(SEEDS)
    return text[: rng.randint(0, len(text))] + other[rng.randint(0, len(other)) :]


def duplicate(text: str, rng: random.Random) -> str:
    start = rng.randint(0, len(text))
    end = min(len(text), start + rng.randint(1, 10))
    return text[:end] + text[start:end] * rng.choice((1, 1, 2, 5, 30)) + text[end:]


def nest(text: str, rng: random.Random) -> str:
    wrapper = rng.choice(WRAPPERS)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 40 if len(wrapper) < 12 and wrapper.count("%s") == 1 else 1))):
        text = wrapper.replace("%s", text, 1).replace("%s", rng.choice(SEEDS))
    return text


def inflate(text: str, rng: random.Random) -> str:
    places = [place for place, character in enumerate(text) if character.isdigit()]
    if not places:
        return text + str(rng.randint(0, 9))
    place = rng.choice(places)
    digits = rng.choice("0123456789") * rng.choice((1, 1, 2, 4, 8, 20, 300))
    return text[:place] + digits + text[place:]


MUTATIONS: tuple[Callable[[str, random.Random], str], ...] = (
    damage_characters,
    damage_characters,
    truncate,
    splice,
    duplicate,
    nest,
    inflate,
)


def mutated(text: str, rng: random.Random) -> str:
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        text = rng.choice(MUTATIONS)(text, rng)
    return text


def damaged_item(rng: random.Random) -> tuple[str, list[str]]:
    """Return a response and one or two references, of which the answer is often a neighbour."""
    references = [mutated(rng.choice(SEEDS), rng) for _ in range(rng.choice((1, 1, 1, 2)))]
    answer = mutated(rng.choice((references[0], rng.choice(SEEDS))), rng)
    return rng.choice(RESPONSES).replace("%s", answer), references


def batches(count: int, *, seed: int) -> Iterator[list[tuple[str, list[str]]]]:
    rng = random.Random(seed)
    for start in range(0, count, BATCH):
        yield [damaged_item(rng) for _ in range(min(BATCH, count - start))]


@pytest.mark.parametrize(
    "count", [pytest.param(2_000, id="short"), pytest.param(200_000, id="long", marks=pytest.mark.slow)]
)
def test_every_damaged_answer_gets_an_outcome_and_nothing_is_left_behind(count: int) -> None:
    outcomes: Counter[Outcome] = Counter()
    sessions: set[int] = set()
    with Grader(2, deadline_s=DEADLINE_S, max_failed_share=None) as grader:
        for number, items in enumerate(batches(count, seed=1)):
            grades = grader.grade_many(items)
            assert all(type(grade.outcome) is Outcome for grade in grades)
            outcomes += Counter(grade.outcome for grade in grades)
            sessions.update(grader.worker_pids)
            if number == 0:
                resident_at_first = resident_bytes()
    print(f"{count} damaged answers:", ", ".join(f"{outcome} {found}" for outcome, found in outcomes.most_common()))
    assert outcomes.total() == count
    assert outcomes[Outcome.CORRECT] > count / 1000
    assert resident_bytes() - resident_at_first < MAX_GROWTH_BYTES
    assert not sessions & running_sessions()


def resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * 4096


def running_sessions() -> set[int]:
    """Return the sessions of all processes; the workers of a grader lead or share one."""
    sessions: set[int] = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = stat.read_text(encoding="ascii").rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if state != "Z":
            sessions.add(int(session))
    return sessions
