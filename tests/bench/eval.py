"""Time and memory of grading and scoring long completions: 30 problems, 32 completions each, 50,000 tokens.

    python tests/bench/eval.py [TOKENS]

A token is a word or a sign of made-up reasoning, 3.5 bytes on average, so that the texts are as long as real ones. Half
of the answers are right, written in several ways; the others need algebra to be told from them, or are missing.
"""

import json
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from polaris_eval.formats import read_completions
from polaris_eval.grade import grade_file_settings, grade_groups, score_graded
from polaris_eval.report_files import write_reports
from polaris_reward import BOXED, Grader

NUM_PROBLEMS, NUM_SAMPLES = 30, 32
WORDS = [*"x y = + - 2 7 ( ) so we get the sum of all terms and then".split(), r"\frac{1}{2}", "\n\n", "therefore"]


def main() -> None:
    """Write a file, grade and score it, and print what that took."""
    num_tokens = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.jsonl"
        write_file(path, num_tokens)
        print(f"{path.stat().st_size / 2**20:.0f} MiB, {NUM_PROBLEMS * NUM_SAMPLES * num_tokens:,} tokens")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        started = time.perf_counter()
        groups = read_completions(path)
        read = time.perf_counter()
        with Grader(num_workers=2, policy=BOXED, max_failed_share=None) as grader:
            records = grade_groups(groups, grader.grade_many)
        graded = time.perf_counter()
        settings = grade_file_settings(path, name="long", policy=BOXED, tokenizer=None)
        evaluation = score_graded("long", records, settings=settings, model="made up", out=Path(folder))
        scored = time.perf_counter()
        write_reports(Path(folder))
        reported = time.perf_counter()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        processor = sum(resource.getrusage(who).ru_utime for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        print(
            f"read {read - started:.1f} s, graded {graded - read:.1f} s, scored and written {scored - graded:.1f} s, "
            f"reports {reported - scored:.1f} s: {reported - started:.1f} s in all; processor time "
            f"{processor - before:.1f} s, {memory:.1f} GiB; outcomes {dict(evaluation.outcomes)}"
        )


def write_file(path: Path, num_tokens: int) -> None:
    """Write a row per problem, as `polaris_eval.formats` reads it."""
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(NUM_PROBLEMS):
            completions = [
                {"text": " ".join(draw.choices(WORDS, k=num_tokens)) + _ending(draw, number), "num_tokens": num_tokens}
                for _ in range(NUM_SAMPLES)
            ]
            row = {"problem_id": str(number), "references": [rf"\frac{{{number}}}{{7}}"], "completions": completions}
            file.write(json.dumps(row) + "\n")


def _ending(draw: random.Random, number: int) -> str:
    right = [rf"\frac{{{number}}}{{7}}", f"{number}/7", rf"\frac{{{2 * number}}}{{14}}"]
    wrong = [rf"\frac{{{number + draw.randrange(1, 9)}}}{{7}}", rf"\sqrt{{{draw.randrange(2, 9)}}}", "x^2+1"]
    return draw.choice(["", *(rf" \boxed{{{answer}}}" for answer in right + wrong)])


if __name__ == "__main__":
    main()
