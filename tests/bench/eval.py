"""Time and memory of grading and scoring long completions: 30 problems, 32 completions each, 50,000 tokens.

    python tests/bench/eval.py [TOKENS]

A token is a word or a sign of made-up reasoning, 3.5 bytes on average, so that the texts are as long as real ones. Half
of the answers are right, written in several ways; the others need algebra to be told from them, or are missing.
What is right is known from the writing, and must be found; so must distinct-4, counted with a set for one problem.
"""

import argparse
import json
import math
import random
import resource
import tempfile
import time
from fractions import Fraction
from pathlib import Path

from polaris_eval import summarize
from polaris_eval.report import write_reports
from polaris_eval.running import grade_file_settings, grade_groups, read_completions, score_graded
from polaris_reward import BOXED, Grader

NUM_PROBLEMS, NUM_SAMPLES = 30, 32
WORDS = [*"x y = + - 2 7 ( ) so we get the sum of all terms and then".split(), r"\frac{1}{2}", "\n\n", "therefore"]


def main() -> None:
    """Write a file, grade and score it, and print what that took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokens", type=int, nargs="?", default=50_000, help="of each completion")
    num_tokens = parser.parse_args().tokens
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.jsonl"
        num_right, num_missing = write_file(path, num_tokens)
        print(f"{path.stat().st_size / 2**20:.0f} MiB, {NUM_PROBLEMS * NUM_SAMPLES * num_tokens:,} tokens")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        started = time.perf_counter()
        groups = read_completions(path).groups
        read = time.perf_counter()
        with Grader(num_workers=2, convention=BOXED, max_failed_share=None) as grader:
            records = grade_groups(groups, grader.grade_many)
        graded = time.perf_counter()
        settings = grade_file_settings(path, name="long", convention=BOXED, tokenizer=None)
        evaluation = score_graded("long", records, settings=settings, model="made up", out=Path(folder))
        scored = time.perf_counter()
        write_reports(Path(folder))
        reported = time.perf_counter()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        processor = sum(resource.getrusage(who).ru_utime for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        assert [problem.num_correct for problem in evaluation.problems] == num_right
        assert evaluation.outcomes["no_answer"] == num_missing
        first = summarize("first", records[:1])
        assert math.isclose(first.distinct_4, distinct_4_by_set([each["text"] for each in records[0]["completions"]]))
        print(
            f"read {read - started:.1f} s, graded {graded - read:.1f} s, scored and written {scored - graded:.1f} s, "
            f"reports {reported - scored:.1f} s: {reported - started:.1f} s in all; processor time "
            f"{processor - before:.1f} s, {memory:.1f} GiB; outcomes {dict(evaluation.outcomes)}"
        )


def write_file(path: Path, num_tokens: int) -> tuple[list[int], int]:
    """Write rows for `read_completions`; return how many completions of each are right, and how many have no answer."""
    draw = random.Random(0)
    num_right, num_missing = [0] * NUM_PROBLEMS, 0
    with path.open("w", encoding="utf-8") as file:
        for number in range(NUM_PROBLEMS):
            completions = []
            for _ in range(NUM_SAMPLES):
                answer, square = draw.choice(_answers(draw, number))
                num_missing += not answer
                num_right[number] += square == Fraction(number, 7) ** 2
                text = " ".join(draw.choices(WORDS, k=num_tokens)) + (answer and rf" \boxed{{{answer}}}")
                completions.append({"text": text, "num_tokens": num_tokens})
            row = {"problem_id": str(number), "references": [rf"\frac{{{number}}}{{7}}"], "completions": completions}
            file.write(json.dumps(row) + "\n")
    return num_right, num_missing


def distinct_4_by_set(texts: list[str]) -> float:
    """Count the distinct four words in a row the slow way."""
    words = [text.split() for text in texts]
    runs = [tuple(each[start : start + 4]) for each in words for start in range(len(each) - 3)]
    return len(set(runs)) / len(runs)


def _answers(draw: random.Random, number: int) -> list[tuple[str, Fraction | None]]:
    """Return answers, and the square of what they are worth: roots may be right as well."""
    right = Fraction(number, 7) ** 2
    wrong, root = number + draw.randrange(1, 9), draw.randrange(2, 9)
    return [
        ("", None),
        (rf"\frac{{{number}}}{{7}}", right),
        (f"{number}/7", right),
        (rf"\frac{{{2 * number}}}{{14}}", right),
        (rf"\frac{{{wrong}}}{{7}}", Fraction(wrong, 7) ** 2),
        (rf"\sqrt{{{root}}}", Fraction(root)),
        ("x^2+1", None),
    ]


if __name__ == "__main__":
    main()
