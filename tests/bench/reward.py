"""Measure our grader beside math-verify on the same pairs: speed, accuracy, bombs and the cost of an import.

Run as ``python tests/bench/reward.py``; it takes some minutes, ``--at-most 30 --runs 1`` seconds. math-verify is used
as its README advises, in the setting with the best accuracy: boxed answers first, expressions second, the reference in
a box of its own. It keeps its caches over all runs; ours are emptied, and a fresh worker is started, before each run
that is called cold.
"""

import argparse
import json
import logging
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify
from polaris_reward import Grade, Grader, Outcome

SHARED = Path(__file__).resolve().parents[3] / "shared"
BENCHMARKS = ("aime24", "aime25", "amc22_23", "minerva", "olympiadbench", "math500", "gsm8k_test")

NUM_IMPORTS = 5
BOMB_EVERY = 100
DEADLINE_S = 5.0
GRACE_S = 0.5

BOMBS = (
    ("10^{10^{10}} + NUMBER", r"\frac{1}{x}"),
    ("10^{10^{10}} + NUMBER", "7"),
    ("99999999! + NUMBER", r"\sqrt{x}"),
    ("99999999! + NUMBER", "99999998! + 1"),
    ("10**10**10 + NUMBER", "x"),
    ("7^{7^{7^{7}}} + NUMBER y", "y"),
    ("9" * 1_000_000 + "NUMBER", "8" * 1_000_000),
    ("9" * 1_900 + "x + NUMBER", "8" * 1_900 + "x"),
    ("{" * 100_000 + "x + NUMBER" + "}" * 100_000, "x^2"),
    ("(" * 900 + "x + NUMBER" + ")" * 900, "x^2"),
    (r"\begin{pmatrix} NUMBER & 2 \\" + r"1 & 2 \\ " * 100_000 + r"\end{pmatrix}", r"\begin{pmatrix} 1 \end{pmatrix}"),
    (r"\begin{vmatrix}" + (r"a&b&c&d&e&f&g&h&k\\" * 9) + r"\end{vmatrix} + NUMBER", "x"),
    (r"\begin{pmatrix} 1 & NUMBER \\ 1 & x \end{pmatrix}^{999999}", r"\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}"),
    (r"\sum_{n=1}^{10^{12}} \frac{1}{n + NUMBER}", r"\sum_{n=2}^{10^{12}} \frac{1}{n}"),
    (r"\prod_{n=1}^{10^{9}} (1 + \frac{NUMBER}{n^3})", "2.4"),
    (r"\int e^{-x^2} \sin(x^3 + NUMBER) \, dx", r"\int e^{-x^3} \sin(x^2) \, dx"),
    (r"\int_0^1 \frac{\sin(x^x)}{x^x + \ln(x + NUMBER)} \, dx", r"\int_0^1 \frac{\cos(x^x)}{x^x + \ln(x+3)} \, dx"),
    ("(x + y + z + NUMBER)^{500}", "(x + y + z + 2)^{500}"),
)
"""Answers that stop other graders, each with a reference that does not decide it at a glance.

``NUMBER`` stands for a number of each occurrence, so that none is decided by what was said about another.
"""

_PLAIN = re.compile(r"(-?)(?:(\d+)|\\[dt]?frac\{(\d+)\}\{(\d+)\}|(\d+)/(\d+))")
_BOXED_FIRST = [LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A response, the reference it is compared with, and the truth where it is undisputed."""

    response: str
    reference: str
    expected: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one side says about a pair."""

    pair: Pair
    accepted: bool


Side = Callable[[Sequence[Pair]], list[Verdict]]


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=Path, default=SHARED / "cases", help="folder of grading.jsonl")
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="folder of the benchmarks")
    parser.add_argument("--at-most", type=int, metavar="N", help="pairs of each kind, and bombs; all by default")
    parser.add_argument("--runs", type=int, default=3, help="of each measurement")
    options = parser.parse_args()
    # math-verify warns about every answer that runs into its time limit.
    logging.disable(logging.CRITICAL)
    cases = read_cases(options.cases / "grading.jsonl")[: options.at_most]
    plain = plain_pairs(options.data)[: options.at_most]
    report_imports()
    compare_sides("integers and fractions", plain, num_runs=options.runs, num_runs_of_math_verify=options.runs)
    compare_sides("all of grading.jsonl", cases, num_runs=options.runs, num_runs_of_math_verify=1)
    report_bombs(cases, BOMBS[: options.at_most], num_runs=options.runs)


def read_cases(path: Path) -> list[Pair]:
    """Read labelled cases; an answer without a response around it is put into a box."""
    pairs: list[Pair] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        bare = row["kind"] == "answer-vs-answer"
        response = rf"\boxed{{{row['prediction']}}}" if bare else row["prediction"]
        expected = None if row.get("disputed") else row["expected"]
        pairs.append(Pair(response=response, reference=row["gold"], expected=expected))
    return pairs


def plain_pairs(data: Path) -> list[Pair]:
    """Return the plain numbers among the benchmarks' references: as they are, spelled otherwise, and off by one."""
    references = {
        json.loads(line)["answer"].strip("$")
        for name in BENCHMARKS
        for line in (data / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    }
    pairs: list[Pair] = []
    for reference in sorted(references):
        found = _PLAIN.fullmatch(reference)
        if found is None:
            continue
        sign, integer, *fraction = found.groups()
        top, bottom = [part for part in fraction if part] or [integer, "1"]
        respelled = f"{sign}{int(integer):,}" if integer else rf"{sign}\dfrac{{{top}}}{{{bottom}}}"
        off_by_one = f"{int(sign + top) + 1}" + ("" if integer else f"/{bottom}")
        for answer, expected in ((reference, True), (respelled, True), (off_by_one, False)):
            response = rf"So the answer is $\boxed{{{answer}}}$."
            pairs.append(Pair(response=response, reference=reference, expected=expected))
    return pairs


def judge_by_math_verify(pairs: Sequence[Pair]) -> list[Verdict]:
    """Let math-verify judge each pair, in its own time limits."""
    verdicts: list[Verdict] = []
    for pair in pairs:
        boxed = pair.reference if r"\boxed" in pair.reference else rf"\boxed{{{pair.reference}}}"
        accepted = verify(parse(boxed, _BOXED_FIRST), parse(pair.response, _BOXED_FIRST))
        verdicts.append(Verdict(pair=pair, accepted=bool(accepted)))
    return verdicts


def judge_by(grader: Grader) -> Side:
    """Let one grader judge each pair, one after the other."""

    def judge(pairs: Sequence[Pair]) -> list[Verdict]:
        grades = [grader.grade(pair.response, [pair.reference]) for pair in pairs]
        return [
            Verdict(pair=pair, accepted=grade.outcome is Outcome.CORRECT)
            for pair, grade in zip(pairs, grades, strict=True)
        ]

    return judge


def compare_sides(title: str, pairs: Sequence[Pair], *, num_runs: int, num_runs_of_math_verify: int) -> None:
    """Print speed and accuracy of both sides on the same pairs."""
    seconds: dict[str, list[float]] = {"ours, cold": [], "ours, again": [], "math-verify": []}
    verdicts: dict[str, list[Verdict]] = {}

    def run(name: str, judge: Side) -> None:
        started = time.perf_counter()
        verdicts[name] = judge(pairs)
        seconds[name].append(time.perf_counter() - started)
        assert [verdict.pair for verdict in verdicts[name]] == list(pairs), f"{name} saw other pairs"

    for number in range(num_runs):
        empty_our_caches()
        with warm_grader(1) as grader:
            run("ours, cold", judge_by(grader))
            run("ours, again", judge_by(grader))
        if number < num_runs_of_math_verify:
            run("math-verify", judge_by_math_verify)
    print(f"\n{title}: {len(pairs)} pairs, {sum(pair.expected is not None for pair in pairs)} of them undisputed")
    print("                  runs  pairs/s    ratio  accuracy  false+  false-")
    slowest = statistics.median(seconds["math-verify"])
    for name, runs in seconds.items():
        median = statistics.median(runs)
        print(f"{name:16}  {len(runs):4}  {len(pairs) / median:7.0f}  {slowest / median:6.1f}x  ", end="")
        print(_describe_accuracy(verdicts[name]))


def _describe_accuracy(verdicts: Sequence[Verdict]) -> str:
    undisputed = [verdict for verdict in verdicts if verdict.pair.expected is not None]
    false_positives = sum(verdict.accepted and not verdict.pair.expected for verdict in undisputed)
    false_negatives = sum(bool(verdict.pair.expected) and not verdict.accepted for verdict in undisputed)
    accuracy = 1 - (false_positives + false_negatives) / len(undisputed)
    return f"{accuracy:7.1%}  {false_positives:6}  {false_negatives:6}"


def report_bombs(cases: Sequence[Pair], bombs: Sequence[tuple[str, str]], *, num_runs: int) -> None:
    """Print what answers that stop other graders do to a batch, and to whoever waits for one of them."""
    clean = [(pair.response, [pair.reference]) for pair in cases]
    mixed = list(clean)
    places = range(0, len(mixed), BOMB_EVERY)
    for number, (place, bomb) in enumerate(zip(places, cycle(bombs), strict=False)):
        mixed[place] = respond(bomb, number + 3)
    print(
        f"\ntwo workers, a deadline of {DEADLINE_S} s, {len(clean)} items, each once, our caches emptied before, "
        f"median of {num_runs}"
    )
    speeds: list[float] = []
    for name, items in (("clean", clean), (f"with {len(places)} bombs", mixed)):
        runs = [_grade_afresh(items) for _ in range(num_runs)]
        speeds.append(len(items) / statistics.median(seconds for seconds, _ in runs))
        grades = runs[0][1]
        print(f"{name:14}  {speeds[-1]:7.0f} items/s  slowest {_describe_slowest(grades)}")
        print(f"{'':14}  {_describe_outcomes(grades)}")
    print(f"with bombs the batch runs at {speeds[1] / speeds[0]:.2f} of its speed")
    _report_bombs_one_by_one(clean, bombs)


def _grade_afresh(items: Sequence[tuple[str, list[str]]]) -> tuple[float, list[Grade]]:
    empty_our_caches()
    with warm_grader(2) as grader:
        started = time.perf_counter()
        grades = grader.grade_many(items)
        return time.perf_counter() - started, grades


def respond(bomb: tuple[str, str], number: int) -> tuple[str, list[str]]:
    """Return a response with one of the bombs, and its references."""
    answer, reference = bomb
    return rf"\boxed{{{answer.replace('NUMBER', str(number))}}}", [reference]


def _report_bombs_one_by_one(load: Sequence[tuple[str, list[str]]], bombs: Sequence[tuple[str, str]]) -> None:
    """Time each bomb from outside while another thread grades, with a grader of its own."""
    stop = threading.Event()

    def keep_busy() -> None:
        while not stop.is_set():
            empty_our_caches()
            with Grader(1, deadline_s=DEADLINE_S, max_failed_share=None) as other:
                other.grade_many(load)

    thread = threading.Thread(target=keep_busy)
    thread.start()
    print("each bomb alone while another thread grades cases, seconds seen by the caller")
    with warm_grader(2) as grader:
        for bomb in bombs:
            response, references = respond(bomb, 5)
            started = time.perf_counter()
            grade = grader.grade(response, references)
            waited = time.perf_counter() - started
            late = "" if waited <= DEADLINE_S + GRACE_S else "  LATE"
            print(f"  {waited:6.2f}  {grade.outcome:16}  {response[:40]!r} | {references[0][:30]!r}{late}")
    stop.set()
    thread.join()


def _describe_slowest(grades: Sequence[Grade]) -> str:
    slowest = max(grades, key=lambda grade: grade.seconds)
    verdict = "within" if slowest.seconds <= DEADLINE_S + GRACE_S else "NOT WITHIN"
    return f"{slowest.seconds:.2f} s, {verdict} deadline + {GRACE_S} s"


def _describe_outcomes(grades: Sequence[Grade]) -> str:
    return ", ".join(f"{outcome} {count}" for outcome, count in Counter(grade.outcome for grade in grades).items())


def report_imports() -> None:
    """Print what importing the package costs in a fresh interpreter, and that it brings no algebra along."""
    script = (
        "import sys, time; started = time.perf_counter(); import polaris_reward\n"
        "print(time.perf_counter() - started)\n"
        "print(*(name for name in ('sympy', 'torch', 'numpy', 'mpmath') if name in sys.modules))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
        for _ in range(NUM_IMPORTS)
    ]
    heavy = {name for _, names in runs for name in names.split()}
    median_ms = 1000 * statistics.median(float(seconds) for seconds, _ in runs)
    print(
        f"import polaris_reward: {median_ms:.0f} ms (median of {NUM_IMPORTS}); brings {sorted(heavy) or 'no algebra'}"
    )


def warm_grader(num_workers: int) -> Grader:
    """Return a grader whose workers run, so that their start is not measured."""
    grader = Grader(num_workers, deadline_s=DEADLINE_S, max_failed_share=None)
    grader.grade_many(
        [(rf"\boxed{{\int_0^1 {n}x \, dx}}", [rf"\int_0^{n} \frac{{x}}{{{n}}} \, dx"]) for n in range(2, 8)]
    )
    return grader


def empty_our_caches() -> None:
    """Forget in this process what earlier runs have read; a fresh worker has forgotten anyway."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "polaris_reward":
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


if __name__ == "__main__":
    main()
